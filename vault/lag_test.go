package vault_test

import (
	"context"
	"testing"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault"
)

// TestCheckpointLag: it counts from the oldest record that no checkpoint covers.
func TestCheckpointLag(t *testing.T) {
	w := newWorld(t)
	w.clock.Add(time.Minute)
	w.invite("ann")
	records, _ := w.pages(vault.LogQuery{})
	w.v.Close() // nobody signs from here on
	ctx := context.Background()
	w.clock.Add(time.Second)
	for covered, want := range map[int]time.Duration{1: 61 * time.Second, len(records) - 1: time.Second, 1 << 20: 0} {
		err := w.db.Update(ctx, func(tx *catalog.Tx) error {
			if err := tx.DropCheckpoint(ctx); err != nil {
				return err
			}
			return tx.SetCheckpoint(ctx, storage.Checkpoint{Size: uint64(covered), Note: []byte("x")})
		})
		if err != nil {
			t.Fatal(err)
		}
		if lag := must[time.Duration](t)(w.v.CheckpointLag(ctx)); lag != want {
			t.Errorf("with %d records covered: %s, want %s", covered, lag, want)
		}
	}
}
