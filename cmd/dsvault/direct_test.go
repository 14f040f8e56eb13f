//go:build linux

package main

import (
	"crypto/rand"
	"crypto/sha256"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"dsvault/storage/storagetest"
	"dsvault/vault/dataset"
)

// storeProxy is the way from clients to an S3 server, which breaks.
type storeProxy struct {
	*httptest.Server

	mu    sync.Mutex
	wrong func(http.ResponseWriter, *http.Request, []byte) bool // answers, and reports that it did
	puts  map[string][][32]byte                                 // by part: the hashes of all bodies that came
	gets  int
	token bool // somebody sent a bearer token
}

func newStoreProxy(t *testing.T, server storagetest.S3Server) *storeProxy {
	target, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	p := &storeProxy{puts: make(map[string][][32]byte)}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is in the signature
	}}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.token = p.token || r.Header.Get("Authorization") != ""
		if r.Method == http.MethodPut {
			key := r.URL.Path + "?" + r.URL.Query().Get("uploadId") + "&" + r.URL.Query().Get("partNumber")
			p.puts[key] = append(p.puts[key], sha256.Sum256(body))
		} else {
			p.gets++
		}
		wrong := p.wrong
		p.mu.Unlock()
		if wrong != nil && wrong(w, r, body) {
			return
		}
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(string(body))), int64(len(body))
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *storeProxy) be(wrong func(http.ResponseWriter, *http.Request, []byte) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrong, p.puts, p.gets = wrong, make(map[string][][32]byte), 0
}

// once has it happen to the first request for each part, or to each first GET.
func once(wrong func(http.ResponseWriter, *http.Request)) func(http.ResponseWriter, *http.Request, []byte) bool {
	var mu sync.Mutex
	seen := make(map[string]bool)
	return func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		mu.Lock()
		key := r.Method + r.URL.Path + r.URL.Query().Get("partNumber")
		again := seen[key]
		seen[key] = true
		mu.Unlock()
		if !again {
			wrong(w, r)
		}
		return !again
	}
}

func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func busy(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusServiceUnavailable)
	io.WriteString(w, "<Error><Code>SlowDown</Code></Error>")
}

// TestDirectTransfers: push and pull without the vault between them, over a
// network that breaks.
func TestDirectTransfers(t *testing.T) {
	for name, start := range map[string]func(testing.TB) storagetest.S3Server{"versitygw": storagetest.Versitygw, "rclone": storagetest.Rclone} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := start(t)
			p := newStoreProxy(t, server)
			s := &site{t: t, dir: t.TempDir()}
			s.data = filepath.Join(s.dir, "vault")
			s.useS3(server)
			s.flags[1] += "&public=" + p.URL
			s.open()
			s.project()
			s.join("rita", "reviewer", "acme")

			source := filepath.Join(s.dir, "big")
			data := make([]byte, 2*dataset.PartSize+5000)
			rand.Read(data)
			if err := os.WriteFile(source, data, 0o600); err != nil {
				t.Fatal(err)
			}
			s.ok("cleo", "push", files(t, 3), "acme/signs/small", "--direct")
			s.ok("cleo", "push", source, batch, "--direct", "--shard-size", "9MiB").wants(t, exitOK, "2 shards of 2")
			s.ok("cleo", "push", source, batch, "--direct", "--shard-size", "9MiB").wants(t, exitOK, "nothing to send")
			if len(p.puts) != 1+3 {
				t.Errorf("%d parts went straight to storage, want 4", len(p.puts))
			}
			s.run("rita", "pull", batch, "-o", s.out("early"), "--direct").wants(t, exitForbidden)
			s.ok("cleo", "project", "update", "acme/signs", "--delivery", "direct")
			for what, wrong := range map[string]func(http.ResponseWriter, *http.Request, []byte) bool{
				"all is well": nil, "resets": once(hangUp), "503": once(busy),
			} {
				p.be(wrong)
				s.ok("rita", "pull", batch, "-o", s.out("pull "+what), "--direct")
				sameBytes(t, filepath.Join(s.out("pull "+what), "big"), data)
				if p.gets < 2 {
					t.Errorf("%s: %d requests to storage", what, p.gets)
				}
				if name == "rclone" && what != "all is well" {
					continue // it takes no part twice
				}
				p.be(wrong)
				ds := "acme/signs/" + strings.ReplaceAll(what, " ", "-")
				s.ok("cleo", "push", source, ds, "--direct", "--shard-size", "9MiB")
				for part, bodies := range p.puts {
					for _, sum := range bodies {
						if sum != bodies[0] {
							t.Errorf("%s: %s was sent with other bytes the second time", what, part)
						}
					}
				}
				s.ok("cleo", "pull", ds, "-o", s.out("push "+what))
				sameBytes(t, filepath.Join(s.out("push "+what), "big"), data)
			}
			if p.token {
				t.Error("the object store got a bearer token")
			}
			s.directFails(p, source)
			s.ok("admin", "check", "/", "--read-data").wants(t, exitOK)
			s.ok("admin", "log", "/", "--verify")
			s.stop()
			if logs := s.logs.String(); strings.Contains(logs, "X-Amz") {
				t.Error("the server's log shows a presigned URL")
			}
		})
	}
}

// directFails has storage answer wrongly for good: nothing is acknowledged, and
// no error shows what gives access.
func (s *site) directFails(p *storeProxy, source string) {
	s.t.Helper()
	damage := func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		if r.Method != http.MethodGet {
			return false
		}
		w.Header().Set("Content-Range", "bytes 5-9/10")
		w.Header().Set("Content-Length", "5")
		w.WriteHeader(http.StatusPartialContent)
		io.WriteString(w, "wrong")
		return true
	}
	gone := func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		w.WriteHeader(http.StatusPreconditionFailed)
		return true
	}
	away := func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		http.Redirect(w, r, "http://192.0.2.1/", http.StatusTemporaryRedirect)
		return true
	}
	for what, test := range map[string]struct {
		wrong  func(http.ResponseWriter, *http.Request, []byte) bool
		push   bool
		status int
	}{
		"another range":  {damage, false, exitUnavailable},
		"another object": {gone, false, exitCorrupt},
		"a redirect":     {away, true, exitConflict},
	} {
		p.be(test.wrong)
		o := s.run("rita", "pull", batch, "-o", s.out("fails"), "--direct").wants(s.t, test.status)
		if test.push {
			o = s.run("cleo", "push", source, "acme/signs/fails", "--direct").wants(s.t, test.status)
		}
		if strings.Contains(o.err+o.out, "X-Amz") {
			s.t.Errorf("%s: the error shows a presigned URL: %s", what, o)
		}
	}
	p.be(nil)
	if names := tree(s.t, s.out("fails")); len(names) > 0 {
		s.t.Errorf("failed pulls left %v", names)
	}
}

func sameBytes(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != string(want) {
		t.Errorf("%s has %d bytes that are not those pushed, %v", path, len(got), err)
	}
}

// TestDirectIsNotPlain: presigned URLs do not travel in clear to other machines.
func TestDirectIsNotPlain(t *testing.T) {
	server := storagetest.Versitygw(t)
	s := &site{t: t, dir: t.TempDir()}
	s.data = filepath.Join(s.dir, "vault")
	s.useS3(server)
	s.flags[1] += "&public=http://s3.example.org"
	s.open()
	s.project()
	s.run("cleo", "push", files(t, 1), batch, "--direct").wants(t, exitUsage, "plain http", "--allow-plain-http")
	s.stop()
}

// TestDirectNeedsS3: the folder store gives no presigned URLs, and the command says so.
func TestDirectNeedsS3(t *testing.T) {
	s := newSite(t)
	s.project()
	s.run("cleo", "push", files(t, 1), batch, "--direct").wants(t, exitConflict, "only an S3 server does", "leave --direct out")
	s.stop()
}
