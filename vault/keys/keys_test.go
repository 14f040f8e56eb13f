package keys

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/ledger"
	"dsvault/vault/seal"
)

const origin = "dsvault-test"

var none = NewPassphrase("")

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatalf("unexpected error: %v", err)
		}
		return v
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("unexpected error: %v", err)
	}
}

func wantCode(t *testing.T, err error, code fault.Code) {
	t.Helper()
	if fault.CodeOf(err) != code || fault.HintOf(err) == "" && code != fault.Corrupt {
		t.Errorf("got error %v (hint %q), want code %q and a hint", err, fault.HintOf(err), code)
	}
}

func newCatalog(t *testing.T) *catalog.DB {
	t.Helper()
	db := must[*catalog.DB](t)(catalog.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "x.db"), catalog.Options{}))
	t.Cleanup(func() { db.Close() })
	return db
}

// newFolder makes a key folder in a path with characters that mean something to
// a shell.
func newFolder(t *testing.T, pass Passphrase) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "my [vault]*", "keys")
	check(t, Init(dir, origin, pass, rand.Reader))
	return dir
}

func newRing(t *testing.T, db *catalog.DB) *Ring {
	t.Helper()
	return must[*Ring](t)(Open(newFolder(t, none), none, db, rand.Reader))
}

func update(t *testing.T, db *catalog.DB, f func(context.Context, *catalog.Tx) error) {
	t.Helper()
	tx := must[*catalog.Tx](t)(db.Begin(t.Context()))
	defer tx.Rollback()
	check(t, f(t.Context(), tx))
	check(t, tx.Commit())
}

func TestInitAndOpen(t *testing.T) {
	dir := newFolder(t, none)
	for _, name := range []string{rootFile, logFile, epochFile(1)} {
		if info := must[os.FileInfo](t)(os.Stat(filepath.Join(dir, name))); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	if protected := must[bool](t)(Protected(dir)); protected {
		t.Error("protected without a passphrase")
	}
	files := must[[]os.DirEntry](t)(os.ReadDir(dir))
	if len(files) != 3 {
		t.Errorf("%v in the folder", files)
	}
	one := must[*Ring](t)(Open(dir, none, nil, rand.Reader))
	two := must[*Ring](t)(Open(dir, NewPassphrase("not needed"), nil, rand.Reader))

	// The verifier belongs to the signer, and both to the origin.
	if key := one.LogKeys()[0]; key.Verifier != two.LogKeys()[0].Verifier || key.Signer.Name() != origin || one.LogName() != origin || len(one.LogKeys()) != 1 {
		t.Errorf("verifiers %q and %q, signer %q", key.Verifier, two.LogKeys()[0].Verifier, key.Signer.Name())
	}
	signed := must[[]byte](t)(note.Sign(&note.Note{Text: "hello\n"}, one.LogKeys()[0].Signer))
	verifier := must[note.Verifier](t)(note.NewVerifier(one.LogKeys()[0].Verifier))
	must[*note.Note](t)(note.Open(signed, note.VerifierList(verifier)))

	// What one seals the other opens; another folder's ring does not.
	_, wrapped, err := one.NewDatasetKey()
	check(t, err)
	must[[]byte](t)(two.unwrap(wrapped))
	stranger := newRing(t, nil)
	_, err = stranger.unwrap(wrapped)
	wantCode(t, err, fault.Corrupt)
	wrapped.Epoch = 2
	_, err = one.unwrap(wrapped)
	wantCode(t, err, fault.Corrupt)

	wantCode(t, Init(dir, origin, none, rand.Reader), fault.Conflict)
	for _, name := range []string{rootFile, epochFile(1)} { // what an interrupted Init leaves
		check(t, os.Remove(filepath.Join(dir, name)))
		wantCode(t, Init(dir, origin, none, rand.Reader), fault.Conflict)
	}
	check(t, os.Remove(filepath.Join(dir, logFile)))
	check(t, Init(dir, origin, none, rand.Reader))
}

func TestPassphrase(t *testing.T) {
	dir := newFolder(t, NewPassphrase("correct horse"))
	if protected := must[bool](t)(Protected(dir)); !protected {
		t.Error("not protected")
	}
	must[*Ring](t)(Open(dir, NewPassphrase("correct horse"), nil, rand.Reader))
	for _, pass := range []Passphrase{none, {}, NewPassphrase("correct hors")} {
		_, err := Open(dir, pass, nil, rand.Reader)
		wantCode(t, err, fault.Unauthenticated)
	}
	data := must[[]byte](t)(os.ReadFile(filepath.Join(dir, rootFile)))
	if bytes.Contains(data, []byte("AGE-SECRET-KEY")) {
		t.Error("the root key is in the clear")
	}
	for _, n := range []int{len(data) - 1, len(data) / 2, 25} {
		check(t, os.WriteFile(filepath.Join(dir, rootFile), data[:n], 0o600))
		_, err := Open(dir, NewPassphrase("correct horse"), nil, rand.Reader)
		wantCode(t, err, fault.Corrupt)
	}
}

// TestSpoiledFolder: each way to spoil one file, with what Open says of it.
func TestSpoiledFolder(t *testing.T) {
	other := newFolder(t, none)
	read := func(path string) []byte { return must[[]byte](t)(os.ReadFile(path)) }
	write := func(name string, data []byte) func(string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), data, 0o600) }
	}
	remove := func(name string) func(string) error {
		return func(dir string) error { return os.Remove(filepath.Join(dir, name)) }
	}
	cut := func(name string) func(string) error {
		return func(dir string) error { return os.Truncate(filepath.Join(dir, name), 100) }
	}
	for name, c := range map[string]struct {
		spoil func(dir string) error
		code  fault.Code
	}{
		"no root":             {remove(rootFile), fault.NotFound},
		"no log key":          {remove(logFile), fault.NotFound},
		"no epoch":            {remove(epochFile(1)), fault.Corrupt},
		"foreign root":        {write(rootFile, read(filepath.Join(other, rootFile))), fault.Corrupt},
		"foreign epoch":       {write(epochFile(1), read(filepath.Join(other, epochFile(1)))), fault.Corrupt},
		"foreign second one":  {write(epochFile(2), read(filepath.Join(other, epochFile(1)))), fault.Corrupt},
		"foreign log key":     {write(logFile, read(filepath.Join(other, logFile))), fault.Corrupt},
		"root cut":            {cut(rootFile), fault.Corrupt},
		"epoch cut":           {cut(epochFile(1)), fault.Corrupt},
		"log key cut":         {cut(logFile), fault.Corrupt},
		"empty root":          {write(rootFile, nil), fault.Corrupt},
		"huge root":           {write(rootFile, make([]byte, maxKeyFile+1)), fault.Corrupt},
		"misnamed epoch":      {write("epoch-2.age", nil), fault.Corrupt},
		"nonsense epoch":      {write("epoch-x.age", nil), fault.Corrupt},
		"root seen by others": {func(dir string) error { return os.Chmod(filepath.Join(dir, rootFile), 0o640) }, fault.Forbidden},
		"log seen by others":  {func(dir string) error { return os.Chmod(filepath.Join(dir, logFile), 0o604) }, fault.Forbidden},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newFolder(t, none)
			secret := read(filepath.Join(dir, rootFile))
			check(t, c.spoil(dir))
			_, err := Open(dir, none, nil, rand.Reader)
			wantCode(t, err, c.code)
			if key := bytes.Split(bytes.TrimSpace(secret), []byte("\n")); bytes.Contains([]byte(fmt.Sprint(err)), key[len(key)-1][20:]) {
				t.Error("the error holds the key")
			}
		})
	}
	_, err := Open(filepath.Join(t.TempDir(), "nowhere"), none, nil, rand.Reader)
	wantCode(t, err, fault.NotFound)
}

// TestEpochs: new keys are sealed to the newest epoch, also by who had the folder
// open before; older ones still open, until their epoch is destroyed.
func TestEpochs(t *testing.T) {
	dir := newFolder(t, none)
	old := must[*Ring](t)(Open(dir, none, nil, rand.Reader))
	_, first, err := old.NewDatasetKey()
	check(t, err)
	root := must[*seal.Identity](t)(openRoot(dir, none))
	for _, n := range []uint32{2, 10001} {
		epoch := must[*seal.Identity](t)(seal.GenerateIdentity())
		check(t, writeFile(dir, epochFile(n), must[[]byte](t)(seal.SealBytes(epoch.Expose(), root.Recipient()))))
		r := must[*Ring](t)(Open(dir, none, nil, rand.Reader))
		_, wrapped, err := r.NewDatasetKey()
		check(t, err)
		if wrapped.Epoch != n {
			t.Errorf("sealed to epoch %d, want %d", wrapped.Epoch, n)
		}
		must[[]byte](t)(r.unwrap(first))
		must[[]byte](t)(old.unwrap(wrapped))
	}
	if n := must[uint32](t)(old.NewEpoch(1)); n != 10001 {
		t.Errorf("after epoch 1 comes %d", n)
	}
	if n := must[uint32](t)(old.NewEpoch(10001)); n != 10002 {
		t.Errorf("after epoch 10001 comes %d", n)
	}
	at := time.Date(2027, 3, 1, 12, 0, 0, 123000, time.UTC)
	check(t, old.Retire(1, at))
	check(t, old.Retire(1, at.AddDate(0, 0, 1))) // what was said first holds
	r := must[*Ring](t)(Open(dir, none, nil, rand.Reader))
	list := must[[]Retiring](t)(r.Retires())
	if len(list) != 3 || list[0] != (Retiring{1, at}) || !list[1].At.IsZero() || list[2].Epoch != 10001 {
		t.Errorf("%+v", list)
	}
	if r.DestroyEpoch(10002) == nil {
		t.Error("the newest epoch was destroyed")
	}
	again := must[storage.WrappedKey](t)(r.Rewrap(first))
	check(t, r.DestroyEpoch(1))
	check(t, r.DestroyEpoch(1))
	check(t, old.Refresh())
	for _, ring := range []*Ring{r, old, must[*Ring](t)(Open(dir, none, nil, rand.Reader))} {
		_, err := ring.unwrap(first)
		wantCode(t, err, fault.Corrupt)
		must[[]byte](t)(ring.unwrap(again))
	}
	if again.Epoch != 10002 {
		t.Errorf("sealed again to epoch %d", again.Epoch)
	}
}

// TestDestroyInterrupted: a node that died between writing over an epoch's key and
// removing it starts again, and ends what it has begun; the newest is never taken for one.
func TestDestroyInterrupted(t *testing.T) {
	dir := newFolder(t, none)
	r := must[*Ring](t)(Open(dir, none, nil, rand.Reader))
	_, first, err := r.NewDatasetKey()
	check(t, err)
	must[uint32](t)(r.NewEpoch(1))
	check(t, r.Retire(1, time.Unix(2e9, 0)))
	zero := func(name string) {
		size := must[os.FileInfo](t)(os.Stat(filepath.Join(dir, name))).Size()
		check(t, os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o600))
	}
	zero(epochFile(1))
	r = must[*Ring](t)(Open(dir, none, nil, rand.Reader))
	check(t, r.Refresh())
	_, err = r.unwrap(first)
	wantCode(t, err, fault.Corrupt)
	r = must[*Ring](t)(RotateRoot(dir, none, none, nil, noRecord))
	if list := must[[]Retiring](t)(r.Retires()); len(list) != 1 || list[0].Epoch != 1 || list[0].At.IsZero() || r.HasEpoch(1) {
		t.Errorf("%+v", list)
	}
	check(t, r.DestroyEpoch(1))
	if _, err := os.Lstat(filepath.Join(dir, epochFile(1))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there yet: %v", err)
	}
	if list := must[[]Retiring](t)(r.Retires()); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	zero(epochFile(2))
	_, err = Open(dir, none, nil, rand.Reader)
	wantCode(t, err, fault.Corrupt)
}

// TestBury: what was erased stays so, whatever a catalog holds.
func TestBury(t *testing.T) {
	db := newCatalog(t)
	r := newRing(t, db)
	ids := []dataset.DatasetID{dataset.NewID[dataset.DatasetID](rand.Reader), dataset.NewID[dataset.DatasetID](rand.Reader)}
	check(t, r.Bury(ids[0]))
	check(t, r.Bury(ids...))
	again := must[*Ring](t)(Open(r.Dir(), none, db, rand.Reader))
	for _, id := range ids {
		if !again.IsBuried(id) || !r.IsBuried(id) {
			t.Errorf("%s is not buried", id)
		}
		_, err := again.datasetIdentity(t.Context(), id)
		wantCode(t, err, fault.Gone)
	}
	if len(again.Buried()) != 2 {
		t.Errorf("%d are buried", len(again.Buried()))
	}
	for _, damage := range []string{"xyz\n", "0011\n", strings.Repeat("ab", 17) + "\n"} {
		check(t, os.WriteFile(filepath.Join(r.Dir(), erasedFile), []byte(damage), 0o600))
		_, err := Open(r.Dir(), none, db, rand.Reader)
		wantCode(t, err, fault.Corrupt)
	}
}

// TestNothingIsPrinted prints everything that holds a secret in every way.
func TestNothingIsPrinted(t *testing.T) {
	db := newCatalog(t)
	r := newRing(t, db)
	who := dataset.NewID[dataset.PrincipalID](rand.Reader)
	must[storage.WrappedKey](t)(r.NewPerson(who))
	person, _, _ := r.people.get(who)
	pass := NewPassphrase("correct horse")
	type hidden struct {
		pass Passphrase
		ring *Ring
		key  personKey
	}
	type shown struct {
		Pass Passphrase
		Ring *Ring
		Hid  *ledger.Permit
	}
	secrets := []string{"correct horse", string(r.epochs[1].Expose()[20:]), "AGE-SECRET"}
	for _, verb := range []string{"%v", "%x", "%X", "%d", "%s", "%q"} {
		tag := fmt.Sprintf(verb, *person.tag)
		secrets = append(secrets, tag, strings.Trim(tag, "[]"))
	}
	for name, v := range map[string]any{
		"passphrase": pass, "pointer": &pass, "ring": r, "ring itself": *r, "person": person,
		"hidden": hidden{pass, r, person}, "hidden pointer": &hidden{pass, r, person}, "shown": shown{pass, r, new(ledger.Permit)},
	} {
		var out bytes.Buffer
		for _, verb := range strings.Split("v +v #v s q x X d o b t c U e g p T w", " ") {
			fmt.Fprintf(&out, "%"+verb+"\n", v)
		}
		data, err := json.Marshal(v)
		fmt.Fprintf(&out, "%s %v\n", data, err)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
		for _, secret := range secrets {
			if bytes.Contains(out.Bytes(), []byte(secret)) {
				t.Errorf("%s: printed as %s", name, out.Bytes())
				break
			}
		}
	}
}

func addPerson(t *testing.T, db *catalog.DB, r *Ring, name string) dataset.PrincipalID {
	t.Helper()
	id := dataset.NewID[dataset.PrincipalID](rand.Reader)
	key := must[storage.WrappedKey](t)(r.NewPerson(id))
	update(t, db, func(ctx context.Context, tx *catalog.Tx) error {
		return tx.AddPrincipal(ctx, storage.Principal{ID: id, Handle: name, Key: key, Revision: 1})
	})
	return id
}

func TestDetails(t *testing.T) {
	db := newCatalog(t)
	dir := newFolder(t, none)
	r := must[*Ring](t)(Open(dir, none, db, rand.Reader))
	ann, bob := addPerson(t, db, r, "ann"), addPerson(t, db, r, "bob")
	ctx := t.Context()
	text := []byte(`{"address":"192.0.2.1"}`)
	tag := [16]byte{1}
	sealed := must[ledger.Sealed](t)(r.Seal(ctx, ann, tag, text))
	if bytes.Contains(sealed.Details, []byte("192.0.2.1")) {
		t.Error("the details are in the clear")
	}

	// A ring that has just been opened reads the person's key from the catalog.
	fresh := must[*Ring](t)(Open(dir, none, db, rand.Reader))
	salt, details, err := fresh.OpenDetails(ctx, ann, sealed.Details)
	check(t, err)
	if !bytes.Equal(details, text) || audit.Commit(salt, details) != sealed.Commitment {
		t.Errorf("opened %q, or another commitment", details)
	}
	if again := must[[16]byte](t)(fresh.Tag(ctx, ann, tag)); again != sealed.Actor {
		t.Error("the pseudonym is not stable")
	}
	if must[[16]byte](t)(r.Tag(ctx, ann, [16]byte{2})) == sealed.Actor || must[[16]byte](t)(r.Tag(ctx, bob, tag)) == sealed.Actor {
		t.Error("a pseudonym is shared")
	}
	second := must[ledger.Sealed](t)(r.Seal(ctx, ann, tag, text))
	if second.Commitment == sealed.Commitment || bytes.Equal(second.Details, sealed.Details) {
		t.Error("the same details look the same twice")
	}

	_, _, err = r.OpenDetails(ctx, bob, sealed.Details)
	wantCode(t, err, fault.Corrupt)
	for i := range sealed.Details {
		bad := bytes.Clone(sealed.Details)
		bad[i] ^= 1
		if _, _, err := r.OpenDetails(ctx, ann, bad); !fault.Is(err, fault.Corrupt) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		if _, _, err := r.OpenDetails(ctx, ann, sealed.Details[:i]); !fault.Is(err, fault.Corrupt) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
	short := must[[]byte](t)(r.SealProfile(ctx, ann, []byte("short")))
	_, _, err = r.OpenDetails(ctx, ann, short)
	wantCode(t, err, fault.Corrupt)
	if profile := must[[]byte](t)(fresh.OpenProfile(ctx, ann, short)); string(profile) != "short" {
		t.Errorf("profile %q", profile)
	}

	// Nobody's key: an unknown person is none, and an outage is an outage.
	nobody := dataset.NewID[dataset.PrincipalID](rand.Reader)
	if _, err := r.Seal(ctx, nobody, tag, text); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("an unknown person: %v", err)
	}
	check(t, db.Close())
	if _, err := r.Seal(ctx, nobody, tag, text); !fault.Is(err, fault.Unavailable) {
		t.Errorf("an outage: %v", err)
	}
	must[ledger.Sealed](t)(r.Seal(ctx, ann, tag, text)) // known already
}

// TestNoRandomness: without it nothing is sealed.
func TestNoRandomness(t *testing.T) {
	r := newRing(t, newCatalog(t))
	who := dataset.NewID[dataset.PrincipalID](rand.Reader)
	must[storage.WrappedKey](t)(r.NewPerson(who))
	for n := range int64(32 + 24) {
		r.random = &limited{n}
		if _, err := r.Seal(t.Context(), who, [16]byte{}, []byte("x")); !fault.Is(err, fault.Internal) {
			t.Fatalf("with %d random bytes: %v", n, err)
		}
	}
	r.random = &limited{31}
	if _, err := r.NewPerson(who); !fault.Is(err, fault.Internal) {
		t.Error(err)
	}
}

// limited is a source of randomness that dries up.
type limited struct{ n int64 }

func (l *limited) Read(p []byte) (int, error) {
	if int64(len(p)) > l.n {
		return 0, fmt.Errorf("no more randomness")
	}
	l.n -= int64(len(p))
	return rand.Read(p)
}

func TestFileKeyWithoutPermit(t *testing.T) {
	r := newRing(t, newCatalog(t))
	recipient, _, err := r.NewDatasetKey()
	check(t, err)
	sealed := must[[]byte](t)(seal.SealBytes([]byte("x"), must[seal.Recipient](t)(seal.ParseRecipient(recipient))))
	for _, p := range []*ledger.Permit{nil, {}} {
		if _, err := r.FileKey(t.Context(), p, 0, sealed); !fault.Is(err, fault.Forbidden) {
			t.Errorf("without a permit: %v", err)
		}
	}
}

// TestDatasetIdentity: a dataset without a key is corruption, and so is a key
// that does not open.
func TestDatasetIdentity(t *testing.T) {
	db := newCatalog(t)
	r := newRing(t, db)
	id := dataset.NewID[dataset.DatasetID](rand.Reader)
	_, err := r.datasetIdentity(t.Context(), id)
	wantCode(t, err, fault.Corrupt)
	scope := must[dataset.Scope](t)(dataset.ParseScope("a/b/c"))
	recipient, wrapped, err := r.NewDatasetKey()
	check(t, err)
	put := func(key storage.WrappedKey) {
		update(t, db, func(ctx context.Context, tx *catalog.Tx) error { return tx.PutDatasetKey(ctx, id, key) })
	}
	update(t, db, func(ctx context.Context, tx *catalog.Tx) error {
		if err := tx.AddScope(ctx, storage.ScopeRow{Slot: 1, Scope: scope, Tag: id}); err != nil {
			return err
		}
		return tx.AddDataset(ctx, storage.Dataset{ID: id, Slot: 1, Scope: scope, Tag: id, State: dataset.Active, Recipient: recipient})
	})
	_, foreign, err := newRing(t, nil).NewDatasetKey()
	check(t, err)
	put(foreign)
	_, err = r.datasetIdentity(t.Context(), id)
	wantCode(t, err, fault.Corrupt)
	put(wrapped)
	identity := must[*seal.Identity](t)(r.datasetIdentity(t.Context(), id))
	if identity.Recipient().String() != recipient {
		t.Error("another identity")
	}
	check(t, db.Close())
	must[*seal.Identity](t)(r.datasetIdentity(t.Context(), id)) // cached
	if _, err := r.datasetIdentity(t.Context(), dataset.NewID[dataset.DatasetID](rand.Reader)); !fault.Is(err, fault.Unavailable) {
		t.Errorf("an outage: %v", err)
	}
}

func TestCacheLimit(t *testing.T) {
	c := newCache[int, int](3)
	for i := range 100 {
		c.put(i, i)
		if v, ok, _ := c.get(i); !ok || v != i {
			t.Fatalf("%d was not kept", i)
		}
		if len(c.items) > 3 {
			t.Fatalf("%d items are kept", len(c.items))
		}
	}
	// What was forgotten does not come back, even from who has just read it.
	c.forget(99)
	c.put(99, 99)
	if _, ok, gone := c.get(99); ok || !gone {
		t.Error("what was forgotten is kept")
	}
}
