package vault

import (
	"context"
	"errors"

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

// PlaceHold places a legal hold: from the moment that this returns nothing at its
// scope and below is deleted, by anybody, until it is released.
func (v *Vault) PlaceHold(ctx context.Context, c identity.Caller, req wire.NewHold) (wire.Hold, error) {
	const op = "vault.PlaceHold"
	if err := scopeGiven(op, req.Scope); err != nil {
		return wire.Hold{}, err
	}
	t, err := v.target(ctx, req.Scope)
	if err != nil {
		return wire.Hold{}, err
	}
	in := v.intent(c, audit.KindHoldPlace, t, rbac.Hold, rbac.Dataset)
	if !t.known {
		return wire.Hold{}, v.absent(ctx, t, in)
	}
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return wire.Hold{}, err
	}
	if err := checkText("reason", req.Reason, wire.MaxReason); err != nil {
		return wire.Hold{}, err
	}
	if req.Reason == "" {
		return wire.Hold{}, fault.New(fault.Invalid, op, "a hold has a reason").WithHint("give --reason, for example the reference of the case")
	}
	h := dataset.Hold{ID: dataset.NewID[dataset.HoldID](v.random), Scope: t.scope, Reason: req.Reason, By: c.Principal}
	erased := 0
	in.Fields = []audit.Field{audit.BytesField(audit.FieldHoldID, h.ID[:])}
	in.Note = map[string]string{"reason": h.Reason}
	in.PolicyChange = true
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) (err error) {
		h.At = tx.Now
		if erased, err = tx.CountDatasets(ctx, t.scope, true); err != nil {
			return err
		}
		if err := tx.AddHold(ctx, h, tx.Revision); err != nil {
			return err
		}
		return v.notify(ctx, tx, wire.NoticeHold, t.scope, wire.NoticeData{What: "placed"})
	}
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return wire.Hold{}, err
	}
	out := wireHold(h, func(id dataset.PrincipalID) string { return c.Handle })
	out.ReleasedBy, out.Erased = "", erased
	return out, nil
}

func wireHold(h dataset.Hold, name func(dataset.PrincipalID) string) wire.Hold {
	return wire.Hold{ID: h.ID, Scope: h.Scope, Reason: h.Reason, By: name(h.By), Placed: h.At.UTC(), Released: timePtr(h.Released), ReleasedBy: name(h.ReleasedBy)}
}

// ReleaseHold ends a hold. Others at the same scope, above or below stay.
func (v *Vault) ReleaseHold(ctx context.Context, c identity.Caller, id dataset.HoldID, reason string) (wire.Hold, error) {
	h := dataset.Hold{Scope: dataset.Root}
	err := v.db.View(ctx, func(tx *catalog.Tx) error {
		found, err := tx.Hold(ctx, id)
		if err == nil {
			h = found
		}
		return none(err)
	})
	if err != nil {
		return wire.Hold{}, err
	}
	t, err := v.target(ctx, h.Scope)
	if err != nil {
		return wire.Hold{}, err
	}
	in := v.intent(c, audit.KindHoldRelease, t, rbac.Release, rbac.Dataset)
	if h.ID != id {
		return wire.Hold{}, noCheck(v.absent(ctx, t, in)) // not to be told from one that is hidden
	}
	if err := checkText("reason", reason, wire.MaxReason); err != nil {
		return wire.Hold{}, err
	}
	if err := v.mayAsk(ctx, in); err != nil {
		return wire.Hold{}, err
	}
	released := fault.New(fault.Conflict, "vault.ReleaseHold", "the hold was released before").WithHint("`dsvault hold list --ended` shows when, and by whom")
	if !h.Released.IsZero() {
		return wire.Hold{}, released
	}
	in.Fields = []audit.Field{audit.BytesField(audit.FieldHoldID, id[:])}
	if reason != "" {
		in.Note = map[string]string{"reason": reason}
	}
	in.PolicyChange = true
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		err := tx.ReleaseHold(ctx, id, c.Principal, tx.Now, tx.Revision)
		if errors.Is(err, storage.ErrNoRow) {
			return released
		}
		h.Released, h.ReleasedBy = tx.Now, c.Principal
		if err == nil {
			err = tx.ResetRetentionDone(ctx) // what the hold has kept comes to its turn
		}
		if err != nil {
			return err
		}
		return v.notify(ctx, tx, wire.NoticeHold, t.scope, wire.NoticeData{What: "released"})
	}
	second, err := v.twoPeople(ctx, c, &in, map[string]string{"hold": id.String(), "reason": reason})
	if err != nil {
		return wire.Hold{}, err
	}
	if second.Pending == nil {
		if _, err := v.ledger.Record(ctx, in); err != nil {
			return wire.Hold{}, err
		}
		v.chores.wakeUp()
	}
	var out wire.Hold
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		out = wireHold(h, v.names(ctx, tx))
		return nil
	})
	out.Pending = second.Pending
	return out, err
}

// releaseAsAsked releases the hold that was asked for and approved.
func (v *Vault) releaseAsAsked(ctx context.Context, asker identity.Caller, terms map[string]string) error {
	id, err := dataset.ParseID[dataset.HoldID](terms["hold"])
	if err == nil {
		_, err = v.ReleaseHold(ctx, asker, id, terms["reason"])
	}
	return err
}

// Holds lists the holds that concern a scope, in the order in which they were
// placed. Of one above it, those who may not read the holds there learn that it
// is, and not why.
func (v *Vault) Holds(ctx context.Context, c identity.Caller, scope dataset.Scope, ended bool, after dataset.HoldID, limit int) (wire.Page[wire.Hold], error) {
	page := wire.Page[wire.Hold]{Items: []wire.Hold{}}
	t, err := v.target(ctx, scope)
	if err != nil {
		return page, err
	}
	in := v.intent(c, audit.KindList, t, rbac.Read, rbac.HoldObj)
	if !t.known {
		return page, v.absent(ctx, t, in)
	}
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return page, err
	}
	limit = clip(limit, wire.MaxPage)
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		rows, err := tx.Holds(ctx, t.scope, ended, after, limit)
		if err != nil {
			return err
		}
		name := v.names(ctx, tx)
		for _, h := range rows {
			w := wireHold(h, name)
			q := in.Query
			q.Object.Scope = h.Scope
			reads, err := v.allowed(ctx, q)
			if err != nil {
				return err
			}
			if !reads {
				w.Reason, w.By, w.ReleasedBy = "", "", ""
			}
			page.Items = append(page.Items, w)
		}
		if len(rows) == limit {
			page.Next = rows[limit-1].ID.String()
		}
		return nil
	})
	return page, err
}

// errHeld is the answer where a hold stops what no decision was made on, such as
// the work of the clock.
func errHeld(op string, scope dataset.Scope) error {
	return fault.New(fault.Conflict, op, "a legal hold keeps "+scope.String()).WithHint("`dsvault hold list " + scope.String() + "` shows it")
}

// unheld refuses what would delete something at a scope or below while a hold is
// in force there, above or below. It is for the admitting transaction.
func unheld(ctx context.Context, tx *catalog.Tx, op string, scope dataset.Scope) error {
	holds, err := tx.Holds(ctx, scope, false, dataset.HoldID{}, 1)
	if err == nil && len(holds) > 0 {
		return errHeld(op, scope)
	}
	return err
}
