package catalog

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"time"

	"dsvault/storage"
	"dsvault/vault/fault"
)

// Tx is one transaction. It belongs to one goroutine.
//
// After an error other than storage.ErrNoRow a transaction refuses everything
// until it is rolled back, on both engines alike: run what may fail in a
// Savepoint if the transaction is to go on.
type Tx struct {
	db        *DB
	pool      *pool
	c         *conn
	readOnly  bool
	done      bool
	streaming bool  // rows are being read
	depth     int   // of savepoints
	failed    error // the error that broke the transaction
	mendable  bool  // failed by a constraint: a savepoint can mend it
	gathering bool  // writes wait for the end of Together
	gathered  []write
}

const (
	rollbackTimeout = 5 * time.Second
	commitTimeout   = 30 * time.Second
)

// Commit makes the transaction durable. After an error it is rolled back,
// unless the connection was lost while committing: then nobody knows.
func (tx *Tx) Commit() error {
	const op = "catalog.Commit"
	if tx.done {
		return fault.New(fault.Internal, op, "the transaction has ended already")
	}
	if tx.gathering {
		return fault.New(fault.Internal, op, "the transaction is still gathering writes")
	}
	if tx.failed != nil {
		tx.Rollback()
		return tx.failed
	}
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	if tx.db.dialect.remote {
		takeWarning(tx.c.sql)
	}
	_, err := tx.c.sql.ExecContext(ctx, "COMMIT")
	if err == nil && tx.db.dialect.remote {
		// A commit that did not reach a standby, or had nothing to end, is told so only.
		if warning := takeWarning(tx.c.sql); warning != "" {
			tx.Rollback()
			return tx.db.noted(fault.Wrap(fault.Unavailable, op, "the database warned while it committed",
				errors.Join(storage.ErrCommitUnknown, errors.New(warning))).WithHint("see the database's log").WithRetry(time.Second))
		}
	}
	if err != nil {
		tx.Rollback()
		unknown := tx.db.lostInCommit(ctx, err)
		if err = tx.db.noted(classify(ctx, op, err)); unknown {
			return fault.Wrap(fault.Unavailable, op, "the connection broke during the commit",
				errors.Join(storage.ErrCommitUnknown, err)).WithHint(fault.HintOf(err)).WithRetry(time.Second)
		}
		return err
	}
	tx.done = true
	tx.pool.put(tx.c)
	return nil
}

// Rollback undoes the transaction. It does nothing after Commit or Rollback,
// so that it can be deferred.
func (tx *Tx) Rollback() {
	if tx.done {
		return
	}
	tx.done = true
	// The caller's context may have ended; the connection has to be cleaned all the same.
	ctx, cancel := context.WithTimeout(context.Background(), rollbackTimeout)
	defer cancel()
	if _, err := tx.c.sql.ExecContext(ctx, "ROLLBACK"); err != nil {
		tx.pool.discard(tx.c)
		return
	}
	tx.pool.put(tx.c)
}

// Savepoint runs f. If f fails, what it wrote is undone and the transaction
// stays usable, unless its connection or its context has gone; f's error is
// returned. Savepoints nest.
func (tx *Tx) Savepoint(ctx context.Context, f func() error) error {
	const op = "catalog.Savepoint"
	if err := tx.usable(op, true); err != nil {
		return err
	}
	tx.depth++
	defer func() { tx.depth-- }()
	name := "s" + strconv.Itoa(tx.depth)
	if err := tx.control(ctx, op, "SAVEPOINT "+name); err != nil {
		return err
	}
	err := f()
	if err == nil {
		err = tx.failed // f swallowed an error that broke the transaction
	}
	if err == nil {
		return tx.control(ctx, op, "RELEASE SAVEPOINT "+name)
	}
	if tx.failed != nil && !tx.mendable {
		return err
	}
	tx.failed, tx.mendable = nil, false
	if undo := tx.control(ctx, op, "ROLLBACK TO SAVEPOINT "+name); undo != nil {
		return errors.Join(err, undo)
	}
	if undo := tx.control(ctx, op, "RELEASE SAVEPOINT "+name); undo != nil {
		return errors.Join(err, undo)
	}
	return err
}

func (tx *Tx) control(ctx context.Context, op, statement string) error {
	ctx, cancel := tx.db.patient(ctx)
	defer cancel()
	_, err := tx.c.sql.ExecContext(ctx, statement)
	return tx.fail(ctx, op, err)
}

// usable refuses a transaction that has ended, is broken, or is in the middle
// of reading rows: PostgreSQL could not run another statement on it.
func (tx *Tx) usable(op string, writing bool) error {
	switch {
	case tx.done:
		return fault.New(fault.Internal, op, "the transaction has ended")
	case tx.failed != nil:
		return tx.failed
	case tx.streaming:
		return fault.New(fault.Internal, op, "the transaction is still reading rows")
	case tx.gathering:
		return fault.New(fault.Internal, op, "the transaction is gathering writes")
	case writing && tx.readOnly:
		return fault.New(fault.Internal, op, "the transaction is read-only")
	}
	return nil
}

// fail classifies a driver's error and remembers that the transaction is
// broken. It has to: SQLite ends a transaction by itself on some errors, and
// statements after that would commit one by one.
func (tx *Tx) fail(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	kind := classOf(err)
	err = tx.db.noted(classify(ctx, op, err))
	if kind != noRow {
		tx.failed, tx.mendable = err, kind == exists || kind == dangling || kind == unknown
	}
	return err
}

// exec runs a writing statement and returns how many rows it touched.
func (tx *Tx) exec(ctx context.Context, op, query string, args ...any) (int64, error) {
	if err := tx.usable(op, true); err != nil {
		return 0, err
	}
	ctx, cancel := tx.db.patient(ctx)
	defer cancel()
	stmt, err := tx.c.prepare(ctx, query)
	if err != nil {
		return 0, tx.fail(ctx, op, err)
	}
	result, err := stmt.ExecContext(ctx, args...)
	if err != nil {
		return 0, tx.fail(ctx, op, err)
	}
	n, err := result.RowsAffected()
	return n, tx.fail(ctx, op, err)
}

// change runs a writing statement that has to touch a row: storage.ErrNoRow if
// there was none.
func (tx *Tx) change(ctx context.Context, op, query string, args ...any) error {
	return tx.write(ctx, write{op: op, query: query, args: args, untouched: func() error { return classify(ctx, op, sql.ErrNoRows) }})
}

// each runs a query and calls f for each row. The transaction cannot be used
// inside f. An error of f ends the reading and is returned as it is.
func (tx *Tx) each(ctx context.Context, op string, writing bool, query string, args []any, f func(*sql.Rows) error) error {
	if err := tx.usable(op, writing); err != nil {
		return err
	}
	waiting, wait := tx.db.waitForRows(ctx)
	defer wait.end()
	stmt, err := tx.c.prepare(waiting, query)
	if err != nil {
		return tx.fail(ctx, op, wait.why(err))
	}
	rows, err := stmt.QueryContext(waiting, args...)
	if err != nil {
		return tx.fail(ctx, op, wait.why(err))
	}
	tx.streaming = true
	defer func() { tx.streaming = false }()
	for rows.Next() {
		if err := wait.during(func() error { return f(rows) }); err != nil {
			rows.Close()
			if fault.Is(err, fault.Canceled) && wait.over() { // which has closed the rows meanwhile
				return tx.fail(ctx, op, context.DeadlineExceeded)
			}
			return err
		}
	}
	err = rows.Err()
	if closing := rows.Close(); err == nil {
		err = closing
	}
	return tx.fail(ctx, op, wait.why(err))
}

// scan reads a row; a value that does not fit is corruption.
func scan(rows *sql.Rows, op string, into ...any) error {
	if err := rows.Scan(into...); err != nil {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return contextFault(op, err) // which has closed the rows meanwhile
		}
		return fault.Wrap(fault.Corrupt, op, "a row of the catalog cannot be read", err).
			WithHint("stop the server, keep a copy of the damaged database, and restore a backup")
	}
	return nil
}

// row reads one row of plain values: storage.ErrNoRow if there is none.
func (tx *Tx) row(ctx context.Context, op, query string, args []any, into ...any) error {
	found := false
	err := tx.each(ctx, op, false, query, args, func(rows *sql.Rows) error {
		found = true
		return scan(rows, op, into...)
	})
	if err == nil && !found {
		err = classify(ctx, op, sql.ErrNoRows)
	}
	return err
}

// MaxPage is the most rows that one call of a paged method returns; a limit of
// 0, or one above it, means MaxPage.
const MaxPage = 1000

func page(limit int) int64 {
	if limit <= 0 || limit > MaxPage {
		return MaxPage
	}
	return int64(limit)
}

// chunks are the row counts that long lists are cut into, few, so that their
// statements are prepared once.
var chunks = [...]int{64, 16, 4, 1}

// inChunks calls f with consecutive pieces of list of those sizes.
func inChunks[T any](list []T, f func([]T) error) error {
	for len(list) > 0 {
		n := 1
		for _, size := range chunks {
			if size <= len(list) {
				n = size
				break
			}
		}
		if err := f(list[:n]); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}
