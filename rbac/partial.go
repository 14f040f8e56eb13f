package rbac

import (
	"time"

	"dsvault/vault/dataset"
)

// Partial is a World that holds only the people whom somebody has asked for, each
// with all of their rows. Scopes with their terms and states, agreements, holds and
// retention it holds whole. So a node need not read everybody's rows before it
// serves, nor keep those of people who do not come.
//
// A question about people who are not held has no answer: those who ask get told
// whom to Hold, and ask again. Nobody can take that for a refusal, or for an
// allowance.
type Partial struct{ w *World }

// NewPartial gives one that holds nobody, under policy p.
func NewPartial(p *Policy) *Partial {
	w := NewWorld(p)
	w.partial = true
	return &Partial{w}
}

// Decide answers q as a World does, if unheld is empty. Else there is no answer,
// and the Decision is the zero one.
func (p *Partial) Decide(q Query) (d Decision, unheld []dataset.PrincipalID) {
	return p.w.ask(&q, false)
}

// Explain answers q as a World does, if unheld is empty.
func (p *Partial) Explain(q Query) (d Decision, unheld []dataset.PrincipalID) {
	return p.w.ask(&q, true)
}

// DecideOwn decides as a World does, if unheld is empty.
func (p *Partial) DecideOwn(actor dataset.PrincipalID) (d Decision, unheld []dataset.PrincipalID) {
	p.w.mu.RLock()
	defer p.w.mu.RUnlock()
	if unheld = p.w.unheld(actor); len(unheld) > 0 {
		return Decision{}, unheld
	}
	return p.w.decideOwn(actor), nil
}

// NeedsDual answers as a World does, if unheld is empty.
func (p *Partial) NeedsDual(q Query) (needs bool, unheld []dataset.PrincipalID) {
	p.w.mu.RLock()
	defer p.w.mu.RUnlock()
	if unheld = p.w.unheld(q.Actor, q.Target); len(unheld) > 0 {
		return false, unheld
	}
	return p.w.needsDual(&q), nil
}

// Unheld lists those of some people whom p does not hold. The zero ID is nobody.
func (p *Partial) Unheld(people ...dataset.PrincipalID) []dataset.PrincipalID {
	p.w.mu.RLock()
	defer p.w.mu.RUnlock()
	return p.w.unheld(people...)
}

// People counts the people whom p holds.
func (p *Partial) People() int {
	p.w.mu.RLock()
	defer p.w.mu.RUnlock()
	return len(p.w.peopleNumbers)
}

// Hold makes changes as Apply does, and holds some people from then on. Among the
// changes have to be all rows of theirs, as they are at this revision; of somebody
// of whom there is none it holds that.
func (p *Partial) Hold(revision uint64, people []dataset.PrincipalID, changes ...Change) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	for _, id := range people {
		p.w.person(id)
	}
	p.w.apply(revision, changes)
}

// Apply makes changes as a World does, but for those to the rows of people who are
// not held.
func (p *Partial) Apply(revision uint64, changes ...Change) { p.w.Apply(revision, changes...) }

// Revision says how far p has followed the catalog.
func (p *Partial) Revision() uint64 { return p.w.Revision() }

// SetPolicy puts another policy in force: see World.
func (p *Partial) SetPolicy(policy *Policy) (old *Policy) { return p.w.SetPolicy(policy) }

// Held reports whether a legal hold is in force at a scope or above it.
func (p *Partial) Held(s dataset.Scope) bool { return p.w.Held(s) }

// AnyHold reports whether any legal hold is in force.
func (p *Partial) AnyHold() bool { return p.w.AnyHold() }

// Erased reports whether the keys of the dataset at a scope are destroyed.
func (p *Partial) Erased(s dataset.Scope) bool { return p.w.Erased(s) }

// Keeping tells what keeps what is at a scope.
func (p *Partial) Keeping(s dataset.Scope) Keeping { return p.w.Keeping(s) }

// ExpiringBy lists what expires: see World.
func (p *Partial) ExpiringBy(t time.Time) []Keeping { return p.w.ExpiringBy(t) }

// unheld lists those of some people whom a partial world does not hold.
func (w *World) unheld(people ...dataset.PrincipalID) (list []dataset.PrincipalID) {
	if !w.partial {
		return nil
	}
	for _, id := range people {
		if _, held := w.peopleNumbers[id]; !held && !id.IsZero() {
			list = append(list, id)
		}
	}
	return list
}

// ask answers q, or says whose rows it takes to answer it: those of the actor, and
// of the target, whose data may be frozen. Nothing else that a decision rests on is
// anybody's.
func (w *World) ask(q *Query, explain bool) (Decision, []dataset.PrincipalID) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if unheld := w.unheld(q.Actor, q.Target); len(unheld) > 0 {
		return Decision{}, unheld
	}
	return w.decide(q, explain), nil
}
