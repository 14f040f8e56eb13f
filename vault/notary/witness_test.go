package notary

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	cosignature "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"dsvault/vault/audit"
	"dsvault/vault/fault"
)

// testWitness cosigns by C2SP tlog-witness, and misbehaves on request. The real
// one is in the module of interop tests.
type testWitness struct {
	t      testing.TB
	log    note.Verifier
	signer note.Signer
	key    string
	url    string

	mu   sync.Mutex
	size int64
	root tlog.Hash
	asks int
	act  func(w http.ResponseWriter, body []byte) (done bool) // in place of an answer
}

func newTestWitness(t testing.TB, log Key) *testWitness {
	t.Helper()
	secret, public, err := note.GenerateKey(rand.Reader, "witness.example.org/w")
	check(t, err)
	signer, err := cosignature.NewSignerForCosignatureV1(secret)
	check(t, err)
	verifier, err := note.NewVerifier(log.Verifier)
	check(t, err)
	w := &testWitness{t: t, log: verifier, signer: signer, key: public}
	server := httptest.NewServer(http.HandlerFunc(w.serve))
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

func (w *testWitness) named() Witness { return Witness{URL: w.url, Key: w.key} }

func (w *testWitness) serve(out http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asks++
	body, err := io.ReadAll(r.Body)
	if err != nil || r.URL.Path != "/add-checkpoint" || r.Method != http.MethodPost {
		out.WriteHeader(http.StatusBadRequest)
		return
	}
	if w.act != nil && w.act(out, body) {
		return
	}
	head, text, _ := strings.Cut(string(body), "\n\n")
	lines := strings.Split(head, "\n")
	var old int64
	if _, err := fmt.Sscanf(lines[0], "old %d", &old); err != nil {
		out.WriteHeader(http.StatusBadRequest)
		return
	}
	if old != w.size {
		out.Header().Set("Content-Type", sizeType)
		out.WriteHeader(http.StatusConflict)
		fmt.Fprintf(out, "%d\n", w.size)
		return
	}
	cp, err := audit.OpenCheckpoint([]byte(text), w.log.Name(), w.log)
	if err != nil {
		out.WriteHeader(http.StatusForbidden)
		return
	}
	var proof tlog.TreeProof
	for _, line := range lines[1:] {
		h, err := tlog.ParseHash(line)
		if err != nil {
			out.WriteHeader(http.StatusBadRequest)
			return
		}
		proof = append(proof, h)
	}
	if old > 0 && tlog.CheckTree(proof, int64(cp.Size), tlog.Hash(cp.Root), old, w.root) != nil {
		out.WriteHeader(http.StatusUnprocessableEntity)
		return
	}
	opened, err := note.Open([]byte(text), note.VerifierList(w.log))
	check(w.t, err)
	signed, err := note.Sign(&note.Note{Text: opened.Text}, w.signer)
	check(w.t, err)
	w.size, w.root = int64(cp.Size), tlog.Hash(cp.Root)
	_, lines2, _ := strings.Cut(string(signed), "\n\n")
	io.WriteString(out, lines2)
}

func (w *testWitness) misbehave(act func(http.ResponseWriter, []byte) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.act = act
}

func (w *testWitness) seen() (size int64, asks int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.size, w.asks
}

// cosigned reports whether the published checkpoint is of size leaves, and how
// many lines of the witness it has.
func cosigned(t *testing.T, n *Notary, w *testWitness, size uint64) int {
	t.Helper()
	stored, err := n.Await(t.Context(), size)
	check(t, err)
	cp, err := n.open(stored.Note)
	if check(t, err); cp.Size != size {
		t.Errorf("published %d leaves, want %d", cp.Size, size)
	}
	v, err := audit.WitnessKey(w.key)
	check(t, err)
	if _, err := note.Open(stored.Note, note.VerifierList(v)); err != nil {
		return 0
	}
	return strings.Count(string(stored.Note), "— witness.example.org/w ")
}

// movable is a clock that the test moves.
type movable struct {
	mu sync.Mutex
	t  time.Time
}

func (m *movable) now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.t
}

func (m *movable) add(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.t = m.t.Add(d)
}

// TestWitness: the witness cosigns what grows; a node that knows nothing of it
// learns where it is; one that comes late is asked again, once for each
// checkpoint.
func TestWitness(t *testing.T) {
	onEngines(t, func(t *testing.T, url string) {
		db := openCatalog(t, url)
		key := newKey(t)
		w := newTestWitness(t, key)
		cfg := testConfig(t, db, key)
		cfg.Witnesses = []Witness{w.named()}
		clock := &movable{t: time.Unix(1_800_000_000, 0)}
		cfg.Now = clock.now
		ctx := t.Context()
		n, err := Open(ctx, cfg)
		check(t, err)
		for _, size := range []uint64{3, 300, 301} {
			grow(t, db, size)
			check(t, n.sign(ctx))
			if cosigned(t, n, w, size) != 1 {
				t.Errorf("%d leaves are not cosigned", size)
			}
		}
		_, asks := w.seen()
		check(t, n.sign(ctx))
		if _, again := w.seen(); again != asks {
			t.Error("a witness that has cosigned is asked again")
		}
		// Another node, which begins at 0 and is told otherwise.
		cfg.State = cfg.State + "-2"
		check(t, InitState(cfg.State, key))
		other, err := Open(ctx, cfg)
		check(t, err)
		grow(t, db, 400)
		check(t, other.sign(ctx))
		if cosigned(t, other, w, 400) != 1 {
			t.Error("the other node gets no cosignature")
		}
		// Late.
		w.misbehave(func(out http.ResponseWriter, _ []byte) bool {
			out.WriteHeader(http.StatusInternalServerError)
			return true
		})
		grow(t, db, 500)
		check(t, other.sign(ctx))
		if cosigned(t, other, w, 500) != 0 {
			t.Error("cosigned by whom?")
		}
		w.misbehave(nil)
		_, asks = w.seen()
		check(t, other.sign(ctx))
		if _, again := w.seen(); again != asks || cosigned(t, other, w, 500) != 0 {
			t.Error("a witness that has failed gets no rest")
		}
		clock.add(2 * time.Minute)
		check(t, other.sign(ctx))
		if cosigned(t, other, w, 500) != 1 {
			t.Error("a late witness is not asked again")
		}
	})
}

// TestWitnessFaults: whatever a witness answers, the checkpoint is published,
// within the witness's time, without what is not a cosignature of it.
func TestWitnessFaults(t *testing.T) {
	db := openCatalog(t, engines[0].url(t))
	key := newKey(t)
	foreign := newTestWitness(t, key)
	grow(t, db, 10)
	size := uint64(10)
	for name, act := range map[string]func(out http.ResponseWriter, body []byte) bool{
		"stalls": nil,
		"500":    func(out http.ResponseWriter, _ []byte) bool { out.WriteHeader(500); return true },
		"404":    func(out http.ResponseWriter, _ []byte) bool { out.WriteHeader(404); return true },
		"422":    func(out http.ResponseWriter, _ []byte) bool { out.WriteHeader(422); return true },
		"redirects": func(out http.ResponseWriter, _ []byte) bool {
			out.Header().Set("Location", foreign.url)
			out.WriteHeader(307)
			return true
		},
		"nothing": func(http.ResponseWriter, []byte) bool { return true },
		"garbage": func(out http.ResponseWriter, _ []byte) bool {
			io.WriteString(out, "— witness.example.org/w AAAA\n")
			return true
		},
		"a flood": func(out http.ResponseWriter, _ []byte) bool { out.Write(make([]byte, 1<<20)); return true },
		"our own line": func(out http.ResponseWriter, body []byte) bool {
			out.Write(body[strings.LastIndex(string(body), "— "):])
			return true
		},
		"another size": func(out http.ResponseWriter, _ []byte) bool {
			out.Header().Set("Content-Type", sizeType)
			out.WriteHeader(http.StatusConflict)
			io.WriteString(out, "99999999999\n")
			return true
		},
		"no size": func(out http.ResponseWriter, _ []byte) bool {
			out.Header().Set("Content-Type", sizeType)
			out.WriteHeader(http.StatusConflict)
			io.WriteString(out, "-1\n")
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTestWitness(t, key)
			cfg := testConfig(t, db, key)
			cfg.Witnesses = []Witness{w.named()}
			check(t, InitState(cfg.State, key))
			n, err := Open(t.Context(), cfg)
			check(t, err)
			if act == nil {
				hung := make(chan struct{})
				t.Cleanup(func() { close(hung) }) // before the server is waited for
				act = func(http.ResponseWriter, []byte) bool { <-hung; return true }
			}
			w.misbehave(act)
			size++
			grow(t, db, size)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			check(t, n.sign(ctx))
			if lines := cosigned(t, n, w, size); lines != 0 {
				t.Errorf("%d lines of the witness", lines)
			}
		})
	}
	if size, _ := foreign.seen(); size != 0 {
		t.Error("a redirection was followed")
	}
}

// TestWitnessAtStart: a witness that has seen more of the log, or another one,
// is believed; one that is down, or does not know the log, is not waited for.
func TestWitnessAtStart(t *testing.T) {
	ctx := t.Context()
	db := openCatalog(t, engines[0].url(t))
	key := newKey(t)
	w := newTestWitness(t, key)
	cfg := testConfig(t, db, key)
	cfg.Witnesses = []Witness{w.named()}
	grow(t, db, 600)
	n, err := Open(ctx, cfg)
	check(t, err)
	check(t, n.sign(ctx))

	for _, c := range []struct {
		name, says  string
		begin, size uint64 // of the catalog that is there in its place
		code        fault.Code
	}{
		{"the same", "", 600, 600, ""},
		{"rolled back", "it has 400 leaves, but the witness witness.example.org/w has cosigned 600", 400, 400, fault.Corrupt},
		{"forked", "has cosigned another log of this name", 500, 700, fault.Corrupt},
		{"forked, of one size", "has cosigned another log of this name", 599, 600, fault.Corrupt},
		{"longer", "", 700, 700, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Catalog and state file are both replaced: nobody but the witness knows.
			cfg := cfg
			cfg.Catalog, cfg.State = openCatalog(t, engines[0].url(t)), t.TempDir()+"/state"
			grow(t, cfg.Catalog, c.begin)
			growOther(t, cfg.Catalog, c.size)
			alone := cfg
			alone.Witnesses = nil
			check(t, InitState(cfg.State, key))
			n, err := Open(ctx, alone)
			check(t, err)
			check(t, n.sign(ctx))
			_, err = Open(ctx, cfg)
			if fault.CodeOf(err) != c.code || c.says != "" && !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("got %v", err)
			}
		})
	}
	w.misbehave(func(out http.ResponseWriter, _ []byte) bool { out.WriteHeader(http.StatusForbidden); return true })
	_, err = Open(ctx, cfg)
	check(t, err)
	cfg.Witnesses[0].URL = "http://127.0.0.1:1"
	_, err = Open(ctx, cfg)
	check(t, err)
}

func TestParseWitness(t *testing.T) {
	key := newTestWitness(t, newKey(t)).key
	for _, good := range []string{"https://w.example.org " + key, "https://w.example.org/a/b/ " + key, "http://127.0.0.1:7380 " + key, "http://localhost:1/  " + key} {
		w, err := ParseWitness(good)
		if err != nil || w.Key != key || strings.HasSuffix(w.URL, "/") {
			t.Errorf("%s: %+v, %v", good, w, err)
		}
	}
	for _, bad := range []string{"", key, "https://w.example.org", "http://w.example.org " + key, "ftp://w.example.org " + key,
		"https://user:secret@w.example.org " + key, "https://w.example.org?x " + key, "https://w.example.org " + key[:len(key)-4],
		"https://w.example.org " + key + " more", "w.example.org " + key} {
		if w, err := ParseWitness(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %+v, %v", bad, w, err)
		}
	}
}

func FuzzWitnessAnswer(f *testing.F) {
	key := newKey(f)
	w := newTestWitness(f, key)
	verifier, err := audit.WitnessKey(w.key)
	check(f, err)
	signed, err := audit.SignCheckpoint(key.Signer.Name(), 7, audit.EmptyRoot(), key.Signer)
	check(f, err)
	opened, err := note.Open(signed, note.VerifierList(w.log))
	check(f, err)
	good, err := note.Sign(&note.Note{Text: opened.Text}, w.signer)
	check(f, err)
	_, line, _ := strings.Cut(string(good), "\n\n")
	f.Add([]byte(line))
	f.Add([]byte(line + line))
	f.Add([]byte("— x AAAA\n" + line))
	f.Add([]byte(line + "\n\nmore\n"))
	asked := witness{verifier: verifier}
	f.Fuzz(func(t *testing.T, answer []byte) {
		lines, err := asked.verify(signed, answer)
		if err != nil {
			return
		}
		// What is kept is a checkpoint still, with our signature and the witness's.
		whole := append(append([]byte(nil), signed...), lines...)
		cp, err := audit.OpenCheckpoint(whole, key.Signer.Name(), w.log)
		if err != nil || cp.Size != 7 {
			t.Fatalf("%q made the checkpoint %+v, %v", answer, cp, err)
		}
		if _, err := note.Open(whole, note.VerifierList(verifier)); err != nil {
			t.Fatalf("%q: %v", answer, err)
		}
	})
}
