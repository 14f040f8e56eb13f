package rbac

import (
	"slices"
	"sync"

	"dsvault/vault/dataset"
)

// World is the index of everything that decisions rest on. It is safe for
// concurrent use. Its revision says how far it has followed the catalog; the
// caller compares it with the catalog's inside the admitting transaction.
type World struct {
	mu       sync.RWMutex // guards everything below, and what it points to
	revision uint64
	policy   *Policy
	memo     *memo // of policy
	partial  bool  // see Partial: it knows only the people in peopleNumbers

	scopeNumbers  map[dataset.Scope]uint32
	scopes        []scope // by number; 0 is unused, rootScope the vault
	peopleNumbers map[dataset.PrincipalID]uint32
	people        []person // by number; 0 is unused
	datasets      map[dataset.DatasetID]uint32
	assignments   assignments
	graces        map[string][]int64 // of each agreement: until when older versions than this one count, by version less 1
	approvals     map[asked]approval
	holds         map[dataset.HoldID]uint32 // in force; the number of the scope

	// Ended for good, so that an older row that comes late revives nothing.
	endedGrants      map[dataset.GrantID]struct{}
	endedAssignments map[dataset.AssignmentID]struct{}
	endedApprovals   map[dataset.ApprovalID]approvalEnd
	endedHolds       map[dataset.HoldID]struct{}
}

const rootScope = 1

// NewWorld gives an empty world under policy p.
func NewWorld(p *Policy) *World {
	return &World{
		policy: p, memo: new(memo),
		scopeNumbers:  map[dataset.Scope]uint32{dataset.Root: rootScope},
		scopes:        []scope{{}, {chain: [4]uint32{rootScope}, exists: true}},
		peopleNumbers: map[dataset.PrincipalID]uint32{}, people: make([]person, 1),
		datasets: map[dataset.DatasetID]uint32{}, assignments: newAssignments(),
		graces: map[string][]int64{}, approvals: map[asked]approval{}, holds: map[dataset.HoldID]uint32{},
		endedGrants:      map[dataset.GrantID]struct{}{},
		endedAssignments: map[dataset.AssignmentID]struct{}{},
		endedApprovals:   map[dataset.ApprovalID]approvalEnd{},
		endedHolds:       map[dataset.HoldID]struct{}{},
	}
}

// SetPolicy puts another policy in force, at once for all later decisions, and
// forgets every verdict of the old one, which it gives.
func (w *World) SetPolicy(p *Policy) (old *Policy) {
	w.mu.Lock()
	defer w.mu.Unlock()
	old, w.policy, w.memo = w.policy, p, new(memo)
	return old
}

// Revision says how far the world has followed the catalog.
func (w *World) Revision() uint64 {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.revision
}

// Apply makes changes, all of them or none as far as any decision can see, and
// sets the revision, which never goes back. Decisions wait meanwhile: load a
// large catalog in batches of some thousand changes.
func (w *World) Apply(revision uint64, changes ...Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.apply(revision, changes)
}

func (w *World) apply(revision uint64, changes []Change) {
	for _, c := range changes {
		if len(w.unheld(c.whose())) == 0 {
			c.apply(w)
		}
	}
	w.revision = max(w.revision, revision)
}

// scope gives the number of s, and a number to s and its parents if they have
// none yet. Numbers are only ever given to what a Change names.
func (w *World) scope(s dataset.Scope) uint32 {
	if n, ok := w.scopeNumbers[s]; ok {
		return n
	}
	if s.IsZero() {
		return 0
	}
	parent := w.scopes[w.scope(s.Parent())]
	n := uint32(len(w.scopes))
	sc := scope{chain: parent.chain, depth: uint8(s.Depth())}
	sc.chain[sc.depth] = n
	w.scopes = append(w.scopes, sc)
	w.scopeNumbers[s] = n
	return n
}

func (w *World) person(id dataset.PrincipalID) uint32 {
	n, ok := w.peopleNumbers[id]
	if !ok {
		n = uint32(len(w.people))
		w.peopleNumbers[id] = n
		w.people = append(w.people, person{})
	}
	return n
}

func (w *World) dataset(id dataset.DatasetID) uint32 {
	n, ok := w.datasets[id]
	if !ok {
		n = uint32(len(w.datasets)) + 1
		w.datasets[id] = n
	}
	return n
}

// place finds a scope for a question. What is not there gets the chain of the
// scopes above it that are.
func (w *World) place(s dataset.Scope) scope {
	if n, ok := w.scopeNumbers[s]; ok {
		return w.scopes[n]
	}
	parent := w.place(s.Parent())
	return scope{chain: parent.chain, depth: uint8(s.Depth())}
}

// projectAt gives the terms that hold at a place, or nil.
func (w *World) projectAt(at *scope) *project {
	if n := at.chain[2]; n != 0 {
		return w.scopes[n].project
	}
	return nil
}

func (p *project) serves(purpose string) bool {
	return len(p.purposes) == 0 || slices.Contains(p.purposes, purpose)
}

func (p *project) delivers(how dataset.Delivery) bool {
	return how == "" || how == dataset.Sealed || slices.Contains(p.delivery, how)
}
