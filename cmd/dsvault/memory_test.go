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
)

// The limit of a server's memory: so much, and so much for each stream.
const (
	memoryBase   = 64 << 20
	memoryStream = 20 << 20
)

// TestMemory measures the real server's peak while many large shards are pushed
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
				s.ok("cleo", append(args, "--parallel", fmt.Sprint(streams))...)
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
