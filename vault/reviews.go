package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/ledger"
	"dsvault/vault/wire"
)

const (
	defaultReviewDays = 30
	unusedAfter       = 90 * 24 * time.Hour // what was not used for so long is a finding
)

// What a review finds of access.
const (
	findUnused   = "unused"
	findStale    = "stale"
	findUnsigned = "unsigned"
	findDisabled = "disabled"
)

// StartReview begins an access review of a scope and below. Its items are all
// ways by which somebody has access there now; grants above the scope are shown
// with them. Nothing changes until items are decided.
func (v *Vault) StartReview(ctx context.Context, c identity.Caller, req wire.NewReview) (wire.AccessReview, error) {
	const op = "vault.StartReview"
	t, err := v.target(ctx, req.Scope)
	if err != nil {
		return wire.AccessReview{}, err
	}
	in := v.intent(c, audit.KindAccessReviewStart, t, rbac.Review, rbac.GrantObj)
	if !t.known {
		return wire.AccessReview{}, v.absent(ctx, t, in)
	}
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return wire.AccessReview{}, err
	}
	if req.Days == 0 {
		req.Days = defaultReviewDays
	}
	if req.Days < 1 || req.Days > wire.MaxReviewDays {
		return wire.AccessReview{}, fault.New(fault.Invalid, op, "a review lasts from a day to a year").WithHint("give --deadline, for example 30d")
	}
	r, err := v.addReview(ctx, in, t, storage.Review{StartedBy: c.Principal, Deadline: v.now().AddDate(0, 0, req.Days).Truncate(time.Microsecond)})
	if errors.Is(err, errNoAccess) {
		err = fault.Wrap(fault.Conflict, op, "nobody was given access at "+t.scope.String()+" or below", err).WithHint("review the scope above")
	}
	if err != nil {
		return wire.AccessReview{}, err
	}
	return v.wireReview(ctx, r)
}

// errNoAccess: there is nothing to review.
var errNoAccess = errors.New("no access to review")

// addReview records a review with its items.
func (v *Vault) addReview(ctx context.Context, in ledger.Intent, t target, r storage.Review) (storage.Review, error) {
	r.ID, r.Slot, r.Scope, r.State = dataset.NewID[dataset.ReviewID](v.random), t.row.Slot, t.scope, storage.ReviewOpen
	items, err := v.accessAt(ctx, r)
	if err != nil {
		return r, err
	}
	r.Items = len(items)
	in.Fields = append(in.Fields, audit.BytesField(audit.FieldReviewID, r.ID[:]), audit.Uint64Field(audit.FieldCount, uint64(r.Items)),
		audit.Uint64Field(audit.FieldUntil, uint64(r.Deadline.UnixMicro())))
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		if r.Period != "" { // the log's lock makes one node start it
			_, err := tx.ReviewOfPeriod(ctx, r.Scope, r.Period)
			if err == nil {
				return errNotDue
			}
			if none(err) != nil {
				return err
			}
		}
		r.StartedAt = tx.Now
		return tx.AddReview(ctx, r, items)
	}
	_, err = v.ledger.Record(ctx, in)
	return r, err
}

// Reviews lists the access reviews at a scope and below, the newest first, to
// those who may read who has access there.
func (v *Vault) Reviews(ctx context.Context, c identity.Caller, scope dataset.Scope, after string, limit int) (wire.Page[wire.AccessReview], error) {
	page := wire.Page[wire.AccessReview]{Items: []wire.AccessReview{}}
	t, err := v.target(ctx, scope)
	if err != nil {
		return page, err
	}
	var before dataset.ReviewID
	if after != "" {
		if before, err = dataset.ParseID[dataset.ReviewID](after); err != nil {
			return page, err
		}
	}
	in := v.intent(c, audit.KindList, t, rbac.Read, rbac.GrantObj)
	if !t.known {
		return page, v.absent(ctx, t, in)
	}
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return page, err
	}
	limit = clip(limit, 100) // each is counted
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		rows, err := tx.Reviews(ctx, t.scope, before, limit)
		if err != nil {
			return err
		}
		names := v.names(ctx, tx)
		for _, r := range rows {
			w, err := wireReview(ctx, tx, r, names)
			if err != nil {
				return err
			}
			page.Items = append(page.Items, w)
		}
		if len(rows) == limit {
			page.Next = rows[len(rows)-1].ID.String()
		}
		return nil
	})
	return page, err
}

// findReview finds a review with its scope; for one that is not there it gives
// the zero Review and the whole vault.
func (v *Vault) findReview(ctx context.Context, id dataset.ReviewID) (storage.Review, target, error) {
	r := storage.Review{Scope: dataset.Root}
	err := v.db.View(ctx, func(tx *catalog.Tx) error {
		found, err := tx.Review(ctx, id)
		if err == nil {
			r = found
		}
		return none(err)
	})
	if err != nil {
		return r, target{}, err
	}
	t, err := v.target(ctx, r.Scope)
	return r, t, err
}

// reviewFor finds a review on which the caller may do something.
func (v *Vault) reviewFor(ctx context.Context, c identity.Caller, id dataset.ReviewID, kind audit.Kind, act rbac.Action) (storage.Review, target, ledger.Intent, error) {
	r, t, err := v.findReview(ctx, id)
	if err != nil {
		return r, t, ledger.Intent{}, err
	}
	in := v.intent(c, kind, t, act, rbac.GrantObj)
	_, err = v.ledger.Check(ctx, in)
	if r.ID != id {
		err = noCheck(err)
	}
	return r, t, in, err
}

// Review tells how an access review stands.
func (v *Vault) Review(ctx context.Context, c identity.Caller, id dataset.ReviewID) (wire.AccessReview, error) {
	r, _, _, err := v.reviewFor(ctx, c, id, audit.KindList, rbac.Read)
	if err != nil {
		return wire.AccessReview{}, err
	}
	return v.wireReview(ctx, r)
}

// ReviewItems lists the items of a review, from the one behind number after
// (-1: the first).
func (v *Vault) ReviewItems(ctx context.Context, c identity.Caller, id dataset.ReviewID, after, limit int) (wire.Page[wire.ReviewItem], error) {
	page := wire.Page[wire.ReviewItem]{Items: []wire.ReviewItem{}}
	if _, _, _, err := v.reviewFor(ctx, c, id, audit.KindList, rbac.Read); err != nil {
		return page, err
	}
	limit = clip(limit, wire.MaxPage)
	err := v.db.View(ctx, func(tx *catalog.Tx) error {
		rows, err := tx.ReviewItems(ctx, id, false, after, limit)
		if err != nil {
			return err
		}
		names := v.names(ctx, tx)
		for _, i := range rows {
			w, err := wireItem(ctx, tx, i, names)
			if err != nil {
				return err
			}
			page.Items = append(page.Items, w)
		}
		if len(rows) == limit {
			page.Next = fmt.Sprint(rows[len(rows)-1].Number)
		}
		return nil
	})
	return page, err
}

// DecideItems keeps or revokes the access of items, one after the other; each is
// a record of its own, and what is revoked has ended when it is there. Nobody
// decides on their own access.
func (v *Vault) DecideItems(ctx context.Context, c identity.Caller, id dataset.ReviewID, req wire.DecideItems) (wire.AccessReview, error) {
	const op = "vault.DecideItems"
	decision := storage.ItemDecision(req.Decide)
	switch {
	case decision != storage.ItemKeep && decision != storage.ItemRevoke:
		return wire.AccessReview{}, fault.New(fault.Invalid, op, "items are kept or revoked").WithHint("say keep or revoke")
	case len(req.Items) == 0 || len(req.Items) > wire.MaxDecideItems:
		return wire.AccessReview{}, fault.New(fault.Invalid, op, "name from 1 to 1000 items").WithHint("`dsvault review show` numbers them")
	}
	r, _, _, err := v.reviewFor(ctx, c, id, audit.KindList, rbac.Read)
	if err != nil {
		return wire.AccessReview{}, err
	}
	for _, n := range req.Items {
		var item storage.ReviewItem
		err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
			item, err = tx.ReviewItem(ctx, id, n)
			return err
		})
		if errors.Is(err, storage.ErrNoRow) {
			err = fault.Wrap(fault.Invalid, op, fmt.Sprintf("the review has no item %d", n), err).WithHint("`dsvault review show " + id.String() + "` numbers them")
		}
		if err == nil {
			err = v.decideItem(ctx, c, r, item, decision)
		}
		if err != nil {
			return wire.AccessReview{}, err
		}
	}
	return v.wireReview(ctx, r)
}

// decideItem records one decision of somebody.
func (v *Vault) decideItem(ctx context.Context, c identity.Caller, r storage.Review, i storage.ReviewItem, decision storage.ItemDecision) error {
	const op = "vault.DecideItems"
	t, err := v.target(ctx, i.Scope)
	if err != nil {
		return err
	}
	in := v.intent(c, audit.KindAccessReviewDecide, t, rbac.Review, rbac.GrantObj)
	in.Query.Target = i.Principal
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		p, err := tx.Principal(ctx, i.Principal)
		in.Note = map[string]string{"person": p.Handle}
		return missingRow("person", err)
	})
	if err != nil {
		return err
	}
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return err
	}
	switch {
	case i.Kind == storage.ItemAbove:
		return fault.New(fault.Conflict, op, fmt.Sprintf("item %d was given at %s, above the review", i.Number, i.Scope)).
			WithHint("decide on it in a review of " + i.Scope.String() + ", or revoke it there")
	case i.Decision == decision:
		return nil
	}
	if decision == storage.ItemRevoke {
		in.Kind, in.Query.Action = audit.KindRevoke, rbac.Revoke
		if i.Kind == storage.ItemAssignment {
			in.Kind, in.Query.Object.Kind = audit.KindUnassign, rbac.AssignmentObj
		}
	}
	i.Decision, i.DecidedBy = decision, c.Principal
	return v.recordItem(ctx, in, i, t)
}

// recordItem records a decision and, unless the access is kept, ends it in the
// same transaction.
func (v *Vault) recordItem(ctx context.Context, in ledger.Intent, i storage.ReviewItem, t target) error {
	const op = "vault.recordItem"
	in.Fields = append(in.Fields, audit.BytesField(audit.FieldReviewID, i.Review[:]), audit.StringField(audit.FieldJudgement, string(i.Decision)))
	if i.Kind == storage.ItemAssignment {
		in.Fields = append(in.Fields, audit.BytesField(audit.FieldAssignmentID, i.Access[:]), shardSetField(i.Shards))
	} else {
		in.Fields = append(in.Fields, audit.BytesField(audit.FieldGrantID, i.Access[:]), audit.StringField(audit.FieldRole, string(i.Role)))
	}
	tag, err := v.keys.Tag(ctx, i.Principal, t.row.Tag)
	if err == nil {
		in.Fields = append(in.Fields, audit.BytesField(audit.FieldSubjectTag, tag[:]))
	} else if !errors.Is(err, ledger.ErrForgotten) {
		return err
	}
	in.PolicyChange = i.Decision != storage.ItemKeep
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		i.DecidedAt = tx.Now
		if err := tx.DecideItem(ctx, i); err != nil {
			if errors.Is(err, storage.ErrNoRow) {
				return fault.Wrap(fault.Conflict, op, fmt.Sprintf("item %d has ended, or the review has", i.Number), err).
					WithHint("`dsvault review show` tells how it stands")
			}
			return err
		}
		if i.Decision == storage.ItemKeep {
			return nil
		}
		return v.endAccess(ctx, tx, i)
	}
	_, err = v.ledger.Record(ctx, in)
	return err
}

// endAccess ends what an item is about; what has ended otherwise meanwhile is
// fine. The vault is never left without an admin.
func (v *Vault) endAccess(ctx context.Context, tx *ledger.Tx, i storage.ReviewItem) error {
	if i.Kind == storage.ItemAssignment {
		return none(tx.EndAssignment(ctx, i.Access, tx.Now, tx.Revision))
	}
	if i.Role == dataset.Admin && i.Scope == dataset.Root {
		if err := v.keepAdmin(ctx, tx, i.Principal); err != nil {
			return err
		}
	}
	return none(tx.EndGrant(ctx, i.Access, tx.Now, tx.Revision))
}

// FinishReview ends a review of which every item is decided.
func (v *Vault) FinishReview(ctx context.Context, c identity.Caller, id dataset.ReviewID) (wire.AccessReview, error) {
	r, _, in, err := v.reviewFor(ctx, c, id, audit.KindAccessReviewEnd, rbac.Review)
	if err != nil {
		return wire.AccessReview{}, err
	}
	r.EndedBy = c.Principal
	if r, err = v.endReview(ctx, in, r); err != nil {
		return wire.AccessReview{}, err
	}
	return v.wireReview(ctx, r)
}

// endReview records the end of a review, with a digest of its decisions.
func (v *Vault) endReview(ctx context.Context, in ledger.Intent, r storage.Review) (storage.Review, error) {
	const op = "vault.FinishReview"
	in.Apply = func(ctx context.Context, tx *ledger.Tx, in *ledger.Intent) error {
		n, err := tx.CountReview(ctx, r.ID)
		if err != nil {
			return err
		}
		if n.Undecided > 0 {
			return fault.New(fault.Conflict, op, fmt.Sprintf("%d items are undecided", n.Undecided)).
				WithHint("decide on them; what is undecided at " + r.Deadline.UTC().Format(time.RFC3339) + " ends then")
		}
		digest := newReviewDigest()
		if err := eachItem(ctx, tx.Tx, r.ID, func(i storage.ReviewItem) error { digest.add(i); return nil }); err != nil {
			return err
		}
		r.State, r.EndedAt, r.Digest = storage.ReviewEnded, tx.Now, digest.sum()
		in.Fields = append(in.Fields, audit.BytesField(audit.FieldReviewID, r.ID[:]), audit.BytesField(audit.FieldDigest, r.Digest),
			audit.Uint64Field(audit.FieldKept, uint64(n.Kept)), audit.Uint64Field(audit.FieldRevoked, uint64(n.Revoked)),
			audit.Uint64Field(audit.FieldExpiredItems, uint64(n.Expired)))
		err = tx.EndReview(ctx, r)
		if errors.Is(err, storage.ErrNoRow) {
			err = fault.Wrap(fault.Conflict, op, "the review has ended already", err).WithHint("`dsvault review show " + r.ID.String() + "` has its result")
		}
		return err
	}
	_, err := v.ledger.Record(ctx, in)
	return r, err
}

// eachItem goes through all items of a review, in order.
func eachItem(ctx context.Context, tx *catalog.Tx, id dataset.ReviewID, f func(storage.ReviewItem) error) error {
	for after := -1; ; {
		rows, err := tx.ReviewItems(ctx, id, false, after, catalog.MaxPage)
		if err != nil {
			return err
		}
		for _, i := range rows {
			after = i.Number
			if err := f(i); err != nil {
				return err
			}
		}
		if len(rows) < catalog.MaxPage {
			return nil
		}
	}
}
