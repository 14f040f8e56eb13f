package catalog

import (
	"context"
	"strconv"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

var moved = table[storage.Object]{
	name: "moved", columns: "object, etag, size",
	into:   func(o *storage.Object) []any { return []any{&o.Key, &o.ETag, &o.Size} },
	values: func(o *storage.Object) []any { return []any{o.Key, o.ETag, o.Size} },
}

var movedUpsert = moved.upsert("object")

// StoreMoved notes objects that are, verified, in the store that a region moves to.
func (tx *Tx) StoreMoved(ctx context.Context, list ...storage.Object) error {
	return moved.insert(ctx, tx, "catalog.StoreMoved", movedUpsert, list...)
}

// Moved reads what StoreMoved noted of a key: storage.ErrNoRow if that is nothing.
func (tx *Tx) Moved(ctx context.Context, key string) (storage.Object, error) {
	return moved.one(ctx, tx, "catalog.Moved", "WHERE object = $1", key)
}

// DropMoved forgets what was noted of the objects of a region.
func (tx *Tx) DropMoved(ctx context.Context, region string) error {
	var w filter
	w.inRegion(region)
	_, err := tx.exec(ctx, "catalog.DropMoved", "DELETE FROM moved "+w.where(), w.args...)
	return err
}

// inRegion keeps the rows whose object is in the store of a region.
func (f *filter) inRegion(region string) {
	prefix, is := storage.RegionKey(region, ""), " = "
	if region == "" {
		prefix, is = storage.RegionKeys, " <> "
	}
	f.and("substr(object, 1, " + strconv.Itoa(len(prefix)) + ")" + is + f.arg(prefix))
}

// PinAnew pins whatever shard, index or returned work has its object at a key to
// the ETag that it has in another store: storage.ErrNoRow if there is none.
func (tx *Tx) PinAnew(ctx context.Context, objectKey, etag string) error {
	const op = "catalog.PinAnew"
	column := "etag"
	shard, index := storage.ShardKey(objectKey)
	if index {
		column = "index_etag"
	}
	n, err := tx.exec(ctx, op, "UPDATE shards SET "+column+" = $2 WHERE object = $1", shard, etag)
	if err != nil || n > 0 {
		return err
	}
	return tx.change(ctx, op, "UPDATE work SET etag = $2 WHERE object = $1", objectKey, etag)
}

// HeldAttempts lists the attempts that a legal hold keeps whose object's key is
// greater than after, by key.
func (tx *Tx) HeldAttempts(ctx context.Context, after string, limit int) ([]storage.Attempt, error) {
	return attempts.list(ctx, tx, "catalog.HeldAttempts", "WHERE object > $1 AND "+heldDataset("attempts.dataset")+" ORDER BY object LIMIT $2", after, page(limit))
}

// EndAttempts ends all uploads into the store of a region: those that a legal hold
// keeps stay as leftovers, the others are forgotten.
func (tx *Tx) EndAttempts(ctx context.Context, region string) error {
	const op = "catalog.EndAttempts"
	var w filter
	w.inRegion(region)
	held := heldDataset("attempts.dataset")
	if _, err := tx.exec(ctx, op, "DELETE FROM parts WHERE attempt IN (SELECT id FROM attempts "+w.where()+")", w.args...); err != nil {
		return err
	}
	if _, err := tx.exec(ctx, op, "DELETE FROM attempts "+w.where()+"AND NOT "+held, w.args...); err != nil {
		return err
	}
	var nobody dataset.PrincipalID
	set := "started_by = " + w.arg(nobody[:])
	_, err := tx.exec(ctx, op, "UPDATE attempts SET upload = '', "+set+" "+w.where(), w.args...)
	return err
}
