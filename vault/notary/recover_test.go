package notary

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
)

// recordTo appends a leaf in one transaction with apply, as the ledger does.
func recordTo(ctx context.Context, db *catalog.DB, apply func(context.Context, *catalog.Tx) error) error {
	return db.Update(ctx, func(tx *catalog.Tx) error {
		head, err := tx.LockHead(ctx)
		if err != nil {
			return err
		}
		if err := apply(ctx, tx); err != nil {
			return err
		}
		return growIn(ctx, tx, head.Size+1, leafData)
	})
}

func recoverLog(t *testing.T, cfg Config) audit.Checkpoint {
	t.Helper()
	loss, err := Assess(t.Context(), cfg)
	check(t, err)
	cp, err := Recover(t.Context(), cfg, loss, func(_ uint64, apply func(context.Context, *catalog.Tx) error) error {
		return recordTo(t.Context(), cfg.Catalog, apply)
	})
	check(t, err)
	return cp
}

// TestRecover: a recovered log is signed as another epoch, which every node
// takes for what it is, and nobody else can begin.
func TestRecover(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			ctx := t.Context()
			key := newKey(t)
			db, older := openCatalog(t, e.url(t)), openCatalog(t, e.url(t))
			cfg := testConfig(t, db, key)
			grow(t, db, 600)
			grow(t, older, 250)
			n, err := Open(ctx, cfg)
			check(t, err)
			second := cfg // another node, which has signed less
			second.State = cfg.State + "-2"
			check(t, InitState(second.State, key))
			check(t, n.sign(ctx))
			if _, err := Assess(ctx, cfg); !fault.Is(err, fault.Conflict) {
				t.Errorf("nothing is lost, and yet: %v", err)
			}

			cfg.Catalog, second.Catalog = older, older
			running, err := Open(ctx, second) // its own state is old enough
			check(t, err)
			check(t, running.sign(ctx))
			if cp := recoverLog(t, cfg); cp.Origin != key.Signer.Name()+"/epoch-2" || cp.Size != 251 {
				t.Errorf("recovered as %+v", cp)
			}
			for _, cfg := range []Config{cfg, second} {
				n, err := Open(ctx, cfg)
				check(t, err)
				if _, epoch := audit.SplitOrigin(n.Origin()); epoch != 2 || n.signed.Size < 250 || !strings.HasPrefix(n.Verifier(), n.Origin()+"+") {
					t.Errorf("%s, %s, signed %+v", n.Origin(), n.Verifier(), n.signed)
				}
				index, later, err := n.EpochLeaf(ctx)
				if check(t, err); index != 250 || !later {
					t.Errorf("the epoch begins at %d, %v", index, later)
				}
			}
			if err := running.sign(ctx); !fault.Is(err, fault.Corrupt) || running.Halted() == nil {
				t.Errorf("a node of the former epoch goes on: %v", err)
			}
			// The catalog of before the recovery is refused now, and so is one in
			// which somebody claims an epoch that the log's key knows nothing of.
			cfg.Catalog = db
			if _, err := Open(ctx, cfg); !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "it is of epoch 1") {
				t.Errorf("the former epoch: %v", err)
			}
			check(t, older.Update(ctx, func(tx *catalog.Tx) error { return tx.SetMeta(ctx, metaEpochs, []byte("250 251")) }))
			cfg.Catalog = older
			if _, err := Open(ctx, cfg); !fault.Is(err, fault.Corrupt) {
				t.Errorf("a claimed epoch: %v", err)
			}
			check(t, older.Update(ctx, func(tx *catalog.Tx) error { return tx.DropCheckpoint(ctx) }))
			if _, err := Open(ctx, cfg); !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "has signed nothing of epoch 3") {
				t.Errorf("a claimed epoch without a checkpoint: %v", err)
			}
			// It can be recovered again, from that too.
			if cp := recoverLog(t, cfg); cp.Origin != key.Signer.Name()+"/epoch-4" {
				t.Errorf("recovered as %+v", cp)
			}
			_, err = Open(ctx, cfg)
			check(t, err)
		})
	}
}

// TestDamagedTiles: stored tiles that are damaged, or missing in between, are
// made again; they are no reason to refuse the log.
func TestDamagedTiles(t *testing.T) {
	ctx := t.Context()
	for name, damage := range map[string]func(tx *catalog.Tx) error{
		"a gap": func(tx *catalog.Tx) error {
			hashes, err := tx.Tile(ctx, 0, 3)
			if err != nil {
				return err
			}
			if err := tx.DropTiles(ctx); err != nil {
				return err
			}
			return tx.AddTiles(ctx, tilesOf(3, hashes))
		},
		"wrong hashes": func(tx *catalog.Tx) error {
			hashes, err := tx.Tile(ctx, 0, 0)
			if err != nil {
				return err
			}
			if err := tx.DropTiles(ctx); err != nil {
				return err
			}
			return tx.AddTiles(ctx, append(append(tilesOf(0, hashes), tilesOf(1, hashes)...), append(tilesOf(2, hashes), tilesOf(3, hashes)...)...))
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := openCatalog(t, engines[0].url(t))
			cfg := testConfig(t, db, newKey(t))
			grow(t, db, 1200)
			n, err := Open(ctx, cfg)
			check(t, err)
			check(t, n.sign(ctx))
			check(t, db.Update(ctx, damage))
			again, err := Open(ctx, cfg)
			check(t, err)
			grow(t, db, 1300)
			for range 3 { // the first may only notice
				check(t, again.sign(ctx))
			}
			stored, err := again.Await(ctx, 1300)
			check(t, err)
			cp, err := again.open(stored.Note)
			check(t, err)
			for _, index := range []uint64{0, 255, 256, 700, 1299} {
				proof, err := again.Inclusion(ctx, cp, index)
				check(t, err)
				check(t, audit.CheckInclusion(cp, index, audit.LeafHash(leafData(index)), proof))
			}
		})
	}
}

// nextKey is a key that old names.
func nextKey(t *testing.T, old Key, retires time.Time) Key {
	t.Helper()
	key := newKey(t)
	var err error
	key.Succession, err = audit.SignSuccession(old.Signer.Name(), key.Verifier, retires, old.Signer, key.Signer)
	check(t, err)
	return key
}

// TestRotatedKey: a new key has its leaf before it signs; both sign until the
// old one retires; a node without the new key does not sign any more.
func TestRotatedKey(t *testing.T) {
	onEngines(t, func(t *testing.T, url string) {
		ctx := t.Context()
		db := openCatalog(t, url)
		clock := &movable{t: time.Unix(1_800_000_000, 0)}
		old := newKey(t)
		key := nextKey(t, old, clock.now().Add(time.Hour))
		cfg := testConfig(t, db, old)
		cfg.Now = clock.now
		var recorded []string
		cfg.RecordKey = func(ctx context.Context, key Key, apply func(context.Context, *catalog.Tx) error) error {
			recorded = append(recorded, key.Verifier)
			return recordTo(ctx, db, apply)
		}
		grow(t, db, 10)
		before, err := Open(ctx, cfg)
		check(t, err)
		check(t, before.sign(ctx))

		both := cfg
		both.Keys = []Key{old, key}
		both.State = cfg.State + "-2"
		check(t, InitState(both.State, old))
		n, err := Open(ctx, both)
		check(t, err)
		for range 2 {
			check(t, n.recordKeys(ctx))
		}
		if !slices.Equal(recorded, []string{key.Verifier}) {
			t.Errorf("recorded %v", recorded)
		}
		check(t, n.sign(ctx))
		if got := signersOf(t, n, old, key); got != "old new" {
			t.Errorf("during the overlap signed by %s", got)
		}
		if n.Verifier() != key.Verifier || len(n.Successions()) != 1 {
			t.Error("new clients are not told the new key")
		}
		// The node that lacks the key neither signs nor starts.
		grow(t, db, 20)
		if err := before.sign(ctx); !errors.Is(err, errOldKey) || before.Halted() != nil {
			t.Errorf("a node with the old key: %v", err)
		}
		if _, err := Open(ctx, cfg); !errors.Is(err, errOldKey) {
			t.Errorf("a node with the old key starts: %v", err)
		}
		clock.add(2 * time.Hour)
		check(t, n.sign(ctx))
		if got := signersOf(t, n, old, key); got != "new" {
			t.Errorf("after the overlap signed by %s", got)
		}
		// Its state is signed by the new key alone now, and good.
		_, err = Open(ctx, both)
		check(t, err)

		wrong := both
		wrong.Keys = []Key{old, newKey(t)} // which nobody has named
		if _, err := Open(ctx, wrong); !fault.Is(err, fault.Corrupt) {
			t.Errorf("a key that was not named: %v", err)
		}
		wrong.Keys = []Key{key, old}
		if _, err := Open(ctx, wrong); err == nil {
			t.Error("keys in the wrong order")
		}
	})
}

// signersOf says which keys have signed the published checkpoint.
func signersOf(t *testing.T, n *Notary, old, next Key) string {
	t.Helper()
	stored, err := n.Await(t.Context(), 0)
	check(t, err)
	var got []string
	for _, k := range []struct {
		name string
		key  Key
	}{{"old", old}, {"new", next}} {
		v, err := note.NewVerifier(k.key.Verifier)
		check(t, err)
		if _, err := audit.OpenCheckpoint(stored.Note, n.Origin(), v); err == nil {
			got = append(got, k.name)
		}
	}
	return strings.Join(got, " ")
}
