package catalog

import (
	"context"
	"time"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

func testChoices(s *fixture) {
	ann := s.person("ann")
	consent := dataset.Choice{Principal: ann, Kind: dataset.Consent, Purpose: "research", At: day(1)}
	objection := dataset.Choice{Principal: ann, Kind: dataset.Objection, Purpose: "research", At: day(2)}
	put := func(c dataset.Choice, rev uint64) {
		s.Helper()
		s.write(func(ctx context.Context, tx *Tx) error { return tx.PutChoice(ctx, c, rev) })
	}
	put(consent, 2)
	put(objection, 3)
	consent.Ended = day(4)
	put(consent, 4)
	same(s, "one", get(s, func(ctx context.Context, tx *Tx) (dataset.Choice, error) {
		return tx.Choice(ctx, ann, dataset.Consent, "research")
	}), consent)
	failsWith(s, "none", getErr(s, func(ctx context.Context, tx *Tx) (any, error) { return tx.Choice(ctx, ann, dataset.Consent, "other") }), storage.ErrNoRow)
	same(s, "all", get(s, func(ctx context.Context, tx *Tx) ([]dataset.Choice, error) { return tx.Choices(ctx, ann) }), []dataset.Choice{consent, objection})
	rows, revs := caughtUp(s, 3, (*Tx).ChoicesSince)
	same(s, "other nodes hear of", rows, []dataset.Choice{consent})
	same(s, "at", revs, []uint64{4})

	s.write(func(ctx context.Context, tx *Tx) error { return tx.SetRestricted(ctx, ann, day(5), 5) })
	people, _ := caughtUp(s, 4, (*Tx).PrincipalsSince)
	if len(people) != 1 || !people[0].Restricted.Equal(day(5)) {
		s.Errorf("%+v", people)
	}
	failsWith(s, "nobody", s.try(func(ctx context.Context, tx *Tx) error {
		return tx.SetRestricted(ctx, newID[dataset.PrincipalID](), time.Time{}, 6)
	}), storage.ErrNoRow)
}

func testRightsRequests(s *fixture) {
	ann, bob := s.person("ann"), s.person("bob")
	request := func(who dataset.PrincipalID, kind dataset.RequestKind, due time.Time) storage.RightsRequest {
		r := storage.RightsRequest{ID: newID[dataset.RightsID](), Principal: who, Kind: kind, Identity: dataset.ByLogin, Received: day(1), Due: due,
			OpenedAt: day(2), OpenedBy: bob, Words: []byte("sealed")}
		s.write(func(ctx context.Context, tx *Tx) error { return tx.PutRightsRequest(ctx, r) })
		return r
	}
	erasure, access, his := request(ann, dataset.ErasureRequest, day(10)), request(ann, dataset.AccessRequest, day(20)), request(bob, dataset.ErasureRequest, day(10))
	count := func(now time.Time) [2]int {
		return get(s, func(ctx context.Context, tx *Tx) (n [2]int, err error) {
			n[0], n[1], err = tx.CountRightsRequests(ctx, now)
			return n, err
		})
	}
	same(s, "before", count(day(10).Add(-time.Microsecond)), [2]int{3, 0})
	same(s, "at the deadline", count(day(10)), [2]int{3, 2})

	access.Extended, access.HandedAt, access.ClosedAt, access.ClosedBy, access.Outcome, access.Words = day(3), day(4), day(5), bob, dataset.Partly, nil
	s.write(func(ctx context.Context, tx *Tx) error { return tx.PutRightsRequest(ctx, access) })
	same(s, "one", get(s, func(ctx context.Context, tx *Tx) (storage.RightsRequest, error) {
		return tx.RightsRequest(ctx, access.ID)
	}), access)
	failsWith(s, "none", getErr(s, func(ctx context.Context, tx *Tx) (any, error) {
		return tx.RightsRequest(ctx, newID[dataset.RightsID]())
	}), storage.ErrNoRow)
	list := func(q storage.RightsQuery) int {
		return len(get(s, func(ctx context.Context, tx *Tx) ([]storage.RightsRequest, error) { return tx.RightsRequests(ctx, q) }))
	}
	same(s, "lists", []int{list(storage.RightsQuery{}), list(storage.RightsQuery{Principal: ann}), list(storage.RightsQuery{Principal: ann, Open: true}),
		list(storage.RightsQuery{Limit: 2})}, []int{3, 2, 1, 2})
	all := get(s, func(ctx context.Context, tx *Tx) ([]storage.RightsRequest, error) {
		return tx.RightsRequests(ctx, storage.RightsQuery{})
	})
	same(s, "the rest", list(storage.RightsQuery{After: all[0].ID}), 2)

	s.write(func(ctx context.Context, tx *Tx) error { return tx.CloseErasures(ctx, ann, bob, day(6)) })
	erasure.ClosedAt, erasure.ClosedBy, erasure.Outcome = day(6), bob, dataset.Done
	read := func(id dataset.RightsID) storage.RightsRequest {
		return get(s, func(ctx context.Context, tx *Tx) (storage.RightsRequest, error) { return tx.RightsRequest(ctx, id) })
	}
	same(s, "closed", read(erasure.ID), erasure)
	same(s, "somebody else's", read(his.ID), his)

	s.write(func(ctx context.Context, tx *Tx) error {
		_, err := tx.Forget(ctx, storage.Forgotten{Principal: ann, At: day(7)}, "anon-1", 9)
		return err
	})
	erasure.Words = nil
	same(s, "without words", read(erasure.ID), erasure)
	same(s, "kept", get(s, func(ctx context.Context, tx *Tx) (KeptRows, error) { return tx.KeptOf(ctx, ann) }), KeptRows{Requests: 2})
}
