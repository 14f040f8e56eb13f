package rbac

import (
	"slices"
	"time"

	"dsvault/vault/dataset"
)

// BreakGlassChange adds, changes or ends an admin's breaking of the glass.
type BreakGlassChange struct {
	ID        dataset.BreakGlassID
	Principal dataset.PrincipalID
	Scope     dataset.Scope
	Until     time.Time // zero: never in force
	Ended     bool
}

// DisclosureChange adds, changes or ends a disclosure that a law requires: of
// certain shards, by one person, once another person has agreed.
type DisclosureChange struct {
	ID        dataset.DisclosureID
	Principal dataset.PrincipalID
	Dataset   dataset.DatasetID
	Shards    dataset.ShardSet
	By        dataset.PrincipalID // who agreed
	Until     time.Time           // zero: never in force
	Ended     bool
}

// over is the end of what was ended for good: it stays so, even if an older row
// of it comes late.
const over = -1

type emergency struct {
	id    dataset.BreakGlassID
	until int64
	scope uint32
	depth uint8
}

type disclosure struct {
	id      dataset.DisclosureID
	until   int64
	dataset uint32
	shards  dataset.ShardSet
}

func (c BreakGlassChange) apply(w *World) {
	n := w.person(c.Principal)
	e := emergency{id: c.ID, until: end(c.Until), scope: w.scope(c.Scope), depth: uint8(c.Scope.Depth())}
	switch {
	case c.Ended:
		e.until = over
	case c.Until.IsZero() || c.Scope.Depth() == 0:
		e.until = 0
	}
	p := &w.people[n]
	switch i := slices.IndexFunc(p.emergencies, func(old emergency) bool { return old.id == e.id }); {
	case i < 0:
		p.emergencies = append(p.emergencies, e)
	case p.emergencies[i].until != over:
		p.emergencies[i] = e
	}
}

func (c DisclosureChange) apply(w *World) {
	n := w.person(c.Principal)
	d := disclosure{id: c.ID, until: end(c.Until), dataset: w.dataset(c.Dataset), shards: slices.Clone(c.Shards)}
	switch {
	case c.Ended:
		d.until = over
	case c.Until.IsZero() || !second(c.By, c.Principal):
		d.until = 0
	}
	p := &w.people[n]
	switch i := slices.IndexFunc(p.disclosures, func(old disclosure) bool { return old.id == d.id }); {
	case i < 0:
		p.disclosures = append(p.disclosures, d)
	case p.disclosures[i].until != over:
		p.disclosures[i] = d
	}
}

// gatherEmergencies finds how long the actor may read in an emergency.
func (w *World) gatherEmergencies(g *grounds, p *person, at *scope) {
	for i := range p.emergencies {
		if e := &p.emergencies[i]; at.chain[e.depth] == e.scope {
			g.emergency = max(g.emergency, e.until)
		}
	}
}

// gatherDisclosures finds how long the actor may read because a law requires it.
func (w *World) gatherDisclosures(g *grounds, p *person, q *Query, at *scope) {
	if q.Purpose != dataset.Legal {
		return
	}
	g.fixed |= Legal
	for i := range p.disclosures {
		if d := &p.disclosures[i]; at.dataset != 0 && d.dataset == at.dataset && d.shards.Has(q.Object.Shard) {
			g.disclosed = max(g.disclosed, d.until)
		}
	}
}
