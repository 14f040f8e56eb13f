package rbac

import (
	"slices"

	"dsvault/vault/dataset"
)

const roleCount = len(dataset.Roles)

// grounds is all that a decision rests on, gathered once: what does not
// change with time, and the ends of what does. Then the roles and facts of any
// moment follow without looking anything up again.
type grounds struct {
	fixed Facts // without those below

	// Ends, 0 where there is nothing: the latest of those that would do.
	roles     [roleCount]int64 // in force in the object's scope
	given     [roleCount]int64 // the same, given by somebody else
	near      [roleCount]int64 // in force in a scope that overlaps the object's
	owner     [2]int64         // client grants at depth 1 or more; [1]: by somebody else
	reviewing [2]int64
	shard     [2]int64 // assignments of the object's shard
	dataset   int64    // assignments of any shard of the object's dataset
	signed    int64
	dual      int64 // approval of this very question
	expires   int64 // the end of the dataset's retention; 0: none, or a hold keeps it
	bounded   int64 // contractor grants that are not overlong
	open      int64 // the hours in which contractors may read

	longest   int64 // of a contractor's grant
	emergency int64
	disclosed int64 // of the object's shard

	// Those of the above that a second person approved.
	ownerApproved, reviewingApproved, shardApproved int64

	kind Kind
}

// both notes an end, and notes it as somebody else's too unless self.
func both(ends *[2]int64, until int64, self bool) {
	ends[0] = max(ends[0], until)
	if !self {
		ends[1] = max(ends[1], until)
	}
}

func approvedToo(end *int64, until int64, approved bool) {
	if approved {
		*end = max(*end, until)
	}
}

// gather fills g for actor number n asking q at a place.
func (w *World) gather(g *grounds, n uint32, q *Query, at *scope) {
	p := &w.people[n]
	g.kind = q.Object.Kind
	g.fixed = w.stateAt(at, q.Action)
	if q.Object.Owner == q.Actor {
		g.fixed |= Own
		if q.Object.Kind == Annotation {
			g.fixed |= Author
		}
	}
	if q.Target == q.Actor || q.Object.Kind == Approval && q.Action == Approve && q.Object.Owner == q.Actor {
		g.fixed |= Self
	}
	if q.Action == Approve && (q.Asked == Grant || q.Asked == Assign || q.Asked == Disclose) {
		g.fixed |= Access
	}
	w.gatherChoices(g, p, q)
	if terms := w.projectAt(at); terms != nil {
		w.gatherTerms(g, p, q, at, terms)
	}
	w.gatherDual(g, q)
	w.gatherConditions(g, p, q, at)
	w.gatherEmergencies(g, p, at)
	w.gatherDisclosures(g, p, q, at)
	if g.fixed&(Active|Restricted) != 0 {
		g.expires = w.expiry(at)
	}
	w.gatherGrants(g, p, q, at)
	if at.dataset != 0 {
		w.gatherAssignments(g, pair{n, at.dataset}, q.Object.Shard)
	}
}

// gatherChoices notes what the actor and the target have decided about the
// processing of their own data.
func (w *World) gatherChoices(g *grounds, p *person, q *Query) {
	if p.restricted {
		g.fixed |= Paused
	}
	if n, ok := w.peopleNumbers[q.Target]; ok && w.people[n].restricted {
		g.fixed |= Frozen
	}
	if q.Purpose != "" && slices.Contains(p.objections, q.Purpose) {
		g.fixed |= Objected
	}
}

func (w *World) gatherTerms(g *grounds, p *person, q *Query, at *scope, terms *project) {
	switch {
	case terms.region == "" || terms.region == p.region:
		g.fixed |= Region
	case w.transfer(at, p.region) != nil:
		g.fixed |= Abroad | Transferable | Region
	default:
		g.fixed |= Abroad
	}
	if terms.serves(q.Purpose) {
		g.fixed |= Purpose
	}
	if terms.delivers(q.Delivery) {
		g.fixed |= Delivery
	}
	if slices.Contains(terms.consent, q.Purpose) && !slices.Contains(p.consents, q.Purpose) {
		g.fixed |= Unconsented
	}
	if terms.sensitive {
		g.fixed |= Sensitive
	}
	if terms.claims {
		g.fixed |= Claimable
	}
}

func (w *World) gatherGrants(g *grounds, p *person, q *Query, at *scope) {
	// An agreement belongs to the whole vault, and whoever works anywhere in
	// it may have to read it.
	everywhere := q.Object.Kind == AgreementObj && q.Action == Read
	for i := range p.grants {
		r := &p.grants[i]
		role := dataset.Roles[r.role]
		if role == dataset.Service && !p.service {
			continue
		}
		contains := at.chain[r.depth] == r.scope
		if contains || r.depth > at.depth && w.below(r.scope, at) {
			g.near[r.role] = max(g.near[r.role], r.until)
		}
		if !contains && !everywhere {
			continue
		}
		g.roles[r.role] = max(g.roles[r.role], r.until)
		if !r.self {
			g.given[r.role] = max(g.given[r.role], r.until)
		}
		if contains && role == dataset.Contractor && r.until < forever {
			g.bounded = max(g.bounded, min(r.until, later(r.made, g.longest)))
		}
		if contains && r.depth >= 1 {
			switch role {
			case dataset.ClientUser:
				both(&g.owner, r.until, r.self)
				approvedToo(&g.ownerApproved, r.until, r.approved)
			case dataset.Reviewer:
				both(&g.reviewing, r.until, r.self)
				approvedToo(&g.reviewingApproved, r.until, r.approved)
			}
		}
	}
}

// later adds a span to a time without passing the end of time.
func later(t, span int64) int64 {
	if span >= forever-t {
		return forever
	}
	return t + span
}

// below reports whether scope number n lies below a place.
func (w *World) below(n uint32, at *scope) bool {
	here := at.chain[at.depth]
	return here != 0 && w.scopes[n].chain[at.depth] == here
}

func (w *World) gatherAssignments(g *grounds, key pair, shard int) {
	for n := w.assignments.heads[key]; n != 0; {
		r := w.assignments.record(n)
		g.dataset = max(g.dataset, r.until)
		if w.assignments.has(n, r, shard) {
			both(&g.shard, r.until, r.self)
			approvedToo(&g.shardApproved, r.until, r.approved)
		}
		n = r.next
	}
}

// at gives the roles and facts that hold at time t.
func (g *grounds) at(t int64) (RoleSet, Facts) {
	var roles, near RoleSet
	for i := range roleCount {
		if g.roles[i] > t {
			roles |= 1 << i
		}
		if g.near[i] > t {
			near |= 1 << i
		}
	}
	facts := g.fixed
	if g.expires != 0 && g.expires <= t {
		facts = facts&^(stateFacts|Live) | Expired
	}
	if g.owner[0] > t {
		facts |= Owner
	}
	if g.reviewing[0] > t {
		facts |= Reviewing
	}
	if g.assigned() > t {
		facts |= Assigned
		if roles&admin != 0 {
			facts |= DataGrant
		}
	}
	if g.signed > t {
		facts |= NDA
	}
	if g.emergency > t && roles&admin != 0 {
		facts |= Emergency
	}
	if g.disclosed > t { // a law does not ask what the project's purposes are
		facts |= Disclosed | Purpose
	}
	if g.approved(roles) > t {
		facts |= Dual
	}
	if roles&contractor != 0 && g.bounded <= t {
		facts |= Overlong
	}
	if g.open <= t {
		facts |= OffHours
	}
	if near&auditor != 0 && near != auditor || near&(contractor|labeler) == contractor|labeler {
		facts |= Conflict
	}
	if g.kind == Shard && g.selfGranted(t, roles) {
		facts |= SelfGranted
	}
	return roles, facts
}

// assigned is the end of the fact: of exactly this shard, or, for a dataset,
// of any.
func (g *grounds) assigned() int64 {
	if g.kind == Dataset {
		return g.dataset
	}
	return g.shard[0]
}

// selfGranted reports whether there are ways for the actor to read the shard
// and every one of them was given by the actor. A way is a client or reviewer
// grant at depth 1 or more; or an assignment together with the role that uses
// it. Somebody else gave a way if they gave all of it: the grant, or the
// assignment and the grant. An admin's grant alone opens no data (and the
// first admin has theirs from nobody), so for an admin the assignment decides.
func (g *grounds) selfGranted(t int64, roles RoleSet) bool {
	const users = admin | labeler | contractor
	ways := g.owner[0] > t || g.reviewing[0] > t || g.shard[0] > t && roles&users != 0
	if g.disclosed > t || g.emergency > t && roles&admin != 0 { // these are ways of their own
		return false
	}
	given := g.owner[1] > t || g.reviewing[1] > t || g.shard[1] > t &&
		(roles&admin != 0 || g.given[labelerNumber] > t || g.given[contractorNumber] > t)
	return ways && !given
}

var (
	labelerNumber    = roleNumber(dataset.Labeler)
	contractorNumber = roleNumber(dataset.Contractor)
)

// next gives the first end after t, or forever.
func (g *grounds) next(t int64) int64 {
	first := int64(forever)
	see := func(end int64) {
		if end > t && end < first {
			first = end
		}
	}
	for i := range roleCount {
		see(g.roles[i])
		see(g.given[i])
		see(g.near[i])
	}
	for i := range 2 {
		see(g.owner[i])
		see(g.reviewing[i])
		see(g.shard[i])
	}
	for _, end := range [...]int64{g.dataset, g.signed, g.dual, g.emergency, g.disclosed, g.bounded, g.open, g.ownerApproved, g.reviewingApproved, g.shardApproved} {
		see(end)
	}
	see(g.expires)
	return first
}
