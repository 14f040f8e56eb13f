package catalog

import (
	"context"
	"database/sql"
	"slices"
	"strconv"

	"dsvault/storage"
	"dsvault/vault/fault"
)

const headSQL = "SELECT size, frontier, revision, time, next_slot FROM head WHERE one = 1"

// LockHead reads the head and holds it against every other writer until the
// transaction ends. Writing transactions call it before anything else.
func (tx *Tx) LockHead(ctx context.Context) (storage.Head, error) {
	if err := tx.usable("catalog.LockHead", true); err != nil {
		return storage.Head{}, err
	}
	return tx.head(ctx, "catalog.LockHead", headSQL+tx.db.dialect.lockRow)
}

// Head reads the head without locking it. A fresh catalog's head is all zero,
// except NextSlot, which is 1: slot 0 is the vault's own.
func (tx *Tx) Head(ctx context.Context) (storage.Head, error) {
	return tx.head(ctx, "catalog.Head", headSQL)
}

func (tx *Tx) head(ctx context.Context, op, query string) (storage.Head, error) {
	var h storage.Head
	var frontier []byte
	if err := tx.row(ctx, op, query, nil, &h.Size, &frontier, &h.Revision, &h.Time, &h.NextSlot); err != nil {
		return storage.Head{}, err
	}
	if len(frontier)%32 != 0 || len(frontier) > 64*32 {
		return storage.Head{}, fault.New(fault.Corrupt, op, "the log's head has a broken frontier")
	}
	for piece := range slices.Chunk(frontier, 32) {
		h.Frontier = append(h.Frontier, [32]byte(piece))
	}
	return h, nil
}

// SetHead replaces the head.
func (tx *Tx) SetHead(ctx context.Context, h storage.Head) error {
	frontier := make([]byte, 0, 32*len(h.Frontier))
	for _, hash := range h.Frontier {
		frontier = append(frontier, hash[:]...)
	}
	return tx.change(ctx, "catalog.SetHead",
		"UPDATE head SET size = $1, frontier = $2, revision = $3, time = $4, next_slot = $5 WHERE one = 1",
		int64(h.Size), frontier, int64(h.Revision), h.Time, int64(h.NextSlot))
}

var chains = table[storage.Chain]{
	name: "chains", columns: "slot, seq, last_index, last_hash",
	into: func(c *storage.Chain) []any {
		return []any{&c.Slot, &c.Seq, &c.LastIndex, fixed(c.LastHash[:])}
	},
	values: func(c *storage.Chain) []any {
		return []any{int64(c.Slot), int64(c.Seq), int64(c.LastIndex), c.LastHash[:]}
	},
}

// Chains reads the chains of slots; a slot without leaves has none.
func (tx *Tx) Chains(ctx context.Context, slots []uint64) (map[uint64]storage.Chain, error) {
	found := make(map[uint64]storage.Chain, len(slots))
	err := inChunks(slots, func(slots []uint64) error {
		list, err := chains.list(ctx, tx, "catalog.Chains", "WHERE slot IN ("+placeholders(1, len(slots))+")", numbers(slots)...)
		for _, c := range list {
			found[c.Slot] = c
		}
		return err
	})
	return found, err
}

// SetChains replaces or adds chains, one for each slot.
func (tx *Tx) SetChains(ctx context.Context, list []storage.Chain) error {
	return chains.insert(ctx, tx, "catalog.SetChains", chainsUpsert, list...)
}

var chainsUpsert = chains.upsert("slot")

var openReads = table[storage.OpenRead]{
	name: "open_reads", columns: "idx, node",
	into: func(r *storage.OpenRead) []any { return []any{&r.Index, &r.Node} },
}

// AddOpenReads adds reads that a node has admitted. An index that is there is
// storage.ErrExists.
func (tx *Tx) AddOpenReads(ctx context.Context, node string, indexes []uint64) error {
	if len(indexes) == 0 {
		return nil
	}
	query := "INSERT INTO open_reads (idx, node) SELECT CAST(value AS bigint), CAST($2 AS text) FROM " + tx.db.dialect.numbers
	return tx.write(ctx, write{op: "catalog.AddOpenReads", query: query, args: []any{jsonNumbers(indexes), node}})
}

// CloseOpenReads removes reads and returns the indexes, ascending, of those
// that were still open.
func (tx *Tx) CloseOpenReads(ctx context.Context, indexes []uint64) ([]uint64, error) {
	const op = "catalog.CloseOpenReads"
	if len(indexes) == 0 {
		return nil, nil
	}
	var closed []uint64
	query := "DELETE FROM open_reads WHERE idx IN (SELECT CAST(value AS bigint) FROM " + tx.db.dialect.numbers + ") RETURNING idx"
	err := tx.each(ctx, op, true, query, []any{jsonNumbers(indexes)}, func(rows *sql.Rows) error {
		var index uint64
		if err := scan(rows, op, &index); err != nil {
			return err
		}
		closed = append(closed, index)
		return nil
	})
	slices.Sort(closed)
	return closed, err
}

// jsonNumbers is the argument of dialect.numbers.
func jsonNumbers(list []uint64) string {
	b := append(make([]byte, 0, 2+10*len(list)), '[')
	for i, n := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, n, 10)
	}
	return string(append(b, ']'))
}

// OpenReads lists open reads, the oldest first.
func (tx *Tx) OpenReads(ctx context.Context, limit int) ([]storage.OpenRead, error) {
	return openReads.list(ctx, tx, "catalog.OpenReads", "ORDER BY idx LIMIT $1", page(limit))
}

// NodeLease is the name of the lease that shows a node, as open reads name it, to
// be alive.
func NodeLease(node string) string { return "node/" + node }

// AbandonedReads lists the open reads of nodes that do not have their lease any
// more, the oldest first.
func (tx *Tx) AbandonedReads(ctx context.Context, limit int) ([]storage.OpenRead, error) {
	return openReads.list(ctx, tx, "catalog.AbandonedReads", "WHERE NOT EXISTS (SELECT 1 FROM leases"+
		" WHERE leases.name = 'node/' || open_reads.node AND leases.until > "+tx.db.dialect.now+") ORDER BY idx LIMIT $1", page(limit))
}

// DropDeadNodes forgets the nodes whose leases have run out.
func (tx *Tx) DropDeadNodes(ctx context.Context) error {
	const op = "catalog.DropDeadNodes"
	_, err := tx.exec(ctx, op, "DELETE FROM leases WHERE name >= 'node/' AND name < 'node0' AND until <= "+tx.db.dialect.now)
	if err == nil {
		_, err = tx.exec(ctx, op, "DELETE FROM followed WHERE NOT EXISTS (SELECT 1 FROM leases WHERE leases.name = 'node/' || followed.node)")
	}
	return err
}

func numbers(list []uint64) []any {
	args := make([]any, len(list))
	for i, n := range list {
		args[i] = int64(n)
	}
	return args
}
