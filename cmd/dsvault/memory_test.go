//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"dsvault/storage/storagetest"
)

// The limit of a server's memory: so much, and so much for each stream.
const (
	memoryBase   = 64 << 20
	memoryStream = 20 << 20
)

// TestMemory measures the real server's peak while many large shards are pushed
// and pulled at once: it does not depend on the size of the shards.
func TestMemory(t *testing.T) {
	streams, size := 8, int64(128<<20)
	if full() {
		size = 512 << 20
	}
	for _, name := range []string{"folder", "versitygw"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := &site{t: t, dir: dir, data: filepath.Join(dir, "vault")}
			if name == "versitygw" {
				s.useS3(storagetest.Versitygw(t)); s.env = append(s.env, "GODEBUG=gctrace=1")
			}
			s.open()
			s.project()
			film := filepath.Join(dir, "film")
			if err := os.WriteFile(film, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(film, int64(streams)*size); err != nil { // takes no room
				t.Fatal(err)
			}
			within := func(what string, args ...string) {
				t.Helper()
				s.resetPeak()
				s.ok("cleo", append(args, "--parallel", fmt.Sprint(streams))...)
				limit := int64(memoryBase + streams*memoryStream)
				peak := s.peak()
				t.Logf("%s: at most %d MiB for %d streams of %d MiB", what, peak>>20, streams, size>>20)
				if peak > limit {
					t.Errorf("%s: %d MiB, over the limit of %d MiB", what, peak>>20, limit>>20)
				}
			}
			within("push", "push", film, batch, "--shard-size", fmt.Sprint(size))
			t.Log(s.server.err.String())
			within("pull", "pull", batch, "-o", s.out("film"), "--sealed")
			s.stop()
		})
	}
}

// peak is the most memory that the server has had since resetPeak, in bytes.
func (s *site) peak() int64 {
	s.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.server.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	match := regexp.MustCompile(`(?m)^VmHWM:\s+([0-9]+) kB$`).FindSubmatch(status)
	if match == nil {
		s.t.Fatal("the kernel tells no peak")
	}
	kib, err := strconv.ParseInt(string(match[1]), 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return kib << 10
}

func (s *site) resetPeak() {
	s.t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.server.cmd.Process.Pid), []byte("5"), 0o200); err != nil {
		s.t.Fatal(err)
	}
}
