package catalog

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"dsvault/storage"
)

// TakeLease takes the lease called name for holder, or renews it, for ttl from
// now by the database's clock. It reports whether holder has it; nobody else
// gets it before it has run out.
func (tx *Tx) TakeLease(ctx context.Context, name, holder string, ttl time.Duration) (bool, error) {
	now := tx.db.dialect.now
	n, err := tx.exec(ctx, "catalog.TakeLease",
		"INSERT INTO leases (name, holder, until) VALUES ($1, $2, "+now+" + $3) ON CONFLICT (name) DO UPDATE"+
			" SET holder = excluded.holder, until = excluded.until WHERE leases.holder = excluded.holder OR leases.until <= "+now,
		name, holder, ttl.Microseconds())
	return n == 1, err
}

// LeaseHolder gives who had a lease last, whether or not it has run out; empty:
// nobody.
func (tx *Tx) LeaseHolder(ctx context.Context, name string) (holder string, err error) {
	err = tx.row(ctx, "catalog.LeaseHolder", "SELECT holder FROM leases WHERE name = $1", []any{name}, &holder)
	if errors.Is(err, storage.ErrNoRow) {
		err = nil
	}
	return holder, err
}

// DropLease gives a lease back. One that holder does not have stays.
func (tx *Tx) DropLease(ctx context.Context, name, holder string) error {
	_, err := tx.exec(ctx, "catalog.DropLease", "DELETE FROM leases WHERE name = $1 AND holder = $2", name, holder)
	return err
}

// Update runs f in a writing transaction and commits it if f returns nil.
func (db *DB) Update(ctx context.Context, f func(*Tx) error) error {
	tx, err := db.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// Lease is something that one process at a time does, among all that have the
// catalog open.
type Lease struct {
	Name   string
	Holder string // this process; unique
	// TTL is how long after the holder's death another takes over at the
	// latest, give or take a third; 0 means 3 seconds.
	TTL time.Duration
	// Alone says that no other process has the catalog open: then nothing is
	// asked of the database.
	Alone  bool
	Logger *slog.Logger
}

// Hold runs f whenever this process has the lease, until ctx ends. The context
// of f ends when the lease was not renewed in time, before anybody else can have
// it; f may return before, and is run again a little later. Hold returns once f
// has, and gives the lease back.
func (db *DB) Hold(ctx context.Context, l Lease, f func(context.Context)) {
	if l.TTL == 0 {
		l.TTL = 3 * time.Second
	}
	tick := time.NewTicker(l.TTL / 3)
	defer tick.Stop()
	for ctx.Err() == nil {
		asked := time.Now()
		switch {
		case l.Alone:
			f(ctx)
		case db.renew(ctx, l):
			db.term(ctx, l, asked, tick, f)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// term runs f while the lease, which was asked for at a time, is renewed.
func (db *DB) term(ctx context.Context, l Lease, asked time.Time, tick *time.Ticker, f func(context.Context)) {
	term, end := context.WithCancel(ctx)
	// However long the database takes to answer, f ends before the lease does.
	sure := l.TTL * 5 / 6
	late := time.AfterFunc(sure-time.Since(asked), end)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f(term)
	}()
	defer func() {
		late.Stop()
		end()
		<-ended
		// The holder's context may have ended; the lease is given back all the same.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		if err := db.Update(ctx, func(tx *Tx) error { return tx.DropLease(ctx, l.Name, l.Holder) }); err != nil {
			l.Logger.Warn("a lease could not be given back; it runs out by itself", "lease", l.Name, "err", err)
		}
	}()
	for {
		select {
		case <-term.Done():
			return
		case <-ended:
			return
		case <-tick.C:
		}
		asked := time.Now()
		if !db.renew(ctx, l) || !late.Reset(sure-time.Since(asked)) {
			return
		}
	}
}

// renew takes or keeps the lease, and reports whether this process has it.
func (db *DB) renew(ctx context.Context, l Lease) bool {
	asking, cancel := context.WithTimeout(ctx, l.TTL/3)
	defer cancel()
	held := false
	err := db.Update(asking, func(tx *Tx) (err error) {
		held, err = tx.TakeLease(asking, l.Name, l.Holder, l.TTL)
		return err
	})
	if err != nil && ctx.Err() == nil {
		l.Logger.Warn("a lease could not be taken or renewed", "lease", l.Name, "err", err)
	}
	return err == nil && held
}
