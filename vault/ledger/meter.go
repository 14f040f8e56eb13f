package ledger

import (
	"errors"
	"time"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
)

// Meter hears what the ledger does, to count it. Its methods are called by many
// goroutines and must not block. What it hears names nobody.
type Meter interface {
	// Recorded: one more record, of what kind was asked for. why is "" for what
	// was allowed; else the rule that denied, or one of the Why constants.
	Recorded(kind, why string)
	// Failed: somebody got no answer, or a refusal without a record, for one of
	// the Cause… constants or what catalog.Cause gives.
	Failed(cause string)
	// Committed: one transaction with so many entries; how long it took from
	// asking for a connection to the answers.
	Committed(entries int, took time.Duration, ok bool)
}

// Why something was refused, if no rule of the policy denied it.
const (
	WhyNoRole = "no-role" // no role here
	WhyNotMet = "not-met" // no rule allows it, or what one asks for does not hold
)

// Why nothing was admitted, beside the causes of the catalog.
const (
	CauseQueueFull     = "queue-full"
	CauseQueueSlow     = "queue-slow" // the queue does not move
	CauseClosing       = "closing"
	CauseSealing       = "sealing" // the details could not be sealed
	CauseStale         = "stale"   // the policy changed faster than this node could follow
	CauseCommitUnknown = "commit-unknown"
	CauseCanceled      = "canceled" // the caller went away
)

// noMeter counts nothing.
type noMeter struct{}

func (noMeter) Recorded(string, string)            {}
func (noMeter) Failed(string)                      {}
func (noMeter) Committed(int, time.Duration, bool) {}

// recorded counts one record.
func (l *Ledger) recorded(kind audit.Kind, d rbac.Decision) {
	why := ""
	switch {
	case d.Allowed:
	case d.Rule != "":
		why = d.Rule
	case d.Roles == 0:
		why = WhyNoRole
	default:
		why = WhyNotMet
	}
	l.meter.Recorded(kind.String(), why)
}

var (
	errQueueFull = errors.New("the queue is full")
	errQueueSlow = errors.New("the queue does not move")
	errClosing   = errors.New("the ledger is closing")
)

// causeOf names the outage that err is, or "" for an answer: what the operation
// itself found wrong.
func causeOf(err error) string {
	switch {
	case errors.Is(err, errQueueFull):
		return CauseQueueFull
	case errors.Is(err, errQueueSlow):
		return CauseQueueSlow
	case errors.Is(err, errClosing):
		return CauseClosing
	case errors.Is(err, storage.ErrCommitUnknown):
		return CauseCommitUnknown
	case fault.Is(err, fault.Canceled):
		return CauseCanceled
	}
	if cause := catalog.Cause(err); cause != "" {
		return cause
	}
	switch code := fault.CodeOf(err); code {
	case fault.Unavailable, fault.Corrupt, fault.Internal:
		return string(code)
	}
	return ""
}

// Waiting is how many entries wait for a commit.
func (l *Ledger) Waiting() int {
	n, _ := l.waiting()
	return n
}
