package wire

import (
	"time"

	"dsvault/vault/dataset"
)

// AuditReport sums up the log of a scope and below over some time.
// GET /v1/audit/report?under=&from=&until=&idle=DAYS
//
// Each list has at most MaxReport rows; what is over is counted in LeftOff by
// the list's name. A person is a handle, or, of somebody who was anonymised,
// the pseudonym that the dataset's records have.
type AuditReport struct {
	Scope    dataset.Scope     `json:"scope"`
	From     time.Time         `json:"from"`
	Until    time.Time         `json:"until"` // not included
	Made     time.Time         `json:"made"`
	Records  uint64            `json:"records"` // of these scopes and this time
	Reads    []ReportReads     `json:"reads"`
	Refusals []ReportRefusals  `json:"refusals"`
	Changes  []ReportChange    `json:"changes"` // grants, revocations, assignments and their ends
	Idle     []ReportIdle      `json:"idle"`
	IdleDays int               `json:"idle_days"`
	Checks   []ReportCheck     `json:"checks"`
	Verified []ReportVerified  `json:"verified"`
	Signed   []ReportAgreement `json:"agreements"`
	Reviews  []AccessReview    `json:"reviews"` // that were open at some time of it, the newest first

	LastCheck    *ReportLast `json:"last_check,omitempty"`    // the newest before Until of all these scopes, that went to its end
	LastVerified *ReportLast `json:"last_verified,omitempty"` // the newest verification of the time

	LeftOff map[string]int `json:"left_off,omitempty"`
}

// ReportLast is what was done last of its kind.
type ReportLast struct {
	Time   time.Time `json:"time"`
	By     string    `json:"by,omitempty"`     // absent: the schedule
	Scope  string    `json:"scope,omitempty"`  // of a check
	Result string    `json:"result,omitempty"` // of a check: "sound" or "damaged"
}

// MaxReport is the most rows of each list of a report.
const MaxReport = 5000

// ReportReads is what one person read of one dataset.
type ReportReads struct {
	Dataset string    `json:"dataset"`
	Person  string    `json:"person"`
	Reads   int       `json:"reads"`
	Bytes   uint64    `json:"bytes"`             // really sent, where that is known
	AtMost  uint64    `json:"at_most,omitempty"` // of reads that a crash ended: may have been sent besides
	Open    int       `json:"open,omitempty"`    // of the reads, not ended within the time
	Last    time.Time `json:"last"`              // when the last one began
}

// ReportRefusals counts refusals of one kind of request for one reason.
type ReportRefusals struct {
	Kind   string `json:"kind"`   // what was asked for
	Reason string `json:"reason"` // the first one
	Count  int    `json:"count"`
	People int    `json:"people"` // who asked
}

// ReportChange is one change of who may do what.
type ReportChange struct {
	Index  uint64    `json:"index"`
	Time   time.Time `json:"time"`
	Kind   string    `json:"kind"` // grant, revoke, assign, unassign
	By     string    `json:"by"`
	Person string    `json:"person"`
	Scope  string    `json:"scope"`
	Role   string    `json:"role,omitempty"`
	Shards string    `json:"shards,omitempty"`
}

// ReportIdle is somebody who holds a role now and did nothing at these scopes
// for the last IdleDays days before Until, or before now.
type ReportIdle struct {
	Person string        `json:"person"`
	Role   dataset.Role  `json:"role"`
	Scope  dataset.Scope `json:"scope"`
	Since  time.Time     `json:"since"` // when the role was granted
	Until  *time.Time    `json:"until,omitempty"`
}

// ReportCheck is the end of one comparison of storage with the catalog.
type ReportCheck struct {
	Index    uint64    `json:"index"`
	Time     time.Time `json:"time"`
	Scope    string    `json:"scope"`
	Extent   string    `json:"extent,omitempty"` // "objects", or "data" if they were read whole
	State    string    `json:"state"`            // how it ended
	Checked  uint64    `json:"checked"`
	Missing  uint64    `json:"missing"`
	Changed  uint64    `json:"changed"`
	Extra    uint64    `json:"extra"`
	Repaired uint64    `json:"repaired"`
}

// ReportVerified says who fetched the proofs of the log, and when for the last
// time.
type ReportVerified struct {
	Person string    `json:"person"`
	Times  int       `json:"times"`
	Last   time.Time `json:"last"`
}

// ReportAgreement says how many of those who have to have signed an agreement
// have a signature in force, now.
type ReportAgreement struct {
	Agreement string   `json:"agreement"`
	Version   int      `json:"version"` // newest; 0: never published
	Asked     int      `json:"asked"`
	Signed    int      `json:"signed"`
	Missing   []string `json:"missing"` // who has not
}
