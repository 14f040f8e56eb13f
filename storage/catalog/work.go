package catalog

import (
	"context"
	"database/sql"
	"time"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

var work = table[storage.Work]{
	name: "work", columns: "id, dataset, path, number, author, latest, attempt, object, etag, sealed_size, plain_size, sha256, part_size, " +
		"header, nonce, manifest, state, submitted_at, decided_at, decided_by, note",
	into: func(w *storage.Work) []any {
		return []any{fixed(w.ID[:]), fixed(w.Dataset[:]), text{&w.Scope}, &w.Number, fixed(w.Author[:]), flag{&w.Latest}, fixed(w.Attempt[:]),
			&w.Key, &w.ETag, &w.SealedSize, &w.PlainSize, fixed(w.SHA256[:]), &w.PartSize,
			raw{&w.Header}, fixed(w.Nonce[:]), raw{&w.Manifest}, &w.State, moment{&w.SubmittedAt}, moment{&w.DecidedAt}, fixed(w.DecidedBy[:]), raw{&w.Note}}
	},
	values: func(w *storage.Work) []any {
		return []any{w.ID[:], w.Dataset[:], w.Scope.String(), int64(w.Number), w.Author[:], bit(w.Latest), w.Attempt[:],
			w.Key, w.ETag, w.SealedSize, w.PlainSize, w.SHA256[:], w.PartSize,
			blob(w.Header), w.Nonce[:], blob(w.Manifest), string(w.State), micros(w.SubmittedAt), micros(w.DecidedAt), w.DecidedBy[:], blob(w.Note)}
	},
}

// AddWork adds work, which becomes the latest of its author on its shard. A
// nonce that was ever committed before is storage.ErrExists.
func (tx *Tx) AddWork(ctx context.Context, w storage.Work) error {
	const op = "catalog.AddWork"
	if _, err := tx.exec(ctx, op, "UPDATE work SET latest = 0 WHERE dataset = $1 AND number = $2 AND author = $3 AND latest = 1",
		w.Dataset[:], int64(w.Number), w.Author[:]); err != nil {
		return err
	}
	if _, err := tx.exec(ctx, op, "INSERT INTO nonces (nonce) VALUES ($1)", w.Nonce[:]); err != nil {
		return err
	}
	w.Latest = true
	return work.insert(ctx, tx, op, "", w)
}

// Work reads what was returned once.
func (tx *Tx) Work(ctx context.Context, id dataset.WorkID) (storage.Work, error) {
	return work.one(ctx, tx, "catalog.Work", "WHERE id = $1", id[:])
}

// WorkByAttempt reads the work that came by an attempt.
func (tx *Tx) WorkByAttempt(ctx context.Context, id dataset.AttemptID) (storage.Work, error) {
	return work.one(ctx, tx, "catalog.WorkByAttempt", "WHERE attempt = $1", id[:])
}

// WorkByKey reads the work whose object has this key.
func (tx *Tx) WorkByKey(ctx context.Context, objectKey string) (storage.Work, error) {
	return work.one(ctx, tx, "catalog.WorkByKey", "WHERE object = $1", objectKey)
}

// ListWork lists the work that q selects, by shard, the oldest first.
func (tx *Tx) ListWork(ctx context.Context, q storage.WorkQuery) ([]storage.Work, error) {
	var w filter
	w.and("dataset = " + w.arg(q.Dataset[:]))
	w.and("number >= " + w.arg(int64(q.First)))
	w.and("number <= " + w.arg(int64(q.Last)))
	if !q.Author.IsZero() {
		w.and("author = " + w.arg(q.Author[:]))
	}
	if q.State != "" {
		w.and("state = " + w.arg(string(q.State)))
	}
	if q.Latest {
		w.and("latest = 1")
	}
	if !q.After.IsZero() {
		w.and("(number, submitted_at, id) > (SELECT number, submitted_at, id FROM work WHERE id = " + w.arg(q.After[:]) + ")")
	}
	return work.list(ctx, tx, "catalog.ListWork", w.where()+"ORDER BY number, submitted_at, id LIMIT "+w.arg(page(q.Limit)), w.args...)
}

// CountWork counts how often an author has returned work on a shard.
func (tx *Tx) CountWork(ctx context.Context, id dataset.DatasetID, number int, author dataset.PrincipalID) (count int, err error) {
	err = tx.row(ctx, "catalog.CountWork", "SELECT COUNT(*) FROM work WHERE dataset = $1 AND number = $2 AND author = $3",
		[]any{id[:], int64(number), author[:]}, &count)
	return count, err
}

// DecideWork records what became of submitted work: storage.ErrNoRow if that was
// decided before, or if its author has returned newer work.
func (tx *Tx) DecideWork(ctx context.Context, w storage.Work) error {
	return tx.change(ctx, "catalog.DecideWork",
		"UPDATE work SET state = $2, decided_at = $3, decided_by = $4, note = $5 WHERE id = $1 AND state = $6 AND latest = 1",
		w.ID[:], string(w.State), micros(w.DecidedAt), w.DecidedBy[:], blob(w.Note), string(storage.WorkSubmitted))
}

// StoredWork lists the objects of work whose key is greater than after, by key.
func (tx *Tx) StoredWork(ctx context.Context, after string, limit int) ([]storage.StoredObject, error) {
	const op = "catalog.StoredWork"
	var list []storage.StoredObject
	err := tx.each(ctx, op, false, "SELECT object, dataset, number, etag, sealed_size, sha256, plain_size, length(header), length(manifest), part_size"+
		" FROM work WHERE object > $1 ORDER BY object LIMIT $2", []any{after, page(limit)}, func(rows *sql.Rows) error {
		var o storage.StoredObject
		err := scan(rows, op, &o.Key, fixed(o.Dataset[:]), &o.Number, &o.ETag, &o.Size, raw{&o.SHA256}, &o.PlainSize, &o.HeaderSize, &o.ManifestSize, &o.PartSize)
		list = append(list, o)
		return err
	})
	return list, err
}

// UnclaimedShards lists shards of a dataset that are in some version and on which
// no work was returned but what was sent back, from the first number greater than
// after.
func (tx *Tx) UnclaimedShards(ctx context.Context, id dataset.DatasetID, after, limit int) ([]int, error) {
	const op = "catalog.UnclaimedShards"
	var list []int
	err := tx.each(ctx, op, false, "SELECT number FROM shards s WHERE dataset = $1 AND number > $2 AND version > 0 AND NOT EXISTS"+
		" (SELECT 1 FROM work w WHERE w.dataset = s.dataset AND w.number = s.number AND w.latest = 1 AND w.state <> $3) ORDER BY number LIMIT $4",
		[]any{id[:], int64(after), string(storage.WorkSentBack), page(limit)}, func(rows *sql.Rows) error {
			var n int
			err := scan(rows, op, &n)
			list = append(list, n)
			return err
		})
	return list, err
}

// AssignmentsInForce streams a dataset's assignments that hold at a time, claims
// among them. The transaction cannot be used inside f.
func (tx *Tx) AssignmentsInForce(ctx context.Context, id dataset.DatasetID, now time.Time, f func(dataset.Assignment) error) error {
	return assignments.each(ctx, tx, "catalog.AssignmentsInForce", "WHERE dataset = $1 AND ended = 0 AND (until = 0 OR until > $2) ORDER BY at, id",
		[]any{id[:], micros(now)}, func(r revised[dataset.Assignment]) error { return f(r.row) })
}

// EndLapsedClaims ends the claims of a dataset whose lease has run out, so that
// nobody has to keep them in mind.
func (tx *Tx) EndLapsedClaims(ctx context.Context, id dataset.DatasetID, now time.Time, rev uint64) error {
	_, err := tx.exec(ctx, "catalog.EndLapsedClaims",
		"UPDATE assignments SET ended = until, revision = $3 WHERE dataset = $1 AND claim = 1 AND ended = 0 AND until <= $2", id[:], micros(now), int64(rev))
	return err
}

// RenewClaim gives a claim another end: storage.ErrNoRow if it has ended or
// lapsed.
func (tx *Tx) RenewClaim(ctx context.Context, id dataset.AssignmentID, now, until time.Time, rev uint64) error {
	return tx.change(ctx, "catalog.RenewClaim",
		"UPDATE assignments SET until = $3, revision = $4 WHERE id = $1 AND claim = 1 AND ended = 0 AND until > $2", id[:], micros(now), micros(until), int64(rev))
}

// EndAssignment ends one assignment or claim: storage.ErrNoRow if it has ended.
func (tx *Tx) EndAssignment(ctx context.Context, id dataset.AssignmentID, at time.Time, rev uint64) error {
	return tx.change(ctx, "catalog.EndAssignment",
		"UPDATE assignments SET ended = $2, revision = $3 WHERE id = $1 AND ended = 0", id[:], micros(at), int64(rev))
}

// OldWork lists the work at a scope and below that came before a time, the oldest
// first, after one piece of it.
func (tx *Tx) OldWork(ctx context.Context, under dataset.Scope, before time.Time, after storage.Work, limit int) ([]storage.Work, error) {
	var w filter
	w.under(under)
	w.and("submitted_at <= " + w.arg(micros(before)))
	if !after.ID.IsZero() {
		w.and("(submitted_at, id) > (" + w.arg(micros(after.SubmittedAt)) + ", " + w.arg(after.ID[:]) + ")")
	}
	return work.list(ctx, tx, "catalog.OldWork", w.where()+"ORDER BY submitted_at, id LIMIT "+w.arg(page(limit)), w.args...)
}

// DropWork forgets returned work: storage.ErrNoRow if it is gone already.
func (tx *Tx) DropWork(ctx context.Context, id dataset.WorkID) error {
	return tx.change(ctx, "catalog.DropWork", "DELETE FROM work WHERE id = $1", id[:])
}
