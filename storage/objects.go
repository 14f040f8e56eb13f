// Package storage is the contract between the vault and what keeps its bytes
// and rows: object stores, the catalog's records, and sentinels. Backends live
// below it: dir, s3 and catalog. The suite that every object store has to pass
// is storage/storagetest.
package storage

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

// ErrNoObject is returned by Open and Stat when the store has answered that
// the key does not exist. Callers that hold a row for the key report it as
// fault.Corrupt, never as "not found". An outage is another error.
var ErrNoObject = errors.New("no such object")

// ErrChanged is returned by Open, or by a later Read, when the object is not
// the one that the caller pinned with its ETag. The caller must discard what
// it has read.
var ErrChanged = errors.New("object changed")

// Object is what a store says of one object.
type Object struct {
	Key     string
	Size    int64  // bytes
	ETag    string // opaque; changes whenever the bytes do
	ModTime time.Time
}

// ObjectVersion is one version of an object, in a store that keeps what is put over.
type ObjectVersion struct {
	Object
	ID string // the store's own name for it
}

// Objects keeps sealed bytes under flat keys of 1 to 512 bytes of
// [A-Za-z0-9._/-], with no empty, "." or ".." segments and none over 255 bytes;
// other keys are fault.Invalid. No key may be the folder of another (a, a/b): a
// store may refuse the second with fault.Conflict. Implementations are safe for concurrent use, honour contexts,
// and return *fault.Error (Unavailable for outages, wrapping the cause) or one
// of the sentinels, which errors.Is finds.
type Objects interface {
	// Put stores size bytes of r under key and returns once they are durable;
	// size -1 means "until EOF", up to the store's limit. If r ends early, has
	// more than size bytes, or fails, or ctx ends, nothing is visible under
	// key and r's error is in the chain. If the store fails at the last step,
	// or ctx ends during it, the object may be there all the same, whole: make
	// another attempt. Callers never put to one key twice with different bytes:
	// each attempt has its own key. Put may therefore overwrite, and send again
	// what it still holds, but it never reads from r again.
	Put(ctx context.Context, key string, r io.Reader, size int64) (Object, error)

	// Open reads length bytes from offset in one request; length -1 is to the
	// end. A non-empty etag pins the object: ErrChanged if it is another one
	// by now. A range beyond the end is fault.Invalid. The reader returns
	// io.ErrUnexpectedEOF (in the chain) if the store sends fewer bytes than
	// it promised. The caller closes it; ctx covers reading too.
	Open(ctx context.Context, key string, offset, length int64, etag string) (io.ReadCloser, error)

	// Stat describes one object: ErrNoObject if the store says it is absent.
	Stat(ctx context.Context, key string) (Object, error)

	// List yields the objects whose key begins with prefix, in key order. It
	// stops after the first error it yields. Objects put or deleted meanwhile
	// may or may not be seen.
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]

	// Delete removes key durably. Deleting an absent key succeeds.
	Delete(ctx context.Context, key string) error
}

// Sweeper is an optional power of an object store: clearing away what
// interrupted Puts have left that List does not show, such as temporary files
// and unfinished multipart uploads begun before cutoff.
type Sweeper interface {
	// Sweep returns how many leftovers it removed.
	Sweep(ctx context.Context, cutoff time.Time) (int, error)
}

// Pager is an optional power of an object store: to begin a listing in its
// middle without walking what comes before.
type Pager interface {
	// ListAfter is List from the first key greater than after; "" is all.
	ListAfter(ctx context.Context, prefix, after string) iter.Seq2[Object, error]
}

// ListAfter yields what objects.List does from the first key greater than after.
func ListAfter(ctx context.Context, objects Objects, prefix, after string) iter.Seq2[Object, error] {
	if p, ok := objects.(Pager); ok {
		return p.ListAfter(ctx, prefix, after)
	}
	return func(yield func(Object, error) bool) {
		for o, err := range objects.List(ctx, prefix) {
			if err == nil && o.Key <= after {
				continue
			}
			if !yield(o, err) {
				return
			}
		}
	}
}

// Describer is an optional power: where the store is, for status output. The
// text holds no credentials.
type Describer interface{ Describe() string }
