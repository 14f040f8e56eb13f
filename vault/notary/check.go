package notary

import (
	"context"
	"errors"
	"fmt"
	"os"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
)

// lost is what somebody meets whose catalog is not the one that was signed.
func lost(op, format string, args ...any) error {
	return fault.New(fault.Corrupt, op, "the catalog was rolled back or rewritten: "+fmt.Sprintf(format, args...)).
		WithHint("nothing is served. Restore the newest catalog; if it is lost, `dsvault recover` goes on with this one, on record")
}

// check compares the catalog with what this node has signed and with what is
// anchored, before anything is served.
func (n *Notary) check(ctx context.Context) error {
	state, found, err := n.readState()
	if err != nil {
		return err
	}
	err = n.cfg.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		if n.epoch, err = epochIn(ctx, tx); err != nil {
			return err
		}
		if keys, err := keysIn(ctx, tx); err != nil || keys > len(n.cfg.Keys) {
			return errors.Join(err, errOldKey)
		}
		return n.checkState(ctx, tx, state, found)
	})
	if err != nil || n.cfg.Anchor == nil {
		return err
	}
	// Outside the snapshot: the anchor is asked over the network.
	return n.checkAnchor(ctx)
}

// newest gives the newest checkpoint that this node knows to have been signed,
// from its state file or from the catalog; nil if there is none.
func (n *Notary) newest(ctx context.Context) (cp audit.Checkpoint, data []byte, err error) {
	if data, err = os.ReadFile(n.cfg.State); err == nil {
		cp, err = n.open(data)
	}
	if err != nil || cp.Origin != n.Origin() || cp.Size == 0 {
		cp, data = audit.Checkpoint{}, nil
	}
	err = n.cfg.Catalog.View(ctx, func(tx *catalog.Tx) error {
		published, signed, err := n.publishedIn(ctx, tx)
		if err != nil || !signed || published.Size <= cp.Size {
			return err
		}
		stored, err := tx.Checkpoint(ctx)
		cp, data = published, stored.Note
		return err
	})
	return cp, data, err
}

// checkState compares the catalog with the state file, and with the checkpoint
// that it holds itself.
func (n *Notary) checkState(ctx context.Context, tx *catalog.Tx, state audit.Checkpoint, found bool) error {
	const op = "notary.check"
	head, err := headOf(ctx, tx)
	if err != nil {
		return err
	}
	published, signed, err := n.publishedIn(ctx, tx)
	if err != nil {
		return err
	}
	if signed { // every node has reasons to believe it: it bears the log's signature
		if err := extends(ctx, tx, op, published, head); err != nil {
			return err
		}
	}
	_, epoch := audit.SplitOrigin(state.Origin)
	switch {
	case !found && signed, !found && n.epoch > 1:
		return fault.New(fault.Corrupt, op, "there is no "+n.cfg.State+", the record of what the log has signed").
			WithHint("restore it, or copy it from the keys folder of another node; an older one will do. If it is lost, run `dsvault recover`")
	case !found: // a vault from before checkpoints were kept: this one is the first
		n.signed = audit.Checkpoint{Origin: n.Origin(), Root: audit.EmptyRoot()}
		return nil
	case epoch > n.epoch:
		return lost(op, "it is of epoch %d of the log, but epoch %d was signed", n.epoch, epoch)
	case epoch < n.epoch && !signed:
		return lost(op, "it says that the log was recovered, but the log's key has signed nothing of epoch %d", n.epoch)
	case epoch < n.epoch: // another node recovered the log and signed it
		n.signed = published
		return nil
	}
	n.signed = state
	return extends(ctx, tx, op, state, head)
}

// publishedIn reads the catalog's own checkpoint; signed is false if there is
// none. It has to be of the log's epoch and key.
func (n *Notary) publishedIn(ctx context.Context, tx *catalog.Tx) (cp audit.Checkpoint, signed bool, err error) {
	stored, err := tx.Checkpoint(ctx)
	if errors.Is(err, storage.ErrNoRow) {
		return cp, false, nil
	}
	if err == nil {
		cp, err = n.published(stored)
	}
	return cp, err == nil, err
}

// published opens the checkpoint that the catalog holds.
func (n *Notary) published(stored storage.Checkpoint) (audit.Checkpoint, error) {
	cp, err := n.open(stored.Note)
	if err == nil && (cp.Origin != n.Origin() || cp.Size != stored.Size) {
		err = errors.New("it is of another epoch or size")
	}
	if err != nil {
		return audit.Checkpoint{}, fault.Wrap(fault.Corrupt, "notary.check", "the checkpoint in the catalog is not one that this log's key has signed", err).
			WithHint("use the keys folder and the catalog of one vault; if they are, run `dsvault recover`")
	}
	return cp, nil
}

// Head gives the size and root that the catalog's head says the log has. It has
// no origin.
func Head(ctx context.Context, db *catalog.DB) (head audit.Checkpoint, err error) {
	err = db.View(ctx, func(tx *catalog.Tx) (err error) {
		head, err = headOf(ctx, tx)
		return err
	})
	return head, err
}

// headOf gives the log as the catalog's head says it is.
func headOf(ctx context.Context, tx *catalog.Tx) (audit.Checkpoint, error) {
	head, err := tx.Head(ctx)
	if err != nil {
		return audit.Checkpoint{}, err
	}
	tree, err := audit.NewTree(head.Size, head.Frontier)
	if err != nil {
		return audit.Checkpoint{}, fault.Wrap(fault.Corrupt, "notary.head", "the log's head is damaged", err).
			WithHint("restore the catalog from a backup")
	}
	return audit.Checkpoint{Size: head.Size, Root: tree.Root()}, nil
}

// extends checks that the log of next, which the catalog holds, begins with the
// log of prev. Stored tiles that are damaged are no reason to refuse it: then
// the leaves themselves tell, only slowly.
func extends(ctx context.Context, tx *catalog.Tx, op string, prev, next audit.Checkpoint) error {
	err := extendsBy(tiles{ctx: ctx, tx: tx}, op, prev, next)
	if errors.Is(err, errTiles) {
		err = extendsBy(tiles{ctx: ctx, tx: tx, leaves: true}, op, prev, next)
	}
	return err
}

func extendsBy(t tiles, op string, prev, next audit.Checkpoint) error {
	if prev.Size > next.Size {
		return lost(op, "it has %d leaves, but %d were signed", next.Size, prev.Size)
	}
	proof, err := t.consistency(prev.Size, next)
	if err != nil {
		return err
	}
	if err := audit.CheckConsistency(prev, next, proof); err != nil {
		return lost(op, "its first %d leaves are not those that were signed", prev.Size)
	}
	return nil
}
