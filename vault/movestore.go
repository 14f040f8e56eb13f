package vault

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/keys"
	"dsvault/vault/ledger"
	"dsvault/vault/wire"
)

// MoveConfig is what MoveObjects needs. Every field is required, but for Region.
type MoveConfig struct {
	Catalog  *catalog.DB
	Keys     *keys.Ring
	From, To storage.Objects // each one store; the same: its objects are pinned anew
	Region   string          // whose store it is; empty: the one without a name
	Logger   *slog.Logger
	Now      func() time.Time
	Random   io.Reader
	Expect   func(bytes int64) // hears how much there is
	Progress func(bytes int64) // hears of what is done, now and then
}

// MovedObjects says what MoveObjects has done.
type MovedObjects struct {
	Objects int64 // that the catalog names in this store
	Bytes   int64 // of them
	Copied  int64 // of these objects, those that this call has put into the new store
	Extra   int64 // objects in the new store that the catalog does not know; they are left alone
	// Damaged lists objects that are in neither store as they were committed. If
	// there are any, nothing was switched. At most maxDamaged of them.
	Damaged []wire.Finding
	Lost    int64 // how many are damaged
}

const (
	maxDamaged = 1000
	movers     = 4  // objects that are copied at once
	moveBatch  = 64 // objects that one transaction notes
)

// MoveObjects copies all objects that the catalog names in one store to another,
// as they are, compares each there with the hash in the catalog, and only then
// switches the catalog to the new store, on record. Objects that are there
// already, with the right bytes, are not copied. Unfinished uploads, and what the
// catalog does not name, stay behind. After an interruption it goes on where it was.
//
// Damaged objects are fault.Corrupt, and nothing is switched. A catalog on which
// a server runs is fault.Conflict, and so is a store of another vault.
func MoveObjects(ctx context.Context, cfg MoveConfig) (MovedObjects, error) {
	if err := ownCatalog(ctx, cfg.Catalog, cfg.Keys); err != nil {
		return MovedObjects{}, err
	}
	ctx, release, err := standAlone(ctx, cfg.Catalog, cfg.Logger, cfg.Random)
	if err != nil {
		return MovedObjects{}, err
	}
	defer release()
	m := &mover{MoveConfig: cfg, owner: markOwner(cfg.Keys.LogName(), cfg.Region)}
	if err := m.begin(ctx); err != nil {
		return m.done, err
	}
	if err := m.copyAll(ctx); err != nil {
		return m.done, err
	}
	if m.done.Lost > 0 {
		return m.done, fault.New(fault.Corrupt, "vault.MoveObjects", fmt.Sprintf("%d objects are damaged; nothing was switched", m.done.Lost)).
			WithHint("put them back from a backup, under the same keys, into either store, and run it again")
	}
	if err := m.tidy(ctx); err != nil {
		return m.done, err
	}
	if err := m.pin(ctx); err != nil {
		return m.done, err
	}
	if err := m.commit(ctx); err != nil {
		return m.done, err
	}
	return m.done, writeMark(ctx, m.To, markKey, storeMark{owner: m.owner, id: m.id})
}

// mover moves the objects of one store.
type mover struct {
	MoveConfig
	owner string
	id    string // of the new store
	done  MovedObjects
}

// begin marks the new store as this vault's, and as unfinished, or finds that it
// is so already.
func (m *mover) begin(ctx context.Context) error {
	const op = "vault.MoveObjects"
	source, err := readMark(ctx, m.From, markKey)
	if errors.Is(err, storage.ErrNoObject) || err == nil && source.owner != m.owner {
		return fault.Wrap(fault.Conflict, op, "the store to copy from is not the one of this vault", err).
			WithHint("name the store that the vault was served with; with --region that of the region")
	}
	if err != nil {
		return err
	}
	target, err := readMark(ctx, m.To, markKey)
	if err == nil && target.owner != m.owner {
		return fault.New(fault.Conflict, op, "the store to copy to belongs to another vault, or to another region of this one").
			WithHint("name a folder, a bucket or a prefix that is empty")
	}
	if err != nil && !errors.Is(err, storage.ErrNoObject) {
		return err
	}
	var stores storeIDs
	err = m.Catalog.Update(ctx, func(tx *catalog.Tx) (err error) {
		if stores, err = readStores(ctx, tx); err != nil {
			return err
		}
		next := stores.Next[m.Region]
		if next != "" && target.id == next {
			m.id = next
			return nil
		}
		if stores.Switching[m.Region] {
			return fault.New(fault.Conflict, op, "the vault is being switched to another store than this").
				WithHint("finish that first: name the same stores as before")
		}
		raw := make([]byte, 16)
		if _, err := io.ReadFull(m.Random, raw); err != nil {
			return fault.Wrap(fault.Internal, op, "no randomness", err)
		}
		m.id = hex.EncodeToString(raw)
		stores.Next[m.Region] = m.id
		if err := tx.DropMoved(ctx, m.Region); err != nil {
			return err
		}
		return stores.write(ctx, tx)
	})
	if err != nil {
		return err
	}
	return writeMark(ctx, m.To, markKey, storeMark{owner: m.owner, id: m.id, unfinished: true})
}

// tidy clears what an earlier run has copied of datasets that were erased since,
// and counts what else the new store holds that the catalog does not name.
func (m *mover) tidy(ctx context.Context) error {
	for o, err := range m.To.List(ctx, "v1/") {
		if err != nil {
			return err
		}
		named := true
		err := m.Catalog.View(ctx, func(tx *catalog.Tx) error {
			_, err := tx.Moved(ctx, storage.RegionKey(m.Region, o.Key))
			if errors.Is(err, storage.ErrNoRow) {
				named, err = false, nil
			}
			return err
		})
		if err != nil {
			return err
		}
		if named {
			continue
		}
		if id, ok := datasetOf(o.Key); ok && m.Keys.IsBuried(id) {
			if err := storage.Purge(ctx, m.To, o.Key); err != nil {
				return err
			}
			continue
		}
		m.done.Extra++
	}
	return nil
}

// pin gives every row the ETag that its object has in the new store. From the
// first one on the vault is served from neither store until all are done.
func (m *mover) pin(ctx context.Context) error {
	err := m.Catalog.Update(ctx, func(tx *catalog.Tx) error {
		stores, err := readStores(ctx, tx)
		if err != nil {
			return err
		}
		stores.Switching[m.Region] = true
		return stores.write(ctx, tx)
	})
	if err != nil {
		return err
	}
	return m.named(ctx, func(page []wanted) error {
		return m.Catalog.Update(ctx, func(tx *catalog.Tx) error {
			for _, w := range page {
				if w.loose {
					continue
				}
				o, err := tx.Moved(ctx, w.Key)
				if errors.Is(err, storage.ErrNoRow) {
					return fault.Wrap(fault.Conflict, "vault.MoveObjects", "the catalog has changed while its objects were copied", err).
						WithHint("stop every server of this vault, and run it again")
				}
				if err != nil {
					return err
				}
				if err := tx.PinAnew(ctx, w.Key, o.ETag); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// commit makes the new store the vault's, on record.
func (m *mover) commit(ctx context.Context) error {
	led, err := ledger.Open(ctx, ledger.Config{
		Catalog: m.Catalog, World: rbac.NewPartial(rbac.Default()), Sealer: m.Keys,
		Now: m.Now, Random: m.Random, Logger: m.Logger, LeaveOpen: true,
	})
	if err != nil {
		return err
	}
	defer led.Close()
	id, err := hex.DecodeString(m.id)
	if err != nil {
		return fault.Wrap(fault.Corrupt, "vault.MoveObjects", "the ID of the new store is damaged", err)
	}
	fields := []audit.Field{
		audit.Uint64Field(audit.FieldObjects, uint64(m.done.Objects)), audit.Uint64Field(audit.FieldStoredBytes, uint64(m.done.Bytes)),
		audit.BytesField(audit.FieldStoreID, id),
	}
	if m.Region != "" {
		fields = append([]audit.Field{audit.StringField(audit.FieldRegion, m.Region)}, fields...)
	}
	return recordOwn(ctx, led, m.Catalog, ledger.Intent{
		Kind: audit.KindStorageMigrate, Object: audit.Object{Kind: audit.ObjectVault}, Fields: fields,
	}, func(ctx context.Context, tx *catalog.Tx) error {
		stores, err := readStores(ctx, tx)
		if err != nil {
			return err
		}
		stores.Now[m.Region] = m.id
		delete(stores.Next, m.Region)
		delete(stores.Switching, m.Region)
		if err := stores.write(ctx, tx); err != nil {
			return err
		}
		if err := tx.EndAttempts(ctx, m.Region); err != nil {
			return err
		}
		return tx.DropMoved(ctx, m.Region)
	})
}

// datasetOf is the dataset that an object's key names: v1/DATASET/…
func datasetOf(key string) (dataset.DatasetID, bool) {
	text, _, ok := strings.Cut(strings.TrimPrefix(key, "v1/"), "/")
	id, err := dataset.ParseID[dataset.DatasetID](text)
	return id, ok && err == nil
}
