package catalog

import (
	"context"
	"fmt"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

func testVersions(s *fixture) {
	d, e := s.dataset(1, "acme/signs/batch-1", 1), s.dataset(2, "acme/signs/batch-2", 1)
	var all []storage.Shard
	for n := range 6 {
		all = append(all, newShard(d.ID, n))
		s.put(all[n])
	}
	other := newShard(e.ID, 0)
	s.put(other)
	sum := func(set dataset.ShardSet) []int64 {
		return get(s, func(ctx context.Context, tx *Tx) ([]int64, error) {
			count, versioned, plain, sealed, err := tx.ShardSum(ctx, d.ID, set)
			return []int64{int64(count), int64(versioned), plain, sealed}, err
		})
	}
	add := func(v storage.Version) (dropped []storage.Shard) {
		s.write(func(ctx context.Context, tx *Tx) (err error) {
			if dropped, err = tx.DropSpareShards(ctx, d.ID, v.Shards.Set()); err != nil {
				return err
			}
			return tx.AddVersion(ctx, v, uint64(9+v.Version))
		})
		return dropped
	}
	one := storage.Version{Dataset: d.ID, Version: 1, Shards: dataset.ShardList{{First: 4, Last: 5}, {First: 0, Last: 1}}, PlainSize: 1 << 42,
		SealedSize: 1 << 43, CompletedAt: day(5), CompletedBy: newID[dataset.PrincipalID]()}
	same(s, "dropped", add(one), all[2:4])
	same(s, "sum", sum(dataset.ShardSet{{First: 0, Last: 2}, {First: 5, Last: 9}}), []int64{3, 3, 3 << 40, 3<<40 + 3})
	third := newShard(d.ID, 7)
	s.put(third)
	s.put(newShard(d.ID, 8))
	same(s, "sum with spare ones", sum(dataset.ShardSet{{First: 5, Last: 9}}), []int64{3, 1, 3 << 40, 3<<40 + 3})
	two := storage.Version{Dataset: d.ID, Version: 2, Shards: dataset.ShardList{{First: 7, Last: 7}, {First: 0, Last: 0}}, CompletedAt: day(6)}
	if dropped := add(two); len(dropped) != 1 || dropped[0].Number != 8 {
		s.Errorf("dropped %v", dropped)
	}
	for n, want := range map[int]int{0: 1, 1: 1, 4: 1, 5: 1, 7: 2} {
		same(s, fmt.Sprint("version of ", n), get(s, func(ctx context.Context, tx *Tx) (storage.Shard, error) { return tx.Shard(ctx, d.ID, n) }).Version, want)
	}
	same(s, "of another dataset", get(s, func(ctx context.Context, tx *Tx) (storage.Shard, error) { return tx.Shard(ctx, e.ID, 0) }), other)
	list := func(after, limit int) []storage.Version {
		return get(s, func(ctx context.Context, tx *Tx) ([]storage.Version, error) {
			return tx.Versions(ctx, d.ID, after, limit)
		})
	}
	same(s, "all", list(0, 0), []storage.Version{one, two})
	same(s, "page", list(1, 1), []storage.Version{two})
	same(s, "one", get(s, func(ctx context.Context, tx *Tx) (storage.Version, error) { return tx.Version(ctx, d.ID, 1) }), one)
	failsWith(s, "no such version", getErr(s, func(ctx context.Context, tx *Tx) (any, error) { return tx.Version(ctx, d.ID, 3) }), storage.ErrNoRow)
	now := get(s, func(ctx context.Context, tx *Tx) (storage.Dataset, error) { return tx.DatasetByID(ctx, d.ID) })
	same(s, "newest", []any{now.Complete, now.Version, now.Shards, now.Revision}, []any{true, 2, 2, uint64(11)})

	push := func(ctx context.Context, tx *Tx) (int, error) { return tx.BeginPush(ctx, d.ID) }
	for want := 1; want < 3; want++ {
		var n int
		s.write(func(ctx context.Context, tx *Tx) (err error) { n, err = push(ctx, tx); return err })
		same(s, "push", n, want)
	}
	failsWith(s, "push to nothing", s.try(func(ctx context.Context, tx *Tx) error {
		_, err := tx.BeginPush(ctx, newID[dataset.DatasetID]())
		return err
	}), storage.ErrNoRow)
}
