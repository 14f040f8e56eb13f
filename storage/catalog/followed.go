package catalog

import "context"

// SetFollowed notes how far a node, as open reads name it, has followed the
// policy.
func (tx *Tx) SetFollowed(ctx context.Context, node string, revision uint64) error {
	_, err := tx.exec(ctx, "catalog.SetFollowed", "INSERT INTO followed (node, revision) VALUES ($1, $2)"+
		" ON CONFLICT (node) DO UPDATE SET revision = excluded.revision WHERE followed.revision < excluded.revision", node, revision)
	return err
}

// DropFollowed forgets how far a node has followed.
func (tx *Tx) DropFollowed(ctx context.Context, node string) error {
	_, err := tx.exec(ctx, "catalog.DropFollowed", "DELETE FROM followed WHERE node = $1", node)
	return err
}

// Unfollowed reports whether nodes other than this one have reads open that were
// recorded before an index, and have not followed the policy to a revision.
func (tx *Tx) Unfollowed(ctx context.Context, node string, index, revision uint64) (bool, error) {
	var n int
	err := tx.row(ctx, "catalog.Unfollowed", "SELECT count(*) FROM (SELECT 1 FROM open_reads WHERE node <> $1 AND idx < $2"+
		" AND NOT EXISTS (SELECT 1 FROM followed WHERE followed.node = open_reads.node AND followed.revision >= $3) LIMIT 1) AS behind",
		[]any{node, index, revision}, &n)
	return n > 0, err
}
