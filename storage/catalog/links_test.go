package catalog

import (
	"context"
	"time"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

func testLinks(s *fixture) {
	ann, bob := s.person("ann"), s.person("bob")
	s.scopeRow(1, "acme/signs/one")
	add := func(who dataset.PrincipalID, token storage.Token, expires int) storage.ItemLink {
		l := storage.ItemLink{ID: newID[dataset.LinkID](), Hash: fresh(), Principal: who, Token: token.ID, Dataset: scope("acme/signs/one"),
			Shard: 7, Delivery: dataset.Opened, Item: []byte("sealed"), CreatedAt: day(1), Expires: day(expires)}
		s.write(func(ctx context.Context, tx *Tx) error { return tx.AddLink(ctx, l) })
		return l
	}
	token := s.token(ann)
	a, b, old, other := add(ann, token, 10), add(ann, token, 10), add(ann, token, 2), add(bob, s.token(bob), 10)
	byHash := func(l storage.ItemLink) (storage.ItemLink, error) {
		var got storage.ItemLink
		err := s.db.View(s.Context(), func(tx *Tx) (err error) {
			got, err = tx.LinkByHash(s.Context(), l.Hash)
			return err
		})
		return got, err
	}
	for _, l := range []storage.ItemLink{a, b, old, other} {
		got, err := byHash(l)
		failsWith(s, "link", err, nil)
		same(s, "link", got, l)
	}
	failsWith(s, "unknown", getErr(s, func(ctx context.Context, tx *Tx) (any, error) { return tx.LinkByHash(ctx, fresh()) }), storage.ErrNoRow)
	same(s, "of its owner", get(s, func(ctx context.Context, tx *Tx) (storage.ItemLink, error) { return tx.Link(ctx, a.ID, ann) }), a)
	failsWith(s, "of another", getErr(s, func(ctx context.Context, tx *Tx) (any, error) { return tx.Link(ctx, a.ID, bob) }), storage.ErrNoRow)
	same(s, "its token", get(s, func(ctx context.Context, tx *Tx) (storage.Token, error) { return tx.Token(ctx, token.ID) }), token)
	failsWith(s, "no token", getErr(s, func(ctx context.Context, tx *Tx) (any, error) { return tx.Token(ctx, newID[dataset.TokenID]()) }), storage.ErrNoRow)

	held := func(at time.Time, after dataset.LinkID, limit int) (ids []dataset.LinkID) {
		for _, l := range get(s, func(ctx context.Context, tx *Tx) ([]storage.ItemLink, error) {
			return tx.Links(ctx, ann, at, after, limit)
		}) {
			ids = append(ids, l.ID)
		}
		return ids
	}
	first, second := a.ID, b.ID
	if string(first[:]) > string(second[:]) {
		first, second = second, first
	}
	same(s, "held", held(day(5), dataset.LinkID{}, 10), []dataset.LinkID{first, second})
	same(s, "one page", held(day(5), dataset.LinkID{}, 1), []dataset.LinkID{first})
	same(s, "the next", held(day(5), first, 10), []dataset.LinkID{second})
	same(s, "all before one expired", len(held(day(1), dataset.LinkID{}, 10)), 3)
	same(s, "at the end", len(held(day(10), dataset.LinkID{}, 10)), 0)

	end := func(ctx context.Context, tx *Tx) error { return tx.EndLink(ctx, a.ID, day(5)) }
	s.write(end)
	failsWith(s, "ended twice", s.try(end), storage.ErrNoRow)
	a.Ended = day(5)
	got, err := byHash(a)
	failsWith(s, "ended", err, nil)
	same(s, "ended", got, a)
	same(s, "held, after that", held(day(5), dataset.LinkID{}, 10), []dataset.LinkID{b.ID})

	s.write(func(ctx context.Context, tx *Tx) error { return tx.DropLinks(ctx, ann, day(3)) })
	_, err = byHash(old)
	failsWith(s, "dropped", err, storage.ErrNoRow)
	for _, l := range []storage.ItemLink{a, b, other} {
		_, err := byHash(l)
		failsWith(s, "not dropped", err, nil)
	}
	twin := b
	twin.ID = newID[dataset.LinkID]()
	failsWith(s, "same hash", s.try(func(ctx context.Context, tx *Tx) error { return tx.AddLink(ctx, twin) }), storage.ErrExists)
	orphan := b
	orphan.ID, orphan.Hash, orphan.Principal = newID[dataset.LinkID](), fresh(), newID[dataset.PrincipalID]()
	failsWith(s, "of nobody", s.try(func(ctx context.Context, tx *Tx) error { return tx.AddLink(ctx, orphan) }), storage.ErrNoRow)
}
