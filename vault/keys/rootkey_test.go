package keys

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dsvault/storage"
	"dsvault/storage/storagetest"
	"dsvault/vault/fault"
	"dsvault/vault/seal"
)

func noRecord(*Ring, [32]byte) error { return nil }

// oldKeys is what a folder with two epochs and two log keys holds, to compare it
// with what it holds after a rotation.
type oldKeys struct {
	dir     string
	root    []byte // the file
	id      *seal.Identity
	ring    *Ring
	wrapped storage.WrappedKey
	own     []byte
}

func newOldKeys(t *testing.T, pass Passphrase) oldKeys {
	t.Helper()
	k := oldKeys{dir: newFolder(t, pass)}
	must[string](t)(RotateLogKey(k.dir, pass, time.Unix(1e9, 0), time.Unix(1e9+1, 0), rand.Reader))
	ring := must[*Ring](t)(Open(k.dir, pass, nil, rand.Reader))
	must[uint32](t)(ring.NewEpoch(1))
	k.open(t, pass)
	return k
}

func (k *oldKeys) open(t *testing.T, pass Passphrase) {
	t.Helper()
	k.ring = must[*Ring](t)(Open(k.dir, pass, nil, rand.Reader))
	k.root, k.id = must[[]byte](t)(os.ReadFile(filepath.Join(k.dir, rootFile))), k.ring.root
	var err error
	_, k.wrapped, err = k.ring.NewDatasetKey()
	check(t, err)
	k.own = must[[]byte](t)(k.ring.SealOwn("x", []byte("own")))
}

// same checks that a ring opens what the old one has sealed, and is another root.
func (k oldKeys) same(t *testing.T, ring *Ring) {
	t.Helper()
	must[[]byte](t)(ring.unwrap(k.wrapped))
	if got := string(must[[]byte](t)(ring.OpenOwn("x", k.own))); got != "own" {
		t.Errorf("own: %q", got)
	}
	if ring.AddressHashes() != k.ring.AddressHashes() {
		t.Error("addresses are not found any more")
	}
	if len(ring.LogKeys()) != 2 || ring.LogKeys()[1].Verifier != k.ring.LogKeys()[1].Verifier || ring.Epoch() != 2 {
		t.Errorf("%d log keys, epoch %d", len(ring.LogKeys()), ring.Epoch())
	}
}

// gone checks that the old root key opens nothing, and is nowhere.
func (k oldKeys) gone(t *testing.T, ring *Ring) {
	t.Helper()
	if ring.RootHash() == k.ring.RootHash() {
		t.Error("the root key is the old one")
	}
	secret := k.id.Expose()
	check(t, filepath.WalkDir(k.dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data := must[[]byte](t)(os.ReadFile(path))
		if bytes.Contains(data, secret) || bytes.Equal(data, k.root) {
			t.Errorf("%s holds the old root key", path)
		}
		if _, err := seal.OpenBytes(data, k.id, maxKeyFile); strings.HasSuffix(path, ".age") && err == nil {
			t.Errorf("the old root key opens %s", path)
		}
		return nil
	}))
	if _, err := os.Lstat(filepath.Join(k.dir, nextFolder)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the rotation has left its folder: %v", err)
	}
}

func TestRotateRoot(t *testing.T) {
	one, two := NewPassphrase("correct horse"), NewPassphrase("battery staple")
	k := newOldKeys(t, none)
	for _, c := range []struct{ from, to Passphrase }{{none, one}, {one, two}, {two, none}} {
		recorded := [32]byte{}
		if c.from == one { // each try takes a second
			_, err := RotateRoot(k.dir, NewPassphrase("wrong"), c.to, nil, noRecord)
			wantCode(t, err, fault.Unauthenticated)
			if _, err := os.Lstat(filepath.Join(k.dir, nextFolder)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a wrong passphrase has left something: %v", err)
			}
		}
		ring := must[*Ring](t)(RotateRoot(k.dir, c.from, c.to, nil, func(_ *Ring, retired [32]byte) error {
			recorded = retired
			return nil
		}))
		k.same(t, ring)
		k.gone(t, ring)
		if recorded != k.ring.RootHash() {
			t.Error("another key was recorded as retired")
		}
		if protected := must[bool](t)(Protected(k.dir)); protected != (c.to != none) {
			t.Errorf("protected: %v", protected)
		}
		if c.from == one {
			_, err := Open(k.dir, c.from, nil, rand.Reader)
			wantCode(t, err, fault.Unauthenticated)
		}
		k.open(t, c.to)
	}
	must[uint32](t)(k.ring.NewEpoch(2)) // sealed to the new root
	must[*Ring](t)(Open(k.dir, none, nil, rand.Reader))
}

// TestRotateRootIsRecorded: while nobody has the record, the old key is kept, and
// nothing but the rotation opens the folder; the new passphrase goes on.
func TestRotateRootIsRecorded(t *testing.T) {
	one := NewPassphrase("correct horse")
	k := newOldKeys(t, none)
	lost := fault.New(fault.Unavailable, "test", "no database").WithHint("x")
	_, err := RotateRoot(k.dir, none, one, nil, func(*Ring, [32]byte) error { return lost })
	if !errors.Is(err, lost) {
		t.Fatal(err)
	}
	_, err = Open(k.dir, one, nil, rand.Reader)
	wantCode(t, err, fault.Conflict)
	_, err = RotateLogKey(k.dir, one, time.Unix(2e9, 0), time.Unix(3e9, 0), rand.Reader)
	wantCode(t, err, fault.Conflict)
	_, err = RotateRoot(k.dir, none, NewPassphrase("wrong"), nil, noRecord)
	wantCode(t, err, fault.Unauthenticated)
	ring := must[*Ring](t)(RotateRoot(k.dir, none, one, nil, noRecord))
	k.same(t, ring)
	k.gone(t, ring)
}

const killEnv = "DSVAULT_TEST_KILL_AT"

// TestMain runs the child of TestRotateRootKilled.
func TestMain(m *testing.M) {
	scryptWork = 10
	at, err := strconv.Atoi(os.Getenv(killEnv))
	if err != nil {
		os.Exit(m.Run())
	}
	steps := 0
	r := rotation{dir: os.Args[1], pass: none, next: none, record: noRecord, step: func() {
		if steps++; steps == at {
			kill()
		}
	}}
	if _, err := r.run(); err != nil {
		fmt.Printf("%s: %s\n", fault.CodeOf(err), fault.HintOf(err))
		os.Exit(1)
	}
	os.Exit(0)
}

// kill ends this process at once.
func kill() {
	p, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		panic(err)
	}
	select {}
}

// TestRotateRootKilled kills a rotation before each change of the folder: then the
// folder opens as before, or says that the rotation has to go on; and it does.
func TestRotateRootKilled(t *testing.T) {
	program := must[string](t)(os.Executable())
	whole, half := 0, 0
	for at := 1; ; at++ {
		k := newOldKeys(t, none)
		cmd := exec.Command(program, k.dir)
		cmd.Env = append(os.Environ(), killEnv+"="+strconv.Itoa(at))
		out, err := cmd.CombinedOutput()
		if err == nil {
			break
		}
		if len(out) > 0 {
			t.Fatalf("step %d: %v: %s", at, err, out)
		}
		ring, err := Open(k.dir, none, nil, rand.Reader)
		switch {
		case err == nil:
			whole++
			k.same(t, ring)
		case fault.Is(err, fault.Conflict):
			half++
		default:
			t.Errorf("killed before step %d: %v", at, err)
		}
		ring, err = RotateRoot(k.dir, none, none, nil, noRecord)
		if err != nil {
			t.Fatalf("killed before step %d, again: %v", at, err)
		}
		k.same(t, ring)
		k.gone(t, ring)
		if t.Failed() {
			t.Fatalf("killed before step %d", at)
		}
	}
	if whole < 6 || half < 6 {
		t.Errorf("killed at %d steps before the switch and %d after", whole, half)
	}
}

// TestRotateRootReadOnly: in a folder that cannot be written to nothing changes.
func TestRotateRootReadOnly(t *testing.T) {
	k := newOldKeys(t, none)
	before := must[[]os.DirEntry](t)(os.ReadDir(k.dir))
	for _, call := range []string{"mkdirat", "linkat"} {
		out, failed := storagetest.FailSyscall(t, call, "EROFS", 1, []string{must[string](t)(os.Executable()), k.dir}, killEnv+"=0")
		if failed == 0 || !strings.Contains(string(out), "unavailable: this needs to write") {
			t.Errorf("%s: %d calls failed: %s", call, failed, out)
		}
		k.same(t, must[*Ring](t)(Open(k.dir, none, nil, rand.Reader)))
	}
	check(t, os.RemoveAll(filepath.Join(k.dir, nextFolder)))
	if after := must[[]os.DirEntry](t)(os.ReadDir(k.dir)); len(after) != len(before) {
		t.Errorf("%v became %v", before, after)
	}
}

// TestRotateRootDamaged: a key that the old root key does not open stops it before
// anything is changed.
func TestRotateRootDamaged(t *testing.T) {
	k := newOldKeys(t, none)
	name := filepath.Join(k.dir, epochFile(1))
	data := must[[]byte](t)(os.ReadFile(name))
	other := slices.Clone(data)
	other[len(other)-1] ^= 1
	check(t, os.WriteFile(name, other, 0o600))
	_, err := RotateRoot(k.dir, none, none, nil, noRecord)
	wantCode(t, err, fault.Corrupt)
	check(t, os.WriteFile(name, data, 0o600))
	k.same(t, must[*Ring](t)(Open(k.dir, none, nil, rand.Reader)))
}
