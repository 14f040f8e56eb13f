package catalog

import (
	"context"
	"time"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

func testApprovals(s *fixture) {
	ann, bob := s.person("ann"), s.person("bob")
	add := func(at int, state storage.ApprovalState, terms byte) storage.Approval {
		a := storage.Approval{ID: newID[dataset.ApprovalID](), Requester: ann, Action: "grant", Kind: "grant", Scope: scope("acme/signs"),
			Target: bob, TermsHash: [32]byte{terms}, Terms: []byte("sealed"), Withheld: day(9), State: state, RequestedAt: day(at), Expires: day(at + 7)}
		s.write(func(ctx context.Context, tx *Tx) error { return tx.AddApproval(ctx, a) })
		return a
	}
	a, b := add(1, storage.ApprovalOpen, 1), add(2, storage.ApprovalOpen, 2)
	same(s, "one", get(s, func(ctx context.Context, tx *Tx) (storage.Approval, error) { return tx.Approval(ctx, a.ID) }), a)
	failsWith(s, "unknown", getErr(s, func(ctx context.Context, tx *Tx) (any, error) { return tx.Approval(ctx, newID[dataset.ApprovalID]()) }), storage.ErrNoRow)
	stranger := a
	stranger.ID, stranger.Requester = newID[dataset.ApprovalID](), newID[dataset.PrincipalID]()
	failsWith(s, "of nobody", s.try(func(ctx context.Context, tx *Tx) error { return tx.AddApproval(ctx, stranger) }), storage.ErrNoRow)

	asked := storage.Asked{Requester: ann, Action: "grant", Kind: "grant", Scope: scope("acme/signs"), Target: bob, TermsHash: [32]byte{1}}
	find := func(q storage.Asked, at time.Time) (a storage.Approval, err error) {
		err = s.db.View(s.Context(), func(tx *Tx) (err error) {
			a, err = tx.AskedApproval(s.Context(), q, at)
			return err
		})
		return a, err
	}
	found, err := find(asked, day(7))
	failsWith(s, "asked", err, nil)
	same(s, "asked", found, a)
	_, err = find(asked, day(8))
	failsWith(s, "lapsed", err, storage.ErrNoRow)
	for what, other := range map[string]func(*storage.Asked){
		"requester": func(q *storage.Asked) { q.Requester = bob }, "action": func(q *storage.Asked) { q.Action = "assign" },
		"kind": func(q *storage.Asked) { q.Kind = "key" }, "scope": func(q *storage.Asked) { q.Scope = scope("acme") },
		"target": func(q *storage.Asked) { q.Target = ann }, "terms": func(q *storage.Asked) { q.TermsHash[0] = 9 },
	} {
		q := asked
		other(&q)
		_, err := find(q, day(2))
		failsWith(s, "another "+what, err, storage.ErrNoRow)
	}

	use := func(ctx context.Context, tx *Tx) error { return tx.UseApproval(ctx, a.ID, day(4), 12) }
	failsWith(s, "used before it was given", s.try(use), storage.ErrNoRow)
	a.State, a.DecidedAt, a.DecidedBy, a.Until, a.Revision = storage.ApprovalGiven, day(3), bob, day(6), 11
	decide := func(ctx context.Context, tx *Tx) error { return tx.DecideApproval(ctx, a) }
	s.write(decide)
	failsWith(s, "decided twice", s.try(decide), storage.ErrNoRow)
	found, _ = find(asked, day(5))
	same(s, "given", found, a)
	_, err = find(asked, day(6))
	failsWith(s, "not used in time", err, storage.ErrNoRow)
	ids := func(q storage.ApprovalQuery) (ids []dataset.ApprovalID) {
		for _, a := range get(s, func(ctx context.Context, tx *Tx) ([]storage.Approval, error) { return tx.Approvals(ctx, q) }) {
			ids = append(ids, a.ID)
		}
		return ids
	}
	same(s, "open", ids(storage.ApprovalQuery{State: storage.ApprovalOpen, Now: day(5)}), []dataset.ApprovalID{b.ID})
	same(s, "approved", ids(storage.ApprovalQuery{State: storage.ApprovalGiven, Now: day(5)}), []dataset.ApprovalID{a.ID})
	same(s, "expired", ids(storage.ApprovalQuery{State: storage.ApprovalExpired, Now: day(9)}), []dataset.ApprovalID{b.ID, a.ID})
	same(s, "a page", ids(storage.ApprovalQuery{Under: scope("acme"), Requester: ann, Limit: 1}), []dataset.ApprovalID{b.ID})
	same(s, "the next", ids(storage.ApprovalQuery{Before: b.ID}), []dataset.ApprovalID{a.ID})
	same(s, "elsewhere", len(ids(storage.ApprovalQuery{Under: scope("beta")})), 0)

	rows, revs := caughtUp(s, 0, (*Tx).ApprovalsSince)
	same(s, "since 0", rows, []storage.Approval{a})
	same(s, "revisions", revs, []uint64{11})
	s.write(use)
	failsWith(s, "used twice", s.try(use), storage.ErrNoRow)
	a.State, a.UsedAt, a.Revision = storage.ApprovalUsed, day(4), 12
	rows, _ = caughtUp(s, 11, (*Tx).ApprovalsSince)
	same(s, "since 11", rows, []storage.Approval{a})
	_, err = find(asked, day(5))
	failsWith(s, "used up", err, storage.ErrNoRow)

	f := storage.Forgotten{Principal: ann, At: day(5)}
	s.write(func(ctx context.Context, tx *Tx) error {
		_, err := tx.Forget(ctx, f, "anon-x", 13)
		return err
	})
	b.State, b.DecidedAt, b.DecidedBy, b.Terms = storage.ApprovalWithdrawn, day(5), ann, nil
	same(s, "forgotten", get(s, func(ctx context.Context, tx *Tx) (storage.Approval, error) { return tx.Approval(ctx, b.ID) }), b)
}
