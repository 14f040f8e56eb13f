// Package s3 keeps objects in a bucket of an S3-compatible server.
//
// Of the server it needs PUT, GET with Range, HEAD, DELETE, ListObjectsV2 and
// multipart uploads; Probe finds out what else it does. Every request that
// stores bytes carries their SHA-256 in its signature: it is stronger than
// Content-MD5, and needs no header of its own. What a server stores that does
// not check it is read back before Put returns.
package s3

import (
	"context"
	"errors"
	"iter"
	"path"
	"strings"
	"sync/atomic"

	"github.com/minio/minio-go/v7"

	"dsvault/storage"
	"dsvault/vault/fault"
)

// maxTries bounds the requests that one call may make of one kind. Only
// requests whose bytes are still at hand are sent again.
const maxTries = 4

// Store is a storage.Objects, Pager, Sweeper and Describer on a bucket.
type Store struct {
	core   minio.Core
	signer *minio.Client // signs presigned URLs, for the address at which clients reach the server
	config Config
	watch  *watch

	checks [ways]atomic.Int32 // see verifies
}

var (
	_ storage.Objects   = (*Store)(nil)
	_ storage.Pager     = (*Store)(nil)
	_ storage.Sweeper   = (*Store)(nil)
	_ storage.Hasher    = (*Store)(nil)
	_ storage.Describer = (*Store)(nil)
)

// Open checks the configuration and that the bucket can be reached.
func Open(ctx context.Context, config Config) (*Store, error) {
	const op = "s3.Open"
	config = config.withDefaults()
	if err := config.check(op); err != nil {
		return nil, err
	}
	creds, err := config.Creds.GetWithContext(nil)
	if err != nil || creds.AccessKeyID == "" || creds.SecretAccessKey == "" {
		return nil, fault.Wrap(fault.Invalid, op, "there are no credentials for the object store", err).WithHint(credentialsHint)
	}
	if config.Transport == nil {
		config.Transport = NewTransport(config.Secure)
	}
	watch := &watch{next: config.Transport, patience: config.Patience}
	core, err := minio.NewCore(config.Endpoint, &minio.Options{
		Creds: config.Creds, Secure: config.Secure, Region: config.Region, Transport: watch, MaxRetries: maxTries,
	})
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, op, "the endpoint of the object store is not valid", err).
			WithHint("Name the endpoint as http://HOST[:PORT] or https://HOST[:PORT].")
	}
	s := &Store{core: *core, signer: core.Client, config: config, watch: watch}
	if config.Public != "" {
		s.signer, err = minio.New(config.Public, &minio.Options{Creds: config.Creds, Secure: config.PublicSecure, Region: config.Region})
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, op, "the public endpoint of the object store is not valid", err).
				WithHint("Name it as http://HOST[:PORT] or https://HOST[:PORT].")
		}
	}
	if err := s.checkBucket(ctx, op); err != nil {
		return nil, err
	}
	// What cannot be asked, the first answer that names a version tells.
	if versions, err := s.core.GetBucketVersioning(ctx, config.Bucket); err == nil && versions.Status != "" {
		watch.versioned.Store(true)
	}
	return s, nil
}

// Describe says where the store is.
func (s *Store) Describe() string {
	text := "s3://" + s.config.Bucket
	if s.config.Prefix != "" {
		text += "/" + s.config.Prefix
	}
	return text + " at " + s.core.EndpointURL().String()
}

// checkBucket is nil if the server says that the bucket is there. It asks for a
// listing, as answers to HEAD do not tell a missing bucket from an unknown key.
func (s *Store) checkBucket(ctx context.Context, op string) error {
	for info := range s.core.ListObjectsIter(ctx, s.config.Bucket, minio.ListObjectsOptions{Prefix: s.name(""), Recursive: true, MaxKeys: 1}) {
		if info.Err != nil {
			return classify(op, info.Err)
		}
		break
	}
	if err := ctx.Err(); err != nil {
		return classify(op, err)
	}
	return nil
}

// Stat describes one object.
func (s *Store) Stat(ctx context.Context, key string) (storage.Object, error) {
	const op = "s3.Stat"
	if err := begin(ctx, op, key); err != nil {
		return storage.Object{}, err
	}
	return s.stat(ctx, op, key)
}

func (s *Store) stat(ctx context.Context, op, key string) (storage.Object, error) {
	info, err := s.core.StatObject(ctx, s.config.Bucket, s.name(key), minio.StatObjectOptions{})
	if err != nil {
		return storage.Object{}, s.absentOr(ctx, op, err)
	}
	return object(key, info), nil
}

// List asks for a page of up to 1,000 objects at a time.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[storage.Object, error] {
	return s.ListAfter(ctx, prefix, "")
}

// ListAfter asks the server to begin there, and leaves out what a server that
// does not know how sends all the same.
func (s *Store) ListAfter(ctx context.Context, prefix, after string) iter.Seq2[storage.Object, error] {
	const op = "s3.List"
	return func(yield func(storage.Object, error) bool) {
		if !storage.KeyPrefix(prefix) {
			yield(storage.Object{}, fault.New(fault.Invalid, op, "no object key has this prefix"))
			return
		}
		if err := ctx.Err(); err != nil {
			yield(storage.Object{}, classify(op, err))
			return
		}
		ask := prefix
		folder, start := path.Split(prefix)
		if folder != "" && !storage.ValidKey(strings.TrimSuffix(folder, "/")) {
			return // such as "../": no key begins with it
		}
		if start == "." || start == ".." { // MinIO refuses it, though "..." is a key
			ask = folder
		}
		options := minio.ListObjectsOptions{Prefix: s.name(ask), Recursive: true}
		if after != "" {
			options.StartAfter = s.name(after)
		}
		last, again := "", 0
		for info := range s.core.ListObjectsIter(ctx, s.config.Bucket, options) {
			err := errors.Join(info.Err, ctx.Err())
			if err == nil && info.Key == last && again < maxTries {
				again++ // rclone may name an object twice that is being overwritten
				continue
			}
			if err == nil && info.Key <= last { // would also catch a server that pages in a circle
				err = errors.New("the listing is not in key order")
			}
			if err != nil {
				yield(storage.Object{}, classify(op, err))
				return
			}
			last, again = info.Key, 0
			key, ok := s.key(info.Key)
			if !ok || !strings.HasPrefix(key, prefix) || key <= after {
				continue // not ours, or not asked for
			}
			if !yield(object(key, info), nil) {
				return
			}
		}
	}
}
