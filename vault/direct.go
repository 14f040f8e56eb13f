package vault

import (
	"context"
	"errors"
	"fmt"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/ledger"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// direct is the power to move bytes without us of the object store that a key is
// in.
func (v *Vault) direct(op, key string) (storage.Direct, error) {
	d, ok := storage.DirectAt(v.objects, key)
	if !ok {
		return nil, noDirect(op)
	}
	return d, nil
}

func noDirect(op string) error {
	return fault.New(fault.Conflict, op, "this vault's object store gives no presigned URLs: only an S3 server does").
		WithHint("leave --direct out, and go through the vault")
}

func wirePresigned(l storage.Presigned) wire.Presigned {
	out := wire.Presigned{URL: wire.NewPresignedURL(l.Expose()), Expires: l.Expires.UTC()}
	if len(l.Header) > 0 {
		out.Header = make(map[string]string, len(l.Header))
	}
	for name := range l.Header {
		out.Header[name] = l.Header.Get(name)
	}
	return out
}

// StartDirect claims an attempt for an upload that goes straight to the object
// store, in parts.
func (v *Vault) StartDirect(ctx context.Context, c identity.Caller, scope dataset.Scope, id dataset.AttemptID) (wire.DirectUpload, error) {
	const op = "vault.StartDirect"
	_, a, err := v.attempt(ctx, c, scope, id)
	if err != nil {
		return wire.DirectUpload{}, err
	}
	direct, err := v.direct(op, a.Key)
	if err != nil {
		return wire.DirectUpload{}, err
	}
	ctx, end := v.writing(ctx, a.Dataset, scope)
	defer end()
	if err := v.claim(ctx, a.ID); err != nil {
		return wire.DirectUpload{}, err
	}
	a.Upload, err = direct.StartParts(ctx, a.Key)
	if err == nil {
		err = v.update(ctx, func(tx *catalog.Tx) error { return tx.StartParts(ctx, a.ID, a.Upload, dataset.PartSize) })
	}
	if errors.Is(err, storage.ErrNoRow) { // it took so long that it was swept
		_ = v.abort(context.WithoutCancel(ctx), a)
		v.remove(ctx, a.Key) // which ends uploads to it, too
		return wire.DirectUpload{}, givenUp(op, err)
	}
	if err != nil {
		v.giveUp(ctx, a)
		return wire.DirectUpload{}, err
	}
	return wire.DirectUpload{PartSize: dataset.PartSize, Parts: dataset.Parts(seal.SealedSize(a.PlainSize))}, nil
}

func givenUp(op string, err error) error {
	return fault.Wrap(fault.Conflict, op, "the upload was given up meanwhile", err).WithHint("start the shard again")
}

// directAttempt finds an attempt whose parts are on their way.
func (v *Vault) directAttempt(ctx context.Context, op string, c identity.Caller, scope dataset.Scope, id dataset.AttemptID) (storage.Direct, storage.Attempt, error) {
	_, a, err := v.attempt(ctx, c, scope, id)
	if err != nil {
		return nil, a, err
	}
	if a.Upload == "" || a.SealedSize != storage.Claimed {
		return nil, a, fault.New(fault.Conflict, op, "this upload takes no parts, or no more of them").WithHint("start the shard again")
	}
	direct, err := v.direct(op, a.Key)
	return direct, a, err
}

// PresignParts gives presigned URLs for parts that the uploader has ready. The
// first hash that is announced for a number holds: the URL is good for no other
// bytes.
func (v *Vault) PresignParts(ctx context.Context, c identity.Caller, scope dataset.Scope, id dataset.AttemptID, req wire.Parts) (wire.PresignedParts, error) {
	const op = "vault.PresignParts"
	direct, a, err := v.directAttempt(ctx, op, c, scope, id)
	if err != nil {
		return wire.PresignedParts{}, err
	}
	if len(req.Parts) == 0 || len(req.Parts) > wire.MaxPresigned {
		return wire.PresignedParts{}, fault.New(fault.Invalid, op, fmt.Sprintf("between 1 and %d parts are announced at a time", wire.MaxPresigned))
	}
	most := dataset.Parts(seal.SealedSize(a.PlainSize))
	announced := make([]storage.AnnouncedPart, len(req.Parts))
	for i, p := range req.Parts {
		if p.Number < 1 || p.Number > most || len(p.SHA256) != 32 {
			return wire.PresignedParts{}, fault.New(fault.Invalid, op, fmt.Sprintf("parts have a number from 1 to %d and a hash of 32 bytes", most))
		}
		announced[i] = storage.AnnouncedPart{Number: p.Number, SHA256: [32]byte(p.SHA256)}
	}
	err = v.update(ctx, func(tx *catalog.Tx) error { return tx.AnnounceParts(ctx, a.ID, announced) })
	if errors.Is(err, storage.ErrExists) {
		return wire.PresignedParts{}, fault.Wrap(fault.Conflict, op, "a part was announced before with other bytes", err).WithHint("start the shard again")
	}
	if err != nil {
		return wire.PresignedParts{}, err
	}
	out := wire.PresignedParts{Presigned: make([]wire.Presigned, len(announced))}
	for i, p := range announced {
		signed, err := direct.PresignPart(ctx, a.Key, a.Upload, p.Number, p.SHA256)
		if err != nil {
			return wire.PresignedParts{}, err
		}
		out.Presigned[i] = wirePresigned(signed)
	}
	return out, nil
}

// JoinParts makes the attempt's object of the parts that were announced, once
// all of them are stored as announced. From then on it is an attempt like one
// that came through the vault; presigned URLs to its parts are worthless.
func (v *Vault) JoinParts(ctx context.Context, c identity.Caller, scope dataset.Scope, id dataset.AttemptID) (wire.Stored, error) {
	const op = "vault.JoinParts"
	direct, a, err := v.directAttempt(ctx, op, c, scope, id)
	if err != nil {
		return wire.Stored{}, err
	}
	parts, sum, err := v.announced(ctx, a)
	if err != nil {
		return wire.Stored{}, err
	}
	ctx, end := v.writing(ctx, a.Dataset, scope)
	defer end()
	err = v.update(ctx, func(tx *catalog.Tx) error { return tx.FinishParts(ctx, a.ID) })
	if errors.Is(err, storage.ErrNoRow) {
		return wire.Stored{}, fault.Wrap(fault.Conflict, op, "another request joins the parts, or the upload was given up", err).
			WithHint("start the shard again")
	}
	if err != nil {
		return wire.Stored{}, err
	}
	o, err := direct.FinishParts(ctx, a.Key, a.Upload, parts)
	if err != nil {
		v.giveUp(ctx, a) // nobody else joins it
		return wire.Stored{}, erasedMeanwhile(ctx, err)
	}
	if err := v.storeAttempt(ctx, a, o, sum); err != nil {
		return wire.Stored{}, err
	}
	return wire.Stored{Attempt: id, Sealed: o.Size, SHA256: sum[:]}, nil
}

// announced gives the parts that the object is to be made of, and their sum.
func (v *Vault) announced(ctx context.Context, a storage.Attempt) (parts []storage.Part, sum [32]byte, err error) {
	var list []storage.AnnouncedPart
	err = v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		list, err = tx.Parts(ctx, a.ID)
		return err
	})
	if err != nil {
		return nil, sum, err
	}
	left := seal.SealedSize(a.PlainSize)
	if len(list) != dataset.Parts(left) { // their numbers are within the bounds, and differ
		return nil, sum, fault.New(fault.Conflict, "vault.announced", fmt.Sprintf("%d of %d parts were announced", len(list), dataset.Parts(left))).
			WithHint("send all of them first")
	}
	sums := make([][32]byte, len(list))
	for i, p := range list {
		size := min(left, dataset.PartSize)
		parts, left = append(parts, storage.Part{Size: size, SHA256: p.SHA256}), left-size
		sums[i] = p.SHA256
	}
	return parts, dataset.PartsSum(sums), nil
}

// abort ends the upload in parts of an attempt, if it has one.
func (v *Vault) abort(ctx context.Context, a storage.Attempt) error {
	direct, ok := storage.DirectAt(v.objects, a.Key)
	if a.Upload == "" || !ok {
		return nil
	}
	return direct.AbortParts(ctx, a.Key, a.Upload)
}

// DirectRead is an admitted read, with what the log gives the reader of it.
type DirectRead struct {
	wire.DirectRead
	Index   uint64
	Hash    audit.Hash
	Receipt []byte
}

// ReadDirect admits a read of one shard whose payload the reader fetches from
// the object store, with a presigned URL that holds for a few minutes. The vault does not
// see how much of it is used, and cannot cut it: so the record says at once that
// all may have been read. Only where the project allows it.
func (v *Vault) ReadDirect(ctx context.Context, c identity.Caller, ref dataset.ShardRef, device dataset.DeviceID, purpose string) (DirectRead, error) {
	if !storage.AnyDirect(v.objects) {
		return DirectRead{}, noDirect("vault.ReadDirect")
	}
	s, err := v.readWhole(ctx, c, ref, device, purpose, dataset.Direct)
	if err != nil {
		return DirectRead{}, err
	}
	defer s.Close()
	direct, err := v.direct("vault.ReadDirect", s.shard.Key)
	if err != nil {
		return DirectRead{}, err
	}
	signed, err := direct.PresignObject(ctx, s.shard.Key)
	if err != nil {
		return DirectRead{}, err
	}
	s.end(s.Size, ledger.Unmetered)
	if err := s.stillAllowed(ctx); err != nil { // the last moment to keep the URL back
		return DirectRead{}, err
	}
	offset := int64(len(s.shard.Header))
	return DirectRead{Index: s.Index, Hash: s.Hash, Receipt: s.Receipt, DirectRead: wire.DirectRead{
		Header: s.header, Manifest: s.Manifest, Offset: offset, Size: s.shard.SealedSize - offset, ETag: s.shard.ETag,
		Object: wirePresigned(signed),
	}}, nil
}
