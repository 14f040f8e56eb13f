package catalog

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"dsvault/vault/fault"
)

// tinyDisk mounts a file system of 1 MiB, if this machine allows it.
func tinyDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		if os.Getenv("DSVAULT_TEST_REQUIRE") == "1" {
			t.Fatalf("cannot mount a small file system: %v", err)
		}
		t.Skipf("cannot mount a small file system (needs root): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestFullDisk(t *testing.T) {
	dir := tinyDisk(t)
	s := &fixture{T: t, db: open(t, "sqlite:"+filepath.Join(dir, "x.db"))}
	fillUp(s)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=16m"); err != nil {
		t.Fatal(err)
	}
	s.write(func(ctx context.Context, tx *Tx) error { return tx.SetMeta(ctx, "more", make([]byte, 100_000)) })
}

func TestReadOnlyDisk(t *testing.T) {
	dir := tinyDisk(t)
	url := "sqlite:" + filepath.Join(dir, "x.db")
	if err := open(t, url).Close(); err != nil {
		t.Fatal(err)
	}
	remount := func(flags uintptr) {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	remount(syscall.MS_RDONLY)
	cannotOpen(t, url, fault.Unavailable)
	remount(0)
	open(t, url)
}
