package catalog

import (
	"context"
	"slices"
	"time"

	"dsvault/storage"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

var grants = table[revised[dataset.Grant]]{
	name: "grants", columns: "id, principal, role, path, until, reason, by_whom, at, ended, approved_by, revision",
	into: func(r *revised[dataset.Grant]) []any {
		g := &r.row
		return []any{fixed(g.ID[:]), fixed(g.Principal[:]), &g.Role, text{&g.Scope}, moment{&g.Until}, &g.Reason,
			fixed(g.By[:]), moment{&g.At}, moment{&g.Revoked}, optional(g.ApprovedBy[:]), &r.rev}
	},
	values: func(r *revised[dataset.Grant]) []any {
		g := &r.row
		return []any{g.ID[:], g.Principal[:], string(g.Role), g.Scope.String(), micros(g.Until), g.Reason,
			g.By[:], micros(g.At), micros(g.Revoked), someone(g.ApprovedBy), int64(r.rev)}
	},
}

// AddGrant adds a grant. Its principal has to be there: storage.ErrNoRow if not.
func (tx *Tx) AddGrant(ctx context.Context, g dataset.Grant, rev uint64) error {
	return grants.insert(ctx, tx, "catalog.AddGrant", "", revised[dataset.Grant]{g, rev})
}

// EndGrants revokes a principal's grants of a role at exactly this scope, and
// returns them, ended. None is no error.
func (tx *Tx) EndGrants(ctx context.Context, principal dataset.PrincipalID, role dataset.Role, scope dataset.Scope, at time.Time, rev uint64) ([]dataset.Grant, error) {
	list, err := grants.returning(ctx, tx, "catalog.EndGrants",
		"UPDATE grants SET ended = $4, revision = $5 WHERE principal = $1 AND role = $2 AND path = $3 AND ended = 0",
		principal[:], string(role), scope.String(), micros(at), int64(rev))
	return rowsOf(list), err
}

// Grants lists the grants that q selects: below a scope in the order of their
// paths, otherwise the oldest first.
func (tx *Tx) Grants(ctx context.Context, q storage.GrantQuery) ([]dataset.Grant, error) {
	var w filter
	if !q.At.IsZero() {
		w.reach(q.At)
	}
	w.policyRows(q.Principal, q.IncludeEnded)
	byTime := !q.Principal.IsZero() || !q.At.IsZero()
	return pageUnder(ctx, tx, &grants, "catalog.Grants", w, q.Under, byTime, q.After, q.Limit)
}

// GrantsSince streams the grants changed after revision rev, in the order of
// their revisions. The transaction cannot be used inside f.
func (tx *Tx) GrantsSince(ctx context.Context, rev uint64, f func(dataset.Grant, uint64) error) error {
	return sinceRevised(ctx, tx, &grants, "catalog.GrantsSince", rev, f)
}

var assignments = table[revised[dataset.Assignment]]{
	name: "assignments", columns: "id, principal, dataset, path, shards, until, by_whom, at, ended, approved_by, claim, revision",
	into: func(r *revised[dataset.Assignment]) []any {
		a := &r.row
		return []any{fixed(a.ID[:]), fixed(a.Principal[:]), fixed(a.Dataset[:]), text{&a.Scope}, text{&a.Shards}, moment{&a.Until},
			fixed(a.By[:]), moment{&a.At}, moment{&a.Ended}, optional(a.ApprovedBy[:]), flag{&a.Claim}, &r.rev}
	},
	values: func(r *revised[dataset.Assignment]) []any {
		a := &r.row
		return []any{a.ID[:], a.Principal[:], a.Dataset[:], a.Scope.String(), a.Shards.String(), micros(a.Until),
			a.By[:], micros(a.At), micros(a.Ended), someone(a.ApprovedBy), bit(a.Claim), int64(r.rev)}
	},
}

// AddAssignment adds an assignment. Its principal and dataset have to be
// there: storage.ErrNoRow if not. More than 10,000 ranges are fault.TooLarge.
func (tx *Tx) AddAssignment(ctx context.Context, a dataset.Assignment, rev uint64) error {
	const op = "catalog.AddAssignment"
	if len(a.Shards) > maxRanges {
		return fault.New(fault.TooLarge, op, "more than 10,000 shard ranges in one assignment").
			WithHint("assign fewer shards at a time")
	}
	return assignments.insert(ctx, tx, op, "", revised[dataset.Assignment]{a, rev})
}

// maxRanges is what dataset.ParseShardSet accepts.
const maxRanges = 10_000

// EndAssignments takes shards (nil: all) of a dataset from a principal. It
// ends each assignment that has some of them and adds another one, under an ID
// of newID, with the shards that remain. Both are returned; none is no error.
// What remains keeps the end, the giver and the time of the original.
func (tx *Tx) EndAssignments(ctx context.Context, id dataset.DatasetID, principal dataset.PrincipalID, shards dataset.ShardSet,
	at time.Time, rev uint64, newID func() dataset.AssignmentID) (ended, remaining []dataset.Assignment, err error) {
	const op = "catalog.EndAssignments"
	list, err := assignments.list(ctx, tx, op, "WHERE principal = $1 AND dataset = $2 AND ended = 0 ORDER BY at, id", principal[:], id[:])
	if err != nil {
		return nil, nil, err
	}
	for _, a := range rowsOf(list) {
		var rest dataset.ShardSet
		if shards != nil {
			rest = without(a.Shards, shards)
			if rest.Len() == a.Shards.Len() {
				continue
			}
		}
		err := tx.change(ctx, op, "UPDATE assignments SET ended = $2, revision = $3 WHERE id = $1", a.ID[:], micros(at), int64(rev))
		if err != nil {
			return nil, nil, err
		}
		if len(rest) > 0 {
			kept := a
			kept.ID, kept.Shards = newID(), rest
			if err := tx.AddAssignment(ctx, kept, rev); err != nil {
				return nil, nil, err
			}
			remaining = append(remaining, kept)
		}
		a.Ended = time.UnixMicro(micros(at)).UTC()
		ended = append(ended, a)
	}
	return ended, remaining, nil
}

// without gives the shards of a that are not in b. Both are in normal form.
func without(a, b dataset.ShardSet) dataset.ShardSet {
	var rest dataset.ShardSet
	for _, r := range a {
		first, _ := slices.BinarySearchFunc(b, r.First, func(cut dataset.ShardRange, n int) int { return cut.Last - n })
		for _, cut := range b[first:] {
			if cut.First > r.Last {
				break
			}
			if cut.First > r.First {
				rest = append(rest, dataset.ShardRange{First: r.First, Last: cut.First - 1})
			}
			r.First = cut.Last + 1
		}
		if r.First <= r.Last {
			rest = append(rest, r)
		}
	}
	return rest
}

// Assignments lists the assignments that q selects: below a scope in the order of
// their paths, otherwise the oldest first.
func (tx *Tx) Assignments(ctx context.Context, q storage.AssignmentQuery) ([]dataset.Assignment, error) {
	var w filter
	if !q.Dataset.IsZero() {
		w.and("dataset = " + w.arg(q.Dataset[:]))
	}
	w.policyRows(q.Principal, q.IncludeEnded)
	byTime := !q.Principal.IsZero() || !q.Dataset.IsZero()
	return pageUnder(ctx, tx, &assignments, "catalog.Assignments", w, q.Under, byTime, q.After, q.Limit)
}

// AssignmentsSince streams the assignments changed after revision rev, in the
// order of their revisions. The transaction cannot be used inside f.
func (tx *Tx) AssignmentsSince(ctx context.Context, rev uint64, f func(dataset.Assignment, uint64) error) error {
	return sinceRevised(ctx, tx, &assignments, "catalog.AssignmentsSince", rev, f)
}

// policyRows adds the conditions that grants and assignments share.
func (f *filter) policyRows(principal dataset.PrincipalID, includeEnded bool) {
	if !principal.IsZero() {
		f.and("principal = " + f.arg(principal[:]))
	}
	if !includeEnded {
		f.and("ended = 0")
	}
}

func rowsOf[T any](list []revised[T]) []T {
	var rows []T
	for _, r := range list {
		rows = append(rows, r.row)
	}
	return rows
}

func sinceRevised[T any](ctx context.Context, tx *Tx, t *table[revised[T]], op string, rev uint64, f func(T, uint64) error) error {
	return since(ctx, tx, t, op, rev, func(r revised[T]) error { return f(r.row, r.rev) })
}
