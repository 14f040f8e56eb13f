package storage

import (
	"context"
	"crypto/sha256"
	"io"

	"dsvault/vault/dataset"
)

// Hasher is an optional power of an object store: to say the hash of what it puts,
// which it needs itself, so that nobody has to hash it once more.
type Hasher interface {
	// PutHashed is Put, and gives the dataset.SealedHash of the bytes by parts of
	// dataset.PartSize.
	PutHashed(ctx context.Context, key string, r io.Reader, size int64) (Object, [32]byte, error)
}

// HashedBy says by parts of how many bytes PutHashed hashes; 0: all at once.
func HashedBy(objects Objects) int64 {
	if w, ok := objects.(*watched); ok {
		return HashedBy(w.objects)
	}
	if _, ok := objects.(Hasher); ok {
		return dataset.PartSize
	}
	return 0
}

// PutHashed puts an object and gives the dataset.SealedHash of its bytes, by the
// parts that HashedBy says.
func PutHashed(ctx context.Context, objects Objects, key string, r io.Reader, size int64) (Object, [32]byte, error) {
	if w, ok := objects.(*watched); ok {
		source := &blamed{r: r}
		o, sum, err := PutHashed(ctx, w.objects, key, source, size)
		if !source.failed {
			w.tell(err)
		}
		return o, sum, err
	}
	if regions, ok := objects.(*Regions); ok {
		return regions.putHashed(ctx, key, r, size)
	}
	if h, ok := objects.(Hasher); ok {
		return h.PutHashed(ctx, key, r, size)
	}
	hash := sha256.New()
	o, err := objects.Put(ctx, key, io.TeeReader(r, hash), size)
	return o, [32]byte(hash.Sum(nil)), err
}
