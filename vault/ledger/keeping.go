package ledger

import (
	"context"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/vault/dataset"
)

// collectKeeping collects what keeps data, or lets it go: holds and retention.
func collectKeeping(ctx context.Context, tx *txView, after uint64, add func(rbac.Change) error) error {
	err := tx.HoldsSince(ctx, after, func(h dataset.Hold, _ uint64) error { return add(rbac.HoldChange{Hold: h}) })
	if err != nil {
		return err
	}
	return tx.RetentionsSince(ctx, after, func(r storage.Retention, _ uint64) error {
		if r.What != storage.KeepData {
			return nil
		}
		return add(rbac.RetentionChange{Scope: r.Scope, Period: r.Period})
	})
}
