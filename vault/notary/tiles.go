package notary

import (
	"context"
	"encoding/binary"
	"errors"

	"golang.org/x/mod/sumdb/tlog"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
)

const (
	tileHeight = 8
	tileWidth  = audit.TileWidth
)

// Tile gives a tile of the log as C2SP tlog-tiles has it: hashes of 32 bytes, or
// leaves, each after its length in two bytes. A tile that the newest checkpoint
// does not cover is fault.NotFound. What a tile holds never changes.
func (n *Notary) Tile(ctx context.Context, t audit.Tile) ([]byte, error) {
	const op = "notary.Tile"
	if err := n.Halted(); err != nil {
		return nil, err
	}
	var data []byte
	err := n.cfg.Catalog.View(ctx, func(tx *catalog.Tx) error {
		cp, err := tx.Checkpoint(ctx)
		if err != nil && !errors.Is(err, storage.ErrNoRow) {
			return err
		}
		if !t.In(cp.Size) {
			return fault.New(fault.NotFound, op, "the log has no such tile (yet)").WithHint("see /log/checkpoint for the size of the log")
		}
		if t.Entries {
			data, err = entries(ctx, tx, t)
			return err
		}
		hashes, err := tiles{ctx: ctx, tx: tx}.get(t.Level, t.N, t.Width)
		data = join(hashes)
		return err
	})
	return data, err
}

// entries makes an entry bundle.
func entries(ctx context.Context, tx *catalog.Tx, t audit.Tile) ([]byte, error) {
	from, count := t.N*tileWidth, uint64(0)
	var bundle []byte
	err := tx.LeafData(ctx, from, from+uint64(t.Width), func(index, _ uint64, data []byte) error {
		if index == from+count {
			bundle = binary.BigEndian.AppendUint16(bundle, uint16(len(data)))
			bundle = append(bundle, data...)
			count++
		}
		return nil
	})
	if err == nil && count != uint64(t.Width) {
		err = missing("notary.Tile")
	}
	return bundle, err
}

func missing(op string) error {
	return fault.New(fault.Corrupt, op, "leaves of the log are missing").WithHint("restore the catalog from a backup")
}

// builder makes full tiles and the root of the log's tree from its leaves, in
// order.
type builder struct {
	size   uint64
	levels [][]audit.Hash // of each level the hashes that are in no full tile yet: below 256
	full   []storage.Tile // made and not yet taken
}

// resume begins at the last leaf that is in a stored tile.
func resume(ctx context.Context, tx *catalog.Tx) (*builder, error) {
	size, err := tx.TiledLeaves(ctx)
	if err != nil {
		return nil, err
	}
	b := &builder{size: size, levels: [][]audit.Hash{nil}}
	for level, count := 0, size/tileWidth; count > 0; level, count = level+1, count/tileWidth {
		from := count / tileWidth * tileWidth
		roots, err := tx.TileRoots(ctx, level, from, count)
		if err != nil {
			return nil, err
		}
		if uint64(len(roots)) != count-from { // there is a gap: they have to be made again
			return &builder{}, nil
		}
		b.levels = append(b.levels, roots)
	}
	return b, nil
}

// add adds the next leaf by its hash.
func (b *builder) add(leaf audit.Hash) {
	b.size++
	for level, hash := 0, leaf; ; level++ {
		if level == len(b.levels) {
			b.levels = append(b.levels, nil)
		}
		b.levels[level] = append(b.levels[level], hash)
		if len(b.levels[level]) < tileWidth {
			return
		}
		hash = subtree(b.levels[level])
		n := (b.size>>(tileHeight*(level+1)) - 1)
		b.full = append(b.full, storage.Tile{Level: level, N: n, Root: hash, Hashes: b.levels[level]})
		b.levels[level] = nil
	}
}

// root is the RFC 6962 root of the leaves so far.
func (b *builder) root() audit.Hash {
	var root audit.Hash
	none := true
	for _, hashes := range b.levels { // from the right edge up
		for len(hashes) > 0 {
			// The last of the perfect subtrees has as many hashes as the lowest set bit says.
			last := len(hashes) & -len(hashes)
			part := subtree(hashes[len(hashes)-last:])
			hashes = hashes[:len(hashes)-last]
			if none {
				root, none = part, false
			} else {
				root = audit.Hash(tlog.NodeHash(tlog.Hash(part), tlog.Hash(root)))
			}
		}
	}
	if none {
		return audit.EmptyRoot()
	}
	return root
}

// subtree is the root over a power of two of hashes.
func subtree(hashes []audit.Hash) audit.Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	half := len(hashes) / 2
	return audit.Hash(tlog.NodeHash(tlog.Hash(subtree(hashes[:half])), tlog.Hash(subtree(hashes[half:]))))
}

// tiles reads tiles of the log in one snapshot: stored ones, and those that are
// not full or not stored yet from what is below them.
type tiles struct {
	ctx    context.Context
	tx     *catalog.Tx
	leaves bool // use no stored ones
}

// get gives the first width hashes of tile number n of a level.
func (t tiles) get(level int, n uint64, width int) ([]audit.Hash, error) {
	if !t.leaves {
		hashes, err := t.tx.Tile(t.ctx, level, n)
		if err == nil {
			return hashes[:width], nil
		}
		if !errors.Is(err, storage.ErrNoRow) {
			return nil, err
		}
	}
	from, to := n*tileWidth, n*tileWidth+uint64(width)
	hashes := make([]audit.Hash, 0, width)
	if level == 0 {
		err := t.tx.LeafData(t.ctx, from, to, func(index, _ uint64, data []byte) error {
			if index == from+uint64(len(hashes)) {
				hashes = append(hashes, audit.LeafHash(data))
			}
			return nil
		})
		if err == nil && len(hashes) < width {
			err = missing("notary.tile")
		}
		return hashes, err
	}
	if !t.leaves {
		var err error
		if hashes, err = t.tx.TileRoots(t.ctx, level-1, from, to); err != nil {
			return nil, err
		}
	}
	for n := from + uint64(len(hashes)); n < to; n++ {
		below, err := t.get(level-1, n, tileWidth)
		if err != nil {
			return nil, err
		}
		hashes = append(hashes, subtree(below))
	}
	return hashes, nil
}

// Height, ReadTiles and SaveTiles make it a tlog.TileReader.
func (t tiles) Height() int { return tileHeight }

func (t tiles) ReadTiles(list []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(list))
	for i, tile := range list {
		hashes, err := t.get(tile.L, uint64(tile.N), tile.W)
		if err != nil {
			return nil, err
		}
		out[i] = join(hashes)
	}
	return out, nil
}

func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func join(hashes []audit.Hash) []byte {
	data := make([]byte, 0, len(hashes)*len(audit.Hash{}))
	for _, h := range hashes {
		data = append(data, h[:]...)
	}
	return data
}
