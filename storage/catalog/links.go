package catalog

import (
	"context"
	"time"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

var links = table[storage.ItemLink]{
	name: "links", columns: "id, hash, principal, token, path, shard, delivery, item, created_at, expires, ended",
	into: func(l *storage.ItemLink) []any {
		return []any{fixed(l.ID[:]), fixed(l.Hash[:]), fixed(l.Principal[:]), fixed(l.Token[:]), text{&l.Dataset}, &l.Shard,
			&l.Delivery, raw{&l.Item}, moment{&l.CreatedAt}, moment{&l.Expires}, moment{&l.Ended}}
	},
	values: func(l *storage.ItemLink) []any {
		return []any{l.ID[:], l.Hash[:], l.Principal[:], l.Token[:], l.Dataset.String(), int64(l.Shard),
			string(l.Delivery), blob(l.Item), micros(l.CreatedAt), micros(l.Expires), micros(l.Ended)}
	},
}

// AddLink adds a link; its hash has to be new.
func (tx *Tx) AddLink(ctx context.Context, l storage.ItemLink) error {
	return links.insert(ctx, tx, "catalog.AddLink", "", l)
}

// LinkByHash reads a link by the SHA-256 of its secret; it may have expired or
// ended.
func (tx *Tx) LinkByHash(ctx context.Context, hash [32]byte) (storage.ItemLink, error) {
	return links.one(ctx, tx, "catalog.LinkByHash", "WHERE hash = $1", hash[:])
}

// Links lists a principal's links that hold at now, by ID from after on.
func (tx *Tx) Links(ctx context.Context, principal dataset.PrincipalID, now time.Time, after dataset.LinkID, limit int) ([]storage.ItemLink, error) {
	return links.list(ctx, tx, "catalog.Links", "WHERE principal = $1 AND id > $2 AND ended = 0 AND expires > $3 ORDER BY id LIMIT $4",
		principal[:], after[:], micros(now), page(limit))
}

// Link reads one link of a principal: storage.ErrNoRow if it is another's.
func (tx *Tx) Link(ctx context.Context, id dataset.LinkID, principal dataset.PrincipalID) (storage.ItemLink, error) {
	return links.one(ctx, tx, "catalog.Link", "WHERE id = $1 AND principal = $2", id[:], principal[:])
}

// EndLink ends a link: storage.ErrNoRow if it is not there or has ended already.
func (tx *Tx) EndLink(ctx context.Context, id dataset.LinkID, at time.Time) error {
	return tx.change(ctx, "catalog.EndLink", "UPDATE links SET ended = $2 WHERE id = $1 AND ended = 0", id[:], micros(at))
}

// DropLinks removes a principal's links that expired before a time; the log
// keeps what became of them.
func (tx *Tx) DropLinks(ctx context.Context, principal dataset.PrincipalID, before time.Time) error {
	_, err := tx.exec(ctx, "catalog.DropLinks", "DELETE FROM links WHERE principal = $1 AND expires < $2", principal[:], micros(before))
	return err
}
