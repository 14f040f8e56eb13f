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

// errNoDataset says that a dataset is yet to be made by whoever may.
var errNoDataset = errors.New("no such dataset yet")

// maxPlain keeps a sealed shard under wire.MaxShard.
const maxPlain = wire.MaxShard - wire.MaxShard/1024

func tooLarge(op string) error {
	return fault.New(fault.TooLarge, op, "a shard is at most 64 GiB when sealed").
		WithHint("push it with dsvault, which cuts it into shards: --shard-size")
}

// uploadable finds a dataset that the caller may upload to. One that does not
// exist is errNoDataset, without a word about whether the caller may make it.
func (v *Vault) uploadable(ctx context.Context, c identity.Caller, scope dataset.Scope) (storage.Dataset, error) {
	t, err := v.target(ctx, scope)
	if err != nil {
		return storage.Dataset{}, err
	}
	if !t.known || scope.Depth() != 3 {
		return storage.Dataset{}, errNoDataset
	}
	if _, err := v.ledger.Check(ctx, v.intent(c, audit.KindUpload, t, rbac.Upload, rbac.Dataset)); err != nil {
		return storage.Dataset{}, err
	}
	return v.dataset(ctx, scope)
}

func (v *Vault) dataset(ctx context.Context, scope dataset.Scope) (storage.Dataset, error) {
	var d storage.Dataset
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		d, err = tx.Dataset(ctx, scope)
		return err
	})
	return d, missingRow("dataset", err)
}

// uploadTo is uploadable for operations on a dataset that has to exist.
func (v *Vault) uploadTo(ctx context.Context, c identity.Caller, scope dataset.Scope) (storage.Dataset, error) {
	d, err := v.uploadable(ctx, c, scope)
	if errors.Is(err, errNoDataset) {
		t, err := v.target(ctx, scope)
		if err != nil {
			return d, err
		}
		return d, v.absent(ctx, t, v.intent(c, audit.KindUpload, t, rbac.Upload, rbac.Dataset))
	}
	return d, err
}

// Dataset describes a dataset to those who may read its record.
func (v *Vault) Dataset(ctx context.Context, c identity.Caller, scope dataset.Scope) (wire.Dataset, error) {
	d, err := v.readable(ctx, c, scope)
	if err != nil {
		return wire.Dataset{}, err
	}
	return v.wireDataset(ctx, d, false)
}

func (v *Vault) readable(ctx context.Context, c identity.Caller, scope dataset.Scope) (storage.Dataset, error) {
	t, err := v.target(ctx, scope)
	if err != nil {
		return storage.Dataset{}, err
	}
	in := v.intent(c, audit.KindList, t, rbac.Read, rbac.Dataset)
	if !t.known || scope.Depth() != 3 {
		return storage.Dataset{}, v.absent(ctx, t, in)
	}
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return storage.Dataset{}, err
	}
	return v.dataset(ctx, scope)
}

func (v *Vault) wireDataset(ctx context.Context, d storage.Dataset, uploader bool) (wire.Dataset, error) {
	out := wire.Dataset{ID: d.ID, Scope: d.Scope, State: d.State, Recipient: d.Recipient,
		Complete: d.Complete, Version: d.Version, Created: d.CreatedAt}
	if uploader {
		out.Salt = d.Salt[:]
	}
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		out.Shards, out.Size, out.Sealed, err = sizeOf(ctx, tx, d)
		return err
	})
	return out, err
}

// sizeOf sums up the dataset's newest version, or what has arrived of its first.
func sizeOf(ctx context.Context, tx *catalog.Tx, d storage.Dataset) (shards int, plain, sealed int64, err error) {
	if !d.Complete {
		shards, _, plain, sealed, err = tx.ShardCount(ctx, d.ID)
		return shards, plain, sealed, err
	}
	newest, err := tx.Version(ctx, d.ID, d.Version)
	return d.Shards, newest.PlainSize, newest.SealedSize, missingRow("version", err)
}

// Shards lists a dataset's committed shards in order, from the one behind after
// (-1: the first). Annotators do not list; their assignments name their shards.
func (v *Vault) Shards(ctx context.Context, c identity.Caller, scope dataset.Scope, after, limit int) (wire.Page[wire.Shard], error) {
	page := wire.Page[wire.Shard]{Items: []wire.Shard{}}
	d, uploader, all, err := v.listable(ctx, c, scope)
	if err != nil {
		return page, err
	}
	var mine dataset.ShardSet
	limit = clip(limit, wire.MaxPage)
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		if !all {
			if mine, err = v.shardsOf(ctx, tx, c.Principal, scope); err != nil {
				return err
			}
		}
		rows, err := tx.Shards(ctx, d.ID, after, limit)
		for _, s := range rows {
			if all || mine.Has(s.Number) {
				page.Items = append(page.Items, wireShard(s, uploader))
			}
		}
		if len(rows) == limit {
			page.Next = fmt.Sprint(rows[len(rows)-1].Number)
		}
		return err
	})
	return page, err
}

// mayListShards tells those who oversee a dataset from those who work on
// shards of it.
func (v *Vault) mayListShards(ctx context.Context, c identity.Caller, t target) (bool, error) {
	d, err := v.decide(ctx, rbac.Query{Actor: c.Principal, Action: rbac.Read,
		Object: rbac.Object{Kind: rbac.Dataset, Scope: t.scope, Shard: -1}})
	return d.Allowed && d.Roles&^rbac.Roles(dataset.Labeler, dataset.Contractor) != 0, err
}

func wireShard(s storage.Shard, uploader bool) wire.Shard {
	w := wire.Shard{Number: s.Number, Size: s.PlainSize, Sealed: s.SealedSize, SHA256: s.SHA256[:], Committed: s.CommittedAt}
	w.Version, w.Index = s.Version, s.Index.Size > 0
	if uploader {
		w.Fingerprint, w.Start = s.Fingerprint[:], s.Start
	}
	return w
}

// StartUpload opens an attempt at one shard. Each attempt has its own object,
// so an upload that was cut off never spoils another.
func (v *Vault) StartUpload(ctx context.Context, c identity.Caller, ref dataset.ShardRef, req wire.NewUpload) (wire.Upload, error) {
	const op = "vault.StartUpload"
	d, err := v.uploadTo(ctx, c, ref.Dataset)
	if err != nil {
		return wire.Upload{}, err
	}
	switch {
	case len(req.Fingerprint) != 32:
		return wire.Upload{}, fault.New(fault.Invalid, op, "the fingerprint has to be 32 bytes")
	case len(req.Start) > 32:
		return wire.Upload{}, fault.New(fault.Invalid, op, "the start has more than 32 bytes")
	case req.Size < 0 || req.Size > maxPlain:
		return wire.Upload{}, tooLarge(op)
	}
	a := v.newAttempt(d, ref.Number, req.Size, c)
	copy(a.Fingerprint[:], req.Fingerprint)
	a.Push, a.Start = req.Push, req.Start
	err = v.db.View(ctx, func(tx *catalog.Tx) error { return checkOpen(ctx, tx.Shard, d, a) })
	if err != nil {
		return wire.Upload{}, err
	}
	return wire.Upload{Attempt: a.ID, Number: a.Number, PartSize: a.PartSize}, v.addAttempt(ctx, a)
}

// checkOpen refuses an upload that cannot become a shard any more.
func checkOpen(ctx context.Context, shard func(context.Context, dataset.DatasetID, int) (storage.Shard, error),
	d storage.Dataset, a storage.Attempt) error {
	if a.Push != d.Push {
		return superseded("vault.upload", d.Scope)
	}
	s, err := shard(ctx, d.ID, a.Number)
	if err == nil && s.Version > 0 {
		return fault.New(fault.Conflict, "vault.upload", fmt.Sprintf("shard %d is in version %d, and such a shard never changes", a.Number, s.Version)).
			WithHint("send other data under a number that is free, for the next version")
	}
	return none(err)
}

func (v *Vault) newAttempt(d storage.Dataset, n int, size int64, c identity.Caller) storage.Attempt {
	id := dataset.NewID[dataset.AttemptID](v.random)
	key := storage.RegionKey(d.Store, fmt.Sprintf("v1/%s/%06d/%s.age", d.ID, n, id))
	return storage.Attempt{
		ID: id, Dataset: d.ID, Number: n, PlainSize: size, StartedAt: v.now(), StartedBy: c.Principal,
		Key: key, PartSize: storage.HashedBy(storage.StoreOf(v.objects, key)),
	}
}

// addAttempt, claim and storeAttempt write bookkeeping that the log need not hold.
func (v *Vault) addAttempt(ctx context.Context, a storage.Attempt) error {
	return v.update(ctx, func(tx *catalog.Tx) error { return tx.AddAttempt(ctx, a) })
}

// claim lets one request put the attempt's object, ever: a second one would
// change bytes that may be committed by the time that it ends.
func (v *Vault) claim(ctx context.Context, id dataset.AttemptID) error {
	err := v.update(ctx, func(tx *catalog.Tx) error { return tx.ClaimAttempt(ctx, id) })
	if errors.Is(err, storage.ErrNoRow) {
		return fault.Wrap(fault.Conflict, "vault.claim", "this attempt has had its bytes sent already", err).WithHint("start the shard again")
	}
	return err
}

func (v *Vault) storeAttempt(ctx context.Context, a storage.Attempt, o storage.Object, sum [32]byte) error {
	err := v.update(ctx, func(tx *catalog.Tx) error { return tx.StoreAttempt(ctx, a.ID, o.ETag, o.Size, sum) })
	if errors.Is(err, storage.ErrNoRow) { // it took so long that it was swept
		v.remove(ctx, a.Key)
		return givenUp("vault.storeAttempt", err)
	}
	return err
}

// update runs a writing transaction outside the log.
func (v *Vault) update(ctx context.Context, f func(*catalog.Tx) error) error {
	tx, err := v.db.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// attempt finds an attempt that the caller has started on this dataset.
func (v *Vault) attempt(ctx context.Context, c identity.Caller, scope dataset.Scope, id dataset.AttemptID) (storage.Dataset, storage.Attempt, error) {
	d, err := v.uploadTo(ctx, c, scope)
	if err != nil {
		return d, storage.Attempt{}, err
	}
	var a storage.Attempt
	err = v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		a, err = tx.Attempt(ctx, id)
		return err
	})
	if errors.Is(err, storage.ErrNoRow) || err == nil && (a.Dataset != d.ID || a.StartedBy != c.Principal) {
		err = fault.Wrap(fault.NotFound, "vault.attempt", "no such upload", err).WithHint("start the shard again")
	}
	return d, a, err
}

// StoreUpload streams an attempt's sealed bytes to storage, size of them.
func (v *Vault) StoreUpload(ctx context.Context, c identity.Caller, scope dataset.Scope, id dataset.AttemptID, body io.Reader, size int64) (wire.Stored, error) {
	const op = "vault.StoreUpload"
	_, a, err := v.attempt(ctx, c, scope, id)
	if err != nil {
		return wire.Stored{}, err
	}
	if want := seal.SealedSize(a.PlainSize); size != want {
		return wire.Stored{}, fault.New(fault.Invalid, op, fmt.Sprintf("a shard of %d bytes is %d bytes when sealed, not %d", a.PlainSize, want, size)).
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

// CommitUpload checks what is stored and makes the attempt the shard: its
// header opens with this dataset's identity and no other stanza, its size fits
// the formula, its payload nonce is new, its last chunk authenticates, and its
// manifest describes it. Its index, if it has one, has to be sealed as the shard
// is. Only then is it acknowledged.
func (v *Vault) CommitUpload(ctx context.Context, c identity.Caller, scope dataset.Scope, id dataset.AttemptID, req wire.Commit) (wire.Shard, error) {
	const op = "vault.CommitUpload"
	d, a, err := v.attempt(ctx, c, scope, id)
	if err != nil {
		return wire.Shard{}, err
	}
	switch {
	case a.SealedSize <= 0:
		return wire.Shard{}, fault.New(fault.Conflict, op, "the attempt has no bytes yet").WithHint("send them first, or start the shard again")
	case !bytes.Equal(req.SHA256, a.SHA256[:]):
		return wire.Shard{}, fault.New(fault.Invalid, op, "what has arrived is not what was sent").WithHint("start the shard again")
	case a.Index.Size < 0 || !bytes.Equal(req.Index, a.Index.SHA256):
		return wire.Shard{}, fault.New(fault.Invalid, op, "the index that has arrived is not the one that was sent").WithHint("start the shard again")
	case len(req.Manifest) > 2*dataset.MaxManifest:
		return wire.Shard{}, fault.New(fault.TooLarge, op, "the manifest is too large")
	}
	return v.commitShard(ctx, c, d, a, req.Manifest)
}

func (v *Vault) commitShard(ctx context.Context, c identity.Caller, d storage.Dataset, a storage.Attempt, manifest []byte) (wire.Shard, error) {
	t, err := v.target(ctx, d.Scope)
	if err != nil {
		return wire.Shard{}, err
	}
	in := v.intent(c, audit.KindUpload, t, rbac.Upload, rbac.Dataset)
	in.Object = shardObject(d.ID, a.Number)
	in.Access = &ledger.Access{Dataset: d.ID, Shard: a.Number}
	in.Fields = []audit.Field{
		audit.BytesField(audit.FieldAttemptID, a.ID[:]),
		audit.Uint64Field(audit.FieldPlaintextSize, uint64(a.PlainSize)),
		audit.Uint64Field(audit.FieldSealedSize, uint64(a.SealedSize)),
	}
	if a.PartSize > 0 {
		in.Fields = append(in.Fields, audit.Uint64Field(audit.FieldPartSize, uint64(a.PartSize)), audit.BytesField(audit.FieldPartsSHA256, a.SHA256[:]))
	} else {
		in.Fields = append(in.Fields, audit.BytesField(audit.FieldSealedSHA256, a.SHA256[:]))
	}
	if a.Index.Size > 0 {
		in.Fields = append(in.Fields, audit.BytesField(audit.FieldIndexSHA256, a.Index.SHA256))
	}
	permit, err := v.ledger.Admit(ctx, in)
	if err != nil {
		return wire.Shard{}, err
	}
	s := storage.Shard{
		Dataset: d.ID, Number: a.Number, Attempt: a.ID, Key: a.Key, ETag: a.ETag, SealedSize: a.SealedSize, PlainSize: a.PlainSize,
		SHA256: a.SHA256, PartSize: a.PartSize, Fingerprint: a.Fingerprint, Manifest: manifest, Start: a.Start, Index: a.Index, CommittedBy: c.Principal,
	}
	var nonces [][16]byte // of the index
	if s.Header, s.Nonce, err = v.inspectShard(ctx, permit, a); err == nil {
		err = v.inspectManifest(ctx, permit, a, manifest)
	}
	if err == nil && a.Index.Size > 0 {
		var nonce [16]byte
		s.Index.Header, nonce, err = v.inspectIndex(ctx, permit, a)
		nonces = append(nonces, nonce)
	}
	var old *storage.Attempt
	if err == nil {
		in.Kind, in.Access = audit.KindUploadEnd, nil
		old, err = v.recordShard(ctx, in, a, &s, nonces)
	}
	if fault.Is(err, fault.Invalid) || fault.Is(err, fault.Conflict) {
		v.giveUp(ctx, a) // it will never be a shard
	}
	if err != nil {
		return wire.Shard{}, err
	}
	if old != nil {
		v.clear(ctx, *old)
	}
	return wireShard(s, true), nil
}

// recordShard switches the catalog to the attempt, in one transaction with the
// record of it. What the shard replaces is left to be cleared away.
func (v *Vault) recordShard(ctx context.Context, in ledger.Intent, a storage.Attempt, s *storage.Shard, nonces [][16]byte) (*storage.Attempt, error) {
	const op = "vault.recordShard"
	var old *storage.Attempt
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		d, err := tx.DatasetByID(ctx, s.Dataset)
		if err != nil {
			return missingRow("dataset", err)
		}
		if err := checkOpen(ctx, tx.Shard, d, a); err != nil {
			return err
		}
		now, err := tx.Attempt(ctx, s.Attempt)
		if err == nil && now.Index.Size != s.Index.Size { // an object that no row would name
			return fault.New(fault.Conflict, op, "an index came while the shard was committed").WithHint("start the shard again")
		}
		if err == nil {
			err = tx.DropAttempt(ctx, s.Attempt)
		}
		if err != nil {
			if errors.Is(err, storage.ErrNoRow) { // swept, or committed already
				return fault.Wrap(fault.NotFound, op, "no such upload", err).WithHint("start the shard again")
			}
			return err
		}
		s.CommittedAt = tx.Now
		replaced, err := tx.PutShard(ctx, *s, nonces...)
		if errors.Is(err, storage.ErrExists) {
			return fault.Wrap(fault.Conflict, op, "this payload was uploaded before", err).
				WithHint("seal the shard anew, so that it has a nonce of its own")
		}
		if err != nil || replaced == nil {
			return err
		}
		leftover := v.leftover(*replaced)
		old = &leftover
		return tx.AddAttempt(ctx, leftover)
	}
	_, err := v.ledger.Record(ctx, in)
	return old, err
}

// inspectShard checks a stored attempt, as inspect does, and its size.
func (v *Vault) inspectShard(ctx context.Context, p *ledger.Permit, a storage.Attempt) (header []byte, nonce [16]byte, err error) {
	header, nonce, err = v.inspect(ctx, p, a.Number, storage.Object{Key: a.Key, Size: a.SealedSize, ETag: a.ETag})
	if err == nil && a.SealedSize-int64(len(header)) != seal.PayloadSize(a.PlainSize) {
		err = fault.New(fault.Invalid, "vault.inspect", "the sealed size does not fit the plaintext's").WithHint("seal the shard anew")
	}
	return header, nonce, err
}

// inspect reads the beginning and the end of an object of shard n and checks
// them. The middle is authenticated chunk by chunk when it is read.
func (v *Vault) inspect(ctx context.Context, p *ledger.Permit, n int, o storage.Object) (header []byte, nonce [16]byte, err error) {
	head, err := v.objects.Open(ctx, o.Key, 0, min(o.Size, 2*int64(seal.HeaderSize())), o.ETag)
	if err != nil {
		return nil, nonce, lost(err)
	}
	defer head.Close()
	header, rest, err := seal.ReadHeader(head)
	if err != nil {
		return nil, nonce, err
	}
	payload := o.Size - int64(len(header))
	size, err := seal.TailSize(payload)
	if err != nil {
		return nil, nonce, err
	}
	if _, err := io.ReadFull(rest, nonce[:]); err != nil {
		return nil, nonce, lost(err)
	}
	key, err := v.keys.FileKey(ctx, p, n, header)
	if err != nil {
		return nil, nonce, err
	}
	defer key.Destroy()
	end, err := v.objects.Open(ctx, o.Key, o.Size-size, size, o.ETag)
	if err != nil {
		return nil, nonce, lost(err)
	}
	defer end.Close()
	tail := make([]byte, size)
	if _, err := io.ReadFull(end, tail); err != nil {
		return nil, nonce, lost(err)
	}
	return header, nonce, seal.CheckTail(key, nonce, tail, payload)
}

// inspectManifest checks that the sealed manifest opens and describes the shard.
func (v *Vault) inspectManifest(ctx context.Context, p *ledger.Permit, a storage.Attempt, sealed []byte) error {
	const op = "vault.inspectManifest"
	header, rest, err := seal.ReadHeader(bytes.NewReader(sealed))
	if err != nil {
		return err
	}
	key, err := v.keys.FileKey(ctx, p, a.Number, header)
	if err != nil {
		return err
	}
	defer key.Destroy()
	plain, err := seal.OpenPayload(key, rest)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(plain, dataset.MaxManifest+1))
	if err != nil {
		return fault.Wrap(fault.Invalid, op, "the manifest does not open", err)
	}
	m, err := dataset.ParseManifest(data)
	if err != nil {
		return err
	}
	if m.Number != a.Number || m.Size != a.PlainSize {
		return fault.New(fault.Invalid, op, "the manifest does not describe this shard").WithHint("start the shard again")
	}
	return nil
}

// lost says that bytes which a row promises are not in storage.
func lost(err error) error {
	if errors.Is(err, storage.ErrNoObject) || errors.Is(err, storage.ErrChanged) {
		return fault.Wrap(fault.Corrupt, "vault.objects", "stored bytes are missing or were changed", err).
			WithHint("tell the operator; the object has to come back from a backup")
	}
	return err
}

func shardObject(id dataset.DatasetID, n int) audit.Object {
	return audit.Object{Kind: audit.ObjectShard, ID: id, Number: uint32(n)}
}
