package catalog

import (
	"context"
	"time"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

// optional scans a blob of this length, or an empty one, which is zeros.
type optional []byte

func (o optional) Scan(value any) error {
	if b, ok := value.([]byte); value == nil || ok && len(b) == 0 {
		clear(o)
		return nil
	}
	return fixed(o).Scan(value)
}

// someone gives what optional scans.
func someone(id dataset.PrincipalID) []byte {
	if id.IsZero() {
		return []byte{}
	}
	return id[:]
}

var approvals = table[storage.Approval]{
	name: "approvals", columns: "id, requester, action, kind, path, target, terms_hash, terms, withheld, state, requested_at, expires, " +
		"decided_at, decided_by, until, used_at, revision",
	into: func(a *storage.Approval) []any {
		return []any{fixed(a.ID[:]), fixed(a.Requester[:]), &a.Action, &a.Kind, text{&a.Scope}, fixed(a.Target[:]), fixed(a.TermsHash[:]),
			raw{&a.Terms}, moment{&a.Withheld}, &a.State, moment{&a.RequestedAt}, moment{&a.Expires}, moment{&a.DecidedAt}, fixed(a.DecidedBy[:]),
			moment{&a.Until}, moment{&a.UsedAt}, &a.Revision}
	},
	values: func(a *storage.Approval) []any {
		return []any{a.ID[:], a.Requester[:], a.Action, a.Kind, a.Scope.String(), a.Target[:], a.TermsHash[:],
			blob(a.Terms), micros(a.Withheld), string(a.State), micros(a.RequestedAt), micros(a.Expires), micros(a.DecidedAt), a.DecidedBy[:],
			micros(a.Until), micros(a.UsedAt), int64(a.Revision)}
	},
}

// AddApproval adds a request. Its requester has to be there: storage.ErrNoRow
// if not.
func (tx *Tx) AddApproval(ctx context.Context, a storage.Approval) error {
	return approvals.insert(ctx, tx, "catalog.AddApproval", "", a)
}

// Approval reads one.
func (tx *Tx) Approval(ctx context.Context, id dataset.ApprovalID) (storage.Approval, error) {
	return approvals.one(ctx, tx, "catalog.Approval", "WHERE id = $1", id[:])
}

// AskedApproval reads the approval of exactly this question that is open, or
// was given and is not used, and holds at now: storage.ErrNoRow if there is
// none.
func (tx *Tx) AskedApproval(ctx context.Context, q storage.Asked, now time.Time) (storage.Approval, error) {
	return approvals.one(ctx, tx, "catalog.AskedApproval",
		"WHERE requester = $1 AND path = $2 AND action = $3 AND kind = $4 AND target = $5 AND terms_hash = $6 AND "+
			"(state = 'open' AND expires > $7 OR state = 'approved' AND until > $7) ORDER BY requested_at DESC, id DESC LIMIT 1",
		q.Requester[:], q.Scope.String(), q.Action, q.Kind, q.Target[:], q.TermsHash[:], micros(now))
}

// Approvals lists approvals, the newest request first.
func (tx *Tx) Approvals(ctx context.Context, q storage.ApprovalQuery) ([]storage.Approval, error) {
	var w filter
	w.under(q.Under)
	switch now := micros(q.Now); q.State {
	case "":
	case storage.ApprovalOpen:
		w.and("state = 'open' AND expires > " + w.arg(now))
	case storage.ApprovalGiven:
		w.and("state = 'approved' AND until > " + w.arg(now))
	case storage.ApprovalExpired:
		w.and("(state = 'open' AND expires <= " + w.arg(now) + " OR state = 'approved' AND until <= " + w.arg(now) + ")")
	default:
		w.and("state = " + w.arg(string(q.State)))
	}
	if !q.Requester.IsZero() {
		w.and("requester = " + w.arg(q.Requester[:]))
	}
	if !q.Before.IsZero() {
		w.and("(requested_at, id) < (SELECT requested_at, id FROM approvals WHERE id = " + w.arg(q.Before[:]) + ")")
	}
	return approvals.list(ctx, tx, "catalog.Approvals", w.where()+"ORDER BY requested_at DESC, id DESC LIMIT "+w.arg(page(q.Limit)), w.args...)
}

// DecideApproval sets what somebody has decided about an open request:
// storage.ErrNoRow if it is not open any more.
func (tx *Tx) DecideApproval(ctx context.Context, a storage.Approval) error {
	return tx.change(ctx, "catalog.DecideApproval",
		"UPDATE approvals SET state = $2, decided_at = $3, decided_by = $4, until = $5, revision = $6 WHERE id = $1 AND state = 'open'",
		a.ID[:], string(a.State), micros(a.DecidedAt), a.DecidedBy[:], micros(a.Until), int64(a.Revision))
}

// UseApproval uses one up that was given: storage.ErrNoRow if it was used
// already, or was never given.
func (tx *Tx) UseApproval(ctx context.Context, id dataset.ApprovalID, at time.Time, rev uint64) error {
	return tx.change(ctx, "catalog.UseApproval", "UPDATE approvals SET state = 'used', used_at = $2, revision = $3 WHERE id = $1 AND state = 'approved'",
		id[:], micros(at), int64(rev))
}

// ApprovalsSince streams the approvals changed after revision rev, in the order
// of their revisions; those that nobody has given have none. The transaction
// cannot be used inside f.
func (tx *Tx) ApprovalsSince(ctx context.Context, rev uint64, f func(storage.Approval, uint64) error) error {
	return since(ctx, tx, &approvals, "catalog.ApprovalsSince", rev, func(a storage.Approval) error { return f(a, a.Revision) })
}
