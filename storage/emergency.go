package storage

import (
	"time"

	"dsvault/vault/dataset"
)

// BreakGlass is an admin's reading in an emergency, without a second person.
type BreakGlass struct {
	ID         dataset.BreakGlassID
	Principal  dataset.PrincipalID
	Scope      dataset.Scope
	Reason     []byte // sealed under the admin's key
	At         time.Time
	Until      time.Time
	Ended      time.Time // before its time; zero: it was not
	ReviewedAt time.Time // zero: nobody has
	ReviewedBy dataset.PrincipalID
	Verdict    string
	Comment    []byte // sealed under the reviewer's key
	Revision   uint64
}

// InForce reports whether it holds at now; Until itself is outside.
func (b BreakGlass) InForce(now time.Time) bool { return b.Ended.IsZero() && now.Before(b.Until) }

// BreakGlassQuery selects them. Zero fields do not restrict.
type BreakGlassQuery struct {
	Under     dataset.Scope
	Principal dataset.PrincipalID
	Open      bool                 // those that nobody has reviewed
	InForce   time.Time            // those that hold then
	Before    dataset.BreakGlassID // continue with those before this one
	Limit     int                  // 0: as many as a page has
}

// Disclosure is a reading that a law requires, by one person, of certain shards.
type Disclosure struct {
	ID         dataset.DisclosureID
	Principal  dataset.PrincipalID
	Dataset    dataset.DatasetID
	Scope      dataset.Scope // of the dataset
	Shards     dataset.ShardSet
	Document   [32]byte  // SHA-256 of the document that requires it
	Terms      []byte    // its reference, sealed under the person's key
	Withheld   time.Time // until when the client is not told why and by whom; zero: it is
	At         time.Time
	Until      time.Time
	Ended      time.Time // before its time; zero: it was not
	ApprovedBy dataset.PrincipalID
	Revision   uint64
}
