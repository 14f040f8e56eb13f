package catalog

import (
	"context"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

var datasets = table[storage.Dataset]{
	name: "datasets", columns: "id, slot, path, tag, state, recipient, salt, complete, shards, version, push, store, revision, created_at, created_by, filled_at",
	into: func(d *storage.Dataset) []any {
		return []any{fixed(d.ID[:]), &d.Slot, text{&d.Scope}, fixed(d.Tag[:]), &d.State, &d.Recipient, fixed(d.Salt[:]),
			flag{&d.Complete}, &d.Shards, &d.Version, &d.Push, &d.Store, &d.Revision, moment{&d.CreatedAt}, fixed(d.CreatedBy[:]), moment{&d.FilledAt}}
	},
	values: func(d *storage.Dataset) []any {
		return []any{d.ID[:], int64(d.Slot), d.Scope.String(), d.Tag[:], string(d.State), d.Recipient, d.Salt[:],
			bit(d.Complete), int64(d.Shards), int64(d.Version), int64(d.Push), d.Store, int64(d.Revision), micros(d.CreatedAt), d.CreatedBy[:], micros(d.FilledAt)}
	},
}

// AddDataset adds a dataset. Its scope, with the same slot and tag, has to be
// there: storage.ErrNoRow if not.
func (tx *Tx) AddDataset(ctx context.Context, d storage.Dataset) error {
	return datasets.insert(ctx, tx, "catalog.AddDataset", "", d)
}

// Dataset reads the dataset at a scope.
func (tx *Tx) Dataset(ctx context.Context, scope dataset.Scope) (storage.Dataset, error) {
	return datasets.one(ctx, tx, "catalog.Dataset", "WHERE path = $1", scope.String())
}

// DatasetByID reads one dataset.
func (tx *Tx) DatasetByID(ctx context.Context, id dataset.DatasetID) (storage.Dataset, error) {
	return datasets.one(ctx, tx, "catalog.DatasetByID", "WHERE id = $1", id[:])
}

// SetDatasetState changes the dataset's state of processing.
func (tx *Tx) SetDatasetState(ctx context.Context, id dataset.DatasetID, state dataset.State, rev uint64) error {
	return tx.change(ctx, "catalog.SetDatasetState",
		"UPDATE datasets SET state = $2, revision = $3 WHERE id = $1", id[:], string(state), int64(rev))
}

// DatasetsSince streams the datasets changed after revision rev, in the order
// of their revisions. The transaction cannot be used inside f.
func (tx *Tx) DatasetsSince(ctx context.Context, rev uint64, f func(storage.Dataset, uint64) error) error {
	return since(ctx, tx, &datasets, "catalog.DatasetsSince", rev, func(d storage.Dataset) error { return f(d, d.Revision) })
}

// PutDatasetKey adds or replaces the dataset's wrapped identity.
//
// A key that is sealed to an epoch which is being destroyed is fault.Unavailable.
func (tx *Tx) PutDatasetKey(ctx context.Context, id dataset.DatasetID, key storage.WrappedKey) error {
	if err := tx.checkEpoch(ctx, key); err != nil {
		return err
	}
	_, err := tx.exec(ctx, "catalog.PutDatasetKey", "INSERT INTO dataset_keys (dataset, epoch, sealed) VALUES ($1, $2, $3)"+
		" ON CONFLICT (dataset) DO UPDATE SET epoch = excluded.epoch, sealed = excluded.sealed",
		id[:], int64(key.Epoch), blob(key.Sealed))
	return err
}

// DatasetKey reads the dataset's wrapped identity.
func (tx *Tx) DatasetKey(ctx context.Context, id dataset.DatasetID) (storage.WrappedKey, error) {
	var key storage.WrappedKey
	err := tx.row(ctx, "catalog.DatasetKey", "SELECT epoch, sealed FROM dataset_keys WHERE dataset = $1",
		[]any{id[:]}, &key.Epoch, raw{&key.Sealed})
	return key, err
}
