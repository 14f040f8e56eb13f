package notary

import (
	"context"
	"errors"
	"fmt"

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

// check compares the catalog with what this node has signed, before anything is
// served.
func (n *Notary) check(ctx context.Context) error {
	const op = "notary.check"
	state, found, err := n.readState()
	if err != nil {
		return err
	}
	return n.cfg.Catalog.View(ctx, func(tx *catalog.Tx) error {
		head, err := headOf(ctx, tx)
		if err != nil {
			return err
		}
		published, err := tx.Checkpoint(ctx)
		switch {
		case errors.Is(err, storage.ErrNoRow):
			if !found { // a vault from before checkpoints were kept: this one is the first
				n.signed = audit.Checkpoint{Origin: n.cfg.Origin, Root: audit.EmptyRoot()}
				return nil
			}
		case err != nil:
			return err
		case !found:
			return fault.New(fault.Corrupt, op, "there is no "+n.cfg.State+", the record of what the log has signed").
				WithHint("restore it, or copy it from the keys folder of another node; an older one will do. If it is lost, run `dsvault recover`")
		case published.Size > head.Size:
			return lost(op, "it has %d leaves, but a checkpoint of %d", head.Size, published.Size)
		default:
			if _, err := n.open(published.Note); err != nil {
				return fault.Wrap(fault.Corrupt, op, "the checkpoint in the catalog is not signed by this log's key", err).
					WithHint("use the keys folder and the catalog of one vault")
			}
		}
		if err := extends(ctx, tx, op, state, head); err != nil {
			return err
		}
		n.signed = state
		return nil
	})
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
// log of prev.
func extends(ctx context.Context, tx *catalog.Tx, op string, prev, next audit.Checkpoint) error {
	if prev.Size > next.Size {
		return lost(op, "it has %d leaves, but %d were signed", next.Size, prev.Size)
	}
	proof, err := proveConsistency(ctx, tx, prev.Size, next)
	if err != nil {
		return err
	}
	if err := audit.CheckConsistency(prev, next, proof); err != nil {
		return lost(op, "its first %d leaves are not those that were signed", prev.Size)
	}
	return nil
}
