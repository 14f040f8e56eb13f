package rbac

import (
	"time"

	"dsvault/vault/dataset"
)

// ApprovalChange adds, changes or ends what one person was allowed by another.
// It is for exactly one question: the same action on the same object for the
// same person on the same terms, asked by the requester.
type ApprovalChange struct {
	ID        dataset.ApprovalID
	Requester dataset.PrincipalID
	Action    Action
	Object    Object // without Owner
	Target    dataset.PrincipalID
	Terms     [32]byte
	By        dataset.PrincipalID // who approved
	Until     time.Time           // zero: never in force
	Used      bool                // it was good for once
	Ended     bool
}

// asked is a question as far as an approval of it goes.
type asked struct {
	actor, target dataset.PrincipalID
	action        Action
	kind          Kind
	scope         dataset.Scope
	shard         int
	terms         [32]byte
}

type approval struct {
	id    dataset.ApprovalID
	until int64
}

// second reports whether somebody is another person than all of the others.
func second(who dataset.PrincipalID, others ...dataset.PrincipalID) bool {
	for _, other := range others {
		if who == other {
			return false
		}
	}
	return !who.IsZero()
}

func (c ApprovalChange) apply(w *World) {
	key := asked{
		actor: c.Requester, target: c.Target, action: c.Action, kind: c.Object.Kind, scope: c.Object.Scope, shard: c.Object.Shard,
		terms: c.Terms,
	}
	end := w.endedApprovals[c.ID]
	if c.Used {
		end = max(end, used)
	}
	if c.Ended {
		end = forGood
	}
	if end != 0 {
		w.endedApprovals[c.ID] = end
	}
	valid := !c.Until.IsZero() && second(c.By, c.Requester, c.Target)
	w.keepApproval(key, c, valid && end == 0)
	if c.Object.Kind == ExportObj && c.Action == Create {
		// What was taken out once may be fetched until the approval ends.
		key.action = Read
		w.keepApproval(key, c, valid && end != forGood)
	}
}

// approvalEnd says how an approval has ended, so that an older row of it that
// comes late revives nothing.
type approvalEnd uint8

const (
	used approvalEnd = 1 + iota
	forGood
)

func (w *World) keepApproval(key asked, c ApprovalChange, holds bool) {
	switch {
	case holds:
		w.approvals[key] = approval{c.ID, end(c.Until)}
	case w.approvals[key].id == c.ID:
		delete(w.approvals, key)
	}
}

// byAccess: of a shard, and of what was made of it, a second person does not
// approve the question, but what lets the actor ask it.
func byAccess(k Kind) bool { return k == Shard || k == Annotation }

// gatherDual finds a second person's approval of exactly this question.
func (w *World) gatherDual(g *grounds, q *Query) {
	if q.agreed {
		g.dual = forever
	}
	if len(w.approvals) == 0 || byAccess(q.Object.Kind) || q.agreed {
		return
	}
	a, ok := w.approvals[asked{
		actor: q.Actor, target: q.Target, action: q.Action, kind: q.Object.Kind, scope: q.Object.Scope, shard: q.Object.Shard, terms: q.Terms,
	}]
	if ok {
		g.dual = a.until
	}
}

// NeedsDual reports whether q is refused for want of a second person's approval
// and of nothing else.
func (w *World) NeedsDual(q Query) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.needsDual(&q)
}

func (w *World) needsDual(q *Query) bool {
	if w.decide(q, false).Allowed {
		return false
	}
	agreed := *q
	agreed.agreed = true
	return w.decide(&agreed, false).Allowed
}

// approved is the end of the fact dual.
func (g *grounds) approved(roles RoleSet) int64 {
	if !byAccess(g.kind) {
		return g.dual
	}
	end := max(g.ownerApproved, g.reviewingApproved, g.disclosed)
	if roles&(admin|labeler|contractor) != 0 {
		end = max(end, g.shardApproved)
	}
	return end
}
