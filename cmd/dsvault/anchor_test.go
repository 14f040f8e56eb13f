//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"dsvault/storage/storagetest"
)

// TestAnchorBundle: what is left in the anchor says by itself what it is worth.
// Whoever has it verifies it with the log's key and nothing else, and finds
// whether the log that they were shown is the one that was anchored.
func TestAnchorBundle(t *testing.T) {
	t.Parallel()
	server := storagetest.Versitygw(t)
	raw, err := minio.New(strings.TrimPrefix(server.Endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(server.AccessKey, server.SecretKey, ""), Region: server.Region})
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.MakeBucket(t.Context(), "anchors", minio.MakeBucketOptions{Region: server.Region, ObjectLocking: true}); err != nil {
		t.Fatal(err)
	}
	s := newSite(t)
	s.project()
	s.join("ann", "auditor", "/")
	s.ok("cleo", "push", files(t, 2), batch, "--shard-size", "64KiB")
	s.ok("cleo", "pull", batch, "-o", s.out("work"))
	s.stop()
	s.env = []string{"AWS_ACCESS_KEY_ID=" + server.AccessKey, "AWS_SECRET_ACCESS_KEY=" + server.SecretKey}
	s.start("--anchor", fmt.Sprintf("s3://anchors/log?endpoint=%s&region=%s", server.Endpoint, server.Region))

	var checkpoint, bundle minio.ObjectInfo
	await(t, "the log is anchored", func() bool {
		for o := range raw.ListObjectsIter(t.Context(), "anchors", minio.ListObjectsOptions{Recursive: true, WithVersions: true}) {
			if o.Err != nil {
				t.Fatal(o.Err)
			}
			switch filepath.Ext(o.Key) {
			case ".bundle":
				bundle = o
			case ".checkpoint":
				checkpoint = o
			}
		}
		return checkpoint.Key != ""
	})
	if bundle.Key == "" {
		t.Fatal("there is no bundle beside the checkpoint")
	}
	if err := raw.RemoveObject(t.Context(), "anchors", bundle.Key, minio.RemoveObjectOptions{VersionID: bundle.VersionID}); err == nil {
		t.Error("the bundle could be removed")
	}
	file := filepath.Join(s.dir, "anchor.bundle")
	if err := raw.FGetObject(t.Context(), "anchors", bundle.Key, file, minio.GetObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(file); err != nil || strings.Contains(string(data), "acme") || strings.Contains(string(data), "cleo") {
		t.Errorf("%v; the bundle in the bucket names a client or a person", err)
	}
	whole := filepath.Join(s.dir, "all.bundle")
	s.ok("ann", "log", "--export", whole)
	s.stop()

	s.ok("cleo", "verify", file).wants(t, exitOK, "verified: ", "no record; log of ")
	s.ok("ann", "verify", file, whole)
	verdict := s.ok("ann", "verify", file, whole, "--json").out
	if !strings.Contains(verdict, `"compared":1`) && !strings.Contains(verdict, `"compared": 1`) {
		t.Errorf("the whole log was not compared with the anchor:\n%s", verdict)
	}
	// Another log by the same key, as after a rollback.
	other := newSite(t)
	other.join("ann", "auditor", "/")
	foreign := filepath.Join(other.dir, "all.bundle")
	other.ok("ann", "log", "--export", foreign)
	other.stop()
	s.run("ann", "verify", file, foreign).wants(t, exitCorrupt)
}
