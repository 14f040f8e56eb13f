package ledger

import (
	"context"

	"dsvault/storage/catalog"
)

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

// Pay records what is owed.
func (l *Ledger) Pay(ctx context.Context) { l.pay(ctx) }

// Doubtful is of how many reads it is not known whether they are in the log.
func (l *Ledger) Doubtful() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.doubtful)
}

// Node is the node's name, and LeaseName that of the lease that shows it to be alive.
func (l *Ledger) Node() string      { return l.node }
func (l *Ledger) LeaseName() string { return catalog.NodeLease(l.node) }
