package catalog

import (
	"context"
	"errors"

	"dsvault/storage"
	"dsvault/vault/fault"
)

func testCheckpoint(s *fixture) {
	read := func(ctx context.Context, tx *Tx) (storage.Checkpoint, error) { return tx.Checkpoint(ctx) }
	set := func(c storage.Checkpoint) {
		s.write(func(ctx context.Context, tx *Tx) error { return tx.SetCheckpoint(ctx, c) })
	}
	failsWith(s, "before the first", getErr(s, read), storage.ErrNoRow)
	set(storage.Checkpoint{Size: 5, Note: []byte("five")})
	set(storage.Checkpoint{Size: 7, Note: []byte("seven")})
	set(storage.Checkpoint{Size: 6, Note: []byte("late")})
	same(s, "the longest", get(s, read), storage.Checkpoint{Size: 7, Note: []byte("seven")})
	set(storage.Checkpoint{Size: 7, Note: []byte("seven, cosigned")})
	same(s, "the same size again", string(get(s, read).Note), "seven, cosigned")
	s.write(func(ctx context.Context, tx *Tx) error { return tx.DropCheckpoint(ctx) })
	failsWith(s, "dropped", getErr(s, read), storage.ErrNoRow)
}

func testTiles(s *fixture) {
	tiled := func() uint64 {
		return get(s, func(ctx context.Context, tx *Tx) (uint64, error) { return tx.TiledLeaves(ctx) })
	}
	tile := func(level int, n uint64) storage.Tile {
		t := storage.Tile{Level: level, N: n, Root: fresh(), Hashes: make([][32]byte, 256)}
		for i := range t.Hashes {
			t.Hashes[i] = fresh()
		}
		return t
	}
	same(s, "leaves in no tiles", tiled(), 0)
	var list []storage.Tile
	for n := range uint64(100) {
		list = append(list, tile(0, n))
	}
	list = append(list, tile(1, 0), tile(0, 101))
	s.write(func(ctx context.Context, tx *Tx) error { return tx.AddTiles(ctx, list) })
	// Another owner makes the same again; what is there stays.
	s.write(func(ctx context.Context, tx *Tx) error { return tx.AddTiles(ctx, []storage.Tile{tile(0, 3)}) })
	s.read(func(ctx context.Context, tx *Tx) error {
		hashes, err := tx.Tile(ctx, 0, 3)
		same(s, "hashes", hashes, list[3].Hashes)
		if err != nil {
			return err
		}
		_, err = tx.Tile(ctx, 0, 100)
		failsWith(s, "missing", err, storage.ErrNoRow)
		roots, err := tx.TileRoots(ctx, 0, 98, 103)
		same(s, "roots up to the gap", roots, [][32]byte{list[98].Root, list[99].Root})
		if err != nil {
			return err
		}
		roots, err = tx.TileRoots(ctx, 0, 100, 103)
		same(s, "roots behind the gap", len(roots), 0)
		return err
	})
	same(s, "leaves in tiles", tiled(), 102*256)
	short := tile(2, 0)
	short.Hashes = short.Hashes[1:]
	s.write(func(ctx context.Context, tx *Tx) error { return tx.AddTiles(ctx, []storage.Tile{short}) })
	err := getErr(s, func(ctx context.Context, tx *Tx) (any, error) { return tx.Tile(ctx, 2, 0) })
	if !fault.Is(err, fault.Corrupt) || errors.Is(err, storage.ErrNoRow) {
		s.Errorf("a short tile: %v", err)
	}
	s.write(func(ctx context.Context, tx *Tx) error { return tx.DropTiles(ctx) })
	same(s, "leaves in dropped tiles", tiled(), 0)
}
