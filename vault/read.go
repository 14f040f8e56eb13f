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
	Manifest []byte // the shard's manifest, sealed to the reader's device key

	header []byte
}

// ReadShard admits a read of one shard, sealed to the caller's device key. When
// it returns, the read is in the log; no byte has left storage yet.
func (v *Vault) ReadShard(ctx context.Context, c identity.Caller, ref dataset.ShardRef, device dataset.DeviceID, purpose string) (*ShardStream, error) {
	if err := checkText("purpose", purpose, 63); err != nil {
		return nil, err
	}
	t, err := v.target(ctx, ref.Dataset)
	if err != nil {
		return nil, err
	}
	in := v.intent(c, audit.KindRead, t, rbac.Read, rbac.Shard)
	in.Query.Object.Shard = ref.Number
	in.Note = map[string]string{"object": ref.String()}
	found, err := v.findShard(ctx, c, t, ref.Number, device)
	if err != nil {
		return nil, err
	}
	stateTerms(&in, found.project, purpose)
	if !found.known {
		return nil, v.absent(ctx, t, in)
	}
	in.Object = shardObject(found.shard.Dataset, ref.Number)
	if !found.device {
		if _, err := v.ledger.Check(ctx, in); err != nil {
			return nil, err
		}
		return nil, fault.New(fault.Invalid, "vault.ReadShard", "that is not a device key of yours").
			WithHint("register this machine's key with `dsvault login`")
	}
	to, err := seal.ParseRecipient(found.recipient)
	if err != nil {
		return nil, fault.Wrap(fault.Corrupt, "vault.ReadShard", "a device key is damaged", err)
	}
	size := int64(seal.HeaderSize()) + found.shard.SealedSize - int64(len(found.shard.Header))
	in.Access = &ledger.Access{Dataset: found.shard.Dataset, Shard: ref.Number, MaxBytes: size}
	in.Fields = append(in.Fields,
		audit.StringField(audit.FieldDelivery, string(dataset.Sealed)),
		audit.BytesField(audit.FieldDeviceID, device[:]),
		audit.Uint64Field(audit.FieldMaxBytes, uint64(size)))
	r, err := v.admit(ctx, c, in, found.shard)
	if err != nil {
		return nil, err
	}
	s := &ShardStream{reading: r}
	if err := s.prepare(ctx, to); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
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

// prepare makes the headers for the reader: the shard's and its manifest's,
// each with its file key wrapped anew for the device key.
func (s *ShardStream) prepare(ctx context.Context, to seal.Recipient) error {
	var err error
	if s.header, err = s.rewrap(ctx, s.shard.Header, to); err != nil {
		return err
	}
	if got, want := len(s.header), seal.HeaderSize(); got != want {
		return fault.New(fault.Internal, "vault.prepare", "a header of unexpected size")
	}
	s.Size = int64(len(s.header)) + s.shard.SealedSize - int64(len(s.shard.Header))
	old, rest, err := seal.ReadHeader(bytes.NewReader(s.shard.Manifest))
	if err != nil {
		return fault.Wrap(fault.Corrupt, "vault.prepare", "the shard's manifest is damaged", err)
	}
	header, err := s.rewrap(ctx, old, to)
	if err != nil {
		return err
	}
	payload, err := io.ReadAll(rest)
	s.Manifest = append(header, payload...)
	return err
}

func (s *ShardStream) rewrap(ctx context.Context, header []byte, to seal.Recipient) ([]byte, error) {
	key, err := s.v.keys.FileKey(ctx, s.permit, s.shard.Number, header)
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
	offset := int64(len(s.shard.Header))
	body, err := s.v.objects.Open(s.ctx, s.shard.Key, offset, -1, s.shard.ETag)
	if err != nil {
		return lost(err)
	}
	defer body.Close()
	if _, err := w.Write(s.header); err != nil {
		return err
	}
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	n, err := io.CopyBuffer(w, body, *buf)
	if err != nil {
		return lost(err)
	}
	if want := s.Size - int64(len(s.header)); n != want {
		return fault.New(fault.Corrupt, "vault.Send", "storage sent another number of bytes than it holds")
	}
	return nil
}
