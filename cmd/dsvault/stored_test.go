//go:build linux

package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"dsvault/storage/storagetest"
	"dsvault/vault/client"
)

// backdoor reaches what lies in storage behind the server's back.
type backdoor struct {
	read   func() map[string][]byte
	write  func(key string, data []byte) error
	remove func(key string) error
	times  func() map[string]time.Time // of files, which backups keep
	touch  func(key string, at time.Time) error
}

// folderDoor is the way into the folder of the objects.
func (s *site) folderDoor() backdoor {
	objects := filepath.Join(s.data, "objects", "objects")
	return backdoor{
		read:   func() map[string][]byte { return folderObjects(s.t, objects) },
		write:  func(key string, data []byte) error { return os.WriteFile(filepath.Join(objects, key), data, 0o600) },
		remove: func(key string) error { return os.Remove(filepath.Join(objects, key)) },
		times:  func() map[string]time.Time { return modTimes(s.t, objects) },
		touch:  func(key string, at time.Time) error { return os.Chtimes(filepath.Join(objects, key), at, at) },
	}
}

// bucketDoor is the way into the bucket of an S3 server.
func (s *site) bucketDoor(server storagetest.S3Server) backdoor {
	c, ctx := s3Client(s.t, server), s.t.Context()
	return backdoor{
		read: func() map[string][]byte { return bucketObjects(s.t, server) },
		write: func(key string, data []byte) error {
			_, err := c.PutObject(ctx, server.Bucket, key, bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{})
			return err
		},
		remove: func(key string) error { return c.RemoveObject(ctx, server.Bucket, key, minio.RemoveObjectOptions{}) },
		times:  func() map[string]time.Time { return nil },
	}
}

// TestDamagedObjects damages what lies in storage: no reader gets any of it.
func TestDamagedObjects(t *testing.T) {
	t.Parallel()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"folder", "versitygw"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := &site{t: t, dir: dir, data: filepath.Join(dir, "vault")}
			in := s.folderDoor()
			if name == "versitygw" {
				server := storagetest.Versitygw(t)
				s.useS3(server)
				in = s.bucketDoor(server)
			}
			s.open()
			s.project()
			source := files(t, 6)
			s.ok("cleo", "push", source, batch, "--shard-size", "64KiB")
			stored, times := in.read(), in.times()
			var keys []string // of the shards in their order: the number is in the key
			for key := range stored {
				if strings.HasPrefix(key, "v1/") && !strings.HasSuffix(key, ".index.age") {
					keys = append(keys, key)
				}
			}
			slices.SortFunc(keys, func(a, b string) int { return strings.Compare(filepath.Dir(a), filepath.Dir(b)) })
			if len(keys) != 6 {
				t.Fatalf("%d objects", len(keys))
			}
			changed := slices.Clone(stored[keys[0]])
			changed[len(changed)/2] ^= 1
			check(in.write(keys[0], changed))
			check(in.write(keys[1], stored[keys[1]][:len(stored[keys[1]])-100]))
			check(in.remove(keys[2]))
			check(in.write(keys[3], stored[keys[4]]))
			check(in.write(keys[4], nil))
			for shard := range 5 {
				for _, flag := range []string{"--sealed=false", "--sealed"} {
					dir := filepath.Join(s.dir, "got", fmt.Sprint(shard, flag))
					s.run("cleo", "pull", batch, "-o", dir, "--shard", fmt.Sprint(shard), flag).wants(t, exitCorrupt)
					if names := tree(t, dir); len(names) > 0 {
						t.Errorf("shard %d left %v", shard, names)
					}
				}
			}
			s.run("cleo", "pull", batch, "-o", s.out("all")).wants(t, exitCorrupt)
			s.ok("cleo", "pull", batch, "-o", s.out("good"), "--shard", "5")
			sameFiles(t, s.out("good"), source)
			// The right bytes come back, from a backup: all is well again.
			for key, data := range stored {
				check(in.write(key, data))
			}
			for key, at := range times {
				check(in.touch(key, at))
			}
			s.ok("cleo", "pull", batch, "-o", s.out("restored"))
			sameFiles(t, source, s.out("restored"))
			s.ok("admin", "log", "--verify")
			s.stop()
		})
	}
}

func modTimes(t *testing.T, dir string) map[string]time.Time {
	t.Helper()
	out := make(map[string]time.Time)
	for _, name := range tree(t, dir) {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		out[name] = info.ModTime()
	}
	return out
}

// TestManyFiles pushes and pulls a folder of some thousand files.
func TestManyFiles(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.project()
	source := photos(t, 3000, 500)
	var sent client.Pushed
	s.ok("cleo", "push", source, batch, "--shard-size", "512KiB", "--json").into(t, &sent)
	if sent.Files != 3000 || sent.Shards < 3 {
		t.Errorf("%d files in %d shards", sent.Files, sent.Shards)
	}
	var got client.Pulled
	s.ok("cleo", "pull", batch, "-o", s.out("cleo"), "--json").into(t, &got)
	sameFiles(t, source, s.out("cleo"))
	sameFiles(t, s.out("cleo"), source)
	s.ok("cleo", "pull", batch, "-o", s.out("cleo"), "--json").into(t, &got)
	same := 0
	for _, shard := range got.Shards {
		same += shard.Same
	}
	if same != 3000 {
		t.Errorf("a second pull found %d files as they were", same)
	}
	s.stop()
}

// TestLargeFile pushes and pulls one file: more than 1 GiB in the long form.
func TestLargeFile(t *testing.T) {
	t.Parallel()
	size, shard := int64(40<<20), "16MiB"
	if full() {
		size, shard = 1<<30+12345, "256MiB"
	}
	s := newSite(t)
	s.project()
	path := filepath.Join(s.dir, "film")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.NewChaCha8([32]byte{1})
	if _, err := io.CopyN(f, random, size); err != nil {
		t.Fatal(err)
	}
	f.Close()
	var sent client.Pushed
	s.ok("cleo", "push", path, "acme/signs/film", "--shard-size", shard, "--json").into(t, &sent)
	s.ok("cleo", "push", path, "acme/signs/whole", "--shard-size", "2GiB")
	if sent.Shards < 3 {
		t.Errorf("%d shards", sent.Shards)
	}
	want, err := hashFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"film", "whole"} {
		s.ok("cleo", "pull", "acme/signs/"+name, "-o", s.out(name))
		got, err := hashFile(filepath.Join(s.out(name), "film"))
		if err != nil || got != want {
			t.Errorf("%s came back different, %v", name, err)
		}
	}
	s.stop()
}
