package catalog

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	sqlite3 "modernc.org/sqlite/lib"

	"dsvault/storage"
	"dsvault/vault/fault"
)

func TestClassesOfCodes(t *testing.T) {
	for code, want := range map[int]class{
		sqlite3.SQLITE_CONSTRAINT_UNIQUE: exists, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY: exists, sqlite3.SQLITE_CONSTRAINT_ROWID: exists,
		sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY: dangling, sqlite3.SQLITE_CONSTRAINT_CHECK: unknown,
		sqlite3.SQLITE_FULL: full, sqlite3.SQLITE_READONLY: readOnly, sqlite3.SQLITE_READONLY_DBMOVED: readOnly,
		sqlite3.SQLITE_BUSY: busy, sqlite3.SQLITE_BUSY_SNAPSHOT: busy, sqlite3.SQLITE_LOCKED: busy,
		sqlite3.SQLITE_IOERR_FSYNC: lost, sqlite3.SQLITE_IOERR_WRITE: readOnly, sqlite3.SQLITE_CANTOPEN: lost, sqlite3.SQLITE_INTERRUPT: interrupted,
		sqlite3.SQLITE_NOTADB: notOurs, sqlite3.SQLITE_CORRUPT: corrupt, sqlite3.SQLITE_CORRUPT_INDEX: corrupt, sqlite3.SQLITE_ERROR: unknown,
	} {
		if got := sqliteClass(code); got != want {
			t.Errorf("SQLite %d: class %d, want %d", code, got, want)
		}
	}
	for state, want := range map[string]class{
		"23505": exists, "23503": dangling, "23514": unknown, "53100": full, "25006": readOnly, "55P03": busy, "57014": interrupted,
		"40001": conflicted, "40P01": conflicted, "57P01": lost, "57P02": lost, "57P03": lost, "25P03": lost, "08006": lost, "58030": lost,
		"28P01": refused, "28000": refused, "3D000": refused, "53300": refused, "XX001": corrupt, "XX002": corrupt, "42601": unknown, "": unknown,
	} {
		if got := classOf(fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: state})); got != want {
			t.Errorf("SQLSTATE %q: class %d, want %d", state, got, want)
		}
	}
}

func TestClassify(t *testing.T) {
	ctx := t.Context()
	gone, cancel := context.WithCancel(ctx)
	cancel()
	pg := func(state string) error { return &pgconn.PgError{Code: state} }
	for _, c := range []struct {
		name string
		ctx  context.Context
		err  error
		code fault.Code
		is   error
	}{
		{"missing row", ctx, sql.ErrNoRows, fault.Internal, storage.ErrNoRow},
		{"missing row after the context ended", gone, sql.ErrNoRows, fault.Internal, storage.ErrNoRow},
		{"unique", ctx, pg("23505"), fault.Internal, storage.ErrExists},
		{"foreign key", ctx, pg("23503"), fault.Internal, storage.ErrNoRow},
		{"disk full", ctx, pg("53100"), fault.Unavailable, nil},
		{"read-only", ctx, pg("25006"), fault.Unavailable, nil},
		{"locked", ctx, pg("55P03"), fault.Unavailable, nil},
		{"serialization", ctx, pg("40001"), fault.Unavailable, nil},
		{"admin shutdown", ctx, pg("57P01"), fault.Unavailable, nil},
		{"statement timeout", ctx, pg("57014"), fault.Unavailable, nil},
		{"login", ctx, pg("28P01"), fault.Unavailable, nil},
		{"corruption", ctx, pg("XX001"), fault.Corrupt, nil},
		{"corruption after the context ended", gone, pg("XX001"), fault.Corrupt, nil},
		{"syntax", ctx, pg("42601"), fault.Internal, nil},
		{"network", ctx, &net.OpError{Op: "read", Err: errors.New("reset")}, fault.Unavailable, nil},
		{"cut off", ctx, io.ErrUnexpectedEOF, fault.Unavailable, nil},
		{"bad connection", ctx, driver.ErrBadConn, fault.Unavailable, nil},
		{"canceled", ctx, context.Canceled, fault.Canceled, context.Canceled},
		{"canceled query", gone, pg("57014"), fault.Canceled, context.Canceled},
		{"cut off by the context", gone, io.ErrUnexpectedEOF, fault.Canceled, context.Canceled},
		{"deadline", ctx, context.DeadlineExceeded, fault.Unavailable, context.DeadlineExceeded},
		{"ours", ctx, fault.New(fault.Conflict, "x", "y"), fault.Conflict, nil},
	} {
		err := classify(c.ctx, "catalog.Test", c.err)
		if got := fault.CodeOf(err); got != c.code {
			t.Errorf("%s: code %s, want %s", c.name, got, c.code)
		}
		if c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v is not %v", c.name, err, c.is)
		}
		if c.is == nil && !errors.Is(err, c.err) {
			t.Errorf("%s: the cause is lost", c.name)
		}
		if c.is == nil && c.code != fault.Internal && c.name != "ours" && fault.HintOf(err) == "" {
			t.Errorf("%s: no hint", c.name)
		}
	}
	if classify(gone, "catalog.Test", nil) != nil {
		t.Error("no error became one")
	}
}
