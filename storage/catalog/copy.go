package catalog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"

	"dsvault/storage"
	"dsvault/vault/fault"
)

// Copied says what Copy has copied.
type Copied struct {
	Tables int
	Rows   int64 // in all tables
	New    int64 // of these, that this call has added
}

// copying is the name in meta by which a catalog is known as a copy that is not
// whole. Meta is copied last, in one transaction: until then the copy is no
// vault to anybody.
const copying = "copying"

// left are tables of which a copy has nothing: who holds what at this moment, and
// how far which node is.
var left = []string{"leases", "followed"}

// Copy makes to, an empty catalog, a copy of from, whichever engines they are
// on, and compares both at the end, row by row. What it reads is one snapshot.
// After an interruption it goes on where it was, and a copy that is whole stays as
// it is; a from that has changed since is fault.Conflict then, and so is a to that
// holds something else. progress
// hears of the rows that were added, now and then.
func Copy(ctx context.Context, from, to *DB, progress func(rows int64)) (Copied, error) {
	const op = "catalog.Copy"
	var done Copied
	err := from.View(ctx, func(source *Tx) error {
		tables, err := source.shapes(ctx)
		if err != nil {
			return err
		}
		if err := to.sameShapes(ctx, tables); err != nil {
			return err
		}
		state, err := source.digest(ctx, "head", "meta")
		if err != nil {
			return err
		}
		if done.Rows, err = to.holds(ctx, source, tables); err != nil || done.Rows > 0 {
			done.Tables = len(tables)
			return err
		}
		if err := to.Update(ctx, func(tx *Tx) error { return tx.beginCopy(ctx, tables, state) }); err != nil {
			return err
		}
		for _, t := range tables {
			if t.name == "meta" {
				continue
			}
			n, err := t.copy(ctx, source, to, progress)
			if done.New += n; err != nil {
				return err
			}
		}
		for _, t := range tables {
			if t.name == "meta" {
				continue
			}
			rows, err := t.compare(ctx, source, to)
			if err != nil {
				return err
			}
			done.Rows += rows
		}
		done.Tables = len(tables)
		meta := tables[slices.IndexFunc(tables, func(t shapeOf) bool { return t.name == "meta" })]
		rows, err := meta.rows(ctx, source, nil)
		if err != nil {
			return err
		}
		done.Rows, done.New = done.Rows+int64(len(rows)), done.New+int64(len(rows))
		return to.Update(ctx, func(tx *Tx) error {
			if _, err := tx.exec(ctx, op, "DELETE FROM meta"); err != nil {
				return err
			}
			return meta.insert(ctx, tx, rows)
		})
	})
	return done, err
}

// shapeOf is a table as Copy needs it.
type shapeOf struct {
	name    string
	columns []string
	key     []string // of the primary key, in its order
}

// shapes lists the tables that are copied, in the order in which they were
// made: one that refers to another comes after it.
func (tx *Tx) shapes(ctx context.Context) ([]shapeOf, error) {
	const op = "catalog.Copy"
	var tables []shapeOf
	err := tx.each(ctx, op, false, tx.db.dialect.tables, nil, func(rows *sql.Rows) error {
		var name string
		err := scan(rows, op, &name)
		if err == nil && !slices.Contains(left, name) && name != "goose_db_version" {
			tables = append(tables, shapeOf{name: name})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range tables {
		t := &tables[i]
		for query, into := range map[string]*[]string{tx.db.dialect.columns: &t.columns, tx.db.dialect.keys: &t.key} {
			err := tx.each(ctx, op, false, query, []any{t.name}, func(rows *sql.Rows) error {
				var column string
				err := scan(rows, op, &column)
				*into = append(*into, column)
				return err
			})
			if err != nil {
				return nil, err
			}
		}
		slices.Sort(t.columns) // engines differ in the order of those added later
		if len(t.key) == 0 {
			return nil, fault.New(fault.Internal, op, "the table "+t.name+" has no primary key")
		}
	}
	return tables, nil
}

// sameShapes makes sure that db has the tables of another catalog, which
// Open has brought up to date as well.
func (db *DB) sameShapes(ctx context.Context, tables []shapeOf) error {
	return db.View(ctx, func(tx *Tx) error {
		own, err := tx.shapes(ctx)
		if err != nil {
			return err
		}
		same := func(a, b shapeOf) bool {
			return a.name == b.name && slices.Equal(a.columns, b.columns) && slices.Equal(a.key, b.key)
		}
		byName := func(a, b shapeOf) int { return strings.Compare(a.name, b.name) }
		slices.SortFunc(own, byName)
		if !slices.EqualFunc(own, slices.SortedFunc(slices.Values(tables), byName), same) {
			return fault.New(fault.Internal, "catalog.Copy", "the tables of the two catalogs differ")
		}
		return nil
	})
}

// holds gives the rows of a copy that is whole, 0 for anything else. Meta goes
// first: it is small, and nothing that is begun or is another vault has the same.
func (db *DB) holds(ctx context.Context, source *Tx, tables []shapeOf) (rows int64, err error) {
	meta := slices.IndexFunc(tables, func(t shapeOf) bool { return t.name == "meta" })
	for _, t := range slices.Concat(tables[meta:meta+1], tables[:meta], tables[meta+1:]) {
		n, err := t.compare(ctx, source, db)
		if fault.Is(err, fault.Conflict) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		rows += n
	}
	return rows, nil
}

// HalfCopied reports whether the catalog is a copy that was begun and is not whole.
func (tx *Tx) HalfCopied(ctx context.Context) (bool, error) {
	_, err := tx.Meta(ctx, copying)
	if errors.Is(err, storage.ErrNoRow) {
		return false, nil
	}
	return err == nil, err
}

// beginCopy marks the catalog as a copy of a state of another, or finds that it
// is marked so already.
func (tx *Tx) beginCopy(ctx context.Context, tables []shapeOf, state []byte) error {
	const op = "catalog.Copy"
	begun, err := tx.Meta(ctx, copying)
	switch {
	case err == nil && bytes.Equal(begun, state):
		return nil
	case err == nil:
		return fault.New(fault.Conflict, op, "the catalog has changed since this copy of it was begun").
			WithHint("empty the database that it is copied to, and begin again")
	case !errors.Is(err, storage.ErrNoRow):
		return err
	}
	var rows int64
	for _, table := range []string{"meta", "principals", "scopes"} {
		var n int64
		if err := tx.row(ctx, op, "SELECT COUNT(*) FROM "+table, nil, &n); err != nil {
			return err
		}
		rows += n
	}
	if rows > 0 {
		return fault.New(fault.Conflict, op, "the database that is copied to is not empty").WithHint("name an empty one")
	}
	for _, t := range slices.Backward(tables) { // what migrations have put there
		if _, err := tx.exec(ctx, op, "DELETE FROM "+t.name); err != nil {
			return err
		}
	}
	return tx.SetMeta(ctx, copying, state)
}

// A transaction of a copy has at most so many rows, of about so many bytes.
const (
	copyRows  = 5000
	copyBytes = 8 << 20
)

// copy adds the rows of a table that to has not, in the order of their key.
func (t shapeOf) copy(ctx context.Context, source *Tx, to *DB, progress func(int64)) (added int64, err error) {
	var after []any
	if err := to.View(ctx, func(tx *Tx) (err error) { after, err = t.last(ctx, tx); return err }); err != nil {
		return 0, err
	}
	var batch [][]any
	size := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		if err := to.Update(ctx, func(tx *Tx) error { return t.insert(ctx, tx, batch) }); err != nil {
			return err
		}
		added += int64(len(batch))
		progress(int64(len(batch)))
		batch, size = batch[:0], 0
		return nil
	}
	err = t.each(ctx, source, after, func(row []any) error {
		batch = append(batch, row)
		for _, value := range row {
			switch value := value.(type) {
			case []byte:
				size += len(value)
			case string:
				size += len(value)
			}
		}
		if len(batch) >= copyRows || size >= copyBytes {
			return flush()
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	return added, err
}

// each reads the rows after a key, or all for nil, in the order of the key.
func (t shapeOf) each(ctx context.Context, tx *Tx, after []any, f func([]any) error) error {
	const op = "catalog.Copy"
	key := strings.Join(t.key, ", ")
	query := "SELECT " + strings.Join(t.columns, ", ") + " FROM " + t.name
	if after != nil {
		query += " WHERE (" + key + ") > (" + placeholders(1, len(t.key)) + ")"
	}
	return tx.each(ctx, op, false, query+" ORDER BY "+key, after, func(rows *sql.Rows) error {
		row, err := values(rows, len(t.columns))
		if err != nil {
			return err
		}
		return f(row)
	})
}

// rows is each, all at once.
func (t shapeOf) rows(ctx context.Context, tx *Tx, after []any) (all [][]any, err error) {
	err = t.each(ctx, tx, after, func(row []any) error {
		all = append(all, row)
		return nil
	})
	return all, err
}

// last gives the greatest key of a table, nil if it is empty.
func (t shapeOf) last(ctx context.Context, tx *Tx) (key []any, err error) {
	const op = "catalog.Copy"
	query := "SELECT " + strings.Join(t.key, ", ") + " FROM " + t.name + " ORDER BY " + strings.Join(t.key, " DESC, ") + " DESC LIMIT 1"
	err = tx.each(ctx, op, false, query, nil, func(rows *sql.Rows) error {
		key, err = values(rows, len(t.key))
		return err
	})
	return key, err
}

// values reads a row of numbers, texts and bytes.
func values(rows *sql.Rows, n int) ([]any, error) {
	row, into := make([]any, n), make([]any, n)
	for i := range row {
		into[i] = &row[i]
	}
	err := scan(rows, "catalog.Copy", into...)
	for i, value := range row {
		if b, ok := value.([]byte); ok && b == nil {
			row[i] = []byte{} // what drivers write as NULL otherwise, which no column may be
		}
	}
	return row, err
}

func (t shapeOf) insert(ctx context.Context, tx *Tx, rows [][]any) error {
	return inChunks(rows, func(rows [][]any) error {
		query := "INSERT INTO " + t.name + " (" + strings.Join(t.columns, ", ") + ") VALUES " + tx.db.dialect.values(len(rows), len(t.columns))
		_, err := tx.exec(ctx, "catalog.Copy", query, slices.Concat(rows...)...)
		return err
	})
}

// compare makes sure that a table is the same on both sides.
func (t shapeOf) compare(ctx context.Context, source *Tx, to *DB) (rows int64, err error) {
	var copied int64
	want, got := sha256.New(), sha256.New()
	if rows, err = t.hash(ctx, source, want); err != nil {
		return 0, err
	}
	err = to.View(ctx, func(tx *Tx) (err error) {
		copied, err = t.hash(ctx, tx, got)
		return err
	})
	if err == nil && (rows != copied || !bytes.Equal(want.Sum(nil), got.Sum(nil))) {
		err = fault.New(fault.Conflict, "catalog.Copy", fmt.Sprintf("the table %s is not the same in the copy: it has changed since the copying was begun", t.name)).
			WithHint("empty the database that it is copied to, and begin again")
	}
	return rows, err
}

// digest hashes whole tables.
func (tx *Tx) digest(ctx context.Context, names ...string) ([]byte, error) {
	tables, err := tx.shapes(ctx)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	for _, t := range tables {
		if slices.Contains(names, t.name) {
			if _, err := t.hash(ctx, tx, h); err != nil {
				return nil, err
			}
		}
	}
	return h.Sum(nil), nil
}

// hash adds the rows to h: of each value its type, length and bytes.
func (t shapeOf) hash(ctx context.Context, tx *Tx, h hash.Hash) (n int64, err error) {
	var b []byte
	err = t.each(ctx, tx, nil, func(row []any) error {
		n++
		b = b[:0]
		for _, value := range row {
			switch value := value.(type) {
			case int64:
				b = binary.BigEndian.AppendUint64(append(b, 'i'), uint64(value))
			case string:
				b = append(binary.BigEndian.AppendUint64(append(b, 's'), uint64(len(value))), value...)
			case []byte:
				b = append(binary.BigEndian.AppendUint64(append(b, 'b'), uint64(len(value))), value...)
			default:
				return fault.New(fault.Internal, "catalog.Copy", fmt.Sprintf("the table %s has a value of type %T", t.name, value))
			}
		}
		h.Write(b)
		return nil
	})
	return n, err
}
