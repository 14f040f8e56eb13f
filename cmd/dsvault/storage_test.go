//go:build linux

package main

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"dsvault/storage/storagetest"
	"dsvault/vault/wire"
)

// TestStorageMigrate moves a vault's objects from its folder to a bucket: refused
// while it is served, killed in the middle, refused over a damaged object, then
// done; what was pushed comes back the same, and is erased where it is now.
func TestStorageMigrate(t *testing.T) {
	t.Parallel()
	server := storagetest.Versitygw(t)
	way := newStoreProxy(t, server)
	server.Endpoint = way.URL
	s := newSite(t)
	s.project()
	s.join("bob", "admin", "/")
	source := photos(t, 40, 60<<10)
	s.ok("cleo", "push", source, batch, "--shard-size", "64KiB")

	to := "s3://" + server.Bucket + "?endpoint=" + server.Endpoint + "&region=" + server.Region
	env := []string{"AWS_ACCESS_KEY_ID_TO=" + server.AccessKey, "AWS_SECRET_ACCESS_KEY_TO=" + server.SecretKey}
	migrate := func(flags ...string) *program {
		return launch(t, env, append([]string{"storage", "migrate", "--data", s.data, "--to", to}, flags...)...)
	}
	migrate().wait(t).wants(t, exitConflict, "another dsvault")
	s.stop()

	// Somebody forgets to name the store, or names another.
	elsewhere := "dir:" + filepath.Join(t.TempDir(), "elsewhere")
	launch(t, nil, "doctor", "--data", s.data, "--objects", elsewhere).wait(t).wants(t, exitCorrupt, "this one has no mark")
	named := s.flags
	s.flags = append(slices.Clone(named), "--objects", elsewhere)
	s.serve().wait(t).wants(t, exitConflict, "this one has no mark")
	s.flags = named

	before := folderObjects(t, filepath.Join(s.data, "objects", "objects"))
	var puts atomic.Int32
	stuck := make(chan struct{})
	once := sync.OnceFunc(func() { close(stuck) })
	way.be(func(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
		if r.Method != http.MethodPut || puts.Add(1) < 16 {
			return false
		}
		once()
		<-r.Context().Done()
		return true
	})
	p := migrate()
	await(t, "some objects are copied", func() bool { return isClosed(stuck) || p.ended() })
	p.signal(syscall.SIGKILL)
	p.wait(t).wants(t, -1)
	way.be(nil)
	there := bucketObjects(t, server)
	if len(there) < 8 || len(there) >= len(before) {
		t.Fatalf("%d of %d objects were copied before it was killed", len(there), len(before))
	}

	// The last one that is not there yet rots.
	names := make([]string, 0, len(before))
	for name := range before {
		if there[name] == nil && name != "vault" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	rotten := filepath.Join(s.data, "objects", "objects", names[len(names)-1])
	data := bytes.Clone(before[names[len(names)-1]])
	data[len(data)/2] ^= 1
	info, err := os.Stat(rotten)
	if err != nil {
		t.Fatal(err)
	}
	write := func(data []byte) {
		if err := os.WriteFile(rotten, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(rotten, info.ModTime(), info.ModTime()); err != nil {
			t.Fatal(err)
		}
	}
	write(data)
	var doc movedDoc
	migrate("--json").wait(t).wants(t, exitCorrupt, names[len(names)-1]).into(t, &doc)
	if doc.Switched || doc.Damaged != 1 || len(doc.Findings) != 1 || !strings.HasPrefix(doc.Findings[0].Shard, batch+"/") {
		t.Errorf("over a damaged object: %+v", doc)
	}
	write(before[names[len(names)-1]])
	old := s.flags
	s.useS3(server)
	s.serve().wait(t).wants(t, exitConflict, "not all in this store")
	migrate("--json").wait(t).wants(t, exitOK).into(t, &doc)
	if !doc.Switched || doc.Damaged != 0 || doc.Copied != 1 || doc.Objects != int64(len(before)-1) {
		t.Errorf("%+v of %d", doc, len(before)-1)
	}
	for name, data := range bucketObjects(t, server) {
		if name != "vault" && !bytes.Equal(data, before[name]) {
			t.Errorf("%s is not as it was", name)
		}
	}

	now := s.flags
	s.flags = old
	s.serve().wait(t).wants(t, exitConflict, "moved to another store")
	launch(t, nil, "doctor", "--data", s.data).wait(t).wants(t, exitCorrupt, "moved to another store")
	s.flags = now
	s.start()
	s.ok("cleo", "pull", batch, "-o", s.out("cleo"))
	sameFiles(t, source, s.out("cleo"))
	s.ok("admin", "check", "--read-data")
	s.ok("admin", "log", "--verify").wants(t, exitOK, "storage-migrate")

	var asked struct {
		Pending struct{ ID string }
	}
	s.ok("admin", "erase", batch, "--reason", "end", "--yes", "--json").into(t, &asked)
	s.ok("bob", "approve", asked.Pending.ID)
	var erasure wire.Erasure
	s.ok("admin", "erasure", "list", batch, "--json").into(t, &erasure)
	s.ok("admin", "erasure", "show", erasure.ID.String(), "--wait")
	if left := bucketObjects(t, server); len(left) != 1 {
		t.Errorf("%d objects are left after the erasure", len(left)-1)
	}
	s.stop()

	env = append(env, "AWS_ACCESS_KEY_ID="+server.AccessKey, "AWS_SECRET_ACCESS_KEY="+server.SecretKey)
	migrate("--from", to).wait(t).wants(t, exitOK, "pinned them in this store")
}
