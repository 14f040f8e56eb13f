package catalog

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"dsvault/storage"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

var erasures = table[storage.Erasure]{
	name: "erasures", columns: "id, slot, path, cause, basis, reason, finished, problem, started_at, started_by, second, start_idx, settled_at, epoch, final_at, ended_at, end_idx",
	into: func(e *storage.Erasure) []any {
		return []any{fixed(e.ID[:]), &e.Slot, text{&e.Scope}, &e.Cause, &e.Basis, &e.Reason, flag{&e.Finished}, &e.Problem, moment{&e.StartedAt},
			fixed(e.StartedBy[:]), fixed(e.Second[:]), &e.Start, moment{&e.SettledAt}, &e.Epoch, moment{&e.FinalAt}, moment{&e.EndedAt}, &e.End}
	},
	values: func(e *storage.Erasure) []any {
		return []any{e.ID[:], int64(e.Slot), e.Scope.String(), string(e.Cause), e.Basis, e.Reason, bit(e.Finished), e.Problem, micros(e.StartedAt),
			e.StartedBy[:], e.Second[:], int64(e.Start), micros(e.SettledAt), int64(e.Epoch), micros(e.FinalAt), micros(e.EndedAt), int64(e.End)}
	},
}

var erasedDatasets = table[storage.ErasedDataset]{
	name: "erased_datasets", columns: "dataset, erasure, path, stage, objects, versions, markers, uploads, bytes",
	into: func(d *storage.ErasedDataset) []any {
		return []any{fixed(d.Dataset[:]), fixed(d.Erasure[:]), text{&d.Scope}, &d.Stage,
			&d.Stored.Objects, &d.Stored.Versions, &d.Stored.Markers, &d.Stored.Uploads, &d.Stored.Bytes}
	},
	values: func(d *storage.ErasedDataset) []any {
		return []any{d.Dataset[:], d.Erasure[:], d.Scope.String(), int64(d.Stage),
			d.Stored.Objects, d.Stored.Versions, d.Stored.Markers, d.Stored.Uploads, d.Stored.Bytes}
	},
}

// StartErasure destroys the keys of all datasets at the erasure's scope and below
// that are not erased yet, ends what rests on them, and adds the erasure with
// these datasets. It gives the erasure with its Epoch and SettledAt, and the
// datasets. settle is how long bytes may still be on their way, where some are.
func (tx *Tx) StartErasure(ctx context.Context, e storage.Erasure, settle time.Duration, rev uint64) (storage.Erasure, []storage.ErasedDataset, error) {
	const op = "catalog.StartErasure"
	var w filter
	erased := w.arg(string(dataset.Erased))
	w.and("state <> " + erased)
	w.under(e.Scope)
	var list []storage.ErasedDataset
	err := datasets.each(ctx, tx, op, w.where()+"ORDER BY path", w.args, func(d storage.Dataset) error {
		list = append(list, storage.ErasedDataset{Erasure: e.ID, Dataset: d.ID, Scope: d.Scope})
		return nil
	})
	if err != nil || len(list) == 0 {
		return e, list, err
	}
	ids, args := "SELECT id FROM datasets "+w.where(), w.args
	var inFlight int
	err = tx.row(ctx, op, "SELECT COALESCE(MAX(epoch), 0) FROM dataset_keys WHERE dataset IN ("+ids+")", args, &e.Epoch)
	if err == nil {
		err = tx.row(ctx, op, "SELECT COUNT(*) FROM attempts WHERE (sealed_size < 0 OR index_size < 0) AND dataset IN ("+ids+")", args, &inFlight)
	}
	if err != nil {
		return e, nil, err
	}
	e.SettledAt = e.StartedAt
	if inFlight > 0 {
		e.SettledAt = e.StartedAt.Add(settle)
	}
	if err := erasures.insert(ctx, tx, op, "", e); err != nil {
		return e, nil, err
	}
	if err := erasedDatasets.insert(ctx, tx, op, "", list...); err != nil {
		return e, nil, err
	}
	at := func(i int) string { return placeholders(len(args)+1+i, 1) }
	for _, s := range []struct {
		statement string
		more      []any
	}{
		{"DELETE FROM dataset_keys WHERE dataset IN (" + ids + ")", nil},
		{"UPDATE attempts SET sealed_size = " + at(0) + ", index_size = CASE WHEN index_size = 0 THEN CAST(" + at(1) + " AS bigint) ELSE index_size END" +
			" WHERE dataset IN (" + ids + ")", []any{storage.Doomed, storage.Claimed}},
		{"UPDATE assignments SET ended = " + at(0) + ", revision = " + at(1) + " WHERE ended = 0 AND dataset IN (" + ids + ")",
			[]any{micros(e.StartedAt), int64(rev)}},
		{"DELETE FROM links WHERE path IN (SELECT path FROM datasets " + w.where() + ")", nil},
		{"DELETE FROM versions WHERE dataset IN (" + ids + ")", nil},
		{"DELETE FROM warnings WHERE dataset IN (" + ids + ")", nil},
		{"DELETE FROM work WHERE dataset IN (" + ids + ")", nil}, // its objects go with all others of the dataset
		{"UPDATE datasets SET complete = 0, version = 0, shards = 0, state = " + erased + ", salt = " + at(0) + ", revision = " + at(1) + " " + w.where(),
			[]any{make([]byte, 32), int64(rev)}},
	} {
		if _, err := tx.exec(ctx, op, s.statement, slices.Concat(args, s.more)...); err != nil {
			return e, nil, err
		}
	}
	return e, list, nil
}

// Erasure reads one erasure.
func (tx *Tx) Erasure(ctx context.Context, id dataset.ErasureID) (storage.Erasure, error) {
	return erasures.one(ctx, tx, "catalog.Erasure", "WHERE id = $1", id[:])
}

// Erasures lists the erasures at a scope and below it, and those above that took
// it along, the newest first, from the one before the given one (zero: all).
func (tx *Tx) Erasures(ctx context.Context, scope dataset.Scope, before dataset.ErasureID, limit int) ([]storage.Erasure, error) {
	var w filter
	w.touching(scope)
	if !before.IsZero() {
		w.and("(started_at, id) < (SELECT started_at, id FROM erasures WHERE id = " + w.arg(before[:]) + ")")
	}
	return erasures.list(ctx, tx, "catalog.Erasures", w.where()+"ORDER BY started_at DESC, id DESC LIMIT "+w.arg(page(limit)), w.args...)
}

// RunningErasures lists the erasures that have not ended, the oldest first.
func (tx *Tx) RunningErasures(ctx context.Context) ([]storage.Erasure, error) {
	return erasures.list(ctx, tx, "catalog.RunningErasures", "WHERE finished = 0 ORDER BY started_at, id LIMIT $1", page(0))
}

// ErasedDatasets lists the datasets of an erasure by path, from the first path
// greater than after.
func (tx *Tx) ErasedDatasets(ctx context.Context, id dataset.ErasureID, after string, limit int) ([]storage.ErasedDataset, error) {
	return erasedDatasets.list(ctx, tx, "catalog.ErasedDatasets", "WHERE erasure = $1 AND path > $2 ORDER BY path LIMIT $3", id[:], after, page(limit))
}

// EraseSum counts the datasets of an erasure, those of them that are gone, and
// what was found of all.
func (tx *Tx) EraseSum(ctx context.Context, id dataset.ErasureID) (count, gone int64, s storage.Stored, err error) {
	sum := func(column string) string { return "CAST(COALESCE(SUM(" + column + "), 0) AS bigint)" }
	err = tx.row(ctx, "catalog.EraseSum", "SELECT COUNT(*), "+sum("CASE WHEN stage = 2 THEN 1 ELSE 0 END")+", "+sum("objects")+", "+
		sum("versions")+", "+sum("markers")+", "+sum("uploads")+", "+sum("bytes")+" FROM erased_datasets WHERE erasure = $1", []any{id[:]},
		&count, &gone, &s.Objects, &s.Versions, &s.Markers, &s.Uploads, &s.Bytes)
	return count, gone, s, err
}

// SaveErased writes how far the erasure of a dataset is.
func (tx *Tx) SaveErased(ctx context.Context, d storage.ErasedDataset) error {
	return tx.change(ctx, "catalog.SaveErased", "UPDATE erased_datasets SET stage = $3, objects = $4, versions = $5, markers = $6, uploads = $7, bytes = $8"+
		" WHERE erasure = $1 AND dataset = $2", d.Erasure[:], d.Dataset[:], int64(d.Stage),
		d.Stored.Objects, d.Stored.Versions, d.Stored.Markers, d.Stored.Uploads, d.Stored.Bytes)
}

// SetErasureProblem says why a running erasure does not go on; "" that it does.
func (tx *Tx) SetErasureProblem(ctx context.Context, id dataset.ErasureID, problem string) error {
	_, err := tx.exec(ctx, "catalog.SetErasureProblem", "UPDATE erasures SET problem = $2 WHERE id = $1 AND finished = 0 AND problem <> $2", id[:], problem)
	return err
}

// SetErasureFinal says when the last key is destroyed that opens a backup with
// the data, for the running erasures whose keys were sealed to this epoch or an
// older one, and which have no such moment yet.
func (tx *Tx) SetErasureFinal(ctx context.Context, epoch uint32, at time.Time) error {
	_, err := tx.exec(ctx, "catalog.SetErasureFinal", "UPDATE erasures SET final_at = $2 WHERE finished = 0 AND final_at = 0 AND epoch <= $1",
		int64(epoch), micros(at))
	return err
}

// EndErasure ends an erasure of which nothing is left: storage.ErrNoRow if it
// has ended, or if a dataset of it has rows of shards, work, uploads or a key.
func (tx *Tx) EndErasure(ctx context.Context, id dataset.ErasureID, at time.Time, index uint64) error {
	const left = " WHERE dataset IN (SELECT dataset FROM erased_datasets WHERE erasure = $1))"
	return tx.change(ctx, "catalog.EndErasure", "UPDATE erasures SET finished = 1, problem = '', ended_at = $2, end_idx = $3"+
		" WHERE id = $1 AND finished = 0 AND final_at > 0"+
		" AND NOT EXISTS (SELECT 1 FROM erased_datasets WHERE erasure = $1 AND stage <> 2)"+
		" AND NOT EXISTS (SELECT 1 FROM work"+left+" AND NOT EXISTS (SELECT 1 FROM shards"+left+" AND NOT EXISTS (SELECT 1 FROM attempts"+left+
		" AND NOT EXISTS (SELECT 1 FROM dataset_keys"+left, id[:], micros(at), int64(index))
}

// DropErasedShards forgets up to limit shards of an erased dataset, and gives how
// many it did.
func (tx *Tx) DropErasedShards(ctx context.Context, id dataset.DatasetID, limit int) (int64, error) {
	return tx.exec(ctx, "catalog.DropErasedShards", "DELETE FROM shards WHERE dataset = $1 AND number IN"+
		" (SELECT number FROM shards WHERE dataset = $1 ORDER BY number LIMIT $2)", id[:], int64(limit))
}

// DatasetAttempts lists attempts at shards of a dataset, by key.
func (tx *Tx) DatasetAttempts(ctx context.Context, id dataset.DatasetID, limit int) ([]storage.Attempt, error) {
	return attempts.list(ctx, tx, "catalog.DatasetAttempts", "WHERE dataset = $1 ORDER BY object LIMIT $2", id[:], page(limit))
}

// KeyRow is a wrapped key with whose it is.
type KeyRow struct {
	ID     [16]byte // the dataset's, or the principal's
	Person bool
	Key    storage.WrappedKey
}

// KeysBefore lists keys that are sealed to an epoch before the given one, at
// most limit of datasets and as many of people.
func (tx *Tx) KeysBefore(ctx context.Context, epoch uint32, limit int) ([]KeyRow, error) {
	const op = "catalog.KeysBefore"
	var list []KeyRow
	for _, q := range []struct {
		query  string
		person bool
	}{
		{"SELECT dataset, epoch, sealed FROM dataset_keys WHERE epoch < $1 ORDER BY dataset LIMIT $2", false},
		{"SELECT id, key_epoch, key_sealed FROM principals WHERE key_epoch < $1 AND key_epoch > 0 ORDER BY id LIMIT $2", true},
	} {
		err := tx.each(ctx, op, false, q.query, []any{int64(epoch), page(limit)}, func(rows *sql.Rows) error {
			k := KeyRow{Person: q.person}
			err := scan(rows, op, fixed(k.ID[:]), &k.Key.Epoch, raw{&k.Key.Sealed})
			list = append(list, k)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// ReplaceKey replaces a key that is still sealed to the epoch that it was; it
// does nothing if it is not.
func (tx *Tx) ReplaceKey(ctx context.Context, k KeyRow, sealed storage.WrappedKey) error {
	statement := "UPDATE dataset_keys SET epoch = $3, sealed = $4 WHERE dataset = $1 AND epoch = $2"
	if k.Person {
		statement = "UPDATE principals SET key_epoch = $3, key_sealed = $4 WHERE id = $1 AND key_epoch = $2"
	}
	_, err := tx.exec(ctx, "catalog.ReplaceKey", statement, k.ID[:], int64(k.Key.Epoch), int64(sealed.Epoch), blob(sealed.Sealed))
	return err
}

// metaLeastEpoch is the oldest epoch of keys that is not destroyed, or about to be.
const metaLeastEpoch = "least-epoch"

// LeastEpoch gives the oldest epoch that keys may be sealed to.
func (tx *Tx) LeastEpoch(ctx context.Context) (uint32, error) {
	value, err := tx.Meta(ctx, metaLeastEpoch)
	if errors.Is(err, storage.ErrNoRow) {
		return 0, nil
	}
	if err == nil && len(value) != 4 {
		err = fault.New(fault.Corrupt, "catalog.LeastEpoch", "the oldest epoch of keys cannot be read")
	}
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(value), nil
}

// SetLeastEpoch says that no key may be sealed to an older epoch any more. It
// never goes back.
func (tx *Tx) SetLeastEpoch(ctx context.Context, epoch uint32) error {
	least, err := tx.LeastEpoch(ctx)
	if err != nil || epoch <= least {
		return err
	}
	return tx.SetMeta(ctx, metaLeastEpoch, binary.BigEndian.AppendUint32(nil, epoch))
}

func (tx *Tx) checkEpoch(ctx context.Context, key storage.WrappedKey) error {
	least, err := tx.LeastEpoch(ctx)
	if err == nil && key.Epoch < least {
		err = fault.New(fault.Unavailable, "catalog.checkEpoch", "the epoch of keys has just changed").
			WithHint("try again; if it goes on, the nodes do not share one keys folder").WithRetry(time.Second)
	}
	return err
}
