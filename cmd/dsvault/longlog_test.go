//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dsvault/storage"
	"dsvault/vault/audit"
)

// TestLongLog exports and verifies a log that is longer than what the server and
// the client hold of it in memory. In the long form it has a million records.
func TestLongLog(t *testing.T) {
	if raced() {
		t.Log("runs in a step without the race detector, which takes memory of its own")
		return
	}
	records, limit := 40_000, int64(96<<20)
	if full() {
		records = 1_000_000
	}
	s := newTamperSite(t).base
	f := &forger{site: s}
	f.forge(func(list []storage.Leaf) []storage.Leaf { return f.lengthen(list, records) })
	s.url = "" // any free port
	s.start()
	s.login("direct", s.token("ann")) // past the proxy, which keeps answers in memory
	file := filepath.Join(s.dir, "long.bundle")
	s.ok("direct", "log", "acme/signs/two", "--verify") // the log that was made up is signed now
	s.resetPeak()
	before := s.peak() // making all tiles at once has taken some
	for _, c := range []struct {
		what string
		args []string
	}{
		{"export of a scope", []string{"log", "acme", "--export", file}},
		{"verify", []string{"verify", file}},
		{"export of all", []string{"log", "--export", file + ".bundle"}},
		{"verify of all", []string{"verify", file + ".bundle"}},
	} {
		begin := time.Now()
		p := s.begin("direct", c.args...)
		peak := int64(0)
		for ; !p.ended(); time.Sleep(time.Millisecond) {
			peak = max(peak, peakOf(p))
		}
		o := p.wait(t).wants(t, exitOK, "verified: ")
		t.Logf("%s: %s, %d MiB: %s", c.what, time.Since(begin).Round(time.Millisecond), peak>>20, o.out)
		if peak > limit {
			t.Errorf("%s took %d MiB", c.what, peak>>20)
		}
	}
	grown := s.peak() - before
	t.Logf("the server took %d MiB more than %d", grown>>20, before>>20)
	if grown > limit { // each connection to the catalog has a cache of 8 MiB
		t.Error("that is too much")
	}
	s.stop()
}

// lengthen repeats Lee's second read.
func (f *forger) lengthen(list []storage.Leaf, records int) []storage.Leaf {
	at := kinds(list, audit.KindRead)[1]
	read, end := list[at], list[at+1]
	leaf, err := audit.ParseLeaf(end.Data)
	f.check(err)
	for index := uint64(1 << 40); len(list) < records; index += 2 {
		read.Index, end.Index = index, index+1
		leaf.Set(audit.Uint64Field(audit.FieldRefIndex, index))
		end.Data, err = leaf.Marshal()
		f.check(err)
		list = append(list, read, end)
	}
	return list
}

// token is the stored token of somebody.
func (s *site) token(who string) string {
	s.t.Helper()
	data, err := os.ReadFile(filepath.Join(s.config(who), "token"))
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}
