package notary

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
)

func newKey(t testing.TB) Key {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, "log.example.org/test")
	check(t, err)
	signer, err := note.NewSigner(skey)
	check(t, err)
	return Key{Signer: signer, Verifier: vkey}
}

// run runs a notary's loop until the test ends, or stop is called.
func run(t testing.TB, n *Notary) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.Run(ctx)
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// TestRun: whoever awaits a checkpoint gets one that covers what they ask for,
// whichever node signs, and it is the state file's.
func TestRun(t *testing.T) {
	onEngines(t, func(t *testing.T, url string) {
		db := openCatalog(t, url)
		key := newKey(t)
		cfg := testConfig(t, db, key)
		n, err := Open(t.Context(), cfg)
		check(t, err)
		run(t, n)
		other := testNotary(t, openCatalog(t, url), key) // is never elected
		for size := uint64(1); size < 2000; size += 333 {
			grow(t, db, size)
			for _, n := range []*Notary{n, other} {
				cp, err := n.Await(t.Context(), size)
				check(t, err)
				if cp.Size < size {
					t.Errorf("got a checkpoint of %d leaves for %d", cp.Size, size)
				}
				_, err = n.open(cp.Note)
				check(t, err)
			}
		}
		state, found, err := n.readState()
		if check(t, err); !found || state.Size < 1999-333 {
			t.Errorf("the state file says %+v, %v", state, found)
		}
	})
}

// TestTask: a task runs at first, then only while the log grows beyond what it
// has covered; after an error it runs again.
func TestTask(t *testing.T) {
	db := openCatalog(t, engines[0].url(t))
	cfg := testConfig(t, db, newKey(t))
	grow(t, db, 3)
	runs := make(chan uint64)
	covered := make(chan uint64)
	cfg.Tasks = []Task{{Name: "test", Every: 1, Run: func(_ context.Context, size uint64) (uint64, error) {
		runs <- size
		if c := <-covered; c > 0 {
			return c, nil
		}
		return 0, errors.New("as the test wants")
	}}}
	n, err := Open(t.Context(), cfg)
	check(t, err)
	stop := run(t, n)
	if size := <-runs; size != 3 {
		t.Errorf("the first run is of %d leaves", size)
	}
	covered <- 0
	if size := <-runs; size != 3 {
		t.Errorf("after an error it is of %d leaves", size)
	}
	grow(t, db, 5) // one of them is the task's own
	covered <- 5
	grow(t, db, 6)
	if size := <-runs; size != 6 { // it did not run at 5
		t.Errorf("the next run is of %d leaves", size)
	}
	covered <- 6
	stop()
}

// TestRollbackAndFork: a catalog that is behind what was signed, or contradicts
// it, is refused at the start, and gets no signature while it runs.
func TestRollbackAndFork(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			for _, c := range []struct {
				name, says string
				size       uint64
				begin      uint64 // of other leaves
			}{
				{"rolled back", "has 250 leaves, but 600", 250, 600},
				{"forked", "first 600 leaves are not those", 700, 500},
				{"of one size, forked", "first 600 leaves are not those", 600, 599},
			} {
				t.Run(c.name, func(t *testing.T) {
					ctx := t.Context()
					db, spoilt := openCatalog(t, e.url(t)), openCatalog(t, e.url(t))
					grow(t, db, 600)
					cfg := testConfig(t, db, newKey(t))
					n, err := Open(ctx, cfg)
					check(t, err)
					check(t, n.sign(ctx))
					before, err := os.ReadFile(cfg.State)
					check(t, err)

					grow(t, spoilt, min(c.begin, c.size))
					growOther(t, spoilt, c.size)
					n.cfg.Catalog, n.build = spoilt, nil
					if err := n.sign(ctx); !fault.Is(err, fault.Corrupt) || n.Halted() == nil {
						t.Errorf("the running node: %v, halted: %v", err, n.Halted())
					}
					after, err := os.ReadFile(cfg.State)
					if check(t, err); string(after) != string(before) {
						t.Error("it was signed all the same")
					}
					if _, err := n.Await(ctx, 601); !fault.Is(err, fault.Corrupt) {
						t.Errorf("who waits hears %v", err)
					}
					cfg.Catalog = spoilt
					_, err = Open(ctx, cfg)
					if !fault.Is(err, fault.Corrupt) || !strings.Contains(fault.HintOf(err), "dsvault recover") || !strings.Contains(err.Error(), c.says) {
						t.Errorf("at the start: %v (%s)", err, fault.HintOf(err))
					}
				})
			}
		})
	}
}

// TestState: a record of what was signed that is damaged, of another log, or
// missing although something was signed, is refused; an older one is fine.
func TestState(t *testing.T) {
	db := openCatalog(t, engines[0].url(t))
	key := newKey(t)
	cfg := testConfig(t, db, key)
	ctx := t.Context()
	grow(t, db, 10)
	n, err := Open(ctx, cfg) // nothing was signed yet: this one may begin
	check(t, err)
	check(t, n.sign(ctx))
	older, err := os.ReadFile(cfg.State)
	check(t, err)
	grow(t, db, 20)
	check(t, n.sign(ctx))

	foreign := newKey(t)
	other, err := audit.SignCheckpoint(cfg.Origin, 10, audit.EmptyRoot(), foreign.Signer)
	check(t, err)
	for name, c := range map[string]struct {
		data []byte
		code fault.Code
	}{
		"older":         {older, ""},
		"cut":           {older[:len(older)-10], fault.Corrupt},
		"empty":         {[]byte{}, fault.Corrupt},
		"missing":       {nil, fault.Corrupt},
		"of other keys": {other, fault.Corrupt},
		"too long":      {append(make([]byte, audit.MaxCheckpoint), older...), fault.Corrupt},
	} {
		if check(t, os.Remove(cfg.State)); c.data != nil {
			check(t, os.WriteFile(cfg.State, c.data, 0o600))
		}
		_, err := Open(ctx, cfg)
		if fault.CodeOf(err) != c.code || err != nil && !strings.Contains(fault.HintOf(err), "dsvault recover") {
			t.Errorf("%s: %v (%s)", name, err, fault.HintOf(err))
		}
		check(t, os.WriteFile(cfg.State, older, 0o600))
	}
}

// TestStateFirst: what cannot be remembered is not signed.
func TestStateFirst(t *testing.T) {
	db := openCatalog(t, engines[0].url(t))
	cfg := testConfig(t, db, newKey(t))
	cfg.State = filepath.Join(t.TempDir(), "gone", "state")
	grow(t, db, 10)
	n, err := Open(t.Context(), cfg)
	check(t, err)
	if err := n.sign(t.Context()); !fault.Is(err, fault.Unavailable) || n.Halted() != nil {
		t.Errorf("got %v, halted: %v", err, n.Halted())
	}
	err = db.View(t.Context(), func(tx *catalog.Tx) error {
		_, err := tx.Checkpoint(t.Context())
		return err
	})
	if !errors.Is(err, storage.ErrNoRow) {
		t.Errorf("a checkpoint is there: %v", err)
	}
}
