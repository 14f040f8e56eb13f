package storage

import (
	"time"

	"dsvault/vault/dataset"
)

// WorkState says what became of returned work.
type WorkState string

const (
	WorkSubmitted WorkState = "submitted" // waits for a reviewer
	WorkAccepted  WorkState = "accepted"
	WorkSentBack  WorkState = "sent-back"
)

// Work is what an annotator returned on one shard, once. Its object lies beside
// those of the shard and is sealed as they are.
type Work struct {
	ID          dataset.WorkID
	Dataset     dataset.DatasetID
	Scope       dataset.Scope // of the dataset
	Number      int           // of the shard
	Author      dataset.PrincipalID
	Latest      bool              // the newest of its author on this shard
	Attempt     dataset.AttemptID // by which it came
	Key         string            // of the object
	ETag        string
	SealedSize  int64    // bytes of the object
	PlainSize   int64    // bytes of the plaintext
	SHA256      [32]byte // of the object; see PartSize
	PartSize    int64    // as in Shard
	Header      []byte   // the object's own age header
	Nonce       [16]byte // of the payload; unique in the whole vault
	Manifest    []byte   // dataset.Manifest as JSON, sealed to the dataset's recipient
	State       WorkState
	SubmittedAt time.Time
	DecidedAt   time.Time // zero: not yet
	DecidedBy   dataset.PrincipalID
	Note        []byte // why it was sent back, sealed under the author's key
}

// Stored is the work as a shard is stored, for what reads and checks objects.
func (w Work) Stored() Shard {
	return Shard{Dataset: w.Dataset, Number: w.Number, Attempt: w.Attempt, Key: w.Key, ETag: w.ETag, SealedSize: w.SealedSize,
		PlainSize: w.PlainSize, SHA256: w.SHA256, PartSize: w.PartSize, Header: w.Header, Nonce: w.Nonce, Manifest: w.Manifest}
}

// ForWork is the Push of an attempt that becomes work, which no push has: so it
// cannot become a shard.
const ForWork = -1

// WorkQuery selects work of one dataset. Zero fields do not restrict, but for
// the numbers.
type WorkQuery struct {
	Dataset     dataset.DatasetID
	First, Last int // numbers of shards, both included
	Author      dataset.PrincipalID
	State       WorkState
	Latest      bool           // only the newest of each author on each shard
	After       dataset.WorkID // continue after this one
	Limit       int            // 0: as many as a page has
}
