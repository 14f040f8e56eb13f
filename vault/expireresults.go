package vault

import (
	"context"
	"errors"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/ledger"
)

// expireResults drops the returned work whose retention is over, but for that
// under a hold. Nobody has read it since that moment.
func (v *Vault) expireResults(ctx context.Context) error {
	if err := v.ledger.CatchUp(ctx); err != nil {
		return err
	}
	all, err := v.allRetentions(ctx)
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.What != storage.KeepResults || r.Period.IsZero() {
			continue
		}
		if err := v.expireResultsOf(ctx, r, all); err != nil {
			return err
		}
	}
	return nil
}

// expireResultsOf looks at the work that one retention is about, the oldest first.
func (v *Vault) expireResultsOf(ctx context.Context, r storage.Retention, all []storage.Retention) error {
	const atOnce = 200
	now := v.now()
	var last storage.Work
	for {
		var list []storage.Work
		err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
			list, err = tx.OldWork(ctx, r.Scope, now, last, atOnce)
			return err
		})
		if err != nil {
			return err
		}
		for _, w := range list {
			if last = w; r.Period.After(w.SubmittedAt).After(now) {
				return nil // what follows is younger
			}
			if near, _ := retentionOf(all, storage.KeepResults, w.Scope); near.Scope != r.Scope || v.world.Held(w.Scope) {
				continue
			}
			if err := v.expireResult(ctx, w, r.Period); err != nil {
				return err
			}
		}
		if len(list) < atOnce {
			return nil
		}
	}
}

// expireResult drops one piece of work on record, then its object. If that is
// broken off, the sweep has the row of an upload to find the object by.
func (v *Vault) expireResult(ctx context.Context, w storage.Work, period dataset.Period) error {
	t, err := v.target(ctx, w.Scope)
	if err != nil {
		return err
	}
	doomed := storage.Attempt{
		ID: dataset.NewID[dataset.AttemptID](v.random), Dataset: w.Dataset, Number: w.Number, Key: w.Key, StartedAt: v.now(),
	}
	in := ledger.Intent{
		Kind: audit.KindResultExpire, Own: true, Place: t.place(), Object: shardObject(w.Dataset, w.Number),
		Fields: []audit.Field{audit.BytesField(audit.FieldWorkID, w.ID[:]), audit.StringField(audit.FieldPeriod, period.String())},
	}
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		held, err := tx.DatasetHeld(ctx, w.Dataset)
		if err != nil {
			return err
		}
		over, err := resultOver(ctx, tx.Tx, w, tx.Now)
		if err != nil {
			return err
		}
		if held || !over { // a hold came, or the period was changed
			return errKept
		}
		if err := tx.DropWork(ctx, w.ID); err != nil {
			return err
		}
		return tx.AddAttempt(ctx, doomed)
	}
	_, err = v.ledger.Record(ctx, in)
	switch {
	case errors.Is(err, errKept), errors.Is(err, storage.ErrNoRow):
		return nil
	case err != nil:
		return err
	}
	v.clear(ctx, doomed)
	return nil
}

var errKept = fault.New(fault.Conflict, "vault.expireResult", "the result does not expire now")

// resultOver reports whether the retention of returned work is over.
func resultOver(ctx context.Context, tx *catalog.Tx, w storage.Work, now time.Time) (bool, error) {
	list, err := tx.Retentions(ctx, w.Scope, "", 0)
	if err != nil {
		return false, err
	}
	r, found := retentionOf(list, storage.KeepResults, w.Scope)
	return found && !r.Period.IsZero() && !r.Period.After(w.SubmittedAt).After(now), nil
}
