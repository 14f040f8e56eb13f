//go:build linux

package main

import (
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"
)

// TestWrongPaths: a wrong path is wrong usage, and the command says what to do.
func TestWrongPaths(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.project()
	identity, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	absent, text := filepath.Join(s.dir, "absent"), filepath.Join(s.dir, "notes.txt")
	if err := os.WriteFile(text, []byte("no proof of anything\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run("cleo", "verify", text).wants(t, exitUsage, "no receipt", "log --export")
	s.run("cleo", "verify", text, "--json").wants(t, exitUsage)
	s.run("cleo", "verify", absent).wants(t, exitUsage)
	s.run("cleo", "receipt", "complete", text).wants(t, exitUsage)
	s.run("admin", "backup", "--data", s.data, "--to", identity.Recipient().String(), "-o", filepath.Join(absent, "vault.backup")).wants(t, exitUsage)
	s.run("admin", "restore", text, "--data", absent, "--identity", filepath.Join(absent, "key.txt")).wants(t, exitUsage)
	s.run("cleo", "push", absent, batch).wants(t, exitForbidden, "absent")
	s.stop()
}
