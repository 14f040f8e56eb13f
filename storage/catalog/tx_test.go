package catalog

import (
	"context"
	"database/sql"
	"errors"
	"runtime"
	"strings"
	"sync"

	"dsvault/storage"
	"dsvault/vault/fault"
)

func (s *fixture) setMeta(ctx context.Context, tx *Tx, keys ...string) error {
	for _, k := range keys {
		if err := tx.SetMeta(ctx, k, []byte(k)); err != nil {
			return err
		}
	}
	return nil
}

// metas gives which of the keys are there.
func (s *fixture) metas(keys ...string) string {
	s.Helper()
	var found []string
	for _, k := range keys {
		err := getErr(s, func(ctx context.Context, tx *Tx) (any, error) { return tx.Meta(ctx, k) })
		if err == nil {
			found = append(found, k)
		} else if !errors.Is(err, storage.ErrNoRow) {
			s.Fatal(err)
		}
	}
	return strings.Join(found, " ")
}

func testSavepoints(s *fixture) {
	s.scopeRow(1, "acme")
	taken := storage.ScopeRow{Slot: 1, Scope: scope("acme"), Tag: fresh16()}
	mind := errors.New("changed my mind")
	s.write(func(ctx context.Context, tx *Tx) error {
		if err := s.setMeta(ctx, tx, "a"); err != nil {
			return err
		}
		// The caller's own error.
		err := tx.Savepoint(ctx, func() error { return errors.Join(s.setMeta(ctx, tx, "b"), mind) })
		failsWith(s, "own error", err, mind)
		// A constraint, two levels deep; the outer level goes on.
		err = tx.Savepoint(ctx, func() error {
			if err := s.setMeta(ctx, tx, "c"); err != nil {
				return err
			}
			err := tx.Savepoint(ctx, func() error { return errors.Join(s.setMeta(ctx, tx, "d"), tx.AddScope(ctx, taken)) })
			failsWith(s, "inner", err, storage.ErrExists)
			return s.setMeta(ctx, tx, "e")
		})
		if err != nil {
			return err
		}
		// An error that the function swallows still undoes the savepoint.
		err = tx.Savepoint(ctx, func() error {
			_ = s.setMeta(ctx, tx, "f")
			_ = tx.AddScope(ctx, taken)
			return nil
		})
		failsWith(s, "swallowed", err, storage.ErrExists)
		// A missing row breaks nothing.
		err = tx.Savepoint(ctx, func() error {
			_, err := tx.Meta(ctx, "nope")
			failsWith(s, "missing", err, storage.ErrNoRow)
			return s.setMeta(ctx, tx, "g")
		})
		if err != nil {
			return err
		}
		return s.setMeta(ctx, tx, "h")
	})
	same(s, "what stayed", s.metas("a", "b", "c", "d", "e", "f", "g", "h"), "a c e g h")
}

// testBrokenView: what a View could not read does not pass for what is not there.
func testBrokenView(s *fixture) {
	gone, end := context.WithCancel(s.Context())
	end()
	err := s.db.View(s.Context(), func(tx *Tx) error {
		_, _ = tx.Meta(gone, "a")
		return nil
	})
	if !fault.Is(err, fault.Canceled) {
		s.Errorf("swallowed: %v", err)
	}
	err = s.db.View(s.Context(), func(tx *Tx) error {
		_, _ = tx.Meta(s.Context(), "a")
		return nil
	})
	if err != nil {
		s.Errorf("a missing row: %v", err)
	}
}

// testBrokenTransaction: both engines refuse to go on after a failed
// statement, and nothing of the transaction stays.
func testBrokenTransaction(s *fixture) {
	s.scopeRow(1, "acme")
	tx, err := s.db.Begin(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	defer tx.Rollback()
	ctx := s.Context()
	if err := s.setMeta(ctx, tx, "a"); err != nil {
		s.Fatal(err)
	}
	failsWith(s, "taken", tx.AddScope(ctx, storage.ScopeRow{Slot: 1, Scope: scope("x"), Tag: fresh16()}), storage.ErrExists)
	failsWith(s, "next statement", s.setMeta(ctx, tx, "b"), storage.ErrExists)
	_, err = tx.Head(ctx)
	failsWith(s, "next query", err, storage.ErrExists)
	failsWith(s, "savepoint", tx.Savepoint(ctx, func() error { return nil }), storage.ErrExists)
	failsWith(s, "commit", tx.Commit(), storage.ErrExists)
	same(s, "what stayed", s.metas("a", "b"), "")
}

func testSnapshot(s *fixture) {
	s.write(func(ctx context.Context, tx *Tx) error { return s.setMeta(ctx, tx, "a") })
	s.read(func(ctx context.Context, tx *Tx) error {
		if _, err := tx.Head(ctx); err != nil { // the snapshot begins here
			return err
		}
		// The writer is not blocked by the open snapshot, nor seen in it.
		s.write(func(ctx context.Context, w *Tx) error {
			if err := w.SetHead(ctx, storage.Head{Revision: 5}); err != nil {
				return err
			}
			return w.SetMeta(ctx, "a", []byte("changed"))
		})
		head, err := tx.Head(ctx)
		if err != nil || head.Revision != 0 {
			s.Errorf("the snapshot moved: revision %d, %v", head.Revision, err)
		}
		value, err := tx.Meta(ctx, "a")
		if err != nil || string(value) != "a" {
			s.Errorf("the snapshot moved: %q, %v", value, err)
		}
		return nil
	})
	// A reader sees nothing of an open transaction, and does not wait for it.
	tx, err := s.db.Begin(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.LockHead(s.Context()); err != nil {
		s.Fatal(err)
	}
	if err := tx.SetHead(s.Context(), storage.Head{Revision: 6}); err != nil {
		s.Fatal(err)
	}
	head := get(s, func(ctx context.Context, tx *Tx) (storage.Head, error) { return tx.Head(ctx) })
	same(s, "committed revision", head.Revision, uint64(5))
}

// testHeadLock adds to the head from many sides: no addition may be lost.
func testHeadLock(s *fixture) {
	const writers, each = 4, 10
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				err := s.try(func(ctx context.Context, tx *Tx) error {
					head, err := tx.LockHead(ctx)
					if err != nil {
						return err
					}
					head.Size++
					return tx.SetHead(ctx, head)
				})
				if err != nil {
					s.Error(err)
				}
			}
		})
	}
	wg.Wait()
	head := get(s, func(ctx context.Context, tx *Tx) (storage.Head, error) { return tx.Head(ctx) })
	same(s, "additions", head.Size, uint64(writers*each))
}

func testCancelled(s *fixture) {
	gone, cancel := context.WithCancel(s.Context())
	cancel()
	canceled := func(what string, err error) {
		s.Helper()
		failsWith(s, what, err, context.Canceled)
		same(s, what, fault.CodeOf(err), fault.Canceled)
	}
	_, err := s.db.Begin(gone)
	canceled("begin", err)
	canceled("view", s.db.View(gone, func(*Tx) error { return nil }))
	canceled("ping", s.db.Ping(gone))

	// A statement under a context that has ended; the transaction is lost, the
	// catalog is not.
	tx, err := s.db.Begin(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	if err := s.setMeta(s.Context(), tx, "a"); err != nil {
		s.Fatal(err)
	}
	canceled("statement", s.setMeta(gone, tx, "b"))
	canceled("commit", tx.Commit())
	same(s, "what stayed", s.metas("a", "b"), "")

	// Waiting for the head's lock.
	holder, err := s.db.Begin(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	defer holder.Rollback()
	if _, err := holder.LockHead(s.Context()); err != nil {
		s.Fatal(err)
	}
	waiting, cancel := context.WithCancel(s.Context())
	result := make(chan error)
	go func() {
		tx, err := s.db.Begin(waiting)
		if err == nil {
			_, err = tx.LockHead(waiting)
			tx.Rollback()
		}
		result <- err
	}()
	cancel()
	canceled("waiting for the lock", <-result)

	// In the middle of a stream.
	holder.Rollback()
	s.write(func(ctx context.Context, tx *Tx) error {
		var leaves []storage.Leaf
		for i := range uint64(3000) {
			leaves = append(leaves, storage.Leaf{Index: i, Data: make([]byte, 1000)})
		}
		return tx.AppendLeaves(ctx, leaves)
	})
	streaming, cancel := context.WithCancel(s.Context())
	defer cancel()
	err = s.db.View(streaming, func(tx *Tx) error {
		return tx.Leaves(streaming, storage.LeafQuery{}, func(storage.Leaf) error { cancel(); return streaming.Err() })
	})
	failsWith(s, "stream", err, context.Canceled)

	// When a row is there, and not yet read: that is no damage.
	ending, cancel := context.WithCancel(s.Context())
	defer cancel()
	canceled("a row", s.db.View(ending, func(tx *Tx) error {
		return tx.each(ending, "test", false, "SELECT 1", nil, func(rows *sql.Rows) error {
			cancel()
			for { // until the rows are closed
				var n int64
				if err := scan(rows, "test", &n); err != nil {
					return err
				}
				runtime.Gosched()
			}
		})
	}))
	if err := s.db.Ping(s.Context()); err != nil {
		s.Errorf("after all that: %v", err)
	}
}

func testMisuse(s *fixture) {
	internal := func(what string, err error) {
		s.Helper()
		same(s, what+": "+errText(err), fault.CodeOf(err), fault.Internal)
	}
	ctx := s.Context()
	s.read(func(ctx context.Context, tx *Tx) error {
		internal("write in a view", tx.SetMeta(ctx, "a", nil))
		_, err := tx.LockHead(ctx)
		internal("lock in a view", err)
		_, err = tx.CloseOpenReads(ctx, []uint64{1})
		internal("delete in a view", err)
		_, err = tx.Head(ctx) // and it is not broken by that
		return err
	})
	// The database itself refuses too.
	err := s.db.View(ctx, func(tx *Tx) error {
		tx.readOnly = false
		return tx.SetMeta(ctx, "a", nil)
	})
	same(s, "read-only connection", fault.CodeOf(err), fault.Unavailable)

	tx, err := s.db.Begin(ctx)
	if err != nil {
		s.Fatal(err)
	}
	if err := tx.AppendLeaves(ctx, []storage.Leaf{{}}); err != nil {
		s.Fatal(err)
	}
	err = tx.Leaves(ctx, storage.LeafQuery{}, func(storage.Leaf) error {
		_, err := tx.Head(ctx)
		return err
	})
	internal("a query while reading rows", err)
	if err := tx.Commit(); err != nil {
		s.Fatal(err)
	}
	tx.Rollback() // does nothing
	internal("commit twice", tx.Commit())
	internal("use after commit", tx.SetMeta(ctx, "a", nil))
	internal("savepoint after commit", tx.Savepoint(ctx, func() error { return nil }))
	same(s, "leaves", len(leafList(s, storage.LeafQuery{})), 1)
}

func errText(err error) string {
	if err == nil {
		return "no error"
	}
	return err.Error()
}

func testReopen(s *fixture) {
	s.write(func(ctx context.Context, tx *Tx) error { return s.setMeta(ctx, tx, "a") })
	if err := s.db.Close(); err != nil {
		s.Fatal(err)
	}
	s.db = open(s, s.url) // migrates again: nothing to do
	same(s, "meta", s.metas("a"), "a")
	same(s, "engine", s.db.Engine(), s.engine)
}

// testOpenedTwiceAtOnce: several nodes start on one empty database.
func testOpenedTwiceAtOnce(s *fixture) {
	url := s.freshURL()
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range 3 {
		wg.Go(func() {
			<-start
			db, err := Open(s.Context(), url, Options{})
			if err != nil {
				s.Error(err)
				return
			}
			if err := db.Ping(s.Context()); err != nil {
				s.Error(err)
			}
			if err := db.Close(); err != nil {
				s.Error(err)
			}
		})
	}
	close(start)
	wg.Wait()
}

func testNewerSchema(s *fixture) {
	s.write(func(ctx context.Context, tx *Tx) error {
		_, err := tx.exec(ctx, "test", "INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, "+
			map[string]string{"sqlite": "1", "postgres": "true"}[s.engine]+")")
		return err
	})
	db, err := Open(s.Context(), s.url, Options{})
	if err == nil {
		db.Close()
	}
	same(s, errText(err), fault.CodeOf(err), fault.Conflict)
	if fault.HintOf(err) == "" {
		s.Error("no hint")
	}
}

func testClose(s *fixture) {
	tx, err := s.db.Begin(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	closed := make(chan error)
	go func() { closed <- s.db.Close() }()
	<-s.db.writers.closed
	if err := s.setMeta(s.Context(), tx, "a"); err != nil {
		s.Errorf("the transaction under way: %v", err)
	}
	if err := tx.Commit(); err != nil {
		s.Errorf("the transaction under way: %v", err)
	}
	if err := <-closed; err != nil {
		s.Error(err)
	}
	same(s, "ping", fault.CodeOf(s.db.Ping(s.Context())), fault.Unavailable)
	_, err = s.db.Begin(s.Context())
	same(s, "begin", fault.CodeOf(err), fault.Unavailable)
	if err := s.db.Close(); err != nil {
		s.Errorf("close again: %v", err)
	}
	s.db = open(s, s.url)
	same(s, "what stayed", s.metas("a"), "a")
}
