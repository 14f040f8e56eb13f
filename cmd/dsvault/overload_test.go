//go:build linux

package main

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"

	"dsvault/storage/storagetest"
)

// TestOverload has many readers at a node whose database does not get on: they
// are told when to come back, and when it gets on again all are served.
func TestOverload(t *testing.T) {
	t.Parallel()
	wire, dsn := storagetest.NewWire(t, storagetest.Postgres(t))
	f := newFleet(t, 1, dsn)
	f.ok("cleo", "push", files(t, 1), batch)
	var served, refused atomic.Int64
	load := f.newLoad(64, func(context.Context, int) error {
		switch a := f.ask("cleo", f.url, "GET", sealedShard, nil); a.status {
		case http.StatusOK:
			served.Add(1)
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			refused.Add(1)
			if a.header.Get("Retry-After") == "" || a.problem.Hint == "" {
				t.Errorf("refused without a hint when to come back: %v %s", a.header, a.body)
			}
		default:
			t.Errorf("%d %s", a.status, a.body)
		}
		return nil
	})
	more := func(what string, n *atomic.Int64) {
		t.Helper()
		at := n.Load()
		await(t, what, func() bool { return n.Load() > at+100 })
	}
	more("readers are served", &served)

	// Somebody holds the log's head.
	tx, err := f.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(t.Context(), "SELECT size FROM head FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	more("readers are turned away while the head is held", &refused)
	f.ok("cleo", "whoami") // what needs no record goes on
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	more("readers are served once it is not", &served)

	// The database does not answer at all.
	wire.Set(storagetest.Stalls)
	more("readers are turned away while the database does not answer", &refused)
	wire.Set(storagetest.Works)
	more("readers are served when it does", &served)
	load.end()
	f.ok("ann", "log", "--verify")
	f.stopAll()
}
