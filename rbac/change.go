package rbac

import "dsvault/vault/dataset"

// Change is one row that was written, as the index has to know it. Changes are
// idempotent: applying one twice is applying it once. They are applied in the
// order in which they were committed; a grant or an assignment that has ended
// stays ended even if an older row of it comes late.
type Change interface{ apply(*World) }

// PrincipalChange adds a person or a service, or replaces its settings.
type PrincipalChange struct {
	ID       dataset.PrincipalID
	Service  bool // a machine account; the role service counts for no one else
	Disabled bool
	Region   string // empty: none declared
}

// ClientChange adds a client.
type ClientChange struct{ Scope dataset.Scope }

// ProjectChange adds a project or replaces its terms.
type ProjectChange struct {
	Scope     dataset.Scope
	Purposes  []string // empty: none stated, and any will do
	Region    string   // empty: none required
	Sensitive bool
	Agreement string // what every reader but the owner has to have signed; empty: "nda", for contractors only
}

// DatasetChange adds a dataset or replaces its state.
type DatasetChange struct {
	ID    dataset.DatasetID
	Scope dataset.Scope
	State dataset.State
}

// GrantChange adds, changes or ends a grant.
type GrantChange struct{ dataset.Grant }

// AssignmentChange adds, changes or ends an assignment.
type AssignmentChange struct{ dataset.Assignment }

// AgreementChange publishes a version of an agreement.
type AgreementChange struct {
	Name    string
	Version int
}

// SignatureChange adds, changes or withdraws a signature. Of two for the same
// person, agreement and version, the one made later counts.
type SignatureChange struct{ dataset.Signature }
