//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"dsvault/storage/storagetest"
	"dsvault/vault/audit"
	"dsvault/vault/client"
)

// marker is in every plaintext of the journey; secretName in every file's name.
const (
	marker     = "quokka-plaintext-marker "
	secretName = "wallaby-filename"
)

// TestJourney goes the whole way of the main job with the real program, on
// several catalogs and object stores.
func TestJourney(t *testing.T) {
	t.Parallel()
	versity, minIO := storagetest.Versitygw, storagetest.MinIO
	type stack struct {
		name     string
		postgres bool
		s3       func(testing.TB) storagetest.S3Server
		versions bool // the bucket keeps them
	}
	stacks := []stack{
		{name: "SQLite, folder"},
		{name: "SQLite, versitygw", s3: versity},
		{name: "SQLite, MinIO", s3: minIO},
		{name: "SQLite, rclone", s3: storagetest.Rclone},
		{name: "SQLite, versitygw with versions", s3: versity, versions: true},
		{name: "PostgreSQL, versitygw", postgres: true, s3: versity},
	}
	if full() {
		stacks = append(stacks, stack{name: "PostgreSQL, folder", postgres: true}, stack{name: "PostgreSQL, MinIO", postgres: true, s3: minIO},
			stack{name: "SQLite, MinIO with versions", s3: minIO, versions: true})
	}
	for _, tt := range stacks {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := &site{t: t, dir: dir, data: filepath.Join(dir, "vault")}
			if tt.postgres {
				s.flags = append(s.flags, "--catalog", storagetest.Postgres(t))
			}
			objects := func() map[string][]byte { return folderObjects(t, filepath.Join(s.data, "objects", "objects")) }
			if tt.s3 != nil {
				server := tt.s3(t)
				if tt.versions {
					if err := s3Client(t, server).EnableVersioning(t.Context(), server.Bucket); err != nil {
						t.Fatal(err)
					}
				}
				s.useS3(server)
				objects = func() map[string][]byte { return bucketObjects(t, server) }
			}
			s.open()
			s.journey(objects)
		})
	}
}

// useS3 has the site keep its objects on an S3 server.
func (s *site) useS3(server storagetest.S3Server) {
	s.env = append(s.env, "AWS_ACCESS_KEY_ID="+server.AccessKey, "AWS_SECRET_ACCESS_KEY="+server.SecretKey)
	s.flags = append(s.flags, "--objects", "s3://"+server.Bucket+"?endpoint="+server.Endpoint+"&region="+server.Region)
}

func folderObjects(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := make(map[string][]byte)
	for _, name := range tree(t, dir) {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // it went while we looked: a server writes here
		}
		if err != nil {
			t.Fatal(err)
		}
		out[name] = data
	}
	return out
}

func s3Client(t *testing.T, server storagetest.S3Server) *minio.Client {
	t.Helper()
	c, err := minio.New(strings.TrimPrefix(server.Endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(server.AccessKey, server.SecretKey, ""), Region: server.Region,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func bucketObjects(t *testing.T, server storagetest.S3Server) map[string][]byte {
	t.Helper()
	c, out := s3Client(t, server), make(map[string][]byte)
	for info := range c.ListObjects(t.Context(), server.Bucket, minio.ListObjectsOptions{Recursive: true}) {
		if info.Err != nil {
			t.Fatal(info.Err)
		}
		o, err := c.GetObject(t.Context(), server.Bucket, info.Key, minio.GetObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var data bytes.Buffer
		if _, err := data.ReadFrom(o); err != nil {
			t.Fatal(err)
		}
		out[info.Key] = data.Bytes()
	}
	return out
}

// photos makes a folder of n marked files of some size.
func photos(t *testing.T, n, size int) string {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		data := []byte(fmt.Sprintf("%d %s", i, marker))
		data = append(data, bytes.Repeat([]byte(fmt.Sprint(i, " ")), size/2)...)[:size]
		path := filepath.Join(dir, fmt.Sprint("day", i%7), fmt.Sprintf("%s-%d.txt", secretName, i))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// journey is what a new agency does on its first day. objects reads all that
// lies in storage.
func (s *site) journey(objects func() map[string][]byte) {
	t := s.t
	t.Helper()
	s.project()
	nda := filepath.Join(s.dir, "nda.txt")
	if err := os.WriteFile(nda, []byte("I keep it to myself.\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.ok("admin", "agreement", "publish", "nda", nda)
	s.join("lee", "labeler", "acme/signs", "--until", "90d")
	s.join("kim", "contractor", "acme/signs", "--until", "30d", "--reason", "contract 17")
	s.join("ann", "auditor", "/")

	source := photos(t, 40, 8<<10)
	file := filepath.Join(s.dir, secretName+"-film")
	if err := os.WriteFile(file, bytes.Repeat([]byte(marker), 20_000), 0o644); err != nil {
		t.Fatal(err)
	}
	var sent client.Pushed
	s.ok("cleo", "push", source, batch, "--shard-size", "128KiB", "--json").into(t, &sent)
	s.ok("cleo", "push", file, "acme/signs/film", "--shard-size", "128KiB")
	s.ok("cleo", "push", source, batch, "--shard-size", "128KiB").wants(t, exitOK, "nothing to send")
	if sent.Shards < 3 || sent.Sent != sent.Shards {
		t.Fatalf("%+v", sent)
	}

	s.ok("admin", "assign", batch, "lee", "--shards", "0-1", "--until", "14d")
	s.ok("admin", "assign", batch, "kim", "--shards", "2", "--until", "14d")
	var got client.Pulled
	s.ok("lee", "pull", batch, "-o", s.out("lee"), "--json").into(t, &got)
	if len(got.Shards) != 2 || got.Files == 0 {
		t.Errorf("lee pulled %+v", got)
	}
	sameFiles(t, s.out("lee"), source)
	s.run("lee", "pull", batch, "-o", s.out("lee"), "--shard", "2").wants(t, exitForbidden)
	s.run("admin", "pull", batch, "-o", s.out("admin"), "--shard", "0").wants(t, exitForbidden)
	s.run("ann", "pull", batch, "-o", s.out("ann"), "--shard", "0").wants(t, exitForbidden)

	s.run("kim", "pull", batch, "-o", s.out("kim"), "--shard", "2").wants(t, exitForbidden)
	s.run("admin", "can", "kim", "read", batch+"/2").wants(t, exitFailed, "nda")
	s.ok("kim", "agreement", "sign", "nda", "--until", "1y", "--yes")
	s.ok("admin", "can", "kim", "read", batch+"/2").wants(t, exitOK, "CON-")
	s.ok("kim", "pull", batch, "-o", s.out("kim"))
	sameFiles(t, s.out("kim"), source)

	s.ok("admin", "revoke", "labeler", "lee", "acme/signs")
	s.run("lee", "pull", batch, "-o", s.out("late"), "--shard", "0").wants(t, exitForbidden)
	s.run("admin", "can", "lee", "read", batch+"/0").wants(t, exitFailed)
	s.ok("cleo", "pull", "acme/signs/film", "-o", s.out("cleo"))
	s.ok("cleo", "pull", batch, "-o", s.out("cleo-all"))
	sameFiles(t, source, s.out("cleo-all"))
	if data, err := os.ReadFile(filepath.Join(s.out("cleo"), filepath.Base(file))); err != nil || len(data) != 20_000*len(marker) {
		t.Errorf("the file came back with %d bytes, %v", len(data), err)
	}

	s.ok("ann", "log", "--verify").wants(t, exitOK, "verified:", "labeler", "bytes, finished")
	s.checkLog("ann", got)
	s.stop()
	s.start()
	s.ok("ann", "log", "--verify")
	s.stop()
	s.checkStorage(objects(), 2*(sent.Shards+4)) // each with its index
	s.checkNames()
}

// out is a folder that somebody pulls to.
func (s *site) out(who string) string { return filepath.Join(s.dir, "out", who) }

// checkLog checks that each shard of a pull is a read in the log, with its end.
func (s *site) checkLog(who string, pulled client.Pulled) {
	s.t.Helper()
	records, _ := s.ended(who)
	reads := make(map[string]bool)
	for _, r := range records {
		if r.Kind == audit.KindRead.String() {
			reads[fmt.Sprintf("%d:%x", r.Index, []byte(r.Hash))] = true
		}
	}
	for _, shard := range pulled.Shards {
		if !reads[shard.Leaf] {
			s.t.Errorf("the read %s of shard %d is not in the log", shard.Leaf, shard.Number)
		}
	}
}

// checkStorage checks that what is stored is age ciphertext under keys that
// tell nothing.
func (s *site) checkStorage(objects map[string][]byte, want int) {
	s.t.Helper()
	n := 0
	for key, data := range objects {
		if strings.HasPrefix(key, "v1/") {
			n++
			if !bytes.HasPrefix(data, []byte("age-encryption.org/v1\n")) {
				s.t.Errorf("%s is not an age file", key)
			}
		}
		for _, word := range []string{marker, secretName, "signs", "batch"} {
			if strings.Contains(key, word) || len(word) > 5 && bytes.Contains(data, []byte(word)) {
				s.t.Errorf("%s shows %q", key, word)
			}
		}
	}
	if n != want {
		s.t.Errorf("%d objects, want %d", n, want)
	}
}

// checkNames checks that neither file names nor contents are in what the server
// keeps on its disk or says in its log.
func (s *site) checkNames() {
	s.t.Helper()
	places := folderObjects(s.t, s.data)
	places["the server's log"] = []byte(s.logs.String())
	if s.logs.Len() == 0 {
		s.t.Error("the server's log is empty")
	}
	for name, data := range places {
		for _, word := range []string{secretName, strings.TrimSpace(marker)} {
			if strings.Contains(name, word) || bytes.Contains(data, []byte(word)) {
				s.t.Errorf("%s shows %q", name, word)
			}
		}
	}
}
