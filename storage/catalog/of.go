package catalog

import (
	"context"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

// What follows streams the rows that decisions about some people rest on, as they
// are now, in the order of their revisions. The transaction cannot be used inside f.

// PrincipalsOf streams these principals; those that are not there are left out.
func (tx *Tx) PrincipalsOf(ctx context.Context, people []dataset.PrincipalID, f func(storage.Principal) error) error {
	return of(ctx, tx, &principals, "catalog.PrincipalsOf", "id", "", people, f)
}

// GrantsOf streams their grants, without those that were revoked.
func (tx *Tx) GrantsOf(ctx context.Context, people []dataset.PrincipalID, f func(dataset.Grant) error) error {
	return ofRevised(ctx, tx, &grants, "catalog.GrantsOf", "AND ended = 0 ", people, f)
}

// AssignmentsOf streams their assignments, without those that were ended.
func (tx *Tx) AssignmentsOf(ctx context.Context, people []dataset.PrincipalID, f func(dataset.Assignment) error) error {
	return ofRevised(ctx, tx, &assignments, "catalog.AssignmentsOf", "AND ended = 0 ", people, f)
}

// SignaturesOf streams their signatures.
func (tx *Tx) SignaturesOf(ctx context.Context, people []dataset.PrincipalID, f func(dataset.Signature) error) error {
	return ofRevised(ctx, tx, &signatures, "catalog.SignaturesOf", "", people, f)
}

// ChoicesOf streams what they have decided about purposes.
func (tx *Tx) ChoicesOf(ctx context.Context, people []dataset.PrincipalID, f func(dataset.Choice) error) error {
	return ofRevised(ctx, tx, &choices, "catalog.ChoicesOf", "", people, f)
}

// ApprovalsOf streams the approvals that they have asked for, as ApprovalsSince
// does: without those that nobody has given.
func (tx *Tx) ApprovalsOf(ctx context.Context, people []dataset.PrincipalID, f func(storage.Approval) error) error {
	return of(ctx, tx, &approvals, "catalog.ApprovalsOf", "requester", "AND revision > 0 ", people, f)
}

// BreakGlassesOf streams their breakings of the glass.
func (tx *Tx) BreakGlassesOf(ctx context.Context, people []dataset.PrincipalID, f func(storage.BreakGlass) error) error {
	return of(ctx, tx, &glass, "catalog.BreakGlassesOf", "principal", "", people, f)
}

// DisclosuresOf streams the disclosures to them.
func (tx *Tx) DisclosuresOf(ctx context.Context, people []dataset.PrincipalID, f func(storage.Disclosure) error) error {
	return of(ctx, tx, &disclosures, "catalog.DisclosuresOf", "principal", "", people, f)
}

func of[T any](ctx context.Context, tx *Tx, t *table[T], op, column, and string, people []dataset.PrincipalID, f func(T) error) error {
	return inChunks(people, func(some []dataset.PrincipalID) error {
		return t.each(ctx, tx, op, "WHERE "+column+" IN ("+placeholders(1, len(some))+") "+and+"ORDER BY revision", idArgs(some), f)
	})
}

func ofRevised[T any](ctx context.Context, tx *Tx, t *table[revised[T]], op, and string, people []dataset.PrincipalID, f func(T) error) error {
	return of(ctx, tx, t, op, "principal", and, people, func(r revised[T]) error { return f(r.row) })
}

func idArgs(people []dataset.PrincipalID) []any {
	args := make([]any, len(people))
	for i := range people {
		args[i] = people[i][:]
	}
	return args
}
