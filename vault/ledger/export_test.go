package ledger

const (
	MaxQueue  = maxQueue
	MaxBatch  = maxBatch
	StartLife = startWithin
)

// Waiting is how many entries are queued.
func (l *Ledger) Waiting() int {
	n, _ := l.waiting()
	return n
}
