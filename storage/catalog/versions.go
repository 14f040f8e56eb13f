package catalog

import (
	"context"
	"database/sql"
	"slices"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

var versions = table[storage.Version]{
	name: "versions", columns: "dataset, version, shards, plain_size, sealed_size, completed_at, completed_by",
	into: func(v *storage.Version) []any {
		return []any{fixed(v.Dataset[:]), &v.Version, text{&v.Shards}, &v.PlainSize, &v.SealedSize, moment{&v.CompletedAt}, fixed(v.CompletedBy[:])}
	},
	values: func(v *storage.Version) []any {
		return []any{v.Dataset[:], int64(v.Version), v.Shards.String(), v.PlainSize, v.SealedSize, micros(v.CompletedAt), v.CompletedBy[:]}
	},
}

// AddVersion makes v the dataset's newest version. Shards that are in no
// version yet become v's: the caller has dropped the others. The dataset's
// newest version has to be the one before: storage.ErrNoRow if not.
func (tx *Tx) AddVersion(ctx context.Context, v storage.Version, rev uint64) error {
	const op = "catalog.AddVersion"
	err := tx.change(ctx, op, "UPDATE datasets SET complete = 1, version = $2, shards = $3, revision = $4, filled_at = $6 WHERE id = $1 AND version = $5",
		v.Dataset[:], int64(v.Version), int64(v.Shards.Len()), int64(rev), int64(v.Version-1), micros(v.CompletedAt))
	if err != nil {
		return err
	}
	if err := versions.insert(ctx, tx, op, "", v); err != nil {
		return err
	}
	_, err = tx.exec(ctx, op, "UPDATE shards SET version = $2 WHERE dataset = $1 AND version = 0", v.Dataset[:], int64(v.Version))
	return err
}

// Version reads one version of a dataset.
func (tx *Tx) Version(ctx context.Context, id dataset.DatasetID, version int) (storage.Version, error) {
	return versions.one(ctx, tx, "catalog.Version", "WHERE dataset = $1 AND version = $2", id[:], int64(version))
}

// Versions lists a dataset's versions after one (0 for all), in order.
func (tx *Tx) Versions(ctx context.Context, id dataset.DatasetID, after, limit int) ([]storage.Version, error) {
	return versions.list(ctx, tx, "catalog.Versions", "WHERE dataset = $1 AND version > $2 ORDER BY version LIMIT $3", id[:], int64(after), page(limit))
}

// BeginPush counts one more push to a dataset and gives its number.
func (tx *Tx) BeginPush(ctx context.Context, id dataset.DatasetID) (int, error) {
	const op = "catalog.BeginPush"
	rows, err := datasets.returning(ctx, tx, op, "UPDATE datasets SET push = push + 1 WHERE id = $1", id[:])
	if err == nil && len(rows) == 0 {
		err = classify(ctx, op, sql.ErrNoRows)
	}
	if err != nil {
		return 0, err
	}
	return rows[0].Push, nil
}

// DropSpareShards removes the shards that no version has and that are not in
// keep, and returns them, in order; their objects are then the caller's to
// delete. Their nonces stay used.
func (tx *Tx) DropSpareShards(ctx context.Context, id dataset.DatasetID, keep dataset.ShardSet) ([]storage.Shard, error) {
	const op = "catalog.DropSpareShards"
	var dropped []storage.Shard
	next := 0
	drop := func(to int) error { // from next to before to
		if next >= to {
			return nil
		}
		rows, err := shards.returning(ctx, tx, op,
			"DELETE FROM shards WHERE dataset = $1 AND version = 0 AND number >= $2 AND number < $3", id[:], int64(next), int64(to))
		dropped = append(dropped, rows...)
		return err
	}
	for _, r := range keep {
		if err := drop(r.First); err != nil {
			return nil, err
		}
		next = r.Last + 1
	}
	if err := drop(dataset.MaxShards); err != nil {
		return nil, err
	}
	slices.SortFunc(dropped, func(a, b storage.Shard) int { return a.Number - b.Number })
	return dropped, nil
}

// ShardSum sums up some of a dataset's shards: how many of them there are, how
// many of these are in a version, and their bytes of plaintext and of objects.
func (tx *Tx) ShardSum(ctx context.Context, id dataset.DatasetID, set dataset.ShardSet) (count, versioned int, plain, sealed int64, err error) {
	for _, r := range set {
		var c, v int
		var p, s int64
		err = tx.row(ctx, "catalog.ShardSum", "SELECT COUNT(*), CAST(COALESCE(SUM(CASE WHEN version > 0 THEN 1 ELSE 0 END), 0) AS bigint),"+
			" CAST(COALESCE(SUM(plain_size), 0) AS bigint), CAST(COALESCE(SUM(sealed_size), 0) AS bigint)"+
			" FROM shards WHERE dataset = $1 AND number >= $2 AND number <= $3",
			[]any{id[:], int64(r.First), int64(r.Last)}, &c, &v, &p, &s)
		if err != nil {
			return 0, 0, 0, 0, err
		}
		count, versioned, plain, sealed = count+c, versioned+v, plain+p, sealed+s
	}
	return count, versioned, plain, sealed, nil
}
