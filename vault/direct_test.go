package vault_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"dsvault/storage"
	"dsvault/storage/storagetest"
	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// directUpload is one that goes straight to the object store.
type directUpload struct {
	w      *world
	who    string
	scope  dataset.Scope
	id     dataset.AttemptID
	number int
	plain  []byte
	sealed []byte
	to     seal.Recipient
}

func (w *world) startDirect(who, ds string, n int, plain []byte) *directUpload {
	w.t.Helper()
	ctx := context.Background()
	_, to := w.openDataset(ds)
	d := &directUpload{w: w, who: who, scope: w.scope(ds), number: n, plain: plain, to: to, sealed: must[[]byte](w.t)(seal.SealBytes(plain, to))}
	up := must[wire.Upload](w.t)(w.v.StartUpload(ctx, w.as(who), dataset.ShardRef{Dataset: d.scope, Number: n},
		wire.NewUpload{Fingerprint: make([]byte, 32), Size: int64(len(plain))}))
	d.id = up.Attempt
	started := must[wire.DirectUpload](w.t)(w.v.StartDirect(ctx, w.as(who), d.scope, d.id))
	if want := len(d.cut()); started.PartSize != dataset.PartSize || started.Parts != want {
		w.t.Errorf("%+v, want %d parts", started, want)
	}
	return d
}

func (d *directUpload) cut() (parts [][]byte) {
	for rest := d.sealed; len(rest) > 0; {
		n := min(len(rest), dataset.PartSize)
		parts, rest = append(parts, rest[:n]), rest[n:]
	}
	return parts
}

func (d *directUpload) sum() []byte {
	h := dataset.SealedHash(dataset.PartSize)
	h.Write(d.sealed)
	return h.Sum(nil)
}

func (d *directUpload) presign(n int, sum [32]byte) (wire.Presigned, error) {
	out, err := d.w.v.PresignParts(context.Background(), d.w.as(d.who), d.scope, d.id, wire.Parts{Parts: []wire.Part{{Number: n, SHA256: sum[:]}}})
	if err != nil {
		return wire.Presigned{}, err
	}
	return out.Presigned[0], nil
}

// use makes the request that a presigned URL is for, without credentials.
func use(t testing.TB, method string, p wire.Presigned, body []byte, header ...string) (int, []byte) {
	t.Helper()
	req, err := http.NewRequest(method, p.URL.Expose(), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range p.Header {
		req.Header.Set(name, value)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil && method == http.MethodPut { // servers hang up on a body that they do not want
		return 599, []byte(err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode, must[[]byte](t)(io.ReadAll(resp.Body))
}

func (d *directUpload) putAll() (urls []wire.Presigned) {
	d.w.t.Helper()
	for i, part := range d.cut() {
		p := must[wire.Presigned](d.w.t)(d.presign(i+1, sha256.Sum256(part)))
		if status, answer := use(d.w.t, http.MethodPut, p, part); status != http.StatusOK {
			d.w.t.Fatalf("PUT of part %d: %d %s", i+1, status, answer)
		}
		urls = append(urls, p)
	}
	return urls
}

func (d *directUpload) join() (wire.Stored, error) {
	return d.w.v.JoinParts(context.Background(), d.w.as(d.who), d.scope, d.id)
}

func (d *directUpload) commit(sum []byte) error {
	hash := sha256.Sum256(d.plain)
	m := dataset.Manifest{Version: dataset.ManifestVersion, Number: d.number, Packing: dataset.PackFile, Name: "f", Size: int64(len(d.plain)), SHA256: hash[:]}
	manifest := must[[]byte](d.w.t)(seal.SealBytes(must[[]byte](d.w.t)(m.Encode()), d.to))
	_, err := d.w.v.CommitUpload(context.Background(), d.w.as(d.who), d.scope, d.id, wire.Commit{SHA256: sum, Manifest: manifest})
	return err
}

// TestDirectUpload: what came straight to storage is a shard like any other, and
// nobody who still has a presigned URL changes it.
func TestDirectUpload(t *testing.T) {
	eachS3(t, func(t *testing.T, w *world, _ storagetest.S3Server, _ *faultyS3) {
		for n, size := range []int{0, 100_000, dataset.PartSize + 1000} {
			d := w.startDirect("carol", "acme/signs/direct", n, bytes.Repeat([]byte("x"), size))
			urls := d.putAll()
			stored := must[wire.Stored](t)(d.join())
			if stored.Sealed != int64(len(d.sealed)) || !bytes.Equal(stored.SHA256, d.sum()) {
				t.Errorf("%+v", stored)
			}
			wantCode(t, d.commit(make([]byte, 32)), fault.Invalid)
			if err := d.commit(d.sum()); err != nil {
				t.Fatal(err)
			}
			for i, p := range urls {
				if status, _ := use(t, http.MethodPut, p, d.cut()[i]); status < 400 {
					t.Errorf("a part is taken after the commit: %d", status)
				}
			}
			if got, err := w.read("carol", "acme/signs/direct", n); err != nil || !bytes.Equal(got, d.plain) {
				t.Errorf("read %d bytes, %v", len(got), err)
			}
		}
		ends := 0
		for _, l := range w.verify() {
			if size, ok := l.Uint64(audit.FieldPartSize); ok && l.Kind == audit.KindUploadEnd {
				_, sum := l.Bytes(audit.FieldPartsSHA256)
				if _, whole := l.Bytes(audit.FieldSealedSHA256); size != dataset.PartSize || !sum || whole {
					t.Errorf("the record says %v", l.Texts())
				}
				ends++
			}
		}
		if ends != 2+3 { // two of batch-1 came through the vault, which hashes alike
			t.Errorf("%d records of parts", ends)
		}
	})
}

// TestDirectUploadLies: an uploader cannot commit other bytes than those that
// were announced, each once, and leaves nothing behind.
func TestDirectUploadLies(t *testing.T) {
	eachS3(t, func(t *testing.T, w *world, _ storagetest.S3Server, _ *faultyS3) {
		ctx := context.Background()
		const ds = "acme/signs/lies"
		plain := bytes.Repeat([]byte("x"), dataset.PartSize)
		wrong := func(b []byte) []byte {
			b = bytes.Clone(b)
			b[len(b)/2] ^= 1
			return b
		}
		start := func() *directUpload { return w.startDirect("carol", ds, 0, plain) }

		d := start() // other bytes of the same size
		for i, part := range d.cut() {
			p := must[wire.Presigned](t)(d.presign(i+1, sha256.Sum256(part)))
			use(t, http.MethodPut, p, wrong(part))
		}
		_, err := d.join()
		wantCode(t, err, fault.Invalid)
		_, err = d.join()
		wantCode(t, err, fault.NotFound) // it was given up

		d = start() // a part is announced anew, with other bytes
		d.putAll()
		_, err = d.presign(1, sha256.Sum256(wrong(d.cut()[0])))
		wantCode(t, err, fault.Conflict)
		must[wire.Presigned](t)(d.presign(1, sha256.Sum256(d.cut()[0]))) // with the same it may be
		must[wire.Stored](t)(d.join())
		_, err = d.join()
		wantCode(t, err, fault.Conflict)
		_, err = d.presign(1, sha256.Sum256(d.cut()[0]))
		wantCode(t, err, fault.Conflict)
		if err := d.commit(d.sum()); err != nil {
			t.Fatal(err)
		}

		d = start() // not all parts
		_, err = d.join()
		wantCode(t, err, fault.Conflict)
		must[wire.Presigned](t)(d.presign(1, sha256.Sum256(d.cut()[0])))
		must[wire.Presigned](t)(d.presign(2, sha256.Sum256(d.cut()[1])))
		_, err = d.join() // announced, and not put
		wantCode(t, err, fault.Invalid)

		d = start() // out of bounds
		for _, n := range []int{-1, 0, 3, 10_001} {
			_, err = d.presign(n, [32]byte{})
			wantCode(t, err, fault.Invalid)
		}
		for _, parts := range [][]wire.Part{nil, {{Number: 1, SHA256: []byte("short")}}, make([]wire.Part, wire.MaxPresigned+1)} {
			_, err = w.v.PresignParts(ctx, w.as("carol"), d.scope, d.id, wire.Parts{Parts: parts})
			wantCode(t, err, fault.Invalid)
		}
		// Through the vault and directly is once too often.
		_, err = w.v.StoreUpload(ctx, w.as("carol"), d.scope, d.id, bytes.NewReader(d.sealed), int64(len(d.sealed)))
		wantCode(t, err, fault.Conflict)
		_, err = w.v.StartDirect(ctx, w.as("carol"), d.scope, d.id)
		wantCode(t, err, fault.Conflict)
		// What is not one's own does not exist.
		w.invite("carl")
		w.grant(dataset.ClientUser, "carl", "acme", nil)
		d.who = "carl"
		_, err = d.presign(1, [32]byte{})
		wantCode(t, err, fault.NotFound)
		_, err = d.join()
		wantCode(t, err, fault.NotFound)
		d.who = "carol"

		// Sealed to somebody else: found at the commit.
		other := must[*seal.Identity](t)(seal.GenerateIdentity())
		foreign := w.startDirect("carol", ds, 1, plain)
		foreign.sealed = must[[]byte](t)(seal.SealBytes(plain, other.Recipient()))
		foreign.putAll()
		must[wire.Stored](t)(foreign.join())
		wantCode(t, foreign.commit(foreign.sum()), fault.Invalid)

		// d was abandoned with a part in storage.
		p := must[wire.Presigned](t)(d.presign(1, sha256.Sum256(d.cut()[0])))
		if status, _ := use(t, http.MethodPut, p, d.cut()[0]); status != http.StatusOK {
			t.Errorf("PUT: %d", status)
		}
		w.clock.Add(25 * time.Hour)
		must[int](t)(w.v.Sweep(ctx, w.clock.Now().Add(-24*time.Hour)))
		if status, _ := use(t, http.MethodPut, p, d.cut()[0]); status < 400 {
			t.Errorf("an upload that was swept takes a part: %d", status)
		}
		_, err = d.join()
		wantCode(t, err, fault.NotFound)
		objects := 0
		for _, err := range w.objects.List(ctx, "v1/") {
			if err != nil {
				t.Fatal(err)
			}
			objects++
		}
		if objects != 3 { // two of batch-1, one of this
			t.Errorf("%d objects are left", objects)
		}
		w.verify()
	})
}

// TestDirectRead: only where the project allows it, on record before the URL is
// there, and to the end, as nobody counts.
func TestDirectRead(t *testing.T) {
	eachS3(t, func(t *testing.T, w *world, _ storagetest.S3Server, _ *faultyS3) {
		ctx := context.Background()
		ref := dataset.ShardRef{Dataset: w.scope("acme/signs/batch-1"), Number: 0}
		w.assign("lee", "0")
		_, err := w.v.ReadDirect(ctx, w.as("lee"), ref, w.ids["lee"], "labeling")
		wantCode(t, err, fault.Forbidden)
		if err := w.delivery("carol", dataset.Direct); err != nil {
			t.Fatal(err)
		}
		_, err = w.v.ReadDirect(ctx, w.as("stranger"), ref, w.ids["stranger"], "labeling")
		wantCode(t, err, fault.NotFound)
		_, err = w.v.ReadDirect(ctx, w.as("lee"), ref, w.ids["lee"], "training")
		wantCode(t, err, fault.Forbidden)
		d := must[vault.DirectRead](t)(w.v.ReadDirect(ctx, w.as("lee"), ref, w.ids["lee"], "labeling"))
		status, payload := use(t, http.MethodGet, d.Object, nil, "Range", fmt.Sprintf("bytes=%d-", d.Offset), "If-Match", `"`+d.ETag+`"`)
		if status != http.StatusPartialContent || int64(len(payload)) != d.Size {
			t.Fatalf("GET: %d with %d bytes, want %d", status, len(payload), d.Size)
		}
		got, err := open(io.MultiReader(bytes.NewReader(d.Header), bytes.NewReader(payload)), w.devices["lee"])
		if want, _ := w.read("carol", "acme/signs/batch-1", 0); err != nil || !bytes.Equal(got, want) {
			t.Errorf("it opens to %d bytes, %v", len(got), err)
		}
		must[[]byte](t)(seal.OpenBytes(d.Manifest, w.devices["lee"], dataset.MaxManifest))
		if text := fmt.Sprintf("%v %+v %#v", d, d, d); strings.Contains(text, "Signature") {
			t.Error("printing shows the URL")
		}
		var read, end int
		for _, l := range w.verify() {
			delivery, _ := l.Text(audit.FieldDelivery)
			cause, _ := l.Text(audit.FieldCause)
			n, _ := l.Uint64(audit.FieldBytesSent)
			if l.Kind == audit.KindRead && delivery == "direct" {
				read++
			}
			if l.Kind == audit.KindReadEnd && cause == "unmetered" && int64(n) == int64(len(d.Header))+d.Size {
				end++
			}
		}
		if read != 1 || end != 1 {
			t.Errorf("%d reads and %d ends are in the log as direct", read, end)
		}
	})
}

// TestDirectNeedsS3: a folder gives no presigned URLs, and says so.
func TestDirectNeedsS3(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	w.openDataset("acme/signs/direct")
	ref := dataset.ShardRef{Dataset: w.scope("acme/signs/direct")}
	up := must[wire.Upload](t)(w.v.StartUpload(ctx, w.as("carol"), ref, wire.NewUpload{Fingerprint: make([]byte, 32), Size: 4}))
	_, err := w.v.StartDirect(ctx, w.as("carol"), ref.Dataset, up.Attempt)
	wantCode(t, err, fault.Conflict)
	if !strings.Contains(fault.HintOf(err), "--direct") {
		t.Errorf("%v", err)
	}
	_, err = w.v.ReadDirect(ctx, w.as("carol"), dataset.ShardRef{Dataset: w.scope("acme/signs/batch-1")}, w.ids["carol"], "")
	wantCode(t, err, fault.Conflict)
}

// presigner is a store that gives URLs, and does something before.
type presigner struct {
	storage.Objects
	storage.Direct
	before func()
}

func (p *presigner) PresignObject(context.Context, string) (storage.Presigned, error) {
	p.before()
	return storage.Presigned{}, nil
}

// TestDirectReadLogsOut: no URL is handed out on a token that has ended while it was
// made, and the log has the read as one that may have been used.
func TestDirectReadLogsOut(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	if err := w.delivery("carol", dataset.Direct); err != nil {
		t.Fatal(err)
	}
	store := &presigner{Objects: w.objects}
	w.objects = store
	w.restart()
	ref := dataset.ShardRef{Dataset: w.scope("acme/signs/batch-1")}
	for name, before := range map[string]func(){
		"goes on": func() {
			must[wire.Assignment](t)(w.v.Assign(t.Context(), w.as("root"), wire.Assignment{Dataset: ref.Dataset, Person: "lee", Shards: must[dataset.ShardSet](t)(dataset.ParseShardSet("0"))}))
		},
		"is over": func() {
			w.tokens["carol"] = must[wire.NewToken](t)(w.v.RotateToken(t.Context(), w.as("root"), "carol")).Token
		},
	} {
		store.before = before
		_, err := w.v.ReadDirect(t.Context(), w.as("carol"), ref, w.ids["carol"], "labeling")
		if over := name == "is over"; over != fault.Is(err, fault.Forbidden) || !over && err != nil {
			t.Errorf("on a token that %s: %v", name, err)
		}
	}
	unmetered := 0
	for _, l := range w.verify() {
		if cause, _ := l.Text(audit.FieldCause); cause == "unmetered" {
			unmetered++
		}
	}
	if unmetered != 2 {
		t.Errorf("%d reads are in the log as unmetered", unmetered)
	}
}
