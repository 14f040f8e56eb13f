package ledger

import "dsvault/storage/catalog"

const (
	MaxQueue  = maxQueue
	MaxBatch  = maxBatch
	StartLife = startWithin

	SlowQueue  = slowQueue
	MaxWaiting = maxWaiting

	SureAlive = sureAlive
)

// Owed is how many ends of reads are still to be recorded.
func (l *Ledger) Owed() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.owed)
}

// Node is the node's name, and LeaseName that of the lease that shows it to be alive.
func (l *Ledger) Node() string      { return l.node }
func (l *Ledger) LeaseName() string { return catalog.NodeLease(l.node) }
