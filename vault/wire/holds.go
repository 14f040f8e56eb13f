package wire

import (
	"time"

	"dsvault/vault/dataset"
)

// NewHold places a legal hold. POST /v1/holds
type NewHold struct {
	Scope  dataset.Scope `json:"scope"`
	Reason string        `json:"reason"`
}

// Hold is a legal hold: nothing at its scope and below is deleted. GET
// /v1/holds?scope=SCOPE&ended=true gives Page[Hold], of the scope, above and
// below it; DELETE /v1/holds/ID releases one and gives it.
type Hold struct {
	ID         dataset.HoldID `json:"id"`
	Scope      dataset.Scope  `json:"scope"`
	Reason     string         `json:"reason,omitempty"` // for those who may read the holds of its scope
	By         string         `json:"by,omitempty"`     // handle; likewise
	Placed     time.Time      `json:"placed"`
	Released   *time.Time     `json:"released,omitempty"`
	ReleasedBy string         `json:"released_by,omitempty"`
	// Erased says, of a hold that was just placed, how many datasets below it
	// were erased before it: it comes too late for them.
	Erased int `json:"erased_before,omitempty"`

	Pending *Approval `json:"pending,omitempty"` // of a release: it holds until a second person approves
}
