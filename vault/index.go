package vault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/ledger"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// StoreIndex streams the sealed index of an attempt's shard to storage, size
// bytes of it. It is checked with the shard, at commit; what it lists only the
// people who may read the shard can see.
func (v *Vault) StoreIndex(ctx context.Context, c identity.Caller, scope dataset.Scope, id dataset.AttemptID, body io.Reader, size int64) (wire.Stored, error) {
	const op = "vault.StoreIndex"
	_, a, err := v.attempt(ctx, c, scope, id)
	if err != nil {
		return wire.Stored{}, err
	}
	if most := seal.SealedSize(dataset.MaxIndex); size > most {
		return wire.Stored{}, fault.New(fault.TooLarge, op, fmt.Sprintf("a sealed index has at most %d bytes", most)).
			WithHint("send the shard without one")
	}
	if size < seal.SealedSize(0) {
		return wire.Stored{}, fault.New(fault.Invalid, op, "that is no sealed index").WithHint("seal it to the dataset's one recipient")
	}
	ctx, end := v.writing(ctx, a.Dataset, scope)
	defer end()
	if err := v.putIndex(ctx, &a, body, size); err != nil {
		return wire.Stored{}, erasedMeanwhile(ctx, err)
	}
	return wire.Stored{Attempt: id, Sealed: a.Index.Size, SHA256: a.Index.SHA256}, nil
}

// putIndex stores an attempt's index, once.
func (v *Vault) putIndex(ctx context.Context, a *storage.Attempt, sealed io.Reader, size int64) error {
	const op = "vault.putIndex"
	err := v.update(ctx, func(tx *catalog.Tx) error { return tx.ClaimIndex(ctx, a.ID) })
	if errors.Is(err, storage.ErrNoRow) {
		return fault.Wrap(fault.Conflict, op, "this attempt has had its index sent already", err).WithHint("start the shard again")
	}
	if err != nil {
		return err
	}
	sum := sha256.New()
	o, err := v.objects.Put(ctx, storage.IndexKey(a.Key), io.TeeReader(sealed, sum), size)
	if err != nil {
		return err
	}
	a.Index = storage.Index{ETag: o.ETag, Size: o.Size, SHA256: sum.Sum(nil)}
	err = v.update(ctx, func(tx *catalog.Tx) error { return tx.StoreIndex(ctx, a.ID, a.Index) })
	if errors.Is(err, storage.ErrNoRow) { // it took so long that it was swept
		v.remove(ctx, storage.IndexKey(a.Key))
		return fault.Wrap(fault.Conflict, op, "the upload was given up meanwhile", err).WithHint("start the shard again")
	}
	return err
}

// indexFile gives a plain file its index: the file is the one member.
func (v *Vault) indexFile(ctx context.Context, a *storage.Attempt, m dataset.Manifest, to seal.Recipient) error {
	data, err := dataset.Index{Number: m.Number, Size: m.Size, Members: []dataset.Member{
		{Name: m.Name, Size: m.Size, Type: m.MediaType, SHA256: m.SHA256},
	}}.Encode()
	if err != nil {
		return err
	}
	sealed, err := seal.SealBytes(data, to)
	if err != nil {
		return err
	}
	return v.putIndex(ctx, a, bytes.NewReader(sealed), int64(len(sealed)))
}

// inspectIndex checks the stored index of an attempt as inspect does.
func (v *Vault) inspectIndex(ctx context.Context, p *ledger.Permit, a storage.Attempt) (header []byte, nonce [16]byte, err error) {
	return v.inspect(ctx, p, a.Number, storage.Object{Key: storage.IndexKey(a.Key), Size: a.Index.Size, ETag: a.Index.ETag})
}
