package catalog

import (
	"context"
	"time"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

var retentions = table[storage.Retention]{
	name: "retentions", columns: "path, what, period, basis, set_at, set_by, done, revision",
	into: func(r *storage.Retention) []any {
		return []any{text{&r.Scope}, &r.What, text{&r.Period}, &r.Basis, moment{&r.SetAt}, fixed(r.SetBy[:]), &r.Done, &r.Revision}
	},
	values: func(r *storage.Retention) []any {
		return []any{r.Scope.String(), r.What, r.Period.String(), r.Basis, micros(r.SetAt), r.SetBy[:], int64(r.Done), int64(r.Revision)}
	},
}

var retentionsUpsert = retentions.upsert("path, what")

// PutRetention adds or replaces a retention. Its scope has to be there.
func (tx *Tx) PutRetention(ctx context.Context, r storage.Retention) error {
	return retentions.insert(ctx, tx, "catalog.PutRetention", retentionsUpsert, r)
}

// Retentions lists the retentions that concern a scope: at it, above it and below
// it, by path; those that say nothing any more are left out.
func (tx *Tx) Retentions(ctx context.Context, scope dataset.Scope, after string, limit int) ([]storage.Retention, error) {
	var w filter
	w.and("period <> ''")
	w.touching(scope)
	if after != "" {
		w.and("path || ' ' || what > " + w.arg(after))
	}
	return retentions.list(ctx, tx, "catalog.Retentions", w.where()+"ORDER BY path || ' ' || what LIMIT "+w.arg(page(limit)), w.args...)
}

// RetentionsSince streams the retentions changed after revision rev, in the order
// of their revisions. The transaction cannot be used inside f.
func (tx *Tx) RetentionsSince(ctx context.Context, rev uint64, f func(storage.Retention, uint64) error) error {
	return since(ctx, tx, &retentions, "catalog.RetentionsSince", rev, func(r storage.Retention) error { return f(r, r.Revision) })
}

// SetRetentionDone says up to which leaf the retention of the log is done. A
// retention that was changed since is left as it is.
func (tx *Tx) SetRetentionDone(ctx context.Context, r storage.Retention) error {
	_, err := tx.exec(ctx, "catalog.SetRetentionDone", "UPDATE retentions SET done = $3 WHERE path = $1 AND what = $2 AND revision = $4",
		r.Scope.String(), r.What, int64(r.Done), int64(r.Revision))
	return err
}

// ResetRetentionDone has every retention of the log begin anew.
func (tx *Tx) ResetRetentionDone(ctx context.Context) error {
	_, err := tx.exec(ctx, "catalog.ResetRetentionDone", "UPDATE retentions SET done = 0 WHERE done > 0")
	return err
}

// Warned gives the moment of expiry that was announced for a dataset; the zero
// time if none was.
func (tx *Tx) Warned(ctx context.Context, id dataset.DatasetID) (due time.Time, err error) {
	err = tx.row(ctx, "catalog.Warned", "SELECT COALESCE(MAX(due), 0) FROM warnings WHERE dataset = $1", []any{id[:]}, moment{&due})
	return due, err
}

// SetWarned remembers the moment of expiry that was announced.
func (tx *Tx) SetWarned(ctx context.Context, id dataset.DatasetID, due time.Time) error {
	_, err := tx.exec(ctx, "catalog.SetWarned", "INSERT INTO warnings (dataset, due) VALUES ($1, $2)"+
		" ON CONFLICT (dataset) DO UPDATE SET due = excluded.due", id[:], micros(due))
	return err
}

// LastRecord gives the time of about the last record with details of a person;
// the zero time if there is none. Records of one commit count as one.
func (tx *Tx) LastRecord(ctx context.Context, who dataset.PrincipalID) (at time.Time, err error) {
	err = tx.row(ctx, "catalog.LastRecord", "SELECT COALESCE(MAX(time), 0) FROM leaf_batches WHERE first ="+
		" (SELECT MAX(first) FROM leaf_people WHERE principal = $1)", []any{who[:]}, moment{&at})
	return at, err
}
