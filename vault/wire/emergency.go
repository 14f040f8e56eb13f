package wire

import (
	"time"

	"dsvault/vault/dataset"
)

// Limits of breaking the glass.
const (
	BreakGlassLife    = time.Hour     // where nothing else is said
	MaxBreakGlassLife = 4 * time.Hour // it ends by itself
)

// NewBreakGlass lets an admin read in an emergency. POST /v1/break-glass gives
// BreakGlass.
type NewBreakGlass struct {
	Scope   dataset.Scope `json:"scope"` // a client, a project or a dataset
	Reason  string        `json:"reason"`
	Seconds int           `json:"seconds,omitempty"` // how long; 0: an hour
}

// BreakGlass is one breaking of the glass. GET
// /v1/break-glass?scope=SCOPE&open=true&after=ID&limit=N gives Page[BreakGlass],
// the newest first; GET /v1/break-glass/ID one of them, with Reads; DELETE ends it.
type BreakGlass struct {
	ID       dataset.BreakGlassID `json:"id"`
	Person   string               `json:"person"`
	Scope    dataset.Scope        `json:"scope"`
	Reason   string               `json:"reason,omitempty"`
	At       time.Time            `json:"at"`
	Until    time.Time            `json:"until"` // when it ended, or will
	InForce  bool                 `json:"in_force,omitempty"`
	Reads    *int                 `json:"reads,omitempty"` // of data there by this person in that time
	Reviewed *time.Time           `json:"reviewed,omitempty"`
	Reviewer string               `json:"reviewer,omitempty"`
	Verdict  string               `json:"verdict,omitempty"`
	Comment  string               `json:"comment,omitempty"`
}

// Verdicts of a review.
const (
	Justified   = "justified"
	Unjustified = "unjustified"
)

// BreakGlassReview says what another admin thinks of it. POST
// /v1/break-glass/ID/review gives BreakGlass.
type BreakGlassReview struct {
	Verdict string `json:"verdict"` // justified, unjustified
	Comment string `json:"comment,omitempty"`
}

// NewDisclosure asks for a reading that a law requires, by the caller. POST
// /v1/disclosures gives Disclosure.
type NewDisclosure struct {
	Dataset   dataset.Scope    `json:"dataset"`
	Shards    dataset.ShardSet `json:"shards"`
	Reference string           `json:"reference"` // of the order
	Document  dataset.HexBytes `json:"document"`  // SHA-256 of the order itself
	Until     *time.Time       `json:"until"`
	// WithheldUntil is when the client may be told; absent: at once.
	WithheldUntil *time.Time `json:"withheld_until,omitempty"`
}

// Disclosure is a reading that a law requires, once two people have agreed.
type Disclosure struct {
	ID            dataset.DisclosureID `json:"id,omitzero"`
	Dataset       dataset.Scope        `json:"dataset"`
	Shards        dataset.ShardSet     `json:"shards"`
	Reference     string               `json:"reference"`
	Document      dataset.HexBytes     `json:"document"`
	Until         time.Time            `json:"until"`
	WithheldUntil *time.Time           `json:"withheld_until,omitempty"`
	Pending       *Approval            `json:"pending,omitempty"` // it takes effect when another admin approves
}
