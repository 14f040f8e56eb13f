// Package interop has other people's tools look at the log of a real server:
// Tessera's fsck, torchwood's client, and litewitness as a witness.
package interop

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/torchwood"
	cosignature "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

const origin = "vault.example.org/log"

// must ends the test on an error.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer l.Close()
	return l.Addr().String()
}

// build compiles a program into a folder of the test.
func build(t *testing.T, folder, program string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), filepath.Base(program))
	cmd := exec.Command("go", "build", "-o", out, program)
	cmd.Dir = folder
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", program, err, text)
	}
	return out
}

// vault is a real one, served.
type vault struct {
	t       *testing.T
	program string
	folder  string
	listen  string
	url     string
	server  *exec.Cmd
	key     string // the log's
	token   string
}

// newVault makes a vault with some records, and serves it.
func newVault(t *testing.T) *vault {
	v := &vault{t: t, program: build(t, "../../..", "./cmd/dsvault"), folder: t.TempDir()}
	var doc struct{ Token string }
	if err := json.Unmarshal(v.run("", "init", "--admin", "ada", "--log-origin", origin, "--json"), &doc); err != nil {
		t.Fatal(err)
	}
	v.token = doc.Token
	v.serve()
	v.run(doc.Token, "login", v.url)
	v.readKey()
	return v
}

// readKey reads the log's key as the client has pinned it.
func (v *vault) readKey() {
	v.t.Helper()
	var login struct {
		Key string `json:"log_key"`
	}
	data := must(os.ReadFile(filepath.Join(v.folder, "ada", "login.json")))(v.t)
	if err := json.Unmarshal(data, &login); err != nil {
		v.t.Fatal(err)
	}
	v.key = login.Key
}

func (v *vault) command(args ...string) *exec.Cmd {
	cmd := exec.Command(v.program, args...)
	cmd.Env = append(os.Environ(), "DSVAULT_DATA="+filepath.Join(v.folder, "vault"), "DSVAULT_CONFIG="+filepath.Join(v.folder, "ada"))
	return cmd
}

func (v *vault) run(in string, args ...string) []byte {
	v.t.Helper()
	cmd := v.command(args...)
	cmd.Stdin = strings.NewReader(in)
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		v.t.Fatalf("dsvault %v: %v\n%s", args, err, errors.Bytes())
	}
	return out
}

// serve starts the server; it ends with the test, or with stop.
func (v *vault) serve(more ...string) {
	v.t.Helper()
	if v.listen == "" { // and stays so over a restart: the client knows it by its address
		v.listen = freeAddress(v.t)
	}
	cmd := v.command(append([]string{"serve", "--listen", v.listen, "--json"}, more...)...)
	cmd.Stderr = v.t.Output()
	out := must(cmd.StdoutPipe())(v.t)
	if err := cmd.Start(); err != nil {
		v.t.Fatal(err)
	}
	v.server = cmd
	v.t.Cleanup(v.stop)
	var doc struct{ Listening string }
	line, _ := bufio.NewReader(out).ReadBytes('\n')
	if err := json.Unmarshal(line, &doc); err != nil {
		v.t.Fatalf("the server did not start: %q, %v", line, err)
	}
	v.url = doc.Listening
}

func (v *vault) stop() {
	if v.server != nil {
		v.server.Process.Signal(syscall.SIGTERM)
		v.server.Wait()
		v.server = nil
	}
}

// grow adds records to the log.
func (v *vault) grow(n int) {
	v.t.Helper()
	for range n {
		req := must(http.NewRequest(http.MethodGet, v.url+"/log/tile/entries/000.p/1", nil))(v.t)
		req.Header.Set("Authorization", "Bearer "+v.token)
		resp := must(http.DefaultClient.Do(req))(v.t)
		io.Copy(io.Discard, resp.Body)
		if resp.Body.Close(); resp.StatusCode != http.StatusOK {
			v.t.Fatalf("a look at the log: %s", resp.Status)
		}
	}
}

// checkpoint waits until the published checkpoint is of at least size leaves.
func (v *vault) checkpoint(size int64, enough func(text []byte) bool) (torchwood.Checkpoint, []byte) {
	v.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		resp := must(http.Get(v.url + "/log/checkpoint"))(v.t)
		text := must(io.ReadAll(resp.Body))(v.t)
		resp.Body.Close()
		signed, err := note.Open(text, note.VerifierList(must(note.NewVerifier(v.key))(v.t)))
		if err != nil {
			v.t.Fatalf("%v in\n%s", err, text)
		}
		c := must(torchwood.ParseCheckpoint(signed.Text))(v.t)
		if c.N >= size && enough(text) {
			return c, text
		}
		if time.Now().After(deadline) {
			v.t.Fatalf("the checkpoint does not come; the last one is\n%s", text)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func anything([]byte) bool { return true }

// TestTessera has Tessera's fsck check the whole log: every entry bundle against
// the tree, every tile, and the checkpoint.
func TestTessera(t *testing.T) {
	v := newVault(t)
	v.grow(530)
	v.checkpoint(531, anything)
	source := must(client.NewHTTPFetcher(must(url.Parse(v.url+"/log/"))(t), nil))(t)
	source.SetAuthorizationHeader("Bearer " + v.token)
	check := fsck.New(origin, must(note.NewVerifier(v.key))(t), source, hashEntries, fsck.Opts{N: 2})
	if err := check.Check(t.Context()); err != nil {
		t.Fatal(err)
	}

	// It must be able to fail.
	wrong := fsck.New(origin, must(note.NewVerifier(v.key))(t), tampered{source}, hashEntries, fsck.Opts{N: 2})
	if err := wrong.Check(t.Context()); err == nil {
		t.Error("fsck accepts a log with a changed entry")
	}
}

// tampered changes a byte of the first entry bundle.
type tampered struct{ fsck.Fetcher }

func (f tampered) ReadEntryBundle(ctx context.Context, i uint64, p uint8) ([]byte, error) {
	data, err := f.Fetcher.ReadEntryBundle(ctx, i, p)
	if i == 0 && len(data) > 100 {
		data[100]++
	}
	return data, err
}

func hashEntries(bundle []byte) ([][]byte, error) {
	var entries api.EntryBundle
	if err := entries.UnmarshalText(bundle); err != nil {
		return nil, err
	}
	var hashes [][]byte
	for _, e := range entries.Entries {
		hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(e))
	}
	return hashes, nil
}

// TestTorchwood has torchwood's client read every entry and authenticate it.
func TestTorchwood(t *testing.T) {
	v := newVault(t)
	v.grow(300)
	c, _ := v.checkpoint(301, anything)
	source := must(torchwood.NewTileFetcher(v.url+"/log/", torchwood.WithHTTPClient(&http.Client{Transport: bearer(v.token)})))(t)
	reader := must(torchwood.NewClient(source))(t)
	tree := tlog.Tree{N: c.N, Hash: c.Hash}
	next := int64(0)
	for next < c.N {
		from := next
		for i, entry := range reader.Entries(t.Context(), tree, next) {
			if i != next || !bytes.HasPrefix(entry, []byte("\x0fdsvault/leaf/v1")) {
				t.Fatalf("entry %d of %d bytes where %d comes next", i, len(entry), next)
			}
			next++
		}
		if err := reader.Err(); err != nil || next == from {
			t.Fatalf("at entry %d: %v", next, err)
		}
	}
	entry, proof, err := reader.Entry(t.Context(), tree, 7)
	if err != nil {
		t.Fatal(err)
	}
	if err := tlog.CheckRecord(proof, tree.N, tree.Hash, 7, tlog.RecordHash(entry)); err != nil {
		t.Error(err)
	}
}

// bearer sends a token with every request.
type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}

// witness is a litewitness.
type witness struct {
	url string
	key string
	db  string // its database
}

var verifierKey = regexp.MustCompile(`vkey=(\S+)`)

// newWitness starts litewitness with a key that only its agent has.
func newWitness(t *testing.T) *witness {
	folder := must(os.MkdirTemp("", "w"))(t) // a socket's path is short
	t.Cleanup(func() { os.RemoveAll(folder) })
	w := &witness{db: filepath.Join(folder, "witness.db")}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := agent.NewKeyring()
	if err := keys.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(folder, "agent")
	listener := must(net.Listen("unix", socket))(t)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go agent.ServeAgent(keys, conn)
		}
	}()
	address := freeAddress(t)
	w.url = "http://" + address
	cmd := exec.Command(build(t, ".", "filippo.io/torchwood/cmd/litewitness"), "-db", w.db, "-name", "witness.example.org/w",
		"-ssh-agent", socket, "-key", ssh.FingerprintSHA256(must(ssh.NewPublicKey(public))(t)), "-listen", address)
	errors := must(cmd.StderrPipe())(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(errors)
	for w.key == "" && lines.Scan() {
		if m := verifierKey.FindStringSubmatch(lines.Text()); m != nil {
			w.key = strings.Trim(m[1], `"`)
		}
	}
	go io.Copy(io.Discard, errors)
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
	})
	if w.key == "" {
		t.Fatal("litewitness did not start")
	}
	return w
}

// add tells the witness of a log, in the way of its own tool, witnessctl, which
// needs a module that not every proxy serves.
func (w *witness) add(t *testing.T, origin, key string) {
	t.Helper()
	db := must(sqlite.OpenConn(w.db, 0))(t)
	defer db.Close()
	empty := tlog.Hash(rfc6962.DefaultHasher.EmptyRoot())
	for _, c := range []struct {
		statement string
		args      []any
	}{
		{"INSERT INTO log (origin, tree_size, tree_hash) VALUES (?, 0, ?)", []any{origin, empty.String()}},
		{"INSERT INTO key (origin, key) VALUES (?, ?)", []any{origin, key}},
	} {
		if err := sqlitex.Execute(db, c.statement, &sqlitex.ExecOptions{Args: c.args}); err != nil {
			t.Fatal(err)
		}
	}
}

// cosigned reports whether a checkpoint has a cosignature of the witness.
func (w *witness) cosigned(t *testing.T, text []byte) bool {
	verifier := must(cosignature.NewVerifierForCosignatureV1(w.key))(t)
	_, err := note.Open(text, note.VerifierList(verifier))
	return err == nil
}

// TestLitewitness has a real witness cosign the log as it grows, over a restart,
// and finds that a server on an older copy of everything is refused: only the
// witness can know.
func TestLitewitness(t *testing.T) {
	w, v := newWitness(t), newVault(t)
	v.stop()
	v.serve("--witness", w.url+" "+w.key)
	// A witness that does not know the log is no reason not to publish.
	v.grow(3)
	v.checkpoint(4, anything)
	w.add(t, origin, v.key)
	cosigned := func(text []byte) bool { return w.cosigned(t, text) }
	size := int64(0)
	for range 3 {
		v.grow(2)
		c, _ := v.checkpoint(size+1, cosigned)
		size = c.N
	}
	v.stop()

	data := filepath.Join(v.folder, "vault")
	copied := filepath.Join(v.folder, "copy")
	if err := os.CopyFS(copied, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	v.serve("--witness", w.url+" "+w.key)
	v.grow(5)
	v.checkpoint(size+5, cosigned)
	v.stop()

	// Catalog and keys folder alike are those of before.
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(copied, data); err != nil {
		t.Fatal(err)
	}
	if err := chmod(data); err != nil {
		t.Fatal(err)
	}
	cmd := v.command("serve", "--listen", "127.0.0.1:0", "--witness", w.url+" "+w.key)
	text, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 7 || !strings.Contains(string(text), "the witness witness.example.org/w has cosigned") ||
		!strings.Contains(string(text), "dsvault recover") {
		t.Errorf("a server on an older copy: %v\n%s", err, text)
	}

	// A recovered log is another one to the witness, which has to be told.
	v.run("", "recover", "--yes", "--witness", w.url+" "+w.key)
	v.serve("--witness", w.url+" "+w.key)
	v.run("", "log", "--verify", "--accept-recovery")
	v.readKey()
	name, _, _ := strings.Cut(v.key, "+")
	if name != origin+"/epoch-2" {
		t.Errorf("the log's key is now %s", v.key)
	}
	w.add(t, name, v.key)
	v.grow(1)
	v.checkpoint(1, cosigned)
}

// chmod makes key files private again: a copy of a folder is not.
func chmod(folder string) error {
	return filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return os.Chmod(path, 0o600)
	})
}
