package wire

import (
	"time"

	"dsvault/vault/dataset"
)

// Limits of access reviews.
const (
	MaxReviewItems = 20_000
	MaxReviewDays  = 365  // until the deadline
	MaxDecideItems = 1000 // at a time
)

// NewReview starts an access review. POST /v1/reviews gives AccessReview.
type NewReview struct {
	Scope dataset.Scope `json:"scope"`
	Days  int           `json:"days,omitempty"` // until the deadline; 0: 30
}

// AccessReview is one review of who has access at a scope and below.
// GET /v1/reviews?scope=&after=&limit= gives Page[AccessReview], the newest
// first; GET /v1/reviews/{id} one. POST /v1/reviews/{id}/finish ends one of which
// every item is decided.
//
// GET /v1/reviews/{id}/result gives the signed result of one that has ended, a
// file of format ReviewFormat: AccessReview on the first line, ReviewItem on each
// of the others. What is signed, an audit.Listing, follows as the trailer
// HeaderListing, as that of a listing does.
type AccessReview struct {
	ID       dataset.ReviewID `json:"id"`
	Scope    dataset.Scope    `json:"scope"`
	Here     bool             `json:"here,omitempty"`   // only what was given at this very scope
	Period   string           `json:"period,omitempty"` // of a scheduled one, such as 2026-Q4
	State    string           `json:"state"`            // open, ended
	Started  time.Time        `json:"started"`
	By       string           `json:"by,omitempty"` // who started it; absent: the schedule
	Deadline time.Time        `json:"deadline"`     // then what is undecided ends
	Ended    *time.Time       `json:"ended,omitempty"`

	Items     int              `json:"items"`
	Undecided int              `json:"undecided"`
	Kept      int              `json:"kept"`
	Revoked   int              `json:"revoked"`
	Expired   int              `json:"expired"`
	Findings  map[string]int   `json:"findings"`         // how many items have each
	Digest    dataset.HexBytes `json:"digest,omitempty"` // of the decisions, as in the log's record of the end
}

// ReviewFormat is the format of a review's result.
const ReviewFormat = "review-jsonl"

// ReviewItem is one way by which somebody had access when the review began.
// GET /v1/reviews/{id}/items?after=&limit= gives Page[ReviewItem].
//
// Findings: unused, the access was not used for 90 days or ever; stale, the person
// did nothing at all for 90 days; unsigned, the role asks for an agreement whose
// newest version they have not signed; disabled, the person is.
type ReviewItem struct {
	Number   int              `json:"number"`
	Kind     string           `json:"kind"` // grant, assignment, above
	Access   string           `json:"access"`
	Person   string           `json:"person"`
	Role     dataset.Role     `json:"role,omitempty"`
	Scope    dataset.Scope    `json:"scope"`
	Shards   dataset.ShardSet `json:"shards,omitempty"`
	Since    time.Time        `json:"since"`
	Until    *time.Time       `json:"until,omitempty"`
	By       string           `json:"by,omitempty"`     // who gave it
	Reason   string           `json:"reason,omitempty"` // why
	LastUse  *time.Time       `json:"last_use,omitempty"`
	Findings []string         `json:"findings"`
	Decision string           `json:"decision,omitempty"` // keep, revoke, expired
	Decided  *time.Time       `json:"decided,omitempty"`
	Reviewer string           `json:"reviewer,omitempty"`
}

// DecideItems keeps or revokes the access of some items of an open review.
// POST /v1/reviews/{id}/items gives AccessReview.
type DecideItems struct {
	Items  []int  `json:"items"`
	Decide string `json:"decide"` // keep, revoke
}
