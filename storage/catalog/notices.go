package catalog

import (
	"context"
	"time"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

var notices = table[storage.Notices]{
	name: "notices", columns: "path, events, settings, changed_at, changed_by",
	into: func(n *storage.Notices) []any {
		return []any{text{&n.Client}, text{(*words[string])(&n.Events)}, raw{&n.Settings}, moment{&n.ChangedAt}, fixed(n.ChangedBy[:])}
	},
	values: func(n *storage.Notices) []any {
		return []any{n.Client.String(), words[string](n.Events).String(), blob(n.Settings), micros(n.ChangedAt), n.ChangedBy[:]}
	},
}

// PutNotices adds or replaces what a client hears of.
func (tx *Tx) PutNotices(ctx context.Context, n storage.Notices) error {
	return notices.insert(ctx, tx, "catalog.PutNotices", notices.upsert("path"), n)
}

// Notices reads what a client hears of: storage.ErrNoRow if nothing was ever
// chosen.
func (tx *Tx) Notices(ctx context.Context, client dataset.Scope) (storage.Notices, error) {
	return notices.one(ctx, tx, "catalog.Notices", "WHERE path = $1", client.String())
}

// AllNotices lists what clients hear of, by path from after on.
func (tx *Tx) AllNotices(ctx context.Context, after string, limit int) ([]storage.Notices, error) {
	return notices.list(ctx, tx, "catalog.AllNotices", "WHERE path > $1 ORDER BY path LIMIT $2", after, page(limit))
}

// KnowPurpose notes that data of a project is read for a purpose, and reports
// whether that is new.
func (tx *Tx) KnowPurpose(ctx context.Context, project dataset.Scope, purpose string, at time.Time) (bool, error) {
	n, err := tx.exec(ctx, "catalog.KnowPurpose", "INSERT INTO known_purposes (path, purpose, read_at) VALUES ($1, $2, $3)"+
		" ON CONFLICT (path, purpose) DO NOTHING", project.String(), purpose, micros(at))
	return n == 1, err
}
