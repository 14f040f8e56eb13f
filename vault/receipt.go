package vault

import (
	"context"
	"encoding/json"

	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/ledger"
	"dsvault/vault/wire"
)

// receipt is what a reader keeps of an admitted read: the leaf with the log's
// promise, as JSON.
func (v *Vault) receipt(p *ledger.Permit) ([]byte, error) {
	r := p.Receipt()
	promise, err := v.notary.Promise(r.Index, r.Hash)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(audit.Receipt{
		Version: 1, Origin: v.notary.Origin(), Key: v.notary.Verifier(), Successions: v.notary.Successions(), Index: r.Index, Leaf: r.Leaf, Promise: promise,
	})
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "vault.receipt", "cannot encode a receipt", err)
	}
	return data, nil
}

// Inclusion proves that the log holds the leaf with this hash at index. Whoever
// knows the hash has the leaf, or a receipt for it; the proof tells them nothing
// else.
func (v *Vault) Inclusion(ctx context.Context, c identity.Caller, index uint64, leaf audit.Hash) (wire.Inclusion, error) {
	var out wire.Inclusion
	root, err := v.root(ctx)
	if err != nil {
		return out, err
	}
	if _, err := v.ledger.Check(ctx, v.own(c, audit.KindLogRead, root)); err != nil {
		return out, err
	}
	none := fault.New(fault.NotFound, "vault.Inclusion", "the log holds no such leaf")
	var size uint64
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		head, err := tx.Head(ctx)
		size = head.Size
		return err
	})
	if err != nil {
		return out, err
	}
	if index >= size {
		return out, none
	}
	signed, err := v.notary.Await(ctx, index+1)
	if err != nil {
		return out, err
	}
	cp, err := v.notary.Read(signed.Note)
	if err != nil {
		return out, err
	}
	path, err := v.notary.Inclusion(ctx, cp, index)
	if err != nil {
		return out, err
	}
	if audit.CheckInclusion(cp, index, leaf, path) != nil {
		return out, none
	}
	out.Checkpoint, out.Proof = string(signed.Note), make([]dataset.HexBytes, len(path))
	for i := range path {
		out.Proof[i] = path[i][:]
	}
	return out, nil
}
