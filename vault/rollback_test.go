package vault_test

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/storage/storagetest"
	"dsvault/vault"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/ledger"
)

// rollback keeps a backup of a database, and puts it back beside those who use it.
type rollback struct {
	t      *testing.T
	db     *sql.DB
	tables []string
}

func newRollback(t *testing.T, dsn string) *rollback {
	t.Helper()
	r := &rollback{t: t, db: must[*sql.DB](t)(sql.Open("pgx", dsn))}
	t.Cleanup(func() { r.db.Close() })
	rows := must[*sql.Rows](t)(r.db.Query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		r.tables = append(r.tables, name)
	}
	return r
}

func (r *rollback) exec(before string, each ...func(table string) string) {
	r.t.Helper()
	tx := must[*sql.Tx](r.t)(r.db.Begin())
	defer tx.Rollback()
	statements := []string{before}
	for _, table := range r.tables {
		for _, f := range each {
			statements = append(statements, f(table))
		}
	}
	for _, s := range statements {
		must[sql.Result](r.t)(tx.Exec(s))
	}
	if err := tx.Commit(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rollback) backup() {
	r.t.Helper()
	r.exec("CREATE SCHEMA backup", func(table string) string { return "CREATE TABLE backup." + table + " AS TABLE public." + table })
}

func (r *rollback) restore() {
	r.t.Helper()
	// The backup's rows refer to each other as they did.
	r.exec("SET LOCAL session_replication_role = replica",
		func(table string) string { return "DELETE FROM public." + table },
		func(table string) string { return "INSERT INTO public." + table + " SELECT * FROM backup." + table })
}

// stuck is a reader that takes nothing until it is cut off.
type stuck struct{ off chan struct{} }

func (s stuck) Write([]byte) (int, error) {
	<-s.off
	return 0, os.ErrDeadlineExceeded
}

// signedSize is the size of the log in a node's record of what was signed.
func signedSize(t *testing.T, path string) uint64 {
	t.Helper()
	lines := strings.Split(string(must[[]byte](t)(os.ReadFile(path))), "\n")
	return must[uint64](t)(strconv.ParseUint(lines[1], 10, 64))
}

// TestRollbackWhileRunning: of two nodes one signs. When the catalog is put back to
// a backup under them, both cut the reads that run, know nobody any more, and are
// refused at their next start, each by its own record.
func TestRollbackWhileRunning(t *testing.T) {
	dsn := storagetest.Postgres(t)
	w := newWorldOn(t, dsn, catalog.Options{})
	w.setUp()
	w.assign("lee", "0-1")
	w.v.Close()
	ctx := context.Background()
	w.shared = true
	dir := t.TempDir()
	first := must[[]byte](t)(os.ReadFile(w.state))
	nodes := map[string]*vault.Vault{}
	for _, name := range []string{"a", "b"} {
		w.state = filepath.Join(dir, name)
		if err := os.WriteFile(w.state, first, 0o600); err != nil {
			t.Fatal(err)
		}
		v := must[*vault.Vault](t)(w.open())
		t.Cleanup(func() { v.Close() })
		nodes[name], w.v = v, v
	}
	r := newRollback(t, dsn)
	r.backup()
	w.grant(dataset.Reviewer, "lee", "acme", nil) // is lost
	until := time.Now().Add(time.Minute)
	poll := func(what string, done func() bool) {
		t.Helper()
		for !done() {
			if time.Now().After(until) {
				t.Fatalf("gave up waiting: %s", what)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	var head storage.Head
	if err := w.db.View(ctx, func(tx *catalog.Tx) (err error) {
		head, err = tx.Head(ctx)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		poll("node "+name+" has seen the log signed", func() bool { return signedSize(t, filepath.Join(dir, name)) >= head.Size })
	}
	ends, callers := map[string]chan error{}, map[string]identity.Caller{}
	for name, v := range nodes {
		w.v = v
		callers[name] = w.as("lee")
		s := must[*vault.ShardStream](t)(v.ReadShard(ctx, w.as("lee"), dataset.ShardRef{Dataset: w.scope("acme/signs/batch-1")}, w.ids["lee"], ""))
		off, end := make(chan struct{}), make(chan error, 1)
		ends[name] = end
		go func() { end <- s.Send(stuck{off}, func() { close(off) }) }()
	}
	r.restore()
	for name, end := range ends {
		select {
		case err := <-end:
			if err == nil {
				t.Errorf("node %s has sent all", name)
			}
		case <-time.After(time.Until(until)):
			t.Fatalf("node %s goes on sending", name)
		}
	}
	for name, v := range nodes {
		if !v.Halted() {
			t.Errorf("node %s was not halted", name)
		}
		_, err := v.Authenticate(ctx, w.tokens["lee"], false, ledger.Actor{})
		wantCode(t, err, fault.Corrupt)
		_, err = v.ReadShard(ctx, callers[name], dataset.ShardRef{Dataset: w.scope("acme/signs/batch-1")}, w.ids["lee"], "")
		wantCode(t, err, fault.Unavailable)
		_, err = v.Ready(ctx)
		wantCode(t, err, fault.Corrupt)
		v.Close()
	}
	for name := range nodes {
		w.state = filepath.Join(dir, name)
		v, err := w.open()
		if err == nil {
			v.Close()
		}
		wantCode(t, err, fault.Corrupt)
	}
}
