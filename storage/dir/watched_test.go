package dir

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dsvault/storage"
	"dsvault/storage/storagetest"
	"dsvault/vault/fault"
)

// TestWatched: a store that is watched does what it did.
func TestWatched(t *testing.T) {
	storagetest.Objects(t, func(t *testing.T) storage.Objects { return storage.Watch(mustOpen(t, t.TempDir()), func(string) {}) })
}

// TestWatchedTells: of the store's failures, and not of the caller's.
func TestWatchedTells(t *testing.T) {
	path := t.TempDir()
	store := mustOpen(t, path)
	var told []string
	w := storage.Watch(store, func(code string) { told = append(told, code) })
	ctx := t.Context()
	over, cancel := context.WithCancel(ctx)
	cancel()
	expect := func(what string, want ...string) {
		t.Helper()
		if !slices.Equal(told, want) {
			t.Errorf("%s: told %q, want %q", what, told, want)
		}
		told = nil
	}
	mustPut(t, store, "a", "bytes")
	w.Open(ctx, "../x", 0, -1, "")
	w.Open(over, "a", 0, -1, "")
	w.Put(ctx, "b", io.MultiReader(strings.NewReader("x"), failing{}), -1)
	w.Put(ctx, "c", strings.NewReader("short"), 100)
	w.Stat(ctx, "none")
	expect("the caller's own")
	if _, err := w.Open(ctx, "none", 0, -1, ""); !errors.Is(err, storage.ErrNoObject) {
		t.Error(err)
	}
	expect("no object", "missing")
	if _, err := w.Open(ctx, "a", 0, -1, "another"); !errors.Is(err, storage.ErrChanged) {
		t.Error(err)
	}
	expect("another object", "changed")
	r, err := w.Open(ctx, "a", 0, -1, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(path, "objects", "a"), 2); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !fault.Is(err, fault.Corrupt) {
		t.Error(err)
	}
	r.Close()
	expect("cut while reading", "corrupt")
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	w.Put(ctx, "d", strings.NewReader("x"), 1)
	expect("the folder is gone", "unavailable")

	if s, ok := storage.Power[*Store](w); !ok || s != store {
		t.Error("what is wrapped is not found")
	}
	if _, ok := storage.Power[interface{ Fly() }](w); ok {
		t.Error("a power that nobody has was found")
	}
}

// failing is a reader whose sender has gone.
type failing struct{}

func (failing) Read([]byte) (int, error) {
	return 0, fault.New(fault.Unavailable, "test", "the sender stalled")
}
