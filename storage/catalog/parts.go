package catalog

import (
	"context"
	"errors"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

type partRow struct {
	attempt dataset.AttemptID
	storage.AnnouncedPart
}

var parts = table[partRow]{
	name: "parts", columns: "attempt, number, sha256",
	into: func(p *partRow) []any {
		return []any{fixed(p.attempt[:]), &p.Number, fixed(p.SHA256[:])}
	},
	values: func(p *partRow) []any { return []any{p.attempt[:], int64(p.Number), p.SHA256[:]} },
}

// StartParts records the upload in parts of a claimed attempt, before anybody
// hears of it: storage.ErrNoRow if the attempt is not there, is not claimed, or
// has an upload.
func (tx *Tx) StartParts(ctx context.Context, id dataset.AttemptID, upload string, partSize int64) error {
	return tx.change(ctx, "catalog.StartParts",
		"UPDATE attempts SET upload = $2, part_size = $3 WHERE id = $1 AND sealed_size = $4 AND upload = ''",
		id[:], upload, partSize, storage.Claimed)
}

// AnnounceParts records the parts that are about to be put. A number that was
// announced before, with another hash, is storage.ErrExists: what is put under
// one number never changes.
func (tx *Tx) AnnounceParts(ctx context.Context, id dataset.AttemptID, list []storage.AnnouncedPart) error {
	const op = "catalog.AnnounceParts"
	for _, p := range list {
		have, err := parts.one(ctx, tx, op, "WHERE attempt = $1 AND number = $2", id[:], int64(p.Number))
		switch {
		case errors.Is(err, storage.ErrNoRow):
			err = parts.insert(ctx, tx, op, "", partRow{id, p})
		case err == nil && have.SHA256 != p.SHA256:
			err = storage.ErrExists
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Parts reads the parts that were announced, in order.
func (tx *Tx) Parts(ctx context.Context, id dataset.AttemptID) ([]storage.AnnouncedPart, error) {
	var list []storage.AnnouncedPart
	err := parts.each(ctx, tx, "catalog.Parts", "WHERE attempt = $1 ORDER BY number", []any{id[:]}, func(p partRow) error {
		list = append(list, p.AnnouncedPart)
		return nil
	})
	return list, err
}

// FinishParts lets one request join the attempt's parts, ever: storage.ErrNoRow
// if the attempt is not there, has no upload, or another request joins them.
func (tx *Tx) FinishParts(ctx context.Context, id dataset.AttemptID) error {
	return tx.change(ctx, "catalog.FinishParts",
		"UPDATE attempts SET sealed_size = $2 WHERE id = $1 AND sealed_size = $3 AND upload <> ''", id[:], storage.Joining, storage.Claimed)
}
