package vault_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"filippo.io/age"

	"dsvault/storage"
	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

func (w *world) openDataset(ds string) (wire.Dataset, seal.Recipient) {
	w.t.Helper()
	d := must[wire.Dataset](w.t)(w.v.CreateDataset(context.Background(), w.as("carol"), w.scope(ds)))
	return d, must[seal.Recipient](w.t)(seal.ParseRecipient(d.Recipient))
}

// TestForeignUploads: bytes that are not a shard of this dataset are refused
// before they are acknowledged, and leave nothing behind.
func TestForeignUploads(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	const ds = "acme/signs/batch-2"
	d, to := w.openDataset(ds)
	plain := []byte(strings.Repeat("x", 200_000))
	good := must[[]byte](t)(seal.SealBytes(plain, to))
	other := must[*seal.Identity](t)(seal.GenerateIdentity())
	foreign := must[[]byte](t)(seal.SealBytes(plain, other.Recipient()))
	flip := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 1
		return b
	}
	var two bytes.Buffer
	hybrid := must[*age.HybridRecipient](t)(age.ParseHybridRecipient(d.Recipient))
	second := must[*age.HybridIdentity](t)(age.GenerateHybridIdentity())
	enc := must[io.WriteCloser](t)(age.Encrypt(&two, hybrid, second.Recipient()))
	enc.Write(plain)
	enc.Close()

	for name, sealed := range map[string][]byte{
		"sealed to somebody else":  foreign,
		"truncated":                good[:len(good)-1],
		"longer than announced":    append(bytes.Clone(good), 0),
		"two recipients":           two.Bytes(),
		"plaintext":                bytes.Repeat([]byte("A"), len(good)),
		"header damaged":           flip(1000),
		"last chunk damaged":       flip(len(good) - 5),
		"nothing":                  {},
		"armored, padded to size":  []byte("-----BEGIN AGE ENCRYPTED FILE-----\n" + strings.Repeat("A", len(good)-35)),
		"a bomb of header stanzas": []byte("age-encryption.org/v1\n" + strings.Repeat("-> mlkem768x25519 AAAA\n", len(good))[:len(good)-22]),
	} {
		err := w.uploadSealed("carol", ds, 0, plain, sealed, to)
		switch fault.CodeOf(err) {
		case fault.Invalid, fault.TooLarge:
		default:
			t.Errorf("%s: %v", name, err)
		}
	}
	// The same payload twice, under whatever shard: its nonce is known.
	if err := w.uploadSealed("carol", ds, 0, plain, good, to); err != nil {
		t.Fatal(err)
	}
	wantCode(t, w.uploadSealed("carol", ds, 1, plain, good, to), fault.Conflict)

	if n := must[wire.Page[wire.Shard]](t)(w.v.Shards(context.Background(), w.as("carol"), w.scope(ds), -1, 0)); len(n.Items) != 1 {
		t.Errorf("%d shards", len(n.Items))
	}
	w.verify()

	// What the refused attempts left is swept, what is in use stays.
	w.clock.Add(25 * time.Hour)
	must[int](t)(w.v.Sweep(context.Background(), w.clock.Now()))
	objects := 0
	for _, err := range w.objects.List(context.Background(), "v1/") {
		if err != nil {
			t.Fatal(err)
		}
		objects++
	}
	if objects != 3 { // two of batch-1, one of batch-2
		t.Errorf("%d objects are left", objects)
	}
}

func TestUploadRules(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	// Annotators and strangers do not upload; to strangers it does not exist.
	wantCode(t, w.upload("stranger", "acme/signs/batch-9", 0, []byte("x")), fault.NotFound)
	if err := w.upload("lee", "acme/signs/batch-9", 0, []byte("x")); err == nil {
		t.Error("a labeler made a dataset")
	}
	// A missing shard keeps a dataset from being complete.
	w.upload("carol", "acme/signs/batch-3", 1, []byte("only the second"))
	_, err := w.v.Complete(ctx, w.as("carol"), w.scope("acme/signs/batch-3"), wire.Complete{Shards: dataset.FirstShards(2)})
	wantCode(t, err, fault.Conflict)
	// A plan that shrank drops what is left over.
	w.upload("carol", "acme/signs/batch-3", 0, []byte("first"))
	d := must[wire.Dataset](t)(w.v.Complete(ctx, w.as("carol"), w.scope("acme/signs/batch-3"), wire.Complete{Shards: dataset.FirstShards(1)}))
	if d.Shards != 1 {
		t.Errorf("%d shards", d.Shards)
	}
	// Somebody else's attempt cannot be filled or committed.
	w.openDataset("acme/signs/batch-4")
	up := must[wire.Upload](t)(w.v.StartUpload(ctx, w.as("carol"), dataset.ShardRef{Dataset: w.scope("acme/signs/batch-4")}, wire.NewUpload{Fingerprint: make([]byte, 32), Size: 4}))
	w.invite("carl")
	w.grant(dataset.ClientUser, "carl", "acme", nil)
	_, err = w.v.StoreUpload(ctx, w.as("carl"), w.scope("acme/signs/batch-4"), up.Attempt, strings.NewReader("data"), 4)
	wantCode(t, err, fault.NotFound)
	_, err = w.v.CommitUpload(ctx, w.as("carol"), w.scope("acme/signs/batch-4"), up.Attempt, wire.Commit{})
	wantCode(t, err, fault.Conflict)
}

func TestPutFile(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	plain := []byte(strings.Repeat("plain text over TLS ", 100_000))
	put := func(ds string, body io.Reader, size int64) error {
		_, err := w.v.PutFile(ctx, w.as("carol"), w.scope(ds), "notes.txt", body, size)
		return err
	}
	for ds, size := range map[string]int64{"acme/signs/known": int64(len(plain)), "acme/signs/unknown": -1} {
		if err := put(ds, bytes.NewReader(plain), size); err != nil {
			t.Fatal(ds, err)
		}
		if got := must[[]byte](t)(w.read("carol", ds, 0)); !bytes.Equal(got, plain) {
			t.Error("the file came back changed")
		}
	}
	if err := put("acme/signs/empty", bytes.NewReader(nil), 0); err != nil {
		t.Error("an empty file:", err)
	}
	// The same file again changes nothing; another one is the next version.
	if err := put("acme/signs/known", bytes.NewReader(plain), -1); err != nil {
		t.Error("the same file again:", err)
	}
	if d := must[wire.Dataset](t)(w.v.Dataset(ctx, w.as("carol"), w.scope("acme/signs/known"))); d.Version != 1 || d.Shards != 1 {
		t.Errorf("after the same file: %+v", d)
	}
	if err := put("acme/signs/known", strings.NewReader("more"), -1); err != nil {
		t.Error("another file:", err)
	}
	if d := must[wire.Dataset](t)(w.v.Dataset(ctx, w.as("carol"), w.scope("acme/signs/known"))); d.Version != 2 || d.Shards != 1 || d.Size != 4 {
		t.Errorf("after another file: %+v", d)
	}
	for n, want := range map[int]string{0: string(plain), 1: "more"} {
		if got := must[[]byte](t)(w.read("carol", "acme/signs/known", n)); string(got) != want {
			t.Errorf("shard %d is %.20q", n, got)
		}
	}
	wantCode(t, put("acme/signs/batch-1", strings.NewReader("x"), -1), fault.Conflict) // it has several shards
	// A client that dies half-way leaves no dataset that looks whole.
	if err := put("acme/signs/cut", iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(plain))), -1); err == nil {
		t.Error("a file that was cut off was accepted")
	}
	if err := put("acme/signs/short", bytes.NewReader(plain[:10]), 20); err == nil {
		t.Error("a file shorter than announced was accepted")
	}
	if d := must[wire.Dataset](t)(w.v.Dataset(ctx, w.as("carol"), w.scope("acme/signs/cut"))); d.Complete || d.Shards != 0 {
		t.Errorf("after a cut: %+v", d)
	}
	if err := put("acme/signs/cut", bytes.NewReader(plain), -1); err != nil {
		t.Error("the second try:", err)
	}
}

// blockingWriter takes a first piece and then waits until it is cut.
type blockingWriter struct {
	started, cut chan struct{}
	n            int
}

func (b *blockingWriter) Write(p []byte) (int, error) {
	if b.n == 0 {
		b.n = len(p)
		close(b.started)
		return len(p), nil
	}
	<-b.cut
	return 0, io.ErrClosedPipe
}

// TestRevocationCutsRunningReads: a reader who is stuck in the middle loses the
// stream, and the log says how much went out.
func TestRevocationCutsRunningReads(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.assign("lee", "0-1")
	ctx := context.Background()
	s := must[*vault.ShardStream](t)(w.v.ReadShard(ctx, w.as("lee"), dataset.ShardRef{Dataset: w.scope("acme/signs/batch-1")}, w.ids["lee"], ""))
	b := &blockingWriter{started: make(chan struct{}), cut: make(chan struct{})}
	sent := make(chan error, 1)
	go func() { sent <- s.Send(b, func() { close(b.cut) }) }()
	<-b.started
	must[wire.Revoked](t)(w.v.Revoke(ctx, w.as("root"), dataset.Labeler, "lee", w.scope("acme/signs")))
	wantCode(t, <-sent, fault.Forbidden)

	for _, l := range w.verify() {
		if l.Kind != audit.KindReadEnd {
			continue
		}
		cause, _ := l.Text(audit.FieldCause)
		n, _ := l.Uint64(audit.FieldBytesSent)
		if cause != "revoked" || int(n) != b.n {
			t.Errorf("read-end says %s after %d bytes, want revoked after %d", cause, n, b.n)
		}
	}
}

// TestRotationCutsRunningReads: what was begun with a token that is no good any
// more ends, whoever rotated it.
func TestRotationCutsRunningReads(t *testing.T) {
	for _, by := range []string{"root", "lee"} {
		t.Run(by, func(t *testing.T) {
			w := newWorld(t)
			w.setUp()
			w.assign("lee", "0")
			ctx := context.Background()
			s := must[*vault.ShardStream](t)(w.v.ReadShard(ctx, w.as("lee"), dataset.ShardRef{Dataset: w.scope("acme/signs/batch-1")}, w.ids["lee"], ""))
			b := &blockingWriter{started: make(chan struct{}), cut: make(chan struct{})}
			sent := make(chan error, 1)
			go func() { sent <- s.Send(b, func() { close(b.cut) }) }()
			<-b.started
			must[wire.NewToken](t)(w.v.RotateToken(ctx, w.as(by), "lee"))
			wantCode(t, <-sent, fault.Forbidden)
		})
	}
}

// TestLongShardSets: a leaf never names a shard that was not assigned, however
// long the set is.
func TestLongShardSets(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	var set dataset.ShardSet
	for n := 100_000; n < 102_000; n += 2 {
		set = append(set, dataset.ShardRange{First: n, Last: n})
	}
	if _, err := w.v.Unassign(context.Background(), w.as("lee"), w.scope("acme/signs/batch-1"), "conny", set); err == nil {
		t.Fatal("a labeler unassigned")
	}
	leaves := w.verify()
	for _, l := range leaves {
		text, ok := l.Text(audit.FieldShardSet)
		if !ok {
			continue
		}
		named, found := strings.CutSuffix(text, ",…")
		if !found {
			t.Fatalf("%d bytes without an ellipsis", len(text))
		}
		for n := range must[dataset.ShardSet](t)(dataset.ParseShardSet(named)).All() {
			if !set.Has(n) {
				t.Errorf("shard %d is named", n)
			}
		}
		return
	}
	t.Error("no leaf names the shards")
}

// TestMissingObjectIsCorruption: a row without its object is never "not found".
func TestMissingObjectIsCorruption(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	for o, err := range w.objects.List(ctx, "v1/") {
		if err != nil {
			t.Fatal(err)
		}
		if err := w.objects.Delete(ctx, o.Key); err != nil {
			t.Fatal(err)
		}
	}
	_, err := w.read("carol", "acme/signs/batch-1", 0)
	wantCode(t, err, fault.Corrupt)
}

// TestChangedObject: bytes that were swapped in storage are not delivered as if
// they were right.
func TestChangedObject(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	for o, err := range w.objects.List(ctx, "v1/") {
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(o.Key))
		must[storage.Object](t)(w.objects.Put(ctx, o.Key, io.LimitReader(neverEnding(sum[0]), o.Size), o.Size))
	}
	if _, err := w.read("carol", "acme/signs/batch-1", 0); fault.CodeOf(err) != fault.Corrupt {
		t.Errorf("got %v", err)
	}
}

type neverEnding byte

func (b neverEnding) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(b)
	}
	return len(p), nil
}

// TestOneUploadPerAttempt: bytes that are committed cannot be changed by a
// second request for the same attempt, whenever it ends.
func TestOneUploadPerAttempt(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	const ds = "acme/signs/batch-5"
	_, to := w.openDataset(ds)
	plain := []byte("committed")
	sealed := must[[]byte](t)(seal.SealBytes(plain, to))
	up := must[wire.Upload](t)(w.v.StartUpload(ctx, w.as("carol"), dataset.ShardRef{Dataset: w.scope(ds)}, wire.NewUpload{Fingerprint: make([]byte, 32), Size: int64(len(plain))}))
	put := func(body io.Reader) error {
		_, err := w.v.StoreUpload(ctx, w.as("carol"), w.scope(ds), up.Attempt, body, int64(len(sealed)))
		return err
	}
	// The slow one comes first and is still at it when the other one comes.
	r, slow := io.Pipe()
	first := make(chan error, 1)
	go func() { first <- put(r) }()
	if _, err := slow.Write(sealed[:100]); err != nil {
		t.Fatal(err)
	}
	wantCode(t, put(bytes.NewReader(sealed)), fault.Conflict)
	slow.Write(sealed[100:])
	slow.Close()
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	wantCode(t, put(bytes.NewReader(sealed)), fault.Conflict)
}

// TestOnlyTheOwnerDropsShards: completing a dataset with fewer shards than it
// has is not a way to delete what others have uploaded.
func TestOnlyTheOwnerDropsShards(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	const ds = "acme/signs/batch-6"
	w.upload("carol", ds, 0, []byte("first"))
	w.upload("carol", ds, 1, []byte("second"))
	w.tokens["bot"] = must[wire.NewToken](t)(w.v.Invite(ctx, w.as("root"), wire.NewPerson{Handle: "bot", Service: true})).Token
	w.grant(dataset.Service, "bot", "acme/signs", nil)
	_, err := w.v.Complete(ctx, w.as("bot"), w.scope(ds), wire.Complete{Shards: dataset.FirstShards(1)})
	wantCode(t, err, fault.Conflict)
	if d := must[wire.Dataset](t)(w.v.Dataset(ctx, w.as("carol"), w.scope(ds))); d.Shards != 2 || d.Complete {
		t.Errorf("%+v", d)
	}
	must[wire.Dataset](t)(w.v.Complete(ctx, w.as("bot"), w.scope(ds), wire.Complete{Shards: dataset.FirstShards(2)}))
}

// TestSweepKeepsWhatItDoesNotKnow: an object that no row names may be wanted by
// whoever restores a newer catalog.
func TestSweepKeepsWhatItDoesNotKnow(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	const key = "v1/dst_unknown/000000/att_unknown.age"
	must[storage.Object](t)(w.objects.Put(ctx, key, strings.NewReader("x"), 1))
	w.clock.Add(1000 * 24 * time.Hour)
	must[int](t)(w.v.Sweep(ctx, w.clock.Now()))
	must[storage.Object](t)(w.objects.Stat(ctx, key))
}

// TestStoreOfAnotherVault: two vaults do not share a store.
func TestStoreOfAnotherVault(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	other := "dsvault-other"
	must[storage.Object](t)(w.objects.Put(ctx, "vault", strings.NewReader(other), int64(len(other))))
	_, err := w.open()
	wantCode(t, err, fault.Conflict)
}
