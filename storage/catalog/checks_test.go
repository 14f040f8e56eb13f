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
	claim := func(node string, now, until int) error {
		return s.try(func(ctx context.Context, tx *Tx) error { return tx.ClaimCheck(ctx, a.ID, node, day(now), day(until)) })
	}
	for _, step := range []struct {
		node       string
		now, until int
		want       error
	}{{"one", 1, 5, nil}, {"two", 4, 9, storage.ErrNoRow}, {"one", 4, 6, nil}, {"two", 5, 9, storage.ErrNoRow}, {"two", 6, 9, nil}, {"one", 7, 9, storage.ErrNoRow}} {
		if err := claim(step.node, step.now, step.until); step.want == nil {
			same(s, "claimed", err, nil)
		} else {
			failsWith(s, "claimed by another", err, step.want)
		}
	}
	a.Node, a.Lease, a.MovedAt, a.CursorScope, a.CursorKey, a.Ahead, a.Problem = "one", day(10), day(7), "acme/signs/b", "v1/x", 5, "waits"
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
	failsWith(s, "claimed after its end", claim("two", 50, 60), storage.ErrNoRow)
	failsWith(s, "ended twice", s.try(func(ctx context.Context, tx *Tx) error { return tx.EndCheck(ctx, a.ID, storage.CheckFailed, day(9)) }), storage.ErrNoRow)
	if got := one(a.ID); got.State != storage.CheckCanceled || !got.EndedAt.Equal(day(8)) {
		s.Errorf("ended: %+v", got)
	}
	running := get(s, func(ctx context.Context, tx *Tx) ([]storage.Check, error) { return tx.RunningChecks(ctx) })
	if len(running) != 2 {
		s.Errorf("%d run", len(running))
	}

	// Findings.
	var want []storage.Finding
	for i := range 5 {
		want = append(want, storage.Finding{Number: i, Kind: storage.FoundMissing, Key: "v1/k", Scope: scope("acme/signs/b"), Shard: i, Repaired: i == 1, Detail: "gone"})
	}
	want[4].Scope, want[4].Shard, want[4].Kind = dataset.Scope{}, -1, storage.FoundExtra
	s.write(func(ctx context.Context, tx *Tx) error { return tx.AddFindings(ctx, a.ID, want) })
	found := func(after, limit int) []storage.Finding {
		return get(s, func(ctx context.Context, tx *Tx) ([]storage.Finding, error) {
			return tx.Findings(ctx, a.ID, after, limit)
		})
	}
	same(s, "findings", found(-1, 0), want)
	same(s, "findings, page", found(1, 2), want[2:4])
	failsWith(s, "of no check", s.try(func(ctx context.Context, tx *Tx) error {
		return tx.AddFindings(ctx, newID[dataset.CheckID](), want)
	}), storage.ErrNoRow)

	s.write(func(ctx context.Context, tx *Tx) error { return tx.DropChecks(ctx, day(8)) })
	same(s, "kept", len(list("/", dataset.CheckID{}, 0)), 3)
	s.write(func(ctx context.Context, tx *Tx) error { return tx.DropChecks(ctx, day(9)) })
	same(s, "dropped", list("/", dataset.CheckID{}, 0), newest)
	same(s, "dropped findings", len(found(-1, 0)), 0)
}

func testStoredObjects(s *fixture) {
	d, e := s.dataset(1, "acme/signs/batch-1", 1), s.dataset(2, "acme/lamps/batch-2", 1)
	var want []storage.StoredObject
	var bytes int64
	for i, id := range []dataset.DatasetID{d.ID, d.ID, e.ID} {
		n := 2 * i
		sh := newShard(id, n)
		sh.Key = "k" + string(rune('c'-i))
		s.put(sh)
		want = append([]storage.StoredObject{{Key: sh.Key, Dataset: id, Number: n, ETag: sh.ETag, Size: sh.SealedSize, SHA256: sh.SHA256,
			PlainSize: sh.PlainSize, HeaderSize: int64(len(sh.Header)), ManifestSize: int64(len(sh.Manifest))}}, want...)
		bytes += sh.SealedSize
	}
	stored := func(after string, limit int) []storage.StoredObject {
		return get(s, func(ctx context.Context, tx *Tx) ([]storage.StoredObject, error) {
			return tx.StoredObjects(ctx, after, limit)
		})
	}
	same(s, "objects", stored("", 0), want)
	same(s, "objects, page", stored("ka", 1), want[1:2])
	total := func(under string) [2]int64 {
		var t [2]int64
		s.read(func(ctx context.Context, tx *Tx) (err error) {
			t[0], t[1], err = tx.StoredTotals(ctx, scope(under))
			return err
		})
		return t
	}
	same(s, "totals", total("/"), [2]int64{3, bytes})
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

	missing := func(n, limit int) (list []int, count int) {
		s.read(func(ctx context.Context, tx *Tx) (err error) {
			list, count, err = tx.MissingShards(ctx, d.ID, n, limit)
			return err
		})
		return list, count
	}
	for _, c := range []struct {
		n, limit, count int
		want            []int
	}{{0, 9, 0, nil}, {1, 9, 0, nil}, {3, 9, 1, []int{1}}, {6, 9, 4, []int{1, 3, 4, 5}}, {6, 2, 4, []int{1, 3}}} {
		if list, count := missing(c.n, c.limit); count != c.count || !slices.Equal(list, c.want) {
			s.Errorf("missing of %d: %v, %d; want %v, %d", c.n, list, count, c.want, c.count)
		}
	}

	repin := func(was string) error {
		return s.try(func(ctx context.Context, tx *Tx) error { return tx.SetShardETag(ctx, "kc", was, "new") })
	}
	same(s, "pinned anew", repin(want[2].ETag), nil)
	failsWith(s, "pinned anew twice", repin(want[2].ETag), storage.ErrNoRow)
	same(s, "the new pin", stored("kb", 0)[0].ETag, "new")

	at := storage.Attempt{ID: newID[dataset.AttemptID](), Dataset: d.ID, Key: "kx", StartedAt: day(1), StartedBy: newID[dataset.PrincipalID]()}
	s.write(func(ctx context.Context, tx *Tx) error { return tx.AddAttempt(ctx, at) })
	after := func(key string) []storage.Attempt {
		return get(s, func(ctx context.Context, tx *Tx) ([]storage.Attempt, error) { return tx.AttemptsAfter(ctx, key, 0) })
	}
	same(s, "attempts", after("kw"), []storage.Attempt{at})
	same(s, "no attempts", len(after("kx")), 0)
	same(s, "attempt by key", get(s, func(ctx context.Context, tx *Tx) (storage.Attempt, error) { return tx.AttemptByKey(ctx, "kx") }), at)
}
