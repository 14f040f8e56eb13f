package notary

import (
	"context"
	"encoding/binary"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/storage/storagetest"
	"dsvault/vault/audit"
)

// engines make new, empty catalogs and return their URLs.
var engines = []struct {
	name string
	url  func(t testing.TB) string
}{
	{"sqlite", func(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "catalog.db") }},
	{"postgres", func(t testing.TB) string { return storagetest.Postgres(t) }},
}

func onEngines(t *testing.T, test func(t *testing.T, url string)) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) { test(t, e.url(t)) })
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("unexpected error: %v", err)
	}
}

func openCatalog(t testing.TB, url string) *catalog.DB {
	t.Helper()
	db, err := catalog.Open(t.Context(), url, catalog.Options{})
	check(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

func leafData(i uint64) []byte { return binary.BigEndian.AppendUint64([]byte("leaf "), i) }

// grow appends leaves up to a size, as the ledger does.
func grow(t testing.TB, db *catalog.DB, to uint64) {
	t.Helper()
	growBy(t, db, to, leafData)
}

// growOther appends other leaves than grow.
func growOther(t testing.TB, db *catalog.DB, to uint64) {
	t.Helper()
	growBy(t, db, to, func(i uint64) []byte { return append(leafData(i), "another"...) })
}

func growBy(t testing.TB, db *catalog.DB, to uint64, leafData func(uint64) []byte) {
	t.Helper()
	check(t, db.Update(t.Context(), func(tx *catalog.Tx) error { return growIn(t.Context(), tx, to, leafData) }))
}

func growIn(ctx context.Context, tx *catalog.Tx, to uint64, leafData func(uint64) []byte) error {
	head, err := tx.LockHead(ctx)
	if err != nil {
		return err
	}
	tree, err := audit.NewTree(head.Size, head.Frontier)
	if err != nil {
		return err
	}
	var leaves []storage.Leaf
	for i := head.Size; i < to; i++ {
		leaves = append(leaves, storage.Leaf{Index: i, Data: leafData(i)})
		tree.Append(audit.LeafHash(leafData(i)))
	}
	head.Size, head.Frontier = max(to, head.Size), tree.Frontier()
	if err := tx.AppendLeaves(ctx, leaves); err != nil {
		return err
	}
	return tx.SetHead(ctx, head)
}

// tilesOf is tile n of the lowest level with these hashes.
func tilesOf(n uint64, hashes []audit.Hash) []storage.Tile {
	return []storage.Tile{{N: n, Root: subtree(hashes), Hashes: hashes}}
}

// naive is a tree that keeps every hash.
type naive []tlog.Hash

func (s naive) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = s[x]
	}
	return out, nil
}

func (s *naive) add(t testing.TB, i uint64) {
	t.Helper()
	more, err := tlog.StoredHashes(int64(i), leafData(i), *s)
	check(t, err)
	*s = append(*s, more...)
}

func (s naive) at(t testing.TB, size uint64) audit.Checkpoint {
	t.Helper()
	root, err := tlog.TreeHash(int64(size), s)
	check(t, err)
	return audit.Checkpoint{Size: size, Root: audit.Hash(root)}
}

// TestBuilder compares the builder with the naive tree at every size, and
// beyond the first tile of the third level.
func TestBuilder(t *testing.T) {
	const most = 1<<16 + 3*256 + 7
	var tree naive
	b := &builder{}
	if b.root() != audit.EmptyRoot() {
		t.Error("the empty tree has a root of its own")
	}
	tiles := map[[2]uint64]storage.Tile{}
	for i := range uint64(most) {
		tree.add(t, i)
		b.add(audit.LeafHash(leafData(i)))
		if size := i + 1; size < 1500 || size%997 == 0 || size > most-300 {
			if want := tree.at(t, size); b.root() != want.Root || b.size != size {
				t.Fatalf("at %d leaves: root %x, want %x", size, b.root(), want.Root)
			}
		}
		for _, tile := range b.full {
			tiles[[2]uint64{uint64(tile.Level), tile.N}] = tile
		}
		b.full = nil
	}
	for _, want := range tlog.NewTiles(tileHeight, 0, most) {
		if want.W != tileWidth {
			continue
		}
		data, err := tlog.ReadTileData(want, tree)
		check(t, err)
		got, ok := tiles[[2]uint64{uint64(want.L), uint64(want.N)}]
		if !ok || !slices.Equal(join(got.Hashes), data) {
			t.Fatalf("tile %d/%d differs or is missing", want.L, want.N)
		}
		delete(tiles, [2]uint64{uint64(want.L), uint64(want.N)})
	}
	if len(tiles) != 0 {
		t.Errorf("%d tiles too many", len(tiles))
	}
}

// testNotary is a notary that has not looked at anything yet.
func testNotary(t testing.TB, db *catalog.DB, key Key) *Notary {
	t.Helper()
	n, err := Open(t.Context(), testConfig(t, db, key))
	check(t, err)
	return n
}

func testConfig(t testing.TB, db *catalog.DB, key Key) Config {
	return Config{Catalog: db, Origin: key.Signer.Name(), Keys: []Key{key}, State: filepath.Join(t.TempDir(), "state"),
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Now: time.Now,
		Elect: func(ctx context.Context, f func(context.Context)) { f(ctx) }}
}

// TestTilesAndProofs signs a log at growing sizes and compares tiles of every
// width and proofs with the naive tree; another notary goes on each time.
func TestTilesAndProofs(t *testing.T) {
	onEngines(t, func(t *testing.T, url string) {
		db := openCatalog(t, url)
		key := newKey(t)
		var tree naive
		for _, size := range []uint64{1, 2, 255, 256, 257, 1000, 65535, 65536, 65537 + 300} {
			for i := uint64(tlogSize(tree)); i < size; i++ {
				tree.add(t, i)
			}
			grow(t, db, size)
			cfg := testConfig(t, db, key)
			check(t, InitState(cfg.State, key)) // an old state will do
			n, err := Open(t.Context(), cfg)
			check(t, err)
			check(t, n.sign(t.Context()))
			stored, err := n.Await(t.Context(), size)
			check(t, err)
			cp, err := n.open(stored.Note)
			check(t, err)
			want := tree.at(t, size)
			if want.Origin = n.Origin(); cp != want {
				t.Fatalf("signed %+v, want %+v", cp, want)
			}
			compareProofs(t, n, tree, cp)
			compareTiles(t, db, tree, size)
		}
	})
}

// tlogSize is how many leaves the tree has.
func tlogSize(tree naive) int64 {
	if len(tree) == 0 {
		return 0
	}
	_, n := tlog.SplitStoredHashIndex(int64(len(tree)) - 1)
	level, _ := tlog.SplitStoredHashIndex(int64(len(tree)) - 1)
	return (n + 1) << level
}

func compareProofs(t *testing.T, n *Notary, tree naive, cp audit.Checkpoint) {
	t.Helper()
	for _, index := range []uint64{0, cp.Size / 3, cp.Size / 2, cp.Size - 1} {
		proof, err := n.Inclusion(t.Context(), cp, index)
		check(t, err)
		want, err := tlog.ProveRecord(int64(cp.Size), int64(index), tree)
		check(t, err)
		if !slices.Equal(proof, fromTlog(want)) {
			t.Errorf("the proof of leaf %d of %d differs", index, cp.Size)
		}
		check(t, audit.CheckInclusion(cp, index, audit.LeafHash(leafData(index)), proof))
	}
	for _, size := range []uint64{0, 1, cp.Size / 3, cp.Size / 2, cp.Size - 1, cp.Size} {
		proof, err := n.Consistency(t.Context(), cp, size)
		check(t, err)
		prev := audit.Checkpoint{Root: audit.EmptyRoot()}
		if size > 0 {
			prev = tree.at(t, size)
		}
		if err := audit.CheckConsistency(prev, cp, proof); err != nil {
			t.Errorf("%d and %d: %v", size, cp.Size, err)
		}
	}
}

// compareTiles reads every tile at its full width and at one or two others.
func compareTiles(t *testing.T, db *catalog.DB, tree naive, size uint64) {
	t.Helper()
	check(t, db.View(t.Context(), func(tx *catalog.Tx) error {
		for _, want := range tlog.NewTiles(tileHeight, 0, int64(size)) {
			for _, width := range []int{want.W, (want.W + 1) / 2, 1} {
				want.W = width
				data, err := tlog.ReadTileData(want, tree)
				check(t, err)
				got, err := tiles{ctx: t.Context(), tx: tx}.get(want.L, uint64(want.N), width)
				check(t, err)
				if !slices.Equal(join(got), data) {
					t.Fatalf("tile %d/%d of width %d differs at %d leaves", want.L, want.N, width, size)
				}
			}
		}
		return nil
	}))
}
