package api_test

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const fsImmutable = 0x10 // FS_IMMUTABLE_FL of linux/fs.h

// immutable makes files of which nobody can write a byte, through whatever was
// opened before, or makes them ordinary again. It reports whether it could.
func immutable(t *testing.T, on bool, files ...string) bool {
	t.Helper()
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		if err == nil {
			if flags &^= fsImmutable; on {
				flags |= fsImmutable
			}
			err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags)
		}
		f.Close()
		if err != nil {
			t.Logf("%s cannot be made immutable: %v; that takes root and a file system such as ext4", path, err)
			return false
		}
	}
	return true
}

// TestClosedWhenTheFileIsReadOnly: SQLite's files cannot be written any more
// while the server runs, as after a disk error.
func TestClosedWhenTheFileIsReadOnly(t *testing.T) {
	url := sqliteURL(t)
	n := newNode(t, url, url, 0)
	before := n.grants()
	path := strings.TrimPrefix(url, "sqlite:")
	files := []string{path, path + "-wal"}
	t.Cleanup(func() { immutable(t, false, files...) })
	if !immutable(t, true, files...) {
		return // not a skip: of a file system without such files nothing is missing
	}
	n.servesNothing("read-only")
	if n.counted(`dsvault_storage_errors_total{code="read-only",store="catalog"}`) == 0 {
		t.Error("the catalog's errors are not counted")
	}
	immutable(t, false, files...)
	n.serves()
	if n.grants() != before {
		t.Error("a grant that failed is in force")
	}
}
