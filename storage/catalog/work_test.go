package catalog

import (
	"context"
	"time"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

func testWork(s *fixture) {
	d := s.dataset(1, "acme/signs/one", 1)
	ann, bob := s.person("ann"), s.person("bob")
	item := func(n int, who dataset.PrincipalID, at int) storage.Work {
		id := newID[dataset.WorkID]()
		return storage.Work{ID: id, Dataset: d.ID, Scope: d.Scope, Number: n, Author: who, Latest: true, Attempt: newID[dataset.AttemptID](),
			Key: "v1/x/" + id.String() + ".age", ETag: "e", SealedSize: 9, PlainSize: 3, SHA256: fresh(), PartSize: 5, Header: []byte("h"),
			Nonce: [16]byte(newID[dataset.WorkID]()), Manifest: []byte("m"), State: storage.WorkSubmitted, SubmittedAt: day(at)}
	}
	first, second, other := item(1, ann, 1), item(1, ann, 2), item(2, bob, 1)
	add := func(w storage.Work) error {
		return s.try(func(ctx context.Context, tx *Tx) error { return tx.AddWork(ctx, w) })
	}
	for _, w := range []storage.Work{first, second, other} {
		same(s, "added", add(w), nil)
	}
	again := item(3, bob, 3)
	again.Nonce = first.Nonce
	failsWith(s, "a nonce that was used", add(again), storage.ErrExists)
	first.Latest = false
	list := func(q storage.WorkQuery) []storage.Work {
		q.Dataset, q.Last = d.ID, 9
		return get(s, func(ctx context.Context, tx *Tx) ([]storage.Work, error) { return tx.ListWork(ctx, q) })
	}
	same(s, "all", list(storage.WorkQuery{}), []storage.Work{first, second, other})
	same(s, "latest, behind one", list(storage.WorkQuery{Latest: true, After: second.ID}), []storage.Work{other})
	same(s, "of one", list(storage.WorkQuery{Author: ann, First: 1, State: storage.WorkSubmitted, Limit: 1}), []storage.Work{first})
	same(s, "by attempt", get(s, func(ctx context.Context, tx *Tx) (storage.Work, error) { return tx.WorkByAttempt(ctx, other.Attempt) }), other)
	same(s, "by key", get(s, func(ctx context.Context, tx *Tx) (storage.Work, error) { return tx.WorkByKey(ctx, second.Key) }), second)
	same(s, "count", get(s, func(ctx context.Context, tx *Tx) (int, error) { return tx.CountWork(ctx, d.ID, 1, ann) }), 2)

	decide := func(w storage.Work) error {
		return s.try(func(ctx context.Context, tx *Tx) error { return tx.DecideWork(ctx, w) })
	}
	second.State, second.DecidedAt, second.DecidedBy, second.Note = storage.WorkSentBack, day(3), bob, []byte("n")
	same(s, "decided", decide(second), nil)
	failsWith(s, "decided twice", decide(second), storage.ErrNoRow)
	failsWith(s, "what was replaced", decide(first), storage.ErrNoRow)
	same(s, "row", get(s, func(ctx context.Context, tx *Tx) (storage.Work, error) { return tx.Work(ctx, second.ID) }), second)
	objects, bytes := int64(0), int64(0)
	s.read(func(ctx context.Context, tx *Tx) (err error) {
		objects, bytes, err = tx.StoredTotals(ctx, scope("acme"))
		return err
	})
	same(s, "totals", []int64{objects, bytes}, []int64{3, 27})
	if stored := get(s, func(ctx context.Context, tx *Tx) ([]storage.StoredObject, error) { return tx.StoredWork(ctx, "", 0) }); len(stored) != 3 ||
		stored[0].PlainSize != 3 || stored[0].HeaderSize != 1 || stored[0].PartSize != 5 {
		s.Errorf("stored: %+v", stored)
	}
	s.write(func(ctx context.Context, tx *Tx) error { return tx.SetETag(ctx, other.Key, "e", "f") })
	failsWith(s, "pinned to another", s.try(func(ctx context.Context, tx *Tx) error { return tx.SetETag(ctx, other.Key, "e", "g") }), storage.ErrNoRow)

	claim := dataset.Assignment{ID: newID[dataset.AssignmentID](), Principal: ann, Dataset: d.ID, Scope: d.Scope,
		Shards: dataset.ShardSet{{First: 4, Last: 4}}, Until: day(5), At: day(4), Claim: true}
	s.write(func(ctx context.Context, tx *Tx) error { return tx.AddAssignment(ctx, claim, 7) })
	held := func(now time.Time) (list []dataset.Assignment) {
		s.read(func(ctx context.Context, tx *Tx) error {
			return tx.AssignmentsInForce(ctx, d.ID, now, func(a dataset.Assignment) error { list = append(list, a); return nil })
		})
		return list
	}
	same(s, "in force", held(day(5).Add(-time.Microsecond)), []dataset.Assignment{claim})
	same(s, "lapsed", held(day(5)), nil)
	renew := func(now time.Time) error {
		return s.try(func(ctx context.Context, tx *Tx) error { return tx.RenewClaim(ctx, claim.ID, now, day(6), 8) })
	}
	failsWith(s, "renewed too late", renew(day(5)), storage.ErrNoRow)
	same(s, "renewed", renew(day(4)), nil)
	s.write(func(ctx context.Context, tx *Tx) error { return tx.EndLapsedClaims(ctx, d.ID, day(6), 9) })
	claim.Until, claim.Ended = day(6), day(6)
	ended, _ := caughtUp(s, 8, (*Tx).AssignmentsSince)
	same(s, "other nodes hear of the end", ended, []dataset.Assignment{claim})
	failsWith(s, "ended twice", s.try(func(ctx context.Context, tx *Tx) error { return tx.EndAssignment(ctx, claim.ID, day(7), 10) }), storage.ErrNoRow)
	old := func(under string, before int, after storage.Work) (ids []dataset.WorkID) {
		s.read(func(ctx context.Context, tx *Tx) error {
			list, err := tx.OldWork(ctx, scope(under), day(before), after, 9)
			for _, w := range list {
				ids = append(ids, w.ID)
			}
			return err
		})
		return ids
	}
	same(s, "old, of how many", len(old("acme", 1, storage.Work{})), 2)
	same(s, "old, after the oldest", old("acme/signs", 2, first)[len(old("acme/signs", 2, first))-1], second.ID)
	same(s, "old elsewhere", len(old("beta", 9, storage.Work{})), 0)
	drop := func() error {
		return s.try(func(ctx context.Context, tx *Tx) error { return tx.DropWork(ctx, second.ID) })
	}
	same(s, "dropped", drop(), nil)
	failsWith(s, "dropped twice", drop(), storage.ErrNoRow)
	same(s, "old, without it", len(old("acme", 2, storage.Work{})), 2)
}

func testReviews(s *fixture) {
	d := s.dataset(1, "acme/signs/one", 1)
	ann, bob := s.person("ann"), s.person("bob")
	grant := dataset.Grant{ID: newID[dataset.GrantID](), Principal: ann, Role: dataset.Labeler, Scope: scope("acme"), Reason: "why", By: bob, At: day(1)}
	s.write(func(ctx context.Context, tx *Tx) error { return tx.AddGrant(ctx, grant, 2) })
	r := storage.Review{ID: newID[dataset.ReviewID](), Slot: d.Slot, Scope: scope("acme"), Period: "2026-Q4", State: storage.ReviewOpen, StartedAt: day(2),
		StartedBy: bob, Deadline: day(9), Items: 3}
	items := []storage.ReviewItem{
		{Review: r.ID, Number: 0, Kind: storage.ItemGrant, Access: grant.ID, Principal: ann, Role: dataset.Labeler, Scope: grant.Scope, Since: day(1),
			By: bob, LastUse: day(2), Findings: []string{"unused", "stale"}},
		{Review: r.ID, Number: 1, Kind: storage.ItemAssignment, Access: newID[dataset.AssignmentID](), Principal: ann, Scope: d.Scope,
			Shards: dataset.ShardSet{{First: 1, Last: 3}}, Since: day(1), Until: day(8), Findings: []string{"stale"}},
		{Review: r.ID, Number: 2, Kind: storage.ItemAbove, Access: newID[dataset.GrantID](), Principal: bob, Role: dataset.Admin, Scope: dataset.Root, Since: day(1)},
	}
	s.write(func(ctx context.Context, tx *Tx) error { return tx.AddReview(ctx, r, items) })
	same(s, "review", get(s, func(ctx context.Context, tx *Tx) (storage.Review, error) { return tx.Review(ctx, r.ID) }), r)
	same(s, "of the period", get(s, func(ctx context.Context, tx *Tx) (storage.Review, error) {
		return tx.ReviewOfPeriod(ctx, r.Scope, "2026-Q4")
	}), r)
	list := func(open bool, after int) []storage.ReviewItem {
		return get(s, func(ctx context.Context, tx *Tx) ([]storage.ReviewItem, error) {
			return tx.ReviewItems(ctx, r.ID, open, after, 0)
		})
	}
	same(s, "items", list(false, -1), items)
	same(s, "undecided", list(true, 0), items[1:2])
	findings := get(s, func(ctx context.Context, tx *Tx) (map[string]int, error) { return tx.CountFindings(ctx, r.ID) })
	same(s, "findings", findings, map[string]int{"unused": 1, "stale": 2})
	decide := func(n int, d storage.ItemDecision) error {
		return s.try(func(ctx context.Context, tx *Tx) error {
			return tx.DecideItem(ctx, storage.ReviewItem{Review: r.ID, Number: n, Decision: d, DecidedAt: day(3), DecidedBy: bob})
		})
	}
	same(s, "kept", decide(0, storage.ItemKeep), nil)
	same(s, "revoked all the same", decide(0, storage.ItemRevoke), nil)
	failsWith(s, "revoked, kept", decide(0, storage.ItemKeep), storage.ErrNoRow)
	failsWith(s, "from above", decide(2, storage.ItemKeep), storage.ErrNoRow)
	same(s, "expired", decide(1, storage.ItemExpired), nil)
	count := get(s, func(ctx context.Context, tx *Tx) (storage.ReviewCount, error) { return tx.CountReview(ctx, r.ID) })
	same(s, "count", count, storage.ReviewCount{Revoked: 1, Expired: 1})
	due := func(now time.Time) []storage.Review {
		return get(s, func(ctx context.Context, tx *Tx) ([]storage.Review, error) { return tx.DueReviews(ctx, now) })
	}
	same(s, "not due", due(day(9).Add(-time.Microsecond)), nil)
	same(s, "due", due(day(9)), []storage.Review{r})
	end := func() error {
		r.EndedAt, r.EndedBy, r.Digest = day(9), ann, []byte("d")
		return s.try(func(ctx context.Context, tx *Tx) error { return tx.EndReview(ctx, r) })
	}
	same(s, "ended", end(), nil)
	failsWith(s, "ended twice", end(), storage.ErrNoRow)
	failsWith(s, "decided after the end", decide(1, storage.ItemKeep), storage.ErrNoRow)
	same(s, "not due any more", due(day(20)), nil)
	s.write(func(ctx context.Context, tx *Tx) error { return tx.EndGrant(ctx, grant.ID, day(4), 3) })
	failsWith(s, "a grant ended twice", s.try(func(ctx context.Context, tx *Tx) error { return tx.EndGrant(ctx, grant.ID, day(5), 4) }), storage.ErrNoRow)
	grant.Revoked = day(4)
	same(s, "grant", get(s, func(ctx context.Context, tx *Tx) (dataset.Grant, error) { return tx.GrantByID(ctx, grant.ID) }), grant)
}

func testLastUse(s *fixture) {
	s.dataset(1, "acme/signs/one", 1)
	s.dataset(2, "acme/signs/two", 1)
	ann, bob := s.person("ann"), s.person("bob")
	n := uint64(0)
	leaf := func(slot uint64, who dataset.PrincipalID, kind uint16, decision uint8, at int) storage.Leaf {
		n++
		return storage.Leaf{Index: n - 1, Slot: slot, Kind: kind, Decision: decision, Time: day(at).UnixMicro(), Data: []byte{1}, Principal: who, Details: []byte{2}}
	}
	batch := func(list ...storage.Leaf) {
		s.write(func(ctx context.Context, tx *Tx) error { return tx.AppendLeaves(ctx, list) })
	}
	batch(leaf(1, ann, 10, 1, 1), leaf(2, bob, 10, 1, 1))
	batch(leaf(1, ann, 10, 1, 2), leaf(1, ann, 32, 1, 3), leaf(1, ann, 60, 2, 4), leaf(1, bob, 10, 1, 5))
	for range 2 * fewBatches { // ann is in these, but not at one
		batch(leaf(2, ann, 10, 1, 6), leaf(1, bob, 10, 1, 6))
	}
	last := func(who dataset.PrincipalID, under string, except ...uint16) time.Time {
		return get(s, func(ctx context.Context, tx *Tx) (time.Time, error) {
			return tx.LastUse(ctx, who, scope(under), except...)
		})
	}
	same(s, "of the scope", last(ann, "acme/signs/one"), day(3))
	same(s, "but for a kind", last(ann, "acme/signs/one", 32), day(2))
	same(s, "of all", last(ann, "/"), day(6))
	same(s, "of nobody", last(newID[dataset.PrincipalID](), "/"), time.Time{})
}
