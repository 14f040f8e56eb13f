package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"

	"github.com/minio/minio-go/v7"

	"dsvault/storage"
	"dsvault/vault/fault"
)

// sent is what one Put has sent.
type sent struct {
	by    way
	size  int64
	part  int64               // bytes of each part but the last
	sums  [][sha256.Size]byte // of each part
	etag  string              // as answered to the last request; "" if there was no good answer
	asked bool                // the last request was made: the object may be there
}

// way is how bytes came to the server; it may check some ways and not others.
type way int

const (
	byPut way = iota
	byParts
	byPresigned
	ways
)

func (o *sent) add(data []byte) (sum [sha256.Size]byte) {
	sum = sha256.Sum256(data)
	o.size, o.sums = o.size+int64(len(data)), append(o.sums, sum)
	return sum
}

// confirm asks the store what it holds. Whether those are the bytes that were
// sent, the ETag tells if the server has checked what it took and gives an
// object the ETag that it has acknowledged. Otherwise the bytes are read back.
func (s *Store) confirm(ctx context.Context, key string, out sent) (storage.Object, error) {
	const op = "s3.Put"
	for try := 1; ; try++ {
		o, err := s.stat(ctx, op, key)
		if errors.Is(err, storage.ErrNoObject) {
			return storage.Object{}, fault.Wrap(fault.Unavailable, op, "the object store does not have what it has just accepted", err)
		}
		if err != nil {
			return storage.Object{}, err
		}
		if o.Size == out.size && o.ETag != "" && o.ETag == out.etag && s.verifies(ctx, out.by) {
			return o, nil
		}
		same := false
		if o.Size == out.size {
			same, err = s.holds(ctx, o, out)
		}
		switch {
		case err != nil && ctx.Err() == nil && try < maxTries:
			continue // the answer broke off, or somebody else has just put the same
		case errors.Is(err, storage.ErrChanged):
			return storage.Object{}, fault.Wrap(fault.Unavailable, op, "the object changes while it is looked at", err)
		case err != nil:
			return storage.Object{}, err
		case !same:
			return storage.Object{}, s.wrong(ctx, key, out)
		}
		return o, nil
	}
}

// wrong clears away what the server has accepted and then not kept. If it has
// accepted nothing, then what is there is an older object; but nothing is older
// than an upload by presigned URLs.
func (s *Store) wrong(ctx context.Context, key string, out sent) error {
	if out.etag != "" || out.by == byPresigned {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortLimit)
		defer cancel()
		_ = s.Delete(ctx, key)
	}
	if out.by == byPresigned {
		return fault.New(fault.Invalid, "s3.FinishParts", "the parts are not those that were announced").WithHint(partsHint)
	}
	return fault.New(fault.Unavailable, "s3.Put", "the object store holds something else than was sent").
		WithHint("Try again; check the object store and the network if it goes on.")
}

// holds reads an object back and reports whether it is what was sent.
func (s *Store) holds(ctx context.Context, o storage.Object, out sent) (bool, error) {
	r, err := s.Open(ctx, o.Key, 0, -1, o.ETag)
	if err != nil {
		return false, err
	}
	defer r.Close()
	for _, want := range out.sums {
		hash := sha256.New()
		if _, err := io.CopyN(hash, r, out.part); err != nil && err != io.EOF {
			return false, err
		}
		if [sha256.Size]byte(hash.Sum(nil)) != want {
			return false, nil
		}
	}
	return true, nil
}

// scratch is where the keys begin that the store makes for its own questions.
const scratch = ".probe/"

// Answers to whether the server checks what it takes.
const (
	unknown = iota
	checks
	checksNot
)

// verifies reports whether the server refuses bytes that come in this way and
// do not have the SHA-256 that their request is signed with. It finds out by
// trying, once; a server that has not said so is not trusted.
func (s *Store) verifies(ctx context.Context, by way) bool {
	known := &s.checks[by]
	try := [ways]func(context.Context, string) error{s.putDamaged, s.putDamagedPart, s.putDamagedPresigned}[by]
	if known.Load() == unknown {
		refused, err := mismatch(try(ctx, scratch+rand.Text()))
		switch {
		case err != nil: // it is asked again after the next Put
		case refused:
			known.Store(checks)
		default:
			known.Store(checksNot)
		}
	}
	return known.Load() == checks
}

// damaged does not have the SHA-256 of nothing, which it is sent with.
var damaged = []byte("damaged on the way")

func (s *Store) putDamaged(ctx context.Context, key string) error {
	_, err := s.core.PutObject(ctx, s.config.Bucket, s.name(key), bytes.NewReader(damaged), int64(len(damaged)), "", hexSum(sha256.Sum256(nil)),
		minio.PutObjectOptions{ContentType: contentType, DisableContentSha256: true})
	if err == nil {
		_ = s.Delete(ctx, key)
	}
	return err
}

func (s *Store) putDamagedPart(ctx context.Context, key string) error {
	bucket, name := s.config.Bucket, s.name(key)
	id, err := s.core.NewMultipartUpload(ctx, bucket, name, minio.PutObjectOptions{ContentType: contentType})
	if err != nil {
		return err
	}
	_, err = s.core.PutObjectPart(ctx, bucket, name, id, 1, bytes.NewReader(damaged), int64(len(damaged)),
		minio.PutObjectPartOptions{Sha256Hex: hexSum(sha256.Sum256(nil)), DisableContentSha256: true})
	_ = s.core.AbortMultipartUpload(ctx, bucket, name, id)
	return err
}
