package catalog

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"dsvault/storage"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// appendSQL adds a batch, unless the log has a leaf at its first index or
// behind it.
const appendSQL = "INSERT INTO leaf_batches (first, count, time, leaves, details)" +
	" SELECT CAST($1 AS bigint), CAST($2 AS bigint), CAST($3 AS bigint), $4, $5" +
	" WHERE COALESCE((SELECT first + count FROM leaf_batches ORDER BY first DESC LIMIT 1), 0) <= CAST($1 AS bigint)"

type slotPosting struct{ slot, first uint64 }

var leafSlots = table[slotPosting]{
	name: "leaf_slots", columns: "slot, first",
	values: func(p *slotPosting) []any { return []any{int64(p.slot), int64(p.first)} },
}

// nobody has the leaves without details.
var nobody dataset.PrincipalID

type personPosting struct {
	who   dataset.PrincipalID
	first uint64
}

var leafPeople = table[personPosting]{
	name: "leaf_people", columns: "principal, first",
	values: func(p *personPosting) []any { return []any{p.who[:], int64(p.first)} },
}

// AppendLeaves adds leaves behind those that are there, with the details of
// those that have some. An index that is not behind the last is
// storage.ErrExists.
func (tx *Tx) AppendLeaves(ctx context.Context, list []storage.Leaf) error {
	const op = "catalog.AppendLeaves"
	for len(list) > 0 {
		var b *leafBatch
		b, list = tx.c.packer.pack(list)
		first, packed, details := b.first, b.leaves, b.details
		if tx.gathering && len(list) > 0 { // the next batch is packed before this one is written
			packed, details = bytes.Clone(packed), bytes.Clone(details)
		}
		err := tx.write(ctx, write{op: op, query: appendSQL, args: []any{int64(first), int64(b.count), b.time, packed, details},
			untouched: func() error {
				tx.failed, tx.mendable = fmt.Errorf("%s: the log has leaf %d already: %w", op, first, storage.ErrExists), true
				return tx.failed
			}})
		if err != nil {
			return err
		}
		slots := make([]slotPosting, len(b.slots))
		for i, slot := range b.slots {
			slots[i] = slotPosting{slot, b.first}
		}
		if err := leafSlots.insert(ctx, tx, op, "", slots...); err != nil {
			return err
		}
		people := make([]personPosting, len(b.people))
		for i, who := range b.people {
			people[i] = personPosting{who, b.first}
		}
		if err := leafPeople.insert(ctx, tx, op, "", people...); err != nil {
			return err
		}
	}
	return nil
}

// errEnough ends the reading of rows when nothing more is wanted.
var errEnough = errors.New("enough")

// Batches are read a few at a time, and more when those were not enough: who ends
// a query of PostgreSQL early has it send the rest all the same.
const (
	fewBatches  = 4
	manyBatches = 256
)

// eachBatch streams the batches that w selects, in order: those that begin at
// its first argument or later, which is moved on, and before to (0: the end).
// columns are leaves, or leaves and details.
func (tx *Tx) eachBatch(ctx context.Context, op, columns string, to uint64, w filter, f func(*leafBatch) error) error {
	w.and("first >= $1")
	if to > 0 {
		w.and("first < " + w.arg(int64(to)))
	}
	query := "SELECT first, count, " + columns + " FROM leaf_batches " + w.where() + "ORDER BY first LIMIT " + w.arg(int64(0))
	for atOnce := int64(fewBatches); ; atOnce = min(4*atOnce, manyBatches) {
		w.args[len(w.args)-1] = atOnce
		got := int64(0)
		err := tx.each(ctx, op, false, query, w.args, func(rows *sql.Rows) error {
			var b leafBatch
			if err := scan(rows, op, &b.first, &b.count, raw{&b.leaves}, raw{&b.details}); err != nil {
				return err
			}
			got++
			w.args[0] = int64(b.first) + 1
			return f(&b)
		})
		if errors.Is(err, errEnough) {
			return nil
		}
		if err != nil || got < atOnce {
			return err
		}
	}
}

// batchAt gives the first index of the batch that a leaf is in, or would be.
func (tx *Tx) batchAt(ctx context.Context, op string, index uint64) (first uint64, err error) {
	err = tx.row(ctx, op, "SELECT COALESCE(MAX(first), 0) FROM leaf_batches WHERE first <= $1", []any{int64(index)}, &first)
	return first, err
}

// Leaves streams the leaves that q selects, in the order of their index, with
// their details. The transaction cannot be used inside f.
func (tx *Tx) Leaves(ctx context.Context, q storage.LeafQuery, f func(storage.Leaf) error) error {
	const op = "catalog.Leaves"
	if len(q.Kinds) > 100 {
		return fault.New(fault.TooLarge, op, "more than 100 kinds of leaves")
	}
	if q.SinceUS > 0 {
		first, err := tx.LeafSince(ctx, q.SinceUS)
		if err != nil {
			return err
		}
		q.From = max(q.From, first)
	}
	slots, err := tx.slotsUnder(ctx, op, q.Under)
	if err != nil {
		return err
	}
	start, err := tx.batchAt(ctx, op, q.From)
	if err != nil {
		return err
	}
	w := filter{args: []any{int64(start)}}
	if slots != nil {
		sub := filter{args: w.args}
		sub.under(q.Under)
		w.args = sub.args
		w.and("first IN (SELECT first FROM leaf_slots WHERE first >= $1 AND slot IN (SELECT slot FROM scopes " + sub.where() + "))")
	}
	if !q.Principal.IsZero() {
		whose := w.arg(q.Principal[:])
		if q.Bare != 0 {
			whose += ", " + w.arg(nobody[:])
		}
		w.and("first IN (SELECT first FROM leaf_people WHERE first >= $1 AND principal IN (" + whose + "))")
	}
	found := 0
	return tx.eachBatch(ctx, op, "leaves, details", q.To, w, func(b *leafBatch) error {
		type personal struct {
			who    dataset.PrincipalID
			sealed []byte
		}
		details := make([]personal, b.count)
		err := b.eachDetail(func(position int, who dataset.PrincipalID, sealed []byte) {
			details[position] = personal{who, sealed}
		})
		if err != nil {
			return err
		}
		return b.eachLeaf(func(l *storage.Leaf) error {
			d := &details[l.Index-b.first]
			switch {
			case q.To > 0 && l.Index >= q.To:
				return errEnough
			case l.Index < q.From,
				slots != nil && !slots[l.Slot],
				!q.Principal.IsZero() && d.who != q.Principal && !(q.Bare != 0 && l.Kind == q.Bare && d.who.IsZero()),
				q.Decision != 0 && l.Decision != q.Decision,
				len(q.Kinds) > 0 && !slices.Contains(q.Kinds, l.Kind):
				return nil
			}
			leaf := *l
			leaf.Data = bytes.Clone(l.Data) // a few leaves should not keep the whole batch in memory
			leaf.Principal, leaf.Details = d.who, bytes.Clone(d.sealed)
			if len(leaf.Data) == 0 {
				leaf.Data = nil
			}
			if err := f(leaf); err != nil {
				return err
			}
			if found++; found == q.Limit {
				return errEnough
			}
			return nil
		})
	})
}

// slotsUnder gives the slots of a scope and of those below it; nil for all.
func (tx *Tx) slotsUnder(ctx context.Context, op string, scope dataset.Scope) (map[uint64]bool, error) {
	var w filter
	w.under(scope)
	if len(w.conditions) == 0 {
		return nil, nil
	}
	slots := map[uint64]bool{}
	return slots, tx.each(ctx, op, false, "SELECT slot FROM scopes "+w.where(), w.args, func(rows *sql.Rows) error {
		var slot uint64
		if err := scan(rows, op, &slot); err != nil {
			return err
		}
		slots[slot] = true
		return nil
	})
}

// LeafSince finds the first index whose time is not before us, Unix
// microseconds; it is that of the log's end if there is none. The log's time
// never goes back, so halving finds it without an index on time.
func (tx *Tx) LeafSince(ctx context.Context, us int64) (uint64, error) {
	const op = "catalog.LeafSince"
	var low, high int64 // the answer is in the batch that begins in [low, high], or is the end
	if err := tx.row(ctx, op, "SELECT COALESCE((SELECT first + count FROM leaf_batches ORDER BY first DESC LIMIT 1), 0)", nil, &high); err != nil {
		return 0, err
	}
	for low < high {
		middle := low + (high-low)/2
		var first, count, last int64
		err := tx.row(ctx, op, "SELECT first, count, time FROM leaf_batches WHERE first >= $1 ORDER BY first LIMIT 1",
			[]any{middle}, &first, &count, &last)
		switch {
		case errors.Is(err, storage.ErrNoRow): // middle is inside the last batch
			high = middle
		case err != nil:
			return 0, err
		case last >= us:
			high = middle
		default:
			low = first + count
		}
	}
	index := uint64(low)
	err := tx.eachBatch(ctx, op, "leaves, NULL", 0, filter{args: []any{int64(index)}}, func(b *leafBatch) error {
		return b.eachLeaf(func(l *storage.Leaf) error {
			if l.Time < us {
				index = l.Index + 1
				return nil
			}
			index = max(index, l.Index)
			return errEnough
		})
	})
	return index, err
}

// LeafData streams index, slot and bytes of the leaves from (included) to
// (excluded), in order. data is the caller's to keep. The transaction cannot
// be used inside f.
func (tx *Tx) LeafData(ctx context.Context, from, to uint64, f func(index, slot uint64, data []byte) error) error {
	const op = "catalog.LeafData"
	start, err := tx.batchAt(ctx, op, from)
	if err != nil || from >= to {
		return err
	}
	return tx.eachBatch(ctx, op, "leaves, NULL", to, filter{args: []any{int64(start)}}, func(b *leafBatch) error {
		return b.eachLeaf(func(l *storage.Leaf) error {
			switch {
			case l.Index < from:
				return nil
			case l.Index >= to:
				return errEnough
			}
			return f(l.Index, l.Slot, l.Data)
		})
	})
}

// DropDetails removes one person's details from at most so many batches of
// leaves, the oldest first, and reports whether there are more. The leaves
// stay as they are.
func (tx *Tx) DropDetails(ctx context.Context, who dataset.PrincipalID, batches int) (more bool, err error) {
	const op = "catalog.DropDetails"
	if err := tx.usable(op, true); err != nil || who == nobody {
		return false, err
	}
	var list []leafBatch
	err = tx.each(ctx, op, false, "SELECT first, count, details FROM leaf_batches"+
		" WHERE first IN (SELECT first FROM leaf_people WHERE principal = $1 ORDER BY first LIMIT $2) ORDER BY first",
		[]any{who[:], int64(batches) + 1}, func(rows *sql.Rows) error {
			var b leafBatch
			if err := scan(rows, op, &b.first, &b.count, raw{&b.details}); err != nil {
				return err
			}
			list = append(list, b)
			return nil
		})
	if err != nil {
		return false, err
	}
	if more = len(list) > batches; more {
		list = list[:batches]
	}
	for _, b := range list {
		kept := make([]byte, 0, len(b.details))
		err := b.eachDetail(func(position int, of dataset.PrincipalID, sealed []byte) {
			if of != who {
				kept = appendDetails(kept, position, of, sealed)
			}
		})
		if err != nil {
			return false, err
		}
		if err := tx.change(ctx, op, "UPDATE leaf_batches SET details = $1 WHERE first = $2", kept, int64(b.first)); err != nil {
			return false, err
		}
		err = tx.change(ctx, op, "DELETE FROM leaf_people WHERE principal = $1 AND first = $2", who[:], int64(b.first))
		if err != nil {
			return false, err
		}
		if err := leafPeople.insert(ctx, tx, op, " ON CONFLICT DO NOTHING", personPosting{nobody, b.first}); err != nil {
			return false, err
		}
	}
	return more, nil
}

// moveLeaves packs the leaves that were kept one in a row.
func moveLeaves(ctx context.Context, tx *sql.Tx, d *dialect) error {
	var p packer
	for from := int64(0); ; {
		list, err := oldLeaves(ctx, tx, from)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			_, err := tx.ExecContext(ctx, "DROP TABLE details; DROP TABLE leaves")
			return err
		}
		from = int64(list[len(list)-1].Index) + 1
		for len(list) > 0 {
			var b *leafBatch
			b, list = p.pack(list)
			if _, err := tx.ExecContext(ctx, appendSQL, int64(b.first), int64(b.count), b.time, b.leaves, b.details); err != nil {
				return err
			}
			for _, slot := range b.slots {
				if _, err := tx.ExecContext(ctx, leafSlots.insertSQL(d, 1), int64(slot), int64(b.first)); err != nil {
					return err
				}
			}
			for _, who := range b.people {
				if _, err := tx.ExecContext(ctx, leafPeople.insertSQL(d, 1), who[:], int64(b.first)); err != nil {
					return err
				}
			}
		}
	}
}

// oldLeaves reads as many leaves as a batch takes from the tables before
// leaf_batches.
func oldLeaves(ctx context.Context, tx *sql.Tx, from int64) ([]storage.Leaf, error) {
	rows, err := tx.QueryContext(ctx, "SELECT l.idx, l.slot, l.kind, l.decision, l.time, l.data, d.principal, d.sealed"+
		" FROM leaves l LEFT JOIN details d ON d.idx = l.idx WHERE l.idx >= $1 ORDER BY l.idx LIMIT $2", from, maxBatchLeaves)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []storage.Leaf
	for rows.Next() {
		var l storage.Leaf
		var principal []byte
		err := scan(rows, "catalog.Open", &l.Index, &l.Slot, &l.Kind, &l.Decision, &l.Time, raw{&l.Data}, &principal, raw{&l.Details})
		if err != nil {
			return nil, err
		}
		copy(l.Principal[:], principal)
		list = append(list, l)
	}
	return list, rows.Err()
}
