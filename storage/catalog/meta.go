package catalog

import "context"

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
