package vault

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/keys"
	"dsvault/vault/notary"
)

// openNotary compares the catalog with what was signed of its log.
func (v *Vault) openNotary(ctx context.Context, cfg Config) (err error) {
	v.notary, err = notary.Open(ctx, notary.Config{
		Catalog: v.db, Origin: v.origin, Keys: logKeys(v.keys), State: logState(v.keys, cfg.LogState), Logger: v.log,
		Elect: func(ctx context.Context, f func(context.Context)) { v.elected(ctx, "notary", f) },
		Tasks: []notary.Task{{Name: "statement", Every: notary.LookEvery, Run: func(ctx context.Context, size uint64) (uint64, error) {
			return v.statements.Run(ctx, size)
		}}},
	})
	return err
}

func logKeys(ring *keys.Ring) []notary.Key {
	return []notary.Key{{Signer: ring.Signer(), Verifier: ring.Verifier()}}
}

func logState(ring *keys.Ring, named string) string {
	if named != "" {
		return named
	}
	return filepath.Join(ring.Dir(), LogStateFile)
}

// elected runs f on one node at a time, this one if it is elected to what name
// says, until ctx ends. The context of f ends when another node may take over,
// some seconds after this one lost the database. f may return early, and is run
// again a little later.
func (v *Vault) elected(ctx context.Context, name string, f func(context.Context)) {
	v.db.Hold(ctx, catalog.Lease{Name: name, Holder: v.node, Alone: v.alone, Logger: v.log}, f)
}

// CheckpointLag is how long the oldest record that no signed checkpoint covers
// has been waiting for one; 0 if there is none.
func (v *Vault) CheckpointLag(ctx context.Context) (lag time.Duration, err error) {
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		cp, err := tx.Checkpoint(ctx)
		if err != nil && !errors.Is(err, storage.ErrNoRow) {
			return err
		}
		return tx.Leaves(ctx, storage.LeafQuery{From: cp.Size, Limit: 1}, func(l storage.Leaf) error {
			lag = max(0, v.now().Sub(time.UnixMicro(l.Time)))
			return nil
		})
	})
	return lag, err
}
