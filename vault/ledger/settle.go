package ledger

import (
	"context"
	"time"

	"dsvault/storage/catalog"
)

// Follow tells the other nodes that nothing is read here any more that the policy
// does not allow as it was when the node looked. Its running reads have been
// renewed with the look, or cut.
func (l *Ledger) Follow(ctx context.Context, k Look) error {
	if !l.shared || k.revision <= l.told.Load() {
		return nil
	}
	if err := l.db.Update(ctx, func(tx *txView) error { return tx.SetFollowed(ctx, l.node, k.revision) }); err != nil {
		return err
	}
	for {
		told := l.told.Load()
		if k.revision <= told || l.told.CompareAndSwap(told, k.revision) {
			return nil
		}
	}
}

// forgetFollowed ends this node's lease, and forgets how far it was. One that cannot is
// forgotten at the next start of any.
func (l *Ledger) forgetFollowed() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := l.db.Update(ctx, func(tx *txView) error {
		if err := tx.DropLease(ctx, catalog.NodeLease(l.node), l.node); err != nil {
			return err
		}
		return tx.DropFollowed(ctx, l.node)
	})
	if err != nil {
		l.log.Warn("this node is forgotten at the next start", "err", err)
	}
}

// Unfollowed reports whether reads may go on at other nodes that rest on what was
// in force before a change of the policy: some are open that were recorded
// before it, at a node that has not told that it follows it.
func (l *Ledger) Unfollowed(ctx context.Context, change Receipt) (behind bool, err error) {
	if !l.shared {
		return false, nil
	}
	err = l.db.View(ctx, func(tx *txView) (err error) {
		behind, err = tx.Unfollowed(ctx, l.node, change.Index, change.Revision)
		return err
	})
	return behind, err
}
