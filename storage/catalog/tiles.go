package catalog

import (
	"context"
	"database/sql"

	"dsvault/storage"
)

// Checkpoint reads the newest signed checkpoint: storage.ErrNoRow before the
// first.
func (tx *Tx) Checkpoint(ctx context.Context) (storage.Checkpoint, error) {
	var c storage.Checkpoint
	err := tx.row(ctx, "catalog.Checkpoint", "SELECT size, note FROM checkpoint WHERE one = 1", nil, &c.Size, raw{&c.Note})
	return c, err
}

// SetCheckpoint replaces the checkpoint, unless the one that is there is of a
// larger log: of two writers the one with the longer log wins.
func (tx *Tx) SetCheckpoint(ctx context.Context, c storage.Checkpoint) error {
	_, err := tx.exec(ctx, "catalog.SetCheckpoint",
		"INSERT INTO checkpoint (one, size, note) VALUES (1, $1, $2) ON CONFLICT (one) DO UPDATE"+
			" SET size = excluded.size, note = excluded.note WHERE checkpoint.size <= excluded.size", int64(c.Size), blob(c.Note))
	return err
}

// DropCheckpoint removes the checkpoint.
func (tx *Tx) DropCheckpoint(ctx context.Context) error {
	_, err := tx.exec(ctx, "catalog.DropCheckpoint", "DELETE FROM checkpoint")
	return err
}

// DropTiles removes all tiles: they are made again from the leaves.
func (tx *Tx) DropTiles(ctx context.Context) error {
	_, err := tx.exec(ctx, "catalog.DropTiles", "DELETE FROM tiles")
	return err
}

const tileBytes = 256 * 32

var tiles = table[storage.Tile]{
	name: "tiles", columns: "level, n, root, hashes",
	values: func(t *storage.Tile) []any {
		data := make([]byte, 0, tileBytes)
		for _, h := range t.Hashes {
			data = append(data, h[:]...)
		}
		return []any{int64(t.Level), int64(t.N), t.Root[:], data}
	},
}

// AddTiles adds full tiles. One that is there stays as it is: whoever reads
// tiles compares them with the tree's root.
func (tx *Tx) AddTiles(ctx context.Context, list []storage.Tile) error {
	return tiles.insert(ctx, tx, "catalog.AddTiles", " ON CONFLICT (level, n) DO NOTHING", list...)
}

// Tile reads the hashes of a full tile: storage.ErrNoRow if it is not there
// (yet).
func (tx *Tx) Tile(ctx context.Context, level int, n uint64) ([][32]byte, error) {
	data := make([]byte, tileBytes)
	err := tx.row(ctx, "catalog.Tile", "SELECT hashes FROM tiles WHERE level = $1 AND n = $2", []any{int64(level), int64(n)}, fixed(data))
	if err != nil {
		return nil, err
	}
	hashes := make([][32]byte, tileBytes/32)
	for i := range hashes {
		hashes[i] = [32]byte(data[32*i:])
	}
	return hashes, nil
}

// TileRoots reads the roots of the full tiles of a level from number from
// (included) to to (excluded), as far as they are there without a gap.
func (tx *Tx) TileRoots(ctx context.Context, level int, from, to uint64) ([][32]byte, error) {
	const op = "catalog.TileRoots"
	var list [][32]byte
	err := tx.each(ctx, op, false, "SELECT n, root FROM tiles WHERE level = $1 AND n >= $2 AND n < $3 ORDER BY n",
		[]any{int64(level), int64(from), int64(to)}, func(rows *sql.Rows) error {
			var n uint64
			var root [32]byte
			if err := scan(rows, op, &n, fixed(root[:])); err != nil {
				return err
			}
			if n == from+uint64(len(list)) {
				list = append(list, root)
			}
			return nil
		})
	return list, err
}

// TiledLeaves gives how many leaves are in full tiles, from the first on.
func (tx *Tx) TiledLeaves(ctx context.Context) (uint64, error) {
	var n int64
	err := tx.row(ctx, "catalog.TiledLeaves", "SELECT COALESCE(MAX(n) + 1, 0) FROM tiles WHERE level = 0", nil, &n)
	return uint64(n) * 256, err
}
