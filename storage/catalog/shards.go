package catalog

import (
	"context"
	"errors"
	"time"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

var attempts = table[storage.Attempt]{
	name: "attempts", columns: "id, dataset, number, object, plain_size, fingerprint, etag, sealed_size, sha256, push, start, index_etag, index_size, index_sha256, upload, part_size, started_at, started_by",
	into: func(a *storage.Attempt) []any {
		return []any{fixed(a.ID[:]), fixed(a.Dataset[:]), &a.Number, &a.Key, &a.PlainSize, fixed(a.Fingerprint[:]),
			&a.ETag, &a.SealedSize, fixed(a.SHA256[:]), &a.Push, raw{&a.Start}, &a.Index.ETag, &a.Index.Size, raw{&a.Index.SHA256}, &a.Upload, &a.PartSize,
			moment{&a.StartedAt}, fixed(a.StartedBy[:])}
	},
	values: func(a *storage.Attempt) []any {
		return []any{a.ID[:], a.Dataset[:], int64(a.Number), a.Key, a.PlainSize, a.Fingerprint[:],
			a.ETag, a.SealedSize, a.SHA256[:], int64(a.Push), blob(a.Start), a.Index.ETag, a.Index.Size, blob(a.Index.SHA256), a.Upload, a.PartSize,
			micros(a.StartedAt), a.StartedBy[:]}
	},
}

// AddAttempt records an upload before its first byte is stored.
func (tx *Tx) AddAttempt(ctx context.Context, a storage.Attempt) error {
	return attempts.insert(ctx, tx, "catalog.AddAttempt", "", a)
}

// ClaimAttempt gives the attempt's object to one upload, once and for all:
// storage.ErrNoRow if the attempt is not there or has been claimed.
func (tx *Tx) ClaimAttempt(ctx context.Context, id dataset.AttemptID) error {
	return tx.change(ctx, "catalog.ClaimAttempt",
		"UPDATE attempts SET sealed_size = $2 WHERE id = $1 AND sealed_size = 0", id[:], storage.Claimed)
}

// StoreAttempt records what was stored for a claimed attempt, or for one whose
// parts were joined: storage.ErrNoRow if the attempt is not there or has its
// bytes already.
func (tx *Tx) StoreAttempt(ctx context.Context, id dataset.AttemptID, etag string, sealedSize int64, sha256 [32]byte) error {
	return tx.change(ctx, "catalog.StoreAttempt",
		"UPDATE attempts SET etag = $2, sealed_size = $3, sha256 = $4 WHERE id = $1 AND sealed_size IN ($5, $6)",
		id[:], etag, sealedSize, sha256[:], storage.Claimed, storage.Joining)
}

// ClaimIndex and StoreIndex are ClaimAttempt and StoreAttempt for the index
// that belongs to the attempt's shard.
func (tx *Tx) ClaimIndex(ctx context.Context, id dataset.AttemptID) error {
	return tx.change(ctx, "catalog.ClaimIndex",
		"UPDATE attempts SET index_size = $2 WHERE id = $1 AND index_size = 0", id[:], storage.Claimed)
}

func (tx *Tx) StoreIndex(ctx context.Context, id dataset.AttemptID, x storage.Index) error {
	return tx.change(ctx, "catalog.StoreIndex",
		"UPDATE attempts SET index_etag = $2, index_size = $3, index_sha256 = $4 WHERE id = $1 AND index_size = $5",
		id[:], x.ETag, x.Size, blob(x.SHA256), storage.Claimed)
}

// Attempt reads one attempt.
func (tx *Tx) Attempt(ctx context.Context, id dataset.AttemptID) (storage.Attempt, error) {
	return attempts.one(ctx, tx, "catalog.Attempt", "WHERE id = $1", id[:])
}

// Attempts lists the attempts started before a time, the oldest first, but for
// those of datasets under a hold.
func (tx *Tx) Attempts(ctx context.Context, before time.Time, limit int) ([]storage.Attempt, error) {
	return attempts.list(ctx, tx, "catalog.Attempts", "WHERE started_at < $1 AND NOT "+heldDataset("attempts.dataset")+" ORDER BY started_at, id LIMIT $2", micros(before), page(limit))
}

// DropAttempt forgets an attempt, once its object is gone or committed:
// storage.ErrNoRow if it is not there.
func (tx *Tx) DropAttempt(ctx context.Context, id dataset.AttemptID) error {
	const op = "catalog.DropAttempt"
	if _, err := tx.exec(ctx, op, "DELETE FROM parts WHERE attempt = $1", id[:]); err != nil {
		return err
	}
	return tx.change(ctx, op, "DELETE FROM attempts WHERE id = $1", id[:])
}

var shards = table[storage.Shard]{
	name: "shards", columns: "dataset, number, attempt, object, etag, sealed_size, plain_size, sha256, header, nonce, fingerprint, manifest, version, start, index_etag, index_size, index_sha256, index_header, part_size, committed_at, committed_by",
	into: func(s *storage.Shard) []any {
		return []any{fixed(s.Dataset[:]), &s.Number, fixed(s.Attempt[:]), &s.Key, &s.ETag, &s.SealedSize, &s.PlainSize,
			fixed(s.SHA256[:]), raw{&s.Header}, fixed(s.Nonce[:]), fixed(s.Fingerprint[:]), raw{&s.Manifest},
			&s.Version, raw{&s.Start}, &s.Index.ETag, &s.Index.Size, raw{&s.Index.SHA256}, raw{&s.Index.Header}, &s.PartSize,
			moment{&s.CommittedAt}, fixed(s.CommittedBy[:])}
	},
	values: func(s *storage.Shard) []any {
		return []any{s.Dataset[:], int64(s.Number), s.Attempt[:], s.Key, s.ETag, s.SealedSize, s.PlainSize,
			s.SHA256[:], blob(s.Header), s.Nonce[:], s.Fingerprint[:], blob(s.Manifest),
			int64(s.Version), blob(s.Start), s.Index.ETag, s.Index.Size, blob(s.Index.SHA256), blob(s.Index.Header), s.PartSize,
			micros(s.CommittedAt), s.CommittedBy[:]}
	},
}

var shardsUpsert = shards.upsert("dataset, number")

// PutShard makes an attempt the shard's content and returns the one that it
// replaced, if any, whose objects are now the caller's to delete. A nonce, of
// the shard's payload or of more, that was ever committed before, in any
// dataset, is storage.ErrExists.
func (tx *Tx) PutShard(ctx context.Context, s storage.Shard, more ...[16]byte) (replaced *storage.Shard, err error) {
	const op = "catalog.PutShard"
	before, err := tx.Shard(ctx, s.Dataset, s.Number)
	switch {
	case err == nil:
		replaced = &before
	case !errors.Is(err, storage.ErrNoRow):
		return nil, err
	}
	for _, nonce := range append(more, s.Nonce) {
		if _, err := tx.exec(ctx, op, "INSERT INTO nonces (nonce) VALUES ($1)", nonce[:]); err != nil {
			return nil, err
		}
	}
	if err := shards.insert(ctx, tx, op, shardsUpsert, s); err != nil {
		return nil, err
	}
	return replaced, nil
}

// Shard reads shard n of a dataset.
func (tx *Tx) Shard(ctx context.Context, id dataset.DatasetID, n int) (storage.Shard, error) {
	return shards.one(ctx, tx, "catalog.Shard", "WHERE dataset = $1 AND number = $2", id[:], int64(n))
}

// Shards lists a dataset's shards with numbers greater than after (-1 for all),
// in order.
func (tx *Tx) Shards(ctx context.Context, id dataset.DatasetID, after, limit int) ([]storage.Shard, error) {
	return shards.list(ctx, tx, "catalog.Shards", "WHERE dataset = $1 AND number > $2 ORDER BY number LIMIT $3", id[:], int64(after), page(limit))
}

// ShardCount sums up a dataset's shards: how many, the highest number (-1 if
// there are none), and the bytes of plaintext and of the objects.
func (tx *Tx) ShardCount(ctx context.Context, id dataset.DatasetID) (count, highest int, plain, sealed int64, err error) {
	// PostgreSQL sums up to a numeric.
	err = tx.row(ctx, "catalog.ShardCount", "SELECT COUNT(*), COALESCE(MAX(number), -1), CAST(COALESCE(SUM(plain_size), 0) AS bigint),"+
		" CAST(COALESCE(SUM(sealed_size), 0) AS bigint) FROM shards WHERE dataset = $1",
		[]any{id[:]}, &count, &highest, &plain, &sealed)
	return count, highest, plain, sealed, err
}

// ShardByKey reads the shard whose object has this key.
func (tx *Tx) ShardByKey(ctx context.Context, objectKey string) (storage.Shard, error) {
	return shards.one(ctx, tx, "catalog.ShardByKey", "WHERE object = $1", objectKey)
}
