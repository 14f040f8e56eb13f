package vault

import (
	"context"
	"encoding/json"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
)

// Certificate gives the certificate of an erasure, an audit.Certificate as JSON.
// There is none while anything of the data is left.
func (v *Vault) Certificate(ctx context.Context, c identity.Caller, id dataset.ErasureID) (json.RawMessage, error) {
	e, err := v.findErasure(ctx, c, id)
	if err != nil {
		return nil, err
	}
	if !e.Finished {
		return nil, fault.New(fault.Conflict, "vault.Certificate", "the erasure is not complete yet").
			WithHint("wait for it: `dsvault erasure show " + id.String() + "`")
	}
	says, err := v.says(ctx, e)
	if err != nil {
		return nil, err
	}
	signed, err := v.notary.Await(ctx, e.End+1)
	if err != nil {
		return nil, err
	}
	cp, err := v.notary.Read(signed.Note)
	if err != nil {
		return nil, err
	}
	out := audit.Certificate{
		Version: 1, Origin: v.notary.Origin(), Key: v.notary.Verifier(), Successions: v.notary.Successions(), Checkpoint: string(signed.Note),
	}
	for _, leaf := range []struct {
		index uint64
		to    *audit.CertifiedLeaf
	}{{e.Start, &out.Start}, {e.End, &out.End}} {
		if *leaf.to, err = v.certifiedLeaf(ctx, cp, leaf.index); err != nil {
			return nil, err
		}
	}
	if err := v.notary.SignCertificate(&out, says); err != nil {
		return nil, err
	}
	data, err := json.Marshal(out)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "vault.Certificate", "cannot encode a certificate", err)
	}
	return data, nil
}

// says is what the certificate of an erasure says.
func (v *Vault) says(ctx context.Context, e storage.Erasure) (audit.Erasure, error) {
	out := audit.Erasure{
		ID: e.ID.String(), Scope: e.Scope.String(), Cause: string(e.Cause), Basis: e.Basis, Reason: e.Reason,
		Started: e.StartedAt.UTC(), Ended: e.EndedAt.UTC(), Final: e.FinalAt.UTC(), Epoch: e.Epoch, Datasets: []audit.ErasedDataset{},
	}
	err := v.db.View(ctx, func(tx *catalog.Tx) error {
		name := v.names(ctx, tx)
		out.By, out.Second = name(e.StartedBy), name(e.Second)
		_, _, s, err := tx.EraseSum(ctx, e.ID)
		out.Objects, out.Versions, out.Markers, out.Uploads, out.Bytes = s.Objects, s.Versions, s.Markers, s.Uploads, s.Bytes
		return err
	})
	if err != nil {
		return out, err
	}
	return out, v.eachErased(ctx, e.ID, func(d storage.ErasedDataset) error {
		out.Datasets = append(out.Datasets, audit.ErasedDataset{
			Scope: d.Scope.String(), ID: d.Dataset.String(), Versions: d.Stored.Versions, Bytes: d.Stored.Bytes,
		})
		return nil
	})
}

func (v *Vault) certifiedLeaf(ctx context.Context, cp audit.Checkpoint, index uint64) (audit.CertifiedLeaf, error) {
	out := audit.CertifiedLeaf{Index: index}
	proof, err := v.notary.Inclusion(ctx, cp, index)
	if err != nil {
		return out, err
	}
	for _, h := range proof {
		out.Proof = append(out.Proof, h[:])
	}
	return out, v.db.View(ctx, func(tx *catalog.Tx) error {
		return tx.LeafData(ctx, index, index+1, func(_, _ uint64, data []byte) error {
			out.Leaf = data
			return nil
		})
	})
}
