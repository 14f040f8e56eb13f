package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"sync"

	"github.com/minio/minio-go/v7"

	"dsvault/storage"
	"dsvault/vault/fault"
)

const (
	partSize = 16 << 20 // bytes; all the memory that one Put holds
	maxParts = 10_000
	// MaxObject is the largest object that Put stores, in bytes (156 GiB).
	MaxObject = partSize * maxParts
)

// buffers holds *[partSize]byte.
var buffers = sync.Pool{New: func() any { return new([partSize]byte) }}

// Put reads a part into memory before it sends it. So a source that breaks off
// is noticed before the request that would make the object visible; parts have
// a checksum, and can be sent again without reading the source again.
//
// If that last request fails, or the context ends during it, the object may be
// there all the same. Make another attempt under another key.
func (s *Store) Put(ctx context.Context, key string, r io.Reader, size int64) (storage.Object, error) {
	const op = "s3.Put"
	if err := begin(ctx, op, key); err != nil {
		return storage.Object{}, err
	}
	if size < -1 {
		return storage.Object{}, fault.New(fault.Invalid, op, "the size is negative")
	}
	if size > MaxObject {
		return storage.Object{}, tooLarge(op)
	}
	src := &source{ctx: ctx, r: r, size: size}
	buffer := src.buffer()
	defer src.release()
	first, last, err := src.next(buffer)
	if err != nil {
		return storage.Object{}, classify(op, err)
	}
	var etag string
	if last {
		etag, err = s.putWhole(ctx, key, first)
	} else {
		etag, err = s.putParts(ctx, key, src, buffer)
	}
	if err != nil {
		return storage.Object{}, classify(op, err)
	}
	return s.confirm(ctx, key, src.read, etag)
}

// confirm asks the store what it holds.
func (s *Store) confirm(ctx context.Context, key string, size int64, etag string) (storage.Object, error) {
	const op = "s3.Put"
	o, err := s.stat(ctx, op, key)
	if errors.Is(err, storage.ErrNoObject) {
		return storage.Object{}, fault.Wrap(fault.Unavailable, op, "the object store does not have what it has just accepted", err)
	}
	if err != nil {
		return storage.Object{}, err
	}
	if o.Size != size || o.ETag != etag {
		return storage.Object{}, fault.New(fault.Unavailable, op, "the object store holds something else than was sent")
	}
	return o, nil
}

func (s *Store) putWhole(ctx context.Context, key string, data []byte) (etag string, err error) {
	info, err := s.core.PutObject(ctx, s.config.Bucket, s.name(key), bytes.NewReader(data), int64(len(data)), "", sum(data),
		minio.PutObjectOptions{ContentType: contentType, DisableContentSha256: true})
	return info.ETag, err
}

// putParts sends what is in buffer and the rest of src as a multipart upload.
func (s *Store) putParts(ctx context.Context, key string, src *source, buffer []byte) (etag string, err error) {
	bucket, name := s.config.Bucket, s.name(key)
	id, err := s.core.NewMultipartUpload(ctx, bucket, name, minio.PutObjectOptions{ContentType: contentType})
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			// Also when the context has ended; what is left over, Sweep removes.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortLimit)
			defer cancel()
			_ = s.core.AbortMultipartUpload(ctx, bucket, name, id)
		}
	}()
	var parts []minio.CompletePart
	for data, last := buffer, false; ; {
		part, err := s.core.PutObjectPart(ctx, bucket, name, id, len(parts)+1, bytes.NewReader(data), int64(len(data)),
			minio.PutObjectPartOptions{Sha256Hex: sum(data), DisableContentSha256: true})
		if err != nil {
			return "", err
		}
		parts = append(parts, minio.CompletePart{PartNumber: part.PartNumber, ETag: part.ETag})
		if last {
			break
		}
		if len(parts) == maxParts {
			return "", tooLarge("s3.Put")
		}
		if data, last, err = src.next(buffer); err != nil {
			return "", err
		}
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	// The commit point: the object is visible once the server has this request.
	info, err := s.core.CompleteMultipartUpload(ctx, bucket, name, id, parts, minio.PutObjectOptions{})
	return info.ETag, err
}

const contentType = "application/octet-stream"

// sum is what the signature says of a body. minio-go uses it over TLS only,
// unless DisableContentSha256 is set, which turns off nothing but its own way of
// hashing and signing every 64 KiB.
func sum(data []byte) string {
	hash := sha256.Sum256(data)
	return hex.EncodeToString(hash[:])
}

func tooLarge(op string) error {
	return fault.New(fault.TooLarge, op, "an object has at most 156 GiB").WithHint("Cut the data into smaller shards.")
}
