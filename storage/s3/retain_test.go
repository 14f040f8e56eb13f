package s3

import (
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"dsvault/storage"
	"dsvault/storage/storagetest"
	"dsvault/vault/fault"
)

func allVersions(t *testing.T, s *Store, prefix string) (keys []string, contents []string) {
	t.Helper()
	for v, err := range s.Versions(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.OpenVersion(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil || int64(len(data)) != v.Size {
			t.Errorf("%s: %d bytes of %d, %v", v.Key, len(data), v.Size, err)
		}
		r.Close()
		keys, contents = append(keys, v.Key), append(contents, string(data))
	}
	return keys, contents
}

// TestRetained: what is put under a lock is there until its time, and is found,
// whatever somebody with the bucket's own keys does.
func TestRetained(t *testing.T) {
	eachServer(t, func(t *testing.T, server storagetest.S3Server) {
		ctx := t.Context()
		if err := mustOpen(t, server, "", nil).Retained(ctx); !fault.Is(err, fault.Invalid) {
			t.Errorf("a bucket without object lock: %v", err)
		}
		s := versionedStore(t, server, true)
		if s == nil {
			return
		}
		if err := s.Retained(ctx); err != nil {
			t.Fatal(err)
		}
		until := time.Now().Add(time.Hour)
		for _, key := range []string{"log/b", "log/a"} {
			if err := s.PutRetained(ctx, key, []byte("kept "+key), until); err != nil {
				t.Fatal(err)
			}
		}
		var locked []minio.ObjectInfo
		for info := range s.core.ListObjectsIter(ctx, s.config.Bucket, minio.ListObjectsOptions{Prefix: s.name("log/"), Recursive: true, WithVersions: true}) {
			locked = append(locked, info)
		}
		// Somebody hides one behind another version, marks the other as deleted,
		// and tries to remove both for good.
		mustPut(t, s, "log/a", []byte("something else"))
		if err := s.core.RemoveObject(ctx, s.config.Bucket, s.name("log/b"), minio.RemoveObjectOptions{}); err != nil {
			t.Fatal(err)
		}
		for _, info := range locked {
			err := s.core.RemoveObject(ctx, s.config.Bucket, info.Key, minio.RemoveObjectOptions{VersionID: info.VersionID, GovernanceBypass: true})
			if err == nil {
				t.Errorf("%s could be deleted", info.Key)
			}
		}
		if _, err := s.Stat(ctx, "log/b"); !errors.Is(err, storage.ErrNoObject) {
			t.Errorf("the test does not hide what it means to: %v", err)
		}
		keys, contents := allVersions(t, s, "log/")
		if !slices.IsSorted(keys) || !slices.Contains(contents, "kept log/a") || !slices.Contains(contents, "kept log/b") ||
			!slices.Contains(contents, "something else") || len(keys) != 3 {
			t.Errorf("%v: %v", keys, contents)
		}
		if keys, _ := allVersions(t, s, "nothing/"); len(keys) != 0 {
			t.Errorf("%v", keys)
		}
		for _, err := range s.Versions(ctx, "no such prefix!") {
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("a bad prefix: %v", err)
			}
		}
		if _, err := s.OpenVersion(ctx, storage.ObjectVersion{Object: storage.Object{Key: "log/absent"}}); !errors.Is(err, storage.ErrNoObject) {
			t.Errorf("an absent object: %v", err)
		}
	})
}
