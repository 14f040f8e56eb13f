package catalog

import (
	"context"
	"time"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

type addressRow struct {
	who  dataset.PrincipalID
	hash []byte
}

var addresses = table[addressRow]{
	name: "addresses", columns: "principal, hash",
	into:   func(r *addressRow) []any { return []any{fixed(r.who[:]), raw{&r.hash}} },
	values: func(r *addressRow) []any { return []any{r.who[:], r.hash} },
}

// SetAddress says by which keyed hash of an address a principal is found.
func (tx *Tx) SetAddress(ctx context.Context, who dataset.PrincipalID, hash [32]byte) error {
	return addresses.insert(ctx, tx, "catalog.SetAddress", addresses.upsert("principal"), addressRow{who, hash[:]})
}

// DropAddress says that a principal is found by no address.
func (tx *Tx) DropAddress(ctx context.Context, who dataset.PrincipalID) error {
	_, err := tx.exec(ctx, "catalog.DropAddress", "DELETE FROM addresses WHERE principal = $1", who[:])
	return err
}

// PrincipalsByAddress lists who has an address with this keyed hash.
func (tx *Tx) PrincipalsByAddress(ctx context.Context, hash [32]byte, limit int) ([]storage.Principal, error) {
	return principals.list(ctx, tx, "catalog.PrincipalsByAddress",
		"WHERE id IN (SELECT principal FROM addresses WHERE hash = $1) ORDER BY handle LIMIT $2", hash[:], page(limit))
}

// CountTokens counts a principal's tokens of a kind that were made after a
// time, whatever became of them.
func (tx *Tx) CountTokens(ctx context.Context, who dataset.PrincipalID, kind storage.TokenKind, after time.Time) (n int, err error) {
	err = tx.row(ctx, "catalog.CountTokens", "SELECT count(*) FROM tokens WHERE principal = $1 AND kind = $2 AND created_at > $3",
		[]any{who[:], string(kind), micros(after)}, &n)
	return n, err
}

// EndedTokens gives those of some tokens that have ended or are not there.
func (tx *Tx) EndedTokens(ctx context.Context, ids []dataset.TokenID) (map[dataset.TokenID]bool, error) {
	const op = "catalog.EndedTokens"
	ended := make(map[dataset.TokenID]bool, len(ids))
	err := inChunks(ids, func(ids []dataset.TokenID) error {
		var w filter
		in := ""
		for i, id := range ids {
			ended[id] = true
			if i > 0 {
				in += ", "
			}
			in += w.arg(id[:])
		}
		good, err := tokens.list(ctx, tx, op, "WHERE ended = 0 AND id IN ("+in+")", w.args...)
		for _, t := range good {
			delete(ended, t.ID)
		}
		return err
	})
	return ended, err
}
