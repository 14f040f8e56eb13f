package wire

import (
	"time"

	"dsvault/vault/dataset"
)

// MinCheckRate is the lowest limit of a check, in bytes a second.
const MinCheckRate = 64 << 10

// NewCheck starts a check, or gives the one of the same kind that is running.
// POST /v1/checks
type NewCheck struct {
	Scope  dataset.Scope `json:"scope"`
	Data   bool          `json:"read_data,omitempty"` // read every object whole and compare its SHA-256
	Repair bool          `json:"repair,omitempty"`
	Rate   int64         `json:"rate,omitempty"` // bytes to read a second at the most; 0: no limit
}

// Check is one comparison of catalog and storage. GET /v1/checks, newest first,
// and GET /v1/checks/ID; DELETE cancels it.
type Check struct {
	ID        dataset.CheckID `json:"id"`
	Scope     dataset.Scope   `json:"scope"`
	State     string          `json:"state"` // running, finished, canceled or failed
	Problem   string          `json:"problem,omitempty"`
	Data      bool            `json:"read_data"`
	Repair    bool            `json:"repair"`
	Rate      int64           `json:"rate,omitempty"`
	Scheduled bool            `json:"scheduled,omitempty"`
	By        string          `json:"by,omitempty"` // handle
	Started   time.Time       `json:"started"`
	Ended     *time.Time      `json:"ended,omitempty"`

	Objects int64 `json:"objects"` // to be checked, as of the start
	Bytes   int64 `json:"bytes"`   // of them
	Checked int64 `json:"checked"` // objects
	Read    int64 `json:"read"`    // bytes

	Missing   int64 `json:"missing"`   // the catalog names them, storage has them not
	Changed   int64 `json:"changed"`   // not what the catalog says
	Extra     int64 `json:"extra"`     // in storage, and named by no row
	Leftovers int64 `json:"leftovers"` // not needed any more, by the catalog's own word
	Repaired  int64 `json:"repaired"`
}

// Damaged reports whether something that clients rely on is missing or changed.
func (c Check) Damaged() bool { return c.Missing > 0 || c.Changed > 0 }

// Finding is one thing that a check has found. GET /v1/checks/ID/findings
type Finding struct {
	Number   int    `json:"number"`
	Kind     string `json:"kind"` // missing, changed, extra or leftover
	Shard    string `json:"shard,omitempty"`
	Key      string `json:"key,omitempty"` // of the object
	Repaired bool   `json:"repaired,omitempty"`
	Detail   string `json:"detail,omitempty"`
}
