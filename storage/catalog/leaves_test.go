package catalog

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pressly/goose/v3"

	"dsvault/storage"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// manyLeaves makes a log over several batches: slots and people of which some
// are rare, small leaves and large ones.
func manyLeaves(n int, people ...dataset.PrincipalID) []storage.Leaf {
	list := make([]storage.Leaf, n)
	for i := range list {
		l := &list[i]
		*l = storage.Leaf{Index: uint64(i), Slot: uint64(i % 3), Kind: uint16(1 + i%4), Decision: uint8(1 + i%2),
			Time: 1_700_000_000_000_000 + int64(i/2), Data: fmt.Appendf(nil, "leaf %d", i)}
		if i%200 == 7 {
			l.Slot = 9
		}
		if i%150 == 3 {
			l.Data = bytes.Repeat([]byte{byte(i)}, 200<<10)
		}
		if who := i % (len(people) + 1); who < len(people) {
			l.Principal, l.Details = people[who], fmt.Appendf(nil, "sealed %d", i)
		}
	}
	return list
}

func selected(list []storage.Leaf, keep func(*storage.Leaf) bool) []uint64 {
	var found []uint64
	for i := range list {
		if keep(&list[i]) {
			found = append(found, list[i].Index)
		}
	}
	return found
}

func testLeavesOverBatches(s *fixture) {
	s.scopeRow(9, "acme")
	ann, bob := newID[dataset.PrincipalID](), newID[dataset.PrincipalID]()
	want := manyLeaves(1000, ann, bob)
	for rest := want; len(rest) > 0; { // commits of many sizes
		n := min(1+len(rest)/2, len(rest))
		s.write(func(ctx context.Context, tx *Tx) error { return tx.AppendLeaves(ctx, rest[:n]) })
		rest = rest[n:]
	}
	if !slices.EqualFunc(leafList(s, storage.LeafQuery{}), want, sameLeaf) {
		s.Error("the log came back otherwise")
	}
	for _, r := range [][2]uint64{{0, 1}, {255, 257}, {499, 501}, {500, 500}, {998, 2000}, {1000, 0}, {2000, 3000}} {
		q := storage.LeafQuery{From: r[0], To: r[1]}
		inside := func(l *storage.Leaf) bool { return l.Index >= r[0] && (r[1] == 0 || l.Index < r[1]) }
		same(s, fmt.Sprint(r), indexes(leafList(s, q)), selected(want, inside))
		if r[1] == 0 {
			continue
		}
		var found []uint64
		s.read(func(ctx context.Context, tx *Tx) error {
			return tx.LeafData(ctx, r[0], r[1], func(index, slot uint64, data []byte) error {
				if slot != want[index].Slot || !bytes.Equal(data, want[index].Data) {
					s.Errorf("leaf %d has other data", index)
				}
				found = append(found, index)
				return nil
			})
		})
		same(s, fmt.Sprint("data ", r), found, selected(want, inside))
	}
	inSlot := selected(want, func(l *storage.Leaf) bool { return l.Slot == 9 })
	same(s, "slot", indexes(leafList(s, storage.LeafQuery{Under: scope("acme")})), inSlot)
	same(s, "slot, page", indexes(leafList(s, storage.LeafQuery{Under: scope("acme"), From: inSlot[1] + 1, Limit: 2})), inSlot[2:4])
	same(s, "person and kind", indexes(leafList(s, storage.LeafQuery{Principal: bob, Kinds: []uint16{2}, From: 300})),
		selected(want, func(l *storage.Leaf) bool { return l.Principal == bob && l.Kind == 2 && l.Index >= 300 }))
	for _, taken := range []uint64{0, 1, 254, 999} {
		err := s.try(func(ctx context.Context, tx *Tx) error { return tx.AppendLeaves(ctx, []storage.Leaf{{Index: taken}}) })
		failsWith(s, fmt.Sprint("index ", taken, " again"), err, storage.ErrExists)
	}
}

// TestPackBatch: a batch is bounded, and its leaves follow one another.
func TestPackBatch(t *testing.T) {
	list := manyLeaves(1000)
	for i := range list[700:] {
		list[700+i].Index++ // a gap
	}
	at := 0
	var p packer
	for rest := list; len(rest) > 0; {
		var b *leafBatch
		b, rest = p.pack(rest)
		if b.first != list[at].Index || b.count > maxBatchLeaves || b.count > 1 && len(b.leaves)+len(b.details) > maxBatchBytes+b.count*24 {
			t.Errorf("a batch of %d leaves and %d bytes from %d on, want it from %d on", b.count, len(b.leaves), b.first, list[at].Index)
		}
		at += b.count
		if last := list[at-1]; b.time != last.Time || b.first+uint64(b.count)-1 != last.Index {
			t.Errorf("the batch from %d on ends at %d, time %d, want %d, %d", b.first, b.first+uint64(b.count)-1, b.time, last.Index, last.Time)
		}
	}
	if at != len(list) {
		t.Errorf("%d of %d leaves are in batches", at, len(list))
	}
}

func sameLeaf(a, b storage.Leaf) bool {
	return a.Index == b.Index && a.Slot == b.Slot && a.Kind == b.Kind && a.Decision == b.Decision && a.Time == b.Time &&
		a.Principal == b.Principal && bytes.Equal(a.Data, b.Data) && bytes.Equal(a.Details, b.Details)
}

func testDropDetails(s *fixture) {
	ann, bob := newID[dataset.PrincipalID](), newID[dataset.PrincipalID]()
	want := manyLeaves(1000, ann, bob)
	s.write(func(ctx context.Context, tx *Tx) error { return tx.AppendLeaves(ctx, want) })
	rounds := 0
	for more := true; more; rounds++ {
		s.write(func(ctx context.Context, tx *Tx) (err error) {
			more, err = tx.DropDetails(ctx, ann, 2)
			return err
		})
	}
	if rounds < 2 {
		s.Errorf("%d rounds for a log of more batches", rounds)
	}
	for i := range want {
		if want[i].Principal == ann {
			want[i].Principal, want[i].Details = dataset.PrincipalID{}, nil
		}
	}
	if !slices.EqualFunc(leafList(s, storage.LeafQuery{}), want, sameLeaf) {
		s.Error("more than one person's details have changed")
	}
	same(s, "hers", leafList(s, storage.LeafQuery{Principal: ann}), nil)
	same(s, "of one kind, his or nobody's", indexes(leafList(s, storage.LeafQuery{Principal: bob, Bare: 3})),
		selected(want, func(l *storage.Leaf) bool { return l.Principal == bob || l.Kind == 3 && l.Principal.IsZero() }))
	s.write(func(ctx context.Context, tx *Tx) error { // nothing left is no error
		more, err := tx.DropDetails(ctx, ann, 1)
		if more {
			s.Error("there is more of nothing")
		}
		return err
	})
}

// rawDB opens the fixture's database beside the catalog.
func (s *fixture) rawDB() *sql.DB {
	s.Helper()
	name, dsn := "pgx", s.url
	if path, ok := strings.CutPrefix(s.url, "sqlite:"); ok {
		name, dsn = "sqlite", sqliteDSN(path)
	}
	db, err := sql.Open(name, dsn)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { db.Close() })
	return db
}

func (s *fixture) rawExec(db interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}, query string, args ...any) {
	s.Helper()
	if _, err := db.ExecContext(s.Context(), query, args...); err != nil {
		s.Fatal(query, ": ", err)
	}
}

// before is a catalog of its own, with the schema as it was before a migration.
func (s *fixture) before(migration int64) *fixture {
	s.Helper()
	old := *s
	old.url = s.freshURL()
	if path, ok := strings.CutPrefix(old.url, "sqlite:"); ok {
		if err := inspect(s.Context(), "test", path); err != nil {
			s.Fatal(err)
		}
	}
	db := old.rawDB()
	list, err := migrations(s.db.dialect)
	if err != nil {
		s.Fatal(err)
	}
	provider, err := goose.NewProvider(s.db.dialect.goose, db, nil, goose.WithGoMigrations(list...), goose.WithDisableGlobalRegistry(true))
	if err == nil {
		_, err = provider.UpTo(s.Context(), migration-1)
	}
	if err != nil {
		s.Fatal(err)
	}
	return &old
}

// testMovedLeaves: a log that was written one leaf in a row is the same log
// after the migration.
func testMovedLeaves(s *fixture) {
	old := s.before(2)
	db := old.rawDB()
	ann, bob := newID[dataset.PrincipalID](), newID[dataset.PrincipalID]()
	want := manyLeaves(1000, ann, bob)
	tree, err := audit.NewTree(0, nil)
	if err != nil {
		s.Fatal(err)
	}
	tx, err := db.BeginTx(s.Context(), nil)
	if err != nil {
		s.Fatal(err)
	}
	defer tx.Rollback()
	for _, l := range want {
		tree.Append(audit.LeafHash(l.Data))
		old.rawExec(tx, "INSERT INTO leaves (idx, slot, kind, decision, time, data) VALUES ($1, $2, $3, $4, $5, $6)",
			int64(l.Index), int64(l.Slot), int64(l.Kind), int64(l.Decision), l.Time, l.Data)
		if len(l.Details) > 0 {
			old.rawExec(tx, "INSERT INTO details (idx, principal, sealed) VALUES ($1, $2, $3)", int64(l.Index), l.Principal[:], l.Details)
		}
	}
	old.rawExec(tx, "INSERT INTO open_reads (idx, slot, dataset, shard, principal, max_bytes, time, node)"+
		" VALUES (7, 1, $1, 2, $1, 3, 4, 'node-1')", ann[:])
	if err := tx.Commit(); err != nil {
		s.Fatal(err)
	}
	db.Close()

	old.db = open(s.T, old.url)
	root := tree.Root()
	if tree, err = audit.NewTree(0, nil); err != nil {
		s.Fatal(err)
	}
	got := leafList(old, storage.LeafQuery{})
	for _, l := range got {
		tree.Append(audit.LeafHash(l.Data))
	}
	if tree.Root() != root || !slices.EqualFunc(got, want, sameLeaf) {
		s.Error("the log is another one after the migration")
	}
	same(s, "of one person", indexes(leafList(old, storage.LeafQuery{Principal: bob})),
		selected(want, func(l *storage.Leaf) bool { return l.Principal == bob }))
	old.scopeRow(9, "acme")
	same(s, "of one slot", indexes(leafList(old, storage.LeafQuery{Under: scope("acme")})),
		selected(want, func(l *storage.Leaf) bool { return l.Slot == 9 }))
	open := get(old, func(ctx context.Context, tx *Tx) ([]storage.OpenRead, error) { return tx.OpenReads(ctx, 0) })
	same(s, "open reads", open, []storage.OpenRead{{Index: 7, Node: "node-1"}})
	old.write(func(ctx context.Context, tx *Tx) error { return tx.AppendLeaves(ctx, []storage.Leaf{{Index: 1000}}) })
	if _, err := old.rawDB().ExecContext(s.Context(), "SELECT 1 FROM details"); err == nil {
		s.Error("the old rows are still there")
	}
}

// testBrokenBatches: what was changed behind the catalog's back so that it
// cannot be read is corruption, and no less than that.
func testBrokenBatches(s *fixture) {
	ann := newID[dataset.PrincipalID]()
	s.write(func(ctx context.Context, tx *Tx) error { return tx.AppendLeaves(ctx, manyLeaves(3, ann)) })
	db := s.rawDB()
	var leaves, details []byte
	if err := db.QueryRowContext(s.Context(), "SELECT leaves, details FROM leaf_batches").Scan(&leaves, &details); err != nil {
		s.Fatal(err)
	}
	for _, c := range []struct {
		name            string
		count           int
		leaves, details []byte
	}{
		{"cut leaves", 3, leaves[:len(leaves)-1], details},
		{"longer leaves", 3, append(slices.Clone(leaves), 0), details},
		{"no leaves", 3, nil, details},
		{"fewer leaves", 2, leaves, nil},
		{"more leaves", 4, leaves, nil},
		{"an endless number", 3, bytes.Repeat([]byte{255}, 20), nil},
		{"cut details", 3, leaves, details[:len(details)-1]},
		{"details twice", 3, leaves, slices.Concat(details, details)},
		{"details of no leaf", 3, leaves, append([]byte{3}, details[1:]...)},
	} {
		s.rawExec(db, "UPDATE leaf_batches SET count = $1, leaves = $2, details = $3", int64(c.count), blob(c.leaves), blob(c.details))
		err := getErr(s, func(ctx context.Context, tx *Tx) (any, error) {
			return nil, tx.Leaves(ctx, storage.LeafQuery{}, func(storage.Leaf) error { return nil })
		})
		if !fault.Is(err, fault.Corrupt) {
			s.Errorf("%s: got %v, want %v", c.name, err, fault.Corrupt)
		}
	}
}

// FuzzBatch: what can be unpacked is what was packed, and nothing makes the
// unpacking panic or grow.
func FuzzBatch(f *testing.F) {
	b, _ := new(packer).pack(manyLeaves(3, dataset.PrincipalID{1}))
	f.Add(b.count, b.leaves, b.details)
	f.Add(0, []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, count int, leaves, details []byte) {
		b := leafBatch{count: count, leaves: leaves, details: details}
		var list []storage.Leaf
		err := b.eachLeaf(func(l *storage.Leaf) error { list = append(list, *l); return nil })
		if err != nil || len(list) == 0 || len(list) > maxBatchLeaves {
			return
		}
		err = b.eachDetail(func(position int, who dataset.PrincipalID, sealed []byte) {
			list[position].Principal, list[position].Details = who, sealed
		})
		if err != nil {
			return
		}
		again, rest := new(packer).pack(list)
		if len(rest) > 0 || again.count != count {
			return // more bytes than a batch takes
		}
		i := 0
		err = again.eachLeaf(func(l *storage.Leaf) error {
			want := list[i]
			want.Principal, want.Details = dataset.PrincipalID{}, nil
			if !sameLeaf(*l, want) {
				t.Errorf("leaf %d came back as %v, was %v", i, *l, want)
			}
			i++
			return nil
		})
		if err != nil || i != count {
			t.Errorf("%d of %d leaves: %v", i, count, err)
		}
	})
}
