package wire

import (
	"time"

	"dsvault/vault/dataset"
)

// NewErasure erases all datasets at a scope and below. POST /v1/erasures
type NewErasure struct {
	Scope  dataset.Scope `json:"scope"`
	Reason string        `json:"reason,omitempty"`
}

// Erasure is an erasure under way, or one that has ended. GET
// /v1/erasures?scope=SCOPE gives Page[Erasure], the newest first; GET
// /v1/erasures/ID one; GET /v1/erasures/ID/certificate the certificate of one
// that has ended, an audit.Certificate.
type Erasure struct {
	ID       dataset.ErasureID `json:"id"`
	Scope    dataset.Scope     `json:"scope"`
	Cause    string            `json:"cause"` // request, retention, or restored: it came back with a restored catalog
	Basis    string            `json:"basis,omitempty"`
	Reason   string            `json:"reason,omitempty"`
	State    string            `json:"state"` // asked, running or complete
	Problem  string            `json:"problem,omitempty"`
	By       string            `json:"by,omitempty"`          // handle
	Second   string            `json:"approved_by,omitempty"` // handle
	Started  time.Time         `json:"started"`               // the keys were destroyed
	Ended    *time.Time        `json:"ended,omitempty"`       // nothing was left
	Final    *time.Time        `json:"final,omitempty"`       // from then on no backup brings it back
	Datasets int64             `json:"datasets"`
	Gone     int64             `json:"datasets_gone"`

	Objects  int64 `json:"objects"` // found, and removed once it is complete
	Versions int64 `json:"object_versions"`
	Markers  int64 `json:"delete_markers"`
	Uploads  int64 `json:"unfinished_uploads"`
	Bytes    int64 `json:"bytes"`

	Pending *Approval `json:"pending,omitempty"` // nothing was erased: it waits for a second person
}

// NewRetention says how long something is kept at a scope and below, until a
// nearer scope says otherwise. PUT /v1/retentions; an empty period takes back
// what was said.
type NewRetention struct {
	Scope  dataset.Scope `json:"scope"`
	What   string        `json:"what"`            // data, results, log or personal
	Period string        `json:"period"`          // such as 180d, 26w, 6mo or 2y
	Basis  string        `json:"basis,omitempty"` // what it rests on
}

// Retention is one that was set. GET /v1/retentions?scope=SCOPE gives
// Page[Retention], of the scope, above and below it.
type Retention struct {
	Scope  dataset.Scope `json:"scope"`
	What   string        `json:"what"`
	Period string        `json:"period"`
	Basis  string        `json:"basis,omitempty"`
	By     string        `json:"by,omitempty"` // handle
	Set    time.Time     `json:"set"`
}
