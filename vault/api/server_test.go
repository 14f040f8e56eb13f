package api_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dsvault/vault/api"
	"dsvault/vault/dataset"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

func TestWrongTokensAreLimited(t *testing.T) {
	now := time.Now()
	w := newWorld(t, api.Options{Now: func() time.Time { return now }, AuthFailures: 3, AuthRefill: 0.1})
	w.tokens["wrong"] = "dsv_" + strings.Repeat("a", 52)
	for i := range 5 {
		a := w.send("wrong", "GET", "/v1/whoami", nil)
		want := http.StatusUnauthorized
		if i >= 3 {
			want = http.StatusTooManyRequests
		}
		if a.status != want || i >= 3 && a.header.Get("Retry-After") != "10" {
			t.Errorf("try %d: %d %v", i, a.status, a.header)
		}
	}
	// Whoever has a good token is served, also from that address.
	call[wire.Whoami](w, "root", "GET", "/v1/whoami", nil)
	now = now.Add(10 * time.Second)
	if a := w.send("wrong", "GET", "/v1/whoami", nil); a.status != http.StatusUnauthorized {
		t.Errorf("after the wait: %d", a.status)
	}
}

// TestSlowJSON: a JSON body has a time in all, long before the idle limit.
func TestSlowJSON(t *testing.T) {
	w := newWorld(t, api.Options{BodyTime: 300 * time.Millisecond})
	conn := must(net.Dial("tcp", w.server.Listener.Addr().String()))(t)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second)) // without the limit the test ends here, and fails
	_, err := io.WriteString(conn, "POST /v1/clients HTTP/1.1\r\nHost: vault\r\nAuthorization: Bearer "+w.tokens["root"]+
		"\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{\"scope\":\"")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestTLSAndHTTP2(t *testing.T) {
	w := newWorld(t, api.Options{}, func(_ http.Handler, s *server) {
		s.EnableHTTP2 = true
		s.StartTLS()
	})
	w.populate(300_000)
	a := w.send("lena", "GET", onePath, nil, wire.HeaderDevice, w.devices["lena"].String())
	if a.status != 200 || a.header.Get("Strict-Transport-Security") == "" {
		t.Errorf("%d %v", a.status, a.header)
	}
	if plain := must(seal.OpenBytes(a.body, w.keys["lena"], 1<<20))(t); len(plain) != 300_000 {
		t.Errorf("%d bytes", len(plain))
	}
	resp := w.open("root", "GET", "/v1/whoami", nil)
	defer resp.Body.Close()
	if resp.ProtoMajor != 2 {
		t.Errorf("%s", resp.Proto)
	}
}

func TestHTTP2StreamIsReset(t *testing.T) {
	w := newWorld(t, api.Options{}, func(_ http.Handler, s *server) {
		s.EnableHTTP2 = true
		s.StartTLS()
	})
	w.populate(large)
	resp := w.open("lena", "GET", onePath, nil, wire.HeaderDevice, w.devices["lena"].String())
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	call[wire.Revoked](w, "root", "DELETE", "/v1/people/lena", nil)
	w.logs.await(t, aborted(sealedRoute))
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("an answer that was cut off looks whole")
	}
	w.wantEnd("revoked")
}

// TestPlainFileNeedsTLS puts a file from another machine, as far as the server
// can tell.
func TestPlainFileNeedsTLS(t *testing.T) {
	for _, test := range []struct {
		trust  bool
		proto  string
		status int
	}{{false, "", 400}, {false, "https", 400}, {true, "https", 200}, {true, "", 200}, {true, "http", 400}} {
		var handler http.Handler
		w := newWorld(t, api.Options{TrustProxy: test.trust, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, func(h http.Handler, _ *server) { handler = h })
		w.populate(10)
		req := w.request("carol", "PUT", "/v1/datasets/acme/signs/far/file", strings.NewReader("x"))
		req.RemoteAddr = "192.0.2.1:1234"
		if test.proto != "" {
			req.Header.Set("X-Forwarded-Proto", test.proto)
		}
		rec := httptest.NewRecorder()
		handler.ServeHTTP(rec, req)
		if rec.Code != test.status || (rec.Header().Get("Strict-Transport-Security") != "") != (test.status == 200) {
			t.Errorf("%+v: %d %v %s", test, rec.Code, rec.Header(), rec.Body)
		}
	}
}

// TestActor asserts that the log knows where a request came from.
func TestActor(t *testing.T) {
	w := newWorld(t, api.Options{TrustProxy: true})
	w.populate(10)
	a := w.send("lena", "GET", onePath, nil, wire.HeaderDevice, w.devices["lena"].String(),
		"X-Forwarded-For", "203.0.113.9, 198.51.100.7", "User-Agent", "tool/1 \x80"+strings.Repeat("x", 500))
	if a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for _, r := range call[wire.Page[wire.Record]](w, "root", "GET", "/v1/log?under=acme/signs/one&actor=lena", nil).Items {
		if r.Kind != "read" {
			continue
		}
		for _, want := range []string{"198.51.100.7", "tool/1 ?" + strings.Repeat("x", 192)} {
			if !bytes.Contains(r.Personal, []byte(want)) || bytes.Contains(r.Personal, []byte("203.0.113.9")) || bytes.Contains(r.Personal, []byte(want+"x")) {
				t.Errorf("%q is not as it should be in %s", want, r.Personal)
			}
		}
		return
	}
	t.Error("the read is not in the log")
}

// TestShutdown lets what is under way finish.
func TestShutdown(t *testing.T) {
	w := newWorld(t, api.Options{})
	w.populate(10)
	conn := w.raw("/v1/datasets/acme/signs/last/file", "Content-Length: 5", "Expect: 100-continue")
	buf := make([]byte, 1000)
	if n, err := conn.Read(buf); err != nil || !bytes.Contains(buf[:n], []byte("100 Continue")) {
		t.Fatal(err, string(buf[:n]))
	}
	done := make(chan error)
	go func() { done <- w.server.Config.Shutdown(t.Context()) }()
	for { // until nobody is let in any more
		c, err := net.Dial("tcp", w.server.Listener.Addr().String())
		if err != nil {
			break
		}
		c.Close()
	}
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(buf); err != nil || !bytes.Contains(buf[:n], []byte("200 OK")) {
		t.Errorf("%v %s", err, buf[:n])
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestServerLimits sends more of a head than the server takes.
func TestServerLimits(t *testing.T) {
	s := api.Server(t.Context(), http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	if s.ReadHeaderTimeout <= 0 || s.IdleTimeout <= 0 || s.MaxHeaderBytes <= 0 || s.ReadTimeout != 0 || s.WriteTimeout != 0 {
		t.Errorf("%+v", s)
	}
	w := newWorld(t, api.Options{})
	a := w.send("root", "GET", "/v1/whoami", nil, "X-Long", strings.Repeat("x", 64<<10))
	if a.status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%d", a.status)
	}
}

// FuzzPaths throws methods, paths and bodies at the API, as an admin, and wants
// well-formed answers and nothing made under a name that is none.
func FuzzPaths(f *testing.F) {
	seeds := pathSeeds(f)
	for _, s := range seeds {
		method, path, _ := strings.Cut(s, " ")
		f.Add(method, path, `{"scope":"a"}`)
	}
	v, token := openVault(f, f.TempDir())
	handler := api.New(v, api.Options{Logger: slog.New(slog.DiscardHandler), Now: time.Now, Random: rand.Reader})
	f.Fuzz(func(t *testing.T, method, path, body string) {
		if method == "" || strings.ContainsFunc(method, func(r rune) bool { return r < 'A' || r > 'Z' }) {
			return // not a request that a client can send
		}
		req, err := http.NewRequest(method, "http://vault/", strings.NewReader(body))
		if err != nil {
			return
		}
		u, err := req.URL.Parse(path)
		if err != nil || u.Host != "vault" {
			return
		}
		req.URL = u
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		rec := httptest.NewRecorder()
		handler.ServeHTTP(rec, req)
		a := answer{rec.Code, rec.Header(), rec.Body.Bytes()}
		switch {
		case a.status >= 500:
			t.Fatalf("%s %s: %d %s", method, path, a.status, a.body)
		case a.status >= 400 && method != "HEAD":
			a.problem(t)
		case a.status == 200 && a.header.Get("Content-Type") == "application/json":
			if !json.Valid(a.body) {
				t.Fatalf("%s", a.body)
			}
			var own wire.NewToken
			if json.Unmarshal(a.body, &own) == nil && own.Person.Handle == "root" && own.Token != "" {
				token = own.Token // rotated
			}
			var e wire.Entry
			if method == "PUT" && json.Unmarshal(a.body, &e) == nil {
				if _, err := dataset.ParseScope(e.Scope.String()); err != nil {
					t.Fatalf("%s %s made %q", method, path, e.Scope)
				}
			}
		}
	})
}

// pathSeeds reads the committed corpus.
func pathSeeds(t testing.TB) []string {
	t.Helper()
	data := must(os.ReadFile(filepath.Join("testdata", "paths.txt")))(t)
	seeds := strings.Split(strings.TrimSpace(string(data)), "\n")
	if len(seeds) < 30 {
		t.Fatalf("the corpus has only %d paths", len(seeds))
	}
	return seeds
}

// TestPathSeeds asserts that the corpus reaches every route.
func TestPathSeeds(t *testing.T) {
	seeds := strings.Join(pathSeeds(t), "\n")
	for _, route := range api.Routes() {
		prefix := route
		if i := strings.IndexAny(route, ":*"); i >= 0 {
			prefix = route[:i]
		}
		if !strings.Contains(seeds, prefix) {
			t.Errorf("no seed for %s", route)
		}
	}
}

// TestContractorNetworks: what anybody but a proxy of ours says in
// X-Forwarded-For is no address, and neither is what stands left of the last hop.
func TestContractorNetworks(t *testing.T) {
	for _, test := range []struct {
		name      string
		opts      api.Options
		forwarded string
		status    int
	}{
		{"no proxy", api.Options{}, "203.0.113.9", 403},
		{"a proxy", api.Options{TrustProxy: true}, "203.0.113.9", 200},
		{"a proxy, and a hop that the caller made up", api.Options{TrustProxy: true}, "203.0.113.9, 198.51.100.1", 403},
		{"a proxy, which says nothing", api.Options{TrustProxy: true}, "", 403},
		{"a proxy elsewhere", api.Options{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, "203.0.113.9", 403},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, test.opts)
			w.populate(10)
			w.person("kim")
			until := time.Now().Add(time.Hour)
			call[wire.Grant](w, "root", "POST", "/v1/grants", wire.Grant{Role: dataset.Contractor, Person: "kim", Scope: w.scope("acme/signs"), Until: &until})
			call[wire.Assignment](w, "root", "POST", "/v1/assignments", wire.Assignment{Dataset: w.scope("acme/signs/one"), Person: "kim",
				Shards: dataset.ShardSet{{First: 0, Last: 0}}})
			a := call[wire.Agreement](w, "root", "POST", "/v1/agreements", wire.Publish{Name: "nda", Text: "Tell nobody.\n"})
			call[wire.Signature](w, "kim", "POST", "/v1/agreements/nda/signatures", wire.Sign{Version: 1, SHA256: a.SHA256})
			read := func() int {
				return w.send("kim", "GET", onePath, nil, wire.HeaderDevice, w.devices["kim"].String(), "X-Forwarded-For", test.forwarded).status
			}
			if status := read(); status != 200 {
				t.Fatalf("without a condition: %d", status)
			}
			call[wire.Conditions](w, "root", "PATCH", "/v1/conditions?scope=acme/signs", wire.ConditionsUpdate{Networks: &[]string{"203.0.113.0/24"}})
			if status := read(); status != test.status {
				t.Errorf("status %d instead of %d", status, test.status)
			}
		})
	}
}
