package vault

import (
	"context"
	"errors"
	"sync"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

const (
	sweepEvery  = time.Hour
	attemptLife = 24 * time.Hour // how long an upload may take before it counts as abandoned
)

// sweepForever clears what interrupted uploads have left: at the start, and
// then every hour. A vault that has the catalog to itself knows at its start
// that nobody goes on with older attempts.
func (v *Vault) sweepForever(ctx context.Context, exclusive bool) {
	cutoff := v.started
	if !exclusive {
		cutoff = v.now().Add(-attemptLife)
	}
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	var first sync.Once
	for {
		v.clearForgotten(ctx, false)
		if !exclusive {
			if err := v.dropEpochs(ctx); err != nil && ctx.Err() == nil {
				v.log.WarnContext(ctx, "the key of an old epoch is left in the key folder for now", "err", err)
			}
		}
		if n, err := v.Sweep(ctx, cutoff); err != nil && ctx.Err() == nil {
			v.log.WarnContext(ctx, "the sweep was cut short", "removed", n, "err", err)
		} else if n > 0 {
			v.log.InfoContext(ctx, "swept", "removed", n)
		}
		first.Do(func() { close(v.chores.swept) })
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			cutoff = v.now().Add(-attemptLife)
		}
	}
}

// Sweep removes attempts begun before cutoff with their objects, what clear
// could not remove, and the store's own leftovers. It gives how many it removed.
//
// A legal hold stops it: of the datasets under it nothing is removed, and while
// there is any, the store's leftovers stay, of which some cannot be told apart.
//
// It removes nothing that no row names. Every object has had a row from before
// its first byte, so one without is a sign of something else, such as a catalog
// that was restored from an older backup; its bytes may be wanted yet.
func (v *Vault) Sweep(ctx context.Context, cutoff time.Time) (int, error) {
	removed, err := v.sweepAttempts(ctx, cutoff)
	if err != nil {
		return removed, err
	}
	if s, ok := v.objects.(storage.Sweeper); ok && !v.world.AnyHold() {
		n, err := s.Sweep(ctx, cutoff)
		return removed + n, err
	}
	return removed, nil
}

func (v *Vault) sweepAttempts(ctx context.Context, cutoff time.Time) (int, error) {
	const batch = 200
	removed := 0
	for {
		var list []storage.Attempt
		err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
			list, err = tx.Attempts(ctx, cutoff, batch)
			return err
		})
		if err != nil || len(list) == 0 {
			return removed, err
		}
		for _, a := range list {
			if a, err = v.doom(ctx, a); errors.Is(err, storage.ErrNoRow) {
				continue // it was committed just now
			}
			if err == nil {
				err = v.delete(ctx, a)
			}
			if err != nil {
				return removed, err
			}
			removed++
		}
	}
}

// leftover is the row that keeps the objects of a shard which is no shard any
// more in mind until they are gone.
func (v *Vault) leftover(s storage.Shard) storage.Attempt {
	return storage.Attempt{
		ID: dataset.NewID[dataset.AttemptID](v.random), Dataset: s.Dataset, Number: s.Number, Key: s.Key, Index: s.Index, StartedAt: s.CommittedAt,
	}
}

// doom takes an attempt away from whoever may still be about to commit it, in
// one transaction: its objects keep a row, under another ID.
func (v *Vault) doom(ctx context.Context, a storage.Attempt) (storage.Attempt, error) {
	if a.StartedBy.IsZero() {
		return a, nil // it is nobody's already
	}
	doomed := storage.Attempt{
		ID: dataset.NewID[dataset.AttemptID](v.random), Dataset: a.Dataset, Number: a.Number, Key: a.Key, StartedAt: a.StartedAt,
		Upload: a.Upload,
	}
	err := v.update(ctx, func(tx *catalog.Tx) error {
		now, err := tx.Attempt(ctx, a.ID) // it may have had an index since
		if err != nil {
			return err
		}
		doomed.Index = now.Index
		if err := tx.DropAttempt(ctx, a.ID); err != nil {
			return err
		}
		return tx.AddAttempt(ctx, doomed)
	})
	return doomed, err
}

// delete removes a doomed attempt's objects, then its row. A legal hold on its
// dataset stops it, and the row stays.
func (v *Vault) delete(ctx context.Context, doomed storage.Attempt) error {
	held := false
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		held, err = tx.DatasetHeld(ctx, doomed.Dataset)
		return err
	})
	if err != nil {
		return err
	}
	if held {
		return fault.New(fault.Conflict, "vault.delete", "a legal hold keeps the dataset").WithHint("`dsvault hold list` shows it")
	}
	if doomed.Index.Size != 0 {
		if err := v.objects.Delete(ctx, storage.IndexKey(doomed.Key)); err != nil {
			return err
		}
	}
	if err := errors.Join(v.abort(ctx, doomed), v.objects.Delete(ctx, doomed.Key)); err != nil {
		return err
	}
	err = v.update(ctx, func(tx *catalog.Tx) error { return tx.DropAttempt(ctx, doomed.ID) })
	if errors.Is(err, storage.ErrNoRow) {
		return nil // somebody else cleared it
	}
	return err
}

// clear deletes what nobody needs any more. If it fails the sweep does it.
func (v *Vault) clear(ctx context.Context, doomed storage.Attempt) {
	if err := v.delete(context.WithoutCancel(ctx), doomed); err != nil {
		v.log.WarnContext(ctx, "an object is left for the sweep", "key", doomed.Key, "err", err)
	}
}

// giveUp clears away an attempt that was refused.
func (v *Vault) giveUp(ctx context.Context, a storage.Attempt) {
	doomed, err := v.doom(context.WithoutCancel(ctx), a)
	if err == nil {
		v.clear(ctx, doomed)
	}
}

// remove deletes an object whose row has gone already.
func (v *Vault) remove(ctx context.Context, key string) {
	if err := v.objects.Delete(context.WithoutCancel(ctx), key); err != nil {
		v.log.WarnContext(ctx, "an object without a row could not be deleted", "key", key, "err", err)
	}
}
