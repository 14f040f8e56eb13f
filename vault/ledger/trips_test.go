package ledger_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"dsvault/storage"
	"dsvault/storage/storagetest"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/ledger"
)

// TestRoundTrips: while a node holds the log's lock the others wait. How often it
// waits for the database's answer in that time does not depend on how many share a
// commit, nor on how many people and scopes they are about.
func TestRoundTrips(t *testing.T) {
	dsn := storagetest.Postgres(t)
	v, first := newVault(t, dsn)
	w, near := storagetest.NewWire(t, dsn)
	n := v.nodeAt(near, v.clock)
	people := v.invite(first, 50)
	round := func(readers int) int64 {
		permits := make([]*ledger.Permit, readers)
		release := v.hold(first) // so that they share one commit
		before := w.Trips()
		done := make(chan struct{})
		go func() {
			defer close(done)
			together(readers, func(i int) {
				p, err := n.Admit(t.Context(), v.read(people[i%len(people)], i%100))
				if err != nil {
					t.Error(err)
				}
				permits[i] = p
			})
		}()
		queued(n, readers)
		release()
		<-done
		trips := w.Trips() - before
		together(readers, func(i int) { check(t, permits[i].End(t.Context(), 1, ledger.Finished)) })
		return trips
	}
	one, many := int64(math.MaxInt64), int64(math.MaxInt64)
	for range 8 { // each connection prepares its statements once
		one, many = min(one, round(1)), min(many, round(200))
	}
	t.Logf("%d round trips for one read, %d for 200", one, many)
	if one != 5 || many != 5 { // BEGIN and the lock; under it what is there, all writes, and COMMIT
		t.Errorf("%d round trips for one read and %d for 200, want 5", one, many)
	}
}

// invite adds labelers with all shards.
func (v *vault) invite(n *node, count int) []dataset.PrincipalID {
	v.t.Helper()
	people := make([]dataset.PrincipalID, count)
	keys := make([]storage.WrappedKey, count)
	for i := range people {
		people[i] = newID[dataset.PrincipalID]()
		keys[i] = must[storage.WrappedKey](v.t)(n.ring.NewPerson(people[i]))
	}
	must[ledger.Receipt](v.t)(n.Record(v.t.Context(), v.ownChange(audit.KindGrant, func(ctx context.Context, tx *ledger.Tx) error {
		for i, id := range people {
			if err := tx.AddPrincipal(ctx, storage.Principal{ID: id, Handle: fmt.Sprint("lee-", i), Key: keys[i], Revision: tx.Revision, CreatedAt: tx.Now}); err != nil {
				return err
			}
		}
		return nil
	})))
	for _, id := range people {
		v.grant(n, id, dataset.Labeler, v.scope.Parent())
		v.assign(n, id, time.Time{})
	}
	return people
}
