package ledger_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dsvault/storage/catalog"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/ledger"
)

// TestCatchUpInTurn: who waits for another's catch-up, which hangs, waits no
// longer than he wants to.
func TestCatchUpInTurn(t *testing.T) {
	dsn := engines[1].url(t)
	v, first := newVault(t, dsn)
	n := v.node()
	v.revoke(first, v.lee, dataset.Labeler, v.scope.Parent())
	admin := must[*pgx.Conn](t)(pgx.Connect(t.Context(), dsn))
	t.Cleanup(func() { admin.Close(context.Background()) })
	tx := must[pgx.Tx](t)(admin.Begin(t.Context()))
	_, err := tx.Exec(t.Context(), "LOCK TABLE projects IN ACCESS EXCLUSIVE MODE")
	check(t, err)

	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	hangs := make(chan error, 1)
	go func() { hangs <- n.CatchUp(ctx) }()
	for waiting := 0; waiting == 0; runtime.Gosched() {
		check(t, tx.QueryRow(t.Context(), "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'projects'::regclass").Scan(&waiting))
	}
	soon, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = n.Look(soon)
	wantCode(t, err, fault.Unavailable)
	if len(hangs) > 0 {
		t.Error("waited until the other one had given up")
	}
	leave()
	wantCode(t, <-hangs, fault.Canceled)
	check(t, tx.Rollback(t.Context()))
	check(t, n.CatchUp(t.Context()))
}

// TestAdmitBesideReaders: a node whose connections for reading are all taken admits,
// also when it has to follow the policy first: it holds the lock that all nodes wait
// for.
func TestAdmitBesideReaders(t *testing.T) {
	onEngines(t, func(t *testing.T, url string) {
		v, first := newVault(t, url)
		n := v.node()
		must[*ledger.Permit](t)(n.Admit(t.Context(), v.read(v.lee, 0))) // who is asked for is known
		var taken func(more int, f func())
		taken = func(more int, f func()) {
			if more == 0 {
				f()
				return
			}
			check(t, n.db.View(t.Context(), func(*catalog.Tx) error { taken(more-1, f); return nil }))
		}
		taken(8, func() {
			v.grant(first, v.stranger, dataset.Reviewer, v.scope)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			must[*ledger.Permit](t)(n.Admit(ctx, v.read(v.lee, 1)))
		})
	})
}
