package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"dsvault/storage"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
)

const (
	// nodeLease is how long a node counts as alive after it was last heard of.
	nodeLease = 10 * time.Second
	// lookEvery is how often a node looks for reads that others have left open.
	lookEvery = 5 * time.Second
)

// live shows this node to be alive from now on, and has it close the reads of
// those that are not any more.
func (l *Ledger) live(ctx context.Context) error {
	from := l.own()
	err := l.db.Update(ctx, func(tx *txView) error { // before the first read
		if err := tx.DropDeadNodes(ctx); err != nil {
			return err
		}
		return l.takeLife(ctx, tx)
	})
	if err != nil {
		return err
	}
	l.lives(from)
	living, end := context.WithCancel(context.Background())
	l.alive = end
	l.workers.Go(func() { l.keepAlive(living) })
	l.workers.Go(func() { l.lookAfterOthers(living) })
	return nil
}

func (l *Ledger) lookAfterOthers(ctx context.Context) {
	every(ctx, lookEvery, func() {
		if err := l.closeAbandoned(ctx); err != nil && ctx.Err() == nil {
			l.log.Warn("reads of a node that is gone could not be closed", "err", err)
		}
	})
}

// every calls f again and again, until ctx ends.
func every(ctx context.Context, period time.Duration, f func()) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f()
		}
	}
}

// closeAbandoned closes the reads that were left open by an earlier process, or
// by nodes that are gone. How much they sent is unknown; the record says the
// most that it can have been.
func (l *Ledger) closeAbandoned(ctx context.Context) error {
	var size uint64 // reads from there on began later
	err := l.db.View(ctx, func(tx *txView) error {
		head, err := tx.Head(ctx)
		size = head.Size
		return err
	})
	for err == nil {
		var open []storage.OpenRead
		err = l.db.View(ctx, func(tx *txView) (err error) {
			if l.shared {
				open, err = tx.AbandonedReads(ctx, maxBatch)
			} else {
				open, err = tx.OpenReads(ctx, maxBatch)
			}
			return err
		})
		open = slices.DeleteFunc(open, func(r storage.OpenRead) bool { return r.Index >= size || r.Node == l.node })
		if err != nil || len(open) == 0 {
			return err
		}
		errs := make(chan error, len(open))
		for _, r := range open {
			go func() { errs <- l.closeOne(ctx, r) }()
		}
		for range open {
			err = cmp.Or(err, <-errs)
		}
	}
	return err
}

func (l *Ledger) closeOne(ctx context.Context, r storage.OpenRead) error {
	const op = "ledger.closeOne"
	var data []byte
	err := l.db.View(ctx, func(tx *txView) error {
		return tx.LeafData(ctx, r.Index, r.Index+1, func(_, _ uint64, leaf []byte) error {
			data = leaf
			return nil
		})
	})
	if err != nil {
		return err
	}
	leaf, err := audit.ParseLeaf(data)
	most, bounded := leaf.Uint64(audit.FieldMaxBytes)
	if err == nil && (leaf.Kind != audit.KindRead || !bounded || most > math.MaxInt64) {
		err = errors.New("it is no read")
	}
	if err != nil {
		return fault.Wrap(fault.Corrupt, op, fmt.Sprintf("record %d, of an open read, is damaged", r.Index), err)
	}
	_, err = l.Record(ctx, closing(r.Index, Place{Slot: leaf.Slot, Tag: leaf.Tag}, leaf.Object, int64(most), Crashed, Actor{}, nil))
	if fault.Is(err, fault.Conflict) {
		return nil // another node was faster
	}
	return err
}
