package catalog

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"dsvault/storage"
	"dsvault/vault/fault"
)

// class is what a driver's error means to us, whichever driver it is.
type class int

const (
	unknown     class = iota
	noRow             // the query matched nothing
	exists            // a unique key is taken
	dangling          // a row that is referred to is not there
	interrupted       // a query was stopped, usually because its context ended
	full              // no space left
	readOnly          // the database may not be written
	busy              // somebody else holds a lock for too long
	lost              // the server or the connection is gone
	conflicted        // serialization failure or deadlock: run it again
	refused           // the server does not let us in
	notOurs           // the file is no SQLite database
	corrupt           // the database contradicts itself
)

var causes = map[class]string{
	interrupted: "interrupted", full: "full", readOnly: "read-only", busy: "busy", lost: "lost", conflicted: "conflicted",
	refused: "refused", notOurs: "not-ours", corrupt: "corrupt", unknown: "other",
}

// Cause names what the database could not do, in one word, or "" if err is not
// of its making: a row that is missing or there already is an answer.
func Cause(err error) string {
	if err == nil {
		return ""
	}
	kind := classOf(err)
	if kind == unknown && !driverMade(err) {
		return ""
	}
	return causes[kind]
}

// driverMade reports whether there is a driver's error in the chain.
func driverMade(err error) bool {
	return errors.As(err, new(*sqlite.Error)) || errors.As(err, new(*pgconn.PgError))
}

// classify is the one place that tells driver errors apart, by code. Errors
// that are already in our terms pass unchanged; so do the context's, wrapped
// so that errors.Is finds them.
func classify(ctx context.Context, op string, err error) error {
	if err == nil || errors.As(err, new(*fault.Error)) ||
		errors.Is(err, storage.ErrNoRow) || errors.Is(err, storage.ErrExists) {
		return err
	}
	kind := classOf(err)
	if kind == noRow {
		return fmt.Errorf("%s: %w", op, storage.ErrNoRow)
	}
	if ended := ctx.Err(); ended != nil && kind != exists && kind != dangling && kind != corrupt {
		return contextFault(op, ended)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return contextFault(op, err)
	}
	unavailable := func(message, hint string) error {
		return fault.Wrap(fault.Unavailable, op, message, err).WithHint(hint).WithRetry(time.Second)
	}
	switch kind {
	case exists:
		return fmt.Errorf("%s: %w (%w)", op, storage.ErrExists, err)
	case dangling:
		return fmt.Errorf("%s: a row that this one refers to is missing: %w (%w)", op, storage.ErrNoRow, err)
	case full:
		return unavailable("no space left for the database", "free space on the database's disk, then try again")
	case readOnly:
		return unavailable("the database cannot be written", "check the disk, the owner and the mode of the database's file and folder, or whether the server is a standby")
	case busy:
		return unavailable("the database is locked by another program", "see who else has the database open, or try again")
	case lost:
		return unavailable("the database does not answer", "check that the database server is running and reachable")
	case conflicted:
		return unavailable("the transaction collided with another one", "try again")
	case refused:
		return unavailable("the database server refused us", "check user, password and database name in the database's URL, and the server's connection limit")
	case interrupted:
		return unavailable("the query was stopped", "try again")
	case notOurs:
		return fault.Wrap(fault.Corrupt, op, "the file is not a SQLite database", err).
			WithHint("check the path; if it is right, restore the file from a backup")
	case corrupt:
		return fault.Wrap(fault.Corrupt, op, "the database is damaged", err).
			WithHint("stop the server, keep a copy of the damaged database, and restore a backup")
	default:
		return fault.Wrap(fault.Internal, op, "the database refused the statement", err)
	}
}

func contextFault(op string, err error) error {
	if errors.Is(err, context.Canceled) {
		return fault.Wrap(fault.Canceled, op, "canceled", err)
	}
	return fault.Wrap(fault.Unavailable, op, "the database did not answer in time", err).
		WithHint("try again; if it goes on, the operator should look at the database").WithRetry(time.Second)
}

func classOf(err error) class {
	var lite *sqlite.Error
	var pg *pgconn.PgError
	var network net.Error
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return noRow
	case errors.As(err, &lite):
		return sqliteClass(lite.Code())
	case errors.As(err, &pg):
		if pg.Code == "0A000" && pg.Routine != "RevalidateCachedQuery" {
			return readOnly // a standby refuses READ WRITE as a feature that it does not support
		}
		return postgresClass(pg.Code)
	case errors.As(err, new(*pgconn.ConnectError)), errors.As(err, &network),
		errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return lost
	case errors.As(err, new(badRow)):
		return corrupt
	}
	return unknown
}

// sqliteClass reads a SQLite result code: https://www.sqlite.org/rescode.html.
func sqliteClass(code int) class {
	switch code {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_ROWID:
		return exists
	case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
		return dangling
	case sqlite3.SQLITE_IOERR_WRITE: // so it says of a file system that has become read-only, too
		return readOnly
	}
	switch code & 0xff { // the extended codes' primary code
	case sqlite3.SQLITE_INTERRUPT:
		return interrupted
	case sqlite3.SQLITE_FULL:
		return full
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return readOnly
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL:
		return busy
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM:
		return lost
	case sqlite3.SQLITE_NOTADB:
		return notOurs
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FORMAT:
		return corrupt
	}
	return unknown
}

// postgresClass reads a SQLSTATE: appendix A of PostgreSQL's manual.
func postgresClass(state string) class {
	switch state {
	case "23505": // unique_violation
		return exists
	case "23503": // foreign_key_violation
		return dangling
	case "57014": // query_canceled
		return interrupted
	case "53100": // disk_full
		return full
	case "25006": // read_only_sql_transaction
		return readOnly
	case "55P03": // lock_not_available
		return busy
	case "25P03", "25P04", "57P01", "57P02", "57P03", "57P05": // timeouts of the session, shutdown, starting up
		return lost
	case "XX001", "XX002": // data_corrupted, index_corrupted
		return corrupt
	case "3D000": // invalid_catalog_name
		return refused
	}
	if len(state) != 5 {
		return unknown
	}
	switch state[:2] {
	case "08", "58": // connection, system error
		return lost
	case "40": // serialization failure, deadlock
		return conflicted
	case "28", "53": // authorization; too many connections, out of memory
		return refused
	}
	return unknown
}
