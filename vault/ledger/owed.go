package ledger

import (
	"context"
	"slices"
	"time"

	"dsvault/vault/audit"
	"dsvault/vault/fault"
)

const (
	// maxOwed is how many ends of reads a node remembers that it could not record;
	// the reads beyond it are closed as unknown at its next start.
	maxOwed = 8192
	// payEvery is how often it tries to.
	payEvery = time.Second
	// payAtEnd is how long it tries to when it ends.
	payAtEnd = 10 * time.Second
)

// owe remembers the end of a read that could not be recorded, since the database
// was away. It reports whether there was room.
func (l *Ledger) owe(in Intent) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.owed)+len(l.doubtful) >= maxOwed {
		return false
	}
	l.owed = append(l.owed, in)
	return true
}

// doubt remembers the reads of a batch of which nobody knows whether it was
// committed. Nothing is sent on them; but if they are in the log, they are open.
func (l *Ledger) doubt(b *batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range b.admitted {
		if e.opens && len(l.owed)+len(l.doubtful) < maxOwed {
			l.doubtful = append(l.doubtful, e)
		}
	}
}

// resolve owes the ends of those reads that are in the log after all. Until a
// record is where the read's would be, its commit may still come.
func (l *Ledger) resolve(ctx context.Context) {
	for {
		l.mu.Lock()
		if len(l.doubtful) == 0 {
			l.mu.Unlock()
			return
		}
		e := l.doubtful[0]
		l.mu.Unlock()
		known, written := false, false
		err := l.db.View(ctx, func(tx *txView) error {
			return tx.LeafData(ctx, e.leaf.Index, e.leaf.Index+1, func(_, _ uint64, leaf []byte) error {
				known, written = true, audit.LeafHash(leaf) == e.hash
				return nil
			})
		})
		if err != nil || !known {
			return
		}
		l.mu.Lock()
		l.doubtful = l.doubtful[1:]
		if written {
			l.owed = append(l.owed, closing(e.leaf.Index, e.in.Place, e.in.Object, 0, Failed, e.in.Actor, withheldUntil(&e.in)))
		}
		l.mu.Unlock()
	}
}

// withheldUntil is the field of an intent that says until when it is withheld; nil:
// there is none.
func withheldUntil(in *Intent) *audit.Field {
	i := slices.IndexFunc(in.Fields, func(f audit.Field) bool { return f.ID == audit.FieldWithheldUntil })
	if !in.Withheld || i < 0 {
		return nil
	}
	return &in.Fields[i]
}

// payForever records what is owed once the database is back.
func (l *Ledger) payForever(ctx context.Context) { every(ctx, payEvery, func() { l.pay(ctx) }) }

// pay records what is owed, one after the other, until something fails.
func (l *Ledger) pay(ctx context.Context) {
	l.resolve(ctx)
	for paid := 0; ; paid++ {
		l.mu.Lock()
		if len(l.owed) == 0 {
			l.mu.Unlock()
			if paid > 0 {
				l.log.Info("the ends of reads were recorded that could not be before", "reads", paid)
			}
			return
		}
		in := l.owed[0]
		l.mu.Unlock()
		switch _, err := l.Record(ctx, in); {
		case err == nil, fault.Is(err, fault.Conflict): // it is recorded; the answer got lost, or another node was faster
		case ctx.Err() != nil, fault.Is(err, fault.Unavailable):
			return
		default:
			l.log.Error("the end of a read could not be recorded; the next start closes it as unknown", "index", *in.closes, "err", err)
		}
		l.mu.Lock()
		l.owed = l.owed[1:]
		l.mu.Unlock()
	}
}
