package catalog

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"dsvault/storage/storagetest"
	"dsvault/vault/fault"
)

// TestPostgresThatDoesNotAnswer: on a line that carries nothing every wait comes to
// an end, though the caller would go on waiting, and is an outage. Once the line
// carries again, so does the catalog.
func TestPostgresThatDoesNotAnswer(t *testing.T) {
	dsn := postgresDSN(t)
	many := func(ctx context.Context, tx *Tx, f func(n int) error) error {
		n := 0
		return tx.each(ctx, "test", false, "SELECT repeat('x', 1000) FROM generate_series(1, 20000)", nil, func(rows *sql.Rows) error {
			n++
			if err := f(n); err != nil {
				return err
			}
			var text string
			return scan(rows, "test", &text)
		})
	}
	ask := func(ctx context.Context, tx *Tx) error { return tx.SetMeta(ctx, "a", nil) }
	for name, do := range map[string]func(ctx context.Context, db *DB, stall func()) error{
		"begin": func(ctx context.Context, db *DB, stall func()) error {
			stall()
			return db.View(ctx, func(*Tx) error { return nil })
		},
		"connect": func(ctx context.Context, db *DB, stall func()) error {
			return db.View(ctx, func(*Tx) error {
				stall()
				return db.View(ctx, func(*Tx) error { return nil })
			})
		},
		"query": func(ctx context.Context, db *DB, stall func()) error {
			return db.View(ctx, func(tx *Tx) error { stall(); _, err := tx.Head(ctx); return err })
		},
		"rows": func(ctx context.Context, db *DB, stall func()) error {
			return db.View(ctx, func(tx *Tx) error {
				return many(ctx, tx, func(n int) error {
					if n == 1 {
						stall()
					}
					return nil
				})
			})
		},
		"rows that nobody wants": func(ctx context.Context, db *DB, stall func()) error {
			return db.View(ctx, func(tx *Tx) error {
				enough := fault.New(fault.Unavailable, "test", "enough")
				return many(ctx, tx, func(int) error { stall(); return enough })
			})
		},
		"write": func(ctx context.Context, db *DB, stall func()) error {
			return db.Update(ctx, func(tx *Tx) error { stall(); return ask(ctx, tx) })
		},
		"savepoint": func(ctx context.Context, db *DB, stall func()) error {
			return db.Update(ctx, func(tx *Tx) error {
				stall()
				return tx.Savepoint(ctx, func() error { return nil })
			})
		},
		"together": func(ctx context.Context, db *DB, stall func()) error {
			return db.Update(ctx, func(tx *Tx) error {
				stall()
				return tx.Together(ctx, func() error { return tx.write(ctx, write{op: "test", query: "DELETE FROM meta"}) })
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wire, near := storagetest.NewWire(t, dsn)
			db := open(t, near)
			ctx := t.Context()
			if err := db.Update(ctx, func(tx *Tx) error { return ask(ctx, tx) }); err != nil { // it is connected
				t.Fatal(err)
			}
			db.patience = 2 * time.Second
			err := do(ctx, db, func() { wire.Set(storagetest.Stalls) })
			if !fault.Is(err, fault.Unavailable) || fault.HintOf(err) == "" && name != "rows that nobody wants" {
				t.Errorf("got %v", err)
			}
			wire.Set(storagetest.Works)
			db.patience = patience
			for _, f := range []func(context.Context, func(*Tx) error) error{db.View, db.Update} {
				if err := f(ctx, func(tx *Tx) error { _, err := tx.Head(ctx); return err }); err != nil {
					t.Errorf("afterwards: %v", err)
				}
			}
		})
	}
}

// TestPostgresThatIsBusy: who waits for a connection that others keep does not wait
// for ever; who takes long over rows that have come is not stopped.
func TestPostgresThatIsBusy(t *testing.T) {
	ctx := t.Context()
	db, err := Open(ctx, postgresDSN(t), Options{Readers: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	db.patience = 2 * time.Second
	err = db.View(ctx, func(tx *Tx) error {
		err := tx.each(ctx, "test", false, "SELECT 1 FROM generate_series(1, 2)", nil, func(*sql.Rows) error {
			if err := db.View(ctx, func(*Tx) error { return nil }); !fault.Is(err, fault.Unavailable) {
				t.Errorf("a View in the only one: %v", err)
			}
			return nil
		})
		if err != nil {
			return err
		}
		_, err = tx.Head(ctx)
		return err
	})
	if err != nil {
		t.Errorf("who has it: %v", err)
	}
}
