package vault

import (
	"bytes"
	"context"
	"errors"
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
)

// ShardStream is one admitted read, sealed. Send or Close ends it; both are
// safe after the other.
type ShardStream struct {
	*reading
	Size     int64  // bytes that Send writes
	Manifest []byte // the shard's manifest, sealed to the reader's device key; of a whole shard only

	header []byte
	part   part
}

// part is what a sealed read is of: an object's header and some of its payload.
type part struct {
	object storage.Object
	header []byte // the object's own
	nonce  []byte // what comes before the bytes from storage
	from   int64  // of the object, bytes
	size   int64
	fields []audit.Field
}

func wholeShard(s storage.Shard) (part, error) {
	from := int64(len(s.Header))
	return part{object: storage.Object{Key: s.Key, ETag: s.ETag}, header: s.Header, from: from, size: s.SealedSize - from}, nil
}

// directShard is wholeShard, for stores that let others fetch it.
func (v *Vault) directShard(s storage.Shard) (part, error) {
	if _, err := v.direct("vault.ReadDirect", s.Key); err != nil {
		return part{}, err
	}
	return wholeShard(s)
}

// wholeIndex is the list of a shard's members.
func wholeIndex(s storage.Shard) (part, error) {
	if s.Index.Size == 0 {
		return part{}, fault.New(fault.Conflict, "vault.ReadIndex", "the members of this shard are not listed").
			WithHint("pull the shard; one that was pushed by an older dsvault has no list")
	}
	from := int64(len(s.Index.Header))
	return part{object: storage.Object{Key: storage.IndexKey(s.Key), ETag: s.Index.ETag}, header: s.Index.Header, from: from, size: s.Index.Size - from,
		fields: []audit.Field{audit.StringField(audit.FieldContent, "index")}}, nil
}

// shardRange is the chunks that hold size bytes of a shard from offset.
func shardRange(offset, size int64) func(storage.Shard) (part, error) {
	return func(s storage.Shard) (part, error) {
		if size < 1 {
			return part{}, fault.New(fault.Invalid, "vault.ReadRange", "a range has at least one byte")
		}
		start := int64(len(s.Header))
		from, n, err := seal.ChunkRange(s.SealedSize-start, offset, size)
		return part{object: storage.Object{Key: s.Key, ETag: s.ETag}, header: s.Header, nonce: s.Nonce[:], from: start + from, size: n,
			fields: []audit.Field{
				audit.Uint64Field(audit.FieldRangeStart, uint64(offset)),
				audit.Uint64Field(audit.FieldRangeLength, uint64(size)),
			}}, err
	}
}

// ReadShard admits a read of one shard, sealed to the caller's device key. When
// it returns, the read is in the log; no byte of it has been sent yet.
func (v *Vault) ReadShard(ctx context.Context, c identity.Caller, ref dataset.ShardRef, device dataset.DeviceID, purpose string) (*ShardStream, error) {
	return v.readWhole(ctx, c, ref, device, purpose, dataset.Sealed)
}

// readWhole is ReadShard, for both ways by which sealed bytes leave.
func (v *Vault) readWhole(ctx context.Context, c identity.Caller, ref dataset.ShardRef, device dataset.DeviceID, purpose string, by dataset.Delivery) (*ShardStream, error) {
	what := wholeShard
	if by == dataset.Direct {
		what = v.directShard
	}
	s, to, err := v.readSealed(ctx, c, ref, device, purpose, by, what)
	if err != nil {
		return nil, err
	}
	if err := s.prepareManifest(to); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// ReadIndex is ReadShard for the list of the shard's members. It is a read of
// the shard, and recorded as one.
func (v *Vault) ReadIndex(ctx context.Context, c identity.Caller, ref dataset.ShardRef, device dataset.DeviceID, purpose string) (*ShardStream, error) {
	s, _, err := v.readSealed(ctx, c, ref, device, purpose, dataset.Sealed, wholeIndex)
	return s, err
}

// ReadRange is ReadShard for the chunks that hold size bytes of the plaintext
// from offset: the stream is a header, the nonce, and these chunks.
func (v *Vault) ReadRange(ctx context.Context, c identity.Caller, ref dataset.ShardRef, device dataset.DeviceID, purpose string, offset, size int64) (*ShardStream, error) {
	s, _, err := v.readSealed(ctx, c, ref, device, purpose, dataset.Sealed, shardRange(offset, size))
	return s, err
}

func (v *Vault) readSealed(ctx context.Context, c identity.Caller, ref dataset.ShardRef, device dataset.DeviceID, purpose string,
	by dataset.Delivery, what func(storage.Shard) (part, error)) (*ShardStream, seal.Recipient, error) {
	none := seal.Recipient{}
	if err := checkText("purpose", purpose, 63); err != nil {
		return nil, none, err
	}
	t, err := v.target(ctx, ref.Dataset)
	if err != nil {
		return nil, none, err
	}
	in := v.intent(c, audit.KindRead, t, rbac.Read, rbac.Shard)
	in.Query.Object.Shard, in.Query.Delivery = ref.Number, by
	in.Note = map[string]string{"object": ref.String()}
	found, err := v.findShard(ctx, c, t, ref.Number, device)
	if err != nil {
		return nil, none, err
	}
	stateTerms(&in, found.project, purpose)
	if err := v.stateLegal(ctx, c, &in, found); err != nil {
		return nil, none, err
	}
	if !found.known {
		return nil, none, v.absent(ctx, t, in)
	}
	in.Object = shardObject(found.shard.Dataset, ref.Number)
	part, err := what(found.shard)
	if err == nil && !found.device {
		err = fault.New(fault.Invalid, "vault.ReadShard", "that is not a device key of yours").
			WithHint("register this machine's key with `dsvault login`")
	}
	if err != nil { // but nobody learns of it who may not read
		if _, refused := v.ledger.Check(ctx, in); refused != nil {
			err = refused
		}
		return nil, none, err
	}
	to, err := seal.ParseRecipient(found.recipient)
	if err != nil {
		return nil, none, fault.Wrap(fault.Corrupt, "vault.ReadShard", "a device key is damaged", err)
	}
	size := int64(seal.HeaderSize()+len(part.nonce)) + part.size
	in.Access = &ledger.Access{Dataset: found.shard.Dataset, Shard: ref.Number, MaxBytes: size}
	in.Fields = append(in.Fields,
		audit.StringField(audit.FieldDelivery, string(by)),
		audit.Uint64Field(audit.FieldMaxBytes, uint64(size)))
	if in.Withheld { // a device key would tell whose read it is
		in.Note["device"] = device.String()
	} else {
		in.Fields = append(in.Fields, audit.BytesField(audit.FieldDeviceID, device[:]))
	}
	in.Fields = append(in.Fields, part.fields...)
	var first *ahead
	if by == dataset.Sealed {
		first = v.fetchAhead(ctx, in.Query, part.object, part.from, part.size)
	}
	r, err := v.admit(ctx, c, in, found.shard)
	first.admitted(r, err)
	if err != nil {
		return nil, none, err
	}
	s := &ShardStream{reading: r, Size: size, part: part}
	if s.header, err = s.rewrap(part.header, to); err == nil && len(s.header) != seal.HeaderSize() {
		err = fault.New(fault.Internal, "vault.readSealed", "a header of unexpected size")
	}
	if err != nil {
		s.Close()
		return nil, none, err
	}
	return s, to, nil
}

// found is what a read needs to know of the catalog, in one snapshot.
type found struct {
	known     bool // dataset and shard exist
	shard     storage.Shard
	project   storage.Project
	device    bool // the device key is the caller's, and in use
	recipient string
}

func (v *Vault) findShard(ctx context.Context, c identity.Caller, t target, n int, device dataset.DeviceID) (found, error) {
	var f found
	if !t.known || t.scope.Depth() != 3 {
		return f, nil
	}
	err := v.db.View(ctx, func(tx *catalog.Tx) error {
		var err error
		if f.project, err = tx.Project(ctx, t.scope.Parent()); err != nil {
			return missingRow("project", err)
		}
		if f.shard, err = tx.Shard(ctx, t.row.Tag, n); err != nil {
			return none(err)
		}
		f.known = true
		d, err := tx.Device(ctx, device)
		if err != nil {
			return none(err)
		}
		f.device = d.Principal == c.Principal && d.Removed.IsZero()
		f.recipient = d.Recipient
		return nil
	})
	return f, err
}

// none accepts that a row is not there.
func none(err error) error {
	if errors.Is(err, storage.ErrNoRow) {
		return nil
	}
	return err
}

// prepareManifest wraps the file key of the shard's manifest anew.
func (s *ShardStream) prepareManifest(to seal.Recipient) error {
	old, rest, err := seal.ReadHeader(bytes.NewReader(s.shard.Manifest))
	if err != nil {
		return fault.Wrap(fault.Corrupt, "vault.prepareManifest", "the shard's manifest is damaged", err)
	}
	header, err := s.rewrap(old, to)
	if err != nil {
		return err
	}
	payload, err := io.ReadAll(rest)
	s.Manifest = append(header, payload...)
	return err
}

// rewrap wraps the file key in header anew for the reader's device key.
func (s *ShardStream) rewrap(header []byte, to seal.Recipient) ([]byte, error) {
	key, err := s.fileKey(header)
	if err != nil {
		return nil, err
	}
	defer key.Destroy()
	return seal.Rewrap(key, to)
}

// Send writes exactly Size bytes to w, or fails; then the caller has to abort
// the connection. It records how many bytes w took. If the read is revoked
// meanwhile, cut is called from another goroutine and has to make a blocked
// Write return.
func (s *ShardStream) Send(w io.Writer, cut func()) error { return s.deliver(w, cut, s.send) }

func (s *ShardStream) send(w *meter) error {
	body, err := s.open(s.part.object, s.part.from, s.part.size)
	if err != nil {
		return lost(err)
	}
	defer body.Close()
	for _, b := range [][]byte{s.header, s.part.nonce} {
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	n, err := io.CopyBuffer(w, body, *buf)
	if err != nil {
		return lost(err)
	}
	if n != s.part.size {
		return fault.New(fault.Corrupt, "vault.Send", "storage sent another number of bytes than it holds")
	}
	return nil
}
