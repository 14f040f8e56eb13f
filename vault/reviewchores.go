package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/ledger"
)

// ReviewConfig is about the access reviews that the vault starts by itself.
type ReviewConfig struct {
	// Quarterly starts a review of each client, and one of what was given at the
	// vault itself, with every quarter of the year, by UTC.
	Quarterly bool
	// Days until what nobody has decided of them ends; 0 means 30.
	Days int
}

// quarter gives the name and the first moment of the quarter that t is in.
func quarter(t time.Time) (name string, start time.Time) {
	t = t.UTC()
	q := (int(t.Month()) - 1) / 3
	return fmt.Sprintf("%d-Q%d", t.Year(), q+1), time.Date(t.Year(), time.Month(3*q+1), 1, 0, 0, 0, 0, time.UTC)
}

// startReviews starts the reviews of this quarter that are not there yet, of the
// vault and the clients that there were when it began.
func (v *Vault) startReviews(ctx context.Context) error {
	period, start := quarter(v.now())
	if !v.reviews.Quarterly || v.reviewed == period {
		return nil
	}
	for next := uint64(0); ; {
		var rows []storage.ScopeRow
		err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
			rows, err = tx.ScopesFrom(ctx, next, catalog.MaxPage)
			return err
		})
		if err != nil {
			return err
		}
		for _, row := range rows {
			next = row.Slot + 1
			if row.Scope.Depth() > 1 || !row.CreatedAt.Before(start) {
				continue
			}
			if err := v.startScheduled(ctx, row, period); err != nil {
				return err
			}
		}
		if len(rows) < catalog.MaxPage {
			v.reviewed = period
			return nil
		}
	}
}

func (v *Vault) startScheduled(ctx context.Context, row storage.ScopeRow, period string) error {
	t := target{scope: row.Scope, row: row, known: true}
	started := false
	err := v.db.View(ctx, func(tx *catalog.Tx) error {
		_, err := tx.ReviewOfPeriod(ctx, row.Scope, period)
		started = err == nil
		return none(err)
	})
	if err != nil || started {
		return err
	}
	days := v.reviews.Days
	if days == 0 {
		days = defaultReviewDays
	}
	in := ledger.Intent{Kind: audit.KindAccessReviewStart, Own: true, Place: t.place(), Object: t.object()}
	r, err := v.addReview(ctx, in, t, storage.Review{Period: period, Here: row.Scope == dataset.Root, Deadline: v.now().AddDate(0, 0, days).Truncate(time.Microsecond)})
	switch {
	case errors.Is(err, errNotDue), errors.Is(err, errNoAccess):
		return nil
	case err != nil:
		return err
	}
	v.log.InfoContext(ctx, "an access review has begun", "review", r.ID, "period", period, "items", r.Items, "deadline", r.Deadline)
	return nil
}

// endReviews ends the reviews whose deadline has come: first, item by item, the
// access that nobody has decided on. After an interruption it goes on with what
// is left; a review has ended once nothing is.
func (v *Vault) endReviews(ctx context.Context) error {
	var due []storage.Review
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		due, err = tx.DueReviews(ctx, v.now())
		return err
	})
	if err != nil {
		return err
	}
	for _, r := range due {
		if err := v.expireReview(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

func (v *Vault) expireReview(ctx context.Context, r storage.Review) error {
	for {
		var open []storage.ReviewItem
		err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
			open, err = tx.ReviewItems(ctx, r.ID, true, -1, rowPage)
			return err
		})
		if err != nil {
			return err
		}
		if len(open) == 0 {
			break
		}
		for _, i := range open {
			if err := v.expireItem(ctx, i); err != nil {
				return err
			}
		}
	}
	t, err := v.target(ctx, r.Scope)
	if err != nil {
		return err
	}
	_, err = v.endReview(ctx, ledger.Intent{Kind: audit.KindAccessReviewEnd, Own: true, Place: t.place(), Object: t.object()}, r)
	if fault.Is(err, fault.Conflict) {
		return nil // somebody has just ended it
	}
	if err == nil {
		v.log.InfoContext(ctx, "an access review has ended at its deadline", "review", r.ID)
	}
	return err
}

// expireItem ends the access that nobody has decided on. The last admin stays,
// which is recorded.
func (v *Vault) expireItem(ctx context.Context, i storage.ReviewItem) error {
	t, err := v.target(ctx, i.Scope)
	if err != nil {
		return err
	}
	in := ledger.Intent{Kind: audit.KindRevoke, Own: true, Place: t.place(), Object: t.object()}
	if i.Kind == storage.ItemAssignment {
		in.Kind = audit.KindUnassign
	}
	i.Decision = storage.ItemExpired
	err = v.recordItem(ctx, in, i, t)
	if fault.Is(err, fault.Conflict) && i.Role == dataset.Admin && i.Scope == dataset.Root {
		in.Kind, i.Decision = audit.KindAccessReviewDecide, storage.ItemKeep
		in.Fields = []audit.Field{audit.StringField(audit.FieldCause, "the last admin")}
		err = v.recordItem(ctx, in, i, t)
	}
	if fault.Is(err, fault.Conflict) {
		return nil // somebody has just decided
	}
	return err
}
