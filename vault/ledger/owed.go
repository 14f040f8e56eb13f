package ledger

import (
	"context"
	"time"

	"dsvault/vault/fault"
)

const (
	// maxOwed is how many ends of reads a node remembers that it could not record;
	// the reads beyond it are closed as unknown at its next start.
	maxOwed = 8192
	// payEvery is how often it tries to.
	payEvery = time.Second
)

// owe remembers the end of a read that could not be recorded, since the database
// was away. It reports whether there was room.
func (l *Ledger) owe(in Intent) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.owed) >= maxOwed {
		return false
	}
	l.owed = append(l.owed, in)
	return true
}

// payForever records what is owed once the database is back.
func (l *Ledger) payForever(ctx context.Context) { every(ctx, payEvery, func() { l.pay(ctx) }) }

// pay records what is owed, one after the other, until something fails.
func (l *Ledger) pay(ctx context.Context) {
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
		case fault.Is(err, fault.Unavailable):
			return
		default:
			l.log.Error("the end of a read could not be recorded; the next start closes it as unknown", "index", *in.closes, "err", err)
		}
		l.mu.Lock()
		l.owed = l.owed[1:]
		l.mu.Unlock()
	}
}
