//go:build linux

package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"filippo.io/age"

	"dsvault/vault/wire"
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
	s.run("cleo", "push", filepath.Join(text, "below"), batch).wants(t, exitForbidden, "no file")
	s.stop()
}

// TestTokenIsNotLost: where the new token cannot be kept, the old one stays.
func TestTokenIsNotLost(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.project()
	dir := s.config("cleo")
	err := syscall.Mount(dir, dir, "", syscall.MS_BIND, "")
	if err == nil {
		t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
		err = syscall.Mount("", dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, "")
	}
	if err != nil {
		if os.Getenv("DSVAULT_TEST_REQUIRE") == "1" {
			t.Fatalf("cannot mount a folder read-only: %v (DSVAULT_TEST_REQUIRE=1)", err)
		}
		t.Skipf("cannot mount a folder read-only: %v; this test needs root", err)
	}
	s.run("cleo", "token", "rotate").wants(t, exitUsage, "DSVAULT_CONFIG")
	s.ok("cleo", "whoami")
	var invited wire.NewToken
	s.ok("admin", "token", "rotate", "cleo", "--json").into(t, &invited)
	env := []string{"DSVAULT_CONFIG=" + dir, "DSVAULT_TOKEN=" + invited.Token}
	launch(t, env, "login", s.url).wait(t).wants(t, exitUsage, "DSVAULT_CONFIG")
	if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	s.login("cleo", invited.Token)
	s.ok("cleo", "whoami")
	s.stop()
}
