package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"dsvault/vault/client"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// world is a real vault that is served in this process, and a proxy in front of
// it that plays the network, or a server that lies.
type world struct {
	t     *testing.T
	proxy *httptest.Server
	admin *client.Client
	pin   client.LogPin

	mu   sync.Mutex
	hook func(w http.ResponseWriter, r *http.Request, next http.Handler) // guarded by mu
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t}
	cfg := serveConfig{Listen: "127.0.0.1:0"}
	cfg.Data, cfg.Logger = filepath.Join(t.TempDir(), "vault"), slog.New(slog.DiscardHandler)
	token, err := initNode(t.Context(), cfg.nodeConfig, "admin")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() { done <- serve(ctx, cfg, func(url string) error { ready <- url; return nil }) }()
	t.Cleanup(func() {
		w.proxy.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	var target string
	select {
	case target = <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	u, _ := url.Parse(target)
	next := httputil.NewSingleHostReverseProxy(u)
	next.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	w.proxy = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		hook := w.hook
		w.mu.Unlock()
		if hook == nil {
			next.ServeHTTP(rw, r)
			return
		}
		hook(rw, r, next)
	}))
	w.admin = w.login(token.Expose())
	must(t, w.admin.CreateClient)(t.Context(), wire.NewClient{Scope: scope(t, "acme")})
	must(t, w.admin.CreateProject)(t.Context(), wire.NewProject{Scope: scope(t, "acme/signs"), Purposes: []string{"labeling"}})
	return w
}

// between puts a hook between client and server; nil takes it away.
func (w *world) between(hook func(http.ResponseWriter, *http.Request, http.Handler)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hook = hook
}

func must[In, Out any](t *testing.T, f func(context.Context, In) (Out, error)) func(context.Context, In) Out {
	return func(ctx context.Context, in In) Out {
		t.Helper()
		out, err := f(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

func scope(t *testing.T, s string) dataset.Scope {
	t.Helper()
	out, err := dataset.ParseScope(s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// login registers a device and gives a client that can pull.
func (w *world) login(token string) *client.Client {
	w.t.Helper()
	secret, err := client.ParseSecret(token)
	if err != nil {
		w.t.Fatal(err)
	}
	id, err := seal.GenerateIdentity()
	if err != nil {
		w.t.Fatal(err)
	}
	connect := func(cfg client.Config) *client.Client {
		c, err := client.New(cfg)
		if err != nil {
			w.t.Fatal(err)
		}
		return c
	}
	cfg := client.Config{URL: w.proxy.URL, Token: secret, Device: id}
	in := must(w.t, connect(cfg).Login)(w.t.Context(), wire.Login{DeviceName: "test", Recipient: id.Recipient().String()})
	w.pin = client.LogPin{Origin: in.LogOrigin, Key: in.LogKey}
	if in.Token != "" {
		if cfg.Token, err = client.ParseSecret(in.Token); err != nil {
			w.t.Fatal(err)
		}
	}
	cfg.DeviceID = in.Device
	return connect(cfg)
}

func (w *world) join(handle string, role dataset.Role, at string) *client.Client {
	w.t.Helper()
	token := must(w.t, w.admin.Invite)(w.t.Context(), wire.NewPerson{Handle: handle})
	c := w.login(token.Token)
	must(w.t, w.admin.Grant)(w.t.Context(), wire.Grant{Role: role, Person: handle, Scope: scope(w.t, at)})
	return c
}

// files makes a folder of n files of 60,000 bytes, each a shard of its own.
func files(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		data := make([]byte, 60_000)
		for j := range data {
			data[j] = byte(random.Uint32())
		}
		if err := os.WriteFile(filepath.Join(dir, "file"+strconv.Itoa(i)), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var oneByOne = client.PushOptions{ShardSize: 64 << 10, Parallel: 1}

const batch = "acme/signs/batch-1"

func wantCode(t *testing.T, err error, code fault.Code) {
	t.Helper()
	if got := fault.CodeOf(err); got != code {
		t.Errorf("got %q (%v), want %q", got, err, code)
	}
}

func sameFiles(t *testing.T, want, got string) {
	t.Helper()
	n := 0
	err := everyFile(want, func(path, rel string) error {
		a, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(filepath.Join(got, rel))
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs", rel)
		}
		n++
		return err
	})
	if err != nil || n == 0 {
		t.Errorf("%d files, %v", n, err)
	}
}

func isUpload(r *http.Request) bool {
	return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/uploads/") && !strings.HasSuffix(r.URL.Path, "/index")
}

// TestPushGoesOn interrupts a push when its third shard starts.
func TestPushGoesOn(t *testing.T) {
	w := newWorld(t)
	carol := w.join("carol", dataset.ClientUser, "acme")
	dir := files(t, 5)
	ctx, interrupt := context.WithCancel(t.Context())
	var uploads atomic.Int32
	w.between(func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
		if isUpload(r) && uploads.Add(1) == 3 {
			interrupt()
			panic(http.ErrAbortHandler)
		}
		next.ServeHTTP(rw, r)
	})
	_, err := carol.Push(ctx, dir, scope(t, batch), oneByOne)
	wantCode(t, err, fault.Canceled)
	w.between(nil)
	if ds := must(t, carol.Dataset)(t.Context(), scope(t, batch)); ds.Complete || ds.Shards != 2 {
		t.Errorf("%d shards, complete %v", ds.Shards, ds.Complete)
	}
	out, err := carol.Push(t.Context(), dir, scope(t, batch), oneByOne)
	if err != nil || out.Sent != 3 || !out.Dataset.Complete || out.Shards != 5 {
		t.Errorf("%+v, %v", out, err)
	}
	got := t.TempDir()
	if _, err := carol.Pull(t.Context(), scope(t, batch), client.PullOptions{Dir: got}); err != nil {
		t.Fatal(err)
	}
	sameFiles(t, dir, got)
}

// TestPushTriesAgain breaks the first upload in the middle of its body.
func TestPushTriesAgain(t *testing.T) {
	w := newWorld(t)
	carol := w.join("carol", dataset.ClientUser, "acme")
	dir := files(t, 2)
	var attempts sync.Map
	var uploads atomic.Int32
	w.between(func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
		if isUpload(r) {
			attempts.Store(r.URL.Path, true)
			if uploads.Add(1) == 1 {
				io.CopyN(io.Discard, r.Body, 1000)
				panic(http.ErrAbortHandler)
			}
		}
		next.ServeHTTP(rw, r)
	})
	out, err := carol.Push(t.Context(), dir, scope(t, batch), oneByOne)
	if err != nil || out.Sent != 2 {
		t.Fatalf("%+v, %v", out, err)
	}
	n := 0
	attempts.Range(func(any, any) bool { n++; return true })
	if n != 3 {
		t.Errorf("%d attempts, want 3: a failed shard starts again under a new one", n)
	}
	w.between(nil)
	got := t.TempDir()
	if _, err := carol.Pull(t.Context(), scope(t, batch), client.PullOptions{Dir: got}); err != nil {
		t.Fatal(err)
	}
	sameFiles(t, dir, got)
}

// TestPushNoticesOtherBytes flips a bit of each upload on its way.
func TestPushNoticesOtherBytes(t *testing.T) {
	w := newWorld(t)
	carol := w.join("carol", dataset.ClientUser, "acme")
	w.between(func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
		if isUpload(r) {
			r.Body = struct {
				io.Reader
				io.Closer
			}{&flip{r: r.Body, at: 5000}, r.Body}
		}
		next.ServeHTTP(rw, r)
	})
	_, err := carol.Push(t.Context(), files(t, 1), scope(t, batch), oneByOne)
	if err == nil {
		t.Fatal("the push succeeded")
	}
	w.between(nil)
	if ds := must(t, carol.Dataset)(t.Context(), scope(t, batch)); ds.Shards != 0 || ds.Complete {
		t.Errorf("%+v", ds)
	}
}

// TestPushNoticesOtherHash has a server that says that it stored other bytes.
func TestPushNoticesOtherHash(t *testing.T) {
	w := newWorld(t)
	carol := w.join("carol", dataset.ClientUser, "acme")
	w.between(func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.HasSuffix(r.URL.Path, "/commit") {
			t.Error("it was committed all the same")
		}
		if !isUpload(r) {
			next.ServeHTTP(rw, r)
			return
		}
		rec := record(r, next)
		var stored wire.Stored
		if err := json.Unmarshal(rec.Body.Bytes(), &stored); err != nil {
			t.Error(err)
			return
		}
		stored.SHA256[0] ^= 1
		body, _ := json.Marshal(stored)
		rec.Header().Del("Content-Length")
		replay(rw, rec, body)
	})
	_, err := carol.Push(t.Context(), files(t, 1), scope(t, batch), oneByOne)
	wantCode(t, err, fault.Unavailable)
}

// flip changes one bit of a stream.
type flip struct {
	r  io.Reader
	at int
}

func (f *flip) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if f.at >= 0 && f.at < n {
		p[f.at] ^= 1
	}
	f.at -= n
	return n, err
}

// TestPushRefusesChangingFile changes a file between plan and reading.
func TestPushRefusesChangingFile(t *testing.T) {
	w := newWorld(t)
	carol := w.join("carol", dataset.ClientUser, "acme")
	dir := files(t, 1)
	w.between(func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/uploads") {
			if err := os.WriteFile(filepath.Join(dir, "file0"), []byte("other"), 0o644); err != nil {
				t.Error(err)
			}
		}
		next.ServeHTTP(rw, r)
	})
	_, err := carol.Push(t.Context(), dir, scope(t, batch), oneByOne)
	wantCode(t, err, fault.Conflict)
}

func isRead(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/sealed") }

func pushed(t *testing.T, w *world, shards int) (carol *client.Client, dir string) {
	t.Helper()
	carol = w.join("carol", dataset.ClientUser, "acme")
	dir = files(t, shards)
	if _, err := carol.Push(t.Context(), dir, scope(t, batch), oneByOne); err != nil {
		t.Fatal(err)
	}
	return carol, dir
}

// record lets the server answer and gives its answer to be changed.
func record(r *http.Request, next http.Handler) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	next.ServeHTTP(rec, r)
	return rec
}

func replay(rw http.ResponseWriter, rec *httptest.ResponseRecorder, body []byte) {
	for k, v := range rec.Header() {
		rw.Header()[k] = v
	}
	rw.WriteHeader(rec.Code)
	rw.Write(body)
}

// TestPullTriesAgain breaks the first answer of each shard half-way.
func TestPullTriesAgain(t *testing.T) {
	w := newWorld(t)
	carol, dir := pushed(t, w, 3)
	for _, sealed := range []bool{false, true} {
		var broken sync.Map
		w.between(func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
			if _, again := broken.LoadOrStore(r.URL.Path, true); isRead(r) && !again {
				rec := record(r, next)
				replay(rw, rec, rec.Body.Bytes()[:rec.Body.Len()/2])
				panic(http.ErrAbortHandler)
			}
			next.ServeHTTP(rw, r)
		})
		got := t.TempDir()
		out, err := carol.Pull(t.Context(), scope(t, batch), client.PullOptions{Dir: got, Sealed: sealed})
		if err != nil || len(out.Shards) != 3 {
			t.Fatalf("%+v, %v", out, err)
		}
		if !sealed {
			sameFiles(t, dir, got)
		}
	}
}

// TestPullTrustsNothing has a server that gives other bytes, another shard, or
// another manifest.
func TestPullTrustsNothing(t *testing.T) {
	w := newWorld(t)
	carol, _ := pushed(t, w, 2)
	shard := 0
	for name, lie := range map[string]func(rw http.ResponseWriter, r *http.Request, next http.Handler){
		"flipped bit": func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
			rec := record(r, next)
			rec.Body.Bytes()[rec.Body.Len()/2] ^= 1
			replay(rw, rec, rec.Body.Bytes())
		},
		"another shard": func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
			r.URL.Path = strings.Replace(r.URL.Path, "/shards/0/", "/shards/1/", 1)
			next.ServeHTTP(rw, r)
		},
		"another shard under this manifest": func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
			rec := record(r.Clone(r.Context()), next)
			r.URL.Path = strings.Replace(r.URL.Path, "/shards/0/", "/shards/1/", 1)
			other := record(r, next)
			other.Header().Set(wire.HeaderManifest, rec.Header().Get(wire.HeaderManifest))
			replay(rw, other, other.Body.Bytes())
		},
		"no manifest": func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
			rec := record(r, next)
			rec.Header().Del(wire.HeaderManifest)
			replay(rw, rec, rec.Body.Bytes())
		},
		"another record than the receipt's": func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
			rec := record(r, next)
			rec.Header().Set(wire.HeaderLeaf, "1"+rec.Header().Get(wire.HeaderLeaf))
			replay(rw, rec, rec.Body.Bytes())
		},
		"nonsense manifest": func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
			rec := record(r, next)
			rec.Header().Set(wire.HeaderManifest, base64.StdEncoding.EncodeToString([]byte("nonsense")))
			replay(rw, rec, rec.Body.Bytes())
		},
		"shorter than the manifest says": func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
			rec := record(r, next)
			rec.Header().Set("Content-Length", "1000")
			replay(rw, rec, rec.Body.Bytes()[:1000])
		},
	} {
		for _, sealed := range []bool{false, true} {
			t.Run(name+", sealed "+strconv.FormatBool(sealed), func(t *testing.T) {
				w.between(func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
					if isRead(r) {
						lie(rw, r, next)
						return
					}
					next.ServeHTTP(rw, r)
				})
				defer w.between(nil)
				got := t.TempDir()
				_, err := carol.Pull(t.Context(), scope(t, batch), client.PullOptions{Dir: got, Shard: &shard, Sealed: sealed})
				wantCode(t, err, fault.Corrupt)
				if entries, _ := os.ReadDir(got); len(entries) > 0 {
					t.Errorf("left %v", entries)
				}
			})
		}
	}
}
