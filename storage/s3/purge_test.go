package s3

import (
	"testing"

	"github.com/minio/minio-go/v7"

	"dsvault/storage"
	"dsvault/storage/storagetest"
)

// TestPurge: everything below a prefix goes, in all versions, with delete markers
// and unfinished uploads, and nothing else does.
func TestPurge(t *testing.T) {
	eachServer(t, func(t *testing.T, server storagetest.S3Server) {
		for _, versioned := range []bool{false, true} {
			s := mustOpen(t, server, "p", nil)
			if versioned {
				if s = versionedStore(t, server, false); s == nil {
					continue
				}
			}
			purge(t, s, versioned)
		}
	})
}

func purge(t *testing.T, s *Store, versioned bool) {
	t.Helper()
	ctx := t.Context()
	for _, key := range []string{"v1/a/1.age", "v1/a/2.age", "v1/ab/1.age"} {
		mustPut(t, s, key, []byte("old"))
	}
	mustPut(t, s, "v1/a/1.age", []byte("new"))
	// As another client would: a marker where the bucket keeps versions.
	if err := s.core.RemoveObject(ctx, s.config.Bucket, s.name("v1/a/2.age"), minio.RemoveObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	upload := "v1/a/3.age"
	if _, err := s.StartParts(ctx, upload); err != nil {
		t.Fatal(err)
	}
	want := storage.Stored{Objects: 1, Versions: 1, Bytes: 3}
	if versioned {
		want = storage.Stored{Objects: 1, Versions: 3, Markers: 1, Bytes: 9}
	}
	n, err := s.Remains(ctx, "v1/a/")
	if n.Uploads = 0; err != nil || n != want { // not every server lists uploads by a prefix
		t.Errorf("versioned=%v: %+v, %v; want %+v", versioned, n, err, want)
	}
	if err := s.Purge(ctx, "v1/a/"); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(ctx, upload); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Remains(ctx, "v1/a/"); err != nil || !n.Empty() {
		t.Errorf("versioned=%v: after Purge %+v, %v", versioned, n, err)
	}
	page, err := s.core.ListMultipartUploads(ctx, s.config.Bucket, s.name(upload), "", "", "", 0)
	if codeOf(err) != minio.NoSuchUpload && (err != nil || len(page.Uploads) > 0) {
		t.Errorf("versioned=%v: uploads are left: %+v, %v", versioned, page.Uploads, err)
	}
	if n, err := s.Remains(ctx, "v1/ab/"); err != nil || n.Objects != 1 {
		t.Errorf("versioned=%v: another prefix has %+v, %v", versioned, n, err)
	}
	if err := s.Purge(ctx, ""); err == nil {
		t.Error("the whole bucket was purged")
	}
}
