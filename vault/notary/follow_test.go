package notary

import (
	"context"
	"database/sql"
	"os"
	"strings"
	"testing"

	"dsvault/storage/catalog"
	"dsvault/vault/fault"
)

// TestFollow: a node that never signs notices, too, that the catalog is not the one
// that it has seen signed, serves nothing then, and refuses it at its next start.
func TestFollow(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			for _, c := range []struct {
				name, says string
				begin      uint64 // of other leaves
				size       uint64
				signed     bool // by a node that knows of nothing
			}{
				{"rolled back", "it has 250 leaves, but 600 were signed", 250, 250, true},
				{"rolled back and grown", "first 600 leaves are not those", 250, 700, false},
				{"rolled back, grown and signed", "first 600 leaves are not those", 250, 700, true},
				{"of one size, forked", "are not those", 599, 600, true},
			} {
				t.Run(c.name, func(t *testing.T) {
					ctx := t.Context()
					key := newKey(t)
					db, spoilt := openCatalog(t, e.url(t)), openCatalog(t, e.url(t))
					grow(t, db, 600)
					signer := testNotary(t, db, key)
					cfg := testConfig(t, db, key) // of the one that follows
					check(t, InitState(cfg.State, key))
					n, err := Open(ctx, cfg)
					check(t, err)
					check(t, n.follow(ctx))
					check(t, signer.sign(ctx))
					check(t, n.follow(ctx))
					if state, found, err := n.readState(); err != nil || !found || state.Size != 600 {
						t.Fatalf("it remembers %+v, %v, %v", state, found, err)
					}
					grow(t, spoilt, c.begin)
					growOther(t, spoilt, c.size)
					if c.signed {
						check(t, testNotary(t, spoilt, key).sign(ctx))
					}
					n.cfg.Catalog = spoilt
					if err := n.follow(ctx); !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), c.says) || n.Halted() == nil {
						t.Errorf("the running node: %v, halted: %v", err, n.Halted())
					}
					cfg.Catalog = spoilt
					if _, err = Open(ctx, cfg); !fault.Is(err, fault.Corrupt) {
						t.Errorf("at the start: %v", err)
					}
				})
			}
		})
	}
}

// TestFollowHead: what was not signed yet may not go, either.
func TestFollowHead(t *testing.T) {
	ctx := t.Context()
	key := newKey(t)
	db, spoilt := openCatalog(t, engines[0].url(t)), openCatalog(t, engines[0].url(t))
	grow(t, db, 20)
	n := testNotary(t, db, key)
	check(t, n.sign(ctx))
	grow(t, db, 30)
	check(t, n.follow(ctx))
	grow(t, spoilt, 25)
	n.cfg.Catalog = spoilt
	if err := n.follow(ctx); !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "it has 25 leaves, and had 30") {
		t.Errorf("got %v", err)
	}
}

// TestFollowUnsure: what is no rollback is none: a checkpoint that this node has
// signed and could not publish, and a state file that cannot be written.
func TestFollowUnsure(t *testing.T) {
	ctx := t.Context()
	key := newKey(t)
	db := openCatalog(t, engines[0].url(t))
	grow(t, db, 300)
	n := testNotary(t, db, key)
	check(t, n.sign(ctx))
	grow(t, db, 700)
	stored, err := n.Await(ctx, 300)
	check(t, err)
	check(t, n.sign(ctx))
	check(t, db.Update(ctx, func(tx *catalog.Tx) error { // as if it had not got there
		if err := tx.DropCheckpoint(ctx); err != nil {
			return err
		}
		return tx.SetCheckpoint(ctx, stored)
	}))
	check(t, n.follow(ctx))
	check(t, n.sign(ctx))

	cfg := testConfig(t, db, key)
	check(t, InitState(cfg.State, key))
	other, err := Open(ctx, cfg)
	check(t, err)
	other.cfg.State = cfg.State + "/none"
	if err := other.follow(ctx); !fault.Is(err, fault.Unavailable) || other.Halted() != nil {
		t.Errorf("without a place to remember: %v, halted: %v", err, other.Halted())
	}
	other.cfg.State = cfg.State
	check(t, other.follow(ctx))
	if data, err := os.ReadFile(cfg.State); err != nil || !strings.Contains(string(data), "\n700\n") {
		t.Errorf("it remembers %q, %v", data, err)
	}
}

// TestFollowRefused: a database that refuses to show the leaves, for whatever reason,
// has not shown others. Once it does, the node goes on.
func TestFollowRefused(t *testing.T) {
	ctx := t.Context()
	key, url := newKey(t), engines[0].url(t)
	db := openCatalog(t, url)
	cfg := testConfig(t, db, key)
	check(t, InitState(cfg.State, key))
	n, err := Open(ctx, cfg)
	check(t, err)
	signer := testNotary(t, db, key)
	for _, size := range []uint64{300, 700} {
		check(t, n.follow(ctx))
		grow(t, db, size)
		check(t, signer.sign(ctx))
	}
	raw, err := sql.Open("sqlite", strings.TrimPrefix(url, "sqlite:"))
	check(t, err)
	t.Cleanup(func() { raw.Close() })
	for _, move := range []string{"leaf_batches RENAME TO hidden_leaves", "tiles RENAME TO hidden_tiles"} {
		_, err := raw.Exec("ALTER TABLE " + move)
		check(t, err)
	}
	for name, f := range map[string]func(context.Context) error{"follow": n.follow, "sign": n.sign} {
		if err := f(ctx); !fault.Is(err, fault.Internal) || n.Halted() != nil {
			t.Errorf("%s: %v, halted: %v", name, err, n.Halted())
		}
	}
	for _, move := range []string{"hidden_leaves RENAME TO leaf_batches", "hidden_tiles RENAME TO tiles"} {
		_, err := raw.Exec("ALTER TABLE " + move)
		check(t, err)
	}
	check(t, n.follow(ctx))
	check(t, n.sign(ctx))
}
