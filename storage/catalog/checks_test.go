package catalog

import (
	"context"
	"slices"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

func testChecks(s *fixture) {
	newCheck := func(path string, n int) storage.Check {
		return storage.Check{ID: newID[dataset.CheckID](), Slot: 3, Scope: scope(path), Data: true, Repair: true, Rate: 1 << 40, State: storage.CheckRunning,
			StartedAt: day(n), StartedBy: newID[dataset.PrincipalID](), MovedAt: day(n), Objects: 7, Bytes: 1 << 50}
	}
	a, b, c := newCheck("acme/signs", 1), newCheck("acme", 2), newCheck("/", 2)
	b.Data, c.Scheduled = false, true
	if b.ID.String() < c.ID.String() {
		b.ID, c.ID = c.ID, b.ID
	}
	s.write(func(ctx context.Context, tx *Tx) error {
		for _, row := range []storage.Check{b, a, c} {
			if err := tx.AddCheck(ctx, row); err != nil {
				return err
			}
		}
		return nil
	})
	list := func(under string, before dataset.CheckID, limit int) []storage.Check {
		return get(s, func(ctx context.Context, tx *Tx) ([]storage.Check, error) {
			return tx.Checks(ctx, scope(under), before, limit)
		})
	}
	one := func(id dataset.CheckID) storage.Check {
		return get(s, func(ctx context.Context, tx *Tx) (storage.Check, error) { return tx.Check(ctx, id) })
	}
	newest := []storage.Check{b, c}
	slices.SortFunc(newest, func(x, y storage.Check) int { return slices.Compare(y.ID[:], x.ID[:]) })
	same(s, "all", list("/", dataset.CheckID{}, 0), append(slices.Clone(newest), a))
	same(s, "page", list("/", newest[0].ID, 1), newest[1:])
	same(s, "under", list("acme", dataset.CheckID{}, 0), []storage.Check{b, a})
	last := func(data bool) (storage.Check, error) {
		var found storage.Check
		err := getErr(s, func(ctx context.Context, tx *Tx) (any, error) {
			var err error
			found, err = tx.LastScheduled(ctx, data)
			return nil, err
		})
		return found, err
	}
	if found, err := last(true); err != nil || found.ID != c.ID {
		s.Errorf("the last scheduled: %+v, %v", found, err)
	}
	_, err := last(false)
	failsWith(s, "none scheduled without data", err, storage.ErrNoRow)

	// Claims.
	claim := func(node string) error {
		return s.try(func(ctx context.Context, tx *Tx) error { return tx.ClaimCheck(ctx, a.ID, node) })
	}
	same(s, "claimed", claim("one"), nil)
	same(s, "claimed by another", claim("two"), nil)
	a.Node, a.MovedAt, a.CursorScope, a.CursorKey, a.Ahead, a.Problem = "one", day(7), "acme/signs/b", "v1/x", 5, "waits"
	a.Tally = storage.Tally{Checked: 1, Read: 1 << 41, Missing: 2, Changed: 3, Extra: 4, Leftovers: 5, Repaired: 6, Findings: 7}
	save := func(row storage.Check) error {
		return s.try(func(ctx context.Context, tx *Tx) error { return tx.SaveCheck(ctx, row) })
	}
	failsWith(s, "saved by another", save(a), storage.ErrNoRow)
	a.Node = "two"
	same(s, "saved", save(a), nil)
	same(s, "saved row", one(a.ID), a)
	s.write(func(ctx context.Context, tx *Tx) error { return tx.EndCheck(ctx, a.ID, storage.CheckCanceled, day(8)) })
	failsWith(s, "saved after its end", save(a), storage.ErrNoRow)
	failsWith(s, "claimed after its end", claim("two"), storage.ErrNoRow)
	failsWith(s, "ended twice", s.try(func(ctx context.Context, tx *Tx) error { return tx.EndCheck(ctx, a.ID, storage.CheckFailed, day(9)) }), storage.ErrNoRow)
	if got := one(a.ID); got.State != storage.CheckCanceled || !got.EndedAt.Equal(day(8)) {
		s.Errorf("ended: %+v", got)
	}
	running := get(s, func(ctx context.Context, tx *Tx) ([]storage.Check, error) { return tx.RunningChecks(ctx) })
	if len(running) != 2 {
		s.Errorf("%d run", len(running))
	}

	s.findings(a.ID)
	s.write(func(ctx context.Context, tx *Tx) error { return tx.DropChecks(ctx, day(8)) })
	same(s, "kept", len(list("/", dataset.CheckID{}, 0)), 3)
	s.write(func(ctx context.Context, tx *Tx) error { return tx.DropChecks(ctx, day(9)) })
	same(s, "dropped", list("/", dataset.CheckID{}, 0), newest)
	left := get(s, func(ctx context.Context, tx *Tx) ([]storage.Finding, error) { return tx.Findings(ctx, a.ID, -1, 0) })
	same(s, "dropped findings", len(left), 0)
}

// findings adds some to a check.
func (s *fixture) findings(id dataset.CheckID) {
	s.Helper()
	var want []storage.Finding
	for i := range 5 {
		want = append(want, storage.Finding{Number: i, Kind: storage.FoundMissing, Key: "v1/k", Scope: scope("acme/signs/b"), Shard: i, Repaired: i == 1, Detail: "gone"})
	}
	want[4].Scope, want[4].Shard, want[4].Kind = dataset.Scope{}, -1, storage.FoundExtra
	s.write(func(ctx context.Context, tx *Tx) error { return tx.AddFindings(ctx, id, want) })
	found := func(after, limit int) []storage.Finding {
		return get(s, func(ctx context.Context, tx *Tx) ([]storage.Finding, error) {
			return tx.Findings(ctx, id, after, limit)
		})
	}
	same(s, "findings", found(-1, 0), want)
	same(s, "findings, page", found(1, 2), want[2:4])
	failsWith(s, "of no check", s.try(func(ctx context.Context, tx *Tx) error {
		return tx.AddFindings(ctx, newID[dataset.CheckID](), want)
	}), storage.ErrNoRow)
}

func testStoredObjects(s *fixture) {
	d, e := s.dataset(1, "acme/signs/batch-1", 1), s.dataset(2, "acme/lamps/batch-2", 1)
	var want []storage.StoredObject
	var bytes int64
	for i, id := range []dataset.DatasetID{d.ID, d.ID, e.ID} {
		n := 2 * i
		sh := newShard(id, n)
		sh.Key, sh.Index = string(rune('c'-i))+".age", storage.Index{}
		if i == 1 {
			hash := fresh()
			sh.Index = storage.Index{ETag: "x", Size: 100, SHA256: hash[:], Header: []byte("head")}
			want = append([]storage.StoredObject{{Key: "b.index.age", Dataset: id, Number: n, Index: true, ETag: "x", Size: 100, SHA256: hash[:], HeaderSize: 4}}, want...)
		}
		s.put(sh)
		want = append([]storage.StoredObject{{Key: sh.Key, Dataset: id, Number: n, ETag: sh.ETag, Size: sh.SealedSize, SHA256: sh.SHA256[:],
			PlainSize: sh.PlainSize, HeaderSize: int64(len(sh.Header)), ManifestSize: int64(len(sh.Manifest)), PartSize: sh.PartSize}}, want...)
		bytes += sh.SealedSize + sh.Index.Size
	}
	stored := func(after string, limit int) []storage.StoredObject {
		return get(s, func(ctx context.Context, tx *Tx) ([]storage.StoredObject, error) {
			return tx.StoredObjects(ctx, after, limit)
		})
	}
	same(s, "objects", stored("", 0), want)
	same(s, "objects, page", stored("a.age", 1), want[1:3])
	total := func(under string) [2]int64 {
		var t [2]int64
		s.read(func(ctx context.Context, tx *Tx) (err error) {
			t[0], t[1], err = tx.StoredTotals(ctx, scope(under))
			return err
		})
		return t
	}
	same(s, "totals", total("/"), [2]int64{4, bytes})
	same(s, "totals of a project", total("acme/lamps"), [2]int64{1, want[0].Size})
	same(s, "totals of nothing", total("other"), [2]int64{})

	under := func(path, after string, limit int) []storage.Dataset {
		return get(s, func(ctx context.Context, tx *Tx) ([]storage.Dataset, error) {
			return tx.DatasetsUnder(ctx, scope(path), after, limit)
		})
	}
	same(s, "datasets", under("/", "", 0), []storage.Dataset{e, d})
	same(s, "datasets, page", under("acme", e.Scope.String(), 1), []storage.Dataset{d})
	same(s, "one dataset", under(d.Scope.String(), "", 0), []storage.Dataset{d})

	for i, o := range want {
		repin := func() error {
			return s.try(func(ctx context.Context, tx *Tx) error { return tx.SetETag(ctx, o.Key, o.ETag, "new") })
		}
		same(s, "pinned anew", repin(), nil)
		failsWith(s, "pinned anew twice", repin(), storage.ErrNoRow)
		same(s, "the new pin", stored("", 0)[i].ETag, "new")
	}

	at := storage.Attempt{ID: newID[dataset.AttemptID](), Dataset: d.ID, Key: "kx", StartedAt: day(1), StartedBy: newID[dataset.PrincipalID]()}
	s.write(func(ctx context.Context, tx *Tx) error { return tx.AddAttempt(ctx, at) })
	after := func(key string) []storage.Attempt {
		return get(s, func(ctx context.Context, tx *Tx) ([]storage.Attempt, error) { return tx.AttemptsAfter(ctx, key, 0) })
	}
	same(s, "attempts", after("kw"), []storage.Attempt{at})
	same(s, "no attempts", len(after("kx")), 0)
	same(s, "attempt by key", get(s, func(ctx context.Context, tx *Tx) (storage.Attempt, error) { return tx.AttemptByKey(ctx, "kx") }), at)
}

func testMissingShards(s *fixture) {
	d := s.dataset(1, "acme/signs/batch-1", 1)
	for _, n := range []int{0, 2} {
		s.put(newShard(d.ID, n))
	}
	missing := func(of string, limit int) (list []int, count int) {
		set, err := dataset.ParseShardSet(of)
		if err != nil {
			s.Fatal(err)
		}
		s.read(func(ctx context.Context, tx *Tx) (err error) {
			list, count, err = tx.MissingShards(ctx, d.ID, set, limit)
			return err
		})
		return list, count
	}
	for _, c := range []struct {
		of           string
		limit, count int
		want         []int
	}{{"0", 9, 0, nil}, {"0,2", 9, 0, nil}, {"0-2", 9, 1, []int{1}}, {"0-5", 9, 4, []int{1, 3, 4, 5}}, {"0-5", 2, 4, []int{1, 3}}, {"7-8", 9, 2, []int{7, 8}}} {
		if list, count := missing(c.of, c.limit); count != c.count || !slices.Equal(list, c.want) {
			s.Errorf("missing of %s: %v, %d; want %v, %d", c.of, list, count, c.want, c.count)
		}
	}
}
