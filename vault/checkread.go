package vault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/seal"
)

// truth is what there is at a key, asked anew.
type truth struct {
	row     *storage.Shard       // the shard whose object or index it is, or returned work as one
	want    storage.StoredObject // what row promises
	attempt *storage.Attempt
	object  *storage.Object // nil: storage says that there is none
}

func (t truth) named() bool { return t.row != nil || t.attempt != nil }

// ask looks at a key again before anything is said of it: list and rows were
// read at different times, while the vault went on. Every object has a row from
// before its first byte until after its last, so one that has no row before and
// after it is seen has none; and a shard that still has its row after its object
// was not seen has lost it.
func (r *checkRun) ask(ctx context.Context, key string) (truth, error) {
	before, err := r.rowsOf(ctx, key)
	if err != nil {
		return truth{}, err
	}
	var object *storage.Object
	switch o, err := r.v.objects.Stat(ctx, key); {
	case err == nil:
		object = &o
	case !errors.Is(err, storage.ErrNoObject):
		return truth{}, err
	}
	after, err := r.rowsOf(ctx, key)
	if err != nil {
		return truth{}, err
	}
	if !after.named() && before.named() { // it went just now, object and all
		object = nil
	}
	after.object = object
	return after, nil
}

func (r *checkRun) rowsOf(ctx context.Context, key string) (t truth, err error) {
	shard, index := storage.ShardKey(key)
	err = r.v.db.View(ctx, func(tx *catalog.Tx) error {
		s, err := tx.ShardByKey(ctx, shard)
		if err == nil && (!index || s.Index.Size > 0) {
			t.row, t.want = &s, promise(s, index)
			return nil
		}
		if err := none(err); err != nil {
			return err
		}
		w, err := tx.WorkByKey(ctx, key)
		if err == nil {
			stored := w.Stored()
			t.row, t.want = &stored, promise(stored, false)
			return nil
		}
		if err := none(err); err != nil {
			return err
		}
		a, err := tx.AttemptByKey(ctx, shard)
		if err == nil {
			t.attempt = &a
		}
		return none(err)
	})
	return t, err
}

// promise is what a shard's row says of its object, or of its index.
func promise(s storage.Shard, index bool) storage.StoredObject {
	if index {
		return storage.StoredObject{Key: storage.IndexKey(s.Key), Dataset: s.Dataset, Number: s.Number, Index: true,
			ETag: s.Index.ETag, Size: s.Index.Size, SHA256: s.Index.SHA256, HeaderSize: int64(len(s.Index.Header))}
	}
	return storage.StoredObject{Key: s.Key, Dataset: s.Dataset, Number: s.Number, ETag: s.ETag, Size: s.SealedSize, SHA256: s.SHA256[:], PartSize: s.PartSize,
		PlainSize: s.PlainSize, HeaderSize: int64(len(s.Header)), ManifestSize: int64(len(s.Manifest))}
}

// absent is for a key that a row names and the list does not have.
func (r *checkRun) absent(ctx context.Context, n named) error {
	if n.attempt != nil {
		return r.attempt(ctx, n.key, *n.attempt, false)
	}
	t, err := r.ask(ctx, n.key)
	if err != nil || t.row == nil {
		return err
	}
	return r.shard(ctx, t, t.want)
}

// unnamed is for an object that no row names. It is only ever reported: a
// catalog that comes back from a backup may want it.
func (r *checkRun) unnamed(ctx context.Context, o storage.Object) error {
	t, err := r.ask(ctx, o.Key)
	switch {
	case err != nil || t.object == nil:
		return err
	case t.row != nil:
		return r.shard(ctx, t, t.want)
	case t.attempt != nil:
		return r.attempt(ctx, o.Key, *t.attempt, true)
	}
	return r.report(ctx, storage.Finding{Kind: storage.FoundExtra, Key: o.Key, Shard: -1,
		Detail: fmt.Sprintf("%d bytes of %s that the catalog does not know", o.Size, o.ModTime.UTC().Format(time.RFC3339))}, dataset.DatasetID{})
}

// both is for an object that a row names.
func (r *checkRun) both(ctx context.Context, n named, o storage.Object) error {
	if n.attempt != nil {
		return r.attempt(ctx, n.key, *n.attempt, true)
	}
	if o.Size != n.shard.Size || o.ETag != n.shard.ETag {
		t, err := r.ask(ctx, n.key)
		if err != nil || t.row == nil {
			return err
		}
		return r.shard(ctx, t, t.want)
	}
	return r.shard(ctx, truth{object: &o}, *n.shard)
}

// attempt looks at an upload that is no shard. One that is marked as a leftover,
// or that was given up, may go.
func (r *checkRun) attempt(ctx context.Context, key string, a storage.Attempt, there bool) error {
	if !a.StartedBy.IsZero() && r.v.now().Sub(a.StartedAt) < attemptLife {
		return nil // it may yet become one
	}
	if !r.c.Repair {
		if !there {
			return nil // nothing but its row, for the sweep
		}
		return r.report(ctx, storage.Finding{Kind: storage.FoundLeftover, Key: key, Shard: a.Number, Detail: "the sweep, or --repair, removes it"}, a.Dataset)
	}
	if t, err := r.rowsOf(ctx, key); err != nil || t.attempt == nil {
		return err // it went with the other object of the same attempt, or just now
	}
	held := false
	err := r.v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		held, err = tx.DatasetHeld(ctx, a.Dataset)
		return err
	})
	if err != nil {
		return err
	}
	if held {
		return r.report(ctx, storage.Finding{Kind: storage.FoundLeftover, Key: key, Shard: a.Number, Detail: "a legal hold keeps it"}, a.Dataset)
	}
	doomed, err := r.v.doom(ctx, a)
	if errors.Is(err, storage.ErrNoRow) {
		return nil // it was committed or cleared just now
	}
	if err == nil {
		err = r.v.delete(ctx, doomed)
	}
	if err != nil {
		return err
	}
	return r.report(ctx, storage.Finding{Kind: storage.FoundLeftover, Key: key, Shard: a.Number, Repaired: true}, a.Dataset)
}

// shard compares one object with what its row promises.
func (r *checkRun) shard(ctx context.Context, t truth, want storage.StoredObject) error {
	finding := storage.Finding{Kind: storage.FoundChanged, Key: want.Key, Shard: want.Number}
	switch {
	case !fits(want):
		finding.Detail = "its row contradicts itself: the sizes do not fit each other"
	case t.object == nil:
		finding.Kind, finding.Detail = storage.FoundMissing, "storage does not have it"
	case t.object.Size != want.Size:
		finding.Detail = fmt.Sprintf("it has %d bytes, and should have %d", t.object.Size, want.Size)
	case r.c.Data:
		var err error
		if finding, err = r.data(ctx, finding, *t.object, want); err != nil {
			return err
		}
	case t.object.ETag != want.ETag:
		finding.Detail = "it has another ETag; --read-data tells whether it has other bytes"
	}
	r.c.Checked++
	if finding.Detail == "" {
		return nil
	}
	return r.report(ctx, finding, want.Dataset)
}

// fits reports whether the parts of a row fit each other.
func fits(want storage.StoredObject) bool {
	if len(want.SHA256) != sha256.Size {
		return false
	}
	return want.Index || want.ManifestSize > 0 && want.Size == want.HeaderSize+seal.PayloadSize(want.PlainSize)
}

const readTries = 3 // of one object, before it counts as damaged

// data reads an object whole and says what is wrong with it. A read that fails
// again and again, while storage answers otherwise, is damage: a bad sector must
// not hold up the rest.
func (r *checkRun) data(ctx context.Context, f storage.Finding, o storage.Object, want storage.StoredObject) (storage.Finding, error) {
	for try := 1; ; try++ {
		sum, head, err := r.read(ctx, o, want)
		var notSaved unsaved
		switch {
		case err == nil:
			return r.judge(ctx, f, o, want, sum, head)
		case errors.As(err, &notSaved):
			return f, notSaved.error
		case errors.Is(err, storage.ErrNoObject), errors.Is(err, storage.ErrChanged):
			// Between list and read. If its row is still there, it is damage.
			t, asked := r.ask(ctx, want.Key)
			if asked != nil || t.row == nil {
				return f, asked
			}
			if t.object == nil {
				f.Kind, f.Detail = storage.FoundMissing, "storage does not have it"
				return f, nil
			}
			o, want = *t.object, t.want
			f.Detail = "it changes while it is looked at"
		case !fault.Is(err, fault.Unavailable) && !fault.Is(err, fault.Corrupt):
			return f, err
		default:
			f.Detail = "it cannot be read: " + problemOf(err)
		}
		if try == readTries {
			if _, away := r.v.objects.Stat(ctx, want.Key); away != nil && !errors.Is(away, storage.ErrNoObject) {
				return f, away
			}
			return f, nil
		}
	}
}

// unsaved is the catalog's error while an object is read, which says nothing of the
// object.
type unsaved struct{ error }

// read gives the SHA-256 of an object, and its first bytes. They are of the one
// object that the ETag pins.
func (r *checkRun) read(ctx context.Context, o storage.Object, want storage.StoredObject) (sum [32]byte, head []byte, err error) {
	defer func() { r.c.Ahead = 0 }()
	body, err := r.v.objects.Open(ctx, o.Key, 0, -1, o.ETag)
	if err != nil {
		return sum, nil, err
	}
	defer body.Close()
	hash := dataset.SealedHash(want.PartSize)
	headSize := want.HeaderSize + int64(len(storage.Shard{}.Nonce))
	for {
		n, err := io.ReadFull(body, r.buf)
		hash.Write(r.buf[:n])
		if left := headSize - int64(len(head)); left > 0 {
			head = append(head, r.buf[:min(int64(n), left)]...)
		}
		r.c.Ahead += int64(n)
		if r.limit != nil {
			if err := r.limit.WaitN(ctx, n); err != nil {
				return sum, nil, contextError(ctx, err)
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF { // of ReadFull; the store's own is wrapped
			break
		}
		if err != nil {
			return sum, nil, err
		}
		if r.due() { // this node is alive, and this far
			r.c.MovedAt = r.v.now()
			if err := r.save(ctx); err != nil {
				return sum, nil, unsaved{err}
			}
		}
	}
	r.c.Read += r.c.Ahead
	return [32]byte(hash.Sum(nil)), head, nil
}

func contextError(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil {
		return fault.Wrap(fault.Canceled, "vault.check", "canceled", ended)
	}
	return err
}

// judge compares what was read with the shard's row.
func (r *checkRun) judge(ctx context.Context, f storage.Finding, o storage.Object, want storage.StoredObject, sum [32]byte, head []byte) (storage.Finding, error) {
	f.Detail = ""
	if !bytes.Equal(sum[:], want.SHA256) {
		f.Detail = "it has other bytes than were committed"
		return f, nil
	}
	t, err := r.rowsOf(ctx, want.Key)
	if err != nil || t.row == nil {
		return f, err // replaced while it was read
	}
	if f.Detail = rowDamage(t, head); f.Detail != "" || o.ETag == t.want.ETag {
		return f, nil
	}
	if !r.c.Repair {
		f.Detail = "its bytes are right, but it has another ETag, so that it is not served; --repair pins it anew"
		return f, nil
	}
	err = r.v.db.Update(ctx, func(tx *catalog.Tx) error { return tx.SetETag(ctx, want.Key, t.want.ETag, o.ETag) })
	if errors.Is(err, storage.ErrNoRow) {
		return f, nil // it was replaced just now
	}
	f.Repaired, f.Detail = true, "its bytes are right; it was pinned to its new ETag"
	return f, err
}

// rowDamage compares the copies of an object's beginning that its row holds, and
// looks at the manifest.
func rowDamage(t truth, head []byte) string {
	kept := bytes.Clone(t.row.Header)
	kept = append(kept, t.row.Nonce[:]...)
	if t.want.Index {
		kept = t.row.Index.Header
	}
	if !bytes.Equal(head[:min(len(kept), len(head))], kept) {
		return "its row is damaged: the header in it is not the object's"
	}
	manifest, _, err := seal.ReadHeader(bytes.NewReader(t.row.Manifest))
	if !t.want.Index && (err != nil || len(manifest) == len(t.row.Manifest)) {
		return "its row is damaged: the manifest in it is no age file"
	}
	return ""
}
