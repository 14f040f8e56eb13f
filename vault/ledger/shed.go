package ledger

import (
	"context"
	"slices"
	"time"
)

const (
	// slowQueue is how long the first of those who wait may have been waiting
	// before the next is turned away at once.
	slowQueue = 5 * time.Second
	// maxWaiting is how long anybody waits for a transaction to begin.
	maxWaiting = 10 * time.Second
	shedEvery  = time.Second
)

// withdraw takes an entry out of the queue; false if it is there no more, and
// its answer comes.
func (l *Ledger) withdraw(e *entry) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.queue, e)
	if i < 0 {
		return false
	}
	l.queue = slices.Delete(l.queue, i, i+1)
	return true
}

// shedForever answers those who have waited too long.
func (l *Ledger) shedForever(ctx context.Context) { every(ctx, shedEvery, l.shed) }

func (l *Ledger) shed() {
	now := l.now()
	var late []*entry
	l.mu.Lock()
	l.queue = slices.DeleteFunc(l.queue, func(e *entry) bool {
		if now.Sub(e.at) <= maxWaiting {
			return false
		}
		late = append(late, e)
		return true
	})
	l.mu.Unlock()
	if len(late) > 0 {
		l.log.Warn("requests have waited too long for the audit log and were turned away", "entries", len(late))
	}
	for _, e := range late {
		e.answer(result{err: unavailable("requests wait too long for the audit log", errQueueSlow)})
	}
}
