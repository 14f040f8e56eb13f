package api_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestClosedWhenTheDiskIsFull fills the disk with the catalog on it.
func TestClosedWhenTheDiskIsFull(t *testing.T) {
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=16m"); err != nil {
		if os.Getenv("DSVAULT_TEST_REQUIRE") == "1" {
			t.Fatalf("cannot mount a small file system: %v", err)
		}
		t.Skipf("cannot mount a small file system (needs root): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	url := "sqlite:" + filepath.Join(disk, "catalog.db")
	n := newNode(t, url, url, 0)
	before := n.grants()
	filler := filepath.Join(disk, "filler")
	f := must(os.Create(filler))(t)
	for block := 1 << 20; block > 0; {
		if _, err := f.Write(make([]byte, block)); errors.Is(err, syscall.ENOSPC) {
			block /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	// What the journal has left takes some records yet; each read is whole.
	for i := 0; ; i++ {
		a := n.read("lena")
		if a.status == 503 {
			break
		}
		if a.status != 200 || i == 2000 {
			t.Fatalf("read %d on a full disk: %d %s", i, a.status, a.body)
		}
	}
	n.servesNothing("full")
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	n.serves()
	if n.grants() != before {
		t.Error("a grant that failed is in force")
	}
}
