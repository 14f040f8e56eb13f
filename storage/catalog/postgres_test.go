package catalog

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"dsvault/storage"
	"dsvault/vault/fault"
)

// cutOff ends every connection of our catalogs to the database.
func cutOff(t *testing.T, dsn string) {
	t.Helper()
	postgresExec(t, dsn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'dsvault'")
}

func TestPostgresConnectionsThatEnd(t *testing.T) {
	dsn := postgresDSN(t)
	s := &fixture{T: t, db: open(t, dsn)}
	ctx := t.Context()
	// While idle: nobody notices.
	for range 3 {
		s.write(func(ctx context.Context, tx *Tx) error { return s.setMeta(ctx, tx, "a") })
		same(t, "meta", s.metas("a"), "a")
		cutOff(t, dsn)
	}
	// In a transaction: an outage, and nothing of it stays.
	for _, commit := range []bool{false, true} {
		tx, err := s.db.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.setMeta(ctx, tx, "b"); err != nil {
			t.Fatal(err)
		}
		cutOff(t, dsn)
		if !commit {
			err = s.setMeta(ctx, tx, "c")
			if !fault.Is(err, fault.Unavailable) || fault.HintOf(err) == "" {
				t.Errorf("cut off: %v", err)
			}
		}
		if err := tx.Commit(); !fault.Is(err, fault.Unavailable) {
			t.Errorf("commit after it was cut off: %v", err)
		}
	}
	same(t, "what stayed", s.metas("a", "b", "c"), "a")
}

func TestPostgresThatIsNotThere(t *testing.T) {
	dsn := postgresDSN(t)
	for name, url := range map[string]string{
		"server":   "postgres://ann:top-secret@127.0.0.1:1/x?sslmode=disable",
		"database": strings.Replace(dsn, "@localhost/", ":top-secret@localhost/nope", 1),
		"user":     strings.Replace(dsn, "postgres@", "nobody:top-secret@", 1),
	} {
		_, err := Open(t.Context(), url, Options{})
		if !fault.Is(err, fault.Unavailable) || fault.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
		if strings.Contains(errText(err), "top-secret") {
			t.Errorf("%s: the password is in the error", name)
		}
	}
	_, err := Open(t.Context(), "postgres://ann:top-secret@host:port/x", Options{})
	if !fault.Is(err, fault.Invalid) || strings.Contains(errText(err), "top-secret") {
		t.Errorf("bad URL: %v", err)
	}
}

// TestPostgresThatForgets: a server that does not keep what it acknowledges is
// refused at the start.
func TestPostgresThatForgets(t *testing.T) {
	dsn := postgresDSN(t)
	for _, setting := range []string{"fsync", "full_page_writes", "synchronous_commit"} {
		set := func(value, refused string) {
			t.Helper()
			postgresExec(t, dsn, "ALTER SYSTEM SET "+setting+" = "+value)
			postgresExec(t, dsn, "SELECT pg_reload_conf()")
			for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
				db, err := Open(t.Context(), dsn, Options{})
				if err == nil {
					db.Close()
				}
				if told := err != nil && fault.Is(err, fault.Conflict) && strings.Contains(fault.HintOf(err), refused); (refused == "") == (err == nil) && (err == nil || told) {
					return
				}
				if time.Now().After(deadline) {
					t.Fatalf("%s = %s: %v", setting, value, err)
				}
			}
		}
		set("off", setting)
		if setting == "synchronous_commit" { // writers ask for more than the server's default
			set("local", "")
			db := open(t, dsn)
			var value string
			if err := db.writers.db.QueryRowContext(t.Context(), "SELECT current_setting('synchronous_commit')").Scan(&value); err != nil || value != "on" {
				t.Errorf("writers have synchronous_commit %q, %v", value, err)
			}
			db.Close()
		}
		set("on", "")
	}
}

// TestPostgresWarnsInCommit: whether such a commit holds is not known.
func TestPostgresWarnsInCommit(t *testing.T) {
	dsn := postgresDSN(t)
	s := &fixture{T: t, db: open(t, dsn)}
	postgresExec(t, dsn, "CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'not replicated'; RETURN NULL; END $$")
	postgresExec(t, dsn, "CREATE CONSTRAINT TRIGGER warn AFTER INSERT ON meta DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION warn()")
	err := s.db.Update(t.Context(), func(tx *Tx) error { return s.setMeta(t.Context(), tx, "a") })
	if !fault.Is(err, fault.Unavailable) || !errors.Is(err, storage.ErrCommitUnknown) || fault.HintOf(err) == "" {
		t.Errorf("got %v", err)
	}
	postgresExec(t, dsn, "DROP TRIGGER warn ON meta")
	if err := s.db.Update(t.Context(), func(tx *Tx) error { return s.setMeta(t.Context(), tx, "b") }); err != nil {
		t.Errorf("the next one: %v", err)
	}
}
