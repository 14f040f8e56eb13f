package catalog

import (
	"context"
	"strconv"
	"strings"

	"github.com/pressly/goose/v3"
)

// dialect is all that differs between the two engines. Everything else is one
// SQL text: both read $1 placeholders, ON CONFLICT and RETURNING, and compare
// text by bytes.
type dialect struct {
	name  string        // as Engine reports it
	goose goose.Dialect // as goose calls it

	beginWrite string // begins a writing transaction
	beginRead  string // begins a read-only snapshot
	lockRow    string // appended to a SELECT whose row is to be locked
	remote     bool   // a server, whose connection may break
	unnumbered bool   // reads ? too, and binds it faster: used for bulk inserts
	numbers    string // has a row with a column value for each number of $1, a JSON array
	scrub      func(ctx context.Context, c *conn, wait bool) (clean bool, err error)
	now        string // the database's own clock, Unix microseconds
	tables     string // lists the tables, the oldest first
	columns    string // lists the columns of the table $1
	keys       string // lists those of its primary key, in order

	// Words of the schema.
	Int, Text, Blob string
	NoBytes         string // the literal of an empty blob
	End             string // after a table's closing parenthesis
	EndKeyed        string // the same, if the table is hardly more than its primary key
}

// Uncompressed gives the statement that keeps a blob's column from being
// compressed, where the engine would: sealed bytes and hashes do not shrink.
func (d *dialect) Uncompressed(table, column string) string {
	if d.goose != goose.DialectPostgres {
		return ""
	}
	return "ALTER TABLE " + table + " ALTER COLUMN " + column + " SET STORAGE EXTERNAL;"
}

// Unsampled gives the statement that keeps values of a column out of the
// engine's statistics, where a copy would outlive its row.
func (d *dialect) Unsampled(table, column string) string {
	if d.goose != goose.DialectPostgres {
		return ""
	}
	return "ALTER TABLE " + table + " ALTER COLUMN " + column + " SET STATISTICS 0;"
}

var sqliteDialect = dialect{
	name: "sqlite", goose: goose.DialectSQLite3,
	// IMMEDIATE takes the write lock at once: a transaction that reads first
	// could not be upgraded without the risk of SQLITE_BUSY.
	beginWrite: "BEGIN IMMEDIATE",
	beginRead:  "BEGIN",
	scrub:      scrubSQLite,
	unnumbered: true,
	numbers:    "json_each($1)",
	now:        "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
	tables:     "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid",
	columns:    "SELECT name FROM pragma_table_info($1)",
	keys:       "SELECT name FROM pragma_table_info($1) WHERE pk > 0 ORDER BY pk",
	Int:        "INTEGER", Text: "TEXT", Blob: "BLOB",
	NoBytes:  "x''",
	End:      " STRICT",
	EndKeyed: " STRICT, WITHOUT ROWID",
}

var postgresDialect = dialect{
	name: "postgres", goose: goose.DialectPostgres,
	// Read committed is enough for writers: they hold the head's row lock.
	beginWrite: "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
	beginRead:  "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
	lockRow:    " FOR UPDATE",
	numbers:    "json_array_elements_text(CAST($1 AS json))",
	now:        "CAST(extract(epoch from clock_timestamp()) * 1000000 AS bigint)",
	tables:     "SELECT CAST(relname AS text) FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace ORDER BY oid",
	columns:    "SELECT CAST(attname AS text) FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
	keys: "SELECT CAST(a.attname AS text) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)" +
		" WHERE i.indrelid = to_regclass($1) AND i.indisprimary ORDER BY array_position(i.indkey::int2[], a.attnum)",
	remote: true,
	scrub:  scrubPostgres,
	Int:    "bigint", Text: `text COLLATE "C"`, Blob: "bytea",
	NoBytes: "''",
}

// values gives the placeholders of n rows of width values each.
func (d *dialect) values(n, width int) string {
	rows := make([]string, n)
	for i := range rows {
		row := placeholders(1+i*width, width)
		if d.unnumbered {
			row = strings.Repeat(", ?", width)[2:]
		}
		rows[i] = "(" + row + ")"
	}
	return strings.Join(rows, ", ")
}

// placeholders gives "$first, …" for n parameters.
func placeholders(first, n int) string {
	b := make([]byte, 0, 6*n)
	for i := range n {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(b, '$')
		b = strconv.AppendInt(b, int64(first+i), 10)
	}
	return string(b)
}
