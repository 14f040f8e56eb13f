// Package catalog keeps the vault's rows in SQL: SQLite for one node,
// PostgreSQL for several. The text of the SQL is one; what differs is in
// dialect.go.
//
// Times are kept as Unix microseconds and returned in UTC; the zero time is
// kept as 0. Errors are storage.ErrNoRow, storage.ErrExists, or *fault.Error.
package catalog

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strings"
	"time"

	"dsvault/vault/fault"
)

// Options tune a catalog. The zero value is good.
type Options struct {
	// Readers is how many snapshots can be read at once; 0 means 8.
	Readers int
	// Writers is how many transactions can write at once, on PostgreSQL only;
	// 0 means 4. SQLite has one.
	Writers int
	// Failed, unless it is nil, hears of each thing that the database could not
	// do, as Cause names it. It is called by many goroutines.
	Failed func(cause string)
	// Wrap, unless it is nil, stands between the catalog and the database's
	// driver: tests break it there.
	Wrap func(driver.Connector) driver.Connector
}

func (o *Options) open(c driver.Connector) *sql.DB {
	if o.Wrap != nil {
		c = o.Wrap(c)
	}
	return sql.OpenDB(c)
}

// DB is an open catalog, safe for concurrent use.
type DB struct {
	dialect *dialect
	writers *pool
	readers *pool
	follow  *pool // one reader, see Follow
	failed  func(cause string)
	schema  int64

	patience time.Duration // see the constant
}

// noted passes err on, and tells of it if the database is to blame.
func (db *DB) noted(err error) error {
	if cause := Cause(err); cause != "" && db.failed != nil && !fault.Is(err, fault.Canceled) {
		db.failed(cause)
	}
	return err
}

// lostInCommit reports whether a COMMIT that failed so may have been done.
// SQLite answers for itself.
func (db *DB) lostInCommit(ctx context.Context, err error) bool {
	return db.dialect.remote && (classOf(err) == lost || ctx.Err() != nil)
}

// Open opens the catalog at url, "sqlite:PATH" or "postgres://…", creates or
// migrates its tables, and refuses what is not a catalog, is damaged, or was
// written by a newer version. SQLite's file is made with mode 0600; its
// folder has to exist. Several nodes may open one PostgreSQL database at once.
func Open(ctx context.Context, url string, opts Options) (*DB, error) {
	const op = "catalog.Open"
	if opts.Readers <= 0 {
		opts.Readers = 8
	}
	if opts.Writers <= 0 {
		opts.Writers = 4
	}
	var db *DB
	var err error
	switch path, isFile := strings.CutPrefix(url, "sqlite:"); {
	case isFile:
		db, err = openSQLite(ctx, op, path, opts)
	case strings.HasPrefix(url, "postgres://"), strings.HasPrefix(url, "postgresql://"):
		db, err = openPostgres(op, url, opts)
	default:
		err = fault.New(fault.Invalid, op, "not the URL of a database").
			WithHint("write sqlite:PATH or postgres://USER@HOST/DATABASE")
	}
	if err != nil {
		return nil, classify(ctx, op, err)
	}
	db.failed = opts.Failed
	if db.dialect.remote {
		err = durable(ctx, op, db)
	}
	if err == nil {
		err = db.migrate(ctx)
	}
	if err != nil {
		return nil, errors.Join(classify(ctx, op, err), db.Close())
	}
	return db, nil
}

// Engine is "sqlite" or "postgres".
func (db *DB) Engine() string { return db.dialect.name }

// Close waits up to ten seconds for transactions under way, then closes.
func (db *DB) Close() error {
	return errors.Join(db.follow.close(), db.readers.close(), db.writers.close())
}

// Ping asks the database for an answer.
func (db *DB) Ping(ctx context.Context) error {
	return db.View(ctx, func(tx *Tx) error {
		_, err := tx.Head(ctx)
		return err
	})
}

// View runs f on a read-only snapshot: all that f reads is the state at its
// first read. It neither blocks the writer nor waits for it.
func (db *DB) View(ctx context.Context, f func(*Tx) error) error { return db.view(ctx, db.readers, f) }

func (db *DB) view(ctx context.Context, p *pool, f func(*Tx) error) error {
	tx, err := db.begin(ctx, p, db.dialect.beginRead)
	if err != nil {
		return err
	}
	tx.readOnly = true
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return err
	}
	return tx.failed // f swallowed an error: what it could not see is not absent
}

// Follow is View for what may not wait for other readers: who brings a node's
// policy state up to date, or looks up a key, while others wait, some of them in a
// View. It has a connection of its own, one; whoever calls it meanwhile waits.
func (db *DB) Follow(ctx context.Context, f func(*Tx) error) error {
	return db.view(ctx, db.follow, f)
}

// Begin starts a writing transaction. On SQLite there is one at a time, and
// Begin waits for it until ctx ends.
func (db *DB) Begin(ctx context.Context) (*Tx, error) {
	return db.begin(ctx, db.writers, db.dialect.beginWrite)
}

func (db *DB) begin(ctx context.Context, p *pool, statement string) (*Tx, error) {
	const op = "catalog.Begin"
	ctx, cancel := db.patient(ctx)
	defer cancel()
	c, err := p.get(ctx)
	if err != nil {
		return nil, db.noted(classify(ctx, op, err))
	}
	_, err = c.sql.ExecContext(ctx, statement)
	if err != nil && classOf(err) == lost && ctx.Err() == nil {
		// The server may have ended the connection while it was idle. Nothing
		// has been done on it, so a fresh one may take its place.
		c.close()
		if c, err = p.fill(ctx); err != nil {
			return nil, db.noted(classify(ctx, op, err))
		}
		_, err = c.sql.ExecContext(ctx, statement)
	}
	if err != nil {
		p.discard(c)
		return nil, db.noted(classify(ctx, op, err))
	}
	return &Tx{db: db, pool: p, c: c}, nil
}

func pools(d *dialect, writers, readers *sql.DB, nWriters, nReaders int) *DB {
	db := &DB{dialect: d, writers: newPool(writers, nWriters), readers: newPool(readers, nReaders), follow: newPool(readers, 1), patience: patience}
	db.follow.shared = true
	readers.SetMaxOpenConns(nReaders + 1)
	return db
}
