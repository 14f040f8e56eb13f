//go:build linux

package main

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"dsvault/vault/client"
)

// gate is a proxy in front of the server that holds up the last request of a
// kind which it lets begin. Whoever came before it has been answered.
type gate struct {
	*httptest.Server
	matches func(*http.Request) bool
	left    atomic.Int32 // requests of the kind that pass; then one is held
	held    chan struct{}
	open    chan struct{}
}

func (s *site) gate(pass int32, matches func(*http.Request) bool) *gate {
	s.t.Helper()
	target, err := url.Parse(s.url)
	if err != nil {
		s.t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	g := &gate{matches: matches, held: make(chan struct{}), open: make(chan struct{})}
	g.left.Store(pass)
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !matches(r) {
			proxy.ServeHTTP(w, r)
			return
		}
		switch left := g.left.Add(-1); {
		case left >= 0:
			proxy.ServeHTTP(w, r)
		case left == -1:
			proxy.ServeHTTP(&stuckWriter{ResponseWriter: w, r: r, g: g}, stuckRequest(r, g))
		default: // what runs in parallel waits, too
			select {
			case <-g.open:
			case <-r.Context().Done():
			}
		}
	}))
	s.t.Cleanup(func() { close(g.open); g.CloseClientConnections(); g.Close() })
	return g
}

// stuckRequest gives the server the first bytes of an upload and no more.
func stuckRequest(r *http.Request, g *gate) *http.Request {
	if r.Method != http.MethodPut {
		return r
	}
	r = r.Clone(r.Context())
	r.Body = &stalledBody{r.Body, func() { g.stick(r) }}
	return r
}

// stuckWriter gives the client the first bytes of a download and no more.
type stuckWriter struct {
	http.ResponseWriter
	r    *http.Request
	g    *gate
	sent int
}

func (w *stuckWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	if w.sent += n; w.sent < 100<<10 {
		return n, err
	}
	w.ResponseWriter.(http.Flusher).Flush()
	w.g.stick(w.r)
	return n, errors.Join(err, errors.New("the gate is shut"))
}

func (g *gate) stick(r *http.Request) {
	select {
	case <-g.held:
	default:
		close(g.held)
	}
	select {
	case <-g.open:
	case <-r.Context().Done():
	}
}

// TestKilledClient kills a push, and interrupts a push and pulls, each in the
// middle of a shard; then it runs the same command again.
func TestKilledClient(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.project()
	for _, tt := range []struct {
		name   string
		signal syscall.Signal
		status int
	}{{"killed", syscall.SIGKILL, -1}, {"interrupted", syscall.SIGINT, exitInterrupted}} {
		t.Run("push "+tt.name, func(t *testing.T) {
			source, name := files(t, 6), "acme/signs/push-"+tt.name
			push := []string{"push", source, name, "--shard-size", "64KiB", "--parallel", "1", "--json"}
			before := s.count("SELECT count(*) FROM shards")
			g := s.gate(3, isUpload)
			p := s.beginThrough(g, "cleo", push...)
			await(t, "the fourth shard begins", func() bool { return isClosed(g.held) || p.ended() })
			p.signal(tt.signal)
			p.wait(t).wants(t, tt.status)
			if n := s.count("SELECT count(*) FROM shards") - before; n != 3 {
				t.Errorf("%d shards are committed, want 3", n)
			}
			s.run("cleo", "pull", name, "-o", s.out("early"), "--shard", "3").wants(t, exitForbidden)

			var out client.Pushed
			s.ok("cleo", push...).into(t, &out)
			if out.Shards != 6 || out.Sent != 3 || !out.Dataset.Complete || out.Dataset.Shards != 6 {
				t.Errorf("the second push: %+v", out)
			}
			if n := s.count("SELECT count(*) FROM shards") - before; n != 6 {
				t.Errorf("%d shards, want 6", n)
			}
			s.ok("cleo", push...).into(t, &out)
			if out.Sent != 0 {
				t.Errorf("the third push sent %d shards", out.Sent)
			}
			s.ok("cleo", "pull", name, "-o", s.out(tt.name))
			sameFiles(t, source, s.out(tt.name))
			s.tidy(s.out(tt.name))
		})
		for _, flag := range []string{"", "--sealed"} {
			t.Run("pull "+tt.name+flag, func(t *testing.T) {
				source, name, dir := files(t, 16), "acme/signs/pull-"+tt.name+flag, t.TempDir()
				s.ok("cleo", "push", source, name, "--shard-size", "256KiB").wants(t, exitOK, "4 shards of 4")
				pull := []string{"pull", name, "-o", dir, "--parallel", "1"}
				if flag != "" {
					pull = append(pull, flag)
				}
				g := s.gate(2, isRead)
				p := s.beginThrough(g, "cleo", pull...)
				await(t, "the third shard begins", func() bool {
					return isClosed(g.held) && len(hidden(t, dir)) > 0 || p.ended()
				})
				p.signal(tt.signal)
				p.wait(t).wants(t, tt.status)
				if n := len(visible(t, dir)); n != 2 && n != 8 {
					t.Errorf("%d files are there, want what two shards hold", n)
				}
				if tt.signal == syscall.SIGINT {
					s.tidy(dir)
				}
				if flag != "" { // what is there is not fetched again, or replaced
					s.run("cleo", pull...).wants(t, exitConflict, "--overwrite")
					pull = append(pull, "--overwrite")
				}
				s.ok("cleo", pull...)
				s.tidy(dir)
				if flag == "" {
					sameFiles(t, source, dir)
				} else if n := visible(t, dir); len(n) != 4 {
					t.Errorf("%v are there, want four sealed shards", n)
				}
			})
		}
	}
	s.kill()
	s.start()
	s.swept()
	s.ok("admin", "log", "--verify")
	s.stop()
}

// beginThrough starts a command with a copy of somebody's login that names the
// gate as the server.
func (s *site) beginThrough(g *gate, who string, args ...string) *program {
	s.t.Helper()
	copied := s.t.TempDir()
	for _, name := range tree(s.t, s.config(who)) {
		data, err := os.ReadFile(filepath.Join(s.config(who), name))
		if err == nil {
			data = bytes.ReplaceAll(data, []byte(s.url), []byte(g.URL))
			err = os.WriteFile(filepath.Join(copied, name), data, 0o600)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	return launch(s.t, []string{"DSVAULT_CONFIG=" + copied}, args...)
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// visible lists what a user sees in a folder.
func visible(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	for _, name := range tree(t, dir) {
		if !strings.HasPrefix(name, ".") {
			names = append(names, name)
		}
	}
	return names
}

// hidden lists what lies in a folder that users do not see.
func hidden(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}

// tidy checks that nothing hidden is left in a folder.
func (s *site) tidy(dir string) {
	s.t.Helper()
	if names := hidden(s.t, dir); len(names) > 0 {
		s.t.Errorf("%v are left behind in %s", names, dir)
	}
}
