//go:build linux

package main

import (
	"strings"
	"syscall"
	"testing"
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
	await(t, "the follower looks", func() bool { return s.count("SELECT count(*) FROM leaves WHERE kind = 3") == 1 })
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
	if n := s.count("SELECT count(*) FROM leaves WHERE kind = 3"); n != 1 {
		t.Errorf("%d records of looking", n)
	}
	s.stop()
}
