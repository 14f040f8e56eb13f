package catalog

import (
	"context"
	"time"
)

// Meta reads a named value of the vault as a whole.
func (tx *Tx) Meta(ctx context.Context, key string) ([]byte, error) {
	var value []byte
	err := tx.row(ctx, "catalog.Meta", "SELECT value FROM meta WHERE name = $1", []any{key}, raw{&value})
	return value, err
}

// SetMeta adds or replaces a named value.
func (tx *Tx) SetMeta(ctx context.Context, key string, value []byte) error {
	_, err := tx.exec(ctx, "catalog.SetMeta",
		"INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value", key, blob(value))
	return err
}

// Now asks the database what time it is.
func (tx *Tx) Now(ctx context.Context) (t time.Time, err error) {
	err = tx.row(ctx, "catalog.Now", "SELECT "+tx.db.dialect.now, nil, moment{&t})
	return t, err
}
