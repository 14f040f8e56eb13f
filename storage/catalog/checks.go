package catalog

import (
	"context"
	"database/sql"
	"iter"
	"time"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

var checks = table[storage.Check]{
	name: "checks", columns: "id, slot, path, data, repair, rate, scheduled, state, problem, node, started_at, started_by, moved_at, ended_at, " +
		"objects, bytes, cursor_scope, cursor_key, checked, bytes_read, missing, changed, extra, leftovers, repaired, findings, ahead",
	into: func(c *storage.Check) []any {
		return []any{fixed(c.ID[:]), &c.Slot, text{&c.Scope}, flag{&c.Data}, flag{&c.Repair}, &c.Rate, flag{&c.Scheduled},
			&c.State, &c.Problem, &c.Node, moment{&c.StartedAt}, fixed(c.StartedBy[:]), moment{&c.MovedAt}, moment{&c.EndedAt},
			&c.Objects, &c.Bytes, &c.CursorScope, &c.CursorKey, &c.Checked, &c.Read, &c.Missing, &c.Changed, &c.Extra,
			&c.Leftovers, &c.Repaired, &c.Findings, &c.Ahead}
	},
	values: func(c *storage.Check) []any {
		return []any{c.ID[:], int64(c.Slot), c.Scope.String(), bit(c.Data), bit(c.Repair), c.Rate, bit(c.Scheduled),
			string(c.State), c.Problem, c.Node, micros(c.StartedAt), c.StartedBy[:], micros(c.MovedAt), micros(c.EndedAt),
			c.Objects, c.Bytes, c.CursorScope, c.CursorKey, c.Checked, c.Read, c.Missing, c.Changed, c.Extra,
			c.Leftovers, c.Repaired, c.Findings, c.Ahead}
	},
}

// AddCheck adds a check.
func (tx *Tx) AddCheck(ctx context.Context, c storage.Check) error {
	return checks.insert(ctx, tx, "catalog.AddCheck", "", c)
}

// Check reads one check.
func (tx *Tx) Check(ctx context.Context, id dataset.CheckID) (storage.Check, error) {
	return checks.one(ctx, tx, "catalog.Check", "WHERE id = $1", id[:])
}

// Checks lists the checks of a scope and below it, the newest first, from the
// one before the given one (zero: the newest of all).
func (tx *Tx) Checks(ctx context.Context, under dataset.Scope, before dataset.CheckID, limit int) ([]storage.Check, error) {
	var w filter
	w.under(under)
	if !before.IsZero() {
		w.and("(started_at, id) < (SELECT started_at, id FROM checks WHERE id = " + w.arg(before[:]) + ")")
	}
	return checks.list(ctx, tx, "catalog.Checks", w.where()+"ORDER BY started_at DESC, id DESC LIMIT "+w.arg(page(limit)), w.args...)
}

// RunningChecks lists the checks that have not ended, the oldest first.
func (tx *Tx) RunningChecks(ctx context.Context) ([]storage.Check, error) {
	return checks.list(ctx, tx, "catalog.RunningChecks", "WHERE state = $1 ORDER BY started_at, id LIMIT $2", string(storage.CheckRunning), page(0))
}

// LastScheduled reads the newest scheduled check that reads data, or that does
// not.
func (tx *Tx) LastScheduled(ctx context.Context, data bool) (storage.Check, error) {
	return checks.one(ctx, tx, "catalog.LastScheduled", "WHERE scheduled = 1 AND data = $1 ORDER BY started_at DESC LIMIT 1", bit(data))
}

// ClaimCheck gives a running check to a node, from which time on no other node
// can save it: storage.ErrNoRow if it has ended.
func (tx *Tx) ClaimCheck(ctx context.Context, id dataset.CheckID, node string) error {
	return tx.change(ctx, "catalog.ClaimCheck", "UPDATE checks SET node = $2 WHERE id = $1 AND state = $3",
		id[:], node, string(storage.CheckRunning))
}

// SaveCheck writes how far a check is, and its state, for the node that has it:
// storage.ErrNoRow if it is another's by now, or has ended.
func (tx *Tx) SaveCheck(ctx context.Context, c storage.Check) error {
	return tx.change(ctx, "catalog.SaveCheck",
		"UPDATE checks SET state = $3, problem = $4, moved_at = $5, ended_at = $6, cursor_scope = $7, cursor_key = $8,"+
			" checked = $9, bytes_read = $10, missing = $11, changed = $12, extra = $13, leftovers = $14, repaired = $15, findings = $16, ahead = $17"+
			" WHERE id = $1 AND node = $2 AND state = $18",
		c.ID[:], c.Node, string(c.State), c.Problem, micros(c.MovedAt), micros(c.EndedAt), c.CursorScope, c.CursorKey,
		c.Checked, c.Read, c.Missing, c.Changed, c.Extra, c.Leftovers, c.Repaired, c.Findings, c.Ahead, string(storage.CheckRunning))
}

// EndCheck ends a check whoever runs it: storage.ErrNoRow if it has ended.
func (tx *Tx) EndCheck(ctx context.Context, id dataset.CheckID, state storage.CheckState, at time.Time) error {
	return tx.change(ctx, "catalog.EndCheck", "UPDATE checks SET state = $2, ended_at = $3 WHERE id = $1 AND state = $4",
		id[:], string(state), micros(at), string(storage.CheckRunning))
}

// DropChecks forgets the checks that ended before a time, with their findings.
func (tx *Tx) DropChecks(ctx context.Context, before time.Time) error {
	const op, old = "catalog.DropChecks", "ended_at > 0 AND ended_at < $1"
	if _, err := tx.exec(ctx, op, "DELETE FROM findings WHERE check_id IN (SELECT id FROM checks WHERE "+old+")", micros(before)); err != nil {
		return err
	}
	_, err := tx.exec(ctx, op, "DELETE FROM checks WHERE "+old, micros(before))
	return err
}

// checkFinding is a finding with its check.
type checkFinding struct {
	check dataset.CheckID
	row   storage.Finding
}

var findings = table[checkFinding]{
	name: "findings", columns: "check_id, number, kind, object, path, shard, repaired, detail",
	into: func(f *checkFinding) []any {
		return []any{fixed(f.check[:]), &f.row.Number, &f.row.Kind, &f.row.Key, text{&f.row.Scope}, &f.row.Shard, flag{&f.row.Repaired}, &f.row.Detail}
	},
	values: func(f *checkFinding) []any {
		return []any{f.check[:], int64(f.row.Number), string(f.row.Kind), f.row.Key, f.row.Scope.String(), int64(f.row.Shard), bit(f.row.Repaired), f.row.Detail}
	},
}

// AddFindings adds findings of a check, which has to be there.
func (tx *Tx) AddFindings(ctx context.Context, id dataset.CheckID, list []storage.Finding) error {
	rows := make([]checkFinding, len(list))
	for i, f := range list {
		rows[i] = checkFinding{id, f}
	}
	return findings.insert(ctx, tx, "catalog.AddFindings", "", rows...)
}

// Findings lists a check's findings with numbers greater than after (-1 for
// all), in order.
func (tx *Tx) Findings(ctx context.Context, id dataset.CheckID, after, limit int) ([]storage.Finding, error) {
	list, err := findings.list(ctx, tx, "catalog.Findings", "WHERE check_id = $1 AND number > $2 ORDER BY number LIMIT $3", id[:], int64(after), page(limit))
	rows := make([]storage.Finding, len(list))
	for i, f := range list {
		rows[i] = f.row
	}
	return rows, err
}

// StoredObjects lists the objects that shards name, by key, from the first shard
// whose own object's key is greater than after; limit counts shards.
func (tx *Tx) StoredObjects(ctx context.Context, after string, limit int) ([]storage.StoredObject, error) {
	const op = "catalog.StoredObjects"
	var list []storage.StoredObject
	err := tx.each(ctx, op, false, "SELECT object, dataset, number, etag, sealed_size, sha256, plain_size, length(header), length(manifest), part_size,"+
		" index_etag, index_size, index_sha256, length(index_header) FROM shards WHERE object > $1 ORDER BY object LIMIT $2", []any{after, page(limit)},
		func(rows *sql.Rows) error {
			var o, x storage.StoredObject
			err := scan(rows, op, &o.Key, fixed(o.Dataset[:]), &o.Number, &o.ETag, &o.Size, raw{&o.SHA256}, &o.PlainSize, &o.HeaderSize, &o.ManifestSize, &o.PartSize,
				&x.ETag, &x.Size, raw{&x.SHA256}, &x.HeaderSize)
			list = append(list, o)
			if x.Size > 0 { // its key comes right behind the shard's
				x.Key, x.Dataset, x.Number, x.Index = storage.IndexKey(o.Key), o.Dataset, o.Number, true
				list = append(list, x)
			}
			return err
		})
	return list, err
}

// AttemptsAfter lists the attempts whose object's key is greater than after, by
// key.
func (tx *Tx) AttemptsAfter(ctx context.Context, after string, limit int) ([]storage.Attempt, error) {
	return attempts.list(ctx, tx, "catalog.AttemptsAfter", "WHERE object > $1 ORDER BY object LIMIT $2", after, page(limit))
}

// AttemptByKey reads the attempt whose object has this key.
func (tx *Tx) AttemptByKey(ctx context.Context, objectKey string) (storage.Attempt, error) {
	return attempts.one(ctx, tx, "catalog.AttemptByKey", "WHERE object = $1", objectKey)
}

// StoredTotals counts the objects that shards and returned work below a scope
// name, and their bytes.
func (tx *Tx) StoredTotals(ctx context.Context, under dataset.Scope) (objects, bytes int64, err error) {
	var w filter
	w.under(under)
	const op = "catalog.StoredTotals"
	var works, workBytes int64
	err = tx.row(ctx, op, "SELECT COUNT(*), CAST(COALESCE(SUM(sealed_size), 0) AS bigint) FROM work "+w.where(), w.args, &works, &workBytes)
	if err != nil {
		return 0, 0, err
	}
	err = tx.row(ctx, op, "SELECT COUNT(*) + CAST(COALESCE(SUM(CASE WHEN index_size > 0 THEN 1 ELSE 0 END), 0) AS bigint),"+
		" CAST(COALESCE(SUM(sealed_size + index_size), 0) AS bigint) FROM shards"+
		" WHERE dataset IN (SELECT id FROM datasets "+w.where()+")", w.args, &objects, &bytes)
	return objects + works, bytes + workBytes, err
}

// DatasetsUnder lists the datasets at and below a scope, by path, from the first
// path greater than after.
func (tx *Tx) DatasetsUnder(ctx context.Context, under dataset.Scope, after string, limit int) ([]storage.Dataset, error) {
	var w filter
	w.and("path > " + w.arg(after))
	w.under(under)
	return datasets.list(ctx, tx, "catalog.DatasetsUnder", w.where()+"ORDER BY path LIMIT "+w.arg(page(limit)), w.args...)
}

// MissingShards lists those of want for which a dataset has no shard, at most
// limit of them, and counts them all.
func (tx *Tx) MissingShards(ctx context.Context, id dataset.DatasetID, want dataset.ShardSet, limit int) (list []int, count int, err error) {
	const op = "catalog.MissingShards"
	next, stop := iter.Pull(want.All())
	defer stop()
	wanted, more := next()
	missing := func() {
		if count++; len(list) < limit {
			list = append(list, wanted)
		}
		wanted, more = next()
	}
	err = tx.each(ctx, op, false, "SELECT number FROM shards WHERE dataset = $1 ORDER BY number", []any{id[:]}, func(rows *sql.Rows) error {
		var number int
		if err := scan(rows, op, &number); err != nil {
			return err
		}
		for more && wanted < number {
			missing()
		}
		if more && wanted == number {
			wanted, more = next()
		}
		return nil
	})
	for err == nil && more {
		missing()
	}
	return list, count, err
}

// SetETag pins a shard, its index, or returned work, to the object at a key anew:
// storage.ErrNoRow if none has that object, pinned as it was, by now.
func (tx *Tx) SetETag(ctx context.Context, objectKey, was, is string) error {
	column := "etag"
	shard, index := storage.ShardKey(objectKey)
	if index {
		column = "index_etag"
	}
	const op = "catalog.SetETag"
	n, err := tx.exec(ctx, op, "UPDATE shards SET "+column+" = $3 WHERE object = $1 AND "+column+" = $2", shard, was, is)
	if err != nil || n > 0 {
		return err
	}
	return tx.change(ctx, op, "UPDATE work SET etag = $3 WHERE object = $1 AND etag = $2", objectKey, was, is)
}
