//go:build linux

package main

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
)

// TestLogFollow: who follows sees what is written, over a restart of the
// server, and leaves one record of looking.
func TestLogFollow(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.project()
	s.join("ann", "auditor", "/")
	s.ok("cleo", "push", files(t, 2), batch, "--shard-size", "64KiB")
	p := s.begin("ann", "log", "acme", "--follow", "--kind", "read")
	await(t, "the follower looks", func() bool { return s.looks() == 1 })
	s.ok("cleo", "pull", batch, "-o", s.out("one"), "--shard", "0")
	await(t, "the read is shown", func() bool { return strings.Count(p.out.String(), "finished") == 1 })
	s.stop()
	await(t, "the follower notes it", func() bool { return strings.Contains(p.err.String(), "the server is away") })
	s.start()
	s.ok("cleo", "pull", batch, "-o", s.out("two"), "--shard", "1")
	await(t, "the next read is shown", func() bool { return strings.Count(p.out.String(), "finished") == 2 })
	p.signal(syscall.SIGINT)
	o := p.wait(t).wants(t, exitInterrupted)
	if strings.Contains(o.out, "dataset-create") || strings.Count(o.out, batch+"/") != 2 {
		t.Errorf("it shows other things than the two reads:\n%s", o.out)
	}
	if n := s.looks(); n != 1 {
		t.Errorf("%d records of looking", n)
	}
	s.stop()
}

// looks counts the records of looking at the log, beside the server.
func (s *site) looks() (n int) {
	s.t.Helper()
	db, err := catalog.Open(s.t.Context(), "sqlite:"+filepath.Join(s.data, "catalog.db"), catalog.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	err = db.View(s.t.Context(), func(tx *catalog.Tx) error {
		q := storage.LeafQuery{Kinds: []uint16{uint16(audit.KindLogRead)}}
		return tx.Leaves(s.t.Context(), q, func(storage.Leaf) error { n++; return nil })
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}
