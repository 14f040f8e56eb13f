package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"time"

	"dsvault/vault/dataset"
)

// table joins a record type to its columns: written once, used to insert and
// to read.
type table[T any] struct {
	name    string
	columns string         // separated by ", "
	into    func(*T) []any // where to scan a row to, in the columns' order
	values  func(*T) []any // a row's values, in the columns' order

	inserts sync.Map // shape -> statement
}

func (t *table[T]) width() int { return 1 + strings.Count(t.columns, ",") }

// insertSQL gives the statement that inserts n rows.
func (t *table[T]) insertSQL(d *dialect, n int) string {
	key := shape{d.unnumbered, n}
	if s, ok := t.inserts.Load(key); ok {
		return s.(string)
	}
	s := "INSERT INTO " + t.name + " (" + t.columns + ") VALUES " + d.values(n, t.width())
	t.inserts.Store(key, s)
	return s
}

// shape is what insert statements of one table differ in.
type shape struct {
	unnumbered bool
	rows       int
}

// insert adds rows; suffix is an ON CONFLICT clause or nothing.
func (t *table[T]) insert(ctx context.Context, tx *Tx, op, suffix string, rows ...T) error {
	return inChunks(rows, func(rows []T) error {
		args := make([]any, 0, len(rows)*t.width())
		for i := range rows {
			args = append(args, t.values(&rows[i])...)
		}
		return tx.write(ctx, write{op: op, query: t.insertSQL(tx.db.dialect, len(rows)) + suffix, args: args})
	})
}

// upsert gives the suffix that replaces a row with the same key.
func (t *table[T]) upsert(key string) string {
	var sets []string
	for column := range strings.SplitSeq(t.columns, ", ") {
		if !strings.Contains(", "+key+", ", ", "+column+", ") {
			sets = append(sets, column+" = excluded."+column)
		}
	}
	return " ON CONFLICT (" + key + ") DO UPDATE SET " + strings.Join(sets, ", ")
}

// each streams the rows that tail (WHERE …, ORDER BY …) selects.
func (t *table[T]) each(ctx context.Context, tx *Tx, op, tail string, args []any, f func(T) error) error {
	return tx.each(ctx, op, false, "SELECT "+t.columns+" FROM "+t.name+" "+tail, args, func(rows *sql.Rows) error {
		var row T
		if err := scan(rows, op, t.into(&row)...); err != nil {
			return err
		}
		return f(row)
	})
}

// list reads the rows that tail selects.
func (t *table[T]) list(ctx context.Context, tx *Tx, op, tail string, args ...any) ([]T, error) {
	var list []T
	err := t.each(ctx, tx, op, tail, args, func(row T) error {
		list = append(list, row)
		return nil
	})
	return list, err
}

// one reads the row that tail selects: storage.ErrNoRow if there is none.
func (t *table[T]) one(ctx context.Context, tx *Tx, op, tail string, args ...any) (T, error) {
	list, err := t.list(ctx, tx, op, tail, args...)
	if err == nil && len(list) == 0 {
		err = classify(ctx, op, sql.ErrNoRows)
	}
	if err != nil {
		var none T
		return none, err
	}
	return list[0], nil
}

// returning runs a writing statement and reads the rows it touched.
func (t *table[T]) returning(ctx context.Context, tx *Tx, op, statement string, args ...any) ([]T, error) {
	var list []T
	err := tx.each(ctx, op, true, statement+" RETURNING "+t.columns, args, func(rows *sql.Rows) error {
		var row T
		if err := scan(rows, op, t.into(&row)...); err != nil {
			return err
		}
		list = append(list, row)
		return nil
	})
	return list, err
}

// revised is a record with its revision, for types that do not carry it.
type revised[T any] struct {
	row T
	rev uint64
}

// filter collects the conditions of a WHERE clause with their arguments.
type filter struct {
	conditions []string
	args       []any
}

// arg adds an argument and gives its placeholder.
func (f *filter) arg(value any) string {
	f.args = append(f.args, value)
	return placeholders(len(f.args), 1)
}

func (f *filter) and(condition string) { f.conditions = append(f.conditions, condition) }

// under keeps the rows whose path is scope or below it. The zero scope and
// Root keep all. '0' is the byte after '/'.
func (f *filter) under(scope dataset.Scope) {
	if scope.IsZero() || scope == dataset.Root {
		return
	}
	path := scope.String()
	f.and("(path = " + f.arg(path) + " OR path >= " + f.arg(path+"/") + " AND path < " + f.arg(path+"0") + ")")
}

// reach keeps the rows whose path is scope or above it.
func (f *filter) reach(scope dataset.Scope) {
	list := "path IN (" + f.arg(dataset.Root.String())
	for ; scope != dataset.Root; scope = scope.Parent() {
		list += ", " + f.arg(scope.String())
	}
	f.and(list + ")")
}

func (f *filter) where() string {
	if len(f.conditions) == 0 {
		return ""
	}
	return "WHERE " + strings.Join(f.conditions, " AND ") + " "
}

// badRow is a stored value that no version of this package has written.
type badRow struct{ what string }

func (e badRow) Error() string { return "not " + e.what }

// fixed scans a blob of exactly this length.
type fixed []byte

func (f fixed) Scan(value any) error {
	b, ok := value.([]byte)
	if !ok || len(b) != len(f) {
		return badRow{fmt.Sprintf("%d bytes", len(f))}
	}
	copy(f, b)
	return nil
}

// moment scans Unix microseconds; 0 is the zero time.
type moment struct{ *time.Time }

func (m moment) Scan(value any) error {
	us, ok := value.(int64)
	if !ok {
		return badRow{"a time"}
	}
	*m.Time = time.Time{}
	if us != 0 {
		*m.Time = time.UnixMicro(us).UTC()
	}
	return nil
}

// micros gives what moment scans.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// text scans what has a text form, such as a scope or a set of shards.
type text struct {
	to interface{ UnmarshalText([]byte) error }
}

func (t text) Scan(value any) error {
	s, ok := value.(string)
	if !ok {
		return badRow{"text"}
	}
	return t.to.UnmarshalText([]byte(s))
}

// raw scans a blob of any length; an empty one is nil, on both engines alike.
type raw struct{ to *[]byte }

func (r raw) Scan(value any) error {
	b, ok := value.([]byte)
	if !ok && value != nil {
		return badRow{"bytes"}
	}
	*r.to = append([]byte(nil), b...)
	return nil
}

// flag scans 0 or 1.
type flag struct{ to *bool }

func (f flag) Scan(value any) error {
	n, ok := value.(int64)
	if !ok || n != 0 && n != 1 {
		return badRow{"0 or 1"}
	}
	*f.to = n == 1
	return nil
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// blob makes nil an empty blob rather than NULL; raw reads it back as nil.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
