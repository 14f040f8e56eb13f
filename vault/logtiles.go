package vault

import (
	"context"

	"dsvault/rbac"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
)

// LogCheckpoint gives the newest signed checkpoint, to anybody: witnesses and
// monitors need no account. It tells how many records there are, and nothing
// of what they say.
func (v *Vault) LogCheckpoint(ctx context.Context) ([]byte, error) {
	cp, err := v.notary.Await(ctx, 0)
	return cp.Note, err
}

// LogTile gives a tile of hashes, to anybody: a hash tells nothing about a
// record that one does not know.
func (v *Vault) LogTile(ctx context.Context, t audit.Tile) ([]byte, error) {
	if t.Entries {
		return nil, fault.New(fault.Internal, "vault.LogTile", "records are not for anybody")
	}
	return v.notary.Tile(ctx, t)
}

// LogEntries gives a bundle of whole leaves, to those who may read the whole
// log. Looking is recorded too.
func (v *Vault) LogEntries(ctx context.Context, c identity.Caller, t audit.Tile) ([]byte, error) {
	root, err := v.root(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := v.ledger.Record(ctx, v.intent(c, audit.KindLogRead, root, rbac.Read, rbac.Log)); err != nil {
		return nil, err
	}
	t.Entries, t.Level = true, 0
	return v.notary.Tile(ctx, t)
}
