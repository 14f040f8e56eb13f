package pack

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"runtime"
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
		_, err := p.Write(t.Context(), 0, io.Discard)
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
