package catalog

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

var reviews = table[storage.Review]{
	name: "reviews", columns: "id, slot, path, here, period, state, started_at, started_by, deadline, ended_at, ended_by, items, digest",
	into: func(r *storage.Review) []any {
		return []any{fixed(r.ID[:]), &r.Slot, text{&r.Scope}, flag{&r.Here}, &r.Period, &r.State, moment{&r.StartedAt}, fixed(r.StartedBy[:]),
			moment{&r.Deadline}, moment{&r.EndedAt}, fixed(r.EndedBy[:]), &r.Items, raw{&r.Digest}}
	},
	values: func(r *storage.Review) []any {
		return []any{r.ID[:], int64(r.Slot), r.Scope.String(), bit(r.Here), r.Period, string(r.State), micros(r.StartedAt), r.StartedBy[:],
			micros(r.Deadline), micros(r.EndedAt), r.EndedBy[:], int64(r.Items), blob(r.Digest)}
	},
}

var reviewItems = table[storage.ReviewItem]{
	name: "review_items", columns: "review, number, kind, access, principal, role, path, shards, since, until, by_whom, last_use, findings, decision, decided_at, decided_by",
	into: func(i *storage.ReviewItem) []any {
		return []any{fixed(i.Review[:]), &i.Number, &i.Kind, fixed(i.Access[:]), fixed(i.Principal[:]), &i.Role, text{&i.Scope}, text{&i.Shards},
			moment{&i.Since}, moment{&i.Until}, fixed(i.By[:]), moment{&i.LastUse}, text{(*words[string])(&i.Findings)},
			&i.Decision, moment{&i.DecidedAt}, fixed(i.DecidedBy[:])}
	},
	values: func(i *storage.ReviewItem) []any {
		return []any{i.Review[:], int64(i.Number), string(i.Kind), i.Access[:], i.Principal[:], string(i.Role), i.Scope.String(), i.Shards.String(),
			micros(i.Since), micros(i.Until), i.By[:], micros(i.LastUse), words[string](i.Findings).String(),
			string(i.Decision), micros(i.DecidedAt), i.DecidedBy[:]}
	},
}

// AddReview adds a review with its items.
func (tx *Tx) AddReview(ctx context.Context, r storage.Review, items []storage.ReviewItem) error {
	const op = "catalog.AddReview"
	if err := reviews.insert(ctx, tx, op, "", r); err != nil {
		return err
	}
	return reviewItems.insert(ctx, tx, op, "", items...)
}

// Review reads one review.
func (tx *Tx) Review(ctx context.Context, id dataset.ReviewID) (storage.Review, error) {
	return reviews.one(ctx, tx, "catalog.Review", "WHERE id = $1", id[:])
}

// Reviews lists the reviews at a scope and below it, the newest first, from the
// one before the given one (zero: the newest of all).
func (tx *Tx) Reviews(ctx context.Context, under dataset.Scope, before dataset.ReviewID, limit int) ([]storage.Review, error) {
	var w filter
	w.under(under)
	if !before.IsZero() {
		w.and("(started_at, id) < (SELECT started_at, id FROM reviews WHERE id = " + w.arg(before[:]) + ")")
	}
	return reviews.list(ctx, tx, "catalog.Reviews", w.where()+"ORDER BY started_at DESC, id DESC LIMIT "+w.arg(page(limit)), w.args...)
}

// DueReviews lists the open reviews whose deadline has come, the oldest first.
func (tx *Tx) DueReviews(ctx context.Context, now time.Time) ([]storage.Review, error) {
	return reviews.list(ctx, tx, "catalog.DueReviews", "WHERE state = $1 AND deadline <= $2 ORDER BY deadline, id LIMIT $3",
		string(storage.ReviewOpen), micros(now), page(0))
}

// ReviewOfPeriod reads the scheduled review of a scope for a period.
func (tx *Tx) ReviewOfPeriod(ctx context.Context, scope dataset.Scope, period string) (storage.Review, error) {
	return reviews.one(ctx, tx, "catalog.ReviewOfPeriod", "WHERE period = $1 AND path = $2 LIMIT 1", period, scope.String())
}

// EndReview ends an open review: storage.ErrNoRow if it has ended.
func (tx *Tx) EndReview(ctx context.Context, r storage.Review) error {
	return tx.change(ctx, "catalog.EndReview", "UPDATE reviews SET state = $2, ended_at = $3, ended_by = $4, digest = $5 WHERE id = $1 AND state = $6",
		r.ID[:], string(storage.ReviewEnded), micros(r.EndedAt), r.EndedBy[:], blob(r.Digest), string(storage.ReviewOpen))
}

// ReviewItems lists a review's items with numbers greater than after (-1 for
// all), in order; open ones only: those that nobody has decided.
func (tx *Tx) ReviewItems(ctx context.Context, id dataset.ReviewID, open bool, after, limit int) ([]storage.ReviewItem, error) {
	tail := "WHERE review = $1 AND number > $2 "
	if open {
		tail += "AND decision = '' AND kind <> 'above' "
	}
	return reviewItems.list(ctx, tx, "catalog.ReviewItems", tail+"ORDER BY number LIMIT $3", id[:], int64(after), page(limit))
}

// ReviewItem reads one item.
func (tx *Tx) ReviewItem(ctx context.Context, id dataset.ReviewID, number int) (storage.ReviewItem, error) {
	return reviewItems.one(ctx, tx, "catalog.ReviewItem", "WHERE review = $1 AND number = $2", id[:], int64(number))
}

// DecideItem records what was decided of an item, unless its access was ended
// before or the review has ended: storage.ErrNoRow.
func (tx *Tx) DecideItem(ctx context.Context, i storage.ReviewItem) error {
	return tx.change(ctx, "catalog.DecideItem", "UPDATE review_items SET decision = $3, decided_at = $4, decided_by = $5"+
		" WHERE review = $1 AND number = $2 AND decision IN ('', 'keep') AND kind <> 'above' AND EXISTS (SELECT 1 FROM reviews WHERE id = $1 AND state = $6)",
		i.Review[:], int64(i.Number), string(i.Decision), micros(i.DecidedAt), i.DecidedBy[:], string(storage.ReviewOpen))
}

// CountReview counts how a review's items were decided.
func (tx *Tx) CountReview(ctx context.Context, id dataset.ReviewID) (n storage.ReviewCount, err error) {
	const op = "catalog.CountReview"
	err = tx.each(ctx, op, false, "SELECT decision, COUNT(*) FROM review_items WHERE review = $1 AND kind <> 'above' GROUP BY decision",
		[]any{id[:]}, func(rows *sql.Rows) error {
			var decision storage.ItemDecision
			var count int
			if err := scan(rows, op, &decision, &count); err != nil {
				return err
			}
			switch decision {
			case storage.ItemKeep:
				n.Kept = count
			case storage.ItemRevoke:
				n.Revoked = count
			case storage.ItemExpired:
				n.Expired = count
			default:
				n.Undecided += count
			}
			return nil
		})
	return n, err
}

// GrantByID reads one grant.
func (tx *Tx) GrantByID(ctx context.Context, id dataset.GrantID) (dataset.Grant, error) {
	r, err := grants.one(ctx, tx, "catalog.GrantByID", "WHERE id = $1", id[:])
	return r.row, err
}

// EndGrant revokes one grant: storage.ErrNoRow if it has ended.
func (tx *Tx) EndGrant(ctx context.Context, id dataset.GrantID, at time.Time, rev uint64) error {
	return tx.change(ctx, "catalog.EndGrant", "UPDATE grants SET ended = $2, revision = $3 WHERE id = $1 AND ended = 0", id[:], micros(at), int64(rev))
}

// LastUse gives the time of the newest allowed record of a person at a scope
// and below it, those of some kinds aside; the zero time if there is none.
func (tx *Tx) LastUse(ctx context.Context, who dataset.PrincipalID, under dataset.Scope, except ...uint16) (last time.Time, err error) {
	const op = "catalog.LastUse"
	const allowed = 1 // audit.Allowed
	slots, err := tx.slotsUnder(ctx, op, under)
	if err != nil {
		return last, err
	}
	w := filter{args: []any{who[:]}}
	w.and("first IN (SELECT first FROM leaf_people WHERE principal = $1)")
	if slots != nil {
		sub := filter{args: w.args}
		sub.under(under)
		w.args = sub.args
		w.and("first IN (SELECT first FROM leaf_slots WHERE slot IN (SELECT slot FROM scopes " + sub.where() + "))")
	}
	w.and("first < " + w.arg(int64(1)<<62))
	before := len(w.args) - 1
	query := "SELECT first, count, leaves, details FROM leaf_batches " + w.where() + "ORDER BY first DESC LIMIT " + w.arg(int64(fewBatches))
	for got := int64(fewBatches); last.IsZero() && got == fewBatches; {
		got = 0
		err := tx.each(ctx, op, false, query, w.args, func(rows *sql.Rows) error {
			var b leafBatch
			if err := scan(rows, op, &b.first, &b.count, raw{&b.leaves}, raw{&b.details}); err != nil {
				return err
			}
			got++
			w.args[before] = int64(b.first)
			mine := make([]bool, b.count)
			err := b.eachDetail(func(position int, of dataset.PrincipalID, _ []byte) { mine[position] = of == who })
			if err != nil {
				return err
			}
			return b.eachLeaf(func(l *storage.Leaf) error {
				if mine[l.Index-b.first] && l.Decision == allowed && (slots == nil || slots[l.Slot]) && !slices.Contains(except, l.Kind) {
					if at := time.UnixMicro(l.Time).UTC(); at.After(last) {
						last = at
					}
				}
				return nil
			})
		})
		if err != nil {
			return last, err
		}
	}
	return last, nil
}

// CountFindings counts the items of a review that have each finding.
func (tx *Tx) CountFindings(ctx context.Context, id dataset.ReviewID) (map[string]int, error) {
	const op = "catalog.CountFindings"
	counts := map[string]int{}
	err := tx.each(ctx, op, false, "SELECT findings, COUNT(*) FROM review_items WHERE review = $1 GROUP BY findings", []any{id[:]}, func(rows *sql.Rows) error {
		var found words[string]
		var count int
		if err := scan(rows, op, text{&found}, &count); err != nil {
			return err
		}
		for _, name := range found {
			counts[name] += count
		}
		return nil
	})
	return counts, err
}
