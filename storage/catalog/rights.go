package catalog

import (
	"context"
	"time"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

// SetRestricted restricts the processing of a person's data from a time on, or
// ends that (zero time).
func (tx *Tx) SetRestricted(ctx context.Context, id dataset.PrincipalID, at time.Time, rev uint64) error {
	return tx.change(ctx, "catalog.SetRestricted",
		"UPDATE principals SET restricted = $2, revision = $3 WHERE id = $1", id[:], micros(at), int64(rev))
}

// Tokens lists a principal's tokens, those that have ended too, the oldest first,
// at most MaxPage.
func (tx *Tx) Tokens(ctx context.Context, principal dataset.PrincipalID) ([]storage.Token, error) {
	return tokens.list(ctx, tx, "catalog.Tokens", "WHERE principal = $1 ORDER BY created_at, id LIMIT $2", principal[:], page(0))
}

// AllLinks lists a principal's links, those that have ended too, by ID from after
// on, at most MaxPage.
func (tx *Tx) AllLinks(ctx context.Context, principal dataset.PrincipalID, after dataset.LinkID) ([]storage.ItemLink, error) {
	return links.list(ctx, tx, "catalog.AllLinks", "WHERE principal = $1 AND id > $2 ORDER BY id LIMIT $3", principal[:], after[:], page(0))
}

var choices = table[revised[dataset.Choice]]{
	name: "choices", columns: "principal, kind, purpose, at, ended, revision",
	into: func(r *revised[dataset.Choice]) []any {
		c := &r.row
		return []any{fixed(c.Principal[:]), &c.Kind, &c.Purpose, moment{&c.At}, moment{&c.Ended}, &r.rev}
	},
	values: func(r *revised[dataset.Choice]) []any {
		c := &r.row
		return []any{c.Principal[:], string(c.Kind), c.Purpose, micros(c.At), micros(c.Ended), int64(r.rev)}
	},
}

var choicesUpsert = choices.upsert("principal, kind, purpose")

// PutChoice adds what somebody has decided about a purpose, or replaces it.
func (tx *Tx) PutChoice(ctx context.Context, c dataset.Choice, rev uint64) error {
	return choices.insert(ctx, tx, "catalog.PutChoice", choicesUpsert, revised[dataset.Choice]{c, rev})
}

// Choice reads one: storage.ErrNoRow if it was never made.
func (tx *Tx) Choice(ctx context.Context, who dataset.PrincipalID, kind dataset.ChoiceKind, purpose string) (dataset.Choice, error) {
	r, err := choices.one(ctx, tx, "catalog.Choice", "WHERE principal = $1 AND kind = $2 AND purpose = $3", who[:], string(kind), purpose)
	return r.row, err
}

// Choices lists what a principal has decided, by kind and purpose, at most
// MaxPage.
func (tx *Tx) Choices(ctx context.Context, who dataset.PrincipalID) ([]dataset.Choice, error) {
	list, err := choices.list(ctx, tx, "catalog.Choices", "WHERE principal = $1 ORDER BY kind, purpose LIMIT $2", who[:], page(0))
	return rowsOf(list), err
}

// ChoicesSince streams the choices changed after revision rev, in the order of
// their revisions. The transaction cannot be used inside f.
func (tx *Tx) ChoicesSince(ctx context.Context, rev uint64, f func(dataset.Choice, uint64) error) error {
	return sinceRevised(ctx, tx, &choices, "catalog.ChoicesSince", rev, f)
}

var rightsRequests = table[storage.RightsRequest]{
	name: "rights_requests", columns: "id, principal, kind, identity_check, received, due, extended, opened_at, opened_by," +
		" closed_at, closed_by, outcome, handed_at, words",
	into: func(r *storage.RightsRequest) []any {
		return []any{fixed(r.ID[:]), fixed(r.Principal[:]), &r.Kind, &r.Identity, moment{&r.Received}, moment{&r.Due}, moment{&r.Extended},
			moment{&r.OpenedAt}, fixed(r.OpenedBy[:]), moment{&r.ClosedAt}, fixed(r.ClosedBy[:]), &r.Outcome, moment{&r.HandedAt}, raw{&r.Words}}
	},
	values: func(r *storage.RightsRequest) []any {
		return []any{r.ID[:], r.Principal[:], string(r.Kind), string(r.Identity), micros(r.Received), micros(r.Due), micros(r.Extended),
			micros(r.OpenedAt), r.OpenedBy[:], micros(r.ClosedAt), r.ClosedBy[:], string(r.Outcome), micros(r.HandedAt), blob(r.Words)}
	},
}

var rightsUpsert = rightsRequests.upsert("id")

// PutRightsRequest adds a request to the register, or replaces it.
func (tx *Tx) PutRightsRequest(ctx context.Context, r storage.RightsRequest) error {
	return rightsRequests.insert(ctx, tx, "catalog.PutRightsRequest", rightsUpsert, r)
}

// RightsRequest reads one request.
func (tx *Tx) RightsRequest(ctx context.Context, id dataset.RightsID) (storage.RightsRequest, error) {
	return rightsRequests.one(ctx, tx, "catalog.RightsRequest", "WHERE id = $1", id[:])
}

// RightsRequests lists requests by ID.
func (tx *Tx) RightsRequests(ctx context.Context, q storage.RightsQuery) ([]storage.RightsRequest, error) {
	var w filter
	w.and("id > " + w.arg(q.After[:]))
	if !q.Principal.IsZero() {
		w.and("principal = " + w.arg(q.Principal[:]))
	}
	if q.Open {
		w.and("closed_at = 0")
	}
	return rightsRequests.list(ctx, tx, "catalog.RightsRequests", w.where()+"ORDER BY id LIMIT "+w.arg(page(q.Limit)), w.args...)
}

// CountRightsRequests counts the requests that are open, and those of them that
// are overdue at now.
func (tx *Tx) CountRightsRequests(ctx context.Context, now time.Time) (open, overdue int, err error) {
	err = tx.row(ctx, "catalog.CountRightsRequests",
		"SELECT COUNT(*), COUNT(CASE WHEN due <= $1 THEN 1 END) FROM rights_requests WHERE closed_at = 0", []any{micros(now)}, &open, &overdue)
	return open, overdue, err
}

// CloseErasures closes a person's open requests for erasure as done.
func (tx *Tx) CloseErasures(ctx context.Context, who, by dataset.PrincipalID, at time.Time) error {
	_, err := tx.exec(ctx, "catalog.CloseErasures",
		"UPDATE rights_requests SET closed_at = $2, closed_by = $3, outcome = $4 WHERE principal = $1 AND kind = $5 AND closed_at = 0",
		who[:], micros(at), by[:], string(dataset.Done), string(dataset.ErasureRequest))
	return err
}

// KeptRows counts rows of a person.
type KeptRows struct{ Signatures, Grants, Assignments, Choices, Requests int }

// KeptOf counts what stays of a person whom Forget has taken all names from.
func (tx *Tx) KeptOf(ctx context.Context, who dataset.PrincipalID) (KeptRows, error) {
	const op = "catalog.KeptOf"
	var k KeptRows
	for _, t := range []struct {
		name string
		into *int
	}{
		{"signatures", &k.Signatures}, {"grants", &k.Grants}, {"assignments", &k.Assignments},
		{"choices", &k.Choices}, {"rights_requests", &k.Requests},
	} {
		if err := tx.row(ctx, op, "SELECT COUNT(*) FROM "+t.name+" WHERE principal = $1", []any{who[:]}, t.into); err != nil {
			return k, err
		}
	}
	return k, nil
}
