package vault_test

import (
	"context"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/storage/storagetest"
	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// gate is an object store whose reads of whole objects wait, or fail.
type gate struct {
	storage.Objects
	mu     sync.Mutex
	before func(ctx context.Context, key string) error
	stat   atomic.Pointer[*fault.Error] // what Stat of an object says
}

func (g *gate) Stat(ctx context.Context, key string) (storage.Object, error) {
	if err := g.stat.Load(); err != nil && strings.HasPrefix(key, "v1/") {
		return storage.Object{}, *err
	}
	return g.Objects.Stat(ctx, key)
}

func (g *gate) set(f func(ctx context.Context, key string) error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.before = f
}

func (g *gate) Open(ctx context.Context, key string, offset, length int64, etag string) (io.ReadCloser, error) {
	g.mu.Lock()
	f := g.before
	g.mu.Unlock()
	if f != nil && length == -1 && offset == 0 && strings.HasPrefix(key, "v1/") {
		if err := f(ctx, key); err != nil {
			return nil, err
		}
	}
	return g.Objects.Open(ctx, key, offset, length, etag)
}

// behindGate starts the world's vault anew, with a gate before its objects.
func (w *world) behindGate() *gate {
	w.t.Helper()
	g := &gate{Objects: w.objects}
	w.v.Close()
	w.objects = g
	w.v = must[*vault.Vault](w.t)(w.open())
	return g
}

// TestCheckGoesOn: a check that its node has left goes on where it was, on
// another one, and reads nothing twice.
func TestCheckGoesOn(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	const ds = "acme/signs/batch-4"
	const shards = 8
	for n := range shards {
		if err := w.upload("carol", ds, n, []byte(strings.Repeat("x", 1000))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.objects.Delete(ctx, w.objectKey(ds, 1)); err != nil {
		t.Fatal(err)
	}
	g := w.behindGate()
	reads := map[string]int{}
	reached := make(chan struct{})
	g.set(func(ctx context.Context, key string) error {
		reads[key]++ // one check runs at a time
		if len(reads) == 4 {
			close(reached)
			<-ctx.Done()
			return fault.Wrap(fault.Canceled, "test", "stopped", ctx.Err())
		}
		return nil
	})
	c := must[wire.Check](t)(w.v.StartCheck(ctx, w.as("root"), wire.NewCheck{Scope: w.scope("acme/signs"), Data: true}))
	<-reached
	// The same request joins the running check; another kind is another check.
	again := must[wire.Check](t)(w.v.StartCheck(ctx, w.as("root"), wire.NewCheck{Scope: w.scope("acme/signs"), Data: true}))
	if again.ID != c.ID || again.State != "running" {
		t.Errorf("%+v does not join %+v", again, c)
	}
	w.v.Close()
	g.set(func(_ context.Context, key string) error { reads[key]++; return nil })
	w.v = must[*vault.Vault](t)(w.open())
	got := w.ended(c.ID)
	w.wants(got, w.found(c.ID), "missing "+ds+"/1")
	if got.Checked != got.Objects || got.Read >= got.Bytes || got.Read == 0 {
		t.Errorf("%+v", got)
	}
	twice := 0
	for key, n := range reads {
		if n > 1 {
			twice++
		}
		if n > 2 {
			t.Errorf("%s was read %d times", key, n)
		}
	}
	if len(reads) != 2+shards-1 || twice != 1 { // the one that was cut off
		t.Errorf("%d objects were read, %d of them twice", len(reads), twice)
	}
	w.v.Close()
	w.v = must[*vault.Vault](t)(w.open()) // nothing is left to go on with
	if again := must[wire.Check](t)(w.v.Check(ctx, w.as("root"), c.ID)); again.Checked != got.Checked || again.State != "finished" {
		t.Errorf("%+v", again)
	}
}

// TestCheckMovesToAnotherNode: of two nodes one runs the checks, whichever was
// asked, and the other goes on with them when it ends.
func TestCheckMovesToAnotherNode(t *testing.T) {
	t.Parallel() // the other node looks every ten seconds
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	w.shared = true
	g := w.behindGate()
	reached := make(chan struct{})
	g.set(func(ctx context.Context, _ string) error {
		close(reached) // a second node would close it again
		<-ctx.Done()
		return fault.Wrap(fault.Canceled, "test", "stopped", ctx.Err())
	})
	first := w.v
	c := must[wire.Check](t)(w.v.StartCheck(ctx, w.as("root"), wire.NewCheck{Scope: dataset.Root, Data: true}))
	<-reached
	w.v = must[*vault.Vault](t)(w.open())
	t.Cleanup(func() { w.v.Close() })
	other := must[wire.Check](t)(w.v.StartCheck(ctx, w.as("root"), wire.NewCheck{Scope: w.scope("acme"), Data: true}))
	g.set(nil)
	first.Close()
	for _, id := range []dataset.CheckID{c.ID, other.ID} {
		c := w.ended(id)
		w.wants(c, w.found(id))
		if c.Checked != 2 || c.Read != c.Bytes {
			t.Errorf("%+v", c)
		}
	}
	ends := 0
	for _, l := range w.verify() {
		if l.Kind == audit.KindCheckEnd {
			ends++
		}
	}
	if ends != 2 {
		t.Errorf("two checks have ended %d times", ends)
	}
}

// TestCheckCanceled: a check ends when somebody says so, once.
func TestCheckCanceled(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	g := w.behindGate()
	reached := make(chan struct{})
	left := make(chan struct{})
	g.set(func(ctx context.Context, _ string) error {
		close(reached)
		<-ctx.Done()
		close(left)
		return fault.Wrap(fault.Canceled, "test", "stopped", ctx.Err())
	})
	c := must[wire.Check](t)(w.v.StartCheck(ctx, w.as("root"), wire.NewCheck{Scope: dataset.Root, Data: true}))
	<-reached
	_, err := w.v.CancelCheck(ctx, w.as("audrey"), c.ID)
	wantCode(t, err, fault.Forbidden)
	if got := must[wire.Check](t)(w.v.CancelCheck(ctx, w.as("root"), c.ID)); got.State != "canceled" || got.Ended == nil {
		t.Errorf("%+v", got)
	}
	<-left
	_, err = w.v.CancelCheck(ctx, w.as("root"), c.ID)
	wantCode(t, err, fault.Conflict)
	w.v.Close()
	if got := must[storage.Check](t)(storedCheck(w, c.ID)); got.State != storage.CheckCanceled {
		t.Errorf("%+v", got)
	}
}

func storedCheck(w *world, id dataset.CheckID) (c storage.Check, err error) {
	err = w.db.View(context.Background(), func(tx *catalog.Tx) error {
		c, err = tx.Check(context.Background(), id)
		return err
	})
	return c, err
}

// TestCheckUnreadable: an object that cannot be read is damage, and does not
// hold up the rest.
func TestCheckUnreadable(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	bad := w.objectKey("acme/signs/batch-1", 0)
	g := w.behindGate()
	g.set(func(_ context.Context, key string) error {
		if key == bad {
			return fault.Wrap(fault.Unavailable, "test", "input/output error", &fs.PathError{})
		}
		return nil
	})
	c, found := w.check(wire.NewCheck{Scope: dataset.Root, Data: true})
	w.wants(c, found, "changed acme/signs/batch-1/0")
	if c.Checked != c.Objects {
		t.Errorf("%+v", c)
	}
}

// TestCheckWaits: while the store is away a check reports nothing; it waits, and
// goes on.
func TestCheckWaits(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	g := w.behindGate()
	away := fault.New(fault.Unavailable, "test", "the object store is away")
	g.set(func(context.Context, string) error { return away })
	g.stat.Store(&away)
	c := must[wire.Check](t)(w.v.StartCheck(ctx, w.as("root"), wire.NewCheck{Scope: dataset.Root, Data: true}))
	for deadline := time.Now().Add(time.Minute); c.Problem == "" && time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		c = must[wire.Check](t)(w.v.Check(ctx, w.as("root"), c.ID))
	}
	if c.Problem != away.Message || c.State != "running" || c.Damaged() || c.Checked != 0 {
		t.Errorf("%+v", c)
	}
	g.set(nil)
	g.stat.Store(nil)
	w.v.Close()
	w.v = must[*vault.Vault](t)(w.open()) // sooner than it would look again
	c = w.ended(c.ID)
	w.wants(c, w.found(c.ID))
	if c.Problem != "" || c.Checked != 2 {
		t.Errorf("%+v", c)
	}
}

// TestCheckCannotSave: that a check cannot keep its place while it reads an object is
// no damage to the object.
func TestCheckCannotSave(t *testing.T) {
	faults := &storagetest.SQLFaults{}
	w := newWorldOn(t, "sqlite:"+filepath.Join(t.TempDir(), "catalog.db"), catalog.Options{Wrap: faults.Wrap})
	w.setUp()
	ctx := context.Background()
	g := w.behindGate()
	g.set(func(context.Context, string) error {
		w.clock.Add(time.Minute) // it is time to
		faults.Arm(2, storagetest.NotRun)
		return nil
	})
	root := w.as("root")
	c := must[wire.Check](t)(w.v.StartCheck(ctx, root, wire.NewCheck{Scope: dataset.Root, Data: true}))
	for ; c.Problem == "" && c.State == "running"; time.Sleep(50 * time.Millisecond) { // seldom: a fault may hit it
		if now, err := w.v.Check(ctx, root, c.ID); err == nil {
			c = now
		}
	}
	g.set(nil)
	faults.Disarm()
	w.v.Close()
	w.v = must[*vault.Vault](t)(w.open()) // sooner than it would look again
	c = w.ended(c.ID)
	w.wants(c, w.found(c.ID))
	if c.Checked != 2 {
		t.Errorf("%+v", c)
	}
}

// TestScheduledChecks: they come when they are due, once, and not before.
func TestScheduledChecks(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	list := func() []wire.Check {
		return must[wire.Page[wire.Check]](t)(w.v.Checks(ctx, w.as("audrey"), dataset.Root, "", 0)).Items
	}
	w.checkEvery, w.checkDataEvery = 24*time.Hour, 10*24*time.Hour
	again := func() {
		w.v.Close()
		w.v = must[*vault.Vault](t)(w.open())
	}
	await := func(n int) []wire.Check {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
			checks := list()
			running := slices.ContainsFunc(checks, func(c wire.Check) bool { return c.State == "running" })
			if len(checks) == n && !running {
				return checks
			}
			if len(checks) > n || time.Now().After(deadline) {
				t.Fatalf("%d checks: %+v", len(checks), checks)
			}
		}
	}
	again()
	w.clock.Add(23 * time.Hour)
	again()
	await(0)
	w.clock.Add(2 * time.Hour)
	again()
	if c := await(1)[0]; !c.Scheduled || c.Data || c.By != "" || c.State != "finished" || c.Checked != 2 {
		t.Errorf("%+v", c)
	}
	again()
	await(1)
	w.clock.Add(240 * time.Hour)
	again()
	checks := await(3)
	data := checks[0]
	if !data.Data {
		data = checks[1]
	}
	if !data.Scheduled || data.Rate < 1<<20 || data.Read != data.Bytes {
		t.Errorf("%+v", data)
	}
	w.verify()
}
