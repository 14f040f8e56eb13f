package vault_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/storage/dir"
	"dsvault/storage/storagetest"
	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/keys"
	"dsvault/vault/notary"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// TestEraseTakesTwo: one person does not erase; two do, and both are in the
// certificate.
func TestEraseTakesTwo(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	for who, code := range map[string]fault.Code{"audrey": fault.Forbidden, "rita": fault.Forbidden, "lee": fault.NotFound, "stranger": fault.NotFound} {
		_, err := w.v.Erase(ctx, w.as(who), wire.NewErasure{Scope: w.scope(keptDataset)})
		if fault.CodeOf(err) != code {
			t.Errorf("%s: %v, want %s", who, err, code)
		}
	}
	_, err := w.v.Erase(ctx, w.as("root"), wire.NewErasure{Scope: dataset.Root})
	wantCode(t, err, fault.Invalid)

	other := w.newDataset(1)
	ask := func(who, scope string) *wire.Approval {
		t.Helper()
		e := must[wire.Erasure](t)(w.v.Erase(ctx, w.as(who), wire.NewErasure{Scope: w.scope(scope), Reason: "end of contract"}))
		if e.Pending == nil || e.State != "asked" {
			t.Fatalf("%s erased alone: %+v", who, e)
		}
		return e.Pending
	}
	byAdmin, byClient := ask("root", keptDataset), ask("carol", other)
	if again := ask("root", keptDataset); again.ID != byAdmin.ID {
		t.Errorf("asked twice: %+v", again)
	}
	must[[]byte](t)(w.read("carol", keptDataset, 0))
	_, err = w.v.Approve(ctx, w.as("root"), byAdmin.ID)
	wantCode(t, err, fault.Forbidden)
	// A hold that comes before the second person stops it all the same.
	hold := must[wire.Hold](t)(w.hold("root", "acme/signs"))
	_, err = w.v.Approve(ctx, w.as("second"), byAdmin.ID)
	if fault.CodeOf(err) != fault.Forbidden || !strings.Contains(strings.Join(reasonsOf(err), " "), "hold") {
		t.Errorf("under a hold: %v", err)
	}
	must[[]byte](t)(w.read("carol", keptDataset, 0))
	w.release(hold.ID)

	must[wire.Approval](t)(w.v.Approve(ctx, w.as("second"), byAdmin.ID)) // approved before: carried out now
	_, err = w.read("carol", keptDataset, 0)
	wantCode(t, err, fault.Gone)
	must[wire.Approval](t)(w.v.Approve(ctx, w.as("second"), byClient.ID))
	w.v.Chores(ctx)
	for scope, by := range map[string]string{keptDataset: "root", other: "carol"} {
		list := w.erasures(scope)
		if len(list) != 1 || list[0].State != "complete" || list[0].Cause != "request" {
			t.Fatalf("%+v", list)
		}
		if e := w.certificate(list[0]).Erasure; e.By != by || e.Second != "second" || e.Reason != "end of contract" || len(e.Datasets) != 1 || e.Datasets[0].Scope != scope {
			t.Errorf("the certificate says %+v", e)
		}
	}
	w.nothingLeft()
	_, err = w.v.Erase(ctx, w.as("root"), wire.NewErasure{Scope: w.scope(other)})
	wantCode(t, err, fault.Conflict)
	w.verify()
}

func reasonsOf(err error) []string {
	var e *fault.Error
	if errors.As(err, &e) {
		return e.Reasons
	}
	return nil
}

// TestEraseGoesOn fails every statement of an expiry and an erasure in turn, as a
// crash at that point would. What was begun goes on; and nothing is called
// complete, and no certificate is given, before nothing is left.
func TestEraseGoesOn(t *testing.T) {
	faults := &storagetest.SQLFaults{}
	w := newWorldOn(t, "sqlite:"+filepath.Join(t.TempDir(), "catalog.db"), catalog.Options{Wrap: faults.Wrap})
	w.setUp()
	ctx := context.Background()
	step := 4
	if os.Getenv("DSVAULT_TEST_FULL") == "1" {
		step = 1
	}
	kinds := []storagetest.SQLFault{storagetest.NotRun, storagetest.ReplyLost}
	statements := 0
	for n := 1; !t.Failed(); n += step {
		ds := w.newDataset(2)
		w.keep(ds, storage.KeepData, "1d")
		w.clock.Add(24*time.Hour + time.Minute)
		faults.Arm(n, kinds[(n/step)%2])
		w.v.Chores(ctx)
		failed := faults.Disarm()
		list := w.erasures(ds)
		for _, e := range list {
			if e.State == "complete" && w.under(ds) > 0 {
				t.Errorf("statement %d (%s) failed: complete, with %d objects left", n, failed, w.under(ds))
			}
			_, err := w.v.Certificate(ctx, w.as("carol"), e.ID)
			if now := w.erasures(ds)[0]; err == nil && now.State != "complete" || err != nil && e.State == "complete" {
				t.Errorf("statement %d (%s) failed: the erasure is %s, then %s, and its certificate: %v", n, failed, e.State, now.State, err)
			}
		}
		_, err := w.read("carol", ds, 0)
		if code := fault.CodeOf(err); code != fault.Gone && code != fault.Forbidden {
			t.Errorf("statement %d (%s) failed: it is read: %v", n, failed, err)
		}
		for range 3 {
			w.v.Chores(ctx)
		}
		if list = w.erasures(ds); len(list) != 1 || list[0].State != "complete" || list[0].Objects != 2 || list[0].Problem != "" {
			t.Fatalf("after statement %d (%s) had failed: %+v", n, failed, list)
		}
		if left := w.under(ds); left > 0 {
			t.Errorf("after statement %d (%s) had failed %d objects are left", n, failed, left)
		}
		w.certificate(list[0])
		if failed == "" {
			break
		}
		statements = n
	}
	t.Logf("%d statements", statements)
	if statements < 30 {
		t.Errorf("only %d statements", statements)
	}
	w.verify()
	must[[]byte](t)(w.read("carol", keptDataset, 0)) // the living were sealed anew, and open
}

// under counts the objects of a dataset.
func (w *world) under(ds string) (n int) {
	w.t.Helper()
	d := must[wire.Dataset](w.t)(w.v.Dataset(context.Background(), w.as("carol"), w.scope(ds)))
	for _, err := range w.objects.List(context.Background(), "v1/"+d.ID.String()+"/") {
		if err != nil {
			w.t.Fatal(err)
		}
		n++
	}
	return n
}

// stubborn is a store that does not let objects go for a while.
type stubborn struct {
	storage.Objects
	holds atomic.Bool
}

func (s *stubborn) Delete(ctx context.Context, key string) error {
	if s.holds.Load() && strings.HasPrefix(key, "v1/") {
		return fault.New(fault.Unavailable, "stubborn.Delete", "the object is locked")
	}
	return s.Objects.Delete(ctx, key)
}

// TestEraseIsNotComplete: while storage does not let something go, the erasure
// says so, and is complete once it does, also after a restart.
func TestEraseIsNotComplete(t *testing.T) {
	w := newWorld(t)
	s := &stubborn{Objects: w.objects}
	w.objects = s
	w.v.Close()
	w.v = must[*vault.Vault](t)(w.open())
	t.Cleanup(func() { w.v.Close() })
	w.setUp()
	ctx := context.Background()
	w.keep("acme", storage.KeepData, "1d")
	s.holds.Store(true)
	w.clock.Add(25 * time.Hour)
	w.v.Chores(ctx)
	list := w.erasures(keptDataset)
	if len(list) != 1 || list[0].State != "running" || list[0].Problem != "the object is locked" || list[0].Gone != 0 || list[0].Ended != nil {
		t.Fatalf("%+v", list)
	}
	_, err := w.v.Certificate(ctx, w.as("carol"), list[0].ID)
	wantCode(t, err, fault.Conflict)
	_, err = w.read("carol", keptDataset, 0) // but nobody reads it
	wantCode(t, err, fault.Gone)
	w.v.Close()
	s.holds.Store(false)
	w.v = must[*vault.Vault](t)(w.open())
	t.Cleanup(func() { w.v.Close() })
	w.v.Chores(ctx)
	if list = w.erasures(keptDataset); list[0].State != "complete" || list[0].Problem != "" || list[0].Objects != 2 {
		t.Errorf("%+v", list)
	}
	w.nothingLeft()
	w.certificate(list[0])
}

// eraseAmid has all data of acme be due for its erasure once the begin of a body was
// taken by store, which goes on; stored gives its error.
func (w *world) eraseAmid(begin []byte, store func(io.Reader) error) (body *io.PipeWriter, stored <-chan error) {
	w.t.Helper()
	r, body := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := store(r)
		r.CloseWithError(io.ErrClosedPipe)
		ended <- err
	}()
	if _, err := body.Write(begin); err != nil {
		w.t.Fatal(err)
	}
	w.keep("acme", storage.KeepData, "1d")
	w.clock.Add(25 * time.Hour)
	return body, ended
}

// TestEraseCutsUploads: bytes that are on their way when the keys go are not
// stored, and leave nothing.
func TestEraseCutsUploads(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	d, to := w.openDataset(keptDataset)
	ref := dataset.ShardRef{Dataset: d.Scope, Number: 7}
	plain := make([]byte, 300_000)
	push := must[wire.Push](t)(w.v.BeginPush(ctx, w.as("carol"), d.Scope))
	up := must[wire.Upload](t)(w.v.StartUpload(ctx, w.as("carol"), ref, wire.NewUpload{Fingerprint: make([]byte, 32), Size: int64(len(plain)), Push: push.Push}))
	idle := must[wire.Upload](t)(w.v.StartUpload(ctx, w.as("carol"), dataset.ShardRef{Dataset: d.Scope, Number: 8},
		wire.NewUpload{Fingerprint: make([]byte, 32), Size: int64(len(plain)), Push: push.Push}))
	data := must[[]byte](t)(seal.SealBytes(plain, to))
	carol := w.as("carol")
	body, stored := w.eraseAmid(data[:100_000], func(r io.Reader) error {
		_, err := w.v.StoreUpload(ctx, carol, d.Scope, up.Attempt, r, int64(len(data)))
		return err
	})
	w.v.Chores(ctx) // the request was cut, and may not have ended yet
	body.CloseWithError(io.ErrUnexpectedEOF)
	if err := <-stored; err == nil {
		t.Error("bytes of an erased dataset were stored")
	}
	w.v.Chores(ctx)
	if list := w.erasures(keptDataset); len(list) != 1 || list[0].State != "complete" {
		t.Fatalf("%+v", list)
	}
	_, err := w.v.StoreUpload(ctx, w.as("carol"), d.Scope, idle.Attempt, strings.NewReader(string(data)), int64(len(data)))
	wantCode(t, err, fault.Gone)
	if s := w.stored(); s != "" {
		t.Errorf("left: %s", s)
	}
}

// TestEraseCutsWork: returned work that is on its way when the keys go is cut as an
// upload is, and nothing is called erased before it has ended.
func TestEraseCutsWork(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.assign("lee", "0-1")
	ctx := context.Background()
	d, to := w.openDataset(workDataset)
	plain := make([]byte, 300_000)
	up := must[wire.Upload](t)(w.v.StartWork(ctx, w.as("lee"), workRef(w, 0), wire.NewWork{Size: int64(len(plain))}))
	data := must[[]byte](t)(seal.SealBytes(plain, to))
	lee := w.as("lee")
	body, stored := w.eraseAmid(data[:100_000], func(r io.Reader) error {
		_, err := w.v.StoreWork(ctx, lee, d.Scope, up.Attempt, r, int64(len(data)))
		return err
	})
	w.v.Chores(ctx)
	if list := w.erasures(workDataset); len(list) != 1 || list[0].State != "running" {
		t.Errorf("while bytes are on their way: %+v", list)
	}
	_, _ = body.Write(data[100_000:]) // all of them: it is not the sender who ends it
	body.Close()
	wantCode(t, <-stored, fault.Gone)
	w.v.Chores(ctx)
	if list := w.erasures(workDataset); len(list) != 1 || list[0].State != "complete" {
		t.Fatalf("%+v", list)
	}
	if s := w.stored(); s != "" {
		t.Errorf("left: %s", s)
	}
}

// folder copies all files of a folder.
func copyFolder(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// restore serves the catalog at a path with the world's keys and objects, as after
// an operator has put a backup there: the log is recovered, on record.
func (w *world) restore(path string, recover bool) {
	w.t.Helper()
	ctx := context.Background()
	db := must[*catalog.DB](w.t)(catalog.Open(ctx, "sqlite:"+path, catalog.Options{}))
	w.t.Cleanup(func() { db.Close() })
	ring := must[*keys.Ring](w.t)(keys.Open(w.keyDir, keys.NewPassphrase(""), db, rand.Reader))
	logger := slog.New(slog.NewTextHandler(w.t.Output(), nil))
	if recover {
		_, _, err := vault.Recover(ctx, vault.RecoverConfig{Catalog: db, Keys: ring, Logger: logger, Now: w.clock.Now, Random: rand.Reader},
			func(notary.Loss) error { return nil })
		if err != nil {
			w.t.Fatal(err)
		}
	}
	w.db = db
	w.objects = must[*dir.Store](w.t)(dir.Open(filepath.Join(filepath.Dir(w.keyDir), "objects")))
	w.open = func() (*vault.Vault, error) {
		return vault.Open(ctx, vault.Config{Catalog: db, Objects: w.objects, Keys: ring, Policy: rbac.Default(), Logger: logger,
			Now: w.clock.Now, Random: rand.Reader, Exclusive: true, BackupWindow: w.backupWindow})
	}
	w.v = must[*vault.Vault](w.t)(w.open())
	v := w.v
	w.t.Cleanup(func() { v.Close() })
}

// TestBackupDoesNotUndo restores the catalog and the objects from before an
// erasure, with the keys folder as it is now: within the window what was not
// erased is read again, and what was is not, and is erased anew; after the window
// the old catalog opens nothing.
func TestBackupDoesNotUndo(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "live", "catalog.db")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	w := newWorldOn(t, "sqlite:"+path, catalog.Options{})
	w.setUp()
	ctx := context.Background()
	other := w.newDataset(1)
	objects := filepath.Join(filepath.Dir(w.keyDir), "objects")

	w.v.Close()
	w.db.Close()
	copyFolder(t, filepath.Dir(path), filepath.Join(folder, "backup"))
	copyObjects(t, objects, filepath.Join(folder, "backup-objects"))
	w.restore(path, false)
	w.keep(keptDataset, storage.KeepData, "1d")
	w.clock.Add(25 * time.Hour)
	w.v.Chores(ctx)
	list := w.erasures(keptDataset)
	if len(list) != 1 || list[0].State != "complete" {
		t.Fatalf("%+v", list)
	}
	if got := epochFiles(t, w.keyDir); !slices.Equal(got, []string{"epoch-0001.age", "epoch-0001.retires", "epoch-0002.age"}) {
		t.Errorf("keys: %v", got)
	}
	must[[]byte](t)(w.read("carol", other, 0))
	final := *list[0].Final
	bringBack := func(to string) {
		t.Helper()
		w.v.Close()
		w.db.Close()
		copyFolder(t, filepath.Join(folder, "backup"), filepath.Join(folder, to))
		copyObjects(t, filepath.Join(folder, "backup-objects"), objects)
		w.restore(filepath.Join(folder, to, "catalog.db"), true)
	}

	// Within the window.
	bringBack("early")
	if _, err := w.read("carol", keptDataset, 0); !fault.Is(err, fault.Gone) {
		t.Errorf("an erased dataset of a restored catalog: %v", err)
	}
	w.v.Chores(ctx)
	if again := w.erasures(keptDataset); len(again) != 1 || again[0].Cause != "restored" || again[0].State != "complete" || again[0].Objects != 2 {
		t.Errorf("after restoring: %+v", again)
	} else {
		w.certificate(again[0])
	}
	must[[]byte](t)(w.read("carol", other, 0)) // this is what backups are for

	// When the window is over the key that the old backup needs is destroyed, and
	// not a moment before.
	w.relogin("carol", "root")
	w.clock.Add(final.Sub(w.clock.Now()) - time.Second)
	w.v.Chores(ctx)
	if got := epochFiles(t, w.keyDir); !slices.Contains(got, "epoch-0001.age") {
		t.Errorf("keys a second before the end of the window: %v", got)
	}
	w.clock.Add(time.Second)
	w.v.Chores(ctx)
	if got := epochFiles(t, w.keyDir); slices.Contains(got, "epoch-0001.age") {
		t.Errorf("keys after the window: %v", got)
	}
	if n := recordsOf(w.verify(), audit.KindEpochDestroy); n != 1 {
		t.Errorf("%d records of it", n)
	}
	must[[]byte](t)(w.read("carol", other, 0))

	// From then on the old catalog opens nothing: not even with the list of what
	// was erased taken away.
	w.v.Close()
	w.db.Close()
	if err := os.Remove(filepath.Join(w.keyDir, "erased")); err != nil {
		t.Fatal(err)
	}
	copyFolder(t, filepath.Join(folder, "backup"), filepath.Join(folder, "late"))
	copyObjects(t, filepath.Join(folder, "backup-objects"), objects)
	db := must[*catalog.DB](t)(catalog.Open(ctx, "sqlite:"+filepath.Join(folder, "late", "catalog.db"), catalog.Options{}))
	defer db.Close()
	ring := must[*keys.Ring](t)(keys.Open(w.keyDir, keys.NewPassphrase(""), db, rand.Reader))
	opened := 0
	err := db.View(ctx, func(tx *catalog.Tx) error {
		list, err := tx.KeysBefore(ctx, 1000, 0)
		for _, k := range list {
			if _, err := ring.Rewrap(k.Key); err == nil {
				opened++
			} else if !fault.Is(err, fault.Corrupt) {
				t.Errorf("got %v", err)
			}
		}
		if len(list) < 3 {
			t.Errorf("only %d keys in the backup", len(list))
		}
		return err
	})
	if err != nil || opened > 0 {
		t.Errorf("%d keys of the old catalog open (%v)", opened, err)
	}
}

// copyObjects copies a store and keeps the objects' times, which are part of
// their ETags.
func copyObjects(t *testing.T, from, to string) {
	t.Helper()
	copyFolder(t, from, to)
	err := filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		return os.Chtimes(filepath.Join(to, rel), info.ModTime(), info.ModTime())
	})
	if err != nil {
		t.Fatal(err)
	}
}

func epochFiles(t *testing.T, dir string) []string {
	t.Helper()
	entries := must[[]os.DirEntry](t)(os.ReadDir(dir))
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "epoch-") {
			names = append(names, e.Name())
		}
	}
	return names
}
