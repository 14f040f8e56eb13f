package s3

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/minio/minio-go/v7"

	"dsvault/storage"
	"dsvault/vault/fault"
)

// Retained checks that the bucket can forbid deleting: that it was made with
// object lock. Otherwise it is fault.Invalid.
func (s *Store) Retained(ctx context.Context) error {
	const op = "s3.Retained"
	lock, _, _, _, err := s.core.GetObjectLockConfig(ctx, s.config.Bucket)
	refused, err := refuses(err)
	if err != nil {
		return classify(op, err)
	}
	if refused || lock != "Enabled" {
		return fault.New(fault.Invalid, op, "the bucket has no object lock").
			WithHint("Make a bucket with object lock: it can only be switched on when a bucket is made, on most servers.")
	}
	return nil
}

// PutRetained stores data under key in compliance mode: until a time nobody can
// delete or change this version, whatever their credentials. A key that is
// there gets another version.
func (s *Store) PutRetained(ctx context.Context, key string, data []byte, until time.Time) error {
	const op = "s3.PutRetained"
	if err := begin(ctx, op, key); err != nil {
		return err
	}
	// S3 wants an MD5 with every lock; what protects the bytes is the SHA-256.
	weak := md5.Sum(data)
	_, err := s.core.PutObject(ctx, s.config.Bucket, s.name(key), bytes.NewReader(data), int64(len(data)),
		base64.StdEncoding.EncodeToString(weak[:]), hexSum(sha256.Sum256(data)), minio.PutObjectOptions{
			ContentType: contentType, DisableContentSha256: true, Mode: minio.Compliance, RetainUntilDate: until.UTC().Truncate(time.Second),
		})
	if err != nil {
		return classify(op, err)
	}
	return nil
}

// Versions yields every version of the objects whose key begins with prefix, in
// key order, also those that others were put over, or that were deleted: an
// object under a lock is among them whatever was done to its key since.
func (s *Store) Versions(ctx context.Context, prefix string) iter.Seq2[storage.ObjectVersion, error] {
	const op = "s3.Versions"
	return func(yield func(storage.ObjectVersion, error) bool) {
		if !storage.KeyPrefix(prefix) {
			yield(storage.ObjectVersion{}, fault.New(fault.Invalid, op, "no object key has this prefix"))
			return
		}
		for info := range s.core.ListObjectsIter(ctx, s.config.Bucket, minio.ListObjectsOptions{Prefix: s.name(prefix), Recursive: true, WithVersions: true}) {
			if err := errors.Join(info.Err, ctx.Err()); err != nil {
				yield(storage.ObjectVersion{}, classify(op, err))
				return
			}
			key, ok := s.key(info.Key)
			if !ok || info.IsDeleteMarker {
				continue
			}
			if !yield(storage.ObjectVersion{Object: object(key, info), ID: info.VersionID}, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(storage.ObjectVersion{}, classify(op, err))
		}
	}
}

// OpenVersion reads one version from its beginning.
func (s *Store) OpenVersion(ctx context.Context, v storage.ObjectVersion) (io.ReadCloser, error) {
	const op = "s3.OpenVersion"
	if err := begin(ctx, op, v.Key); err != nil {
		return nil, err
	}
	body, _, _, err := s.core.GetObject(ctx, s.config.Bucket, s.name(v.Key), minio.GetObjectOptions{VersionID: v.ID})
	if err != nil {
		return nil, s.absentOr(ctx, op, err)
	}
	return body, nil
}
