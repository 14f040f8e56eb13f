package rbac

import (
	"slices"
	"time"

	"dsvault/vault/dataset"
)

func (c HoldChange) apply(w *World) {
	at, in := w.holds[c.ID]
	switch {
	case !c.Released.IsZero():
		w.endedHolds[c.ID] = struct{}{}
		if in {
			w.countHold(at, -1)
			delete(w.holds, c.ID)
		}
	case !in && !ended(w.endedHolds, c.ID):
		n := w.scope(c.Scope)
		w.holds[c.ID] = n
		w.countHold(n, +1)
	}
}

func (w *World) countHold(n uint32, by int32) {
	s := &w.scopes[n]
	s.held += by
	for _, above := range s.chain[:s.depth] {
		w.scopes[above].heldBelow += by
	}
}

func (c RetentionChange) apply(w *World) {
	n := w.scope(c.Scope)
	w.scopes[n].keep = c.Period
}

// held reports whether a hold is in force at a place or above it. For what would
// delete, one further down counts as well.
func (w *World) held(at *scope, action Action) bool {
	for _, n := range at.chain[:at.depth+1] {
		if n != 0 && w.scopes[n].held > 0 {
			return true
		}
	}
	here := at.chain[at.depth]
	deletes := action == Delete || action == Expire || action == Destroy
	return deletes && here != 0 && w.scopes[here].heldBelow > 0
}

// stateAt gives the facts on the state of a place. A hold takes the place of any
// state but that of an erased dataset, of which there is nothing left to hold.
func (w *World) stateAt(at *scope, action Action) Facts {
	if !at.erased && w.held(at, action) {
		return Held
	}
	return at.state
}

// Held reports whether a hold is in force at a scope or above it.
func (w *World) Held(s dataset.Scope) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	at := w.place(s)
	return w.held(&at, Read)
}

// Erased reports whether the keys of the dataset at a scope are destroyed.
func (w *World) Erased(s dataset.Scope) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	n, ok := w.scopeNumbers[s]
	return ok && w.scopes[n].erased
}

// AnyHold reports whether any hold is in force.
func (w *World) AnyHold() bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return len(w.holds) > 0
}

// expiry is the end of the retention of the dataset at a place, by the nearest
// scope that has one; 0 if none has.
func (w *World) expiry(at *scope) int64 {
	if at.since.IsZero() {
		return 0
	}
	for depth := int(at.depth); depth >= 0; depth-- {
		if n := at.chain[depth]; n != 0 && !w.scopes[n].keep.IsZero() {
			return nanos(w.scopes[n].keep.After(at.since))
		}
	}
	return 0
}

// Keeping is what keeps a dataset, or lets it go.
type Keeping struct {
	Scope   dataset.Scope
	Held    bool
	Expires time.Time // the end of its retention; zero: none
}

// Keeping tells what keeps what is at a scope.
func (w *World) Keeping(s dataset.Scope) Keeping {
	w.mu.RLock()
	defer w.mu.RUnlock()
	at := w.place(s)
	return w.keeping(s, &at)
}

func (w *World) keeping(s dataset.Scope, at *scope) Keeping {
	k := Keeping{Scope: s}
	if at.erased {
		return k
	}
	k.Held = w.held(at, Read)
	if t := w.expiry(at); t != 0 {
		k.Expires = time.Unix(0, t).UTC()
	}
	return k
}

// ExpiringBy lists the datasets that are not erased and whose retention ends by t,
// those under a hold as well.
func (w *World) ExpiringBy(t time.Time) []Keeping {
	w.mu.RLock()
	defer w.mu.RUnlock()
	var list []Keeping
	for s, n := range w.scopeNumbers {
		if at := &w.scopes[n]; at.dataset != 0 && !at.erased {
			if end := w.expiry(at); end != 0 && end <= nanos(t) {
				list = append(list, w.keeping(s, at))
			}
		}
	}
	slices.SortFunc(list, func(a, b Keeping) int { return a.Expires.Compare(b.Expires) })
	return list
}
