package catalog

import (
	"bytes"
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

// testMovedVersions: what was complete before there were versions is version 1.
func testMovedVersions(s *fixture) {
	old := s.before(2)
	db := old.rawDB()
	blob := func(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }
	for i, shards := range []int{3, 1, 0} {
		slot, path, id := int64(i+1), fmt.Sprint("acme/signs/d", i), blob(byte(i+1), 16)
		old.rawExec(db, "INSERT INTO scopes (slot, path, tag, created_at, created_by) VALUES ($1, $2, $3, 1, $3)", slot, path, id)
		complete := min(shards, 1)
		old.rawExec(db, "INSERT INTO datasets (id, slot, path, tag, state, recipient, salt, complete, shards, revision, created_at, created_by)"+
			" VALUES ($1, $2, $3, $1, 'active', 'age1', $4, $5, $6, 1, 1, $1)", id, slot, path, blob(9, 32), int64(complete), int64(shards))
		for n := range max(shards, 2) { // the last one has two shards and is not complete
			if complete == 1 && n >= shards {
				break
			}
			old.rawExec(db, "INSERT INTO shards (dataset, number, attempt, object, etag, sealed_size, plain_size, sha256, header, nonce, fingerprint, manifest, committed_at, committed_by)"+
				" VALUES ($1, $2, $3, $4, 'e', 20, 10, $5, $5, $6, $5, $5, $7, $1)",
				id, int64(n), blob(byte(16*i+n), 16), fmt.Sprint("k", i, n), blob(7, 32), blob(byte(100+16*i+n), 16), int64(1000+n))
		}
	}
	old.rawExec(db, "INSERT INTO attempts (id, dataset, number, object, plain_size, fingerprint, etag, sealed_size, sha256, started_at, started_by)"+
		" VALUES ($1, $2, 5, 'a', 10, $3, '', 0, $3, 1, $1)", blob(200, 16), blob(3, 16), blob(7, 32))
	db.Close()
	old.db = open(s.T, old.url)

	for i, want := range []string{"0-2", "0", ""} {
		d := get(old, func(ctx context.Context, tx *Tx) (storage.Dataset, error) {
			return tx.Dataset(ctx, scope(fmt.Sprint("acme/signs/d", i)))
		})
		shards := get(old, func(ctx context.Context, tx *Tx) ([]storage.Shard, error) { return tx.Shards(ctx, d.ID, -1, 0) })
		all := get(old, func(ctx context.Context, tx *Tx) ([]storage.Version, error) { return tx.Versions(ctx, d.ID, 0, 0) })
		if want == "" {
			if d.Version != 0 || d.Complete || len(all) != 0 || len(shards) != 2 || shards[0].Version != 0 || shards[0].Index.Size != 0 {
				s.Errorf("an incomplete dataset: %+v, %v, %+v", d, all, shards)
			}
			continue
		}
		if len(all) != 1 || all[0].Shards.String() != want || all[0].PlainSize != int64(10*len(shards)) || all[0].SealedSize != int64(20*len(shards)) ||
			d.Version != 1 || !d.Complete || d.Shards != len(shards) || d.Push != 0 {
			s.Errorf("%+v, %+v", d, all)
		}
		for _, sh := range shards {
			same(s, "version of a shard", sh.Version, 1)
		}
	}
	if a := get(old, func(ctx context.Context, tx *Tx) (storage.Attempt, error) {
		return tx.Attempt(ctx, dataset.AttemptID(blob(200, 16)))
	}); a.Number != 5 || a.Index.Size != 0 {
		s.Errorf("%+v", a)
	}
}
