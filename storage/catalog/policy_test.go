package catalog

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dsvault/storage"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

func testAgreements(s *fixture) {
	add := func(name string, version int, rev uint64) dataset.Agreement {
		a := dataset.Agreement{Name: name, Version: version, Hash: fresh(), Text: []byte("The text."), By: newID[dataset.PrincipalID](), At: day(version)}
		s.write(func(ctx context.Context, tx *Tx) error { return tx.AddAgreement(ctx, a, rev) })
		return a
	}
	nda1, nda3, nda2, code := add("nda", 1, 1), add("nda", 3, 2), add("nda", 2, 3), add("code", 1, 4)
	read := func(name string, version int) dataset.Agreement {
		return get(s, func(ctx context.Context, tx *Tx) (dataset.Agreement, error) { return tx.Agreement(ctx, name, version) })
	}
	same(s, "version 1", read("nda", 1), nda1)
	same(s, "newest", read("nda", 0), nda3)
	for _, v := range []int{4, -1} {
		failsWith(s, "unknown version", getErr(s, func(ctx context.Context, tx *Tx) (any, error) { return tx.Agreement(ctx, "nda", v) }), storage.ErrNoRow)
	}
	failsWith(s, "unknown name", getErr(s, func(ctx context.Context, tx *Tx) (any, error) { return tx.Agreement(ctx, "x", 0) }), storage.ErrNoRow)
	failsWith(s, "again", s.try(func(ctx context.Context, tx *Tx) error { return tx.AddAgreement(ctx, nda1, 9) }), storage.ErrExists)
	if err := s.try(func(ctx context.Context, tx *Tx) error { return tx.AddAgreement(ctx, dataset.Agreement{Name: "x"}, 9) }); !fault.Is(err, fault.Internal) {
		s.Errorf("version 0: %v", err)
	}

	for _, a := range []*dataset.Agreement{&nda1, &nda2, &nda3, &code} {
		a.Text = nil // lists leave it out
	}
	same(s, "list", get(s, func(ctx context.Context, tx *Tx) ([]dataset.Agreement, error) { return tx.Agreements(ctx) }),
		[]dataset.Agreement{code, nda1, nda2, nda3})
	rows, revs := caughtUp(s, 1, (*Tx).AgreementsSince)
	same(s, "since 1", rows, []dataset.Agreement{nda3, nda2, code})
	same(s, "revisions", revs, []uint64{2, 3, 4})
}

func testSignatures(s *fixture) {
	ann, bob := s.person("ann"), s.person("bob")
	for v := range 2 {
		s.write(func(ctx context.Context, tx *Tx) error {
			return tx.AddAgreement(ctx, dataset.Agreement{Name: "nda", Version: v + 1}, 1)
		})
	}
	first := dataset.Signature{Principal: ann, Agreement: "nda", Version: 1, Hash: fresh(), At: day(1)}
	second := dataset.Signature{Principal: ann, Agreement: "nda", Version: 2, Hash: fresh(), At: day(2), Until: day(9)}
	other := dataset.Signature{Principal: bob, Agreement: "nda", Version: 2, Hash: fresh(), At: day(2)}
	put := func(sig dataset.Signature, rev uint64) error {
		return s.try(func(ctx context.Context, tx *Tx) error { return tx.PutSignature(ctx, sig, rev) })
	}
	for i, sig := range []dataset.Signature{second, first, other} {
		if err := put(sig, uint64(i+1)); err != nil {
			s.Fatal(err)
		}
	}
	list := func(p dataset.PrincipalID) []dataset.Signature {
		return get(s, func(ctx context.Context, tx *Tx) ([]dataset.Signature, error) { return tx.Signatures(ctx, p) })
	}
	same(s, "ann's", list(ann), []dataset.Signature{first, second})
	first.Withdrawn = day(5)
	if err := put(first, 7); err != nil {
		s.Fatal(err)
	}
	same(s, "withdrawn", list(ann), []dataset.Signature{first, second})
	rows, revs := caughtUp(s, 2, (*Tx).SignaturesSince)
	same(s, "since 2", rows, []dataset.Signature{other, first})
	same(s, "revisions", revs, []uint64{3, 7})
	first.Version = 3
	failsWith(s, "no such agreement", put(first, 8), storage.ErrNoRow)
}

func testGrants(s *fixture) {
	ann, bob := s.person("ann"), s.person("bob")
	var all []dataset.Grant
	for i, g := range []struct {
		who  dataset.PrincipalID
		role dataset.Role
		path string
	}{
		{ann, dataset.Admin, "/"},
		{ann, dataset.Labeler, "acme"},
		{bob, dataset.Labeler, "acme/signs"},
		{bob, dataset.Reviewer, "acme/signs/batch-1"},
		{bob, dataset.Labeler, "acme-2"},
		{bob, dataset.Labeler, "acme/signs"}, // twice the same
	} {
		grant := dataset.Grant{ID: newID[dataset.GrantID](), Principal: g.who, Role: g.role, Scope: scope(g.path),
			Reason: "because — ünd", By: ann, At: day(1 + i/2)}
		if i%2 == 0 {
			grant.Until = day(20)
		}
		s.write(func(ctx context.Context, tx *Tx) error { return tx.AddGrant(ctx, grant, uint64(i+1)) })
		all = append(all, grant)
	}
	byTime := slices.SortedFunc(slices.Values(all), func(a, b dataset.Grant) int {
		if c := a.At.Compare(b.At); c != 0 {
			return c
		}
		return slices.Compare(a.ID[:], b.ID[:])
	})
	list := func(q storage.GrantQuery) []dataset.Grant {
		return get(s, func(ctx context.Context, tx *Tx) ([]dataset.Grant, error) { return tx.Grants(ctx, q) })
	}
	only := func(keep func(dataset.Grant) bool) []dataset.Grant {
		return slices.DeleteFunc(slices.Clone(byTime), func(g dataset.Grant) bool { return !keep(g) })
	}
	same(s, "all", list(storage.GrantQuery{}), byTime)
	same(s, "page", list(storage.GrantQuery{After: byTime[1].ID, Limit: 3}), byTime[2:5])
	same(s, "after the last", list(storage.GrantQuery{After: byTime[5].ID}), nil)
	same(s, "person", list(storage.GrantQuery{Principal: ann}), only(func(g dataset.Grant) bool { return g.Principal == ann }))
	for _, sc := range []dataset.Scope{dataset.Root, scope("acme"), scope("acme/signs"), scope("acme/signs/batch-1"), scope("beta")} {
		under := append([]dataset.Grant(nil), only(func(g dataset.Grant) bool { return sc.Contains(g.Scope) })...)
		if sc != dataset.Root {
			slices.SortStableFunc(under, func(a, b dataset.Grant) int { return strings.Compare(a.Scope.String(), b.Scope.String()) })
		}
		same(s, "under "+sc.String(), list(storage.GrantQuery{Under: sc}), under)
		for limit := range 3 {
			var paged []dataset.Grant
			for q := (storage.GrantQuery{Under: sc, Limit: limit + 1}); ; q.After = paged[len(paged)-1].ID {
				rows := list(q)
				if paged = append(paged, rows...); len(rows) < q.Limit {
					break
				}
			}
			same(s, fmt.Sprintf("under %v, %d at once", sc, limit+1), paged, under)
		}
		same(s, "at "+sc.String(), list(storage.GrantQuery{At: sc}), only(func(g dataset.Grant) bool { return g.Scope.Contains(sc) }))
	}
	failsWith(s, "again", s.try(func(ctx context.Context, tx *Tx) error { return tx.AddGrant(ctx, all[0], 9) }), storage.ErrExists)

	end := func(path string, rev uint64) (ended []dataset.Grant) {
		s.write(func(ctx context.Context, tx *Tx) (err error) {
			ended, err = tx.EndGrants(ctx, bob, dataset.Labeler, scope(path), day(9), rev)
			slices.SortFunc(ended, func(a, b dataset.Grant) int { return a.At.Compare(b.At) })
			return err
		})
		return ended
	}
	all[2].Revoked, all[5].Revoked = day(9), day(9)
	same(s, "nothing at a wider scope", end("acme", 10), nil)
	same(s, "ended", end("acme/signs", 11), []dataset.Grant{all[2], all[5]})
	same(s, "once", end("acme/signs", 12), nil)
	same(s, "in force", len(list(storage.GrantQuery{})), 4)
	same(s, "with ended", len(list(storage.GrantQuery{IncludeEnded: true})), 6)
	rows, revs := caughtUp(s, 5, (*Tx).GrantsSince)
	same(s, "revisions", revs, []uint64{11, 11})
	same(s, "since 5", len(rows), 2)
	same(s, "revoked", rows[0].Revoked, day(9))
}

func set(text string) dataset.ShardSet {
	set, err := dataset.ParseShardSet(text)
	if err != nil {
		panic(err)
	}
	return set
}

func testAssignments(s *fixture) {
	ann, bob := s.person("ann"), s.person("bob")
	d, e := s.dataset(1, "acme/signs/batch-1", 1), s.dataset(2, "acme/lamps/batch-1", 1)
	rev := uint64(0)
	add := func(who dataset.PrincipalID, d storage.Dataset, shards string) dataset.Assignment {
		rev++
		a := dataset.Assignment{ID: newID[dataset.AssignmentID](), Principal: who, Dataset: d.ID, Scope: d.Scope, Shards: set(shards),
			Until: day(20), By: bob, At: day(int(rev))}
		s.write(func(ctx context.Context, tx *Tx) error { return tx.AddAssignment(ctx, a, rev) })
		return a
	}
	a1, a2, a3, a4 := add(ann, d, "0-9"), add(ann, d, "20,30-31"), add(bob, d, "0-9"), add(ann, e, "0")
	list := func(q storage.AssignmentQuery) []dataset.Assignment {
		return get(s, func(ctx context.Context, tx *Tx) ([]dataset.Assignment, error) { return tx.Assignments(ctx, q) })
	}
	type as = []dataset.Assignment
	same(s, "all", list(storage.AssignmentQuery{}), as{a1, a2, a3, a4})
	same(s, "page", list(storage.AssignmentQuery{After: a1.ID, Limit: 2}), as{a2, a3})
	same(s, "person", list(storage.AssignmentQuery{Principal: bob}), as{a3})
	same(s, "under", list(storage.AssignmentQuery{Under: scope("acme/lamps")}), as{a4})
	same(s, "by place", list(storage.AssignmentQuery{Under: scope("acme")}), as{a4, a1, a2, a3})
	same(s, "by place, after", list(storage.AssignmentQuery{Under: scope("acme"), After: a4.ID, Limit: 2}), as{a1, a2})
	same(s, "of a dataset, after", list(storage.AssignmentQuery{Under: d.Scope, After: a1.ID}), as{a2, a3})
	same(s, "of a person there", list(storage.AssignmentQuery{Under: d.Scope, Principal: ann, After: a1.ID}), as{a2})
	same(s, "dataset", list(storage.AssignmentQuery{Dataset: d.ID, Principal: ann}), as{a1, a2})

	end := func(shards dataset.ShardSet, rev uint64) (ended, remaining as) {
		s.write(func(ctx context.Context, tx *Tx) (err error) {
			ended, remaining, err = tx.EndAssignments(ctx, d.ID, ann, shards, day(15), rev, newID[dataset.AssignmentID])
			return err
		})
		return ended, remaining
	}
	ended, remaining := end(set("40"), 10)
	same(s, "none of them", len(ended)+len(remaining), 0)
	ended, remaining = end(set("3-5,20,30-40"), 11)
	a1.Ended, a2.Ended = day(15), day(15)
	same(s, "ended", ended, as{a1, a2})
	rest := a1
	rest.ID, rest.Ended, rest.Shards = remaining[0].ID, time.Time{}, set("0-2,6-9")
	same(s, "remaining", remaining, as{rest})
	if rest.ID == a1.ID {
		s.Error("the ID was used twice")
	}
	same(s, "in force", list(storage.AssignmentQuery{}), as{rest, a3, a4})
	same(s, "with ended", len(list(storage.AssignmentQuery{IncludeEnded: true})), 5)
	rows, revs := caughtUp(s, 4, (*Tx).AssignmentsSince)
	same(s, "since 4", len(rows), 3)
	same(s, "revisions", revs, []uint64{11, 11, 11})
	ended, remaining = end(nil, 12)
	same(s, "all of them", len(ended), 1)
	same(s, "nothing remains", len(remaining), 0)
	same(s, "others stay", list(storage.AssignmentQuery{}), as{a3, a4})

	failsWith(s, "of nobody", s.try(func(ctx context.Context, tx *Tx) error {
		return tx.AddAssignment(ctx, dataset.Assignment{Principal: ann, Scope: d.Scope}, 13)
	}), storage.ErrNoRow)
	long := a3
	long.ID, long.At, long.Shards = newID[dataset.AssignmentID](), day(30), nil
	for i := range maxRanges + 1 {
		long.Shards = append(long.Shards, dataset.ShardRange{First: 2 * i, Last: 2 * i})
	}
	if err := s.try(func(ctx context.Context, tx *Tx) error { return tx.AddAssignment(ctx, long, 14) }); !fault.Is(err, fault.TooLarge) {
		s.Errorf("too many ranges: %v", err)
	}
	long.Shards = long.Shards[:maxRanges]
	s.write(func(ctx context.Context, tx *Tx) error { return tx.AddAssignment(ctx, long, 14) })
	same(s, "the most ranges", list(storage.AssignmentQuery{Principal: bob, After: a3.ID})[0], long)
}

// TestWithout compares the difference of two sets with a naive one.
func TestWithout(t *testing.T) {
	sets := rapid.Custom(func(t *rapid.T) map[int]bool {
		return rapid.MapOfN(rapid.IntRange(0, 30), rapid.Just(true), 0, 20).Draw(t, "set")
	})
	build := func(in map[int]bool) dataset.ShardSet {
		var set dataset.ShardSet
		for n := range 31 {
			if !in[n] {
				continue
			}
			if last := len(set) - 1; last >= 0 && set[last].Last == n-1 {
				set[last].Last = n
				continue
			}
			set = append(set, dataset.ShardRange{First: n, Last: n})
		}
		return set
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := sets.Draw(t, "a"), sets.Draw(t, "b")
		want := make(map[int]bool)
		for n := range a {
			want[n] = !b[n]
		}
		if got := without(build(a), build(b)); got.String() != build(want).String() {
			t.Fatalf("%v without %v = %v", build(a), build(b), got)
		}
	})
}
