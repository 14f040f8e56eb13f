package vault_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"dsvault/storage/catalog"
	"dsvault/storage/storagetest"
	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// TestCopyCatalog moves a vault that has been used to PostgreSQL, with an
// interruption, and back; the log is the same and the vault goes on.
func TestCopyCatalog(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t)
	w.setUp()
	w.assign("lee", "0-1")
	must[[]byte](t)(w.read("lee", "acme/signs/batch-1", 0))
	for i := range 30 {
		w.invite(fmt.Sprintf("person-%d", i))
	}
	must[wire.Anonymized](t)(w.v.Anonymize(ctx, w.as("root"), "person-7"))
	w.v.Close()

	open := func(url string) *catalog.DB {
		t.Helper()
		db := must[*catalog.DB](t)(catalog.Open(ctx, url, catalog.Options{}))
		t.Cleanup(func() { db.Close() })
		return db
	}
	move := func(ctx context.Context, from, to *catalog.DB, progress func(int64)) (catalog.Copied, audit.Checkpoint, error) {
		return vault.CopyCatalog(ctx, vault.CopyConfig{From: from, To: to, Logger: slog.New(slog.DiscardHandler), Random: rand.Reader, Progress: progress})
	}
	before := must[audit.Checkpoint](t)(vault.VerifyCatalog(ctx, w.db))

	remote := open(storagetest.Postgres(t))
	broken, cut := context.WithCancel(ctx)
	parts := 0
	_, _, err := move(broken, w.db, remote, func(int64) {
		if parts++; parts == 6 {
			cut()
		}
	})
	if !fault.Is(err, fault.Canceled) {
		t.Fatalf("interrupted: %v", err)
	}
	if _, err := vault.VerifyCatalog(ctx, remote); !fault.Is(err, fault.NotFound) {
		t.Errorf("half a copy is a vault: %v", err)
	}
	copied, cp, err := move(ctx, w.db, remote, func(int64) {})
	if err != nil || cp != before || copied.New >= copied.Rows || copied.New == 0 {
		t.Fatalf("%+v of %+v: %+v, %v", cp, before, copied, err)
	}
	if whole, cp, err := move(ctx, w.db, remote, func(int64) {}); err != nil || cp != before || whole.New != 0 || whole.Rows != copied.Rows {
		t.Errorf("a copy that is whole, again: %+v, %+v, %v", whole, cp, err)
	}

	back := open("sqlite:" + filepath.Join(t.TempDir(), "back.db"))
	again, cp, err := move(ctx, remote, back, func(int64) {})
	if err != nil || cp != before || again.Rows != copied.Rows {
		t.Fatalf("back: %+v, %+v, %v", cp, again, err)
	}
	w.db = back
	w.v = must[*vault.Vault](t)(w.open())
	must[[]byte](t)(w.read("lee", "acme/signs/batch-1", 1))
	w.sound()
	w.v.Close()
	if _, _, err := move(ctx, remote, back, func(int64) {}); !fault.Is(err, fault.Conflict) {
		t.Errorf("copied over a vault that has gone on: %v", err)
	}
}

// TestCopyOfAChangedCatalog: a copy that was begun is not gone on with from a
// catalog that has changed.
func TestCopyOfAChangedCatalog(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	broken, cut := context.WithCancel(t.Context())
	defer cut()
	to := must[*catalog.DB](t)(catalog.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "to.db"), catalog.Options{}))
	t.Cleanup(func() { to.Close() })
	if _, err := catalog.Copy(broken, w.db, to, func(int64) { cut() }); err == nil {
		t.Fatal("it was not interrupted")
	}
	own := w.db
	w.db = to
	if _, err := w.open(); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.HintOf(err), "migrate") {
		t.Errorf("half a copy is served: %v", err)
	}
	w.db = own
	w.grant(dataset.Labeler, "stranger", "acme/signs", nil)
	if _, err := catalog.Copy(t.Context(), w.db, to, func(int64) {}); !fault.Is(err, fault.Conflict) {
		t.Errorf("got %v", err)
	}
}
