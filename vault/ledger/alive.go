package ledger

import (
	"context"
	"sync"
	"time"

	"dsvault/storage/catalog"
)

// sureAlive is how long a node that has renewed its lease may take it that no
// other node closes its reads: no permit that it renews in this time outlives
// the lease.
const sureAlive = nodeLease - Lease - 500*time.Millisecond

// life is what a node knows of its lease, by which the others tell that it is
// alive. Once that has run out they close its reads, and wait for them no more;
// so no permit from before is good any longer.
type life struct {
	mu    sync.Mutex
	from  time.Time // guarded by mu; before it was last renewed
	count uint64    // guarded by mu; the lives so far
}

// living gives the number of this node's present life; ok is false if it may be
// over.
func (l *Ledger) living() (count uint64, ok bool) {
	l.life.mu.Lock()
	defer l.life.mu.Unlock()
	return l.life.count, within(sureAlive, l.life.from, l.own())
}

// lives notes that the lease was renewed, from a time before that on. It gives
// the number of the life.
func (l *Ledger) lives(from time.Time) (count uint64) {
	l.life.mu.Lock()
	defer l.life.mu.Unlock()
	if !within(sureAlive, l.life.from, l.own()) {
		l.life.count++
	}
	if from.After(l.life.from) || !within(sureAlive, l.life.from, l.own()) {
		l.life.from = from
	}
	return l.life.count
}

// takeLife takes this node's lease in a transaction.
func (l *Ledger) takeLife(ctx context.Context, tx *txView) error {
	_, err := tx.TakeLease(ctx, catalog.NodeLease(l.node), l.node, nodeLease) // nobody else has it
	return err
}

// keepAlive renews the lease until ctx ends, and gives it back.
func (l *Ledger) keepAlive(ctx context.Context) {
	every(ctx, nodeLease/3, func() {
		from := l.own()
		asking, cancel := context.WithTimeout(ctx, nodeLease/3)
		err := l.db.Update(asking, func(tx *txView) error { return l.takeLife(asking, tx) })
		cancel()
		if err == nil {
			l.lives(from)
		} else if ctx.Err() == nil {
			l.log.Warn("the other nodes cannot be told that this one is alive", "err", err)
		}
	})
	l.forgetFollowed()
}

// beAlive makes sure that a batch's reads are those of a node that is alive: if
// the lease may have run out, it is taken again with them.
func (l *Ledger) beAlive(ctx context.Context, tx *txView, b *batch) error {
	if !l.shared {
		return nil
	}
	count, ok := l.living()
	b.life, b.revives = count, !ok
	if ok {
		return nil
	}
	return l.takeLife(ctx, tx)
}

// revived notes it, once the batch has committed.
func (l *Ledger) revived(b *batch) {
	if !b.revives {
		return
	}
	b.life = l.lives(b.locked)
	for _, e := range b.admitted {
		e.life = b.life
	}
}
