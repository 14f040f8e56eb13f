package rbac

import (
	"slices"
	"time"

	"dsvault/vault/dataset"
)

// Change is one row that was written, as the index has to know it. Changes are
// idempotent: applying one twice is applying it once. They are applied in the
// order in which they were committed; a grant or an assignment that has ended
// stays ended even if an older row of it comes late.
type Change interface {
	apply(*World)

	// whose is the person on whose decisions alone the row bears; the zero ID is
	// everybody's.
	whose() dataset.PrincipalID
}

// PrincipalChange adds a person or a service, or replaces its settings.
type PrincipalChange struct {
	ID       dataset.PrincipalID
	Service  bool // a machine account; the role service counts for no one else
	Disabled bool
	Region   string // empty: none declared

	Restricted bool // the processing of their own data is
}

// ChoiceChange is what somebody has decided about a purpose.
type ChoiceChange struct{ dataset.Choice }

// ClientChange adds a client.
type ClientChange struct{ Scope dataset.Scope }

// ProjectChange adds a project or replaces its terms.
type ProjectChange struct {
	Scope     dataset.Scope
	Purposes  []string           // empty: none stated, and any will do
	Consent   []string           // of these, those that rest on the reader's consent
	Delivery  []dataset.Delivery // that it allows besides sealed
	Region    string             // empty: none required
	Sensitive bool
	Claims    bool // annotators may claim shards
}

// DatasetChange adds a dataset or replaces its state.
type DatasetChange struct {
	ID    dataset.DatasetID
	Scope dataset.Scope
	State dataset.State
	Since time.Time // from when on its retention counts; zero: it does not
}

// HoldChange places or releases a legal hold.
type HoldChange struct{ dataset.Hold }

// RetentionChange sets how long datasets at a scope and below are kept, unless
// a nearer scope says otherwise; the zero Period says nothing.
type RetentionChange struct {
	Scope  dataset.Scope
	Period dataset.Period
}

// GrantChange adds, changes or ends a grant.
type GrantChange struct{ dataset.Grant }

// AssignmentChange adds, changes or ends an assignment.
type AssignmentChange struct{ dataset.Assignment }

// AgreementChange publishes a version of an agreement.
type AgreementChange struct {
	Name    string
	Version int
	Grace   time.Time // until when signatures of older versions count; zero: not from now on
}

// SignatureChange adds, changes or withdraws a signature. Of two for the same
// person, agreement and version, the one made later counts.
type SignatureChange struct{ dataset.Signature }

func (c PrincipalChange) whose() dataset.PrincipalID  { return c.ID }
func (c ChoiceChange) whose() dataset.PrincipalID     { return c.Principal }
func (c GrantChange) whose() dataset.PrincipalID      { return c.Principal }
func (c AssignmentChange) whose() dataset.PrincipalID { return c.Principal }
func (c SignatureChange) whose() dataset.PrincipalID  { return c.Principal }
func (c ApprovalChange) whose() dataset.PrincipalID   { return c.Requester }
func (c BreakGlassChange) whose() dataset.PrincipalID { return c.Principal }
func (c DisclosureChange) whose() dataset.PrincipalID { return c.Principal }

func (ClientChange) whose() (everybody dataset.PrincipalID)     { return }
func (ProjectChange) whose() (everybody dataset.PrincipalID)    { return }
func (DatasetChange) whose() (everybody dataset.PrincipalID)    { return }
func (ConditionsChange) whose() (everybody dataset.PrincipalID) { return }
func (AgreementChange) whose() (everybody dataset.PrincipalID)  { return }
func (HoldChange) whose() (everybody dataset.PrincipalID)       { return }
func (RetentionChange) whose() (everybody dataset.PrincipalID)  { return }

func (c PrincipalChange) apply(w *World) {
	n := w.person(c.ID)
	p := &w.people[n]
	p.known, p.service, p.disabled, p.region = true, c.Service, c.Disabled, c.Region
	p.restricted = c.Restricted
}

func (c ChoiceChange) apply(w *World) {
	p := &w.people[w.person(c.Principal)]
	list := &p.consents
	if c.Kind == dataset.Objection {
		list = &p.objections
	}
	*list = slices.DeleteFunc(*list, func(purpose string) bool { return purpose == c.Purpose })
	if c.InForce() {
		*list = append(*list, c.Purpose)
	}
}

func (c ClientChange) apply(w *World) {
	n := w.scope(c.Scope)
	w.scopes[n].exists = true
}

func (c ProjectChange) apply(w *World) {
	n := w.scope(c.Scope)
	s := &w.scopes[n]
	s.exists = true
	s.project = &project{
		purposes: slices.Clone(c.Purposes), consent: slices.Clone(c.Consent), delivery: slices.Clone(c.Delivery), region: c.Region, sensitive: c.Sensitive,
		claims: c.Claims,
	}
}

func (c DatasetChange) apply(w *World) {
	n := w.scope(c.Scope)
	s := &w.scopes[n]
	s.exists, s.dataset, s.state, s.since = true, w.dataset(c.ID), stateFact(c.State), c.Since
	s.erased = c.State == dataset.Erased
}

func (c GrantChange) apply(w *World) {
	n := w.person(c.Principal)
	p := &w.people[n]
	at := slices.IndexFunc(p.grants, func(g grant) bool { return g.id == c.ID })
	role := roleNumber(c.Role)
	switch {
	case !c.Revoked.IsZero() || role < 0 || c.Scope.IsZero():
		w.endedGrants[c.ID] = struct{}{}
		if at >= 0 {
			p.grants = slices.Delete(p.grants, at, at+1)
		}
		return
	case ended(w.endedGrants, c.ID):
		return
	case at < 0:
		at = len(p.grants)
		p.grants = append(p.grants, grant{})
	}
	p.grants[at] = grant{
		id: c.ID, until: end(c.Until), made: nanos(c.At), scope: w.scope(c.Scope), depth: uint8(c.Scope.Depth()),
		role: uint8(role), self: c.By == c.Principal, approved: second(c.ApprovedBy, c.By, c.Principal),
	}
}

func (c AssignmentChange) apply(w *World) {
	at := pair{w.person(c.Principal), w.dataset(c.Dataset)}
	if !c.Ended.IsZero() || len(c.Shards) == 0 {
		w.endedAssignments[c.ID] = struct{}{}
		w.assignments.remove(at, c.ID)
		return
	}
	if !ended(w.endedAssignments, c.ID) {
		w.assignments.put(at, c.Assignment)
	}
}

func (c AgreementChange) apply(w *World) {
	list := w.graces[c.Name]
	for len(list) < c.Version {
		list = append(list, 0)
	}
	if c.Version > 0 && !c.Grace.IsZero() {
		list[c.Version-1] = nanos(c.Grace)
	}
	w.graces[c.Name] = list
}

func (c SignatureChange) apply(w *World) {
	n := w.person(c.Principal)
	p := &w.people[n]
	s := signature{agreement: c.Agreement, version: c.Version, made: c.At, until: end(c.Until)}
	if !c.Withdrawn.IsZero() {
		s.until = 0
	}
	for i := range p.signatures {
		old := &p.signatures[i]
		if old.agreement == s.agreement && old.version == s.version {
			if !s.made.Before(old.made) {
				*old = s
			}
			return
		}
	}
	p.signatures = append(p.signatures, s)
}

func ended[ID comparable](ids map[ID]struct{}, id ID) bool { _, ok := ids[id]; return ok }
