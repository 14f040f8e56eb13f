//go:build linux

package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"dsvault/vault/client"
)

// TestKilledExport: an export of a client's data that is killed goes on, and
// until it is whole it does not say so.
func TestKilledExport(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.project()
	s.ok("cleo", "push", files(t, 16), "acme/signs/batch", "--shard-size", "256KiB").wants(t, exitOK, "4 shards of 4")
	dir := s.out("export")
	export := []string{"client", "export", "acme", "--out", dir, "--parallel", "1", "--json"}
	g := s.gate(2, isRead)
	p := s.beginThrough(g, "cleo", export...)
	await(t, "the third shard begins", func() bool { return isClosed(g.held) || p.ended() })
	p.signal(syscall.SIGKILL)
	p.wait(t).wants(t, -1)
	if _, err := os.Stat(filepath.Join(dir, "export.json")); err == nil {
		t.Error("half an export says that it is whole")
	}
	var out client.ClientExport
	s.ok("cleo", export...).into(t, &out)
	if out.Fetched != 2 || len(out.Datasets) != 1 || out.Datasets[0].Shards != 4 {
		t.Errorf("%+v", out)
	}
	for _, name := range []string{"export.json", "log.bundle", "signs/batch/batch-0000.age", "signs/batch/batch-0003.age", "signs/batch/batch-0003.manifest.age"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	s.ok("cleo", "verify", filepath.Join(dir, "log.bundle"))
}
