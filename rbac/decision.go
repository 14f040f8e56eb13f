package rbac

import (
	"net/netip"
	"slices"
	"time"

	"dsvault/vault/dataset"
)

// Object is what an action is done to.
type Object struct {
	Kind  Kind
	Scope dataset.Scope       // where it is
	Shard int                 // its number, for shards and annotations; -1: none
	Owner dataset.PrincipalID // whose assignment, annotation, approval or own record it is; zero: nobody's
}

// Query is one question. To create an org, a project or a dataset is decided
// where it will be: at the new scope's parent.
type Query struct {
	Actor    dataset.PrincipalID
	Action   Action
	Object   Object
	Target   dataset.PrincipalID // of grants, assignments and approvals: to whom
	Purpose  string              // what the actor says that the data is for
	Delivery dataset.Delivery    // how the data is to leave; empty: sealed
	Terms    [32]byte            // names whatever else the action is about; an approval is for exactly one
	Asked    Action              // of an approval: the action that it is about
	Address  netip.Addr          // where the actor is; zero: not known
	Now      time.Time

	agreed bool // NeedsDual asks what would be if another person had approved
}

// Decision is the answer. The zero Decision is a refusal.
type Decision struct {
	Allowed bool
	Rule    string   // the rule that allowed or denied; "" when none matched
	Reasons []string // of a refusal: every deny that stood in the way and every near miss, in table order
	Facts   Facts
	Roles   RoleSet // in force in the object's scope

	Revision uint64   // of the facts
	Policy   [32]byte // of the rules: the policy's hash

	// Visible: the actor may know that the object exists, because they may
	// read its record, or hold a role here and a shard of it. Where it is
	// false, answer as if there were no such thing.
	Visible bool

	// Crossing says, of an allowed read of a shard, on which basis it crosses regions.
	Crossing Crossing

	// Unsigned lists, of a refusal, the agreements that a signature of would help.
	Unsigned []Unsigned

	// Erased: the keys of the dataset that it is about are destroyed. It is
	// expired, too.
	Erased bool

	// Until is when an allowed decision ends by itself, as grants,
	// assignments and signatures run out; zero: it does not.
	Until time.Time
}

// Decide answers q. It never fails: whatever is wrong is a refusal.
func (w *World) Decide(q Query) Decision {
	d, _ := w.ask(&q, false)
	return d
}

// Explain answers q as Decide does, and says of an allowed one too what it
// rests on.
func (w *World) Explain(q Query) Decision {
	d, _ := w.ask(&q, true)
	return d
}

func (w *World) decide(q *Query, explain bool) Decision {
	d := Decision{Revision: w.revision, Policy: w.policy.hash}
	kind, action, now := q.Object.Kind.number(), q.Action.number(), nanos(q.Now)
	actor := w.peopleNumbers[q.Actor]
	switch p := &w.people[actor]; {
	case kind < 0 || action < 0:
		return d.refuse("no such kind of object or action")
	case q.Object.Scope.IsZero() || now == 0:
		return d.refuse("no scope or no time in the question")
	case q.Actor.IsZero() || !p.known:
		return d.refuse("unknown principal")
	case p.disabled:
		return d.refuse("principal is disabled")
	}
	where := q.Object.Scope
	if q.Action == Create && where.Depth() > 0 && recordKind(where.Depth()) == q.Object.Kind {
		where = where.Parent()
	}
	at := w.place(where)
	var g grounds
	w.gather(&g, actor, q, &at)
	d.Roles, d.Facts = g.at(now)
	d.Erased = at.erased
	if !at.exists {
		d.Visible = w.readsRecord(&g, &at, now)
		return d.refuse("no such " + string(recordKind(int(at.depth))))
	}
	v, err := w.judge(kind, action, d.Roles, d.Facts)
	if err != nil {
		return d.refuse("the policy could not be evaluated")
	}
	if v.rule >= 0 {
		d.Rule = w.policy.rules[v.rule].ID
	}
	d.Allowed = v.allowed
	if d.Allowed {
		d.Visible = true
		d.Until = w.lapse(&g, kind, action, now)
		if q.Object.Kind == Shard && q.Action == Read {
			d.Crossing = w.crossing(&w.people[actor], &at)
		}
		if explain {
			d.Reasons = []string{d.Rule + " allows: " + w.policy.rules[v.rule].Condition}
		}
		return d
	}
	d.Reasons = w.policy.reasons(kind, action, d.Roles, d.Facts)
	d.Visible = w.sees(&g, q, &at, kind, now)
	if !d.Facts.Has(NDA) && at.depth >= 2 {
		d.Unsigned = w.unsigned(&w.people[actor], &at, now)
	}
	return d
}

func (d Decision) refuse(reason string) Decision {
	d.Reasons = []string{reason}
	return d
}

// judge asks the memo, then Casbin. An error is never remembered.
func (w *World) judge(kind, action int, roles RoleSet, facts Facts) (verdict, error) {
	asked := question(kind, action, roles, facts)
	if v, ok := w.memo.get(asked); ok {
		return v, nil
	}
	v, err := w.policy.engine.decide(Kinds[kind], Actions[action], roles, facts)
	if err != nil {
		return verdict{rule: -1}, err
	}
	w.memo.put(asked, v)
	return v, nil
}

// lapse finds when an allowed decision ends by itself: at the first end of
// anything after which the table no longer allows it.
func (w *World) lapse(g *grounds, kind, action int, now int64) time.Time {
	for t := g.next(now); t < forever; t = g.next(t) {
		roles, facts := g.at(t)
		if v, err := w.judge(kind, action, roles, facts); err != nil || !v.allowed {
			return time.Unix(0, t).UTC()
		}
	}
	return time.Time{}
}

// sees reports whether a refused actor may know that the object exists.
func (w *World) sees(g *grounds, q *Query, at *scope, kind int, now int64) bool {
	if q.Object.Kind == Person && q.Action != Create || q.Object.Kind.aboutPeople() {
		return w.reads(g, kind, now)
	}
	// The vault itself, its log, keys and policy are no secret.
	return at.depth == 0 || w.reads(g, kind, now) || w.readsRecord(g, at, now)
}

// readsRecord reports whether the actor may read the record that stands, or
// would stand, at a place; a shard's reader sees its dataset.
func (w *World) readsRecord(g *grounds, at *scope, now int64) bool {
	if at.depth == 0 {
		return true
	}
	kind := recordKind(int(at.depth))
	record := *g
	record.kind = kind
	if kind == Dataset && g.dataset > now {
		if roles, _ := g.at(now); roles != 0 {
			return true
		}
	}
	return w.reads(&record, kind.number(), now)
}

// reads reports whether the table lets the actor read a thing of this kind.
func (w *World) reads(g *grounds, kind int, now int64) bool {
	roles, facts := g.at(now)
	v, err := w.judge(kind, Read.number(), roles, facts)
	return err == nil && v.allowed
}

// reasons lists what stood in the way: every deny that matched, of facts only if
// a role held here has an allow at all, then every allow that it nearly met, in
// table order.
func (p *Policy) reasons(kind, action int, roles RoleSet, facts Facts) []string {
	var reasons, near []string
	offered := slices.ContainsFunc(p.index[kind][action], func(i int) bool { return !p.rules[i].Deny && p.rules[i].heldBy(roles) })
	// That somebody else's data is restricted is for those who could do this otherwise.
	could := slices.ContainsFunc(p.index[kind][action], func(i int) bool {
		r := &p.rules[i]
		return !r.Deny && r.heldBy(roles) && (r.Role != anyRole || r.met(facts))
	})
	for _, i := range p.index[kind][action] {
		r := &p.rules[i]
		switch {
		case !r.heldBy(roles):
		case !r.Deny:
			if !r.met(facts) {
				near = append(near, r.ID+" needs "+r.missing(facts))
			}
		case r.need.Has(Frozen) && !could:
		case r.met(facts) && r.Condition == always:
			reasons = append(reasons, r.ID+" denies: never for "+r.Role)
		case r.met(facts) && (offered || roles == 0): // else it stops nobody, and tells of what is not theirs
			reasons = append(reasons, r.ID+" denies: "+r.denial())
		}
	}
	reasons = append(reasons, near...)
	switch {
	case roles == 0:
		reasons = append(reasons, "no role here")
	case !offered:
		reasons = append(reasons, "no rule lets "+roles.String()+" "+string(Actions[action])+" "+string(Kinds[kind]))
	}
	return reasons
}

// DecideOwn decides on the few things that people do for themselves and no rule
// is about: to register a device key, to sign, to renew a token. It refuses
// whoever is disabled.
func (w *World) DecideOwn(actor dataset.PrincipalID) Decision {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.decideOwn(actor)
}

func (w *World) decideOwn(actor dataset.PrincipalID) Decision {
	d := Decision{Revision: w.revision, Policy: w.policy.hash, Visible: true}
	if n, ok := w.peopleNumbers[actor]; ok && w.people[n].disabled {
		d.Reasons = []string{"principal is disabled"}
		return d
	}
	d.Allowed, d.Rule = true, "own"
	return d
}
