package dataset

import "time"

// Hold is a legal hold: while it is in force, nothing at its scope or below is
// deleted, by anybody. Several may overlap.
type Hold struct {
	ID         HoldID
	Scope      Scope
	Reason     string
	By         PrincipalID // who placed it
	At         time.Time
	Released   time.Time // zero: in force
	ReleasedBy PrincipalID
}
