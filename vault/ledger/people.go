package ledger

import (
	"context"
	"sync"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// maxLoad is how many people are loaded at once.
const maxLoad = 64

// Decide answers q on the policy state of this node, without recording anything.
// People whom the node does not hold yet it loads before. An error says that there
// is no answer, which is not a refusal.
func (l *Ledger) Decide(ctx context.Context, q rbac.Query) (rbac.Decision, error) {
	if d, unheld := l.world.Decide(q); len(unheld) == 0 { // as nearly always
		return d, nil
	}
	return knowing(ctx, l, func() (rbac.Decision, []dataset.PrincipalID) { return l.world.Decide(q) })
}

// Explain is Decide that says of what is allowed, too, what it rests on.
func (l *Ledger) Explain(ctx context.Context, q rbac.Query) (rbac.Decision, error) {
	return knowing(ctx, l, func() (rbac.Decision, []dataset.PrincipalID) { return l.world.Explain(q) })
}

// NeedsDual reports whether q is refused for want of a second person's approval
// and of nothing else. An error is as with Decide.
func (l *Ledger) NeedsDual(ctx context.Context, q rbac.Query) (bool, error) {
	return knowing(ctx, l, func() (bool, []dataset.PrincipalID) { return l.world.NeedsDual(q) })
}

// knowing asks, and loads whom it takes to answer.
func knowing[T any](ctx context.Context, l *Ledger, ask func() (T, []dataset.PrincipalID)) (T, error) {
	for range maxDecisions {
		answer, unheld := ask()
		if len(unheld) == 0 {
			return answer, nil
		}
		if err := l.load(ctx, unheld); err != nil {
			l.meter.Failed(causeOf(err))
			if fault.Is(err, fault.Unavailable) {
				err = unavailable("what the caller may do cannot be looked up", err)
			}
			var none T
			return none, err
		}
	}
	var none T
	return none, fault.New(fault.Internal, "ledger.Decide", "people who were loaded are not held")
}

// load has the node hold people. Those whom others want meanwhile come with them.
func (l *Ledger) load(ctx context.Context, people []dataset.PrincipalID) error {
	l.wanted.add(people)
	if err := l.catchUp.take(ctx); err != nil {
		return err
	}
	defer l.catchUp.give()
	if people = l.world.Unheld(l.wanted.take(people)...); len(people) == 0 {
		return nil // they came with others
	}
	return l.follow(ctx, people)
}

// wanted are people whom somebody waits for.
type wanted struct {
	mu  sync.Mutex
	set map[dataset.PrincipalID]struct{} // guarded by mu
}

func (w *wanted) add(people []dataset.PrincipalID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.set == nil {
		w.set = map[dataset.PrincipalID]struct{}{}
	}
	for _, id := range people {
		w.set[id] = struct{}{}
	}
}

// take gives these people, and others who are wanted, up to maxLoad.
func (w *wanted) take(people []dataset.PrincipalID) []dataset.PrincipalID {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range people {
		delete(w.set, id)
	}
	for id := range w.set {
		if len(people) >= maxLoad {
			break
		}
		people = append(people, id)
		delete(w.set, id)
	}
	return people
}

// collectOf collects all that decisions about these people rest on, and that is
// only theirs.
func collectOf(ctx context.Context, tx *txView, people []dataset.PrincipalID, add func(rbac.Change) error) error {
	if len(people) == 0 {
		return nil
	}
	return inTurn(
		func() error {
			return tx.PrincipalsOf(ctx, people, func(p storage.Principal) error { return add(principalChange(p)) })
		},
		func() error {
			return tx.GrantsOf(ctx, people, func(g dataset.Grant) error { return add(rbac.GrantChange{Grant: g}) })
		},
		func() error {
			return tx.AssignmentsOf(ctx, people, func(a dataset.Assignment) error { return add(rbac.AssignmentChange{Assignment: a}) })
		},
		func() error {
			return tx.SignaturesOf(ctx, people, func(s dataset.Signature) error { return add(rbac.SignatureChange{Signature: s}) })
		},
		func() error {
			return tx.ApprovalsOf(ctx, people, func(a storage.Approval) error { return add(approvalChange(a)) })
		},
		func() error {
			return tx.BreakGlassesOf(ctx, people, func(b storage.BreakGlass) error { return add(breakGlassChange(b)) })
		},
		func() error {
			return tx.DisclosuresOf(ctx, people, func(d storage.Disclosure) error { return add(disclosureChange(d)) })
		},
		func() error {
			return tx.ChoicesOf(ctx, people, func(c dataset.Choice) error { return add(rbac.ChoiceChange{Choice: c}) })
		},
	)
}
