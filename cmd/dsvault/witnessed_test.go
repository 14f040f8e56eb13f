//go:build linux

package main

import (
	"crypto/rand"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"dsvault/vault/wire"
)

// TestVerifyAsksWitnesses: whoever names a witness is shown nothing as good that it
// has not cosigned, whatever kind of file it is.
func TestVerifyAsksWitnesses(t *testing.T) {
	t.Parallel()
	_, witness, err := note.GenerateKey(rand.Reader, "wit.example.org")
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t)
	s.project()
	s.join("ann", "auditor", "/")
	s.ok("cleo", "push", files(t, 1), batch)
	s.ok("cleo", "pull", batch, "-o", s.out("work"))
	receipts, err := filepath.Glob(s.out("work.receipts") + "/*.json")
	if err != nil || len(receipts) != 1 {
		t.Fatalf("%q, %v", receipts, err)
	}
	s.ok("cleo", "log", "acme", "--export", s.out("acme.bundle"))
	s.ok("ann", "log", "acme", "--format", "csv", "-o", s.out("acme.csv"))
	s.join("bob", "admin", "/")
	var asked struct {
		Pending struct{ ID string }
	}
	s.ok("admin", "erase", batch, "--reason", "the contract ended", "--yes", "--json").into(t, &asked)
	s.ok("bob", "approve", asked.Pending.ID)
	var erasure wire.Erasure
	s.ok("admin", "erasure", "list", batch, "--json").into(t, &erasure)
	s.ok("admin", "erasure", "show", erasure.ID.String(), "--wait")
	s.ok("admin", "erasure", "certificate", erasure.ID.String(), "--certificate", s.out("erased.json"))
	check := func(file, said string) {
		t.Helper()
		s.ok("ann", "verify", file)
		o := s.run("ann", "verify", file, "--witness", witness).wants(t, exitCorrupt, said)
		if o.out != "" {
			t.Errorf("it says %q all the same", o.out)
		}
	}
	check(receipts[0], "only promised")
	s.ok("cleo", "receipt", "complete", receipts[0])
	check(receipts[0], "wit.example.org has not cosigned")
	check(s.out("erased.json"), "wit.example.org has not cosigned")
	check(s.out("acme.bundle"), "wit.example.org has not cosigned")
	check(s.out("acme.csv.note"), "no witness")
}

// TestWitnessesByKey: two keys of one name are two witnesses.
func TestWitnessesByKey(t *testing.T) {
	f := proofFlags{witnesses: []string{"w+00000001+a", "v+00000002+b", "w+00000003+c"}}
	for _, c := range []struct {
		cosigned []string
		ok       bool
	}{{[]string{"w", "v", "w"}, true}, {[]string{"w", "v"}, false}, {[]string{"w", "w"}, false}, {nil, false}} {
		if err := f.check(c.cosigned); (err == nil) != c.ok {
			t.Errorf("%q: %v", c.cosigned, err)
		}
	}
}
