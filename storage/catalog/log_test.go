package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"dsvault/storage"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

func testHead(s *fixture) {
	head := func() storage.Head {
		return get(s, func(ctx context.Context, tx *Tx) (storage.Head, error) { return tx.Head(ctx) })
	}
	same(s, "fresh head", head(), storage.Head{NextSlot: 1})
	want := storage.Head{Size: 1<<40 + 5, Frontier: [][32]byte{fresh(), fresh()}, Revision: 7, Time: 1_700_000_000_000_000, NextSlot: 9}
	s.write(func(ctx context.Context, tx *Tx) error {
		if _, err := tx.LockHead(ctx); err != nil {
			return err
		}
		return tx.SetHead(ctx, want)
	})
	same(s, "head", head(), want)
	// A transaction that is not committed changes nothing.
	err := s.try(func(ctx context.Context, tx *Tx) error {
		if err := tx.SetHead(ctx, storage.Head{}); err != nil {
			return err
		}
		return errors.New("changed my mind")
	})
	if err == nil {
		s.Fatal("no error")
	}
	same(s, "head after a rollback", head(), want)
}

func leafList(s *fixture, q storage.LeafQuery) []storage.Leaf {
	s.Helper()
	return get(s, func(ctx context.Context, tx *Tx) (list []storage.Leaf, err error) {
		err = tx.Leaves(ctx, q, func(l storage.Leaf) error { list = append(list, l); return nil })
		return list, err
	})
}

func indexes(list []storage.Leaf) []uint64 {
	var is []uint64
	for _, l := range list {
		is = append(is, l.Index)
	}
	return is
}

func testLeaves(s *fixture) {
	s.scopeRow(1, "acme")
	s.scopeRow(2, "acme/signs")
	s.scopeRow(3, "acme/signs/batch-1")
	s.scopeRow(4, "acme-2")
	ann, bob := newID[dataset.PrincipalID](), newID[dataset.PrincipalID]()
	leaves := []storage.Leaf{
		{Index: 0, Slot: 0, Kind: 1, Decision: 1, Time: 100, Data: []byte("zero")},
		{Index: 1, Slot: 1, Kind: 2, Decision: 2, Time: 100, Data: []byte("one"), Principal: ann, Details: []byte("sealed 1")},
		{Index: 2, Slot: 2, Kind: 3, Decision: 255, Time: 200, Data: []byte("two"), Principal: bob, Details: []byte("sealed 2")},
		{Index: 3, Slot: 3, Kind: 65535, Decision: 1, Time: 200, Data: []byte("three"), Principal: ann, Details: []byte("sealed 3")},
		{Index: 4, Slot: 4, Kind: 2, Decision: 1, Time: 300, Data: []byte("four")},
		{Index: 5, Slot: 3, Kind: 2, Decision: 1, Time: 400, Data: bytes.Repeat([]byte{0}, 5000)},
	}
	s.write(func(ctx context.Context, tx *Tx) error { return tx.AppendLeaves(ctx, leaves) })

	same(s, "all", leafList(s, storage.LeafQuery{}), leaves)
	for _, c := range []struct {
		name string
		q    storage.LeafQuery
		want []uint64
	}{
		{"from", storage.LeafQuery{From: 2}, []uint64{2, 3, 4, 5}},
		{"from to", storage.LeafQuery{From: 1, To: 3}, []uint64{1, 2}},
		{"limit", storage.LeafQuery{From: 1, Limit: 2}, []uint64{1, 2}},
		{"root", storage.LeafQuery{Under: dataset.Root}, []uint64{0, 1, 2, 3, 4, 5}},
		{"client", storage.LeafQuery{Under: scope("acme")}, []uint64{1, 2, 3, 5}},
		{"client with a longer name", storage.LeafQuery{Under: scope("acme-2")}, []uint64{4}},
		{"dataset", storage.LeafQuery{Under: scope("acme/signs/batch-1")}, []uint64{3, 5}},
		{"unknown scope", storage.LeafQuery{Under: scope("nobody")}, nil},
		{"person", storage.LeafQuery{Principal: ann}, []uint64{1, 3}},
		{"person and nobody", storage.LeafQuery{Principal: ann, Bare: 2}, []uint64{1, 3, 4, 5}},
		{"decision", storage.LeafQuery{Decision: 1}, []uint64{0, 3, 4, 5}},
		{"decision and kind", storage.LeafQuery{Decision: 1, Kinds: []uint16{2}}, []uint64{4, 5}},
		{"kinds", storage.LeafQuery{Kinds: []uint16{2, 65535}}, []uint64{1, 3, 4, 5}},
		{"since 0", storage.LeafQuery{SinceUS: 1}, []uint64{0, 1, 2, 3, 4, 5}},
		{"since between", storage.LeafQuery{SinceUS: 101}, []uint64{2, 3, 4, 5}},
		{"since exactly", storage.LeafQuery{SinceUS: 200}, []uint64{2, 3, 4, 5}},
		{"since the last", storage.LeafQuery{SinceUS: 400}, []uint64{5}},
		{"since later", storage.LeafQuery{SinceUS: 401}, nil},
		{"since and from", storage.LeafQuery{SinceUS: 101, From: 4}, []uint64{4, 5}},
		{"everything", storage.LeafQuery{From: 1, To: 5, Under: scope("acme"), Principal: ann, Kinds: []uint16{2, 65535}, SinceUS: 150, Limit: 5}, []uint64{3}},
	} {
		same(s, c.name, indexes(leafList(s, c.q)), c.want)
	}

	err := s.try(func(ctx context.Context, tx *Tx) error { return tx.AppendLeaves(ctx, leaves[3:4]) })
	failsWith(s, "an index again", err, storage.ErrExists)

	var data []string
	s.read(func(ctx context.Context, tx *Tx) error {
		return tx.LeafData(ctx, 1, 4, func(index, slot uint64, b []byte) error {
			data = append(data, fmt.Sprintf("%d/%d=%s", index, slot, b))
			return nil
		})
	})
	same(s, "leaf data", data, []string{"1/1=one", "2/2=two", "3/3=three"})

	// The callback's error ends the stream and comes back; the snapshot stays usable.
	stop := errors.New("enough")
	s.read(func(ctx context.Context, tx *Tx) error {
		n := 0
		err := tx.Leaves(ctx, storage.LeafQuery{}, func(storage.Leaf) error { n++; return stop })
		if err != stop || n != 1 {
			s.Errorf("after %d leaves: %v", n, err)
		}
		_, err = tx.Head(ctx)
		return err
	})
}

// testLeavesInBulk crosses every chunk size.
func testLeavesInBulk(s *fixture) {
	const n = 64*3 + 16*2 + 4*3 + 3
	var leaves []storage.Leaf
	for i := range uint64(n) {
		l := storage.Leaf{Index: i, Slot: i % 5, Kind: 1, Time: int64(i), Data: fmt.Appendf(nil, "leaf %d", i)}
		if i%3 != 0 {
			l.Principal, l.Details = newID[dataset.PrincipalID](), fmt.Appendf(nil, "sealed %d", i)
		}
		leaves = append(leaves, l)
	}
	s.write(func(ctx context.Context, tx *Tx) error {
		if err := tx.AppendLeaves(ctx, nil); err != nil {
			return err
		}
		return tx.AppendLeaves(ctx, leaves)
	})
	same(s, "leaves", leafList(s, storage.LeafQuery{}), leaves)
	for _, since := range []int64{1, 100, n - 1, n} {
		if got := len(leafList(s, storage.LeafQuery{SinceUS: since})); got != n-int(since) {
			s.Errorf("since %d: %d leaves", since, got)
		}
	}
}

func testChains(s *fixture) {
	read := func(slots ...uint64) map[uint64]storage.Chain {
		return get(s, func(ctx context.Context, tx *Tx) (map[uint64]storage.Chain, error) { return tx.Chains(ctx, slots) })
	}
	same(s, "no chains", read(1, 2), map[uint64]storage.Chain{})
	var list []storage.Chain
	var slots []uint64
	want := make(map[uint64]storage.Chain)
	for slot := range uint64(70) {
		c := storage.Chain{Slot: slot, Seq: slot * 2, LastIndex: 1<<33 + slot, LastHash: fresh()}
		list, slots = append(list, c), append(slots, slot)
		want[slot] = c
	}
	s.write(func(ctx context.Context, tx *Tx) error { return tx.SetChains(ctx, list) })
	same(s, "chains", read(append(slots, 1000)...), want)
	next := storage.Chain{Slot: 3, Seq: 100, LastIndex: 1 << 40, LastHash: fresh()}
	s.write(func(ctx context.Context, tx *Tx) error { return tx.SetChains(ctx, []storage.Chain{next}) })
	same(s, "replaced", read(3), map[uint64]storage.Chain{3: next})
}

func testOpenReads(s *fixture) {
	var list []storage.OpenRead
	for i := range uint64(70) {
		list = append(list, storage.OpenRead{Index: i * 3, Node: fmt.Sprint("node-", i%2)})
	}
	add := func(node string, indexes ...uint64) error {
		return s.try(func(ctx context.Context, tx *Tx) error { return tx.AddOpenReads(ctx, node, indexes) })
	}
	for i := range uint64(2) {
		var indexes []uint64
		for _, r := range slices.Backward(list) {
			if r.Index/3%2 == i {
				indexes = append(indexes, r.Index)
			}
		}
		if err := add(fmt.Sprint("node-", i), indexes...); err != nil {
			s.Fatal(err)
		}
	}
	if err := add("node-1"); err != nil {
		s.Error(err)
	}
	read := func(limit int) []storage.OpenRead {
		return get(s, func(ctx context.Context, tx *Tx) ([]storage.OpenRead, error) { return tx.OpenReads(ctx, limit) })
	}
	same(s, "all", read(0), list)
	same(s, "two", read(2), list[:2])
	failsWith(s, "again", add("node-1", 1<<40, 0), storage.ErrExists)
	var closed []uint64
	s.write(func(ctx context.Context, tx *Tx) (err error) {
		closed, err = tx.CloseOpenReads(ctx, []uint64{6, 1, 0, 3, 3, 999})
		return err
	})
	same(s, "closed", closed, []uint64{0, 3, 6})
	same(s, "left", read(1), list[3:4])
}

func testMeta(s *fixture) {
	meta := func(ctx context.Context, tx *Tx) ([]byte, error) { return tx.Meta(ctx, "k") }
	failsWith(s, "absent", getErr(s, meta), storage.ErrNoRow)
	for _, value := range [][]byte{[]byte("v"), {}, nil, bytes.Repeat([]byte{0, 255}, 100_000)} {
		s.write(func(ctx context.Context, tx *Tx) error { return tx.SetMeta(ctx, "k", value) })
		if got := get(s, meta); !bytes.Equal(got, value) {
			s.Errorf("meta of %d bytes came back as %d", len(value), len(got))
		}
	}
}

func TestPage(t *testing.T) {
	for limit, want := range map[int]int64{-1: MaxPage, 0: MaxPage, 1: 1, MaxPage: MaxPage, MaxPage + 1: MaxPage} {
		if got := page(limit); got != want {
			t.Errorf("page(%d) = %d", limit, got)
		}
	}
}

func TestTooManyKinds(t *testing.T) {
	s := &fixture{T: t, db: open(t, "sqlite:"+filepath.Join(t.TempDir(), "x.db"))}
	err := getErr(s, func(ctx context.Context, tx *Tx) (any, error) {
		return nil, tx.Leaves(ctx, storage.LeafQuery{Kinds: make([]uint16, 101)}, nil)
	})
	if !fault.Is(err, fault.TooLarge) {
		t.Fatal(err)
	}
}
