package catalog

import (
	"context"
	"time"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

func testOutbox(s *fixture) {
	ann := s.person("ann")
	add := func(client string, by storage.Channel, due int) storage.Message {
		m := storage.Message{ID: newID[dataset.MessageID](), Channel: by, Event: "grant", Content: []byte("sealed"), CreatedAt: day(due), Due: day(due), State: storage.MessageWaiting}
		if client == "" {
			m.Principal, m.Until = ann, day(20)
		} else {
			m.Client = scope(client)
		}
		s.write(func(ctx context.Context, tx *Tx) error { return tx.AddMessages(ctx, m) })
		return m
	}
	ids := func(list []storage.Message) []dataset.MessageID {
		var ids []dataset.MessageID
		for _, m := range list {
			ids = append(ids, m.ID)
		}
		return ids
	}
	due := func(now, each int) []dataset.MessageID {
		return ids(get(s, func(ctx context.Context, tx *Tx) ([]storage.Message, error) {
			return tx.DueMessages(ctx, day(now), each, 0)
		}))
	}
	var acme []storage.Message
	for n := range 5 {
		acme = append(acme, add("acme", storage.ByWebhook, 1+n))
	}
	other := acme[0]
	other.Event = "another"
	s.write(func(ctx context.Context, tx *Tx) error { return tx.AddMessagesOnce(ctx, other) })
	same(s, "once", get(s, func(ctx context.Context, tx *Tx) (storage.Message, error) { return tx.Message(ctx, other.ID) }), acme[0])
	mail, beta, reset := add("acme", storage.ByMail, 3), add("beta", storage.ByWebhook, 6), add("", storage.ByMail, 7)
	same(s, "message", get(s, func(ctx context.Context, tx *Tx) (storage.Message, error) { return tx.Message(ctx, reset.ID) }), reset)
	same(s, "of a client", get(s, func(ctx context.Context, tx *Tx) (storage.Message, error) { return tx.Message(ctx, mail.ID) }), mail)
	failsWith(s, "unknown", getErr(s, func(ctx context.Context, tx *Tx) (any, error) { return tx.Message(ctx, newID[dataset.MessageID]()) }), storage.ErrNoRow)
	same(s, "due", due(7, 2), []dataset.MessageID{acme[0].ID, acme[1].ID, mail.ID, beta.ID, reset.ID})
	same(s, "due earlier", due(2, 9), []dataset.MessageID{acme[0].ID, acme[1].ID})

	same(s, "to a person", ids(get(s, func(ctx context.Context, tx *Tx) ([]storage.Message, error) { return tx.MessagesTo(ctx, ann) })),
		[]dataset.MessageID{reset.ID})
	sent, later, dead := acme[0], acme[1], mail
	sent.State, sent.Content, sent.Attempts, sent.TriedAt = storage.MessageSent, nil, 1, day(8)
	later.Due, later.Attempts, later.TriedAt, later.Problem = day(9), 1, day(8), "away"
	dead.State, dead.Content, dead.Attempts, dead.TriedAt, dead.Problem = storage.MessageDead, nil, 11, day(8), "refused"
	for _, m := range []storage.Message{sent, later, dead} {
		s.write(func(ctx context.Context, tx *Tx) error { return tx.SetMessage(ctx, m) })
		same(s, "after a try", get(s, func(ctx context.Context, tx *Tx) (storage.Message, error) { return tx.Message(ctx, m.ID) }), m)
	}
	same(s, "tried in vain, and given up", get(s, func(ctx context.Context, tx *Tx) ([2]int, error) {
		late, dead, err := tx.CountMessages(ctx)
		return [2]int{late, dead}, err
	}), [2]int{1, 1})
	failsWith(s, "sent already", s.try(func(ctx context.Context, tx *Tx) error { return tx.SetMessage(ctx, sent) }), storage.ErrNoRow)
	same(s, "due after that", due(8, 1), []dataset.MessageID{acme[2].ID, beta.ID, reset.ID})
	list := func(before dataset.MessageID, limit int) []dataset.MessageID {
		return ids(get(s, func(ctx context.Context, tx *Tx) ([]storage.Message, error) {
			return tx.Messages(ctx, scope("acme"), before, limit)
		}))
	}
	all := list(dataset.MessageID{}, 0)
	if len(all) != 6 || all[0] != acme[4].ID || all[5] != acme[0].ID {
		s.Errorf("of a client: %v", all)
	}
	same(s, "page", list(all[1], 2), all[2:4])
	s.write(func(ctx context.Context, tx *Tx) error { return tx.DropMessages(ctx, day(8).Add(time.Second), day(8)) })
	same(s, "without those sent", list(dataset.MessageID{}, 0), all[:5])
	s.write(func(ctx context.Context, tx *Tx) error { return tx.DropMessages(ctx, day(8), day(9)) })
	if rest := list(dataset.MessageID{}, 0); len(rest) != 4 {
		s.Errorf("without the dead: %v", rest)
	}
}

func testAddresses(s *fixture) {
	ann, bob := s.person("ann"), s.person("bob")
	who := func(hash [32]byte) (names []string) {
		for _, p := range get(s, func(ctx context.Context, tx *Tx) ([]storage.Principal, error) {
			return tx.PrincipalsByAddress(ctx, hash, 0)
		}) {
			names = append(names, p.Handle)
		}
		return names
	}
	one, two := fresh(), fresh()
	set := func(who dataset.PrincipalID, hash [32]byte) {
		s.write(func(ctx context.Context, tx *Tx) error { return tx.SetAddress(ctx, who, hash) })
	}
	set(bob, one)
	set(ann, one)
	same(s, "two people", who(one), []string{"ann", "bob"})
	set(ann, two)
	same(s, "moved", who(one), []string{"bob"})
	same(s, "moved to", who(two), []string{"ann"})
	s.write(func(ctx context.Context, tx *Tx) error { return tx.DropAddress(ctx, ann) })
	same(s, "gone", who(two), nil)
	failsWith(s, "of nobody", s.try(func(ctx context.Context, tx *Tx) error { return tx.SetAddress(ctx, newID[dataset.PrincipalID](), one) }), storage.ErrNoRow)

	a, b, other := s.token(ann), s.token(ann), s.token(bob)
	count := func(after int) int {
		return get(s, func(ctx context.Context, tx *Tx) (int, error) {
			return tx.CountTokens(ctx, ann, a.Kind, a.CreatedAt.AddDate(0, 0, after))
		})
	}
	same(s, "tokens", []int{count(-1), count(0)}, []int{2, 0})
	s.write(func(ctx context.Context, tx *Tx) error { return tx.EndToken(ctx, b.ID, day(9)) })
	gone := newID[dataset.TokenID]()
	ended := get(s, func(ctx context.Context, tx *Tx) (map[dataset.TokenID]bool, error) {
		return tx.EndedTokens(ctx, []dataset.TokenID{a.ID, b.ID, other.ID, gone, a.ID})
	})
	same(s, "ended", ended, map[dataset.TokenID]bool{b.ID: true, gone: true})
}

func testNotices(s *fixture) {
	s.scopeRow(1, "acme")
	s.scopeRow(2, "beta")
	s.scopeRow(3, "acme/signs")
	n := storage.Notices{Client: scope("acme"), Events: []string{"grant", "hold"}, Settings: []byte("sealed"), ChangedAt: day(1), ChangedBy: newID[dataset.PrincipalID]()}
	m := storage.Notices{Client: scope("beta"), ChangedAt: day(1)}
	put := func(n storage.Notices) error {
		return s.try(func(ctx context.Context, tx *Tx) error { return tx.PutNotices(ctx, n) })
	}
	failsWith(s, "put", put(n), nil)
	failsWith(s, "put", put(m), nil)
	failsWith(s, "nowhere", put(storage.Notices{Client: scope("x")}), storage.ErrNoRow)
	n.Events, n.Settings = []string{"grant"}, []byte("other")
	failsWith(s, "put again", put(n), nil)
	same(s, "of a client", get(s, func(ctx context.Context, tx *Tx) (storage.Notices, error) { return tx.Notices(ctx, n.Client) }), n)
	failsWith(s, "of none", getErr(s, func(ctx context.Context, tx *Tx) (any, error) { return tx.Notices(ctx, scope("acme/signs")) }), storage.ErrNoRow)
	same(s, "all", get(s, func(ctx context.Context, tx *Tx) (int, error) {
		list, err := tx.AllNotices(ctx, "acme", 0)
		return len(list), err
	}), 1)
	know := func(purpose string) (isNew bool) {
		s.write(func(ctx context.Context, tx *Tx) (err error) {
			isNew, err = tx.KnowPurpose(ctx, scope("acme/signs"), purpose, day(1))
			return err
		})
		return isNew
	}
	same(s, "purposes", []bool{know("labeling"), know("labeling"), know("review"), know("review")}, []bool{true, false, true, false})
}
