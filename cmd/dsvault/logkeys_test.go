//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestProofsOutliveTheirKey: who has followed the log from key to key checks what
// each of them has signed, and nobody who has one of the old ones shows another log.
func TestProofsOutliveTheirKey(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.project()
	s.ok("cleo", "push", files(t, 1), batch)
	s.ok("cleo", "pull", batch, "-o", s.out("work"))
	receipts, err := filepath.Glob(s.out("work.receipts") + "/*.json")
	if err != nil || len(receipts) != 1 {
		t.Fatalf("%q, %v", receipts, err)
	}
	s.ok("cleo", "log", "acme", "--export", s.out("first.bundle"))
	s.join("ann", "auditor", "/")
	s.ok("ann", "log", "acme", "--format", "csv", "-o", s.out("first.csv"))
	proofs := []string{receipts[0], s.out("first.bundle"), s.out("first.csv.note")}

	token := func(who string) string {
		data, err := os.ReadFile(filepath.Join(s.config(who), "token"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(data))
	}
	rotate := func(ahead, after string) { // what the key of before signs until after is signed by both
		s.stop()
		launch(t, []string{wrongClock + "=" + ahead}, "log-key", "rotate", "--data", s.data, "--overlap", "30d").wait(t).wants(t, exitOK)
		s.env = []string{wrongClock + "=" + after}
		s.start()
	}
	rotate("0h", "960h")
	s.join("zoe", "client", "acme") // knows the second key only
	s.ok("zoe", "log", "acme", "--export", s.out("second.bundle"))
	proofs = append(proofs, s.out("second.bundle"))
	rotate("960h", "1920h")
	s.ok("cleo", append([]string{"verify"}, proofs[:3]...)...) // knows the first yet
	s.login("ann", token("ann"))                               // follows, too
	s.ok("ann", "verify", proofs[0])
	s.ok("cleo", "log", "acme", "--verify")

	for _, proof := range proofs {
		s.ok("cleo", "verify", proof)
	}
	s.ok("cleo", "verify", receipts[0], s.out("first.bundle"))
	s.ok("cleo", "receipt", "complete", receipts[0])
	s.ok("cleo", "verify", receipts[0])
	text, err := os.ReadFile(receipts[0])
	if err != nil {
		t.Fatal(err)
	}
	forged := s.out("forged.json")
	if err := os.WriteFile(forged, []byte(strings.Replace(string(text), `"index": `, `"index": 1`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run("cleo", "verify", forged).wants(t, exitCorrupt)
	s.login("cleo", token("cleo")) // which keeps the keys
	s.ok("cleo", "verify", proofs[0], proofs[1])
	s.run("zoe", "verify", receipts[0]).wants(t, exitCorrupt, "--key") // was never shown the first key
	s.stop()
}
