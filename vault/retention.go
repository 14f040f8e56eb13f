package vault

import (
	"context"
	"slices"
	"strings"
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

// expiryWarning is how long before its expiry a dataset's is announced.
const expiryWarning = 14 * 24 * time.Hour

// SetRetention says how long data, results, details of records, or personal data are kept
// at a scope and below, until a nearer scope says otherwise.
func (v *Vault) SetRetention(ctx context.Context, c identity.Caller, req wire.NewRetention) (wire.Retention, error) {
	const op = "vault.SetRetention"
	if err := scopeGiven(op, req.Scope); err != nil {
		return wire.Retention{}, err
	}
	t, err := v.target(ctx, req.Scope)
	if err != nil {
		return wire.Retention{}, err
	}
	// Whoever may change what is asked of data may say how long it stays; what
	// is dropped of people is for those who may forget people.
	in := v.intent(c, audit.KindRetention, t, rbac.Update, rbac.Dataset)
	if req.What != storage.KeepData && req.What != storage.KeepResults {
		in = v.intent(c, audit.KindRetention, t, rbac.Anonymize, rbac.Person)
	}
	if !t.known {
		return wire.Retention{}, v.absent(ctx, t, in)
	}
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return wire.Retention{}, err
	}
	r := storage.Retention{Scope: t.scope, What: req.What, Basis: req.Basis, SetBy: c.Principal}
	switch {
	case !slices.Contains([]string{storage.KeepData, storage.KeepResults, storage.KeepLog, storage.KeepPersonal}, req.What):
		return wire.Retention{}, fault.New(fault.Invalid, op, "nothing of that name has a period").WithHint("name data, results, log or personal")
	case req.What == storage.KeepPersonal && t.scope != dataset.Root:
		return wire.Retention{}, fault.New(fault.Invalid, op, "people are not of one client").WithHint("set it for the vault: /")
	case req.Period != "":
		if r.Period, err = dataset.ParsePeriod(req.Period); err != nil {
			return wire.Retention{}, err
		}
		in.Fields = append(in.Fields, audit.StringField(audit.FieldPeriod, r.Period.String()))
	}
	if err := checkText("basis", req.Basis, wire.MaxReason); err != nil {
		return wire.Retention{}, err
	}
	in.Fields = append(in.Fields, audit.StringField(audit.FieldWhat, r.What))
	if r.Basis != "" {
		in.Note = map[string]string{"basis": r.Basis}
	}
	in.PolicyChange = true
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		r.SetAt, r.Revision = tx.Now, tx.Revision
		return tx.PutRetention(ctx, r)
	}
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return wire.Retention{}, err
	}
	v.chores.wakeUp()
	return wireRetention(r, c.Handle), nil
}

func wireRetention(r storage.Retention, by string) wire.Retention {
	return wire.Retention{Scope: r.Scope, What: r.What, Period: r.Period.String(), Basis: r.Basis, By: by, Set: r.SetAt.UTC()}
}

// Retentions lists what was said for a scope, above and below it, to those who
// may read its record.
func (v *Vault) Retentions(ctx context.Context, c identity.Caller, scope dataset.Scope, after string, limit int) (wire.Page[wire.Retention], error) {
	page := wire.Page[wire.Retention]{Items: []wire.Retention{}}
	t, err := v.target(ctx, scope)
	if err != nil {
		return page, err
	}
	in := v.intent(c, audit.KindList, t, rbac.Read, recordKind(t.scope))
	if !t.known {
		return page, v.absent(ctx, t, in)
	}
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return page, err
	}
	limit = clip(limit, wire.MaxPage)
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		rows, err := tx.Retentions(ctx, t.scope, after, limit)
		name := v.names(ctx, tx)
		for _, r := range rows {
			if r.Scope != dataset.Root {
				if seen, err := v.visible(ctx, c, r.Scope); err != nil {
					return err
				} else if !seen {
					continue
				}
			}
			w := wireRetention(r, name(r.SetBy))
			if r.Scope.Contains(t.scope) && r.Scope != t.scope {
				q := in.Query
				q.Object = rbac.Object{Kind: recordKind(r.Scope), Scope: r.Scope, Shard: -1}
				if reads, err := v.allowed(ctx, q); err != nil {
					return err
				} else if !reads { // it holds here; what it rests on is others' matter
					w.Basis, w.By = "", ""
				}
			}
			page.Items = append(page.Items, w)
		}
		if len(rows) == limit {
			page.Next = rows[limit-1].Scope.String() + " " + rows[limit-1].What
		}
		return err
	})
	return page, err
}

// retentionOf gives the nearest retention of a kind at a scope.
func retentionOf(list []storage.Retention, what string, scope dataset.Scope) (near storage.Retention, found bool) {
	for _, r := range list {
		if r.What == what && r.Scope.Contains(scope) && (!found || near.Scope.Contains(r.Scope)) {
			near, found = r, true
		}
	}
	return near, found
}

// allRetentions reads every retention.
func (v *Vault) allRetentions(ctx context.Context) (all []storage.Retention, err error) {
	for after := ""; ; {
		var list []storage.Retention
		err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
			list, err = tx.Retentions(ctx, dataset.Root, after, catalog.MaxPage)
			return err
		})
		if all = append(all, list...); err != nil || len(list) < catalog.MaxPage {
			return all, err
		}
		last := list[len(list)-1]
		after = last.Scope.String() + " " + last.What
	}
}

// warnOfExpiry records, once for each moment of expiry, that a dataset expires
// soon. One under a hold does not.
func (v *Vault) warnOfExpiry(ctx context.Context) error {
	if err := v.ledger.CatchUp(ctx); err != nil {
		return err
	}
	now := v.now()
	for _, k := range v.world.ExpiringBy(now.Add(expiryWarning)) {
		if k.Held || !k.Expires.After(now) {
			continue
		}
		if err := v.warnOf(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

func (v *Vault) warnOf(ctx context.Context, k rbac.Keeping) error {
	t, err := v.target(ctx, k.Scope)
	if err != nil {
		return err
	}
	due := k.Expires.Truncate(time.Microsecond)
	var warned time.Time
	err = v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		warned, err = tx.Warned(ctx, t.row.Tag)
		return err
	})
	if err != nil || warned.Equal(due) {
		return err
	}
	_, err = v.ledger.Record(ctx, ledger.Intent{
		Kind: audit.KindExpiryWarn, Own: true, Place: t.place(), Object: t.object(),
		Fields: []audit.Field{audit.Uint64Field(audit.FieldUntil, uint64(due.UnixMicro()))},
		Apply: func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
			if err := tx.SetWarned(ctx, t.row.Tag, due); err != nil {
				return err
			}
			return v.notify(ctx, tx, wire.NoticeDeadline, k.Scope, wire.NoticeData{What: "retention", Until: timePtr(due)})
		},
	})
	if err == nil {
		v.log.InfoContext(ctx, "a dataset expires soon", "dataset", dataset.DatasetID(t.object().ID), "expires", due.Format(time.RFC3339))
	}
	return err
}

// eraseExpired starts the erasure of every dataset whose retention is over, but
// for those under a hold. Nobody has read them since that moment.
func (v *Vault) eraseExpired(ctx context.Context) error {
	if err := v.ledger.CatchUp(ctx); err != nil {
		return err
	}
	due := v.world.ExpiringBy(v.now())
	if len(due) == 0 {
		return nil
	}
	all, err := v.allRetentions(ctx)
	if err != nil {
		return err
	}
	for _, k := range due {
		if k.Held {
			continue
		}
		if err := v.expire(ctx, k, all); err != nil {
			return err
		}
	}
	return nil
}

func (v *Vault) expire(ctx context.Context, k rbac.Keeping, all []storage.Retention) error {
	t, err := v.target(ctx, k.Scope)
	if err != nil {
		return err
	}
	r, found := retentionOf(all, storage.KeepData, k.Scope)
	if !found {
		return nil // it was taken back just now
	}
	basis := strings.TrimSpace(r.Period.String() + " at " + r.Scope.String())
	if r.Basis != "" {
		basis += ", by " + r.Basis
	}
	e := storage.Erasure{ID: dataset.NewID[dataset.ErasureID](v.random), Slot: t.row.Slot, Scope: t.scope, Cause: storage.EraseRetention, Basis: basis}
	in := ledger.Intent{
		Kind: audit.KindExpire, Own: true, Place: t.place(), Object: t.object(),
		Fields: []audit.Field{audit.Uint64Field(audit.FieldUntil, uint64(k.Expires.UnixMicro())), audit.StringField(audit.FieldPeriod, r.Period.String())},
	}
	v.prepareErasure(&in, &e, func(ctx context.Context, tx *ledger.Tx) error { return v.stillDue(ctx, tx, t.scope) })
	err = v.startErasure(ctx, in)
	if fault.Is(err, fault.Conflict) { // a hold came, or somebody erased it, or its period was changed
		return nil
	}
	return err
}

// stillDue refuses, in the admitting transaction, to expire what does not expire
// by now: the period may have been changed, or a newer version has come.
func (v *Vault) stillDue(ctx context.Context, tx *ledger.Tx, scope dataset.Scope) error {
	d, err := tx.Dataset(ctx, scope)
	if err != nil {
		return missingRow("dataset", err)
	}
	list, err := tx.Retentions(ctx, scope, "", 0)
	if err != nil {
		return err
	}
	r, found := retentionOf(list, storage.KeepData, scope)
	if !found || r.Period.After(d.Since()).After(tx.Now) {
		return fault.New(fault.Conflict, "vault.expire", "the dataset does not expire yet")
	}
	return nil
}
