package s3

import (
	"context"
	"strings"

	"github.com/minio/minio-go/v7"

	"dsvault/storage"
	"dsvault/vault/fault"
)

var _ storage.Purger = (*Store)(nil)

// Remains counts objects, versions, delete markers and unfinished uploads below
// prefix, as the server lists them now. A server that lists uploads by their
// whole key only, such as MinIO, shows none here.
func (s *Store) Remains(ctx context.Context, prefix string) (storage.Stored, error) {
	const op = "s3.Remains"
	var n storage.Stored
	err := s.everything(ctx, prefix, func(v minio.ObjectInfo) error {
		switch {
		case v.IsDeleteMarker:
			n.Markers++
			return nil
		case v.IsLatest || v.VersionID == "":
			n.Objects++
		}
		n.Versions++
		n.Bytes += v.Size
		return nil
	})
	if err != nil {
		return n, classify(op, err)
	}
	_, err = s.abortUploads(ctx, s.name(prefix), func(u minio.ObjectMultipartInfo) bool {
		if strings.HasPrefix(u.Key, s.name(prefix)) {
			n.Uploads++
		}
		return false
	})
	if notOffered(err) {
		err = nil
	}
	return n, classify(op, err)
}

// Purge removes all that Remains counts.
func (s *Store) Purge(ctx context.Context, prefix string) error {
	const op = "s3.Purge"
	err := s.everything(ctx, prefix, func(v minio.ObjectInfo) error {
		return s.core.RemoveObject(ctx, s.config.Bucket, v.Key, minio.RemoveObjectOptions{VersionID: v.VersionID})
	})
	if err != nil {
		if _, outage := refuses(err); outage == nil {
			return fault.Wrap(fault.Unavailable, op, "the object store does not let the object's versions go", err).WithHint(lockHint)
		}
		return classify(op, err)
	}
	_, err = s.abortUploads(ctx, s.name(prefix), func(u minio.ObjectMultipartInfo) bool {
		return strings.HasPrefix(u.Key, s.name(prefix))
	})
	if notOffered(err) {
		err = nil
	}
	return classify(op, err)
}

// everything calls f for every version and delete marker below prefix; in a
// bucket that keeps no versions, for every object, without a version ID.
func (s *Store) everything(ctx context.Context, prefix string, f func(minio.ObjectInfo) error) error {
	if !storage.KeyPrefix(prefix) || prefix == "" {
		return fault.New(fault.Invalid, "s3.everything", "no object key has this prefix")
	}
	versions := s.watch.versioned.Load()
	for v := range s.core.ListObjectsIter(ctx, s.config.Bucket, minio.ListObjectsOptions{
		Prefix: s.name(prefix), Recursive: true, WithVersions: versions,
	}) {
		if v.Err != nil {
			return v.Err
		}
		if !strings.HasPrefix(v.Key, s.name(prefix)) {
			continue
		}
		if !versions {
			v.VersionID = ""
		}
		if err := f(v); err != nil {
			return err
		}
	}
	return ctx.Err()
}
