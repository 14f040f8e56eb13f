package storagetest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// startLimit bounds how long a server may take until it answers.
const startLimit = 60 * time.Second

// Main runs the tests of a package and then stops the servers that its tests
// shared. Packages that call Postgres have
//
//	func TestMain(m *testing.M) { storagetest.Main(m) }
//
// Without it the servers still end with the process (on Linux), but leave their
// temporary folder to be cleared by the next run.
func Main(m *testing.M) {
	code := m.Run()
	shared.stop()
	os.Exit(code)
}

// Binary returns the path of a program that tests run as a server: from the
// folder DSVAULT_TEST_BIN (default $HOME/.cache/dsvault-test/bin), then PATH.
// Without it the test is skipped, or fails if DSVAULT_TEST_REQUIRE=1.
func Binary(t testing.TB, name string) string {
	t.Helper()
	folder := os.Getenv("DSVAULT_TEST_BIN")
	if folder == "" {
		if home, err := os.UserHomeDir(); err == nil {
			folder = filepath.Join(home, ".cache", "dsvault-test", "bin")
		}
	}
	if path, err := exec.LookPath(filepath.Join(folder, name)); err == nil {
		return path
	}
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, name+" is neither in DSVAULT_TEST_BIN nor in PATH")
	}
	return path
}

// missing ends a test that lacks its server.
func missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("DSVAULT_TEST_REQUIRE") == "1" {
		t.Fatal(why + " (DSVAULT_TEST_REQUIRE=1)")
	}
	t.Skip(why + "; this test needs the real server")
}

// process is a running server in a process group of its own.
type process struct {
	cmd  *exec.Cmd
	log  *tail
	done chan struct{} // closed when it has ended
	err  error         // of Wait; read it after done
}

// start runs cmd so that it ends when this process does. One goroutine owns
// the child, and keeps its thread: the kernel's parent-death signal follows the
// thread that forked, not the process.
func start(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, log: &tail{}, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.log, p.log
	cmd.WaitDelay = 5 * time.Second
	own(cmd)
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// await polls ready until it gives nil, the process has ended, or time is up.
func (p *process) await(ready func() error) error {
	deadline := time.Now().Add(startLimit)
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended at once (%v):\n%s", p.cmd.Path, p.err, p.log)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s did not get ready: %w\n%s", p.cmd.Path, err, p.log)
		}
	}
}

// stop ends the whole group: kindly, then after ten seconds by force.
func (p *process) stop(gently os.Signal) {
	signalGroup(p.cmd, gently)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
	}
	signalGroup(p.cmd, os.Kill)
	<-p.done
}

// tail keeps the last of what a server said, for the message when it fails.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (l *tail) Write(b []byte) (int, error) {
	const limit = 16 << 10
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, b...)
	if len(l.buf) > limit {
		l.buf = append(l.buf[:0], l.buf[len(l.buf)-limit:]...)
	}
	return len(b), nil
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(bytes.TrimSpace(l.buf))
}

// sharedServers holds what one test process starts once.
type sharedServers struct {
	mu       sync.Mutex
	postgres *postgresServer
	pgErr    error // why it did not start, so that it is tried once only
}

var shared sharedServers

func (s *sharedServers) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.postgres != nil {
		s.postgres.stop()
		s.postgres = nil
		s.pgErr = errors.New("the server was stopped")
	}
}

// tempFolder makes a folder that bears this process's ID, and clears away those
// of processes that are gone.
func tempFolder(kind string) (string, error) {
	prefix := "dsvault-test-" + kind + "-"
	old, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	for _, path := range old {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), prefix), "-")
		if n, err := strconv.Atoi(pid); err == nil && gone(n) {
			os.RemoveAll(path)
		}
	}
	return os.MkdirTemp("", fmt.Sprintf("%s%d-", prefix, os.Getpid()))
}
