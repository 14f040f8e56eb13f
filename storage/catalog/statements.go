package catalog

import (
	"context"
	"database/sql"

	"dsvault/storage"
)

// EachChain streams the chains of all slots, in the order of the slots, with
// their tags. The transaction cannot be used inside f.
func (tx *Tx) EachChain(ctx context.Context, f func(c storage.Chain, tag [16]byte) error) error {
	const op = "catalog.EachChain"
	query := "SELECT c.slot, c.seq, c.last_index, c.last_hash, s.tag FROM chains c LEFT JOIN scopes s ON s.slot = c.slot ORDER BY c.slot"
	return tx.each(ctx, op, false, query, nil, func(rows *sql.Rows) error {
		var c storage.Chain
		var tag [16]byte
		if err := scan(rows, op, append(chains.into(&c), fixed(tag[:]))...); err != nil {
			return err
		}
		return f(c, tag)
	})
}
