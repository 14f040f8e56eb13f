package wire

import (
	"time"

	"dsvault/vault/dataset"
)

// Limits of returned work and of claims.
const (
	MaxWork      = 1 << 30   // bytes of one return, before sealing
	MaxWorkFiles = 10_000    // files in one return
	MaxWorkEach  = 100       // returns of one person on one shard
	MaxClaims    = 20        // that one person has of one dataset at a time
	MinLease     = 60        // seconds of a claim
	MaxLease     = 7 * 86400 // seconds
)

// NewWork begins to return work on a shard. POST /v1/datasets/…/shards/{n}/work
// gives Upload. The sealed bytes go to PUT /v1/datasets/…/work/{attempt}, which
// answers Stored, and POST …/work/{attempt}/commit with Commit gives Work. All
// of it is sealed to the dataset's recipient before it leaves the annotator.
type NewWork struct {
	Size int64 `json:"size"` // plaintext, bytes
}

// Work is what an annotator returned on a shard, once.
// GET /v1/datasets/…/results?shard=N&state=&latest=1&after=&limit= gives
// Page[Work]. GET /v1/datasets/…/results/{id}/sealed gives its bytes as a shard's
// are given: a read, in the log before its first byte.
type Work struct {
	ID        dataset.WorkID   `json:"id"`
	Dataset   dataset.Scope    `json:"dataset"`
	Shard     int              `json:"shard"`
	Author    string           `json:"author"` // handle
	State     string           `json:"state"`  // submitted, accepted, sent-back
	Latest    bool             `json:"latest"` // the newest of its author on the shard
	Submitted time.Time        `json:"submitted"`
	Decided   *time.Time       `json:"decided,omitempty"`
	By        string           `json:"by,omitempty"`     // who decided
	Reason    string           `json:"reason,omitempty"` // why it was sent back; for its author and reviewers
	Size      int64            `json:"size"`             // plaintext, bytes
	Sealed    int64            `json:"sealed"`
	SHA256    dataset.HexBytes `json:"sha256"` // of the sealed bytes
}

// Judgement accepts returned work or sends it back.
// POST /v1/datasets/…/results/{id}/review gives Work.
type Judgement struct {
	Accept bool   `json:"accept"`
	Reason string `json:"reason,omitempty"` // why it is sent back
}

// NewClaim asks for a shard that nobody works on: this one, or the next.
// POST /v1/datasets/…/claims gives Claim.
type NewClaim struct {
	Shard   *int `json:"shard,omitempty"`
	Seconds int  `json:"seconds,omitempty"` // of the lease; 0: four hours
}

// Lease renews a claim, from now. PUT /v1/datasets/…/claims/{n} gives Claim;
// DELETE gives the shard back, and gives Revoked.
type Lease struct {
	Seconds int `json:"seconds,omitempty"`
}

// Claim is a shard that somebody has taken under a lease.
type Claim struct {
	Dataset dataset.Scope `json:"dataset"`
	Shard   int           `json:"shard"`
	Until   time.Time     `json:"until"`
}

// ShardWork is where the work on one shard of a dataset's newest version stands,
// for one person; a shard that nobody has anything to do with is one row.
// GET /v1/work?under=SCOPE&after=&limit= gives Page[ShardWork].
type ShardWork struct {
	Dataset dataset.Scope  `json:"dataset"`
	Shard   int            `json:"shard"`
	State   string         `json:"state"` // free, claimed, assigned, submitted, accepted, sent-back
	Person  string         `json:"person,omitempty"`
	Since   *time.Time     `json:"since,omitempty"`
	By      string         `json:"by,omitempty"`    // who brought it into this state
	Until   *time.Time     `json:"until,omitempty"` // end of the claim or assignment, if the person has one
	Work    dataset.WorkID `json:"work,omitzero"`   // the newest that the person returned
}
