package api_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/storage/dir"
	"dsvault/vault"
	"dsvault/vault/api"
	"dsvault/vault/dataset"
	"dsvault/vault/keys"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// world is a real vault behind a real server, with people in it.
type world struct {
	t       *testing.T
	vault   *vault.Vault
	data    string
	server  *httptest.Server
	client  *http.Client
	logs    *logs
	tokens  map[string]string
	devices map[string]dataset.DeviceID
	keys    map[string]*seal.Identity
}

// newWorld starts a vault with the admin root. Options' zero fields are filled.
func newWorld(t *testing.T, opts api.Options, change ...func(http.Handler, *server)) *world {
	t.Helper()
	data := t.TempDir()
	return newWorldOn(t, data, folderObjects(t, data), opts, change...)
}

func folderObjects(t testing.TB, data string) storage.Objects {
	t.Helper()
	return must(dir.Open(filepath.Join(data, "objects")))(t)
}

// newWorldOn is newWorld with another object store.
func newWorldOn(t *testing.T, data string, objects storage.Objects, opts api.Options, change ...func(http.Handler, *server)) *world {
	t.Helper()
	v, token := openVaultOn(t, data, objects)
	return serveWorld(t, data, v, token, opts, change...)
}

// serveWorld serves a vault whose admin, root, has the token.
func serveWorld(t *testing.T, data string, v *vault.Vault, token string, opts api.Options, change ...func(http.Handler, *server)) *world {
	t.Helper()
	w := &world{t: t, vault: v, data: data, logs: &logs{wake: make(chan struct{}, 1)},
		tokens: map[string]string{"root": token}, devices: map[string]dataset.DeviceID{}, keys: map[string]*seal.Identity{}}
	w.serve(opts, change...)
	return w
}

// serve has another server in front of the vault, which the world's people use
// from now on. Limits that are short enough to wait for are set so once all that
// has to keep to them is done.
func (w *world) serve(opts api.Options, change ...func(http.Handler, *server)) {
	w.t.Helper()
	opts.Logger = slog.New(slog.NewJSONHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	opts.Random = rand.Reader
	if opts.Now == nil {
		opts.Now = time.Now
	}
	h := api.New(w.vault, opts)
	w.server = httptest.NewUnstartedServer(h)
	w.server.Config = api.Server(context.Background(), h, opts.Logger)
	for _, f := range change {
		f(h, w.server)
	}
	if w.server.URL == "" {
		w.server.Start()
	}
	w.t.Cleanup(w.server.Close)
	w.client = w.server.Client()
	w.client.Transport.(*http.Transport).DisableCompression = true
}

// openVault makes a vault on SQLite and a folder; token is that of its admin,
// root.
func openVault(t testing.TB, data string) (v *vault.Vault, token string) {
	t.Helper()
	return openVaultOn(t, data, folderObjects(t, data))
}

func openVaultOn(t testing.TB, data string, objects storage.Objects, change ...func(*vault.Config)) (v *vault.Vault, token string) {
	t.Helper()
	ctx := context.Background()
	db := must(catalog.Open(ctx, "sqlite:"+filepath.Join(data, "catalog.db"), catalog.Options{}))(t)
	t.Cleanup(func() { db.Close() })
	folder := filepath.Join(data, "keys")
	if err := keys.Init(folder, "dsvault-test", keys.NewPassphrase(""), rand.Reader); err != nil {
		t.Fatal(err)
	}
	ring := must(keys.Open(folder, keys.NewPassphrase(""), db, rand.Reader))(t)
	quiet := slog.New(slog.DiscardHandler)
	secret := must(vault.Init(ctx, vault.InitConfig{Catalog: db, Keys: ring, Admin: "root", Logger: quiet, Now: time.Now, Random: rand.Reader}))(t)
	cfg := vault.Config{Catalog: db, Objects: objects, Keys: ring, Policy: rbac.Default(),
		Logger: quiet, Now: time.Now, Random: rand.Reader, Exclusive: true}
	for _, f := range change {
		f(&cfg)
	}
	v = must(vault.Open(ctx, cfg))(t)
	t.Cleanup(func() { v.Close() })
	return v, secret.Expose()
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// logs keeps the server's log lines.
type logs struct {
	mu    sync.Mutex
	lines []map[string]any
	text  bytes.Buffer
	wake  chan struct{}
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	var line map[string]any
	if json.Unmarshal(p, &line) == nil {
		l.lines = append(l.lines, line)
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (l *logs) all() []map[string]any {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]map[string]any{}, l.lines...)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// await waits for the line of the request with this route.
func (l *logs) await(t *testing.T, match func(line map[string]any) bool) map[string]any {
	t.Helper()
	late := time.After(time.Minute)
	for {
		for _, line := range l.all() {
			if match(line) {
				return line
			}
		}
		select {
		case <-l.wake:
		case <-late:
			t.Fatalf("the server logged no such request:\n%s", l)
		}
	}
}

func aborted(route string) func(map[string]any) bool {
	return func(line map[string]any) bool { return line["route"] == route && line["aborted"] == true }
}

const (
	dataRoute   = "/v1/datasets/:client/:project/:dataset"
	sealedRoute = dataRoute + "/shards/:n/sealed"
)

// answer is a whole answer.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) problem(t testing.TB) wire.Problem {
	t.Helper()
	var p wire.Problem
	if err := json.Unmarshal(a.body, &p); err != nil || a.header.Get("Content-Type") != wire.ProblemType {
		t.Fatalf("%d %s: not a problem: %s", a.status, a.header.Get("Content-Type"), a.body)
	}
	if p.Status != a.status || p.Request != a.header.Get(wire.HeaderRequestID) || p.Request == "" || p.Title == "" {
		t.Fatalf("the problem and its answer differ: %d %v %+v", a.status, a.header, p)
	}
	return p
}

// send does one request as somebody; body is JSON unless it is a reader.
func (w *world) send(who, method, path string, body any, header ...string) answer {
	w.t.Helper()
	resp := w.open(who, method, path, body, header...)
	defer resp.Body.Close()
	data := must(io.ReadAll(resp.Body))(w.t)
	return answer{resp.StatusCode, resp.Header, data}
}

func (w *world) request(who, method, path string, body any, header ...string) *http.Request {
	w.t.Helper()
	var r io.Reader
	kind := ""
	switch b := body.(type) {
	case nil:
	case io.Reader:
		r = b
	default:
		r, kind = bytes.NewReader(must(json.Marshal(b))(w.t)), "application/json"
	}
	req := must(http.NewRequest(method, w.server.URL+path, r))(w.t)
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	if who != "" {
		req.Header.Set("Authorization", "Bearer "+w.tokens[who])
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return req
}

func (w *world) open(who, method, path string, body any, header ...string) *http.Response {
	w.t.Helper()
	return must(w.client.Do(w.request(who, method, path, body, header...)))(w.t)
}

// call is send that has to succeed.
func call[T any](w *world, who, method, path string, body any, header ...string) T {
	w.t.Helper()
	a := w.send(who, method, path, body, header...)
	var out T
	if a.status != http.StatusOK || a.header.Get("Content-Type") != "application/json" {
		w.t.Fatalf("%s %s as %s: %d %s", method, path, who, a.status, a.body)
	}
	if err := json.Unmarshal(a.body, &out); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// person invites somebody and logs them in.
func (w *world) person(handle string) {
	w.t.Helper()
	out := call[wire.NewToken](w, "root", "POST", "/v1/people",
		wire.NewPerson{Handle: handle, Name: "Name of " + handle, Email: handle + "@example.org"})
	w.tokens[handle] = out.Token
	w.login(handle)
}

func (w *world) login(handle string) wire.LoggedIn {
	w.t.Helper()
	id := must(seal.GenerateIdentity())(w.t)
	in := call[wire.LoggedIn](w, handle, "POST", "/v1/login", wire.Login{DeviceName: "laptop", Recipient: id.Recipient().String()})
	if in.Token != "" {
		w.tokens[handle] = in.Token
	}
	w.devices[handle], w.keys[handle] = in.Device, id
	return in
}

func (w *world) grant(role dataset.Role, person, scope string) {
	w.t.Helper()
	call[wire.Grant](w, "root", "POST", "/v1/grants", wire.Grant{Role: role, Person: person, Scope: w.scope(scope)})
}

func (w *world) scope(s string) dataset.Scope { return must(dataset.ParseScope(s))(w.t) }

// populate makes the client acme with the project acme/signs, its user carol,
// the labeler lena, and the dataset acme/signs/one: one file of size zeros, its
// shard assigned to lena. sam is a stranger.
func (w *world) populate(size int) {
	w.t.Helper()
	call[wire.Entry](w, "root", "POST", "/v1/clients", wire.NewClient{Scope: w.scope("acme")})
	call[wire.Entry](w, "root", "POST", "/v1/projects", wire.NewProject{Scope: w.scope("acme/signs"), Purposes: []string{"labeling"}})
	for _, p := range []string{"carol", "lena", "sam"} {
		w.person(p)
	}
	w.grant(dataset.ClientUser, "carol", "acme")
	w.grant(dataset.Labeler, "lena", "acme/signs")
	d := call[wire.Dataset](w, "carol", "PUT", "/v1/datasets/acme/signs/one/file", io.LimitReader(zeros{}, int64(size)))
	if d.Size != int64(size) || !d.Complete {
		w.t.Fatalf("%+v", d)
	}
	call[wire.Assignment](w, "root", "POST", "/v1/assignments",
		wire.Assignment{Dataset: w.scope("acme/signs/one"), Person: "lena", Shards: dataset.ShardSet{{First: 0, Last: 0}}})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

const onePath = "/v1/datasets/acme/signs/one/shards/0/sealed"

// readEnd gives the detail of the last read-end record.
func (w *world) readEnd() map[string]string {
	w.t.Helper()
	page := call[wire.Page[wire.Record]](w, "root", "GET", "/v1/log?under=acme/signs/one", nil)
	var last map[string]string
	for _, r := range page.Items {
		if strings.HasPrefix(r.Kind, "read-end") {
			last = r.Detail
		}
	}
	if last == nil {
		w.t.Fatalf("no read has ended: %+v", page.Items)
	}
	return last
}

// smallWindow is a client whose kernel takes little of an answer by itself.
func (w *world) smallWindow() *http.Client {
	dialer := net.Dialer{}
	tr := &http.Transport{ReadBufferSize: 1 << 10, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, addr)
		if err == nil {
			err = conn.(*net.TCPConn).SetReadBuffer(8 << 10)
		}
		return conn, err
	}}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// sealedShard makes a shard as a client does.
func sealedShard(t *testing.T, recipient string, number int, plain []byte) (sealed, manifest []byte) {
	t.Helper()
	to := must(seal.ParseRecipient(recipient))(t)
	sum := sha256.Sum256(plain)
	m := must(json.Marshal(dataset.Manifest{Version: 1, Number: number, Packing: dataset.PackFile, Name: "a.jsonl", Size: int64(len(plain)), SHA256: sum[:]}))(t)
	return must(seal.SealBytes(plain, to))(t), must(seal.SealBytes(m, to))(t)
}

// sealedIndex lists one member, of that shard.
func sealedIndex(t *testing.T, recipient string, number int, plain []byte) []byte {
	t.Helper()
	sum := sha256.Sum256(plain)
	x := dataset.Index{Number: number, Size: int64(len(plain)), Members: []dataset.Member{{Name: "a.jsonl", Size: int64(len(plain)), SHA256: sum[:]}}}
	return must(seal.SealBytes(must(x.Encode())(t), must(seal.ParseRecipient(recipient))(t)))(t)
}

type server = httptest.Server
