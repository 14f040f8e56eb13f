package storage

import (
	"time"

	"dsvault/vault/dataset"
)

// ApprovalState is what has become of a request for a second person's approval.
type ApprovalState string

const (
	ApprovalOpen      ApprovalState = "open"      // nobody has decided yet
	ApprovalGiven     ApprovalState = "approved"  // and not used yet
	ApprovalUsed      ApprovalState = "used"      // what was asked for has happened
	ApprovalRefused   ApprovalState = "refused"   // by the second person
	ApprovalWithdrawn ApprovalState = "withdrawn" // by who asked

	// ApprovalExpired is never stored: a request or an approval that has lapsed.
	ApprovalExpired ApprovalState = "expired"
)

// Approval is what one person asks for and another has to approve. It is good
// once, for exactly this action on this object for this person on these terms.
type Approval struct {
	ID          dataset.ApprovalID
	Requester   dataset.PrincipalID
	Action      string        // a word of rbac's, as Kind is
	Kind        string        // of the object
	Scope       dataset.Scope // where the object is
	Target      dataset.PrincipalID
	TermsHash   [32]byte  // SHA-256 of the terms in the clear
	Terms       []byte    // sealed under the requester's key
	Withheld    time.Time // until when the client is not told of it; zero: it is
	State       ApprovalState
	RequestedAt time.Time
	Expires     time.Time // the request lapses, if nobody has decided by then
	DecidedAt   time.Time
	DecidedBy   dataset.PrincipalID
	Until       time.Time // an approval that was given holds until then
	UsedAt      time.Time
	Revision    uint64
}

// Asked names one question: what a request is found again by.
type Asked struct {
	Requester    dataset.PrincipalID
	Action, Kind string
	Scope        dataset.Scope
	Target       dataset.PrincipalID
	TermsHash    [32]byte
}

// ApprovalQuery selects approvals. Zero fields do not restrict.
type ApprovalQuery struct {
	Under     dataset.Scope // of scopes at this one or below it
	State     ApprovalState // or ApprovalExpired
	Now       time.Time     // what counts as expired; set it with State
	Requester dataset.PrincipalID
	Before    dataset.ApprovalID // continue with those that were asked for before this one
	Limit     int                // 0: as many as a page has
}
