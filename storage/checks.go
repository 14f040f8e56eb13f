package storage

import (
	"time"

	"dsvault/vault/dataset"
)

// CheckState says how far a check is.
type CheckState string

const (
	CheckRunning  CheckState = "running"
	CheckFinished CheckState = "finished"
	CheckCanceled CheckState = "canceled"
	CheckFailed   CheckState = "failed" // it could not go on; Problem says why
)

// Check is one comparison of the catalog with the object store. All that it
// needs to go on after an interruption is in its row.
type Check struct {
	ID        dataset.CheckID
	Slot      uint64
	Scope     dataset.Scope // what is checked: this and below
	Data      bool          // the objects are read whole
	Repair    bool          // what can be repaired is
	Rate      int64         // bytes a second to read at the most; 0: no limit
	Scheduled bool          // started by the server, not by somebody
	State     CheckState
	Problem   string // why it failed, or why it waits
	Node      string // which node runs it, or ran it last
	StartedAt time.Time
	StartedBy dataset.PrincipalID
	MovedAt   time.Time // of the last progress
	EndedAt   time.Time // zero: not yet

	// What there was to do at the start, by the catalog.
	Objects, Bytes int64

	// Where it is: all that comes before this dataset, and before this key in
	// it, is done. A check of the whole vault has no dataset here.
	CursorScope string
	CursorKey   string

	// What it has found up to there.
	Tally

	Ahead int64 // bytes read of the object behind the cursor
}

// Tally counts what a check has done and found.
type Tally struct {
	Checked   int64 // objects that the catalog names and that were looked at
	Read      int64 // bytes of them that were read
	Missing   int64 // named by the catalog, and not in storage
	Changed   int64 // not what the catalog says
	Extra     int64 // in storage, and named by no row
	Leftovers int64 // marked by the catalog as not needed any more
	Repaired  int64 // of the above
	Findings  int64 // rows of findings
}

// FindingKind says what is wrong with one object.
type FindingKind string

const (
	FoundMissing  FindingKind = "missing"
	FoundChanged  FindingKind = "changed"
	FoundExtra    FindingKind = "extra"
	FoundLeftover FindingKind = "leftover"
)

// Finding is one thing that a check has found.
type Finding struct {
	Number   int // counts from 0 within the check
	Kind     FindingKind
	Key      string        // of the object; empty: a row is missing
	Scope    dataset.Scope // of the dataset; zero for an object that no row names
	Shard    int           // -1 for an object that no row names
	Repaired bool
	Detail   string
}

// StoredObject is an object that a committed row names: what storage has to
// hold under Key.
type StoredObject struct {
	Key     string
	Dataset dataset.DatasetID
	Number  int // of the shard
	ETag    string
	Size    int64  // bytes
	SHA256  []byte // 32 bytes; see PartSize
	Index   bool   // it lists the members of the shard

	// Of the row, to see that its parts fit each other, in bytes. PlainSize and
	// ManifestSize are of a shard only.
	PlainSize, HeaderSize, ManifestSize int64

	PartSize int64 // as in Shard
}
