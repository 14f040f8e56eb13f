package vault_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"io"
	"log/slog"
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
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/keys"
	"dsvault/vault/ledger"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// world is a running vault with people in it.
type world struct {
	t       testing.TB
	v       *vault.Vault
	db      *catalog.DB
	objects storage.Objects
	open    func() (*vault.Vault, error) // another one on the same stores
	clock   *clock
	tokens  map[string]string
	devices map[string]*seal.Identity
	ids     map[string]dataset.DeviceID
	made    int    // datasets and people, in tests of faults
	regions string // folder of the stores of regions

	checkEvery, checkDataEvery time.Duration // for open
	shared                     bool          // likewise: other nodes have the catalog open
	config                     func(*vault.Config)
	state                      string        // likewise: the node's own record of what was signed
	backupWindow               time.Duration // likewise
	keyDir                     string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOn(t, "sqlite:"+filepath.Join(t.TempDir(), "catalog.db"), catalog.Options{})
}

func newWorldOn(t testing.TB, url string, opts catalog.Options) *world {
	t.Helper()
	ctx := context.Background()
	w := &world{t: t, clock: &clock{t: time.Date(2027, 2, 28, 12, 0, 0, 0, time.UTC)},
		tokens: map[string]string{}, devices: map[string]*seal.Identity{}, ids: map[string]dataset.DeviceID{}}
	data := t.TempDir()
	var err error
	if w.db, err = catalog.Open(ctx, url, opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.db.Close() })
	if w.objects, err = dir.Open(filepath.Join(data, "objects")); err != nil {
		t.Fatal(err)
	}
	keyDir := filepath.Join(data, "keys")
	w.keyDir, w.backupWindow = keyDir, 30*24*time.Hour
	if err := keys.Init(keyDir, "dsvault-test", keys.NewPassphrase(""), rand.Reader); err != nil {
		t.Fatal(err)
	}
	ring, err := keys.Open(keyDir, keys.NewPassphrase(""), w.db, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w.state = filepath.Join(keyDir, vault.LogStateFile)
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	token, err := vault.Init(ctx, vault.InitConfig{Catalog: w.db, Keys: ring, Admin: "root", Logger: logger, Now: w.clock.Now, Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	w.tokens["root"] = token.Expose()
	w.open = func() (*vault.Vault, error) {
		cfg := vault.Config{Catalog: w.db, Objects: w.objects, Keys: ring, Policy: rbac.Default(),
			Logger: logger, Now: w.clock.Now, Random: rand.Reader, Exclusive: !w.shared,
			CheckEvery: w.checkEvery, CheckDataEvery: w.checkDataEvery, BackupWindow: w.backupWindow, Log: vault.LogConfig{State: w.state}}
		if w.config != nil {
			w.config(&cfg)
		}
		return vault.Open(ctx, cfg)
	}
	w.v = must[*vault.Vault](t)(w.open())
	t.Cleanup(func() { w.v.Close() })
	w.login("root")
	return w
}

// reopen opens the vault beside the one that runs, as after a crash.
func (w *world) reopen() {
	w.t.Helper()
	crashed := w.v
	w.t.Cleanup(func() { crashed.Close() })
	w.v = must[*vault.Vault](w.t)(w.open())
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatalf("unexpected error: %v (hint: %s)", err, fault.HintOf(err))
		}
		return v
	}
}

func (w *world) as(name string) identity.Caller {
	w.t.Helper()
	actor := ledger.Actor{Request: dataset.NewID[dataset.RequestID](rand.Reader), Address: "192.0.2.7", Agent: "test"}
	return must[identity.Caller](w.t)(w.v.Authenticate(context.Background(), w.tokens[name], true, actor))
}

func (w *world) login(name string) {
	w.t.Helper()
	id := must[*seal.Identity](w.t)(seal.GenerateIdentity())
	in := must[wire.LoggedIn](w.t)(w.v.Login(context.Background(), w.as(name), wire.Login{DeviceName: "laptop", Recipient: id.Recipient().String()}))
	if in.Token != "" {
		w.tokens[name] = in.Token
	}
	w.devices[name], w.ids[name] = id, in.Device
}

func (w *world) invite(name string) {
	w.t.Helper()
	out := must[wire.NewToken](w.t)(w.v.Invite(context.Background(), w.as("root"), wire.NewPerson{Handle: name, Name: strings.ToUpper(name), Email: name + "@example.org"}))
	w.tokens[name] = out.Token
	w.login(name)
}

func (w *world) grant(role dataset.Role, name, scope string, until *time.Time) {
	w.t.Helper()
	must[wire.Grant](w.t)(w.v.Grant(context.Background(), w.as("root"), wire.Grant{Role: role, Person: name, Scope: w.scope(scope), Until: until}))
}

func (w *world) scope(s string) dataset.Scope {
	return must[dataset.Scope](w.t)(dataset.ParseScope(s))
}

// upload seals plain and puts it as shard n.
func (w *world) upload(name, ds string, n int, plain []byte) error {
	w.t.Helper()
	ctx := context.Background()
	d, err := w.v.CreateDataset(ctx, w.as(name), w.scope(ds))
	if err != nil {
		return err
	}
	to := must[seal.Recipient](w.t)(seal.ParseRecipient(d.Recipient))
	sealed := must[[]byte](w.t)(seal.SealBytes(plain, to))
	return w.uploadSealed(name, ds, n, plain, sealed, to)
}

func (w *world) uploadSealed(name, ds string, n int, plain, sealed []byte, to seal.Recipient) error {
	w.t.Helper()
	finish, err := w.startUpload(0, name, ds, n, plain, sealed, to)
	if err != nil {
		return err
	}
	return finish()
}

// startUpload starts an upload in a push, and gives the rest of it.
func (w *world) startUpload(push int, name, ds string, n int, plain, sealed []byte, to seal.Recipient) (finish func() error, err error) {
	w.t.Helper()
	ctx := context.Background()
	ref := dataset.ShardRef{Dataset: w.scope(ds), Number: n}
	up, err := w.v.StartUpload(ctx, w.as(name), ref, wire.NewUpload{Fingerprint: make([]byte, 32), Size: int64(len(plain)), Push: push})
	return func() error {
		if _, err := w.v.StoreUpload(ctx, w.as(name), ref.Dataset, up.Attempt, bytes.NewReader(sealed), int64(len(sealed))); err != nil {
			return err
		}
		sum, sealedHash := sha256.Sum256(plain), dataset.SealedHash(up.PartSize)
		sealedHash.Write(sealed)
		m := must[[]byte](w.t)(json.Marshal(dataset.Manifest{Version: 1, Number: n, Packing: dataset.PackFile, Name: "file", Size: int64(len(plain)), SHA256: sum[:]}))
		manifest := must[[]byte](w.t)(seal.SealBytes(m, to))
		_, err := w.v.CommitUpload(ctx, w.as(name), ref.Dataset, up.Attempt, wire.Commit{SHA256: sealedHash.Sum(nil), Manifest: manifest})
		return err
	}, err
}

// read reads a shard as name and opens it with name's device key.
func (w *world) read(name, ds string, n int) ([]byte, error) {
	w.t.Helper()
	s, err := w.v.ReadShard(context.Background(), w.as(name), dataset.ShardRef{Dataset: w.scope(ds), Number: n}, w.ids[name], "")
	if err != nil {
		return nil, err
	}
	var sealed bytes.Buffer
	if err := s.Send(&sealed, func() {}); err != nil {
		return nil, err
	}
	if int64(sealed.Len()) != s.Size {
		w.t.Errorf("sent %d bytes, announced %d", sealed.Len(), s.Size)
	}
	if _, err := seal.OpenBytes(s.Manifest, w.devices[name], dataset.MaxManifest); err != nil {
		w.t.Errorf("manifest: %v", err)
	}
	plain, err := seal.Open(&sealed, w.devices[name])
	if err != nil {
		return nil, err
	}
	return io.ReadAll(plain)
}

// setUp is a client with a complete dataset of two shards, and people.
func (w *world) setUp() {
	w.t.Helper()
	ctx := context.Background()
	must[wire.Entry](w.t)(w.v.CreateClient(ctx, w.as("root"), wire.NewClient{Scope: w.scope("acme")}))
	must[wire.Entry](w.t)(w.v.CreateProject(ctx, w.as("root"), wire.NewProject{Scope: w.scope("acme/signs"), Purposes: []string{"labeling"}}))
	for _, name := range []string{"carol", "lee", "conny", "rita", "audrey", "stranger", "second"} {
		w.invite(name)
	}
	until := w.clock.Now().Add(30 * 24 * time.Hour)
	w.grant(dataset.Admin, "second", "/", nil)
	w.grant(dataset.ClientUser, "carol", "acme", nil)
	w.grant(dataset.Labeler, "lee", "acme/signs", nil)
	w.grant(dataset.Contractor, "conny", "acme/signs", &until)
	w.grant(dataset.Reviewer, "rita", "acme/signs", nil)
	w.grant(dataset.Auditor, "audrey", "/", nil)
	for n := range 2 {
		if err := w.upload("carol", "acme/signs/batch-1", n, []byte(strings.Repeat("secret ", 50_000))); err != nil {
			w.t.Fatal(err)
		}
	}
	must[wire.Dataset](w.t)(w.v.Complete(ctx, w.as("carol"), w.scope("acme/signs/batch-1"), wire.Complete{Shards: dataset.FirstShards(2)}))
}

func (w *world) assign(name, shards string) {
	w.t.Helper()
	set := must[dataset.ShardSet](w.t)(dataset.ParseShardSet(shards))
	must[wire.Assignment](w.t)(w.v.Assign(context.Background(), w.as("root"), wire.Assignment{Dataset: w.scope("acme/signs/batch-1"), Person: name, Shards: set}))
}

func wantCode(t *testing.T, err error, code fault.Code) {
	t.Helper()
	if fault.CodeOf(err) != code {
		t.Errorf("got %v, want code %s", err, code)
	}
}

// verify checks the whole log as an admin would and gives its records.
func (w *world) verify() []audit.Leaf {
	w.t.Helper()
	ctx := context.Background()
	ver := audit.NewVerifier()
	var leaves []audit.Leaf
	var from uint64
	for {
		page := must[wire.Page[wire.Record]](w.t)(w.v.Log(ctx, w.as("root"), vault.LogQuery{Cursor: wire.LogCursor{From: from}, Limit: 1000}))
		for _, r := range page.Items {
			from = r.Index + 1
			leaf := must[audit.Leaf](w.t)(audit.ParseLeaf(r.Leaf))
			leaves = append(leaves, leaf)
			if err := ver.AddLeaf(r.Index, r.Leaf); err != nil {
				w.t.Fatalf("%v (%s %s)", err, r.Kind, r.Object)
			}
			if r.Salt != nil {
				if err := ver.CheckDetails(r.Index, [32]byte(r.Salt), r.Personal); err != nil {
					w.t.Fatal(err)
				}
			}
		}
		if page.Next == "" {
			break
		}
	}
	return leaves
}

func TestMainJob(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	const ds = "acme/signs/batch-1"

	_, err := w.read("lee", ds, 0)
	wantCode(t, err, fault.NotFound) // not assigned: as if absent
	w.assign("lee", "0")
	plain := must[[]byte](t)(w.read("lee", ds, 0))
	if !bytes.HasPrefix(plain, []byte("secret")) {
		t.Error("wrong bytes")
	}
	// Who knows of the dataset learns nothing of its other shards either.
	_, other := w.read("lee", ds, 1)
	_, none := w.read("lee", ds, 99)
	wantCode(t, other, fault.Forbidden)
	if none == nil || none.Error() != other.Error() {
		t.Errorf("an unassigned shard: %v; an absent one: %v", other, none)
	}

	w.assign("conny", "0-1")
	_, err = w.read("conny", ds, 1)
	wantCode(t, err, fault.Forbidden)
	if hint := fault.HintOf(err); !strings.Contains(hint, "agreement sign") {
		t.Errorf("hint %q does not say to sign", hint)
	}
	ctx := context.Background()
	must[wire.Agreement](t)(w.v.Publish(ctx, w.as("root"), wire.Publish{Name: "nda", Text: "Tell nobody."}))
	a := must[wire.Agreement](t)(w.v.Agreement(ctx, w.as("conny"), "nda"))
	must[wire.Signature](t)(w.v.Sign(ctx, w.as("conny"), "nda", wire.Sign{Version: a.Version, SHA256: a.SHA256}))
	must[[]byte](t)(w.read("conny", ds, 1))

	must[[]byte](t)(w.read("carol", ds, 1))
	must[[]byte](t)(w.read("rita", ds, 1))
	_, err = w.read("audrey", ds, 1)
	wantCode(t, err, fault.Forbidden)
	_, err = w.read("root", ds, 1)
	wantCode(t, err, fault.Forbidden)

	must[wire.Revoked](t)(w.v.Revoke(ctx, w.as("root"), dataset.Labeler, "lee", w.scope("acme/signs")))
	_, err = w.read("lee", ds, 0)
	wantCode(t, err, fault.NotFound)

	leaves := w.verify()
	var reads, ends, refused int
	for _, l := range leaves {
		switch l.Kind {
		case audit.KindRead:
			reads++
		case audit.KindReadEnd:
			ends++
			if n, _ := l.Uint64(audit.FieldBytesSent); n == 0 {
				t.Error("a finished read without bytes")
			}
		case audit.KindRefused:
			refused++
		}
	}
	if reads != 4 || ends != 4 || refused < 7 {
		t.Errorf("%d reads, %d ends, %d refusals", reads, ends, refused)
	}
	// In storage there is age ciphertext and nothing else.
	for o, err := range w.objects.List(ctx, "v1/") {
		if err != nil {
			t.Fatal(err)
		}
		body := must[io.ReadCloser](t)(w.objects.Open(ctx, o.Key, 0, -1, ""))
		data := must[[]byte](t)(io.ReadAll(body))
		body.Close()
		if !bytes.HasPrefix(data, []byte("age-encryption.org/v1")) || bytes.Contains(data, []byte("secret secret")) {
			t.Errorf("%s is not ciphertext", o.Key)
		}
	}
}
