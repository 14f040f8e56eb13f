package catalog

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"dsvault/storage"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// Ended counts what Forget ended.
type Ended struct{ Tokens, Grants, Assignments int }

// Forget takes from a principal all that tells who it is: its key and profile,
// its region, its devices, links, tokens and mails. Its handle becomes a pseudonym, its
// grants and assignments end, and the reasons of all its grants go. A principal
// that was not disabled is, from at on. storage.ErrExists if somebody has the
// pseudonym as a handle.
//
// The sealed details of its records are left to DropDetails, and f, which is
// added, remembers that.
func (tx *Tx) Forget(ctx context.Context, f storage.Forgotten, pseudonym string, rev uint64) (Ended, error) {
	const op = "catalog.Forget"
	who, at := f.Principal, micros(f.At)
	var ended Ended
	err := tx.change(ctx, op, "UPDATE principals SET handle = $2, region = '', restricted = 0, key_epoch = 0, key_sealed = $3, profile = $3,"+
		" disabled = CASE WHEN disabled = 0 THEN CAST($4 AS bigint) ELSE disabled END, revision = $5 WHERE id = $1",
		who[:], pseudonym, []byte{}, at, int64(rev))
	if err != nil {
		return ended, err
	}
	for _, step := range []struct {
		count     *int
		statement string
		args      []any
	}{
		{nil, "DELETE FROM devices WHERE principal = $1", []any{who[:]}},
		{nil, "DELETE FROM links WHERE principal = $1", []any{who[:]}},
		{nil, "DELETE FROM addresses WHERE principal = $1", []any{who[:]}},
		{nil, "DELETE FROM outbox WHERE principal = $1", []any{who[:]}},
		{nil, "UPDATE rights_requests SET words = $2 WHERE principal = $1", []any{who[:], []byte{}}},
		{&ended.Tokens, "UPDATE tokens SET ended = $2 WHERE principal = $1 AND ended = 0", []any{who[:], at}},
		{nil, "DELETE FROM tokens WHERE principal = $1", []any{who[:]}},
		{&ended.Grants, "UPDATE grants SET ended = $2, revision = $3 WHERE principal = $1 AND ended = 0", []any{who[:], at, int64(rev)}},
		{nil, "UPDATE grants SET reason = '' WHERE principal = $1 AND reason <> ''", []any{who[:]}},
		{nil, "UPDATE approvals SET state = 'withdrawn', decided_at = $2, decided_by = $1 WHERE requester = $1 AND state = 'open'", []any{who[:], at}},
		{nil, "UPDATE break_glass SET reason = $2, revision = $3, ended = CASE WHEN ended = 0 THEN CAST($4 AS bigint) ELSE ended END WHERE principal = $1", []any{who[:], []byte{}, int64(rev), at}},
		{nil, "UPDATE break_glass SET comment = $2 WHERE reviewed_by = $1", []any{who[:], []byte{}}},
		{nil, "UPDATE disclosures SET terms = $2, revision = $3, ended = CASE WHEN ended = 0 THEN CAST($4 AS bigint) ELSE ended END WHERE principal = $1", []any{who[:], []byte{}, int64(rev), at}},
		{nil, "UPDATE approvals SET terms = $2 WHERE requester = $1 OR target = $1", []any{who[:], []byte{}}},
		{&ended.Assignments, "UPDATE assignments SET ended = $2, revision = $3 WHERE principal = $1 AND ended = 0", []any{who[:], at, int64(rev)}},
	} {
		n, err := tx.exec(ctx, op, step.statement, step.args...)
		if err != nil {
			return ended, err
		}
		if step.count != nil {
			*step.count = int(n)
		}
	}
	return ended, forgottenRows.insert(ctx, tx, op, "", f)
}

var forgottenRows = table[storage.Forgotten]{
	name: "forgotten", columns: "principal, at, about, done",
	into: func(f *storage.Forgotten) []any {
		return []any{fixed(f.Principal[:]), moment{&f.At}, indexList{&f.About}, flag{&f.Done}}
	},
	values: func(f *storage.Forgotten) []any {
		return []any{f.Principal[:], micros(f.At), packIndexes(f.About), bit(f.Done)}
	},
}

// ToForget lists those of whom there is still something to clear away, the
// oldest first, at most MaxPage.
func (tx *Tx) ToForget(ctx context.Context) ([]storage.Forgotten, error) {
	return forgottenRows.list(ctx, tx, "catalog.ToForget", "WHERE done = 0 ORDER BY at, principal LIMIT $1", page(0))
}

// SetForgotten says that nothing of a person is left to clear away.
func (tx *Tx) SetForgotten(ctx context.Context, who dataset.PrincipalID) error {
	return tx.change(ctx, "catalog.SetForgotten", "UPDATE forgotten SET about = $2, done = 1 WHERE principal = $1", who[:], []byte{})
}

// indexList scans what packIndexes gives.
type indexList struct{ to *[]uint64 }

func (l indexList) Scan(value any) error {
	b, ok := value.([]byte)
	if !ok || len(b)%8 != 0 {
		return badRow{"a list of indexes"}
	}
	*l.to = nil
	for piece := range slices.Chunk(b, 8) {
		*l.to = append(*l.to, binary.BigEndian.Uint64(piece))
	}
	return nil
}

func packIndexes(list []uint64) []byte {
	b := make([]byte, 0, 8*len(list))
	for _, index := range list {
		b = binary.BigEndian.AppendUint64(b, index)
	}
	return b
}

// GrantReasons streams the reasons of all grants that have one.
func (tx *Tx) GrantReasons(ctx context.Context, f func(id dataset.GrantID, reason string)) error {
	const op = "catalog.GrantReasons"
	return tx.each(ctx, op, false, "SELECT id, reason FROM grants WHERE reason <> ''", nil, func(rows *sql.Rows) error {
		var id dataset.GrantID
		var reason string
		if err := scan(rows, op, fixed(id[:]), &reason); err != nil {
			return err
		}
		f(id, reason)
		return nil
	})
}

// SetGrantReason replaces the reason of a grant.
func (tx *Tx) SetGrantReason(ctx context.Context, id dataset.GrantID, reason string) error {
	return tx.change(ctx, "catalog.SetGrantReason", "UPDATE grants SET reason = $2 WHERE id = $1", id[:], reason)
}

// DropDetailsOf removes the details of records, whoever's they are. The leaves
// stay as they are. indexes ascend.
func (tx *Tx) DropDetailsOf(ctx context.Context, indexes []uint64) error {
	const op = "catalog.DropDetailsOf"
	for len(indexes) > 0 {
		var b leafBatch
		err := tx.row(ctx, op, "SELECT first, count, details FROM leaf_batches WHERE first <= $1 ORDER BY first DESC LIMIT 1",
			[]any{int64(indexes[0])}, &b.first, &b.count, raw{&b.details})
		if err != nil {
			return err
		}
		kept := make([]byte, 0, len(b.details))
		lost := map[dataset.PrincipalID]bool{} // people with no details left in this batch
		err = b.eachDetail(func(position int, who dataset.PrincipalID, sealed []byte) {
			if _, drop := slices.BinarySearch(indexes, b.first+uint64(position)); drop {
				if _, known := lost[who]; !known {
					lost[who] = true
				}
				return
			}
			lost[who] = false
			kept = appendDetails(kept, position, who, sealed)
		})
		if err != nil {
			return err
		}
		if len(kept) < len(b.details) {
			if err := tx.change(ctx, op, "UPDATE leaf_batches SET details = $1 WHERE first = $2", kept, int64(b.first)); err != nil {
				return err
			}
			if err := leafPeople.insert(ctx, tx, op, " ON CONFLICT DO NOTHING", personPosting{nobody, b.first}); err != nil {
				return err
			}
		}
		for who, gone := range lost {
			if !gone {
				continue
			}
			if _, err := tx.exec(ctx, op, "DELETE FROM leaf_people WHERE principal = $1 AND first = $2", who[:], int64(b.first)); err != nil {
				return err
			}
		}
		next, _ := slices.BinarySearch(indexes, b.first+uint64(b.count))
		if next == 0 {
			return fault.New(fault.Corrupt, op, fmt.Sprintf("the log has no leaf %d", indexes[0]))
		}
		indexes = indexes[next:]
	}
	return nil
}

// scrubSize is up to which size of a SQLite file Scrub rewrites it while others
// write: at about 100 MiB/s nobody waits for long.
const scrubSize = 512 << 20 // bytes

// Scrub clears away what deleted and replaced rows have left in the database's
// files. It reports whether it did: a large SQLite file is rewritten only if
// wait is set, for all that write wait meanwhile. It takes a connection for
// writing, and fails without harm.
//
// On SQLite the whole file is rewritten and its journal emptied. PostgreSQL
// rewrites the tables that had something in clear, and frees what is sealed;
// its own journal and archives keep the past as long as they are told to.
func (db *DB) Scrub(ctx context.Context, wait bool) (bool, error) {
	const op = "catalog.Scrub"
	c, err := db.writers.get(ctx)
	if err != nil {
		return false, db.noted(classify(ctx, op, err))
	}
	clean, err := db.dialect.scrub(ctx, c, wait)
	if err != nil {
		db.writers.discard(c) // its settings were changed
		return false, db.noted(classify(ctx, op, err))
	}
	db.writers.put(c)
	return clean, nil
}

func scrubSQLite(ctx context.Context, c *conn, wait bool) (bool, error) {
	var pages, size int64
	for query, into := range map[string]*int64{"PRAGMA page_count": &pages, "PRAGMA page_size": &size} {
		if err := c.sql.QueryRowContext(ctx, query).Scan(into); err != nil {
			return false, err
		}
	}
	size *= pages
	if size > scrubSize && !wait {
		return false, nil
	}
	store := "FILE"
	if size <= scrubSize/8 {
		store = "MEMORY" // there may be no folder for temporary files
	}
	for _, statement := range []string{"PRAGMA temp_store = " + store, "VACUUM", "PRAGMA temp_store = DEFAULT"} {
		if _, err := c.sql.ExecContext(ctx, statement); err != nil {
			return false, err
		}
	}
	var busy, inLog, copied int64
	if err := c.sql.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &inLog, &copied); err != nil {
		return false, err
	}
	return busy == 0, nil // somebody still reads the past: later
}

func scrubPostgres(ctx context.Context, c *conn, _ bool) (bool, error) {
	const patience = 10 * time.Second // for a lock that nobody gets past
	for _, statement := range []string{
		fmt.Sprintf("SET lock_timeout = %d", patience.Milliseconds()),
		"VACUUM (FULL) principals", "VACUUM (FULL) devices", "VACUUM (FULL) tokens", "VACUUM (FULL) grants",
		"VACUUM (FULL) addresses", "VACUUM (FULL) outbox",
		"VACUUM leaf_batches", "VACUUM leaf_people", "VACUUM rights_requests",
		"SET lock_timeout = DEFAULT",
	} {
		if _, err := c.sql.ExecContext(ctx, statement); err != nil {
			return false, err
		}
	}
	return true, nil
}
