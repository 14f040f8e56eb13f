package notary

import (
	"context"
	"errors"

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
func (n *Notary) sign(ctx context.Context) (err error) {
	const op = "notary.sign"
	n.own.Lock()
	defer n.own.Unlock()
	defer func() {
		if err != nil {
			n.build = nil
		}
	}()
	head, stored, err := n.look(ctx)
	if err != nil || head.Size == 0 {
		return err
	}
	if head.Size == stored.Size && head == n.plain() {
		return n.cosignLate(ctx)
	}
	if err := n.makeTiles(ctx, head); err != nil {
		return err
	}
	err = n.cfg.Catalog.View(ctx, func(tx *catalog.Tx) error {
		return extendsBy(tiles{ctx: ctx, tx: tx}, op, n.signed, head)
	})
	if errors.Is(err, errTiles) {
		n.log.Warn("stored tiles of the log are damaged; they are made again")
		n.build = nil
		return n.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.DropTiles(ctx) })
	}
	if fault.Is(err, fault.Corrupt) {
		return n.halt(err)
	}
	if err != nil {
		return err
	}
	return n.publish(ctx, head)
}

// look reads the log's head and the published checkpoint, which is zero if there
// is none, and notices what can be noticed without hashing.
func (n *Notary) look(ctx context.Context) (head audit.Checkpoint, stored storage.Checkpoint, err error) {
	const op = "notary.look"
	var epoch uint64
	var keys int
	err = n.cfg.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		if head, err = headOf(ctx, tx); err != nil {
			return err
		}
		if epoch, err = epochIn(ctx, tx); err != nil {
			return err
		}
		if keys, err = keysIn(ctx, tx); err != nil {
			return err
		}
		stored, err = tx.Checkpoint(ctx)
		if errors.Is(err, storage.ErrNoRow) {
			err = nil
		}
		return err
	})
	switch {
	case err != nil:
	case epoch != n.epoch:
		err = n.halt(fault.New(fault.Corrupt, op, "the log was recovered while this server ran").WithHint("restart it"))
	case max(stored.Size, n.signed.Size) > head.Size:
		err = n.halt(lost(op, "it has %d leaves, but %d were signed", head.Size, max(stored.Size, n.signed.Size)))
	case head.Size < n.head.Size:
		err = n.halt(lost(op, "it has %d leaves, and had %d", head.Size, n.head.Size))
	case n.head.Size > 0 && head.Size == n.head.Size && head.Root != n.head.Root:
		err = n.halt(lost(op, "its %d leaves are not those that it had", head.Size))
	case keys > len(n.cfg.Keys):
		err = errOldKey
	}
	if err == nil {
		n.head = head
	}
	return head, stored, err
}

// plain is the last signed state without its origin, to compare with a head.
func (n *Notary) plain() audit.Checkpoint {
	return audit.Checkpoint{Size: n.signed.Size, Root: n.signed.Root}
}

// halt ends the signing and the serving for good.
func (n *Notary) halt(err error) error {
	if n.halted.CompareAndSwap(nil, &err) {
		n.log.Error("nothing is served any more: the log is not the one that was signed", "err", err, "hint", fault.HintOf(err))
	}
	return err
}

// Halt ends the signing and the serving: somebody else has noticed that the
// catalog's log is not the one that was.
func (n *Notary) Halt(err error) { _ = n.halt(err) }

// makeTiles reads the leaves up to head and stores the tiles that they fill.
// Stored tiles that do not fit the head are made again, once: only leaves that
// do not fit it are a reason to stop.
func (n *Notary) makeTiles(ctx context.Context, head audit.Checkpoint) error {
	const op = "notary.makeTiles"
	if n.build == nil {
		var err error
		if n.build, err = n.resume(ctx); err != nil {
			return err
		}
	}
	if err := n.extend(ctx, head.Size); err != nil {
		return err
	}
	if n.build.size == head.Size && n.build.root() == head.Root {
		return nil
	}
	n.log.Warn("the stored tiles of the log do not fit it; they are made again")
	if err := n.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.DropTiles(ctx) }); err != nil {
		return err
	}
	n.build = &builder{}
	if err := n.extend(ctx, head.Size); err != nil {
		return err
	}
	if n.build.root() != head.Root {
		return n.halt(lost(op, "the first %d leaves do not have the root of the log's head", head.Size))
	}
	return nil
}

// extend reads the leaves up to size.
func (n *Notary) extend(ctx context.Context, size uint64) error {
	const op = "notary.makeTiles"
	b := n.build
	for b.size < size {
		to := min(b.size+readAtOnce, size)
		err := n.cfg.Catalog.View(ctx, func(tx *catalog.Tx) error {
			return tx.LeafData(ctx, b.size, to, func(index, _ uint64, data []byte) error {
				if index == b.size {
					b.add(audit.LeafHash(data))
				}
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
	return nil
}

// resume begins at the last leaf that is in a stored tile.
func (n *Notary) resume(ctx context.Context) (b *builder, err error) {
	err = n.cfg.Catalog.View(ctx, func(tx *catalog.Tx) error {
		b, err = resume(ctx, tx)
		return err
	})
	return b, err
}

// publish signs head, remembers it, has it cosigned, and shows it.
func (n *Notary) publish(ctx context.Context, head audit.Checkpoint) error {
	const op = "notary.publish"
	signers, err := n.signers()
	if err != nil {
		return fault.Wrap(fault.Internal, op, "cannot tell which keys sign", err)
	}
	head.Origin = n.Origin()
	data, err := audit.SignCheckpoint(head.Origin, head.Size, head.Root, signers...)
	if err != nil {
		return fault.Wrap(fault.Internal, op, "cannot sign a checkpoint", err)
	}
	if err := writeState(n.cfg.State, data); err != nil {
		return err
	}
	n.signed, n.note = head, data
	if lines := n.cosignatures(ctx); lines != nil {
		n.note = append(n.note, lines...)
	}
	return n.show(ctx)
}

// cosignLate shows the newest checkpoint again, with the cosignatures of those
// that did not answer in time and do so now.
func (n *Notary) cosignLate(ctx context.Context) error {
	lines := n.cosignatures(ctx)
	if lines == nil {
		return nil
	}
	n.note = append(n.note, lines...)
	return n.show(ctx)
}

// show publishes the newest checkpoint.
func (n *Notary) show(ctx context.Context) error {
	err := n.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) error {
		return tx.SetCheckpoint(ctx, storage.Checkpoint{Size: n.signed.Size, Note: n.note})
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
