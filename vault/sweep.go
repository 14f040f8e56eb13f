package vault

import (
	"context"
	"errors"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
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
	for {
		if n, err := v.Sweep(ctx, cutoff); err != nil && ctx.Err() == nil {
			v.log.Warn("the sweep was cut short", "removed", n, "err", err)
		} else if n > 0 {
			v.log.Info("swept", "removed", n)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			cutoff = v.now().Add(-attemptLife)
		}
	}
}

// Sweep removes attempts begun before cutoff with their objects, objects that
// no row names, and the store's own leftovers. It gives how many it removed.
func (v *Vault) Sweep(ctx context.Context, cutoff time.Time) (int, error) {
	removed, err := v.sweepAttempts(ctx, cutoff)
	if err != nil {
		return removed, err
	}
	n, err := v.sweepObjects(ctx, cutoff)
	removed += n
	if err != nil {
		return removed, err
	}
	if s, ok := v.objects.(storage.Sweeper); ok {
		n, err = s.Sweep(ctx, cutoff)
		removed += n
	}
	return removed, err
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
			// The row goes first: a commit that comes late then fails, and an
			// object without a row is found by sweepObjects.
			err := v.update(ctx, func(tx *catalog.Tx) error { return tx.DropAttempt(ctx, a.ID) })
			if errors.Is(err, storage.ErrNoRow) {
				continue // it was committed just now
			}
			if err != nil {
				return removed, err
			}
			if err := v.objects.Delete(ctx, a.Key); err != nil {
				return removed, err
			}
			removed++
		}
	}
}

// sweepObjects deletes objects older than cutoff that neither a shard nor an
// attempt names. An attempt's row is written before its object, so an object
// without rows has been given up.
func (v *Vault) sweepObjects(ctx context.Context, cutoff time.Time) (int, error) {
	removed := 0
	for o, err := range v.objects.List(ctx, "v1/") {
		if err != nil {
			return removed, err
		}
		if !o.ModTime.Before(cutoff) {
			continue
		}
		orphan, err := v.orphan(ctx, o.Key)
		if err != nil {
			return removed, err
		}
		if !orphan {
			continue
		}
		if err := v.objects.Delete(ctx, o.Key); err != nil {
			return removed, err
		}
		removed++
	}
	return removed, nil
}

func (v *Vault) orphan(ctx context.Context, key string) (bool, error) {
	orphan := false
	err := v.db.View(ctx, func(tx *catalog.Tx) error {
		_, err := tx.ShardByKey(ctx, key)
		if errors.Is(err, storage.ErrNoRow) {
			_, err = tx.AttemptByKey(ctx, key)
		}
		if errors.Is(err, storage.ErrNoRow) {
			orphan, err = true, nil
		}
		return err
	})
	return orphan, err
}
