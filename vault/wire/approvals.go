package wire

import (
	"time"

	"dsvault/vault/dataset"
)

// Approval is a request for a second person's approval, and what became of it.
// GET /v1/approvals?scope=SCOPE&state=STATE&after=ID&limit=N gives
// Page[Approval], the newest first; GET /v1/approvals/ID one of them.
type Approval struct {
	ID     dataset.ApprovalID `json:"id"`
	State  string             `json:"state"` // open, approved, used, refused, withdrawn or expired
	Action string             `json:"action"`
	Kind   string             `json:"kind"` // of what it is done to
	Scope  dataset.Scope      `json:"scope"`
	Person string             `json:"person,omitempty"` // whom it is about
	Terms  map[string]string  `json:"terms,omitempty"`  // what else exactly is asked for

	By      string     `json:"by"` // who asked
	Asked   time.Time  `json:"asked"`
	Expires *time.Time `json:"expires,omitempty"` // when the request, or an approval that is not used, lapses
	Second  string     `json:"second,omitempty"`  // who decided
	Decided *time.Time `json:"decided,omitempty"`
	Used    *time.Time `json:"used,omitempty"`
}

// States of an approval that GET /v1/approvals selects by; "all" is no state.
var ApprovalStates = [...]string{"open", "approved", "used", "refused", "withdrawn", "expired"}

// Refusal says why. POST /v1/approvals/ID/refuse; POST /v1/approvals/ID/approve
// takes no body. Both give Approval.
type Refusal struct {
	Reason string `json:"reason,omitempty"`
}
