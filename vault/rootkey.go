package vault

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"slices"
	"time"

	"dsvault/rbac"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
	"dsvault/vault/keys"
	"dsvault/vault/ledger"
)

// RootKeyConfig is what RotateRootKey needs. Every field is required.
type RootKeyConfig struct {
	Catalog    *catalog.DB
	Dir        string          // the key folder
	Pass, Next keys.Passphrase // of the old root key, and of the new one
	Logger     *slog.Logger
	Now        func() time.Time
	Random     io.Reader
}

// RotateRootKey gives a vault another root key, on record, and destroys the old
// one: see keys.RotateRoot. It gives the hash of the new one's recipient. A
// catalog on which a server runs is fault.Conflict.
func RotateRootKey(ctx context.Context, cfg RootKeyConfig) (hash [32]byte, err error) {
	half, err := keys.Rotating(cfg.Dir)
	if err != nil {
		return hash, err
	}
	if !half { // the last moment to see that it is another's catalog
		ring, err := keys.Open(cfg.Dir, cfg.Pass, cfg.Catalog, cfg.Random)
		if err == nil {
			err = ownCatalog(ctx, cfg.Catalog, ring)
		}
		if err != nil {
			return hash, err
		}
	}
	ctx, release, err := standAlone(ctx, cfg.Catalog, cfg.Logger, cfg.Random)
	if err != nil {
		return hash, err
	}
	defer release()
	ring, err := keys.RotateRoot(cfg.Dir, cfg.Pass, cfg.Next, cfg.Catalog, func(ring *keys.Ring, retired [32]byte) error {
		return recordRootKey(ctx, cfg, ring, retired)
	})
	if err != nil {
		return hash, err
	}
	return ring.RootHash(), nil
}

// metaRetiredRoots has the hashes of the root keys that are not in force any more,
// one after the other: a node with an old copy of the keys folder is told by it.
const metaRetiredRoots = "retired-root-keys"

func retiredRoots(ctx context.Context, tx *catalog.Tx) ([][]byte, error) {
	value, err := tx.Meta(ctx, metaRetiredRoots)
	return slices.Collect(slices.Chunk(value, 32)), none(err)
}

func isRetired(list [][]byte, hash [32]byte) bool {
	return slices.ContainsFunc(list, func(h []byte) bool { return bytes.Equal(h, hash[:]) })
}

// recordRootKey writes the leaf that names the new root key, unless it is there.
func recordRootKey(ctx context.Context, cfg RootKeyConfig, ring *keys.Ring, retired [32]byte) error {
	if err := ownCatalog(ctx, cfg.Catalog, ring); err != nil {
		return err
	}
	var known [][]byte
	err := cfg.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		known, err = retiredRoots(ctx, tx)
		return err
	})
	if err != nil || isRetired(known, retired) {
		return err
	}
	led, err := ledger.Open(ctx, ledger.Config{
		Catalog: cfg.Catalog, World: rbac.NewPartial(rbac.Default()), Sealer: ring,
		Now: cfg.Now, Random: cfg.Random, Logger: cfg.Logger, LeaveOpen: true,
	})
	if err != nil {
		return err
	}
	defer led.Close()
	hash := ring.RootHash()
	return recordOwn(ctx, led, cfg.Catalog, ledger.Intent{
		Kind: audit.KindRootKeyRotate, Object: audit.Object{Kind: audit.ObjectKey},
		Fields: []audit.Field{audit.BytesField(audit.FieldKeyHash, hash[:])},
	}, func(ctx context.Context, tx *catalog.Tx) error {
		list, err := retiredRoots(ctx, tx)
		if err != nil {
			return err
		}
		return tx.SetMeta(ctx, metaRetiredRoots, bytes.Join(append(list, retired[:]), nil))
	})
}

// rootInForce refuses the keys folder of a node that a rotation has not reached.
func rootInForce(ctx context.Context, tx *catalog.Tx, ring *keys.Ring) error {
	list, err := retiredRoots(ctx, tx)
	if err != nil || !isRetired(list, ring.RootHash()) {
		return err
	}
	return fault.New(fault.Conflict, "vault.Open", "the root key of this vault was rotated, and this keys folder has the old one").
		WithHint("copy root.key and all *.age files from the keys folder in which it was rotated; keys from a backup need the catalog of that backup")
}
