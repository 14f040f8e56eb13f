package s3

import (
	"bytes"
	"errors"
	"testing"

	"github.com/minio/minio-go/v7"

	"dsvault/storage"
	"dsvault/storage/storagetest"
	"dsvault/vault/fault"
)

// versionedStore opens a store on another bucket of the server, which keeps
// versions, or locked objects too.
func versionedStore(t *testing.T, server storagetest.S3Server, locked bool) *Store {
	t.Helper()
	plain := mustOpen(t, server, "", nil)
	server.Bucket = "versioned"
	err := plain.core.MakeBucket(t.Context(), server.Bucket, minio.MakeBucketOptions{Region: server.Region, ObjectLocking: locked})
	if err == nil && !locked {
		err = plain.core.EnableVersioning(t.Context(), server.Bucket)
	}
	if server.Name == "rclone" { // the probe's table says so
		if err == nil {
			t.Fatal("rclone has versions by now: test them")
		}
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return mustOpen(t, server, "p", nil)
}

// versions counts the versions and markers of one key.
func versions(t *testing.T, s *Store, key string) (n int) {
	t.Helper()
	for o := range s.core.ListObjectsIter(t.Context(), s.config.Bucket, minio.ListObjectsOptions{Prefix: s.name(key), Recursive: true, WithVersions: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		if o.Key == s.name(key) {
			n++
		}
	}
	return n
}

// TestVersions: in a bucket that keeps everything, the store's own view is the
// same as in any other, and Delete leaves nothing.
func TestVersions(t *testing.T) {
	eachServer(t, func(t *testing.T, server storagetest.S3Server) {
		s := versionedStore(t, server, false)
		if s == nil {
			return
		}
		large := make([]byte, partSize+1)
		old := mustPut(t, s, "a/b", []byte("old"))
		mustPut(t, s, "a/b", large)
		put := mustPut(t, s, "a/b", []byte("new"))
		mustPut(t, s, "a/bc", []byte("a longer key"))
		mustPut(t, s, "a/b-c", []byte("another"))
		if n := versions(t, s, "a/b"); n != 3 {
			t.Fatalf("%d versions after three Puts: the bucket keeps none", n)
		}
		for _, r := range [][2]int64{{0, -1}, {1, 1}, {0, 0}} {
			if _, err := s.Open(t.Context(), "a/b", r[0], r[1], old.ETag); !errors.Is(err, storage.ErrChanged) {
				t.Errorf("Open pinned to an older version: error %v, want %v", err, storage.ErrChanged)
			}
		}
		listed := 0
		for o, err := range s.List(t.Context(), "a/b") {
			if listed++; err != nil || o.Key == "a/b" && o.ETag != put.ETag {
				t.Errorf("List gave %+v, %v", o, err)
			}
		}
		if listed != 3 {
			t.Errorf("List gave %d objects, want 3", listed)
		}
		fresh, err := Open(t.Context(), s.config) // has put nothing by which to know of versions
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time it is absent
			if err := fresh.Delete(t.Context(), "a/b"); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Stat(t.Context(), "a/b"); !errors.Is(err, storage.ErrNoObject) {
				t.Errorf("Stat of what was deleted: %v", err)
			}
			if n := versions(t, s, "a/b"); n != 0 {
				t.Errorf("Delete left %d versions", n)
			}
		}
		mustPut(t, s, "a/b", []byte("again"))
		checkContent(t, s, "a/b", []byte("again"))
		checkContent(t, s, "a/bc", []byte("a longer key"))
		checkContent(t, s, "a/b-c", []byte("another"))
	})
}

// TestVersionsLater: a store whose bucket becomes versioned while it runs takes
// notice by the answers.
func TestVersionsLater(t *testing.T) {
	eachServer(t, func(t *testing.T, server storagetest.S3Server) {
		s := mustOpen(t, server, "p", nil)
		if err := s.core.EnableVersioning(t.Context(), server.Bucket); err != nil {
			if server.Name == "rclone" {
				return // as the probe's table says
			}
			t.Fatal(err)
		}
		for range 2 {
			if _, err := s.core.PutObject(t.Context(), server.Bucket, s.name("a"), bytes.NewReader([]byte("x")), 1, "", "", minio.PutObjectOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		s.watch.versioned.Store(false) // as if another process had put them
		if n := versions(t, s, "a"); n != 2 {
			t.Fatalf("there are %d versions, want 2", n)
		}
		if err := s.Delete(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if n := versions(t, s, "a"); n != 0 {
			t.Errorf("Delete left %d versions and markers", n)
		}
	})
}

// TestLocked: what the bucket forbids to delete is not reported as deleted.
func TestLocked(t *testing.T) {
	eachServer(t, func(t *testing.T, server storagetest.S3Server) {
		s := versionedStore(t, server, true)
		if s == nil {
			return
		}
		mustPut(t, s, "a", []byte("held"))
		hold := func(status minio.LegalHoldStatus) {
			t.Helper()
			if err := s.core.PutObjectLegalHold(t.Context(), s.config.Bucket, s.name("a"), minio.PutObjectLegalHoldOptions{Status: &status}); err != nil {
				t.Fatal(err)
			}
		}
		hold(minio.LegalHoldEnabled)
		for range 2 {
			if err := s.Delete(t.Context(), "a"); !fault.Is(err, fault.Unavailable) || fault.HintOf(err) != lockHint {
				t.Errorf("error %v (hint %q), want %s", err, fault.HintOf(err), fault.Unavailable)
			}
		}
		checkContent(t, s, "a", []byte("held"))
		hold(minio.LegalHoldDisabled)
		if err := s.Delete(t.Context(), "a"); err != nil {
			t.Error(err)
		}
		if n := versions(t, s, "a"); n != 0 {
			t.Errorf("Delete left %d versions", n)
		}
	})
}

// TestKilledUpload leaves an upload as a killed process does: whoever gives the
// attempt up deletes its key, and that finds it on every server.
func TestKilledUpload(t *testing.T) {
	eachServer(t, func(t *testing.T, server storagetest.S3Server) {
		s := mustOpen(t, server, "p", nil)
		unfinished := func(key string) int {
			page, err := s.core.ListMultipartUploads(t.Context(), s.config.Bucket, s.name(key), "", "", "", 0)
			if err != nil && codeOf(err) != minio.NoSuchUpload {
				t.Fatal(err)
			}
			return len(page.Uploads)
		}
		for _, key := range []string{"v1/a", "v1/ab"} {
			id, err := s.core.NewMultipartUpload(t.Context(), s.config.Bucket, s.name(key), minio.PutObjectOptions{})
			if err != nil {
				t.Fatal(err)
			}
			data := make([]byte, 5<<20)
			if _, err := s.core.PutObjectPart(t.Context(), s.config.Bucket, s.name(key), id, 1, bytes.NewReader(data), int64(len(data)), minio.PutObjectPartOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if unfinished("v1/a") == 0 {
			t.Fatal("the server does not list the upload: this test would see nothing")
		}
		if err := s.Delete(t.Context(), "v1/a"); err != nil {
			t.Fatal(err)
		}
		if n := unfinished("v1/ab"); n != 1 {
			t.Errorf("Delete of another key left %d uploads of this one, want 1", n)
		}
		if err := s.Delete(t.Context(), "v1/ab"); err != nil {
			t.Fatal(err)
		}
		if n := unfinished("v1/a") + unfinished("v1/ab"); n != 0 {
			t.Errorf("%d uploads are left", n)
		}
	})
}
