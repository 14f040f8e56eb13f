package audit_test

import (
	"math"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"dsvault/vault/audit"
)

func TestTilePath(t *testing.T) {
	for path, want := range map[string]audit.Tile{
		"tile/0/000":                     {Width: 256},
		"tile/0/999":                     {N: 999, Width: 256},
		"tile/1/x001/000":                {Level: 1, N: 1000, Width: 256},
		"tile/7/x001/x234/067.p/8":       {Level: 7, N: 1234067, Width: 8},
		"tile/entries/000.p/1":           {Width: 1, Entries: true},
		"tile/entries/x001/x234/067":     {N: 1234067, Width: 256, Entries: true},
		"tile/0/000.p/255":               {Width: 255},
		"tile/0/x036/x028/x797/x018/963": {N: 36_028_797_018_963, Width: 256},
	} {
		got, err := audit.ParseTilePath(path)
		if err != nil || got != want || got.Path() != path {
			t.Errorf("%s: got %+v (%s), %v", path, got, got.Path(), err)
		}
	}
	for _, path := range []string{
		"", "tile", "tile/", "tile/0", "tile/0/", "tile/0/0", "tile/0/00", "tile/0/0000", "tile/0/x000", "tile/0/x000/000",
		"tile/00/000", "tile/+1/000", "tile/-1/000", "tile/8/000", "tile/64/000", "tile/data/000", "tile/0/+01", "tile/0/001/000",
		"tile/0/000/", "tile/0//000", "/tile/0/000", "tile/0/000.p", "tile/0/000.p/", "tile/0/000.p/0", "tile/0/000.p/256",
		"tile/0/000.p/01", "tile/0/000.p/1/2", "tile/0/000.p/-1", "tile/0/x1/000", "tile/0/X001/000", "tile/0/xx001/000",
		"tile/0/000 ", "tile/0/0%300", "tile/8/0/000", "tile/entries/../0/000", "tile/0/x" + strings.Repeat("9/x", 200) + "9",
		"tile/0/x999/x999/x999/x999/x999/x999/x999/999", "tile/0/x036/x028/x797/x018/x963/969",
	} {
		if got, err := audit.ParseTilePath(path); err == nil {
			t.Errorf("%q: accepted as %+v", path, got)
		}
	}
}

func TestTileIn(t *testing.T) {
	for _, c := range []struct {
		tile audit.Tile
		size uint64
		in   bool
	}{
		{audit.Tile{Width: 1}, 0, false},
		{audit.Tile{Width: 1}, 1, true},
		{audit.Tile{Width: 256}, 255, false},
		{audit.Tile{Width: 256}, 256, true},
		{audit.Tile{N: 1, Width: 3, Entries: true}, 258, false},
		{audit.Tile{N: 1, Width: 3, Entries: true}, 259, true},
		{audit.Tile{Level: 1, Width: 2}, 511, false},
		{audit.Tile{Level: 1, Width: 2}, 512, true},
		{audit.Tile{Level: 7, Width: 1}, math.MaxInt64, true},
	} {
		if c.tile.In(c.size) != c.in {
			t.Errorf("%s in a log of %d leaves: %v", c.tile.Path(), c.size, !c.in)
		}
	}
}

// FuzzTilePath: what is accepted has one path, and other tools read it alike.
func FuzzTilePath(f *testing.F) {
	for _, path := range []string{"tile/0/000", "tile/7/x001/x234/067.p/8", "tile/entries/x001/x234/067.p/255", "tile/0/x000/000", "tile/0/000.p/256"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		tile, err := audit.ParseTilePath(path)
		if err != nil {
			if tile != (audit.Tile{}) {
				t.Error("an error and a tile")
			}
			return
		}
		if tile.Path() != path || tile.Width < 1 || tile.Width > audit.TileWidth || tile.Entries && tile.Level != 0 {
			t.Fatalf("%q is read as %+v, %s", path, tile, tile.Path())
		}
		level := "data"
		rest := strings.TrimPrefix(path, "tile/entries")
		if !tile.Entries {
			level = path[5:6]
			rest = path[6:]
		}
		theirs, err := tlog.ParseTilePath("tile/8/" + level + rest)
		if err != nil || uint64(theirs.N) != tile.N || theirs.W != tile.Width {
			t.Errorf("%q: tlog reads %+v, %v", path, theirs, err)
		}
	})
}

// FuzzProofs: no proof that somebody makes up is accepted for another leaf or
// tree than the one that it is of.
func FuzzProofs(f *testing.F) {
	f.Add(uint64(3), uint64(1), uint64(2), []byte("0123456789012345678901234567890123456789"))
	f.Add(uint64(0), uint64(0), uint64(0), []byte{})
	f.Add(uint64(math.MaxUint64), uint64(math.MaxUint64), uint64(math.MaxUint64), make([]byte, 32*70))
	f.Fuzz(func(t *testing.T, size, index, older uint64, proof []byte) {
		var hashes []audit.Hash
		for len(proof) >= 32 {
			hashes, proof = append(hashes, audit.Hash(proof)), proof[32:]
		}
		next := audit.Checkpoint{Size: size, Root: audit.LeafHash([]byte("nobody's root"))}
		if err := audit.CheckInclusion(next, index, audit.LeafHash(nil), hashes); err == nil {
			t.Error("a leaf is in a tree that does not exist")
		}
		prev := audit.Checkpoint{Size: older, Root: audit.LeafHash([]byte("another root"))}
		if err := audit.CheckConsistency(prev, next, hashes); err == nil {
			t.Error("two roots that have nothing to do with each other are consistent")
		}
	})
}
