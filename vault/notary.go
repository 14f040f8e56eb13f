package vault

import (
	"context"
	"crypto/sha256"
	"errors"
	"path/filepath"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/keys"
	"dsvault/vault/ledger"
	"dsvault/vault/notary"
)

// electNotary is what the node that signs the log is elected to.
const electNotary = "notary"

// openNotary compares the catalog with what was signed of its log.
func (v *Vault) openNotary(ctx context.Context, cfg LogConfig) (err error) {
	nc := notaryConfig(v.keys, v.db, cfg)
	nc.Logger, nc.Now = v.log, v.now
	nc.RecordKey = v.recordLogKey
	nc.Elect = func(ctx context.Context, f func(context.Context)) { v.elected(ctx, electNotary, f) }
	nc.Tasks = []notary.Task{{Name: "statement", Every: notary.LookEvery, Run: func(ctx context.Context, size uint64) (uint64, error) {
		return v.statements.Run(ctx, size)
	}}}
	nc.Bundle = v.anchorBundle
	v.notary, err = notary.Open(ctx, nc)
	return err
}

func notaryConfig(ring *keys.Ring, db *catalog.DB, cfg LogConfig) notary.Config {
	return notary.Config{
		Catalog: db, Origin: ring.LogName(), Keys: logKeys(ring), State: logState(ring, cfg.State),
		Witnesses: cfg.Witnesses, Anchor: cfg.Anchor, AnchorKeep: cfg.AnchorKeep,
	}
}

func logKeys(ring *keys.Ring) []notary.Key {
	var list []notary.Key
	for _, k := range ring.LogKeys() {
		list = append(list, notary.Key{Signer: k.Signer, Verifier: k.Verifier, Succession: k.Succession})
	}
	return list
}

func logState(ring *keys.Ring, named string) string {
	if named != "" {
		return named
	}
	return filepath.Join(ring.Dir(), LogStateFile)
}

// recordLogKey writes the leaf that names a new key of the log.
func (v *Vault) recordLogKey(ctx context.Context, key notary.Key, apply func(context.Context, *catalog.Tx) error) error {
	return recordLogKey(ctx, v.ledger, v.db, key, apply)
}

func recordLogKey(ctx context.Context, led *ledger.Ledger, db *catalog.DB, key notary.Key, apply func(context.Context, *catalog.Tx) error) error {
	hash := sha256.Sum256([]byte(key.Verifier))
	return recordOwn(ctx, led, db, ledger.Intent{
		Kind: audit.KindCheckpointKey, Object: audit.Object{Kind: audit.ObjectKey},
		Fields: []audit.Field{audit.BytesField(audit.FieldKeyHash, hash[:])},
	}, apply)
}

// recordOwn writes a record of the node's own in the vault's slot.
func recordOwn(ctx context.Context, led *ledger.Ledger, db *catalog.DB, in ledger.Intent, apply func(context.Context, *catalog.Tx) error) error {
	err := db.View(ctx, func(tx *catalog.Tx) error {
		root, err := tx.ScopeBySlot(ctx, 0)
		in.Place = ledger.Place{Slot: root.Slot, Tag: root.Tag}
		return err
	})
	if err != nil {
		return err
	}
	in.Own = true
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error { return apply(ctx, tx.Tx) }
	_, err = led.Record(ctx, in)
	return err
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
