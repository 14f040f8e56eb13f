package storage

import (
	"time"

	"dsvault/vault/dataset"
)

// Doomed is the SealedSize of an attempt whose dataset is erased: no bytes are
// taken for it any more.
const Doomed int64 = -3

// ErasureCause says what an erasure rests on.
type ErasureCause string

const (
	EraseRequested ErasureCause = "request"   // somebody's word
	EraseRetention ErasureCause = "retention" // the end of the data's retention
	EraseRestored  ErasureCause = "restored"  // it was erased before, and came back with a restored catalog
)

// Erasure is the erasure of all datasets at a scope and below. The keys are
// destroyed with its row; what follows goes on after any interruption.
type Erasure struct {
	ID        dataset.ErasureID
	Slot      uint64
	Scope     dataset.Scope
	Cause     ErasureCause
	Basis     string // of a retention: its period and what it rests on
	Reason    string
	Finished  bool
	Problem   string // why it does not go on
	StartedAt time.Time
	StartedBy dataset.PrincipalID // zero: the vault itself
	Second    dataset.PrincipalID // who approved it; zero: nobody had to
	Start     uint64              // index of the record of its start
	SettledAt time.Time           // from when on nobody can still be storing bytes
	Epoch     uint32              // the newest that a destroyed key was sealed to
	FinalAt   time.Time           // when the last key is destroyed that opens a backup; zero: not known yet
	EndedAt   time.Time           // zero: not yet
	End       uint64              // index of the record of its end
}

// ErasedDataset is a dataset of an erasure.
type ErasedDataset struct {
	Erasure dataset.ErasureID
	Dataset dataset.DatasetID
	Scope   dataset.Scope
	Stage   EraseStage
	Stored  Stored // what was found, once it was counted
}

// EraseStage says how far the erasure of one dataset is.
type EraseStage int

const (
	ErasePending EraseStage = 0 // its bytes are there
	EraseCounted EraseStage = 1 // and were counted
	EraseGone    EraseStage = 2 // nothing is left of them
)

// What a retention is about.
const (
	KeepData     = "data"     // datasets: erased as a whole
	KeepResults  = "results"  // returned work, from when it came
	KeepLog      = "log"      // the sealed details of records; the records stay
	KeepPersonal = "personal" // people who are not active: anonymised
)

// Retention says how long something is kept at a scope and below.
type Retention struct {
	Scope    dataset.Scope
	What     string
	Period   dataset.Period // zero: it says nothing any more
	Basis    string         // what it rests on, such as a contract
	SetAt    time.Time
	SetBy    dataset.PrincipalID
	Done     uint64 // of KeepLog: leaves before it are done
	Revision uint64
}
