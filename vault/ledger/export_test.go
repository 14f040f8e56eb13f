package ledger

const (
	MaxQueue  = maxQueue
	MaxBatch  = maxBatch
	StartLife = startWithin
)
