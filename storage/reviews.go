package storage

import (
	"time"

	"dsvault/vault/dataset"
)

// ReviewState says how far an access review is.
type ReviewState string

const (
	ReviewOpen  ReviewState = "open"
	ReviewEnded ReviewState = "ended" // every item is decided or has expired
)

// Review is one access review: who had access at a scope and below when it
// began, and what was decided of it.
type Review struct {
	ID        dataset.ReviewID
	Slot      uint64
	Scope     dataset.Scope
	Here      bool   // only what was given at this very scope
	Period    string // of a scheduled one, such as "2026-Q4"; empty: somebody started it
	State     ReviewState
	StartedAt time.Time
	StartedBy dataset.PrincipalID
	Deadline  time.Time // then what is undecided expires
	EndedAt   time.Time // zero: not yet
	EndedBy   dataset.PrincipalID
	Items     int
	Digest    []byte // of the decisions, once it has ended
}

// ItemKind says what gives the access.
type ItemKind string

const (
	ItemGrant      ItemKind = "grant"
	ItemAssignment ItemKind = "assignment"
	// ItemAbove is a grant above the review's scope that reaches it. It is shown,
	// and decided where it was given.
	ItemAbove ItemKind = "above"
)

// ItemDecision is what was decided of an item; empty: nothing yet.
type ItemDecision string

const (
	ItemKeep    ItemDecision = "keep"
	ItemRevoke  ItemDecision = "revoke"
	ItemExpired ItemDecision = "expired" // nobody answered: the access has ended
)

// ReviewItem is one way by which somebody had access.
type ReviewItem struct {
	Review    dataset.ReviewID
	Number    int
	Kind      ItemKind
	Access    [16]byte // ID of the grant or the assignment
	Principal dataset.PrincipalID
	Role      dataset.Role     // of a grant
	Scope     dataset.Scope    // where it was given
	Shards    dataset.ShardSet // of an assignment
	Since     time.Time
	Until     time.Time // zero: no end
	By        dataset.PrincipalID
	LastUse   time.Time // zero: never
	Findings  []string  // what a reviewer should know: see vault
	Decision  ItemDecision
	DecidedAt time.Time
	DecidedBy dataset.PrincipalID // zero: the vault itself
}

// ReviewCount is how a review stands.
type ReviewCount struct{ Undecided, Kept, Revoked, Expired int }
