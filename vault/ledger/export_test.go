package ledger

const (
	MaxQueue  = maxQueue
	MaxBatch  = maxBatch
	StartLife = startWithin

	SlowQueue  = slowQueue
	MaxWaiting = maxWaiting
)

// Owed is how many ends of reads are still to be recorded.
func (l *Ledger) Owed() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.owed)
}
