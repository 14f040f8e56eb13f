package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"dsvault/rbac"
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

// submitting is the question whether the caller may return work on a shard.
func (v *Vault) submitting(c identity.Caller, t target, n int) ledger.Intent {
	in := v.intent(c, audit.KindSubmit, t, rbac.Submit, rbac.Annotation)
	in.Query.Object.Shard, in.Query.Object.Owner = n, c.Principal
	in.Note = map[string]string{"object": dataset.ShardRef{Dataset: t.scope, Number: n}.String()}
	if t.known && t.scope.Depth() == 3 {
		in.Object = shardObject(t.row.Tag, n)
	}
	return in
}

// StartWork opens an attempt at returning work on a shard, by whoever has it.
func (v *Vault) StartWork(ctx context.Context, c identity.Caller, ref dataset.ShardRef, req wire.NewWork) (wire.Upload, error) {
	const op = "vault.StartWork"
	t, err := v.target(ctx, ref.Dataset)
	if err != nil {
		return wire.Upload{}, err
	}
	in := v.submitting(c, t, ref.Number)
	if !t.known || t.scope.Depth() != 3 {
		return wire.Upload{}, v.absent(ctx, t, in)
	}
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return wire.Upload{}, err
	}
	if req.Size < 0 || req.Size > wire.MaxWork {
		return wire.Upload{}, fault.New(fault.TooLarge, op, "one return is at most 1 GiB").WithHint("leave out what is not the result of the work")
	}
	d, err := v.dataset(ctx, ref.Dataset)
	if err != nil {
		return wire.Upload{}, err
	}
	err = v.db.View(ctx, func(tx *catalog.Tx) error { return checkReturns(ctx, tx, d.ID, ref.Number, c.Principal) })
	if err != nil {
		return wire.Upload{}, err
	}
	a := v.newAttempt(d, ref.Number, req.Size, c)
	a.Push = storage.ForWork
	return wire.Upload{Attempt: a.ID, Number: a.Number, PartSize: a.PartSize}, v.addAttempt(ctx, a)
}

func checkReturns(ctx context.Context, tx *catalog.Tx, id dataset.DatasetID, n int, who dataset.PrincipalID) error {
	count, err := tx.CountWork(ctx, id, n, who)
	if err == nil && count >= wire.MaxWorkEach {
		err = fault.New(fault.Conflict, "vault.StartWork", fmt.Sprintf("you have returned work on this shard %d times", count)).
			WithHint("ask an admin to assign it to somebody else")
	}
	return err
}

// workAttempt finds an attempt at returning work that the caller has started, and
// looks whether they still may.
func (v *Vault) workAttempt(ctx context.Context, c identity.Caller, scope dataset.Scope, id dataset.AttemptID) (target, storage.Attempt, error) {
	t, err := v.target(ctx, scope)
	if err != nil {
		return t, storage.Attempt{}, err
	}
	var a storage.Attempt
	err = v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		a, err = tx.Attempt(ctx, id)
		return err
	})
	mine := err == nil && t.known && a.Dataset == t.row.Tag && a.StartedBy == c.Principal && a.Push == storage.ForWork
	if none(err) != nil {
		return t, a, err
	}
	if !mine {
		return t, storage.Attempt{}, fault.Wrap(fault.NotFound, "vault.workAttempt", "no such upload", err).WithHint("submit the work again")
	}
	_, err = v.ledger.Check(ctx, v.submitting(c, t, a.Number))
	return t, a, err
}

// StoreWork streams the sealed bytes of returned work to storage, size of them.
func (v *Vault) StoreWork(ctx context.Context, c identity.Caller, scope dataset.Scope, id dataset.AttemptID, body io.Reader, size int64) (wire.Stored, error) {
	_, a, err := v.workAttempt(ctx, c, scope, id)
	if err != nil {
		return wire.Stored{}, err
	}
	if want := seal.SealedSize(a.PlainSize); size != want {
		return wire.Stored{}, fault.New(fault.Invalid, "vault.StoreWork", fmt.Sprintf("%d bytes are %d bytes when sealed, not %d", a.PlainSize, want, size)).
			WithHint("seal it to the dataset's one recipient, in age's binary format")
	}
	ctx, end := v.writing(ctx, a.Dataset, scope)
	defer end()
	if err := v.claim(ctx, a.ID); err != nil {
		return wire.Stored{}, err
	}
	o, digest, err := storage.PutHashed(ctx, v.objects, a.Key, body, size)
	if err != nil {
		return wire.Stored{}, erasedMeanwhile(ctx, err)
	}
	if err := v.storeAttempt(ctx, a, o, digest); err != nil {
		return wire.Stored{}, err
	}
	return wire.Stored{Attempt: id, Sealed: o.Size, SHA256: digest[:]}, nil
}

// CommitWork checks what is stored, as it is checked of a shard, and makes it the
// caller's newest work on the shard. Doing it again gives the same work.
func (v *Vault) CommitWork(ctx context.Context, c identity.Caller, scope dataset.Scope, id dataset.AttemptID, req wire.Commit) (wire.Work, error) {
	const op = "vault.CommitWork"
	t, a, err := v.workAttempt(ctx, c, scope, id)
	if fault.Is(err, fault.NotFound) {
		if w, again := v.committed(ctx, c, t, id, req.SHA256); again == nil {
			return v.wireWork(ctx, w)
		}
	}
	switch {
	case err != nil:
		return wire.Work{}, err
	case a.SealedSize <= 0:
		return wire.Work{}, fault.New(fault.Conflict, op, "the attempt has no bytes yet").WithHint("submit the work again")
	case !bytes.Equal(req.SHA256, a.SHA256[:]):
		return wire.Work{}, fault.New(fault.Invalid, op, "what has arrived is not what was sent").WithHint("submit the work again")
	case len(req.Manifest) > 2*dataset.MaxManifest || len(req.Index) > 0:
		return wire.Work{}, fault.New(fault.TooLarge, op, "the manifest is too large, or there is an index")
	}
	in := v.submitting(c, t, a.Number)
	in.Access = &ledger.Access{Dataset: a.Dataset, Shard: a.Number}
	w := storage.Work{
		ID: dataset.NewID[dataset.WorkID](v.random), Dataset: a.Dataset, Scope: t.scope, Number: a.Number, Author: c.Principal, Latest: true,
		Attempt: a.ID, Key: a.Key, ETag: a.ETag, SealedSize: a.SealedSize, PlainSize: a.PlainSize, SHA256: a.SHA256, PartSize: a.PartSize,
		Manifest: req.Manifest, State: storage.WorkSubmitted,
	}
	in.Fields = []audit.Field{
		audit.BytesField(audit.FieldAttemptID, a.ID[:]), audit.BytesField(audit.FieldWorkID, w.ID[:]),
		audit.Uint64Field(audit.FieldPlaintextSize, uint64(a.PlainSize)), audit.Uint64Field(audit.FieldSealedSize, uint64(a.SealedSize)),
	}
	if a.PartSize > 0 {
		in.Fields = append(in.Fields, audit.Uint64Field(audit.FieldPartSize, uint64(a.PartSize)), audit.BytesField(audit.FieldPartsSHA256, a.SHA256[:]))
	} else {
		in.Fields = append(in.Fields, audit.BytesField(audit.FieldSealedSHA256, a.SHA256[:]))
	}
	permit, err := v.ledger.Admit(ctx, in)
	if err != nil {
		return wire.Work{}, err
	}
	if w.Header, w.Nonce, err = v.inspectShard(ctx, permit, a); err == nil {
		err = v.inspectManifest(ctx, permit, a, req.Manifest)
	}
	if err == nil {
		in.Kind, in.Access = audit.KindSubmitEnd, nil
		err = v.recordWork(ctx, in, &w)
	}
	if fault.Is(err, fault.Invalid) || fault.Is(err, fault.Conflict) {
		v.giveUp(ctx, a) // it will never be anything
	}
	if err != nil {
		return wire.Work{}, err
	}
	return v.wireWork(ctx, w)
}

// committed finds what an earlier CommitWork has made.
func (v *Vault) committed(ctx context.Context, c identity.Caller, t target, id dataset.AttemptID, sum []byte) (w storage.Work, err error) {
	err = v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		w, err = tx.WorkByAttempt(ctx, id)
		return err
	})
	if err == nil && (w.Author != c.Principal || w.Dataset != t.row.Tag || !bytes.Equal(sum, w.SHA256[:])) {
		err = storage.ErrNoRow
	}
	return w, err
}

// recordWork makes the attempt work, in one transaction with the record of it.
func (v *Vault) recordWork(ctx context.Context, in ledger.Intent, w *storage.Work) error {
	const op = "vault.recordWork"
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		if err := checkReturns(ctx, tx.Tx, w.Dataset, w.Number, w.Author); err != nil {
			return err
		}
		if err := tx.DropAttempt(ctx, w.Attempt); err != nil {
			if errors.Is(err, storage.ErrNoRow) { // swept, or committed already
				return fault.Wrap(fault.NotFound, op, "no such upload", err).WithHint("submit the work again")
			}
			return err
		}
		w.SubmittedAt = tx.Now
		err := tx.AddWork(ctx, *w)
		if errors.Is(err, storage.ErrExists) {
			return fault.Wrap(fault.Conflict, op, "this payload was uploaded before", err).WithHint("seal the work anew, so that it has a nonce of its own")
		}
		return err
	}
	_, err := v.ledger.Record(ctx, in)
	return err
}

func (v *Vault) wireWork(ctx context.Context, w storage.Work) (out wire.Work, err error) {
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		out = wireWork(w, v.names(ctx, tx))
		return nil
	})
	return out, err
}

func wireWork(w storage.Work, name func(dataset.PrincipalID) string) wire.Work {
	return wire.Work{
		ID: w.ID, Dataset: w.Scope, Shard: w.Number, Author: name(w.Author), State: string(w.State), Latest: w.Latest,
		Submitted: w.SubmittedAt.UTC(), Decided: timePtr(w.DecidedAt), By: name(w.DecidedBy),
		Size: w.PlainSize, Sealed: w.SealedSize, SHA256: w.SHA256[:],
	}
}
