package catalog

import (
	"context"
	"time"

	"dsvault/vault/dataset"
)

var holds = table[revised[dataset.Hold]]{
	name: "holds", columns: "id, path, reason, at, by_whom, released, released_by, revision",
	into: func(r *revised[dataset.Hold]) []any {
		h := &r.row
		return []any{fixed(h.ID[:]), text{&h.Scope}, &h.Reason, moment{&h.At}, fixed(h.By[:]), moment{&h.Released}, fixed(h.ReleasedBy[:]), &r.rev}
	},
	values: func(r *revised[dataset.Hold]) []any {
		h := &r.row
		return []any{h.ID[:], h.Scope.String(), h.Reason, micros(h.At), h.By[:], micros(h.Released), h.ReleasedBy[:], int64(r.rev)}
	},
}

// AddHold adds a legal hold. Its scope has to be there.
func (tx *Tx) AddHold(ctx context.Context, h dataset.Hold, rev uint64) error {
	return holds.insert(ctx, tx, "catalog.AddHold", "", revised[dataset.Hold]{h, rev})
}

// ReleaseHold ends a hold: storage.ErrNoRow if it is not in force.
func (tx *Tx) ReleaseHold(ctx context.Context, id dataset.HoldID, by dataset.PrincipalID, at time.Time, rev uint64) error {
	return tx.change(ctx, "catalog.ReleaseHold", "UPDATE holds SET released = $2, released_by = $3, revision = $4 WHERE id = $1 AND released = 0",
		id[:], micros(at), by[:], int64(rev))
}

// Hold reads one hold.
func (tx *Tx) Hold(ctx context.Context, id dataset.HoldID) (dataset.Hold, error) {
	r, err := holds.one(ctx, tx, "catalog.Hold", "WHERE id = $1", id[:])
	return r.row, err
}

// HoldsSince streams the holds changed after revision rev, in the order of their
// revisions. The transaction cannot be used inside f.
func (tx *Tx) HoldsSince(ctx context.Context, rev uint64, f func(dataset.Hold, uint64) error) error {
	return since(ctx, tx, &holds, "catalog.HoldsSince", rev, func(r revised[dataset.Hold]) error { return f(r.row, r.rev) })
}

// Holds lists the holds that concern a scope: at it, above it and below it, in
// the order in which they were placed, after one (zero: from the first). ended
// includes those that were released.
func (tx *Tx) Holds(ctx context.Context, scope dataset.Scope, ended bool, after dataset.HoldID, limit int) ([]dataset.Hold, error) {
	var w filter
	w.touching(scope)
	if !ended {
		w.and("released = 0")
	}
	if !after.IsZero() {
		w.and("(at, id) > (SELECT at, id FROM holds WHERE id = " + w.arg(after[:]) + ")")
	}
	rows, err := holds.list(ctx, tx, "catalog.Holds", w.where()+"ORDER BY at, id LIMIT "+w.arg(page(limit)), w.args...)
	list := make([]dataset.Hold, len(rows))
	for i, r := range rows {
		list[i] = r.row
	}
	return list, err
}

// touching keeps the rows whose path is scope, above it, or below it.
func (f *filter) touching(scope dataset.Scope) {
	var below filter
	below.args = f.args
	below.under(scope)
	f.args = below.args
	if len(below.conditions) == 0 {
		return // the vault: every path is below it
	}
	condition := below.conditions[0]
	for at := scope; at != dataset.Root; {
		at = at.Parent()
		condition += " OR path = " + f.arg(at.String())
	}
	f.and("(" + condition + ")")
}

// heldDataset is the condition that a hold is in force on the dataset of a row,
// or above it; column is where the row has the dataset's ID.
func heldDataset(column string) string {
	return "EXISTS (SELECT 1 FROM holds h JOIN datasets d ON d.id = " + column + " WHERE h.released = 0 AND" +
		" (h.path = '/' OR h.path = d.path OR substr(d.path, 1, length(h.path) + 1) = h.path || '/'))"
}

// CountDatasets counts the datasets at a scope and below it that are erased, or
// those that are not.
func (tx *Tx) CountDatasets(ctx context.Context, scope dataset.Scope, erased bool) (n int, err error) {
	var w filter
	is := "<>"
	if erased {
		is = "="
	}
	w.and("state " + is + " " + w.arg(string(dataset.Erased)))
	w.under(scope)
	err = tx.row(ctx, "catalog.CountDatasets", "SELECT COUNT(*) FROM datasets "+w.where(), w.args, &n)
	return n, err
}

// DatasetHeld reports whether a hold is in force on a dataset, or above it. There
// is nothing left to hold of an erased one.
func (tx *Tx) DatasetHeld(ctx context.Context, id dataset.DatasetID) (bool, error) {
	var n int
	err := tx.row(ctx, "catalog.DatasetHeld", "SELECT COUNT(*) FROM datasets x WHERE x.id = $1 AND x.state <> $2 AND "+heldDataset("x.id"), []any{id[:], string(dataset.Erased)}, &n)
	return n > 0, err
}
