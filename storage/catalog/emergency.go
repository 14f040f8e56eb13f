package catalog

import (
	"context"
	"time"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

var glass = table[storage.BreakGlass]{
	name: "break_glass", columns: "id, principal, path, reason, at, until, ended, reviewed_at, reviewed_by, verdict, comment, revision",
	into: func(b *storage.BreakGlass) []any {
		return []any{fixed(b.ID[:]), fixed(b.Principal[:]), text{&b.Scope}, raw{&b.Reason}, moment{&b.At}, moment{&b.Until}, moment{&b.Ended},
			moment{&b.ReviewedAt}, fixed(b.ReviewedBy[:]), &b.Verdict, raw{&b.Comment}, &b.Revision}
	},
	values: func(b *storage.BreakGlass) []any {
		return []any{b.ID[:], b.Principal[:], b.Scope.String(), blob(b.Reason), micros(b.At), micros(b.Until), micros(b.Ended),
			micros(b.ReviewedAt), b.ReviewedBy[:], b.Verdict, blob(b.Comment), int64(b.Revision)}
	},
}

// AddBreakGlass adds one. Its principal has to be there: storage.ErrNoRow if not.
func (tx *Tx) AddBreakGlass(ctx context.Context, b storage.BreakGlass) error {
	return glass.insert(ctx, tx, "catalog.AddBreakGlass", "", b)
}

// BreakGlass reads one.
func (tx *Tx) BreakGlass(ctx context.Context, id dataset.BreakGlassID) (storage.BreakGlass, error) {
	return glass.one(ctx, tx, "catalog.BreakGlass", "WHERE id = $1", id[:])
}

// BreakGlasses lists them, the newest first.
func (tx *Tx) BreakGlasses(ctx context.Context, q storage.BreakGlassQuery) ([]storage.BreakGlass, error) {
	var w filter
	w.under(q.Under)
	if !q.Principal.IsZero() {
		w.and("principal = " + w.arg(q.Principal[:]))
	}
	if q.Open {
		w.and("reviewed_at = 0")
	}
	if !q.InForce.IsZero() {
		w.and("ended = 0 AND until > " + w.arg(micros(q.InForce)))
	}
	if !q.Before.IsZero() {
		w.and("(at, id) < (SELECT at, id FROM break_glass WHERE id = " + w.arg(q.Before[:]) + ")")
	}
	return glass.list(ctx, tx, "catalog.BreakGlasses", w.where()+"ORDER BY at DESC, id DESC LIMIT "+w.arg(page(q.Limit)), w.args...)
}

// EndBreakGlass ends one before its time: storage.ErrNoRow if it has ended.
func (tx *Tx) EndBreakGlass(ctx context.Context, id dataset.BreakGlassID, at time.Time, rev uint64) error {
	return tx.change(ctx, "catalog.EndBreakGlass", "UPDATE break_glass SET ended = $2, revision = $3 WHERE id = $1 AND ended = 0 AND until > $2",
		id[:], micros(at), int64(rev))
}

// ReviewBreakGlass sets the verdict on one: storage.ErrNoRow if there is one.
func (tx *Tx) ReviewBreakGlass(ctx context.Context, b storage.BreakGlass) error {
	return tx.change(ctx, "catalog.ReviewBreakGlass",
		"UPDATE break_glass SET reviewed_at = $2, reviewed_by = $3, verdict = $4, comment = $5 WHERE id = $1 AND reviewed_at = 0",
		b.ID[:], micros(b.ReviewedAt), b.ReviewedBy[:], b.Verdict, blob(b.Comment))
}

// BreakGlassesSince streams those changed after revision rev, in the order of
// their revisions. The transaction cannot be used inside f.
func (tx *Tx) BreakGlassesSince(ctx context.Context, rev uint64, f func(storage.BreakGlass, uint64) error) error {
	return since(ctx, tx, &glass, "catalog.BreakGlassesSince", rev, func(b storage.BreakGlass) error { return f(b, b.Revision) })
}

var disclosures = table[storage.Disclosure]{
	name: "disclosures", columns: "id, principal, dataset, path, shards, document, terms, withheld, at, until, ended, approved_by, revision",
	into: func(d *storage.Disclosure) []any {
		return []any{fixed(d.ID[:]), fixed(d.Principal[:]), fixed(d.Dataset[:]), text{&d.Scope}, text{&d.Shards}, fixed(d.Document[:]), raw{&d.Terms},
			moment{&d.Withheld}, moment{&d.At}, moment{&d.Until}, moment{&d.Ended}, fixed(d.ApprovedBy[:]), &d.Revision}
	},
	values: func(d *storage.Disclosure) []any {
		return []any{d.ID[:], d.Principal[:], d.Dataset[:], d.Scope.String(), d.Shards.String(), d.Document[:], blob(d.Terms),
			micros(d.Withheld), micros(d.At), micros(d.Until), micros(d.Ended), d.ApprovedBy[:], int64(d.Revision)}
	},
}

// AddDisclosure adds one. Its principal and dataset have to be there:
// storage.ErrNoRow if not.
func (tx *Tx) AddDisclosure(ctx context.Context, d storage.Disclosure) error {
	return disclosures.insert(ctx, tx, "catalog.AddDisclosure", "", d)
}

// Disclosures lists a person's disclosures of a dataset that hold at now, the
// newest first.
func (tx *Tx) Disclosures(ctx context.Context, principal dataset.PrincipalID, id dataset.DatasetID, now time.Time) ([]storage.Disclosure, error) {
	return disclosures.list(ctx, tx, "catalog.Disclosures",
		"WHERE principal = $1 AND dataset = $2 AND ended = 0 AND until > $3 ORDER BY at DESC, id DESC LIMIT $4", principal[:], id[:], micros(now), page(0))
}

// DisclosuresSince streams those changed after revision rev, in the order of
// their revisions. The transaction cannot be used inside f.
func (tx *Tx) DisclosuresSince(ctx context.Context, rev uint64, f func(storage.Disclosure, uint64) error) error {
	return since(ctx, tx, &disclosures, "catalog.DisclosuresSince", rev, func(d storage.Disclosure) error { return f(d, d.Revision) })
}
