package vault

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/ledger"
)

// metaDestroyedEpoch is the newest epoch of keys whose destruction is recorded.
const metaDestroyedEpoch = "destroyed-epoch"

// rewrapBatch is how many keys of datasets, and of people, one transaction moves.
const rewrapBatch = 100

// rotateEpoch begins a new epoch of keys after those that destroyed keys were
// sealed to, and seals the keys of the living to it. The older epochs are
// destroyed once no backup that may be wanted is from before; then no catalog
// from before opens anything.
func (v *Vault) rotateEpoch(ctx context.Context, list []storage.Erasure) error {
	var last uint32
	fresh := false
	for _, e := range list {
		if e.FinalAt.IsZero() {
			fresh, last = true, max(last, e.Epoch)
		}
	}
	if fresh {
		if err := v.beginEpoch(ctx, last); err != nil {
			return err
		}
	}
	return v.rewrap(ctx)
}

// beginEpoch begins the epoch after last, unless it has begun, and notes when
// the older ones are destroyed.
func (v *Vault) beginEpoch(ctx context.Context, last uint32) error {
	n, err := v.keys.NewEpoch(last)
	if err != nil {
		return err
	}
	final, err := v.retireEpochs(last)
	if err != nil {
		return err
	}
	root, err := v.root(ctx)
	if err != nil {
		return err
	}
	_, err = v.ledger.Record(ctx, ledger.Intent{
		Kind: audit.KindKeyRotate, Own: true, Place: root.place(), Object: audit.Object{Kind: audit.ObjectKey, Number: n},
		Fields: []audit.Field{audit.Uint64Field(audit.FieldEpoch, uint64(n)), audit.Uint64Field(audit.FieldFinal, uint64(final.UnixMicro()))},
		Apply: func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
			return tx.SetErasureFinal(ctx, last, final)
		},
	})
	return err
}

// retireEpochs notes for every older epoch when it is destroyed, and gives the
// last such moment of those up to one.
func (v *Vault) retireEpochs(last uint32) (final time.Time, err error) {
	at := v.now().Add(v.backupWindow).UTC().Truncate(time.Microsecond)
	list, err := v.keys.Retires()
	if err != nil {
		return final, err
	}
	for _, r := range list {
		if r.At.IsZero() {
			if err := v.keys.Retire(r.Epoch, at); err != nil {
				return final, err
			}
			r.At = at
		}
		if r.Epoch <= last && r.At.After(final) {
			final = r.At
		}
	}
	if final.IsZero() { // no key of these epochs is left
		final = v.now().UTC().Truncate(time.Microsecond)
	}
	return final, nil
}

// rewrap seals to the newest epoch every key that is sealed to an older one.
func (v *Vault) rewrap(ctx context.Context) error {
	newest := v.keys.Epoch()
	for {
		var list []catalog.KeyRow
		err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
			list, err = tx.KeysBefore(ctx, newest, rewrapBatch)
			return err
		})
		if err != nil || len(list) == 0 {
			return err
		}
		sealed := make([]storage.WrappedKey, len(list))
		for i, k := range list {
			if !k.Person && v.keys.IsBuried(dataset.DatasetID(k.ID)) {
				return fault.New(fault.Unavailable, "vault.rewrap", "the catalog holds the key of an erased dataset; it is erased again first")
			}
			if sealed[i], err = v.keys.Rewrap(k.Key); err != nil {
				return err
			}
		}
		err = v.db.Update(ctx, func(tx *catalog.Tx) error {
			for i, k := range list {
				if err := tx.ReplaceKey(ctx, k, sealed[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}

// destroyEpochs destroys the keys of older epochs whose time has come, once
// nothing in the catalog needs them, and records it.
func (v *Vault) destroyEpochs(ctx context.Context) error {
	if err := v.keys.Refresh(); err != nil {
		return err
	}
	if _, err := v.retireEpochs(0); err != nil {
		return err
	}
	list, err := v.keys.Retires()
	if err != nil {
		return err
	}
	for _, r := range list {
		if v.now().Before(r.At) {
			continue
		}
		if err := v.destroyEpoch(ctx, r.Epoch); err != nil {
			return err
		}
	}
	return v.recordDestroyed(ctx)
}

func (v *Vault) destroyEpoch(ctx context.Context, n uint32) error {
	// From here on nobody adds a key that is sealed to it.
	err := v.db.Update(ctx, func(tx *catalog.Tx) error {
		if _, err := tx.LockHead(ctx); err != nil {
			return err
		}
		return tx.SetLeastEpoch(ctx, n+1)
	})
	if err == nil {
		err = v.rewrap(ctx)
	}
	if err != nil {
		return err
	}
	var left []catalog.KeyRow
	err = v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		left, err = tx.KeysBefore(ctx, n+1, 1)
		return err
	})
	if err == nil && len(left) > 0 {
		err = fault.New(fault.Unavailable, "vault.destroyEpoch", "a key is still sealed to the old epoch")
	}
	if err != nil {
		return err
	}
	v.log.InfoContext(ctx, "destroying the key of an old epoch", "epoch", n)
	return v.keys.DestroyEpoch(n)
}

// recordDestroyed records the epochs that are destroyed and of which there is no
// record yet.
func (v *Vault) recordDestroyed(ctx context.Context) error {
	var done, least uint32
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		if least, err = tx.LeastEpoch(ctx); err != nil {
			return err
		}
		value, err := tx.Meta(ctx, metaDestroyedEpoch)
		if err == nil && len(value) == 4 {
			done = binary.BigEndian.Uint32(value)
		}
		return none(err)
	})
	if err != nil {
		return err
	}
	root, err := v.root(ctx)
	if err != nil {
		return err
	}
	for n := done + 1; n < least && !v.keys.HasEpoch(n); n++ {
		_, err := v.ledger.Record(ctx, ledger.Intent{
			Kind: audit.KindEpochDestroy, Own: true, Place: root.place(), Object: audit.Object{Kind: audit.ObjectKey, Number: n},
			Fields: []audit.Field{audit.Uint64Field(audit.FieldEpoch, uint64(n))},
			Apply: func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
				return tx.SetMeta(ctx, metaDestroyedEpoch, binary.BigEndian.AppendUint32(nil, n))
			},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// dropEpochs removes from this node's key folder what another node has seen to
// the end, for nodes that do not share one folder.
func (v *Vault) dropEpochs(ctx context.Context) error {
	var least uint32
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		least, err = tx.LeastEpoch(ctx)
		return err
	})
	if err != nil {
		return err
	}
	list, err := v.keys.Retires()
	for _, r := range list {
		if r.Epoch >= least {
			continue
		}
		err = v.db.View(ctx, func(tx *catalog.Tx) error {
			left, err := tx.KeysBefore(ctx, r.Epoch+1, 1)
			if err == nil && len(left) > 0 {
				err = errKeysLeft
			}
			return err
		})
		if err == nil {
			err = v.keys.DestroyEpoch(r.Epoch)
		}
		if err != nil && !errors.Is(err, errKeysLeft) {
			return err
		}
	}
	return err
}

var errKeysLeft = errors.New("keys are left")

// eraseRestored erases again what was erased before, and is back because the
// catalog was restored from a backup. Its key is not opened meanwhile.
func (v *Vault) eraseRestored(ctx context.Context) error {
	if v.restored { // a restored catalog is a catalog that was opened anew
		return nil
	}
	for _, id := range v.keys.Buried() {
		var d storage.Dataset
		err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
			d, err = tx.DatasetByID(ctx, id)
			return none(err)
		})
		if err != nil {
			return err
		}
		if d.ID != id || d.State == dataset.Erased {
			continue
		}
		t, err := v.target(ctx, d.Scope)
		if err != nil {
			return err
		}
		e := storage.Erasure{ID: dataset.NewID[dataset.ErasureID](v.random), Slot: t.row.Slot, Scope: t.scope, Cause: storage.EraseRestored}
		in := ledger.Intent{Kind: audit.KindErase, Own: true, Place: t.place(), Object: t.object()}
		v.prepareErasure(&in, &e, nil)
		if err := v.startErasure(ctx, in); err != nil {
			return err
		}
		v.log.WarnContext(ctx, "a restored catalog had an erased dataset; it is erased again", "dataset", id)
	}
	v.restored = true
	return nil
}
