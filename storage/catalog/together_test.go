package catalog

import (
	"context"
	"errors"
	"slices"
	"testing"

	"dsvault/storage"
	"dsvault/vault/fault"
)

// twoBatches are more than fit into one batch.
func twoBatches() []storage.Leaf {
	list := make([]storage.Leaf, 3*maxBatchLeaves/2)
	for i := range list {
		list[i] = storage.Leaf{Index: uint64(i), Slot: uint64(i % 3), Data: []byte{byte(i), byte(i >> 8)}}
		if i%2 == 0 {
			list[i].Principal, list[i].Details = fresh16(), []byte{byte(i)}
		}
	}
	return list
}

// appendAll writes as an admission does.
func appendAll(ctx context.Context, tx *Tx, list []storage.Leaf) error {
	return tx.Together(ctx, func() error {
		if err := tx.AppendLeaves(ctx, list); err != nil {
			return err
		}
		if err := tx.SetChains(ctx, []storage.Chain{{Slot: 1, Seq: 7}}); err != nil {
			return err
		}
		if err := tx.AddOpenReads(ctx, "node", []uint64{list[0].Index}); err != nil {
			return err
		}
		return tx.SetHead(ctx, storage.Head{Size: list[0].Index + uint64(len(list)), NextSlot: 2})
	})
}

// testTogether: writes that share a round trip are all there, or none of them.
func testTogether(s *fixture) {
	want := twoBatches()
	state := func(wants string) {
		s.Helper()
		if got := leafList(s, storage.LeafQuery{}); !slices.EqualFunc(got, want, sameLeaf) {
			s.Fatalf("%s: the leaves are not those that were appended", wants)
		}
		head := get(s, func(ctx context.Context, tx *Tx) (storage.Head, error) { return tx.Head(ctx) })
		same(s, "head "+wants, head, storage.Head{Size: uint64(len(want)), NextSlot: 2})
		chains := get(s, func(ctx context.Context, tx *Tx) (map[uint64]storage.Chain, error) {
			return tx.Chains(ctx, []uint64{1, 2})
		})
		same(s, "chains "+wants, chains, map[uint64]storage.Chain{1: {Slot: 1, Seq: 7}})
		open := get(s, func(ctx context.Context, tx *Tx) ([]storage.OpenRead, error) { return tx.OpenReads(ctx, 0) })
		same(s, "open reads "+wants, open, []storage.OpenRead{{Index: 0, Node: "node"}})
	}
	s.write(func(ctx context.Context, tx *Tx) error { return appendAll(ctx, tx, want) })
	state("written")

	// What has a mistake in it leaves nothing, wherever that is, and breaks the
	// transaction; a savepoint mends it.
	next := []storage.Leaf{{Index: uint64(len(want))}}
	mind := errors.New("changed my mind")
	for name, bad := range map[string]struct {
		write func(ctx context.Context, tx *Tx) error
		is    error
	}{
		"a leaf that is there": {func(ctx context.Context, tx *Tx) error { return tx.AppendLeaves(ctx, want[:1]) }, storage.ErrExists},
		"an open read that is there": {func(ctx context.Context, tx *Tx) error {
			return tx.AddOpenReads(ctx, "node", []uint64{0})
		}, storage.ErrExists},
		"no row":  {func(ctx context.Context, tx *Tx) error { return tx.EndLink(ctx, fresh16(), day(1)) }, storage.ErrNoRow},
		"its own": {func(ctx context.Context, tx *Tx) error { return mind }, mind},
	} {
		both := func(ctx context.Context, tx *Tx) error {
			return tx.Together(ctx, func() error {
				err := tx.AppendLeaves(ctx, next)
				if err == nil {
					err = tx.SetHead(ctx, storage.Head{Size: 1 << 40})
				}
				if err == nil {
					err = bad.write(ctx, tx)
				}
				if err == nil {
					err = tx.SetChains(ctx, []storage.Chain{{Slot: 2}})
				}
				return err
			})
		}
		failsWith(s, name, s.try(both), bad.is)
		tx, err := s.db.Begin(s.Context())
		if err != nil {
			s.Fatal(err)
		}
		failsWith(s, name, both(s.Context(), tx), bad.is)
		failsWith(s, name+", then a commit", tx.Commit(), bad.is)
		state(name)
		s.write(func(ctx context.Context, tx *Tx) error {
			failsWith(s, name+", in a savepoint", tx.Savepoint(ctx, func() error { return both(ctx, tx) }), bad.is)
			return s.setMeta(ctx, tx, name)
		})
		same(s, "meta", s.metas(name), name)
		state(name)
	}

	gone, cancel := context.WithCancel(s.Context())
	tx, err := s.db.Begin(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	cancel()
	failsWith(s, "canceled", appendAll(gone, tx, next), context.Canceled)
	failsWith(s, "canceled, then a commit", tx.Commit(), context.Canceled)
	state("canceled")
}

// TestTogetherOnlyWrites: nobody takes what was not sent for what is there.
func TestTogetherOnlyWrites(t *testing.T) {
	s := &fixture{T: t, db: open(t, postgresDSN(t))}
	for name, f := range map[string]func(ctx context.Context, tx *Tx) error{
		"reads":       func(ctx context.Context, tx *Tx) error { _, err := tx.Head(ctx); return err },
		"counts rows": func(ctx context.Context, tx *Tx) error { return tx.DropDeadNodes(ctx) },
		"savepoint":   func(ctx context.Context, tx *Tx) error { return tx.Savepoint(ctx, func() error { return nil }) },
		"together":    func(ctx context.Context, tx *Tx) error { return tx.Together(ctx, func() error { return nil }) },
		"commits":     func(ctx context.Context, tx *Tx) error { return tx.Commit() },
	} {
		err := s.try(func(ctx context.Context, tx *Tx) error {
			return tx.Together(ctx, func() error {
				if err := s.setMeta(ctx, tx, "a"); err != nil {
					return err
				}
				return f(ctx, tx)
			})
		})
		if !fault.Is(err, fault.Internal) {
			t.Errorf("%s: %v", name, err)
		}
	}
	same(t, "what stayed", s.metas("a"), "")
}
