package catalog

import (
	"context"
	"database/sql"
	"slices"

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

var leaves = table[storage.Leaf]{
	name: "leaves", columns: "idx, slot, kind, decision, time, data",
	values: func(l *storage.Leaf) []any {
		return []any{int64(l.Index), int64(l.Slot), int64(l.Kind), int64(l.Decision), l.Time, blob(l.Data)}
	},
}

var details = table[storage.Leaf]{
	name: "details", columns: "idx, principal, sealed",
	values: func(l *storage.Leaf) []any { return []any{int64(l.Index), l.Principal[:], l.Details} },
}

// AppendLeaves adds leaves, and the details of those that have some. An index
// that is taken is storage.ErrExists.
func (tx *Tx) AppendLeaves(ctx context.Context, list []storage.Leaf) error {
	const op = "catalog.AppendLeaves"
	if err := leaves.insert(ctx, tx, op, "", list...); err != nil {
		return err
	}
	detailed := make([]storage.Leaf, 0, len(list))
	for _, l := range list {
		if len(l.Details) > 0 {
			detailed = append(detailed, l)
		}
	}
	return details.insert(ctx, tx, op, "", detailed...)
}

// Leaves streams the leaves that q selects, in the order of their index, with
// their details. The transaction cannot be used inside f.
func (tx *Tx) Leaves(ctx context.Context, q storage.LeafQuery, f func(storage.Leaf) error) error {
	const op = "catalog.Leaves"
	if q.SinceUS > 0 {
		first, err := tx.leafSince(ctx, q.SinceUS)
		if err != nil {
			return err
		}
		q.From = max(q.From, first)
	}
	var w filter
	w.and("l.idx >= " + w.arg(int64(q.From)))
	if q.To > 0 {
		w.and("l.idx < " + w.arg(int64(q.To)))
	}
	if sub := (filter{args: w.args}); true {
		sub.under(q.Under)
		if len(sub.conditions) > 0 {
			w.args = sub.args
			w.and("l.slot IN (SELECT slot FROM scopes " + sub.where() + ")")
		}
	}
	if !q.Principal.IsZero() {
		w.and("d.principal = " + w.arg(q.Principal[:]))
	}
	if len(q.Kinds) > 0 {
		if len(q.Kinds) > 100 {
			return fault.New(fault.TooLarge, op, "more than 100 kinds of leaves")
		}
		in := placeholders(len(w.args)+1, len(q.Kinds))
		for _, kind := range q.Kinds {
			w.arg(int64(kind))
		}
		w.and("l.kind IN (" + in + ")")
	}
	query := "SELECT l.idx, l.slot, l.kind, l.decision, l.time, l.data, d.principal, d.sealed" +
		" FROM leaves l LEFT JOIN details d ON d.idx = l.idx " + w.where() + "ORDER BY l.idx"
	if q.Limit > 0 {
		query += " LIMIT " + w.arg(int64(q.Limit))
	}
	return tx.each(ctx, op, false, query, w.args, func(rows *sql.Rows) error {
		var l storage.Leaf
		var principal []byte
		if err := scan(rows, op, &l.Index, &l.Slot, &l.Kind, &l.Decision, &l.Time, raw{&l.Data}, &principal, raw{&l.Details}); err != nil {
			return err
		}
		copy(l.Principal[:], principal)
		return f(l)
	})
}

// leafSince finds the first index whose time is not before us. The log's time
// never goes back, so halving finds it without an index on time.
func (tx *Tx) leafSince(ctx context.Context, us int64) (uint64, error) {
	const op = "catalog.Leaves"
	var low, high int64 // the answer is in [low, high]
	if err := tx.row(ctx, op, "SELECT COALESCE(MAX(idx) + 1, 0) FROM leaves", nil, &high); err != nil {
		return 0, err
	}
	for low < high {
		middle := low + (high-low)/2
		var at, index int64
		err := tx.row(ctx, op, "SELECT idx, time FROM leaves WHERE idx >= $1 ORDER BY idx LIMIT 1", []any{middle}, &index, &at)
		if err != nil {
			return 0, err
		}
		if at >= us {
			high = middle
		} else {
			low = index + 1
		}
	}
	return uint64(low), nil
}

// LeafData streams index, slot and bytes of the leaves from (included) to
// (excluded), in order. data is the caller's to keep. The transaction cannot
// be used inside f.
func (tx *Tx) LeafData(ctx context.Context, from, to uint64, f func(index, slot uint64, data []byte) error) error {
	const op = "catalog.LeafData"
	return tx.each(ctx, op, false, "SELECT idx, slot, data FROM leaves WHERE idx >= $1 AND idx < $2 ORDER BY idx",
		[]any{int64(from), int64(to)}, func(rows *sql.Rows) error {
			var index, slot uint64
			var data []byte
			if err := scan(rows, op, &index, &slot, raw{&data}); err != nil {
				return err
			}
			return f(index, slot, data)
		})
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
	name: "open_reads", columns: "idx, slot, dataset, shard, principal, max_bytes, time, node",
	into: func(r *storage.OpenRead) []any {
		return []any{&r.Index, &r.Slot, fixed(r.Dataset[:]), &r.Shard, fixed(r.Principal[:]), &r.MaxBytes, &r.Time, &r.Node}
	},
	values: func(r *storage.OpenRead) []any {
		return []any{int64(r.Index), int64(r.Slot), r.Dataset[:], int64(r.Shard), r.Principal[:], r.MaxBytes, r.Time, r.Node}
	},
}

// AddOpenReads adds admitted reads. An index that is there is storage.ErrExists.
func (tx *Tx) AddOpenReads(ctx context.Context, list []storage.OpenRead) error {
	return openReads.insert(ctx, tx, "catalog.AddOpenReads", "", list...)
}

// CloseOpenReads removes reads and returns the indexes, ascending, of those
// that were still open.
func (tx *Tx) CloseOpenReads(ctx context.Context, indexes []uint64) ([]uint64, error) {
	const op = "catalog.CloseOpenReads"
	var closed []uint64
	err := inChunks(indexes, func(indexes []uint64) error {
		query := "DELETE FROM open_reads WHERE idx IN (" + placeholders(1, len(indexes)) + ") RETURNING idx"
		return tx.each(ctx, op, true, query, numbers(indexes), func(rows *sql.Rows) error {
			var index uint64
			if err := scan(rows, op, &index); err != nil {
				return err
			}
			closed = append(closed, index)
			return nil
		})
	})
	slices.Sort(closed)
	return closed, err
}

// OpenReads lists open reads, the oldest first.
func (tx *Tx) OpenReads(ctx context.Context, limit int) ([]storage.OpenRead, error) {
	return openReads.list(ctx, tx, "catalog.OpenReads", "ORDER BY idx LIMIT $1", page(limit))
}

func numbers(list []uint64) []any {
	args := make([]any, len(list))
	for i, n := range list {
		args[i] = int64(n)
	}
	return args
}
