package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"

	"github.com/minio/minio-go/v7"

	"dsvault/storage"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

const (
	partSize = dataset.PartSize // bytes; one Put holds two parts in memory: one is sent while the next one fills
	maxParts = 10_000
	// MaxObject is the largest object that Put stores, in bytes (78 GiB).
	MaxObject = partSize * maxParts
)

// Put reads a part into memory before it sends it. So a source that breaks off
// is noticed before the request that would make the object visible; parts have
// a checksum, and can be sent again without reading the source again.
//
// If that last request fails, what the server then holds decides. If it cannot
// say, or the context ends, the object may be there all the same: make another
// attempt under another key.
func (s *Store) Put(ctx context.Context, key string, r io.Reader, size int64) (storage.Object, error) {
	o, _, err := s.PutHashed(ctx, key, r, size)
	return o, err
}

// PutHashed is Put. The hashes of the parts are in their signatures anyway.
func (s *Store) PutHashed(ctx context.Context, key string, r io.Reader, size int64) (storage.Object, [sha256.Size]byte, error) {
	const op = "s3.Put"
	var out sent
	err := begin(ctx, op, key)
	switch {
	case err != nil:
	case size < -1:
		err = fault.New(fault.Invalid, op, "the size is negative")
	case size > MaxObject:
		err = tooLarge(op)
	}
	if err != nil {
		return storage.Object{}, [sha256.Size]byte{}, err
	}
	o, err := s.put(ctx, key, &source{ctx: ctx, r: r, size: size}, &out)
	if out.size == 0 {
		out.sums = nil // no part has no bytes
	}
	return o, dataset.PartsSum(out.sums), err
}

func (s *Store) put(ctx context.Context, key string, src *source, out *sent) (storage.Object, error) {
	const op = "s3.Put"
	buffer := src.buffer()
	defer src.release()
	first, last, err := src.next(buffer)
	if err != nil {
		return storage.Object{}, classify(op, err)
	}
	out.part = partSize
	if last {
		err = s.putWhole(ctx, key, first, out)
	} else {
		out.by = byParts
		err = s.putParts(ctx, key, src, buffer, out)
	}
	if err != nil && (!out.asked || ctx.Err() != nil) {
		return storage.Object{}, classify(op, err)
	}
	// The last request may have failed on its way back only. What is stored
	// decides, not what was heard of it.
	o, unconfirmed := s.confirm(ctx, key, *out)
	if unconfirmed == nil {
		return o, nil
	}
	if err != nil {
		return storage.Object{}, classify(op, err)
	}
	return storage.Object{}, unconfirmed
}

func (s *Store) putWhole(ctx context.Context, key string, data []byte, out *sent) error {
	sum := out.add(data)
	out.asked = true
	info, err := s.core.PutObject(ctx, s.config.Bucket, s.name(key), bytes.NewReader(data), int64(len(data)), "", hexSum(sum),
		minio.PutObjectOptions{ContentType: contentType, DisableContentSha256: true})
	out.etag = info.ETag
	return err
}

// putParts sends what is in buffer and the rest of src as a multipart upload.
func (s *Store) putParts(ctx context.Context, key string, src *source, buffer []byte, out *sent) (err error) {
	bucket, name := s.config.Bucket, s.name(key)
	id, err := s.core.NewMultipartUpload(ctx, bucket, name, minio.PutObjectOptions{ContentType: contentType})
	if err != nil {
		return err
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
	send := func(ctx context.Context, data []byte) error {
		part, err := s.core.PutObjectPart(ctx, bucket, name, id, len(parts)+1, bytes.NewReader(data), int64(len(data)),
			minio.PutObjectPartOptions{Sha256Hex: hexSum(out.add(data)), DisableContentSha256: true})
		parts = append(parts, minio.CompletePart{PartNumber: part.PartNumber, ETag: part.ETag})
		return err
	}
	if err := src.each(ctx, buffer, send); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// The commit point: the object is visible once the server has this request.
	out.asked = true
	info, err := s.core.CompleteMultipartUpload(ctx, bucket, name, id, parts, minio.PutObjectOptions{})
	out.etag = info.ETag
	return err
}

const contentType = "application/octet-stream"

// hexSum is what the signature says of a body. minio-go uses it over TLS only,
// unless DisableContentSha256 is set, which turns off nothing but its own way of
// hashing and signing every 64 KiB.
func hexSum(sum [sha256.Size]byte) string { return hex.EncodeToString(sum[:]) }

func tooLarge(op string) error {
	return fault.New(fault.TooLarge, op, "an object has at most 78 GiB").WithHint("Cut the data into smaller shards.")
}
