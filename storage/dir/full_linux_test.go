package dir

import (
	"bytes"
	"errors"
	"syscall"
	"testing"

	"dsvault/vault/fault"
)

// TestFullDisk fills a tiny file system, which root alone can mount.
func TestFullDisk(t *testing.T) {
	path := t.TempDir()
	if err := syscall.Mount("tmpfs", path, "tmpfs", 0, "size=2m,mode=0700"); err != nil {
		t.Skipf("no small file system can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(path, 0); err != nil {
			t.Error(err)
		}
	})
	// Closed before the unmount, as cleanups run in reverse.
	s := mustOpen(t, path)
	mustPut(t, s, "v1/safe", "x")
	for _, size := range []int64{3 << 20, -1} {
		_, err := s.Put(t.Context(), "v1/large", bytes.NewReader(make([]byte, 3<<20)), size)
		if !fault.Is(err, fault.Unavailable) || !errors.Is(err, syscall.ENOSPC) || fault.HintOf(err) == "" {
			t.Errorf("error %v, want %s with a hint", err, fault.Unavailable)
		}
	}
	if keys := list(t, s); len(keys) != 1 {
		t.Errorf("List gave %q", keys)
	}
	checkNoTemp(t, s)
	mustPut(t, s, "v1/small", string(make([]byte, 1<<20))) // there is room again
	if got := contentOf(t, s, "v1/safe"); got != "x" {
		t.Errorf("the object that was there has %q", got)
	}
}
