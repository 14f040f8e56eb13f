//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"dsvault/vault/client"
	"dsvault/vault/fault"
)

// smallDisk mounts a file system of a few MiB. Only root can: others skip.
func smallDisk(t *testing.T, mebibytes int) string {
	t.Helper()
	return smallDiskAt(t, t.TempDir(), mebibytes)
}

func smallDiskAt(t *testing.T, dir string, mebibytes int) string {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=0700", mebibytes)); err != nil {
		if os.Getenv("DSVAULT_TEST_REQUIRE") == "1" {
			t.Fatalf("cannot mount a small disk: %v (DSVAULT_TEST_REQUIRE=1)", err)
		}
		t.Skipf("cannot mount a small disk: %v; this test needs root", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill takes all space of a disk until it is freed.
func fill(t *testing.T, disk string) (free func()) {
	t.Helper()
	path := filepath.Join(disk, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := 1 << 20; block > 0; {
		if _, err := f.Write(make([]byte, block)); errors.Is(err, syscall.ENOSPC) {
			block /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		t.Helper()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func fillerSize(t *testing.T, disk string) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(disk, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// onDisk is a site whose data folder may be on a small disk, with a dataset
// that cleo has pushed.
func onDisk(t *testing.T, data string, flags ...string) (s *site, source string) {
	t.Helper()
	dir := t.TempDir()
	if data == "" {
		data = dir
	}
	s = &site{t: t, dir: dir, data: filepath.Join(data, "vault"), flags: flags}
	s.open()
	s.project()
	s.join("ann", "auditor", "/")
	source = files(t, 3)
	s.ok("cleo", "push", source, batch, "--shard-size", "64KiB")
	return s, source
}

// TestFullDisk fills the disk with the vault's data folder on it.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 24)
	s, source := onDisk(t, disk)
	s.stop() // the catalog's journal begins small again
	s.start()
	free := fill(t, disk)
	wires := newTraffic()
	reader, _ := s.client("cleo", wires)

	// Some reads still find space for their records.
	if err := os.Truncate(filepath.Join(disk, "filler"), fillerSize(t, disk)-256<<10); err != nil {
		t.Fatal(err)
	}
	delivered := 0
	for i := 0; ; i++ {
		dir := filepath.Join(s.dir, "while-full", fmt.Sprint(i))
		out, err := reader.Pull(t.Context(), scope(t, batch), client.PullOptions{Dir: dir, Parallel: 1})
		for _, shard := range out.Shards {
			if shard.Files > 0 {
				delivered++
			}
		}
		if fault.Is(err, fault.Unavailable) && fault.HintOf(err) != "" {
			break
		}
		if err != nil || i == 1000 {
			t.Fatalf("pull %d on the full disk: %v", i, err)
		}
	}
	more := files(t, 12)
	push := []string{"push", more, "acme/signs/more", "--shard-size", "64KiB"}
	s.run("cleo", push...).wants(t, exitUnavailable, "space")
	if n := len(wires.delivered()); n != delivered || n == 0 {
		t.Errorf("%d reads sent bytes, %d were whole: a refused read has let bytes out", n, delivered)
	}
	s.run("cleo", "pull", batch, "-o", s.out("full")).wants(t, exitUnavailable, "space")
	if names := tree(t, s.out("full")); len(names) > 0 {
		t.Errorf("%v came without a record", names)
	}
	s.run("admin", "grant", "reviewer", "cleo", "/").wants(t, exitUnavailable, "space")
	s.ok("cleo", "whoami") // what writes nothing goes on

	s.kill()
	p := s.serve()
	await(t, "the server starts on a full disk, or says why not", func() bool { return p.ended() || p.out.String() != "" })
	if p.ended() {
		p.wait(t).wants(t, exitUnavailable, "space")
	} else {
		p.signal(syscall.SIGKILL)
		<-p.done
	}
	free()
	s.start()
	s.afterwards(source, more, push, wires)
	if o := s.ok("admin", "roles"); strings.Contains(o.out, "reviewer") {
		t.Errorf("a grant that failed is in force:\n%s", o.out)
	}
	s.stop()
}

// afterwards checks that all goes on once there is space again.
func (s *site) afterwards(source, more string, push []string, wires *traffic) {
	t := s.t
	t.Helper()
	s.ok("cleo", push...)
	for name, from := range map[string]string{batch: source, "acme/signs/more": more} {
		dir := filepath.Join(t.TempDir(), "again")
		s.ok("cleo", "pull", name, "-o", dir)
		sameFiles(t, from, dir)
	}
	s.swept()
	s.checkReads(wires)
}

// TestFullDiskWhileServing is the same without a restart.
func TestFullDiskWhileServing(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 24)
	s, source := onDisk(t, disk)
	wires := newTraffic()
	more := files(t, 12)
	push := []string{"push", more, "acme/signs/more", "--shard-size", "64KiB"}
	free := fill(t, disk)
	s.run("cleo", push...).wants(t, exitUnavailable, "space")
	free()
	s.afterwards(source, more, push, wires)
	s.stop()
}

// TestFullObjectDisk fills the disk with the objects, while the catalog has
// space.
func TestFullObjectDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 4)
	s, source := onDisk(t, "", "--objects", "dir:"+filepath.Join(disk, "objects"))
	free := fill(t, disk)
	more := files(t, 8)
	push := []string{"push", more, "acme/signs/more", "--shard-size", "64KiB", "--parallel", "1", "--json"}
	s.run("cleo", push...).wants(t, exitUnavailable, "disk", "pace")
	s.ok("cleo", "pull", batch, "-o", s.out("cleo")) // reads need no space there
	sameFiles(t, source, s.out("cleo"))
	for _, name := range tree(t, filepath.Join(disk, "objects")) {
		if strings.HasPrefix(name, "tmp/") {
			t.Errorf("%s is left of a failed upload", name)
		}
	}
	// Space for some shards, and not for all.
	free()
	hold := make([]byte, 3<<20+500<<10)
	if err := os.WriteFile(filepath.Join(disk, "filler"), hold, 0o600); err != nil {
		t.Fatal(err)
	}
	s.run("cleo", push...).wants(t, exitUnavailable, "disk", "pace")
	had := s.count("SELECT count(*) FROM shards") - 3
	if had == 0 || had == 8 {
		t.Fatalf("%d shards found place; the test wants some", had)
	}
	free()
	var out client.Pushed
	s.ok("cleo", push...).into(t, &out)
	if out.Sent != 8-had {
		t.Errorf("sent %d shards with %d there already", out.Sent, had)
	}
	s.ok("cleo", "pull", "acme/signs/more", "-o", s.out("more"))
	sameFiles(t, more, s.out("more"))
	s.ok("ann", "log", "--verify")
	s.stop()
}

// TestFullReaderDisk fills the disk that somebody pulls to.
func TestFullReaderDisk(t *testing.T) {
	t.Parallel()
	s, source := onDisk(t, "")
	disk := smallDisk(t, 1)
	for _, flag := range []string{"--sealed=false", "--sealed"} {
		dir := filepath.Join(disk, "work")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		free := fill(t, disk)
		s.run("cleo", "pull", batch, "-o", dir, flag).wants(t, exitUnavailable, "full", "space")
		if names := tree(t, dir); len(names) > 0 {
			t.Errorf("%v are left of a failed pull", names)
		}
		free()
		s.ok("cleo", "pull", batch, "-o", dir, flag)
		if flag == "--sealed" {
			if names := visible(t, dir); len(names) != 3 {
				t.Errorf("got %v", names)
			}
		} else {
			sameFiles(t, source, dir)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	s.stop()
}
