//go:build linux

package main

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dsvault/storage/storagetest"
	"dsvault/vault/client"
	"dsvault/vault/wire"
)

// asProgram makes the test binary run as dsvault: servers and commands of the
// tests are then processes of their own, with the race detector if the tests
// have it.
const asProgram = "DSVAULT_TEST_AS_PROGRAM"

// wrongClock is how far the clock of a process is ahead that the tests start.
const wrongClock = "DSVAULT_TEST_CLOCK_AHEAD"

func init() {
	if os.Getenv(asProgram) == "1" {
		if ahead, err := time.ParseDuration(os.Getenv(wrongClock)); err == nil {
			now = func() time.Time { return time.Now().Add(ahead) }
		}
		os.Exit(dsvault())
	}
}

// patience bounds everything that a test waits for.
const patience = 2 * time.Minute

// await polls until done; nothing in these tests waits for a time to pass.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// full reports whether the long forms of the tests are wanted.
func full() bool { return os.Getenv("DSVAULT_TEST_FULL") == "1" }

// transcript collects what a process says.
type transcript struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// program is a running dsvault. It ends with the test, and with this process.
type program struct {
	cmd      *exec.Cmd
	out, err transcript
	done     chan struct{} // closed when it has ended
}

// launch starts dsvault. The kernel's parent-death signal follows the thread
// that forked, so one goroutine keeps its thread until the child has ended.
func launch(t *testing.T, env []string, args ...string) *program {
	t.Helper()
	return launchOn(t, nil, env, args...)
}

// launchOn is launch with another stderr; nil keeps what it says.
func launchOn(t *testing.T, stderr *os.File, env []string, args ...string) *program {
	t.Helper()
	p := &program{cmd: exec.Command("/proc/self/exe", args...), done: make(chan struct{})}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "DSVAULT_") && !strings.HasPrefix(v, "AWS_") {
			p.cmd.Env = append(p.cmd.Env, v)
		}
	}
	// The race detector would have each process sleep for a second at its end.
	p.cmd.Env = append(append(p.cmd.Env, asProgram+"=1", "GORACE=atexit_sleep_ms=0"), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	if stderr != nil {
		p.cmd.Stderr = stderr
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		<-p.done
		if strings.Contains(p.err.String(), "DATA RACE") {
			t.Errorf("%q has a data race:\n%s", args, p.err.String())
		}
	})
	return p
}

func (p *program) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *program) signal(sig syscall.Signal) { p.cmd.Process.Signal(sig) }

// outcome is how a command ended. Its status is -1 if a signal ended it.
type outcome struct {
	args     []string
	status   int
	out, err string
}

func (p *program) wait(t *testing.T) outcome {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(2 * patience):
		p.signal(syscall.SIGQUIT)
		<-p.done
		t.Fatalf("%q does not end:\n%s", p.cmd.Args[1:], p.err.String())
	}
	return outcome{p.cmd.Args[1:], p.cmd.ProcessState.ExitCode(), p.out.String(), p.err.String()}
}

func (o outcome) String() string {
	return fmt.Sprintf("dsvault %s: status %d\n%s%s", strings.Join(o.args, " "), o.status, o.out, o.err)
}

// wants checks the exit status; what failed has to say why, and what to do.
func (o outcome) wants(t *testing.T, status int, words ...string) outcome {
	t.Helper()
	if o.status != status {
		t.Fatalf("%swant status %d", o, status)
	}
	if status != exitOK && status != exitInterrupted && !strings.Contains(o.err, "Try: ") && !strings.Contains(o.err, `"hint":"`) && o.err != "" {
		t.Errorf("%sthere is no hint", o)
	}
	for _, word := range words {
		if !strings.Contains(o.out+o.err, word) {
			t.Errorf("%sdoes not say %q", o, word)
		}
	}
	return o
}

// into reads the document on stdout.
func (o outcome) into(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(o.out), v); err != nil {
		t.Fatalf("%s%v", o, err)
	}
}

// site is a vault on disk, its server process, and the people who use it, each
// with a config folder of their own.
type site struct {
	t       *testing.T
	dir     string   // of the test
	data    string   // of the server
	env     []string // of the server
	flags   []string // of init and serve
	serving []string // more flags of serve

	server  *program
	url     string
	clients []string // DSVAULT_… and other variables of every command
	logs    strings.Builder
}

// newSite makes a vault and starts it.
func newSite(t *testing.T, flags ...string) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{t: t, dir: dir, data: filepath.Join(dir, "vault"), flags: flags}
	s.open()
	return s
}

// open initialises the vault, serves it and logs the first admin in.
func (s *site) open() {
	s.t.Helper()
	var made initialised
	s.init().wants(s.t, exitOK).into(s.t, &made)
	s.start()
	s.login("admin", made.Token)
}

func (s *site) init(extra ...string) outcome {
	s.t.Helper()
	args := append([]string{"init", "--data", s.data, "--json"}, s.flags...)
	return launch(s.t, s.env, append(args, extra...)...).wait(s.t)
}

// start serves the vault, on the same address every time.
func (s *site) start(extra ...string) {
	s.t.Helper()
	s.server = s.serve(extra...)
	s.listens()
}

// listens waits until the server listens.
func (s *site) listens() {
	s.t.Helper()
	began := time.Now()
	await(s.t, "the server starts", func() bool { return strings.Contains(s.server.out.String(), "\n") || s.server.ended() })
	var ready struct{ Listening string }
	if err := json.Unmarshal([]byte(s.server.out.String()), &ready); err != nil {
		s.t.Fatalf("the server did not start: %v\n%s", err, s.server.err.String())
	}
	s.url = ready.Listening
	s.t.Logf("the server was ready after %s", time.Since(began).Round(time.Millisecond))
}

// serve starts a server process and does not wait until it is ready.
func (s *site) serve(extra ...string) *program {
	s.t.Helper()
	_, listen, again := strings.Cut(s.url, "://")
	if !again {
		listen = storagetest.FreeAddress(s.t)
	}
	args := append([]string{"serve", "--data", s.data, "--listen", listen, "--json", "--drain-delay", "0s"}, s.flags...)
	return launch(s.t, s.env, slices.Concat(args, s.serving, extra)...)
}

// kill ends the server as a power cut does.
func (s *site) kill() {
	s.server.signal(syscall.SIGKILL)
	<-s.server.done
	s.logs.WriteString(s.server.err.String())
}

// stop ends the server as an operator does; it has to be clean.
func (s *site) stop() {
	s.t.Helper()
	s.server.signal(syscall.SIGTERM)
	if o := s.server.wait(s.t); o.status != exitOK {
		s.t.Errorf("the server did not end cleanly: %s", o)
	}
	s.logs.WriteString(s.server.err.String())
}

func (s *site) config(who string) string { return filepath.Join(s.dir, "people", who) }

// begin starts a command of somebody.
func (s *site) begin(who string, args ...string) *program {
	s.t.Helper()
	return launch(s.t, append([]string{"DSVAULT_CONFIG=" + s.config(who)}, s.clients...), args...)
}

func (s *site) run(who string, args ...string) outcome {
	s.t.Helper()
	return s.begin(who, args...).wait(s.t)
}

// ok runs a command that has to succeed.
func (s *site) ok(who string, args ...string) outcome {
	s.t.Helper()
	return s.run(who, args...).wants(s.t, exitOK)
}

func (s *site) login(who, token string) {
	s.t.Helper()
	env := append([]string{"DSVAULT_CONFIG=" + s.config(who), "DSVAULT_TOKEN=" + token}, s.clients...)
	launch(s.t, env, "login", s.url).wait(s.t).wants(s.t, exitOK)
}

// join invites somebody, gives a role unless it is empty, and logs them in.
func (s *site) join(who, role, scope string, flags ...string) {
	s.t.Helper()
	var invited wire.NewToken
	s.ok("admin", "person", "invite", who, "--json").into(s.t, &invited)
	if role != "" {
		s.ok("admin", append([]string{"grant", role, who, scope}, flags...)...)
	}
	s.login(who, invited.Token)
}

// project makes acme/signs and cleo, who pushes to it.
func (s *site) project() {
	s.t.Helper()
	s.ok("admin", "client", "create", "acme")
	s.ok("admin", "project", "create", "acme/signs", "--purpose", "labeling")
	s.join("cleo", "client", "acme")
}

// client is somebody's login as a Go client, over the given transport.
func (s *site) client(who string, transport http.RoundTripper) (*client.Client, client.LogPin) {
	s.t.Helper()
	return s.clientAt(who, "", transport)
}

// clientAt is client at another address than the login's.
func (s *site) clientAt(who, url string, transport http.RoundTripper) (*client.Client, client.LogPin) {
	s.t.Helper()
	home, err := client.OpenHome(s.config(who))
	place := home.Current()
	login, err2 := place.Login()
	token, err3 := place.Token()
	device, err4 := place.Device()
	if err := errors.Join(err, err2, err3, err4); err != nil {
		s.t.Fatal(err)
	}
	c, err := client.New(client.Config{
		URL: cmp.Or(url, login.URL), Token: token, Device: device, DeviceID: login.Device, HTTP: &http.Client{Transport: transport},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return c, client.LogPin{Origin: login.LogOrigin, Key: login.LogKey}
}

// verified verifies the whole log, with Go, and gives its records.
func (s *site) verified(who string) ([]wire.Record, client.Verified) {
	s.t.Helper()
	c, pin := s.client(who, nil)
	var records []wire.Record
	v, err := c.VerifyLog(context.Background(), scope(s.t, "/"), pin, client.VerifyOptions{
		Each: func(r wire.Record) error { records = append(records, r); return nil },
	})
	if err != nil {
		s.t.Fatalf("the log does not verify: %v", err)
	}
	return records, v
}

// ended is verified once every read has its end, which the server records when
// the reader has all already.
func (s *site) ended(who string) (records []wire.Record, v client.Verified) {
	s.t.Helper()
	await(s.t, "every read has its end", func() bool {
		records, v = s.verified(who)
		return len(v.Open) == 0
	})
	return records, v
}

// count opens the embedded catalog beside the server, to count in it.
func (s *site) count(query string) int {
	s.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.data, "catalog.db")+"?_pragma=busy_timeout(10000)&_pragma=query_only(1)")
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	n := -1
	if err := db.QueryRow(query).Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// tree lists the regular files below a folder.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) && path != dir {
			return nil // it went while we looked
		}
		if err == nil && d.Type().IsRegular() {
			rel, _ := filepath.Rel(dir, path)
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// swept waits until storage holds the catalog's shards, with their indexes, and
// nothing else.
func (s *site) swept() {
	s.t.Helper()
	objects := filepath.Join(s.data, "objects")
	var stored, temporary, shards, attempts int
	defer func() {
		if s.t.Failed() {
			s.t.Logf("%d objects for %d shards and indexes, %d temporary files, %d attempts", stored, shards, temporary, attempts)
		}
	}()
	await(s.t, "what was interrupted is swept", func() bool {
		stored, temporary = 0, 0
		for _, name := range tree(s.t, objects) {
			if strings.HasSuffix(name, ".age") {
				stored++
			} else if strings.HasPrefix(name, "tmp/") {
				temporary++
			}
		}
		shards, attempts = s.count("SELECT count(*) + count(CASE WHEN index_size > 0 THEN 1 END) FROM shards"), s.count("SELECT count(*) FROM attempts")
		return stored == shards && temporary == 0 && attempts == 0
	})
}
