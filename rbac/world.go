package rbac

import "sync"

// World is the index of everything that decisions rest on. It is safe for
// concurrent use. Its revision says how far it has followed the catalog; the
// caller compares it with the catalog's inside the admitting transaction.
type World struct {
	mu       sync.RWMutex
	revision uint64
	policy   *Policy
}

// NewWorld gives an empty world under policy p.
func NewWorld(p *Policy) *World { return &World{policy: p} }

// SetPolicy puts another policy in force, at once for all later decisions.
func (w *World) SetPolicy(p *Policy) {}

// Revision says how far the world has followed the catalog.
func (w *World) Revision() uint64 { return w.revision }

// Apply makes changes, all of them or none as far as any decision can see, and
// sets the revision, which never goes back.
func (w *World) Apply(revision uint64, changes ...Change) {}

// Decide answers q. It never fails: whatever is wrong is a refusal.
func (w *World) Decide(q Query) Decision { return Decision{} }

// Explain answers q as Decide does, and gives reasons for an allowed one too.
func (w *World) Explain(q Query) Decision { return Decision{} }
