package vault

import (
	"context"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/wire"
)

// ExportDataset admits that a dataset is taken out of the vault as a whole, and
// says what it consists of. It is in the log when this returns. Its shards are
// then read one by one, each of which is decided on and recorded too.
func (v *Vault) ExportDataset(ctx context.Context, c identity.Caller, scope dataset.Scope) (wire.DatasetExport, error) {
	var out wire.DatasetExport
	t, err := v.target(ctx, scope)
	if err != nil {
		return out, err
	}
	in := v.intent(c, audit.KindExport, t, rbac.Create, rbac.ExportObj)
	if !t.known || t.scope.Depth() != 3 {
		return out, v.absent(ctx, t, in)
	}
	if err := v.mayAsk(ctx, in); err != nil {
		return out, err
	}
	var d storage.Dataset
	err = v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		d, err = tx.Dataset(ctx, scope)
		return missingRow("dataset", err)
	})
	if err != nil {
		return out, err
	}
	if d.Version == 0 {
		return out, fault.New(fault.Conflict, "vault.ExportDataset", "the dataset has no version yet").WithHint("finish it with `dsvault push` first")
	}
	in.Fields = []audit.Field{audit.Uint64Field(audit.FieldVersion, uint64(d.Version))}
	second, err := v.twoPeople(ctx, c, &in, nil)
	if err != nil || second.Pending != nil {
		return wire.DatasetExport{Dataset: scope, Pending: second.Pending}, err
	}
	r, err := v.ledger.Record(ctx, in)
	out = wire.DatasetExport{Dataset: scope, ID: d.ID, State: d.State, Version: d.Version, Created: d.CreatedAt, Record: r.Index}
	return out, err
}
