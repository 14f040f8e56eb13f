package vault_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"dsvault/rbac"
	"dsvault/storage/catalog"
	"dsvault/storage/s3"
	"dsvault/storage/storagetest"
	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/keys"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

func init() {
	minio.DefaultRetryUnit, minio.DefaultRetryCap = time.Millisecond, 5*time.Millisecond // nothing here gets better by waiting
}

// eachS3 runs a test on every S3 server, next to others.
func eachS3(t *testing.T, test func(t *testing.T, w *world, server storagetest.S3Server, f *faultyS3)) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) storagetest.S3Server{
		"versitygw": storagetest.Versitygw, "minio": storagetest.MinIO, "rclone": storagetest.Rclone,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := start(t)
			f := &faultyS3{next: s3.NewTransport(false)}
			t.Cleanup(f.next.CloseIdleConnections)
			w := newS3World(t, server, f)
			w.setUp()
			test(t, w, server, f)
		})
	}
}

// patience is how long nothing may move in a request to a server here.
const patience = 2 * time.Second

// newS3World is newWorld with its objects on a server.
func newS3World(t *testing.T, server storagetest.S3Server, transport http.RoundTripper) *world {
	t.Helper()
	ctx := context.Background()
	w := &world{t: t, clock: &clock{t: time.Now().UTC()},
		tokens: map[string]string{}, devices: map[string]*seal.Identity{}, ids: map[string]dataset.DeviceID{}}
	data := t.TempDir()
	w.db = must[*catalog.DB](t)(catalog.Open(ctx, "sqlite:"+filepath.Join(data, "catalog.db"), catalog.Options{}))
	t.Cleanup(func() { w.db.Close() })
	w.objects = must[*s3.Store](t)(s3.Open(ctx, s3.Config{
		Endpoint: strings.TrimPrefix(server.Endpoint, "http://"), Bucket: server.Bucket, Region: server.Region, Transport: transport,
		Creds: credentials.NewStaticV4(server.AccessKey, server.SecretKey, ""), Patience: patience,
	}))
	keyDir := filepath.Join(data, "keys")
	if err := keys.Init(keyDir, "dsvault-test", keys.NewPassphrase(""), rand.Reader); err != nil {
		t.Fatal(err)
	}
	ring := must[*keys.Ring](t)(keys.Open(keyDir, keys.NewPassphrase(""), w.db, rand.Reader))
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	token, err := vault.Init(ctx, vault.InitConfig{Catalog: w.db, Keys: ring, Admin: "root", Logger: logger, Now: w.clock.Now, Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	w.tokens["root"] = token.Expose()
	w.v = must[*vault.Vault](t)(vault.Open(ctx, vault.Config{Catalog: w.db, Objects: w.objects, Keys: ring, Policy: rbac.Default(),
		Logger: logger, Now: w.clock.Now, Random: rand.Reader}))
	t.Cleanup(func() { w.v.Close() })
	w.login("root")
	return w
}

// faultyS3 stands between the vault and a server. From the at-th request on,
// for as many as times says, it does something wrong.
type faultyS3 struct {
	next *http.Transport

	mu        sync.Mutex
	seen, did int
	at, times int
	wrong     func(*http.Request, http.RoundTripper) (*http.Response, error)
}

func (f *faultyS3) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	f.seen++
	wrong := f.wrong
	if wrong == nil || f.seen < f.at || f.did >= f.times {
		wrong = nil
	} else {
		f.did++
	}
	f.mu.Unlock()
	if wrong != nil {
		return wrong(r, f.next)
	}
	return f.next.RoundTrip(r)
}

// arm sets a fault; the returned function ends it and says how often it came.
func (f *faultyS3) arm(at, times int, wrong func(*http.Request, http.RoundTripper) (*http.Response, error)) (disarm func() int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen, f.did, f.at, f.times, f.wrong = 0, 0, at, times, wrong
	return func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.wrong = nil
		return f.did
	}
}

type replaced struct {
	io.Reader
	io.Closer
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// failing is a connection that ends with an error.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// withBody changes the body of the server's answer, which has n bytes.
func withBody(change func(body io.Reader, n int64) io.Reader) func(*http.Request, http.RoundTripper) (*http.Response, error) {
	return func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		resp, err := next.RoundTrip(r)
		if err == nil && r.Method == http.MethodGet {
			resp.Body = replaced{change(resp.Body, resp.ContentLength), resp.Body}
		}
		return resp, err
	}
}

// wrongs are the faults, of which each may come at any request.
var wrongs = map[string]func(*http.Request, http.RoundTripper) (*http.Response, error){
	"lost answer": func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		resp, err := next.RoundTrip(r)
		if err == nil {
			resp.Body.Close()
			err = syscall.ECONNRESET
		}
		return nil, err
	},
	"reset in the request's body": func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if r.ContentLength > 0 {
			r = r.Clone(r.Context())
			r.Body = replaced{io.MultiReader(io.LimitReader(r.Body, r.ContentLength/2), failing{syscall.ECONNRESET}), r.Body}
		}
		return next.RoundTrip(r)
	},
	"503": func(r *http.Request, _ http.RoundTripper) (*http.Response, error) {
		if r.Body != nil {
			r.Body.Close()
		}
		return &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{}, Request: r,
			Body: io.NopCloser(strings.NewReader("<Error><Code>SlowDown</Code></Error>"))}, nil
	},
	"wrong ETag": func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		resp, err := next.RoundTrip(r)
		if err == nil {
			resp.Header.Set("ETag", `"d41d8cd98f00b204e9800998ecf8427e"`)
		}
		return resp, err
	},
	"reset in the answer's body": withBody(func(body io.Reader, n int64) io.Reader {
		return io.MultiReader(io.LimitReader(body, n/2), failing{syscall.ECONNRESET})
	}),
	"stall": func(r *http.Request, _ http.RoundTripper) (*http.Response, error) {
		if r.Body != nil {
			r.Body.Close()
		}
		<-r.Context().Done() // there is no other end
		return nil, r.Context().Err()
	},
	"stall in the answer's body": func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		resp, err := next.RoundTrip(r)
		if err == nil && r.Method == http.MethodGet {
			stalled := readerFunc(func([]byte) (int, error) { <-r.Context().Done(); return 0, r.Context().Err() })
			resp.Body = replaced{io.MultiReader(io.LimitReader(resp.Body, resp.ContentLength/2), stalled), resp.Body}
		}
		return resp, err
	},
	"truncated answer": withBody(func(body io.Reader, n int64) io.Reader { return io.LimitReader(body, n/2) }),
	"damaged answer": withBody(func(body io.Reader, n int64) io.Reader {
		half := io.LimitReader(body, n/2)
		return io.MultiReader(half, skipOne(body), bytes.NewReader([]byte{0}))
	}),
}

// skipOne leaves the first byte of r out.
func skipOne(r io.Reader) io.Reader {
	return &skipping{r: r}
}

type skipping struct {
	r    io.Reader
	done bool
}

func (s *skipping) Read(b []byte) (int, error) {
	if !s.done {
		s.done = true
		if _, err := io.ReadFull(s.r, make([]byte, 1)); err != nil {
			return 0, err
		}
	}
	return s.r.Read(b)
}

const forever = 1 << 30

// TestS3UploadFaults makes each fault at each request of an upload, once and for
// ever. What was acknowledged can be read; what was not can be sent again.
func TestS3UploadFaults(t *testing.T) {
	eachS3(t, func(t *testing.T, w *world, _ storagetest.S3Server, f *faultyS3) {
		n := 0
		try := func(ds, name string, plain []byte, times int) {
			for at, came := 1, 1; came > 0; at++ { // until the upload has fewer requests
				disarm := f.arm(at, times, wrongs[name])
				err := w.upload("carol", ds, n, plain)
				came = disarm()
				why := fmt.Sprintf("%s at request %d, %d times, %d bytes", name, at, times, len(plain))
				switch {
				case err == nil:
				case fault.Is(err, fault.Unavailable), name == "damaged answer", name == "wrong ETag" && fault.Is(err, fault.Corrupt):
					if _, err := w.read("carol", ds, n); !fault.Is(err, fault.NotFound) {
						t.Errorf("%s: not acknowledged, and yet: %v", why, err)
					}
					if err := w.upload("carol", ds, n, plain); err != nil {
						t.Errorf("%s: the next attempt: %v", why, err)
					}
				default:
					t.Errorf("%s: %v", why, err)
				}
				if got, err := w.read("carol", ds, n); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("%s: acknowledged, but read %d bytes, %v", why, len(got), err)
				}
				n++
			}
		}
		const ds = "acme/signs/faults"
		w.openDataset(ds)
		small, large := []byte(strings.Repeat("secret ", 10_000)), make([]byte, 17<<20) // large is put in two parts
		for name := range wrongs {
			try(ds, name, small, 1)
		}
		for _, name := range []string{"lost answer", "503", "wrong ETag"} {
			try(ds, name, small, forever)
		}
		try(ds, "lost answer", large, 1)
		if os.Getenv("DSVAULT_TEST_FULL") == "1" {
			try(ds, "lost answer", large, forever)
			for _, name := range []string{"reset in the request's body", "503", "wrong ETag", "stall"} {
				try(ds, name, large, 1)
			}
		}
		commits := make(map[uint32]int)
		for _, l := range w.verify() {
			if l.Kind == audit.KindUploadEnd && l.Object.ID == w.datasetID(ds) {
				commits[l.Object.Number]++
			}
		}
		for shard := range n {
			if commits[uint32(shard)] != 1 {
				t.Errorf("shard %d was committed %d times", shard, commits[uint32(shard)])
			}
		}
	})
}

// TestS3ReadFaults: a read never gives wrong bytes for right ones, and its end
// is recorded as it was.
func TestS3ReadFaults(t *testing.T) {
	eachS3(t, func(t *testing.T, w *world, _ storagetest.S3Server, f *faultyS3) {
		const ds = "acme/signs/batch-1"
		plain := []byte(strings.Repeat("secret ", 50_000))
		ref := dataset.ShardRef{Dataset: w.scope(ds), Number: 0}
		sent := map[uint64]int{} // by the index of the read's leaf
		finished := map[uint64]bool{}
		for name, wrong := range wrongs {
			for _, times := range []int{1, forever} {
				disarm := f.arm(1, times, wrong)
				// Storage is asked while the read is recorded: what it answers is told afterwards.
				s := must[*vault.ShardStream](t)(w.v.ReadShard(context.Background(), w.as("carol"), ref, w.ids["carol"], ""))
				var sealed bytes.Buffer
				err := s.Send(&sealed, func() {})
				if disarm() == 0 {
					t.Errorf("%s: nothing went wrong", name)
				}
				sent[s.Index], finished[s.Index] = sealed.Len(), err == nil
				if err == nil && int64(sealed.Len()) != s.Size {
					t.Errorf("%s: a finished read of %d bytes sent %d", name, s.Size, sealed.Len())
				}
				if err != nil && !fault.Is(err, fault.Unavailable) && !fault.Is(err, fault.Corrupt) {
					t.Errorf("%s: %v", name, err)
				}
				got, opened := open(&sealed, w.devices["carol"])
				if opened == nil && !bytes.Equal(got, plain) {
					t.Errorf("%s: other bytes were opened as if they were right", name)
				}
				if damaged := name == "damaged answer"; damaged == (opened == nil) && err == nil {
					t.Errorf("%s: Send succeeded, opening said %v", name, opened)
				}
			}
		}
		checkReadEnds(t, w, sent, finished)
	})
}

func (w *world) datasetID(ds string) dataset.DatasetID {
	w.t.Helper()
	d := must[wire.Dataset](w.t)(w.v.Dataset(context.Background(), w.as("carol"), w.scope(ds)))
	return d.ID
}

func open(r io.Reader, id *seal.Identity) ([]byte, error) {
	plain, err := seal.Open(r, id)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(plain)
}

// checkReadEnds compares the log with what readers got.
func checkReadEnds(t *testing.T, w *world, sent map[uint64]int, finished map[uint64]bool) {
	t.Helper()
	ends := 0
	for _, l := range w.verify() {
		if l.Kind != audit.KindReadEnd {
			continue
		}
		of, _ := l.Uint64(audit.FieldRefIndex)
		want, ok := sent[of]
		if !ok {
			continue
		}
		ends++
		n, _ := l.Uint64(audit.FieldBytesSent)
		cause, _ := l.Text(audit.FieldCause)
		if int(n) != want || (cause == "finished") != finished[of] {
			t.Errorf("the log says %q after %d bytes; the reader got %d, to the end: %v", cause, n, want, finished[of])
		}
	}
	if ends != len(sent) {
		t.Errorf("%d reads, %d ends in the log", len(sent), ends)
	}
}

// TestS3Overwritten: an object that was replaced in storage is corruption, from
// the first byte on.
func TestS3Overwritten(t *testing.T) {
	eachS3(t, func(t *testing.T, w *world, _ storagetest.S3Server, _ *faultyS3) {
		ctx := context.Background()
		ref := dataset.ShardRef{Dataset: w.scope("acme/signs/batch-1"), Number: 0}
		for o, err := range w.objects.List(ctx, "") {
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.objects.Put(ctx, o.Key, io.LimitReader(neverEnding('x'), o.Size), o.Size); err != nil {
				t.Fatal(err)
			}
		}
		s := must[*vault.ShardStream](t)(w.v.ReadShard(ctx, w.as("carol"), ref, w.ids["carol"], ""))
		var sealed bytes.Buffer
		err := s.Send(&sealed, func() {})
		wantCode(t, err, fault.Corrupt)
		if sealed.Len() > 0 {
			t.Errorf("%d bytes were sent of an object that was overwritten", sealed.Len())
		}
		checkReadEnds(t, w, map[uint64]int{s.Index: 0}, map[uint64]bool{})
	})
}

// TestS3Check: the check takes no server's ways for damage, and sees damage on
// each.
func TestS3Check(t *testing.T) {
	eachS3(t, func(t *testing.T, w *world, _ storagetest.S3Server, _ *faultyS3) {
		ctx := context.Background()
		const ds = "acme/signs/parts"
		if err := w.upload("carol", ds, 0, make([]byte, 17<<20)); err != nil { // in two parts
			t.Fatal(err)
		}
		all := wire.NewCheck{Scope: dataset.Root, Data: true}
		c, found := w.check(all)
		w.wants(c, found)
		if c.Checked != c.Objects || c.Read != c.Bytes {
			t.Errorf("%+v", c)
		}
		key, lost := w.objectKey(ds, 0), w.objectKey("acme/signs/batch-1", 0)
		data := w.contents(key)
		data[17<<19] ^= 1
		w.overwrite(key, data)
		if err := w.objects.Delete(ctx, lost); err != nil {
			t.Fatal(err)
		}
		w.overwrite("v1/other.age", []byte("x"))
		c, found = w.check(all)
		w.wants(c, found, "changed "+ds+"/0", "extra", "missing acme/signs/batch-1/0")
	})
}

// TestS3KilledUpload: a vault that dies in an upload leaves parts in storage,
// which the sweep finds on every server.
func TestS3KilledUpload(t *testing.T) {
	eachS3(t, func(t *testing.T, w *world, server storagetest.S3Server, f *faultyS3) {
		ctx := context.Background()
		const ds, size = "acme/signs/killed", 17 << 20
		_, to := w.openDataset(ds)
		ref := dataset.ShardRef{Dataset: w.scope(ds), Number: 0}
		up := must[wire.Upload](t)(w.v.StartUpload(ctx, w.as("carol"), ref, wire.NewUpload{Fingerprint: make([]byte, 32), Size: size}))
		sealed := must[[]byte](t)(seal.SealBytes(make([]byte, size), to))
		name := ""
		disarm := f.arm(1, forever, func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			if r.URL.Query().Has("uploadId") && r.Method != http.MethodPut { // Complete, and the abort
				name = strings.TrimPrefix(r.URL.Path, "/"+server.Bucket+"/")
				return nil, syscall.ECONNRESET
			}
			return next.RoundTrip(r)
		})
		_, err := w.v.StoreUpload(ctx, w.as("carol"), ref.Dataset, up.Attempt, bytes.NewReader(sealed), int64(len(sealed)))
		disarm()
		wantCode(t, err, fault.Unavailable)

		core := must[*minio.Core](t)(minio.NewCore(strings.TrimPrefix(server.Endpoint, "http://"), &minio.Options{
			Creds: credentials.NewStaticV4(server.AccessKey, server.SecretKey, ""), Region: server.Region,
		}))
		unfinished := func() int {
			page, err := core.ListMultipartUploads(ctx, server.Bucket, name, "", "", "", 0)
			if err != nil && minio.ToErrorResponse(err).Code != minio.NoSuchUpload {
				t.Fatal(err)
			}
			return len(page.Uploads)
		}
		if n := unfinished(); n != 1 {
			t.Fatalf("%d unfinished uploads to %q, want 1", n, name)
		}
		w.clock.Add(25 * time.Hour)
		must[int](t)(w.v.Sweep(ctx, w.clock.Now().Add(-24*time.Hour)))
		if n := unfinished(); n != 0 {
			t.Errorf("after the sweep there are %d unfinished uploads", n)
		}
		if _, err := w.read("carol", "acme/signs/batch-1", 1); err != nil {
			t.Errorf("what was committed: %v", err)
		}
	})
}
