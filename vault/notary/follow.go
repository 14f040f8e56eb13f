package notary

import (
	"bytes"
	"context"
	"errors"
	"time"

	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
)

// followEvery is how long a node may take to notice that the catalog was rolled
// back or rewritten.
const followEvery = time.Second

// keepFollowing follows the log until ctx ends, or there is nothing to follow any
// more.
func (n *Notary) keepFollowing(ctx context.Context) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for n.Halted() == nil {
		// Of a key that this node lacks it complains whenever it is elected.
		if err := n.follow(ctx); err != nil && ctx.Err() == nil && n.Halted() == nil && !errors.Is(err, errOldKey) {
			n.log.Warn("the log cannot be followed", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// follow compares the catalog with the newest checkpoint that this node knows to
// have been signed, by whichever node, and remembers the one that is published if
// that is newer. So every node notices a catalog that was rolled back or rewritten
// while it ran, and refuses it at its next start, and not only the one that signed.
// A log that does not grow costs one look at its head.
func (n *Notary) follow(ctx context.Context) error {
	const op = "notary.follow"
	n.own.Lock()
	defer n.own.Unlock()
	before := n.head
	head, stored, err := n.look(ctx)
	if err != nil || head == before && bytes.Equal(stored.Note, n.shown) {
		return err
	}
	var published audit.Checkpoint // none: nothing was signed yet
	if stored.Note != nil {
		if published, err = n.published(stored); err != nil {
			return n.halt(err)
		}
	}
	next := published
	if published.Size < n.signed.Size {
		// What this node has signed could not be shown yet, or the catalog is an older one.
		next = head
	}
	err = n.cfg.Catalog.View(ctx, func(tx *catalog.Tx) error { return extends(ctx, tx, op, n.signed, next) })
	if fault.Is(err, fault.Corrupt) {
		return n.halt(err)
	}
	if err != nil {
		return err
	}
	if published.Size > n.signed.Size {
		if err := writeState(n.cfg.State, stored.Note); err != nil {
			return err
		}
		n.signed, n.note = published, nil
	}
	n.shown = stored.Note
	return nil
}
