package pack

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"dsvault/vault/fault"
)

func TestUnreadableFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "secret")
	put(t, name, "secret")
	if err := os.Chmod(name, 0); err != nil {
		t.Fatal(err)
	}
	p := plan(t, dir, Options{})
	done := make(chan error)
	go func() {
		// This thread stops being root for files, and ends with its goroutine.
		runtime.LockOSThread()
		if os.Geteuid() == 0 {
			for parent := dir; parent != os.TempDir() && parent != "/"; parent = filepath.Dir(parent) {
				os.Chmod(parent, 0o755)
			}
			syscall.RawSyscall(syscall.SYS_SETFSUID, 65534, 0, 0)
		}
		_, _, err := p.Write(t.Context(), 0, io.Discard)
		done <- err
	}()
	err := <-done
	wantCode(t, err, fault.Invalid)
	if fault.HintOf(err) == "" {
		t.Fatal("no hint")
	}
}

func TestFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("this system has no /dev/full")
	}
	defer full.Close()
	in := newHashReader(t.Context(), bytes.NewReader(make([]byte, 10)), 10)
	defer in.close()
	_, err = in.WriteTo(full)
	err = localFault("pack.Unpack", "cannot write", err)
	wantCode(t, err, fault.Unavailable)
	if fault.HintOf(err) == "" {
		t.Fatal("no hint")
	}
}

// TestReadOnlyFolders: a folder that an earlier shard made read-only takes the
// files of the next, also for somebody whom modes bind.
func TestReadOnlyFolders(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		put(t, filepath.Join(src, "d", name), strings.Repeat("x", 60<<10))
	}
	os.Chmod(filepath.Join(src, "d"), 0o555)
	p := plan(t, src, Options{ShardSize: 64 << 10})
	want := tree(t, src)
	os.Chmod(dst, 0o777)
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if os.Geteuid() == 0 {
			for parent := filepath.Dir(dst); parent != os.TempDir() && parent != "/"; parent = filepath.Dir(parent) {
				os.Chmod(parent, 0o755)
			}
			syscall.RawSyscall(syscall.SYS_SETFSUID, 65534, 0, 0)
		}
		var failed error
		for n := range p.Shards() {
			var buf bytes.Buffer
			m, _, err := p.Write(t.Context(), n, &buf)
			if err == nil {
				_, err = Unpack(t.Context(), dst, &buf, m, quick)
			}
			failed = errors.Join(failed, err)
		}
		done <- failed
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	sameTree(t, tree(t, dst), want)
}
