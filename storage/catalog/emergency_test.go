package catalog

import (
	"context"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

func testBreakGlass(s *fixture) {
	ann, bob := s.person("ann"), s.person("bob")
	add := func(who dataset.PrincipalID, path string, at int, rev uint64) storage.BreakGlass {
		b := storage.BreakGlass{ID: newID[dataset.BreakGlassID](), Principal: who, Scope: scope(path), Reason: []byte("sealed"), At: day(at), Until: day(at + 2), Revision: rev}
		s.write(func(ctx context.Context, tx *Tx) error { return tx.AddBreakGlass(ctx, b) })
		return b
	}
	a, b := add(ann, "acme", 1, 5), add(bob, "acme/signs", 2, 6)
	same(s, "one", get(s, func(ctx context.Context, tx *Tx) (storage.BreakGlass, error) { return tx.BreakGlass(ctx, a.ID) }), a)
	failsWith(s, "unknown", getErr(s, func(ctx context.Context, tx *Tx) (any, error) {
		return tx.BreakGlass(ctx, newID[dataset.BreakGlassID]())
	}), storage.ErrNoRow)
	ids := func(q storage.BreakGlassQuery) (ids []dataset.BreakGlassID) {
		for _, b := range get(s, func(ctx context.Context, tx *Tx) ([]storage.BreakGlass, error) { return tx.BreakGlasses(ctx, q) }) {
			ids = append(ids, b.ID)
		}
		return ids
	}
	same(s, "all", ids(storage.BreakGlassQuery{}), []dataset.BreakGlassID{b.ID, a.ID})
	same(s, "below", ids(storage.BreakGlassQuery{Under: scope("acme/signs")}), []dataset.BreakGlassID{b.ID})
	same(s, "of one person", ids(storage.BreakGlassQuery{Principal: ann}), []dataset.BreakGlassID{a.ID})
	same(s, "the next", ids(storage.BreakGlassQuery{Before: b.ID}), []dataset.BreakGlassID{a.ID})
	same(s, "in force", ids(storage.BreakGlassQuery{InForce: day(3)}), []dataset.BreakGlassID{b.ID})

	end := func(ctx context.Context, tx *Tx) error { return tx.EndBreakGlass(ctx, b.ID, day(3), 7) }
	s.write(end)
	failsWith(s, "ended twice", s.try(end), storage.ErrNoRow)
	failsWith(s, "ended after its time", s.try(func(ctx context.Context, tx *Tx) error { return tx.EndBreakGlass(ctx, a.ID, day(3), 7) }), storage.ErrNoRow)
	a.ReviewedAt, a.ReviewedBy, a.Verdict, a.Comment = day(4), bob, "justified", []byte("sealed, too")
	review := func(ctx context.Context, tx *Tx) error { return tx.ReviewBreakGlass(ctx, a) }
	s.write(review)
	failsWith(s, "reviewed twice", s.try(review), storage.ErrNoRow)
	same(s, "open", ids(storage.BreakGlassQuery{Open: true}), []dataset.BreakGlassID{b.ID})
	b.Ended, b.Revision = day(3), 7
	rows, revs := caughtUp(s, 0, (*Tx).BreakGlassesSince)
	same(s, "since 0", rows, []storage.BreakGlass{a, b})
	same(s, "revisions", revs, []uint64{5, 7})

	s.write(func(ctx context.Context, tx *Tx) error {
		_, err := tx.Forget(ctx, storage.Forgotten{Principal: bob, At: day(5)}, "anon-x", 9)
		return err
	})
	b.Reason, b.Revision, a.Comment = nil, 9, nil
	same(s, "forgotten", get(s, func(ctx context.Context, tx *Tx) ([]storage.BreakGlass, error) {
		return tx.BreakGlasses(ctx, storage.BreakGlassQuery{})
	}), []storage.BreakGlass{b, a})
}

func testDisclosures(s *fixture) {
	ann := s.person("ann")
	d := s.dataset(1, "acme/signs/one", 1)
	x := storage.Disclosure{ID: newID[dataset.DisclosureID](), Principal: ann, Dataset: d.ID, Scope: d.Scope, Shards: dataset.ShardSet{{First: 1, Last: 2}, {First: 7, Last: 7}},
		Document: fresh(), Terms: []byte("sealed"), Withheld: day(30), At: day(1), Until: day(8), ApprovedBy: newID[dataset.PrincipalID](), Revision: 3}
	s.write(func(ctx context.Context, tx *Tx) error { return tx.AddDisclosure(ctx, x) })
	orphan := x
	orphan.ID, orphan.Dataset = newID[dataset.DisclosureID](), newID[dataset.DatasetID]()
	failsWith(s, "of no dataset", s.try(func(ctx context.Context, tx *Tx) error { return tx.AddDisclosure(ctx, orphan) }), storage.ErrNoRow)
	held := func(who dataset.PrincipalID, id dataset.DatasetID, at int) []storage.Disclosure {
		return get(s, func(ctx context.Context, tx *Tx) ([]storage.Disclosure, error) {
			return tx.Disclosures(ctx, who, id, day(at))
		})
	}
	same(s, "in force", held(ann, d.ID, 7), []storage.Disclosure{x})
	same(s, "at its end", len(held(ann, d.ID, 8)), 0)
	same(s, "another's", len(held(s.person("bob"), d.ID, 2)), 0)
	same(s, "of another dataset", len(held(ann, newID[dataset.DatasetID](), 2)), 0)
	rows, revs := caughtUp(s, 2, (*Tx).DisclosuresSince)
	same(s, "since 2", rows, []storage.Disclosure{x})
	same(s, "revisions", revs, []uint64{3})
	s.write(func(ctx context.Context, tx *Tx) error {
		_, err := tx.Forget(ctx, storage.Forgotten{Principal: ann, At: day(2)}, "anon-x", 4)
		return err
	})
	same(s, "forgotten", len(held(ann, d.ID, 2)), 0)
	rows, _ = caughtUp(s, 3, (*Tx).DisclosuresSince)
	x.Terms, x.Ended, x.Revision = nil, day(2), 4
	same(s, "other nodes hear of", rows, []storage.Disclosure{x})
}
