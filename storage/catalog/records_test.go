package catalog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

func paths(list []storage.ScopeRow) []string {
	var names []string
	for _, row := range list {
		names = append(names, row.Scope.String())
	}
	return names
}

func testScopes(s *fixture) {
	signs := s.scopeRow(2, "acme/signs")
	s.scopeRow(0, "/")
	for i, path := range []string{"acme", "acme/signs/batch-1", "acme/signs-2", "acme-2", "acme.x/p", "beta"} {
		s.scopeRow(uint64(10+i), path)
	}
	same(s, "by path", get(s, func(ctx context.Context, tx *Tx) (storage.ScopeRow, error) { return tx.Scope(ctx, signs.Scope) }), signs)
	same(s, "by slot", get(s, func(ctx context.Context, tx *Tx) (storage.ScopeRow, error) { return tx.ScopeBySlot(ctx, 2) }), signs)
	failsWith(s, "unknown path", getErr(s, func(ctx context.Context, tx *Tx) (any, error) { return tx.Scope(ctx, scope("nope")) }), storage.ErrNoRow)
	failsWith(s, "unknown slot", getErr(s, func(ctx context.Context, tx *Tx) (any, error) { return tx.ScopeBySlot(ctx, 99) }), storage.ErrNoRow)

	under := func(sc dataset.Scope, after string, limit int) []string {
		return paths(get(s, func(ctx context.Context, tx *Tx) ([]storage.ScopeRow, error) {
			return tx.ScopesUnder(ctx, sc, after, limit)
		}))
	}
	all := []string{"/", "acme", "acme-2", "acme.x/p", "acme/signs", "acme/signs-2", "acme/signs/batch-1", "beta"}
	same(s, "all", under(dataset.Root, "", 0), all)
	same(s, "all of the zero scope", under(dataset.Scope{}, "", 0), all)
	same(s, "page", under(dataset.Root, "acme-2", 2), all[3:5])
	same(s, "client", under(scope("acme"), "", 0), []string{"acme", "acme/signs", "acme/signs-2", "acme/signs/batch-1"})
	same(s, "client, page", under(scope("acme"), "acme", 1), []string{"acme/signs"})
	same(s, "project", under(scope("acme/signs"), "", 0), []string{"acme/signs", "acme/signs/batch-1"})
	same(s, "by slot, page", paths(get(s, func(ctx context.Context, tx *Tx) ([]storage.ScopeRow, error) { return tx.ScopesFrom(ctx, 2, 2) })),
		[]string{"acme/signs", "acme"})

	for what, row := range map[string]storage.ScopeRow{
		"slot": {Slot: 2, Scope: scope("new"), Tag: fresh16()},
		"path": {Slot: 50, Scope: signs.Scope, Tag: fresh16()},
		"tag":  {Slot: 51, Scope: scope("new"), Tag: signs.Tag},
	} {
		failsWith(s, "same "+what, s.try(func(ctx context.Context, tx *Tx) error { return tx.AddScope(ctx, row) }), storage.ErrExists)
	}
}

// caughtUp collects what a …Since method yields.
func caughtUp[T any](s *fixture, rev uint64, since func(*Tx, context.Context, uint64, func(T, uint64) error) error) (rows []T, revs []uint64) {
	s.Helper()
	s.read(func(ctx context.Context, tx *Tx) error {
		return since(tx, ctx, rev, func(row T, rev uint64) error {
			rows, revs = append(rows, row), append(revs, rev)
			return nil
		})
	})
	return rows, revs
}

func testProjects(s *fixture) {
	s.scopeRow(1, "acme/signs")
	s.scopeRow(2, "acme/lamps")
	p := storage.Project{Slot: 1, Scope: scope("acme/signs"), Purposes: []string{"labeling", `a "quoted" purpose, ünd`}, Region: "EU",
		Sensitive: true, Contract: "C-1",
		Delivery: []dataset.Delivery{dataset.Opened, dataset.Direct}, Revision: 4}
	q := storage.Project{Slot: 2, Scope: scope("acme/lamps"), Revision: 3}
	read := func(path string) storage.Project {
		return get(s, func(ctx context.Context, tx *Tx) (storage.Project, error) { return tx.Project(ctx, scope(path)) })
	}
	s.write(func(ctx context.Context, tx *Tx) error {
		if err := tx.PutProject(ctx, p); err != nil {
			return err
		}
		return tx.PutProject(ctx, q)
	})
	same(s, "project", read("acme/signs"), p)
	same(s, "bare project", read("acme/lamps"), q)
	rows, revs := caughtUp(s, 0, (*Tx).ProjectsSince)
	same(s, "since 0", rows, []storage.Project{q, p})
	same(s, "revisions", revs, []uint64{3, 4})
	q.Purposes, q.Revision = []string{"review"}, 5
	s.write(func(ctx context.Context, tx *Tx) error { return tx.PutProject(ctx, q) })
	rows, _ = caughtUp(s, 4, (*Tx).ProjectsSince)
	same(s, "since 4", rows, []storage.Project{q})
	failsWith(s, "unknown", getErr(s, func(ctx context.Context, tx *Tx) (any, error) { return tx.Project(ctx, scope("acme/x")) }), storage.ErrNoRow)
	orphan := storage.Project{Slot: 9, Scope: scope("acme/x")}
	failsWith(s, "without a scope", s.try(func(ctx context.Context, tx *Tx) error { return tx.PutProject(ctx, orphan) }), storage.ErrNoRow)
}

func testDatasets(s *fixture) {
	d := s.dataset(1, "acme/signs/batch-1", 2)
	e := s.dataset(2, "acme/signs/batch-2", 3)
	byID := func(id dataset.DatasetID) storage.Dataset {
		return get(s, func(ctx context.Context, tx *Tx) (storage.Dataset, error) { return tx.DatasetByID(ctx, id) })
	}
	same(s, "by path", get(s, func(ctx context.Context, tx *Tx) (storage.Dataset, error) { return tx.Dataset(ctx, d.Scope) }), d)
	same(s, "by ID", byID(e.ID), e)
	failsWith(s, "again", s.try(func(ctx context.Context, tx *Tx) error { return tx.AddDataset(ctx, d) }), storage.ErrExists)
	foreign := d
	foreign.ID, foreign.Slot, foreign.Scope = newID[dataset.DatasetID](), 77, scope("a/b/c")
	failsWith(s, "without a scope", s.try(func(ctx context.Context, tx *Tx) error { return tx.AddDataset(ctx, foreign) }), storage.ErrNoRow)

	s.write(func(ctx context.Context, tx *Tx) error {
		for version := range 2 {
			v := storage.Version{Dataset: d.ID, Version: 1 + version, Shards: dataset.FirstShards(11 + version)}
			if err := tx.AddVersion(ctx, v, 5); err != nil {
				return err
			}
		}
		return tx.SetDatasetState(ctx, e.ID, dataset.Held, 6)
	})
	d.Complete, d.Version, d.Shards, d.Revision = true, 2, 12, 5
	e.State, e.Revision = dataset.Held, 6
	same(s, "complete", byID(d.ID), d)
	same(s, "held", byID(e.ID), e)
	rows, revs := caughtUp(s, 3, (*Tx).DatasetsSince)
	same(s, "since 3", rows, []storage.Dataset{d, e})
	same(s, "revisions", revs, []uint64{5, 6})
	rows, _ = caughtUp(s, 6, (*Tx).DatasetsSince)
	same(s, "since 6", rows, nil)

	nobody := newID[dataset.DatasetID]()
	for what, v := range map[string]storage.Version{
		"version of nothing": {Dataset: nobody, Version: 1}, "the same version again": {Dataset: d.ID, Version: 2}, "a version left out": {Dataset: d.ID, Version: 4},
	} {
		failsWith(s, what, s.try(func(ctx context.Context, tx *Tx) error { return tx.AddVersion(ctx, v, 7) }), storage.ErrNoRow)
	}
	failsWith(s, "state unknown", s.try(func(ctx context.Context, tx *Tx) error { return tx.SetDatasetState(ctx, nobody, dataset.Held, 7) }), storage.ErrNoRow)
	failsWith(s, "by unknown ID", getErr(s, func(ctx context.Context, tx *Tx) (any, error) { return tx.DatasetByID(ctx, nobody) }), storage.ErrNoRow)

	key := func(ctx context.Context, tx *Tx) (storage.WrappedKey, error) { return tx.DatasetKey(ctx, d.ID) }
	failsWith(s, "no key", getErr(s, key), storage.ErrNoRow)
	for _, k := range []storage.WrappedKey{{Epoch: 1, Sealed: []byte("sealed")}, {Epoch: 1<<32 - 1, Sealed: []byte("again")}} {
		s.write(func(ctx context.Context, tx *Tx) error { return tx.PutDatasetKey(ctx, d.ID, k) })
		same(s, "key", get(s, key), k)
	}
	failsWith(s, "key of nothing", s.try(func(ctx context.Context, tx *Tx) error { return tx.PutDatasetKey(ctx, nobody, storage.WrappedKey{}) }), storage.ErrNoRow)
}

func testAttempts(s *fixture) {
	d := s.dataset(1, "acme/signs/batch-1", 1)
	var list []storage.Attempt
	for i := range 3 {
		list = append(list, storage.Attempt{ID: newID[dataset.AttemptID](), Dataset: d.ID, Number: i, Key: fmt.Sprint("v1/", i), PlainSize: 1 << 41,
			Fingerprint: fresh(), Push: i, Start: []byte("start"), StartedAt: day(i + 1), StartedBy: newID[dataset.PrincipalID]()})
	}
	s.write(func(ctx context.Context, tx *Tx) error {
		for _, i := range []int{2, 0, 1} {
			if err := tx.AddAttempt(ctx, list[i]); err != nil {
				return err
			}
		}
		return nil
	})
	before := func(at time.Time, limit int) []storage.Attempt {
		return get(s, func(ctx context.Context, tx *Tx) ([]storage.Attempt, error) { return tx.Attempts(ctx, at, limit) })
	}
	same(s, "all", before(day(9), 0), list)
	same(s, "older", before(day(3), 0), list[:2])
	same(s, "limit", before(day(9), 1), list[:1])
	same(s, "one", get(s, func(ctx context.Context, tx *Tx) (storage.Attempt, error) { return tx.Attempt(ctx, list[1].ID) }), list[1])
	list[1].ETag, list[1].SealedSize, list[1].SHA256 = `"etag"`, 1<<41+99, fresh()
	store := func(ctx context.Context, tx *Tx) error {
		return tx.StoreAttempt(ctx, list[1].ID, list[1].ETag, list[1].SealedSize, list[1].SHA256)
	}
	claim := func(ctx context.Context, tx *Tx) error { return tx.ClaimAttempt(ctx, list[1].ID) }
	failsWith(s, "store unclaimed", s.try(store), storage.ErrNoRow)
	s.write(claim)
	failsWith(s, "claim again", s.try(claim), storage.ErrNoRow)
	s.write(store)
	failsWith(s, "store again", s.try(store), storage.ErrNoRow)
	same(s, "stored", before(day(9), 0), list)
	list[1].Index = storage.Index{ETag: "i", Size: 1 << 33, SHA256: []byte("sum")}
	storeIndex := func(ctx context.Context, tx *Tx) error { return tx.StoreIndex(ctx, list[1].ID, list[1].Index) }
	claimIndex := func(ctx context.Context, tx *Tx) error { return tx.ClaimIndex(ctx, list[1].ID) }
	failsWith(s, "store an unclaimed index", s.try(storeIndex), storage.ErrNoRow)
	s.write(claimIndex)
	failsWith(s, "claim an index again", s.try(claimIndex), storage.ErrNoRow)
	s.write(storeIndex)
	failsWith(s, "store an index again", s.try(storeIndex), storage.ErrNoRow)
	same(s, "stored index", before(day(9), 0), list)
	failsWith(s, "again", s.try(func(ctx context.Context, tx *Tx) error { return tx.AddAttempt(ctx, list[0]) }), storage.ErrExists)
	s.write(func(ctx context.Context, tx *Tx) error { return tx.DropAttempt(ctx, list[0].ID) })
	same(s, "dropped", before(day(9), 0), list[1:])
	failsWith(s, "drop again", s.try(func(ctx context.Context, tx *Tx) error { return tx.DropAttempt(ctx, list[0].ID) }), storage.ErrNoRow)
	failsWith(s, "store dropped", s.try(func(ctx context.Context, tx *Tx) error {
		return tx.StoreAttempt(ctx, list[0].ID, "", 0, [32]byte{})
	}), storage.ErrNoRow)
	failsWith(s, "read dropped", getErr(s, func(ctx context.Context, tx *Tx) (any, error) { return tx.Attempt(ctx, list[0].ID) }), storage.ErrNoRow)
}

func newShard(d dataset.DatasetID, n int) storage.Shard {
	id := newID[dataset.AttemptID]()
	return storage.Shard{Dataset: d, Number: n, Attempt: id, Key: "v1/" + id.String(), ETag: "e", SealedSize: 1<<40 + 1, PlainSize: 1 << 40,
		SHA256: fresh(), Header: []byte("age-encryption.org/v1\n"), Nonce: fresh16(), Fingerprint: fresh(), Manifest: []byte("sealed"),
		Start: []byte("start"), Index: storage.Index{ETag: "i", Size: 1 << 33, SHA256: []byte("sum"), Header: []byte("header")}, PartSize: 8 << 20,
		CommittedAt: day(4), CommittedBy: newID[dataset.PrincipalID]()}
}

// put commits a shard and returns what it replaced.
func (s *fixture) put(sh storage.Shard) (replaced *storage.Shard) {
	s.Helper()
	s.write(func(ctx context.Context, tx *Tx) (err error) {
		replaced, err = tx.PutShard(ctx, sh)
		return err
	})
	return replaced
}

func testShards(s *fixture) {
	d, e := s.dataset(1, "acme/signs/batch-1", 1), s.dataset(2, "acme/signs/batch-2", 1)
	var list []storage.Shard
	for n := range 5 {
		list = append(list, newShard(d.ID, n))
	}
	for _, n := range []int{4, 1, 0, 3, 2} {
		if r := s.put(list[n]); r != nil {
			s.Errorf("shard %d replaced %v", n, r)
		}
	}
	other := newShard(e.ID, 2)
	s.put(other)

	page := func(after, limit int) []storage.Shard {
		return get(s, func(ctx context.Context, tx *Tx) ([]storage.Shard, error) { return tx.Shards(ctx, d.ID, after, limit) })
	}
	same(s, "all", page(-1, 0), list)
	same(s, "page", page(1, 2), list[2:4])
	same(s, "one", get(s, func(ctx context.Context, tx *Tx) (storage.Shard, error) { return tx.Shard(ctx, e.ID, 2) }), other)
	same(s, "by key", get(s, func(ctx context.Context, tx *Tx) (storage.Shard, error) { return tx.ShardByKey(ctx, list[3].Key) }), list[3])
	failsWith(s, "no such shard", getErr(s, func(ctx context.Context, tx *Tx) (any, error) { return tx.Shard(ctx, d.ID, 5) }), storage.ErrNoRow)
	failsWith(s, "no such key", getErr(s, func(ctx context.Context, tx *Tx) (any, error) { return tx.ShardByKey(ctx, "x") }), storage.ErrNoRow)

	again := newShard(d.ID, 3)
	old := s.put(again)
	if old == nil {
		s.Fatal("nothing was replaced")
	}
	same(s, "replaced", *old, list[3])
	list[3] = again
	same(s, "after", page(-1, 0), list)

	count := func(id dataset.DatasetID) []int64 {
		return get(s, func(ctx context.Context, tx *Tx) ([]int64, error) {
			count, highest, plain, sealed, err := tx.ShardCount(ctx, id)
			return []int64{int64(count), int64(highest), plain, sealed}, err
		})
	}
	same(s, "count", count(d.ID), []int64{5, 4, 5 << 40, 5<<40 + 5})
	same(s, "count of nothing", count(newID[dataset.DatasetID]()), []int64{0, -1, 0, 0})

	var dropped []storage.Shard
	s.write(func(ctx context.Context, tx *Tx) (err error) {
		dropped, err = tx.DropSpareShards(ctx, d.ID, dataset.ShardSet{{First: 0, Last: 1}, {First: 5, Last: 9}})
		return err
	})
	same(s, "dropped", dropped, list[2:])
	same(s, "left", page(-1, 0), list[:2])
	same(s, "other dataset", count(e.ID), []int64{1, 2, 1 << 40, 1<<40 + 1})
	failsWith(s, "of no dataset", s.try(func(ctx context.Context, tx *Tx) error {
		_, err := tx.PutShard(ctx, newShard(newID[dataset.DatasetID](), 0))
		return err
	}), storage.ErrNoRow)
}

func testNonces(s *fixture) {
	d, e := s.dataset(1, "acme/signs/batch-1", 1), s.dataset(2, "acme/signs/batch-2", 1)
	first := newShard(d.ID, 0)
	s.put(first)
	s.put(newShard(d.ID, 0)) // replaced
	dropped := newShard(d.ID, 1)
	s.put(dropped)
	s.write(func(ctx context.Context, tx *Tx) error {
		_, err := tx.DropSpareShards(ctx, d.ID, dataset.ShardSet{{First: 0, Last: 0}})
		return err
	})
	for what, nonce := range map[string][16]byte{"replaced": first.Nonce, "dropped": dropped.Nonce} {
		for _, id := range []dataset.DatasetID{d.ID, e.ID} {
			sh := newShard(id, 7)
			sh.Nonce = nonce
			err := s.try(func(ctx context.Context, tx *Tx) error { _, err := tx.PutShard(ctx, sh); return err })
			failsWith(s, "nonce of a shard that was "+what, err, storage.ErrExists)
		}
	}
	sh, index := newShard(d.ID, 8), fresh16()
	s.write(func(ctx context.Context, tx *Tx) error { _, err := tx.PutShard(ctx, sh, index); return err })
	for what, more := range map[string][16]byte{"an index": index, "a shard": sh.Nonce} {
		err := s.try(func(ctx context.Context, tx *Tx) error {
			_, err := tx.PutShard(ctx, newShard(d.ID, 9), more)
			return err
		})
		failsWith(s, "nonce of "+what+" for an index", err, storage.ErrExists)
	}
	// In the same transaction, with a savepoint around the attempt.
	fine := newShard(d.ID, 7)
	s.write(func(ctx context.Context, tx *Tx) error {
		sh := newShard(d.ID, 7)
		sh.Nonce = first.Nonce
		err := tx.Savepoint(ctx, func() error { _, err := tx.PutShard(ctx, sh); return err })
		failsWith(s, "in a savepoint", err, storage.ErrExists)
		_, err = tx.PutShard(ctx, fine)
		return err
	})
	same(s, "the other one", get(s, func(ctx context.Context, tx *Tx) (storage.Shard, error) { return tx.Shard(ctx, d.ID, 7) }), fine)
}

func testPrincipals(s *fixture) {
	ann := storage.Principal{ID: newID[dataset.PrincipalID](), Handle: "ann", Service: true, Disabled: day(3), Region: "EU",
		Key: storage.WrappedKey{Epoch: 2, Sealed: []byte("key")}, Profile: []byte("profile"), Revision: 2, CreatedAt: day(1), CreatedBy: newID[dataset.PrincipalID]()}
	bob := storage.Principal{ID: newID[dataset.PrincipalID](), Handle: "bob", Revision: 1, CreatedAt: day(1)}
	s.write(func(ctx context.Context, tx *Tx) error {
		if err := tx.AddPrincipal(ctx, bob); err != nil {
			return err
		}
		return tx.AddPrincipal(ctx, ann)
	})
	byID := func(id dataset.PrincipalID) storage.Principal {
		return get(s, func(ctx context.Context, tx *Tx) (storage.Principal, error) { return tx.Principal(ctx, id) })
	}
	list := func(after string, limit int) []storage.Principal {
		return get(s, func(ctx context.Context, tx *Tx) ([]storage.Principal, error) {
			return tx.Principals(ctx, after, limit)
		})
	}
	same(s, "by ID", byID(ann.ID), ann)
	same(s, "by handle", get(s, func(ctx context.Context, tx *Tx) (storage.Principal, error) { return tx.PrincipalByHandle(ctx, "bob") }), bob)
	same(s, "list", list("", 0), []storage.Principal{ann, bob})
	same(s, "page", list("ann", 1), []storage.Principal{bob})
	failsWith(s, "unknown handle", getErr(s, func(ctx context.Context, tx *Tx) (any, error) { return tx.PrincipalByHandle(ctx, "Ann") }), storage.ErrNoRow)
	twin := bob
	twin.ID = newID[dataset.PrincipalID]()
	failsWith(s, "same handle", s.try(func(ctx context.Context, tx *Tx) error { return tx.AddPrincipal(ctx, twin) }), storage.ErrExists)

	s.write(func(ctx context.Context, tx *Tx) error {
		if err := tx.SetDisabled(ctx, bob.ID, day(8), 5); err != nil {
			return err
		}
		if err := tx.SetDisabled(ctx, ann.ID, time.Time{}, 6); err != nil {
			return err
		}
		return tx.SetProfile(ctx, ann.ID, storage.WrappedKey{Epoch: 3, Sealed: []byte("k2")}, []byte("p2"), 7)
	})
	bob.Disabled, bob.Revision = day(8), 5
	ann.Disabled, ann.Key, ann.Profile, ann.Revision = time.Time{}, storage.WrappedKey{Epoch: 3, Sealed: []byte("k2")}, []byte("p2"), 7
	same(s, "changed", list("", 0), []storage.Principal{ann, bob})
	rows, revs := caughtUp(s, 2, (*Tx).PrincipalsSince)
	same(s, "since 2", rows, []storage.Principal{bob, ann})
	same(s, "revisions", revs, []uint64{5, 7})
	nobody := newID[dataset.PrincipalID]()
	failsWith(s, "disable unknown", s.try(func(ctx context.Context, tx *Tx) error { return tx.SetDisabled(ctx, nobody, day(1), 9) }), storage.ErrNoRow)
	failsWith(s, "profile of unknown", s.try(func(ctx context.Context, tx *Tx) error {
		return tx.SetProfile(ctx, nobody, storage.WrappedKey{}, nil, 9)
	}), storage.ErrNoRow)
}

func newToken(p dataset.PrincipalID) storage.Token {
	return storage.Token{ID: newID[dataset.TokenID](), Hash: fresh(), Principal: p, Kind: storage.InviteToken, CreatedAt: day(1), Expires: day(9)}
}

func (s *fixture) token(p dataset.PrincipalID) storage.Token {
	s.Helper()
	k := newToken(p)
	s.write(func(ctx context.Context, tx *Tx) error { return tx.AddToken(ctx, k) })
	return k
}

func testTokens(s *fixture) {
	ann, bob := s.person("ann"), s.person("bob")
	a, b, c, other := s.token(ann), s.token(ann), s.token(ann), s.token(bob)
	byHash := func(k storage.Token) storage.Token {
		return get(s, func(ctx context.Context, tx *Tx) (storage.Token, error) { return tx.TokenByHash(ctx, k.Hash) })
	}
	same(s, "token", byHash(a), a)
	failsWith(s, "unknown", getErr(s, func(ctx context.Context, tx *Tx) (any, error) { return tx.TokenByHash(ctx, fresh()) }), storage.ErrNoRow)
	twin := newToken(bob)
	twin.Hash = a.Hash
	failsWith(s, "same hash", s.try(func(ctx context.Context, tx *Tx) error { return tx.AddToken(ctx, twin) }), storage.ErrExists)
	failsWith(s, "of nobody", s.try(func(ctx context.Context, tx *Tx) error {
		return tx.AddToken(ctx, newToken(newID[dataset.PrincipalID]()))
	}), storage.ErrNoRow)

	end := func(ctx context.Context, tx *Tx) error { return tx.EndToken(ctx, a.ID, day(5)) }
	s.write(end)
	a.Ended = day(5)
	same(s, "ended", byHash(a), a)
	failsWith(s, "again", s.try(end), storage.ErrNoRow)
	failsWith(s, "unknown", s.try(func(ctx context.Context, tx *Tx) error { return tx.EndToken(ctx, newID[dataset.TokenID](), day(5)) }), storage.ErrNoRow)

	var n int
	s.write(func(ctx context.Context, tx *Tx) (err error) {
		n, err = tx.EndTokens(ctx, ann, b.ID, day(6))
		return err
	})
	same(s, "how many", n, 1)
	c.Ended = day(6)
	for _, k := range []storage.Token{a, b, c, other} {
		same(s, "token", byHash(k), k)
	}
}

// testTokenRace uses one token from many sides: exactly one may win.
func testTokenRace(s *fixture) {
	ann := s.person("ann")
	for range 10 {
		k := s.token(ann)
		start := make(chan struct{})
		results := make(chan error, 4)
		var wg sync.WaitGroup
		for range cap(results) {
			wg.Go(func() {
				<-start
				results <- s.try(func(ctx context.Context, tx *Tx) error { return tx.EndToken(ctx, k.ID, day(5)) })
			})
		}
		close(start)
		wg.Wait()
		close(results)
		won := 0
		for err := range results {
			if err == nil {
				won++
			} else if !errors.Is(err, storage.ErrNoRow) {
				s.Error(err)
			}
		}
		same(s, "winners", won, 1)
	}
}

func testDevices(s *fixture) {
	ann := s.person("ann")
	d1 := storage.Device{ID: newID[dataset.DeviceID](), Principal: ann, Recipient: "age1pq1", Name: "laptop", CreatedAt: day(1)}
	d2 := storage.Device{ID: newID[dataset.DeviceID](), Principal: ann, Recipient: "age1pq2", Name: "desk", CreatedAt: day(2)}
	s.write(func(ctx context.Context, tx *Tx) error {
		if err := tx.AddDevice(ctx, d2); err != nil {
			return err
		}
		return tx.AddDevice(ctx, d1)
	})
	devices := func() []storage.Device {
		return get(s, func(ctx context.Context, tx *Tx) ([]storage.Device, error) { return tx.Devices(ctx, ann) })
	}
	device := func(ctx context.Context, tx *Tx) (storage.Device, error) { return tx.Device(ctx, d1.ID) }
	same(s, "devices", devices(), []storage.Device{d1, d2})
	same(s, "device", get(s, device), d1)
	remove := func(ctx context.Context, tx *Tx) error { return tx.RemoveDevice(ctx, d1.ID, day(7)) }
	s.write(remove)
	failsWith(s, "again", s.try(remove), storage.ErrNoRow)
	d1.Removed = day(7)
	same(s, "removed", get(s, device), d1)
	same(s, "in use", devices(), []storage.Device{d2})
	failsWith(s, "unknown", getErr(s, func(ctx context.Context, tx *Tx) (any, error) { return tx.Device(ctx, newID[dataset.DeviceID]()) }), storage.ErrNoRow)
	failsWith(s, "same", s.try(func(ctx context.Context, tx *Tx) error { return tx.AddDevice(ctx, d2) }), storage.ErrExists)
}

// testTimes: a time survives in microseconds, in UTC; the zero time stays zero.
func testTimes(s *fixture) {
	ann := s.person("ann")
	zone := time.FixedZone("far", 9*3600)
	for _, c := range []struct{ put, want time.Time }{
		{time.Time{}, time.Time{}},
		{time.Date(2026, 5, 6, 7, 8, 9, 123_456_789, zone), time.Date(2026, 5, 5, 22, 8, 9, 123_456_000, time.UTC)},
		{time.Date(1960, 1, 1, 0, 0, 0, 1000, time.UTC), time.Date(1960, 1, 1, 0, 0, 0, 1000, time.UTC)},
		{time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)},
	} {
		k := newToken(ann)
		k.Expires = c.put
		s.write(func(ctx context.Context, tx *Tx) error { return tx.AddToken(ctx, k) })
		same(s, "time", get(s, func(ctx context.Context, tx *Tx) (storage.Token, error) { return tx.TokenByHash(ctx, k.Hash) }).Expires, c.want)
	}
}
