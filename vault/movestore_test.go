package vault_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/storage/dir"
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

// counting is a store that counts what is put into it, and calls after before
// each Put.
type counting struct {
	storage.Objects
	puts   atomic.Int64
	before func(n int64)
}

func (c *counting) Put(ctx context.Context, key string, r io.Reader, size int64) (storage.Object, error) {
	if n := c.puts.Add(1); c.before != nil {
		c.before(n)
	}
	return c.Objects.Put(ctx, key, r, size)
}

// move moves the objects of the world's vault, which is closed.
func (w *world) move(ctx context.Context, from, to storage.Objects, region string) (vault.MovedObjects, error) {
	w.t.Helper()
	ring := must[*keys.Ring](w.t)(keys.Open(w.keyDir, keys.NewPassphrase(""), w.db, rand.Reader))
	return vault.MoveObjects(ctx, vault.MoveConfig{
		Catalog: w.db, Keys: ring, From: from, To: to, Region: region, Logger: slog.New(slog.DiscardHandler), Now: w.clock.Now, Random: rand.Reader,
		Expect: func(int64) {}, Progress: func(int64) {},
	})
}

func (w *world) served(objects storage.Objects) error {
	w.t.Helper()
	w.objects = objects
	v, err := w.open()
	if err == nil {
		w.v = v
		w.t.Cleanup(func() { v.Close() })
	}
	return err
}

const many = "acme/signs/many"

// filled is a vault with shards, returned work, what a hold keeps, and an upload
// that is under way; it gives how many objects have to move.
func (w *world) filled() (objects int64) {
	w.t.Helper()
	w.setUp()
	w.claimable()
	w.assign("lee", "0-1")
	must[wire.Work](w.t)(w.submit("lee", 0, []byte("labels")))
	const shards = 24
	for n := range shards {
		if err := w.upload("carol", many, n, fmt.Append(nil, "shard ", n)); err != nil {
			w.t.Fatal(err)
		}
	}
	// A hold keeps what has come of an upload that was not finished.
	up := must[wire.Upload](w.t)(w.v.StartUpload(context.Background(), w.as("carol"), dataset.ShardRef{Dataset: w.scope(many), Number: 99}, wire.NewUpload{Fingerprint: make([]byte, 32), Size: 1}))
	sealed := make([]byte, seal.SealedSize(1))
	must[wire.Stored](w.t)(w.v.StoreUpload(context.Background(), w.as("carol"), w.scope(many), up.Attempt, bytes.NewReader(sealed), int64(len(sealed))))
	must[wire.Hold](w.t)(w.hold("root", many))
	other := must[wire.Dataset](w.t)(w.v.CreateDataset(context.Background(), w.as("carol"), w.scope("acme/signs/begun")))
	to := must[seal.Recipient](w.t)(seal.ParseRecipient(other.Recipient))
	if _, err := w.startUpload(0, "carol", "acme/signs/begun", 0, []byte("x"), must[[]byte](w.t)(seal.SealBytes([]byte("x"), to)), to); err != nil {
		w.t.Fatal(err)
	}
	return 2 + 1 + shards + 1
}

// whole reads everything that filled has put.
func (w *world) whole() {
	w.t.Helper()
	for n := range 24 {
		if got := string(must[[]byte](w.t)(w.read("carol", many, n))); got != fmt.Sprint("shard ", n) {
			w.t.Errorf("shard %d is %q", n, got)
		}
	}
	must[[]byte](w.t)(w.read("lee", workDataset, 1))
	page := must[wire.Page[wire.Work]](w.t)(w.v.Results(context.Background(), w.as("carol"), w.scope(workDataset), vault.ResultQuery{}))
	if len(page.Items) != 1 || string(must[[]byte](w.t)(w.result("carol", page.Items[0].ID))) != "labels" {
		w.t.Errorf("results: %+v", page.Items)
	}
	if c, found := w.check(wire.NewCheck{Scope: dataset.Root, Data: true}); c.State != "finished" || c.Damaged() || c.Extra > 0 {
		w.t.Errorf("the check found %v: %+v", found, c)
	}
}

// TestMoveObjects moves a vault from a folder to a bucket, with a damaged object
// and an interruption, and back; on both databases.
func TestMoveObjects(t *testing.T) {
	for name, url := range map[string]func() string{
		"sqlite":   func() string { return "sqlite:" + filepath.Join(t.TempDir(), "catalog.db") },
		"postgres": func() string { return storagetest.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			server := storagetest.Versitygw(t)
			w := newWorldOn(t, url(), catalog.Options{})
			total := w.filled()
			folder := w.objects
			bucket := &counting{Objects: must[*s3.Store](t)(s3.Open(t.Context(), s3.Config{
				Endpoint: strings.TrimPrefix(server.Endpoint, "http://"), Bucket: server.Bucket, Region: server.Region,
				Creds: credentials.NewStaticV4(server.AccessKey, server.SecretKey, ""),
			}))}

			// While a server runs, nothing is begun.
			if name == "postgres" {
				w.v.Close()
				w.shared = true
				if err := w.served(folder); err != nil {
					t.Fatal(err)
				}
				must[[]byte](t)(w.read("carol", many, 0))
				_, err := w.move(t.Context(), folder, bucket, "")
				wantCode(t, err, fault.Conflict)
			}
			w.v.Close()
			damaged := w.objectFile(w.objectKey(many, 20))
			right := must[[]byte](t)(os.ReadFile(damaged))
			wrong := bytes.Clone(right)
			wrong[len(wrong)-1] ^= 1
			w.replace(damaged, wrong)

			cut, cancel := context.WithCancel(t.Context())
			bucket.before = func(n int64) {
				if n == 16 {
					cancel()
				}
			}
			if _, err := w.move(cut, folder, bucket, ""); !errors.Is(err, context.Canceled) {
				t.Fatalf("interrupted: %v", err)
			}
			bucket.before = nil
			wantCode(t, w.served(bucket), fault.Conflict) // not whole

			done, err := w.move(t.Context(), folder, bucket, "")
			wantCode(t, err, fault.Corrupt)
			if done.Lost != 1 || len(done.Damaged) != 1 || done.Damaged[0].Shard != many+"/20" || done.Damaged[0].Kind != "changed" || done.Copied == 0 || done.Copied >= total-8 {
				t.Errorf("with a damaged object: %+v", done)
			}
			if _, err := bucket.Stat(t.Context(), done.Damaged[0].Key); !errors.Is(err, storage.ErrNoObject) {
				t.Errorf("the damaged object was copied: %v", err)
			}
			if err := w.served(folder); err != nil { // as before
				t.Fatal(err)
			}
			must[[]byte](t)(w.read("carol", many, 1))
			w.v.Close()
			w.replace(damaged, right)
			leaves := len(w.sound())

			done, err = w.move(t.Context(), folder, bucket, "")
			if err != nil || done.Objects != total || done.Copied != 1 || done.Extra != 0 {
				t.Fatalf("%+v of %d, %v", done, total, err)
			}
			after := w.sound()
			if last := after[len(after)-1]; len(after) != leaves+1 || last.Kind != audit.KindStorageMigrate {
				t.Errorf("%d records more, the last is %s", len(after)-leaves, last.Kind)
			} else if n, _ := last.Uint64(audit.FieldObjects); n != uint64(total) {
				t.Errorf("the record says %d objects", n)
			}
			if err := w.served(folder); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.HintOf(err), "--objects") {
				t.Errorf("served from the old store: %v", err)
			}
			if err := w.served(bucket); err != nil {
				t.Fatal(err)
			}
			w.whole()

			// What is pushed now is there; and back, where nearly all is still there.
			if err := w.upload("carol", "acme/signs/begun", 0, []byte("y")); err != nil {
				t.Fatal(err)
			}
			w.v.Close()
			back := &counting{Objects: folder}
			if done, err = w.move(t.Context(), bucket, back, ""); err != nil || done.Objects != total+1 || done.Copied != 1 || done.Extra != 0 {
				t.Fatalf("back: %+v, %v", done, err)
			}
			wantCode(t, w.served(bucket), fault.Conflict)
			if err := w.served(folder); err != nil {
				t.Fatal(err)
			}
			w.whole()
		})
	}
}

// replace puts a file in place of another, as a rotting disk does: with its time.
func (w *world) replace(path string, data []byte) {
	w.t.Helper()
	info := must[os.FileInfo](w.t)(os.Stat(path))
	if err := os.WriteFile(path, data, 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		w.t.Fatal(err)
	}
}

// TestMoveRegion moves the store of one region, and leaves the other alone.
func TestMoveRegion(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.regions = t.TempDir()
	stores, err := w.withRegions("eu")
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	must[wire.Entry](t)(w.v.CreateProject(ctx, w.as("root"), wire.NewProject{Scope: w.scope("acme/faces"), Purposes: []string{"labeling"}, Region: "eu"}))
	const ds = "acme/faces/batch-1"
	w.faces(ds, 3)
	w.v.Close()
	to := must[*dir.Store](t)(dir.Open(filepath.Join(t.TempDir(), "eu")))
	for name, from := range map[string]storage.Objects{"another region's": stores[""], "an empty store": must[*dir.Store](t)(dir.Open(filepath.Join(t.TempDir(), "none")))} {
		if _, err := w.move(t.Context(), from, to, "eu"); !fault.Is(err, fault.Conflict) {
			t.Errorf("from %s: %v", name, err)
		}
	}
	if _, err := w.move(t.Context(), stores["eu"], stores[""], "eu"); !fault.Is(err, fault.Conflict) {
		t.Errorf("to another region's: %v", err)
	}
	done, err := w.move(t.Context(), stores["eu"], to, "eu")
	if err != nil || done.Objects != 3 {
		t.Fatalf("%+v, %v", done, err)
	}
	serve := func(eu storage.Objects) error {
		return w.served(storage.NewRegions(stores[""], map[string]storage.Objects{"eu": eu}))
	}
	wantCode(t, serve(stores["eu"]), fault.Conflict)
	if err := serve(to); err != nil {
		t.Fatal(err)
	}
	must[[]byte](t)(w.read("elsa", ds, 2))
	must[[]byte](t)(w.read("carol", workDataset, 1))
	w.v.Close()

	// A catalog from before, and the new store: said twice, it is pinned anew.
	if done, err = w.move(t.Context(), to, to, "eu"); err != nil || done.Copied != 0 || done.Objects != 3 {
		t.Fatalf("pinned anew: %+v, %v", done, err)
	}
	if err := serve(to); err != nil {
		t.Fatal(err)
	}
	must[[]byte](t)(w.read("elsa", ds, 2))
}
