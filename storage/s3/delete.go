package s3

import (
	"context"
	"errors"
	"time"

	"github.com/minio/minio-go/v7"

	"dsvault/storage"
	"dsvault/vault/fault"
)

// Delete removes key, its older versions where the bucket keeps them, and the
// unfinished uploads to it. The last is how uploads of killed processes are
// found on servers that list uploads by their whole key only: whoever gives up
// an attempt deletes its key.
func (s *Store) Delete(ctx context.Context, key string) error {
	const op = "s3.Delete"
	if err := begin(ctx, op, key); err != nil {
		return err
	}
	// In a versioned bucket this would only put a marker before the versions. If
	// it has become one since Open, the answer says so.
	if !s.watch.versioned.Load() {
		err := s.core.RemoveObject(ctx, s.config.Bucket, s.name(key), minio.RemoveObjectOptions{})
		if err != nil && !s.absent(ctx, op, key) {
			return classify(op, err)
		}
	}
	if s.watch.versioned.Load() {
		if err := s.removeVersions(ctx, key); err != nil {
			if _, outage := refuses(err); outage == nil {
				return fault.Wrap(fault.Unavailable, op, "the object store does not let the object's versions go", err).WithHint(lockHint)
			}
			return classify(op, err)
		}
	}
	_, err := s.abortUploads(ctx, s.name(key), func(upload minio.ObjectMultipartInfo) bool { return upload.Key == s.name(key) })
	if notOffered(err) {
		return nil
	}
	return classify(op, err)
}

// absent reports whether the server says that there is no such object. Some
// refuse to delete what is not there.
func (s *Store) absent(ctx context.Context, op, key string) bool {
	_, err := s.stat(ctx, op, key)
	return errors.Is(err, storage.ErrNoObject)
}

// removeVersions removes all versions of key, the current one last: until then
// the object is listed, and so found again if this breaks off.
func (s *Store) removeVersions(ctx context.Context, key string) error {
	name := s.name(key)
	var current []minio.ObjectInfo
	remove := func(version minio.ObjectInfo) error {
		return s.core.RemoveObject(ctx, s.config.Bucket, name, minio.RemoveObjectOptions{VersionID: version.VersionID})
	}
	for version := range s.core.ListObjectsIter(ctx, s.config.Bucket, minio.ListObjectsOptions{Prefix: name, Recursive: true, WithVersions: true}) {
		if version.Err != nil {
			return version.Err
		}
		if version.Key != name { // a longer key that begins like this one
			if version.Key > name {
				break
			}
			continue
		}
		if version.IsLatest {
			current = append(current, version)
		} else if err := remove(version); err != nil {
			return err
		}
	}
	for _, version := range current {
		if err := remove(version); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Sweep aborts the multipart uploads below the prefix that were begun before
// cutoff. MinIO and others list uploads by their whole key only, so there it
// finds none; Delete does.
func (s *Store) Sweep(ctx context.Context, cutoff time.Time) (int, error) {
	removed, err := s.abortUploads(ctx, s.name(""), func(upload minio.ObjectMultipartInfo) bool {
		_, ok := s.key(upload.Key)
		return ok && upload.Initiated.Before(cutoff)
	})
	if notOffered(err) {
		return removed, nil
	}
	return removed, classify("s3.Sweep", err)
}

// abortUploads aborts the unfinished uploads whose name begins with prefix and
// which are to go, and returns how many those were.
func (s *Store) abortUploads(ctx context.Context, prefix string, gone func(minio.ObjectMultipartInfo) bool) (int, error) {
	removed := 0
	keyMarker, idMarker := "", ""
	for {
		page, err := s.core.ListMultipartUploads(ctx, s.config.Bucket, prefix, keyMarker, idMarker, "", 0)
		if codeOf(err) == minio.NoSuchUpload { // rclone's way to say that there are none
			return removed, nil
		}
		if err != nil {
			return removed, err
		}
		for _, upload := range page.Uploads {
			if !gone(upload) {
				continue
			}
			err := s.core.AbortMultipartUpload(ctx, s.config.Bucket, upload.Key, upload.UploadID)
			if codeOf(err) == minio.NoSuchUpload {
				continue // it has just ended
			}
			if err != nil {
				return removed, err
			}
			removed++
		}
		if !page.IsTruncated {
			return removed, nil
		}
		if page.NextKeyMarker < keyMarker || page.NextKeyMarker == keyMarker && page.NextUploadIDMarker == idMarker {
			return removed, errors.New("the list of unfinished uploads does not advance")
		}
		keyMarker, idMarker = page.NextKeyMarker, page.NextUploadIDMarker
	}
}
