//go:build linux

package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"dsvault/vault/wire"
)

// tamperSite is a vault in which people have worked, copied for each case of
// tampering. They reach it through somebody in the middle.
type tamperSite struct {
	base  *site
	proxy *httptest.Server

	mu     sync.Mutex
	target *url.URL            // guarded by mu: the server that runs
	lie    func([]part) []part // guarded by mu: about bundles; nil: the truth
}

// newTamperSite: acme's Cleo, a client, has pushed two datasets; Lee, a labeler,
// has read from one; Ann, an auditor, and Cleo have verified the log; then Lee
// has read again, and Cleo has exported the log without remembering it. Receipts
// and exports are in the folder of the test. The server does not run any more.
func newTamperSite(t *testing.T) *tamperSite {
	s := newSite(t)
	ts := &tamperSite{base: s}
	direct, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	ts.target = direct
	ts.proxy = httptest.NewServer(http.HandlerFunc(ts.between))
	t.Cleanup(ts.proxy.Close)
	s.url = ts.proxy.URL // for the logins that follow
	s.project()
	s.join("lee", "labeler", "acme/signs")
	s.join("ann", "auditor", "/")
	data := filepath.Join(s.dir, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "a.txt"), []byte("a"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.ok("cleo", "push", data, "acme/signs/one")
	s.ok("cleo", "push", data, "acme/signs/two")
	s.ok("admin", "assign", "acme/signs/one", "lee", "--shards", "0")
	s.pull("first")
	file := func(name string) string { return filepath.Join(s.dir, name) }
	s.ok("cleo", "log", "acme", "--export", file("old.bundle"))
	s.ok("ann", "log", "--verify")
	s.ok("cleo", "log", "acme", "--export", file("cleo.bundle"))
	s.pull("second")
	memory := filepath.Join(s.config("cleo"), "log.json")
	known, err := os.ReadFile(memory)
	if err != nil {
		t.Fatal(err)
	}
	s.ok("cleo", "log", "acme", "--export", file("new.bundle"))
	if err := os.WriteFile(memory, known, 0o600); err != nil {
		t.Fatal(err)
	}
	s.url = direct.String()
	s.stop()
	return ts
}

// pull has Lee read, and keeps the receipt under a name.
func (s *site) pull(name string) {
	s.t.Helper()
	var out struct {
		Shards []struct{ Receipt string }
	}
	s.ok("lee", "pull", "acme/signs/one", "-o", filepath.Join(s.dir, name), "--json").into(s.t, &out)
	if err := os.Rename(out.Shards[0].Receipt, filepath.Join(s.dir, name+".json")); err != nil {
		s.t.Fatal(err)
	}
	await(s.t, "the read has ended in the log", func() bool { return s.count("SELECT count(*) FROM open_reads") == 0 })
}

// between is the somebody in the middle.
func (ts *tamperSite) between(rw http.ResponseWriter, r *http.Request) {
	ts.mu.Lock()
	target, lie := ts.target, ts.lie
	ts.mu.Unlock()
	next := httputil.NewSingleHostReverseProxy(target)
	if lie == nil || r.URL.Path != wire.PathBundle {
		next.ServeHTTP(rw, r)
		return
	}
	rec := record(r, next)
	rec.Header().Del("Content-Length")
	replay(rw, rec, putTogether(lie(takeApart(ts.base.t, rec.Body.Bytes()))))
}

func (ts *tamperSite) tell(target *url.URL, lie func([]part) []part) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.target, ts.lie = target, lie
}

// copy is one case's own vault, and the people with what they remember.
func (ts *tamperSite) copy(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir()}
	if err := os.CopyFS(s.dir, os.DirFS(ts.base.dir)); err != nil {
		t.Fatal(err)
	}
	s.data = filepath.Join(s.dir, "vault")
	private(t, s.dir)
	return s
}

// private takes from others what os.CopyFS gives them.
func private(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil {
			mode := os.FileMode(0o600)
			if d.IsDir() {
				mode = 0o700
			}
			err = os.Chmod(path, mode)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// tampering is one thing that somebody does to the log, and who notices.
type tampering struct {
	name    string
	rewrite func(f *forger)                  // changes the catalog while the server is stopped
	lie     func(f *forger, p []part) []part // changes a bundle on its way
	before  [][]string                       // commands that notice nothing: who, what

	by   string   // who notices: a person, or "the vault"
	with []string // by which command; none: the vault notices, at its start
	soon bool     // the vault notices soon after it
	says string   // the check that is named
}

var parties = map[string]string{
	"cleo": "Cleo, the client", "lee": "Lee, who has read", "ann": "Ann, the auditor", "new": "an auditor who verifies for the first time",
}

// TestTampering does all that one can think of to a real log, and shows who
// notices and what they are told: testdata/tamper.golden.
func TestTampering(t *testing.T) {
	t.Parallel()
	ts := newTamperSite(t)
	var golden strings.Builder
	for _, c := range tamperings {
		t.Run(c.name, func(t *testing.T) {
			f := &forger{site: ts.copy(t), ts: ts}
			if c.rewrite != nil {
				c.rewrite(f)
			}
			said := f.caught(c)
			if !strings.Contains(said, c.says) {
				t.Errorf("%s: %q does not say %q", c.by, said, c.says)
			}
			fmt.Fprintf(&golden, "%s\n  noticed by %s: %s\n", c.name, cmp.Or(parties[c.by], c.by), said)
		})
	}
	if t.Failed() {
		return
	}
	path := filepath.Join("testdata", "tamper.golden")
	if *update {
		if err := os.WriteFile(path, []byte(golden.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || golden.String() != string(want) {
		t.Errorf("%s says otherwise (%v); got:\n%s", path, err, golden.String())
	}
}

// TestUntampered: nobody notices anything where nothing was done. Otherwise the
// other test would show nothing.
func TestUntampered(t *testing.T) {
	t.Parallel()
	ts := newTamperSite(t)
	f := &forger{site: ts.copy(t), ts: ts}
	f.newcomer()
	f.forge(nil) // a forger's work is not noticed by itself
	f.serveCopy(nil)
	for _, c := range tamperings {
		if len(c.with) == 0 || strings.HasPrefix(c.name, "foreign") {
			continue
		}
		for _, command := range append(c.before, append([]string{c.by}, c.with...)) {
			args := f.paths(command[1:])
			if i := slices.Index(args, "--export"); i >= 0 {
				os.Remove(args[i+1]) // of an earlier case
			}
			f.run(command[0], args...).wants(t, exitOK)
		}
	}
}

// caught serves the copy and gives the message of who notices.
func (f *forger) caught(c tampering) string {
	f.t.Helper()
	if c.soon {
		f.start()
		await(f.t, "the vault halts", func() bool {
			resp, err := http.Get(f.url + "/readyz")
			if err != nil {
				return false
			}
			resp.Body.Close()
			return resp.StatusCode != http.StatusOK
		})
		said := ""
		await(f.t, "the vault says why", func() bool { // it halts first
			for line := range strings.Lines(f.server.err.String()) {
				var logged struct{ Err string }
				if json.Unmarshal([]byte(line), &logged) == nil && strings.Contains(logged.Err, c.says) {
					said = logged.Err
				}
			}
			return said != ""
		})
		f.kill()
		return f.plain("dsvault: " + said)
	}
	if len(c.with) == 0 {
		o := f.serve().wait(f.t)
		if o.status != exitCorrupt {
			f.t.Fatalf("%swant status %d", o, exitCorrupt)
		}
		return f.plain(o.err)
	}
	var lie func([]part) []part
	if c.lie != nil {
		lie = func(p []part) []part { return c.lie(f, p) }
	}
	f.serveCopy(lie)
	for _, command := range c.before {
		f.run(command[0], f.paths(command[1:])...).wants(f.t, exitOK)
	}
	return f.plain(f.run(c.by, f.paths(c.with)...).wants(f.t, exitCorrupt).err)
}

// serveCopy serves the copy behind the proxy.
func (f *forger) serveCopy(lie func([]part) []part) {
	f.t.Helper()
	f.start()
	target, err := url.Parse(f.url)
	if err != nil {
		f.t.Fatal(err)
	}
	f.ts.tell(target, lie)
	f.t.Cleanup(f.stop)
}

// paths puts the folder of the case before the names of files.
func (f *forger) paths(args []string) []string {
	out := make([]string, len(args))
	for i, arg := range args {
		if strings.HasSuffix(arg, ".bundle") || strings.HasSuffix(arg, ".json") {
			arg = filepath.Join(f.dir, arg)
		}
		out[i] = arg
	}
	return out
}

var numbers = regexp.MustCompile(`[0-9a-f]{16,}|[0-9]+`)

// plain is the first line of what was said, without what differs from run to run.
func (f *forger) plain(said string) string {
	for line := range strings.Lines(said) {
		text, ok := strings.CutPrefix(strings.TrimSpace(line), "dsvault: ")
		var problem wire.Problem // as the server says it here
		if !ok && json.Unmarshal([]byte(line), &problem) == nil && problem.Detail != "" {
			text, ok = problem.Detail, true
		}
		if ok {
			text = strings.ReplaceAll(text, f.dir, "DIR")
			return numbers.ReplaceAllString(text, "N")
		}
	}
	f.t.Fatalf("nothing was said: %q", said)
	return ""
}
