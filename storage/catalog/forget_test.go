package catalog

import (
	"context"
	"slices"
	"testing"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

func testForget(s *fixture) {
	d := s.dataset(1, "acme/signs/one", 1)
	ann, bob := s.person("ann"), s.person("bob")
	token := storage.Token{ID: newID[dataset.TokenID](), Hash: fresh(), Principal: ann, Kind: storage.AccessToken, CreatedAt: day(1)}
	old := storage.Token{ID: newID[dataset.TokenID](), Hash: fresh(), Principal: ann, Kind: storage.InviteToken, CreatedAt: day(1), Ended: day(2)}
	device := storage.Device{ID: newID[dataset.DeviceID](), Principal: ann, Recipient: "age1pq…", Name: "laptop", CreatedAt: day(1)}
	grant := func(who dataset.PrincipalID) dataset.Grant {
		return dataset.Grant{ID: newID[dataset.GrantID](), Principal: who, Role: dataset.Labeler, Scope: scope("acme"), Reason: "why", By: bob, At: day(1)}
	}
	hers, his := grant(ann), grant(bob)
	link := storage.ItemLink{ID: newID[dataset.LinkID](), Hash: fresh(), Principal: ann, Token: token.ID, Dataset: d.Scope, Delivery: dataset.Opened,
		Item: []byte("sealed"), CreatedAt: day(1), Expires: day(2)}
	work := dataset.Assignment{ID: newID[dataset.AssignmentID](), Principal: ann, Dataset: d.ID, Scope: d.Scope,
		Shards: dataset.ShardSet{{First: 0, Last: 3}}, By: bob, At: day(1)}
	mail := storage.Message{ID: newID[dataset.MessageID](), Principal: ann, Channel: storage.ByMail, Event: "reset", Content: []byte("sealed"),
		CreatedAt: day(1), Due: day(1), Until: day(2), State: storage.MessageWaiting}
	address := fresh()
	f := storage.Forgotten{Principal: ann, At: day(5), About: []uint64{3, 1 << 40}}
	var ended Ended
	s.write(func(ctx context.Context, tx *Tx) (err error) {
		for _, step := range []func() error{
			func() error { return tx.AddToken(ctx, token) }, func() error { return tx.AddToken(ctx, old) },
			func() error { return tx.AddDevice(ctx, device) }, func() error { return tx.AddLink(ctx, link) },
			func() error { return tx.AddGrant(ctx, hers, 2) }, func() error { return tx.AddGrant(ctx, his, 2) },
			func() error { return tx.AddAssignment(ctx, work, 2) },
			func() error { return tx.AddMessages(ctx, mail) }, func() error { return tx.SetAddress(ctx, ann, address) },
		} {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
	failsWith(s, "somebody's handle", s.try(func(ctx context.Context, tx *Tx) error { _, err := tx.Forget(ctx, f, "bob", 3); return err }), storage.ErrExists)
	s.write(func(ctx context.Context, tx *Tx) (err error) { ended, err = tx.Forget(ctx, f, "anon-1", 3); return err })
	same(s, "ended", ended, Ended{Tokens: 1, Grants: 1, Assignments: 1})
	failsWith(s, "again", s.try(func(ctx context.Context, tx *Tx) error { _, err := tx.Forget(ctx, f, "anon-2", 4); return err }), storage.ErrExists)
	failsWith(s, "nobody", s.try(func(ctx context.Context, tx *Tx) error {
		_, err := tx.Forget(ctx, storage.Forgotten{Principal: newID[dataset.PrincipalID](), At: day(1)}, "anon-3", 4)
		return err
	}), storage.ErrNoRow)

	same(s, "principal", get(s, func(ctx context.Context, tx *Tx) (storage.Principal, error) { return tx.Principal(ctx, ann) }),
		storage.Principal{ID: ann, Handle: "anon-1", Disabled: day(5), Revision: 3, CreatedAt: day(1)})
	failsWith(s, "token", getErr(s, func(ctx context.Context, tx *Tx) (any, error) { return tx.TokenByHash(ctx, token.Hash) }), storage.ErrNoRow)
	failsWith(s, "device", getErr(s, func(ctx context.Context, tx *Tx) (any, error) { return tx.Device(ctx, device.ID) }), storage.ErrNoRow)
	failsWith(s, "link", getErr(s, func(ctx context.Context, tx *Tx) (any, error) { return tx.LinkByHash(ctx, link.Hash) }), storage.ErrNoRow)
	failsWith(s, "mail", getErr(s, func(ctx context.Context, tx *Tx) (any, error) { return tx.Message(ctx, mail.ID) }), storage.ErrNoRow)
	same(s, "whoever has the address", get(s, func(ctx context.Context, tx *Tx) ([]storage.Principal, error) {
		return tx.PrincipalsByAddress(ctx, address, 0)
	}), nil)
	hers.Reason, hers.Revoked = "", day(5)
	same(s, "grants", get(s, func(ctx context.Context, tx *Tx) ([]dataset.Grant, error) {
		return tx.Grants(ctx, storage.GrantQuery{Principal: ann, IncludeEnded: true})
	}), []dataset.Grant{hers})
	grants, _ := caughtUp(s, 2, (*Tx).GrantsSince)
	same(s, "other nodes hear of", grants, []dataset.Grant{hers})
	work.Ended = day(5)
	assignments, _ := caughtUp(s, 2, (*Tx).AssignmentsSince)
	same(s, "and of", assignments, []dataset.Assignment{work})
	reasons := map[dataset.GrantID]string{}
	s.read(func(ctx context.Context, tx *Tx) error {
		return tx.GrantReasons(ctx, func(id dataset.GrantID, reason string) { reasons[id] = reason })
	})
	same(s, "reasons", reasons, map[dataset.GrantID]string{his.ID: "why"})
	s.write(func(ctx context.Context, tx *Tx) error { return tx.SetGrantReason(ctx, his.ID, "(removed)") })

	todo := func(ctx context.Context, tx *Tx) ([]storage.Forgotten, error) { return tx.ToForget(ctx) }
	same(s, "to do", get(s, todo), []storage.Forgotten{f})
	s.write(func(ctx context.Context, tx *Tx) error { return tx.SetForgotten(ctx, ann) })
	same(s, "done", get(s, todo), nil)
}

// TestForgetKnowsEveryTable: whoever adds a table with rows of people decides
// what becomes of them, in Forget and here.
func TestForgetKnowsEveryTable(t *testing.T) {
	s := &fixture{T: t, url: "sqlite:" + t.TempDir() + "/x.db"}
	s.db = open(t, s.url)
	rows, err := s.rawDB().Query("SELECT m.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c" +
		" WHERE m.type = 'table' AND c.name IN ('principal', 'requester') ORDER BY m.name")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var tables []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		tables = append(tables, name)
	}
	same(s, "tables with rows of people", tables, []string{
		"addresses",   // go
		"approvals",   // are taken back, and stay under the ID without their terms
		"assignments", // end, and stay under the ID
		"break_glass", // end, and stay under the ID without their reasons
		"choices",     // stay under the ID
		"devices",     // go
		"disclosures", // end, and stay under the ID without their terms
		"forgotten",
		"grants",          // end, and stay under the ID without their reasons
		"leaf_people",     // go with the details
		"links",           // go
		"outbox",          // go
		"review_items",    // stay under the ID, as what was decided of it
		"rights_requests", // stay under the ID without their words
		"signatures",      // stay under the ID
		"tokens",          // go
	})
}

func testDropDetailsOf(s *fixture) {
	ann, bob := newID[dataset.PrincipalID](), newID[dataset.PrincipalID]()
	want := manyLeaves(1000, ann, bob)
	s.write(func(ctx context.Context, tx *Tx) error { return tx.AppendLeaves(ctx, want) })
	drop := []uint64{want[0].Index, want[7].Index, want[300].Index, want[301].Index, want[999].Index}
	for range 2 { // the second time there is nothing left
		s.write(func(ctx context.Context, tx *Tx) error { return tx.DropDetailsOf(ctx, drop) })
	}
	for i := range want {
		if slices.Contains(drop, want[i].Index) {
			want[i].Principal, want[i].Details = dataset.PrincipalID{}, nil
		}
	}
	if !slices.EqualFunc(leafList(s, storage.LeafQuery{}), want, sameLeaf) {
		s.Error("other details have changed")
	}
	for _, who := range []dataset.PrincipalID{ann, bob} {
		same(s, "somebody's", indexes(leafList(s, storage.LeafQuery{Principal: who})),
			selected(want, func(l *storage.Leaf) bool { return l.Principal == who }))
	}
	same(s, "of one kind, his or nobody's", indexes(leafList(s, storage.LeafQuery{Principal: bob, Bare: 3})),
		selected(want, func(l *storage.Leaf) bool { return l.Principal == bob || l.Kind == 3 && l.Principal.IsZero() }))
	if err := s.try(func(ctx context.Context, tx *Tx) error { return tx.DropDetailsOf(ctx, []uint64{1 << 40}) }); err == nil {
		s.Error("a leaf that is not there was taken for one")
	}
}

func testScrub(s *fixture) {
	s.person("ann")
	for _, wait := range []bool{false, true} {
		clean, err := s.db.Scrub(s.Context(), wait)
		if err != nil || !clean {
			s.Errorf("clean %v, %v", clean, err)
		}
	}
	s.person("bob") // the writer goes on
}

// TestScrubWaitsForReaders: while somebody reads the past on SQLite, it is not
// gone yet; that is said, and no error.
func TestScrubWaitsForReaders(t *testing.T) {
	s := &fixture{T: t, db: open(t, "sqlite:"+t.TempDir()+"/x.db")}
	err := s.db.View(t.Context(), func(tx *Tx) error {
		if _, err := tx.Head(t.Context()); err != nil {
			return err
		}
		s.person("ann")
		clean, err := s.db.Scrub(t.Context(), false)
		if clean {
			t.Error("it is clean while the past is read")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if clean, err := s.db.Scrub(t.Context(), false); err != nil || !clean {
		t.Errorf("clean %v, %v", clean, err)
	}
}
