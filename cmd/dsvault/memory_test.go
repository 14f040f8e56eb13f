//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"testing"

	"dsvault/storage/storagetest"
	"dsvault/vault/dataset"
)

// The limit of a server's memory: so much, and so much for each stream.
const (
	memoryBase   = 64 << 20
	memoryStream = 20 << 20
)

// The limit of a client's memory: so much, and so much for each shard on its way;
// with --direct parts wait for the object store, one more for each shard and two
// beside.
const (
	clientBase   = 40 << 20
	clientStream = 2 << 20
	clientDirect = dataset.PartSize
)

func clientLimit(streams int, direct bool) int64 {
	limit := int64(clientBase + streams*clientStream)
	if direct {
		limit += int64(2*streams+2) * clientDirect
	}
	return limit
}

// TestMemory measures the peak of the real server, and of the client, while many large shards are pushed
// and pulled at once, whatever their size, and what it holds open after that.
func TestMemory(t *testing.T) {
	if raced() {
		t.Log("runs in a step without the race detector, which takes memory of its own")
		return
	}
	streams, size := 8, int64(48<<20) // three parts each
	if full() {
		size = 1 << 30
	}
	for _, name := range []string{"folder", "versitygw"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := &site{t: t, dir: dir, data: filepath.Join(dir, "vault")}
			if name == "versitygw" {
				s.useS3(storagetest.Versitygw(t))
			}
			s.open()
			s.project()
			film := filepath.Join(dir, "film")
			if err := os.WriteFile(film, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(film, int64(streams)*size); err != nil { // it takes no room
				t.Fatal(err)
			}
			within := func(args ...string) {
				t.Helper()
				s.resetPeak()
				client := s.begin("cleo", append(args, "--parallel", fmt.Sprint(streams))...)
				most := int64(0)
				await(t, args[0]+" ends", func() bool { most = max(most, peakOf(client)); return client.ended() })
				client.wait(t).wants(t, exitOK)
				bound := clientLimit(streams, slices.Contains(args, "--direct"))
				t.Logf("%v: the client took %d MiB", args, most>>20)
				if most == 0 || most > bound {
					t.Errorf("%v: the client took %d MiB, over its limit of %d MiB", args, most>>20, bound>>20)
				}
				limit, peak := int64(memoryBase+streams*memoryStream), s.peak()
				t.Logf("%s: %d MiB for %d streams of %d MiB", args[0], peak>>20, streams, size>>20)
				if peak > limit {
					t.Errorf("%s: %d MiB, over the limit of %d MiB", args[0], peak>>20, limit>>20)
				}
			}
			within("push", film, batch, "--shard-size", fmt.Sprint(size))
			before := s.openFiles()
			within("pull", batch, "-o", s.out("film"), "--sealed")
			within("push", film, "acme/signs/again", "--shard-size", fmt.Sprint(size))
			if name == "versitygw" {
				s.ok("cleo", "project", "update", "acme/signs", "--delivery", "direct")
				within("push", film, "acme/signs/direct", "--shard-size", fmt.Sprint(size), "--direct")
				within("pull", "acme/signs/direct", "-o", s.out("direct"), "--direct", "--sealed")
			}
			s.ok("admin", "check", "--read-data", "--rate", "none")
			await(t, "the server closes what it has opened", func() bool { return s.openFiles() <= before })
			s.stop()
		})
	}
}

// raced reports whether the tests, and so the server, have the race detector.
func raced() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

func (s *site) proc(name string) string {
	return filepath.Join("/proc", strconv.Itoa(s.server.cmd.Process.Pid), name)
}

// peak is the most memory that the server has had since resetPeak, in bytes.
func (s *site) peak() int64 {
	s.t.Helper()
	peak := peakOf(s.server)
	if peak == 0 {
		s.t.Fatal("the kernel tells no peak")
	}
	return peak
}

// peakOf is the most memory that a program has had, in bytes; 0 if it has ended.
func peakOf(p *program) int64 {
	status, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "status"))
	match := regexp.MustCompile(`(?m)^VmHWM:\s+([0-9]+) kB$`).FindSubmatch(status)
	if match == nil {
		return 0
	}
	kib, _ := strconv.ParseInt(string(match[1]), 10, 64) // digits
	return kib << 10
}

func (s *site) resetPeak() {
	s.t.Helper()
	if err := os.WriteFile(s.proc("clear_refs"), []byte("5"), 0o200); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) openFiles() int {
	s.t.Helper()
	entries, err := os.ReadDir(s.proc("fd"))
	if err != nil {
		s.t.Fatal(err)
	}
	return len(entries)
}
