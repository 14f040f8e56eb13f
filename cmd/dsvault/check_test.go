//go:build linux

package main

import (
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"dsvault/storage/storagetest"
	"dsvault/vault/wire"
)

// TestCheckCommand damages what lies in storage and has the operator find it,
// put back what a backup has, and repair the rest.
func TestCheckCommand(t *testing.T) {
	t.Parallel()
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
			s.ok("cleo", "push", files(t, 4), batch, "--shard-size", "64KiB")
			s.ok("admin", "check").wants(t, exitOK, "0 missing, 0 changed, 0 extra")
			s.ok("admin", "check", "acme", "--read-data", "--rate", "none").wants(t, exitOK, "0 missing, 0 changed", " read;")

			stored := in.read()
			keys := shardKeys(stored)
			changed := slices.Clone(stored[keys[1]])
			changed[len(changed)/2] ^= 1
			fine(t, in.remove(keys[0]))
			fine(t, in.write(keys[1], changed))
			fine(t, in.write(keys[0]+".copy", []byte("nobody's")))
			for _, flag := range []string{"--read-data=false", "--read-data"} {
				o := s.run("admin", "check", "acme", flag).wants(t, exitCorrupt, "1 missing, 1 changed, 1 extra", batch+"/0", batch+"/1", keys[0], keys[1])
				if strings.Contains(o.out, batch+"/2") {
					t.Errorf("%sshard 2 is not damaged", o)
				}
			}
			var doc checked
			o := s.run("admin", "check", "/", "--read-data", "--json")
			o.into(t, &doc)
			if o.status != exitCorrupt || doc.Missing != 1 || doc.Changed != 1 || doc.Extra != 1 || len(doc.Findings) != 3 || doc.State != "finished" {
				t.Errorf("%s", o)
			}
			// A backup brings the bytes back, with other ETags where they are times.
			for _, key := range keys[:2] {
				fine(t, in.write(key, stored[key]))
			}
			if name == "folder" {
				s.run("admin", "check", "acme", "--read-data").wants(t, exitCorrupt, "--repair pins it anew")
				s.run("cleo", "pull", batch, "-o", s.out("early")).wants(t, exitCorrupt)
				s.ok("admin", "check", "acme", "--read-data", "--repair").wants(t, exitOK, "changed, repaired", "2 repaired")
			}
			s.ok("admin", "check", "acme", "--read-data").wants(t, exitOK, "0 missing, 0 changed, 1 extra")
			s.ok("cleo", "pull", batch, "-o", s.out("late"))
			if _, ok := in.read()[keys[0]+".copy"]; !ok {
				t.Error("an object that the catalog does not know is gone")
			}
			s.run("cleo", "check", "--show", doc.ID.String()).wants(t, exitForbidden) // of the whole vault
			s.ok("cleo", "check", "acme", "--list").wants(t, exitOK, "finished")      // of what is theirs
		})
	}
}

func fine(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// shardKeys gives the keys of the shards' objects, by shard.
func shardKeys(stored map[string][]byte) []string {
	var keys []string
	for key := range stored {
		if strings.HasPrefix(key, "v1/") && !strings.HasSuffix(key, ".index.age") {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b string) int { return strings.Compare(filepath.Dir(a), filepath.Dir(b)) })
	return keys
}

// TestCheckOutlivesItsServer kills the server in the middle of a check, and
// leaves the command that waited for it.
func TestCheckOutlivesItsServer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.project()
	s.ok("cleo", "push", files(t, 10), batch, "--shard-size", "64KiB") // takes nine seconds at the rate below
	waiting := s.begin("admin", "check", "--read-data", "--rate", "64KiB")
	running := func() (c wire.Check) {
		o := s.ok("admin", "check", "--list", "--json")
		if o.out, _, _ = strings.Cut(o.out, "\n"); o.out != "" { // the newest
			o.into(t, &c)
		}
		return c
	}
	await(t, "the check has begun", func() bool { return running().Read > 0 })
	waiting.signal(syscall.SIGINT)
	waiting.wait(t).wants(t, exitInterrupted, "the check goes on", "--cancel")
	id := running().ID
	s.kill()
	s.start()
	var doc checked
	s.ok("admin", "check", "--show", id.String(), "--json").into(t, &doc)
	if doc.State != "finished" || doc.Checked != doc.Objects || doc.Read != doc.Bytes || doc.Missing+doc.Changed+doc.Extra != 0 {
		t.Errorf("%+v", doc)
	}
	s.ok("cleo", "push", files(t, 60), "acme/signs/more", "--shard-size", "64KiB") // nearly a minute; nobody waits for it
	s.ok("admin", "check", "--read-data", "--rate", "64KiB", "--detach").wants(t, exitOK, "--show")
	id = running().ID
	s.ok("admin", "check", "--cancel", id.String())
	s.run("admin", "check", "--cancel", id.String()).wants(t, exitConflict)
	s.run("admin", "check", "--show", id.String()).wants(t, exitConflict, "canceled")
	s.ok("admin", "check", "--list").wants(t, exitOK, "finished", "canceled")
	s.run("admin", "check", "--list", "--repair").wants(t, exitUsage)
	s.run("cleo", "check", "acme").wants(t, exitForbidden)
	s.ok("admin", "log", "--verify").wants(t, exitOK, "check-start", "check-end")
	s.stop()
}
