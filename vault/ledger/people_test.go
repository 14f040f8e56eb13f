package ledger_test

import (
	"context"
	"reflect"
	"sync"
	"testing"
	"time"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/ledger"
)

// TestPeopleAreLoaded: whatever somebody has or has done, a node that loads them
// decides on it as one does that has seen it happen.
func TestPeopleAreLoaded(t *testing.T) {
	onEngines(t, func(t *testing.T, url string) {
		v, one := newVault(t, url)
		ctx := t.Context()
		until := v.clock.Now().Add(time.Hour)
		shard := v.read(v.lee, 1).Query
		legal, research := shard, shard
		legal.Purpose, research.Purpose = dataset.Legal, "research"
		byAdmin, granting, elsewhere := shard, shard, shard
		byAdmin.Actor = v.admin
		granting.Action, granting.Object, granting.Terms = rbac.Grant, rbac.Object{Kind: rbac.GrantObj, Scope: v.scope.Parent(), Shard: -1}, [32]byte{7}
		granting.Target, elsewhere.Actor = v.stranger, v.stranger
		glass, given := newID[dataset.BreakGlassID](), newID[dataset.ApprovalID]()
		seen := map[string]bool{}
		for _, c := range []struct {
			name  string
			apply func(context.Context, *ledger.Tx) error
			query rbac.Query
			fact  rbac.Facts
			not   bool
		}{
			{"grant and assignment", nil, shard, rbac.Assigned, false},
			{"signature", func(ctx context.Context, tx *ledger.Tx) error {
				if err := tx.AddAgreement(ctx, dataset.Agreement{Name: "nda", Version: 1, Text: []byte("hush"), By: v.admin, At: tx.Now}, tx.Revision); err != nil {
					return err
				}
				return tx.PutSignature(ctx, dataset.Signature{Principal: v.lee, Agreement: "nda", Version: 1, At: tx.Now}, tx.Revision)
			}, shard, rbac.NDA, false},
			{"withdrawn", func(ctx context.Context, tx *ledger.Tx) error {
				return tx.PutSignature(ctx, dataset.Signature{Principal: v.lee, Agreement: "nda", Version: 1, At: tx.Now, Withdrawn: tx.Now}, tx.Revision)
			}, shard, rbac.NDA, true},
			{"objection", func(ctx context.Context, tx *ledger.Tx) error {
				return tx.PutChoice(ctx, dataset.Choice{Principal: v.lee, Kind: dataset.Objection, Purpose: "research", At: tx.Now}, tx.Revision)
			}, research, rbac.Objected, false},
			{"approval", func(ctx context.Context, tx *ledger.Tx) error {
				return tx.AddApproval(ctx, storage.Approval{ID: given, Requester: v.lee, Action: string(rbac.Grant), Kind: string(rbac.GrantObj),
					Scope: v.scope.Parent(), Target: v.stranger, TermsHash: [32]byte{7}, State: storage.ApprovalGiven, RequestedAt: tx.Now, Expires: until,
					DecidedAt: tx.Now, DecidedBy: v.admin, Until: until, Revision: tx.Revision})
			}, granting, rbac.Dual, false},
			{"used", func(ctx context.Context, tx *ledger.Tx) error { return tx.UseApproval(ctx, given, tx.Now, tx.Revision) },
				granting, rbac.Dual, true},
			{"glass", func(ctx context.Context, tx *ledger.Tx) error {
				return tx.AddBreakGlass(ctx, storage.BreakGlass{ID: glass, Principal: v.admin, Scope: v.scope.Parent(), At: tx.Now, Until: until, Revision: tx.Revision})
			}, byAdmin, rbac.Emergency, false},
			{"mended", func(ctx context.Context, tx *ledger.Tx) error {
				return tx.EndBreakGlass(ctx, glass, tx.Now, tx.Revision)
			},
				byAdmin, rbac.Emergency, true},
			{"disclosure", func(ctx context.Context, tx *ledger.Tx) error {
				return tx.AddDisclosure(ctx, storage.Disclosure{ID: newID[dataset.DisclosureID](), Principal: v.lee, Dataset: v.id, Scope: v.scope,
					Shards: shardSet(t, "0-3"), At: tx.Now, Until: until, ApprovedBy: v.admin, Revision: tx.Revision})
			}, legal, rbac.Disclosed, false},
			{"target", func(ctx context.Context, tx *ledger.Tx) error {
				return tx.SetRestricted(ctx, v.stranger, tx.Now, tx.Revision)
			},
				granting, rbac.Frozen, false},
			{"actor", nil, elsewhere, rbac.Paused, false},
			{"end of the assignment", func(ctx context.Context, tx *ledger.Tx) error {
				_, _, err := tx.EndAssignments(ctx, v.id, v.lee, shardSet(t, "1"), tx.Now, tx.Revision, newID[dataset.AssignmentID])
				return err
			}, shard, rbac.Assigned, true},
		} {
			if c.apply != nil {
				must[ledger.Receipt](t)(one.Record(ctx, v.ownChange(audit.KindGrant, c.apply)))
			}
			two := v.node()
			if n := two.World().People(); n != 0 {
				t.Fatalf("a node that nobody has asked holds %d people", n)
			}
			c.query.Now = v.clock.Now()
			want := must[rbac.Decision](t)(one.Decide(ctx, c.query))
			got := must[rbac.Decision](t)(two.Decide(ctx, c.query))
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s: who loads decides %+v, not %+v", c.name, got, want)
			}
			if got.Facts.Has(c.fact) == c.not {
				t.Errorf("%s: %v: the test is not about it", c.name, got.Facts)
			}
			if got.Allowed {
				seen["allowed"] = true
			}
			two.Close()
			two.db.Close()
		}
		if !seen["allowed"] {
			t.Error("nothing is allowed")
		}
	})
}

// TestPeopleTogether: many ask a node that knows nobody, and another node changes
// what they have meanwhile. Nobody is refused what they have, and what is decided
// last is what is so.
func TestPeopleTogether(t *testing.T) {
	onEngines(t, func(t *testing.T, url string) {
		v, one := newVault(t, url)
		two := v.node()
		labelers := v.scope.Parent()
		people := []dataset.PrincipalID{v.lee, v.admin, v.stranger, newID[dataset.PrincipalID]()}
		var asking sync.WaitGroup
		for i := range 32 {
			asking.Go(func() {
				who := people[i%len(people)]
				q := v.read(who, 1).Query
				q.Now = v.clock.Now()
				d, err := two.Decide(t.Context(), q)
				if err != nil || d.Allowed != (who == v.lee) || len(d.Reasons) == 0 && !d.Allowed {
					t.Errorf("%v: %+v, %v", who, d, err)
				}
			})
		}
		asking.Go(func() { v.grant(one, v.stranger, dataset.Auditor, dataset.Root) })
		asking.Wait()
		if n := two.World().People(); n != len(people) {
			t.Errorf("it holds %d people, of %d", n, len(people))
		}
		// Of people whom nobody asks about it keeps nothing; of those whom it
		// holds it follows what others change.
		three := v.node()
		v.revoke(one, v.lee, dataset.Labeler, labelers)
		check(t, three.CatchUp(t.Context()))
		check(t, two.CatchUp(t.Context()))
		if n := three.World().People(); n != 0 {
			t.Errorf("a node that follows holds %d people", n)
		}
		q := v.read(v.lee, 1).Query
		q.Now = v.clock.Now()
		for _, n := range []*node{two, three} {
			if d := must[rbac.Decision](t)(n.Decide(t.Context(), q)); d.Allowed || d.Revision != one.World().Revision() {
				t.Errorf("after a revoke: %+v", d)
			}
		}
	})
}
