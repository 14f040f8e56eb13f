package vault_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dsvault/storage"
	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// indexed is an upload of a shard with an index, step by step.
type indexed struct {
	w     *world
	ds    string
	to    seal.Recipient
	ref   dataset.ShardRef
	up    wire.Upload
	plain []byte
	sum   []byte // of the sealed bytes
}

// startIndexed sends the bytes of a shard and stops before its index.
func (w *world) startIndexed(ds string, n int, plain []byte) *indexed {
	w.t.Helper()
	ctx := context.Background()
	_, to := w.openDataset(ds)
	u := &indexed{w: w, ds: ds, to: to, ref: dataset.ShardRef{Dataset: w.scope(ds), Number: n}, plain: plain}
	u.up = must[wire.Upload](w.t)(w.v.StartUpload(ctx, w.as("carol"), u.ref, wire.NewUpload{Fingerprint: make([]byte, 32), Size: int64(len(plain))}))
	sealed := must[[]byte](w.t)(seal.SealBytes(plain, to))
	u.sum = must[wire.Stored](w.t)(w.v.StoreUpload(ctx, w.as("carol"), u.ref.Dataset, u.up.Attempt, bytes.NewReader(sealed), int64(len(sealed)))).SHA256
	return u
}

// index is the sealed index of the one member that the shard is.
func (u *indexed) index() []byte {
	sum := sha256.Sum256(u.plain)
	size := int64(len(u.plain))
	x := dataset.Index{Number: u.ref.Number, Size: size, Members: []dataset.Member{{Name: "file", Size: size, SHA256: sum[:]}}}
	return must[[]byte](u.w.t)(seal.SealBytes(must[[]byte](u.w.t)(x.Encode()), u.to))
}

func (u *indexed) store(index []byte) error {
	_, err := u.w.v.StoreIndex(context.Background(), u.w.as("carol"), u.ref.Dataset, u.up.Attempt, bytes.NewReader(index), int64(len(index)))
	return err
}

func (u *indexed) commit(indexSum []byte) error {
	sum := sha256.Sum256(u.plain)
	m := must[[]byte](u.w.t)(json.Marshal(dataset.Manifest{Version: 1, Number: u.ref.Number, Packing: dataset.PackFile, Name: "file",
		Size: int64(len(u.plain)), SHA256: sum[:]}))
	_, err := u.w.v.CommitUpload(context.Background(), u.w.as("carol"), u.ref.Dataset, u.up.Attempt,
		wire.Commit{SHA256: u.sum, Manifest: must[[]byte](u.w.t)(seal.SealBytes(m, u.to)), Index: indexSum})
	return err
}

// finish sends an index and commits.
func (u *indexed) finish(index []byte) error {
	if err := u.store(index); err != nil {
		return err
	}
	sum := sha256.Sum256(index)
	return u.commit(sum[:])
}

func (w *world) objectCount() int {
	w.t.Helper()
	n := 0
	for _, err := range w.objects.List(context.Background(), "v1/") {
		if err != nil {
			w.t.Fatal(err)
		}
		n++
	}
	return n
}

// TestForeignIndexes: an index that the dataset's key does not open, or that is
// not whole, is refused with its shard, and nothing of either stays.
func TestForeignIndexes(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	const ds = "acme/signs/batch-2"
	plain := []byte(strings.Repeat("x", 100_000))
	start := w.objectCount()
	before := start
	foreign := must[*seal.Identity](t)(seal.GenerateIdentity()).Recipient()
	for name, spoil := range map[string]func(index []byte) []byte{
		"sealed to somebody else": func(index []byte) []byte { return must[[]byte](t)(seal.SealBytes([]byte("{}"), foreign)) },
		"truncated":               func(index []byte) []byte { return index[:len(index)-1] },
		"last chunk damaged":      func(index []byte) []byte { index[len(index)-5] ^= 1; return index },
		"header damaged":          func(index []byte) []byte { index[1000] ^= 1; return index },
		"plaintext":               func(index []byte) []byte { return bytes.Repeat([]byte("{"), 5000) },
		"nothing":                 func([]byte) []byte { return nil },
		"only a header":           func(index []byte) []byte { return index[:seal.HeaderSize()] },
	} {
		u := w.startIndexed(ds, 0, plain)
		wantCode(t, u.finish(spoil(u.index())), fault.Invalid)
		if n := w.objectCount(); n != before && name != "nothing" && name != "only a header" { // these are refused before they are stored
			t.Errorf("%s: %d objects are left", name, n-before)
		}
		before = w.objectCount()
	}
	// A payload that was sealed before, as an index or as a shard.
	first := w.startIndexed(ds, 0, plain)
	index := first.index()
	if err := first.finish(index); err != nil {
		t.Fatal(err)
	}
	wantCode(t, w.startIndexed(ds, 1, plain).finish(index), fault.Conflict)
	wantCode(t, w.uploadSealed("carol", ds, 1, make([]byte, int(must[int64](t)(seal.PlainSize(int64(len(index)-seal.HeaderSize()))))), index, first.to), fault.Conflict)
	// What was refused with its bytes already stored goes with the sweep.
	w.clock.Add(25 * time.Hour)
	must[int](t)(w.v.Sweep(context.Background(), w.clock.Now()))
	if n := w.objectCount(); n != start+2 {
		t.Errorf("%d objects, want 2", n-start)
	}
}

// TestIndexRules: an index comes once, whole, before the commit that names it.
func TestIndexRules(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	const ds = "acme/signs/batch-2"
	before := w.objectCount()
	u := w.startIndexed(ds, 0, []byte("plain"))
	index := u.index()
	_, err := w.v.StoreIndex(ctx, w.as("carol"), u.ref.Dataset, u.up.Attempt, bytes.NewReader(index), 1<<40)
	wantCode(t, err, fault.TooLarge)
	_, err = w.v.StoreIndex(ctx, w.as("lee"), u.ref.Dataset, u.up.Attempt, bytes.NewReader(index), int64(len(index)))
	wantCode(t, err, fault.NotFound)
	if err := u.store(index); err != nil {
		t.Fatal(err)
	}
	wantCode(t, u.store(index), fault.Conflict)
	wantCode(t, u.commit(make([]byte, 32)), fault.Invalid)
	wantCode(t, u.commit(nil), fault.Invalid)
	sum := sha256.Sum256(index)
	if err := u.commit(sum[:]); err != nil {
		t.Fatal(err)
	}
	// While the index is still on its way there is no commit.
	u = w.startIndexed(ds, 1, []byte("plain"))
	r, slow := io.Pipe()
	stored := make(chan error, 1)
	go func() {
		_, err := w.v.StoreIndex(ctx, w.as("carol"), u.ref.Dataset, u.up.Attempt, r, int64(len(index)))
		stored <- err
	}()
	slow.Write(index[:10])
	wantCode(t, u.commit(nil), fault.Invalid)
	slow.CloseWithError(io.ErrUnexpectedEOF)
	if <-stored == nil {
		t.Error("half an index was stored")
	}
	// What stands in for the shard goes with its index.
	if err := w.upload("carol", ds, 0, []byte("instead")); err != nil {
		t.Fatal(err)
	}
	if n := w.objectCount(); n != before+2 { // it, and the bytes of the attempt at shard 1
		t.Errorf("%d objects, want 2", n-before)
	}
	w.clock.Add(25 * time.Hour)
	must[int](t)(w.v.Sweep(ctx, w.clock.Now()))
	if n := w.objectCount(); n != before+1 {
		t.Errorf("%d objects after the sweep, want 1", n-before)
	}
	// An attempt that is given up with an index leaves neither.
	u = w.startIndexed(ds, 2, []byte("plain"))
	if err := u.store(u.index()); err != nil {
		t.Fatal(err)
	}
	w.clock.Add(25 * time.Hour)
	must[int](t)(w.v.Sweep(ctx, w.clock.Now()))
	if n := w.objectCount(); n != before+1 {
		t.Errorf("%d objects after the second sweep, want 1", n-before)
	}
	// A shard that is dropped, too.
	u = w.startIndexed(ds, 3, []byte("plain"))
	if err := u.finish(u.index()); err != nil {
		t.Fatal(err)
	}
	must[wire.Dataset](t)(w.complete("carol", ds, "0", 0))
	if n := w.objectCount(); n != before+1 {
		t.Errorf("%d objects after the drop, want 1", n-before)
	}
}

func sealedBytes(s *vault.ShardStream) ([]byte, error) {
	var sealed bytes.Buffer
	err := s.Send(&sealed, func() {})
	return sealed.Bytes(), err
}

// TestReadMembers: the index and ranges go to those who may read the shard, as
// reads of it that the log tells apart.
func TestReadMembers(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	const ds = "acme/signs/batch-2"
	u := w.startIndexed(ds, 0, []byte(strings.Repeat("0123456789", 20_000)))
	if err := u.finish(u.index()); err != nil {
		t.Fatal(err)
	}
	must[wire.Dataset](t)(w.complete("carol", ds, "0", 0))
	must[wire.Assignment](t)(w.v.Assign(ctx, w.as("root"), wire.Assignment{Dataset: u.ref.Dataset, Person: "lee", Shards: dataset.ShardSet{{First: 0, Last: 0}}}))

	s := must[*vault.ShardStream](t)(w.v.ReadIndex(ctx, w.as("lee"), u.ref, w.ids["lee"], ""))
	data := must[[]byte](t)(sealedBytes(s))
	if int64(len(data)) != s.Size || s.Manifest != nil {
		t.Errorf("%d bytes, announced %d", len(data), s.Size)
	}
	x := must[dataset.Index](t)(dataset.ParseIndex(must[[]byte](t)(seal.OpenBytes(data, w.devices["lee"], dataset.MaxIndex))))
	if len(x.Members) != 1 || x.Members[0].Size != 200_000 {
		t.Errorf("%+v", x)
	}
	if s, err := w.v.ReadRange(ctx, w.as("lee"), u.ref, w.ids["lee"], "", 65_530, 20); err != nil {
		t.Error(err)
	} else if data := must[[]byte](t)(sealedBytes(s)); len(data) != seal.HeaderSize()+16+2*(65536+16) {
		t.Errorf("%d bytes", len(data))
	}
	// Nobody else, and not so much as the size of what is there.
	for _, who := range []string{"stranger", "conny", "root", "audrey"} {
		_, whole := w.v.ReadShard(ctx, w.as(who), u.ref, w.ids[who], "")
		_, index := w.v.ReadIndex(ctx, w.as(who), u.ref, w.ids[who], "")
		_, inside := w.v.ReadRange(ctx, w.as(who), u.ref, w.ids[who], "", 0, 1)
		_, outside := w.v.ReadRange(ctx, w.as(who), u.ref, w.ids[who], "", 0, 1<<40)
		if whole == nil || index == nil || inside == nil || outside == nil {
			t.Fatalf("%s reads", who)
		}
		if index.Error() != whole.Error() || inside.Error() != whole.Error() || outside.Error() != whole.Error() {
			t.Errorf("%s is told %v, %v, %v, %v", who, whole, index, inside, outside)
		}
	}
	for _, bad := range [][2]int64{{0, 0}, {-1, 1}, {0, 200_001}, {200_000, 1}, {1 << 62, 1 << 62}} {
		_, err := w.v.ReadRange(ctx, w.as("carol"), u.ref, w.ids["carol"], "", bad[0], bad[1])
		wantCode(t, err, fault.Invalid)
	}
	// A shard of before has no index: its owner is told, a stranger is not.
	old := dataset.ShardRef{Dataset: w.scope("acme/signs/batch-1")}
	_, err := w.v.ReadIndex(ctx, w.as("carol"), old, w.ids["carol"], "")
	wantCode(t, err, fault.Conflict)
	_, err = w.v.ReadIndex(ctx, w.as("stranger"), old, w.ids["stranger"], "")
	wantCode(t, err, fault.NotFound)

	var indexes, ranges, uploads int
	for _, l := range w.verify() {
		content, ofIndex := l.Text(audit.FieldContent)
		start, ofRange := l.Uint64(audit.FieldRangeStart)
		length, _ := l.Uint64(audit.FieldRangeLength)
		_, withIndex := l.Bytes(audit.FieldIndexSHA256)
		switch {
		case l.Kind == audit.KindRead && ofIndex && content == "index":
			indexes++
		case l.Kind == audit.KindRead && ofRange && start == 65_530 && length == 20:
			ranges++
		case withIndex && (l.Kind == audit.KindUpload || l.Kind == audit.KindUploadEnd):
			uploads++
		}
	}
	if indexes != 1 || ranges != 1 || uploads != 2 {
		t.Errorf("%d reads of indexes, %d of ranges, %d uploads in the log", indexes, ranges, uploads)
	}
}

// TestRanges: a range opens to exactly these bytes of the shard, and takes one
// request to storage.
func TestRanges(t *testing.T) {
	w := newWorld(t)
	store := &counted{Objects: w.objects}
	w.objects = store
	w.v.Close()
	w.v = must[*vault.Vault](t)(w.open())
	w.setUp()
	ctx := context.Background()
	const ds = "acme/signs/batch-2"
	plain := make([]byte, 300_000)
	rand.NewChaCha8([32]byte{}).Read(plain)
	if err := w.upload("carol", ds, 0, plain); err != nil {
		t.Fatal(err)
	}
	ref := dataset.ShardRef{Dataset: w.scope(ds)}
	payload := seal.PayloadSize(int64(len(plain)))
	rapid.Check(t, func(rt *rapid.T) {
		near := func(name string) int64 { // chunk borders, more often than not
			return max(0, rapid.SampledFrom([]int64{0, 65536, 131072, 262144, 300_000}).Draw(rt, name)+rapid.Int64Range(-3, 70_000).Draw(rt, name+" more"))
		}
		offset := min(near("offset"), int64(len(plain))-1)
		size := min(max(1, near("size")), int64(len(plain))-offset)
		store.opens = nil
		s, err := w.v.ReadRange(ctx, w.as("carol"), ref, w.ids["carol"], "", offset, size)
		if err != nil {
			rt.Fatal(err)
		}
		sealed, err := sealedBytes(s)
		if err != nil || int64(len(sealed)) != s.Size || len(store.opens) != 1 {
			rt.Fatalf("%d bytes of %d, %d requests, %v", len(sealed), s.Size, len(store.opens), err)
		}
		header, rest, err := seal.ReadHeader(bytes.NewReader(sealed))
		if err != nil {
			rt.Fatal(err)
		}
		key, err := seal.OpenHeader(header, w.devices["carol"])
		if err != nil {
			rt.Fatal(err)
		}
		var nonce [seal.NonceSize]byte
		io.ReadFull(rest, nonce[:])
		r, err := seal.OpenRange(key, nonce, payload, offset, size, func(int64, int64) (io.ReadCloser, error) { return io.NopCloser(rest), nil })
		if err != nil {
			rt.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, plain[offset:offset+size]) {
			rt.Fatalf("%d bytes, %v", len(got), err)
		}
	})
}

// hooked is a store that calls hook once, before the first look at an object.
type hooked struct {
	storage.Objects
	once sync.Once
	hook func()
}

func (h *hooked) Open(ctx context.Context, key string, offset, length int64, etag string) (io.ReadCloser, error) {
	if h.hook != nil {
		h.once.Do(h.hook)
	}
	return h.Objects.Open(ctx, key, offset, length, etag)
}

// TestIndexWhileCommitting: an index that comes while its shard is committed
// without one leaves no object that no row names.
func TestIndexWhileCommitting(t *testing.T) {
	w := newWorld(t)
	h := &hooked{Objects: w.objects}
	w.objects = h
	w.v.Close()
	w.v = must[*vault.Vault](t)(w.open())
	t.Cleanup(func() { w.v.Close() })
	w.setUp()
	ctx := context.Background()
	d := must[wire.Dataset](t)(w.v.CreateDataset(ctx, w.as("carol"), w.scope("acme/signs/late")))
	to := must[seal.Recipient](t)(seal.ParseRecipient(d.Recipient))
	sealed := must[[]byte](t)(seal.SealBytes([]byte("hello"), to))
	up := must[wire.Upload](t)(w.v.StartUpload(ctx, w.as("carol"), dataset.ShardRef{Dataset: d.Scope}, wire.NewUpload{Fingerprint: make([]byte, 32), Size: 5}))
	stored := must[wire.Stored](t)(w.v.StoreUpload(ctx, w.as("carol"), d.Scope, up.Attempt, bytes.NewReader(sealed), int64(len(sealed))))
	late := must[[]byte](t)(seal.SealBytes([]byte("late"), to))
	before := w.objectCount()
	h.hook = func() {
		must[wire.Stored](t)(w.v.StoreIndex(ctx, w.as("carol"), d.Scope, up.Attempt, bytes.NewReader(late), int64(len(late))))
	}
	m := must[[]byte](t)(dataset.Manifest{Version: 1, Packing: dataset.PackFile, Name: "f", Size: 5, SHA256: make([]byte, 32)}.Encode())
	_, err := w.v.CommitUpload(ctx, w.as("carol"), d.Scope, up.Attempt,
		wire.Commit{SHA256: stored.SHA256, Manifest: must[[]byte](t)(seal.SealBytes(m, to))})
	wantCode(t, err, fault.Conflict)
	if got := w.objectCount(); got != before-1 { // the shard's object went with the attempt
		t.Errorf("%d objects, want %d", got, before-1)
	}
}
