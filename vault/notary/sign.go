package notary

import (
	"context"
	"errors"

	"golang.org/x/mod/sumdb/note"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
)

// readAtOnce is how many leaves are read in one snapshot: 64 tiles.
const readAtOnce = 64 * tileWidth

// sign brings tiles and checkpoint up to the log's head.
//
// The order is what makes it safe: the leaves are hashed and lead to the head's
// root; the log is shown to begin with what was signed last; the new checkpoint
// is durable in the state file; and only then does anybody see it.
func (n *Notary) sign(ctx context.Context) error {
	const op = "notary.sign"
	var head audit.Checkpoint
	var published uint64
	err := n.cfg.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		if head, err = headOf(ctx, tx); err != nil {
			return err
		}
		cp, err := tx.Checkpoint(ctx)
		if errors.Is(err, storage.ErrNoRow) {
			err = nil
		}
		published = cp.Size
		if err == nil && max(published, n.signed.Size) > head.Size {
			err = n.halt(lost(op, "it has %d leaves, but %d were signed", head.Size, max(published, n.signed.Size)))
		}
		return err
	})
	if err != nil || head.Size == 0 || head.Size == published && head == n.plain() {
		return err
	}
	if err := n.makeTiles(ctx, head); err != nil {
		return err
	}
	err = n.cfg.Catalog.View(ctx, func(tx *catalog.Tx) error { return extends(ctx, tx, op, n.signed, head) })
	if fault.Is(err, fault.Corrupt) {
		return n.halt(err)
	}
	if err != nil {
		return err
	}
	return n.publish(ctx, head)
}

// plain is the last signed state without its origin, to compare with a head.
func (n *Notary) plain() audit.Checkpoint {
	return audit.Checkpoint{Size: n.signed.Size, Root: n.signed.Root}
}

// halt ends the signing for good.
func (n *Notary) halt(err error) error {
	n.halted.CompareAndSwap(nil, &err)
	return err
}

// makeTiles reads the leaves up to head and stores the tiles that they fill.
func (n *Notary) makeTiles(ctx context.Context, head audit.Checkpoint) error {
	const op = "notary.makeTiles"
	if n.build == nil {
		err := n.cfg.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
			n.build, err = resume(ctx, tx)
			return err
		})
		if err != nil {
			return err
		}
	}
	b := n.build
	for b.size < head.Size {
		from, to := b.size, min(b.size+readAtOnce, head.Size)
		err := n.cfg.Catalog.View(ctx, func(tx *catalog.Tx) error {
			return tx.LeafData(ctx, from, to, func(index, _ uint64, data []byte) error {
				if index != b.size {
					return n.halt(lost(op, "leaf %d is missing", b.size))
				}
				b.add(audit.LeafHash(data))
				return nil
			})
		})
		if err != nil {
			return err
		}
		if b.size != to {
			return n.halt(lost(op, "leaf %d is missing", b.size))
		}
		if len(b.full) == 0 {
			continue
		}
		if err := n.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.AddTiles(ctx, b.full) }); err != nil {
			return err
		}
		b.full = nil
	}
	if b.size != head.Size || b.root() != head.Root {
		return n.halt(lost(op, "the first %d leaves do not have the root of the log's head", head.Size))
	}
	return nil
}

// publish signs head, remembers it and shows it.
func (n *Notary) publish(ctx context.Context, head audit.Checkpoint) error {
	const op = "notary.publish"
	signers := make([]note.Signer, len(n.cfg.Keys))
	for i, key := range n.cfg.Keys {
		signers[i] = key.Signer
	}
	head.Origin = n.cfg.Origin
	data, err := audit.SignCheckpoint(head.Origin, head.Size, head.Root, signers...)
	if err != nil {
		return fault.Wrap(fault.Internal, op, "cannot sign a checkpoint", err)
	}
	if err := writeState(n.cfg.State, data); err != nil {
		return err
	}
	n.signed = head
	err = n.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) error {
		return tx.SetCheckpoint(ctx, storage.Checkpoint{Size: head.Size, Note: data})
	})
	if err != nil {
		return err
	}
	n.mu.Lock()
	close(n.news)
	n.news = make(chan struct{})
	n.mu.Unlock()
	return nil
}
