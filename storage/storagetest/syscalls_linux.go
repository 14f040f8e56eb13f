package storagetest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// FailSyscall runs a program of which the n-th call of one system call in each
// thread fails with errno, such as EIO, without being done. It gives what the
// program printed, and how many calls have failed. How the program ends is not
// looked at. It uses strace: the test is skipped where there is none, or where
// the kernel does not let it trace.
//
// The calls are counted for each thread: a program that wants to know which of
// its calls fails stays on one thread (runtime.LockOSThread).
func FailSyscall(t testing.TB, call, errno string, n int, program []string, env ...string) (output []byte, failed int) {
	t.Helper()
	strace := Binary(t, "strace")
	if err := mayTrace(strace); err != nil {
		t.Skip("strace may not trace here: ", err)
	}
	trace := filepath.Join(t.TempDir(), "trace")
	args := []string{"-f", "--seccomp-bpf", "-qq", "-o", trace, "-e", "trace=" + call,
		"-e", fmt.Sprintf("inject=%s:error=%s:when=%d", call, errno, n)}
	cmd := exec.Command(strace, append(args, program...)...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = t.Output()
	output, err := cmd.Output()
	if _, ended := err.(*exec.ExitError); err != nil && !ended {
		t.Fatal(err)
	}
	lines, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	return output, bytes.Count(lines, []byte("(INJECTED)"))
}

var tracing struct {
	once sync.Once
	err  error
}

func mayTrace(strace string) error {
	tracing.once.Do(func() {
		out, err := exec.Command(strace, "-f", "--seccomp-bpf", "-o", os.DevNull, "-e", "trace=fsync", "true").CombinedOutput()
		if err != nil {
			tracing.err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
		}
	})
	return tracing.err
}
