package vault_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// ended waits for the end of a check.
func (w *world) ended(id dataset.CheckID) wire.Check {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		c := must[wire.Check](w.t)(w.v.Check(context.Background(), w.as("root"), id))
		if c.State != "running" {
			return c
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("the check does not end: %+v", c)
		}
	}
}

// check runs one to its end and gives what it has found, by kind and shard.
func (w *world) check(req wire.NewCheck) (wire.Check, []string) {
	w.t.Helper()
	c := w.ended(must[wire.Check](w.t)(w.v.StartCheck(context.Background(), w.as("root"), req)).ID)
	return c, w.found(c.ID)
}

func (w *world) found(id dataset.CheckID) []string {
	w.t.Helper()
	page := must[wire.Page[wire.Finding]](w.t)(w.v.Findings(context.Background(), w.as("root"), id, -1, 0))
	var found []string
	for _, f := range page.Items {
		text := f.Kind + " " + f.Shard
		if f.Repaired {
			text += " repaired"
		}
		found = append(found, strings.TrimSpace(text))
		w.t.Logf("%s %s: %s", text, f.Key, f.Detail)
	}
	slices.Sort(found)
	return found
}

func (w *world) wants(c wire.Check, got []string, want ...string) {
	w.t.Helper()
	if c.State != "finished" || !slices.Equal(got, want) {
		w.t.Errorf("%+v found %q, want %q", c, got, want)
	}
}

// objectKey is the key of a shard's object.
func (w *world) objectKey(ds string, n int) string {
	w.t.Helper()
	var key string
	err := w.db.View(context.Background(), func(tx *catalog.Tx) error {
		d, err := tx.Dataset(context.Background(), w.scope(ds))
		if err != nil {
			return err
		}
		s, err := tx.Shard(context.Background(), d.ID, n)
		key = s.Key
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return key
}

func (w *world) exec(f func(ctx context.Context, tx *catalog.Tx) error) {
	w.t.Helper()
	ctx := context.Background()
	tx := must[*catalog.Tx](w.t)(w.db.Begin(ctx))
	defer tx.Rollback()
	if err := f(ctx, tx); err != nil {
		w.t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		w.t.Fatal(err)
	}
}

// contents reads an object as it is.
func (w *world) contents(key string) []byte {
	w.t.Helper()
	r := must[io.ReadCloser](w.t)(w.objects.Open(context.Background(), key, 0, -1, ""))
	defer r.Close()
	return must[[]byte](w.t)(io.ReadAll(r))
}

func (w *world) overwrite(key string, data []byte) storage.Object {
	w.t.Helper()
	return must[storage.Object](w.t)(w.objects.Put(context.Background(), key, bytes.NewReader(data), int64(len(data))))
}

// TestCheck makes each kind of damage and has the check find it, with and
// without reading the data.
func TestCheck(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	const ds = "acme/signs/batch-3"
	for n := range 6 {
		if err := w.upload("carol", ds, n, []byte(strings.Repeat("more ", 10_000*n))); err != nil {
			t.Fatal(err)
		}
	}
	root := wire.NewCheck{Scope: dataset.Root}
	withData := wire.NewCheck{Scope: dataset.Root, Data: true}
	c, found := w.check(root)
	w.wants(c, found)
	if c.Checked != c.Objects || c.Objects < 8 || c.Read != 0 {
		t.Errorf("%+v", c)
	}
	c, found = w.check(withData)
	w.wants(c, found)
	if c.Read != c.Bytes || c.Checked != c.Objects {
		t.Errorf("%+v", c)
	}

	w.damage(ds)
	c, found = w.check(root)
	w.wants(c, found, "changed acme/signs/batch-3/1", "changed acme/signs/batch-3/2", "changed acme/signs/batch-3/3", "extra", "missing acme/signs/batch-3/0")
	c, found = w.check(withData)
	w.wants(c, found, "changed acme/signs/batch-3/1", "changed acme/signs/batch-3/2", "changed acme/signs/batch-3/3", "changed acme/signs/batch-3/4", "extra", "missing acme/signs/batch-3/0")
	if c.Missing != 1 || c.Changed != 4 || c.Extra != 1 || !c.Damaged() {
		t.Errorf("%+v", c)
	}
	// Other scopes are not touched by it.
	c, found = w.check(wire.NewCheck{Scope: w.scope("acme/signs/batch-1"), Data: true})
	w.wants(c, found)
	c, found = w.check(wire.NewCheck{Scope: w.scope("acme")})
	w.wants(c, found, "changed acme/signs/batch-3/1", "changed acme/signs/batch-3/2", "changed acme/signs/batch-3/3", "missing acme/signs/batch-3/0")

	// What can be repaired is: the shard that only has another ETag is served again.
	_, err := w.read("carol", ds, 3)
	wantCode(t, err, fault.Corrupt)
	c, found = w.check(wire.NewCheck{Scope: w.scope(ds), Data: true, Repair: true})
	w.wants(c, found, "changed acme/signs/batch-3/1", "changed acme/signs/batch-3/2", "changed acme/signs/batch-3/3 repaired", "changed acme/signs/batch-3/4", "missing acme/signs/batch-3/0")
	if c.Repaired != 1 || c.Changed != 3 {
		t.Errorf("%+v", c)
	}
	must[[]byte](t)(w.read("carol", ds, 3))
	must[storage.Object](t)(w.objects.Stat(ctx, "v1/dst_unknown/000000/att_unknown.age"))
	w.checkLeaves()
}

// damage spoils shards 0 to 4 of a dataset, each in its own way.
func (w *world) damage(ds string) {
	w.t.Helper()
	ctx := context.Background()
	if err := w.objects.Delete(ctx, w.objectKey(ds, 0)); err != nil {
		w.t.Fatal(err)
	}
	cut := w.objectKey(ds, 1)
	w.overwrite(cut, w.contents(cut)[:5000])
	flipped := w.objectKey(ds, 2)
	data := w.contents(flipped)
	data[len(data)/2] ^= 1
	w.overwrite(flipped, data)
	copied := w.objectKey(ds, 3)
	w.overwrite(copied, w.contents(copied))
	rotten := w.objectKey(ds, 4)
	data = w.contents(rotten)
	data[len(data)/2] ^= 1
	w.rot(rotten, data)
	w.overwrite("v1/dst_unknown/000000/att_unknown.age", []byte("x"))
}

// rot changes an object's bytes in such a way that its ETag stays.
func (w *world) rot(key string, data []byte) {
	w.t.Helper()
	file := w.objectFile(key)
	info, err := os.Stat(file)
	if err == nil {
		err = errors.Join(os.WriteFile(file, data, 0o600), os.Chtimes(file, info.ModTime(), info.ModTime()))
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// objectFile is where the folder store keeps an object.
func (w *world) objectFile(key string) string {
	w.t.Helper()
	path := strings.TrimPrefix(w.objects.(storage.Describer).Describe(), "dir:")
	return filepath.Join(path, "objects", key)
}

// checkLeaves: each check is in the log, from start to end, with its result.
func (w *world) checkLeaves() {
	w.t.Helper()
	starts, ends, damaged := 0, 0, 0
	for _, l := range w.verify() {
		switch l.Kind {
		case audit.KindCheckStart:
			starts++
		case audit.KindCheckEnd:
			ends++
			if cause, _ := l.Text(audit.FieldCause); cause != "finished" {
				w.t.Errorf("a check ended as %q", cause)
			}
			if n, _ := l.Uint64(audit.FieldMissing); n > 0 {
				damaged++
			}
		}
	}
	if starts != ends || starts < 7 || damaged != 4 {
		w.t.Errorf("%d checks began, %d ended, %d found something missing", starts, ends, damaged)
	}
}

// TestCheckReadsRows: damage of the catalog's own rows is found too.
func TestCheckReadsRows(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	const ds = "acme/signs/batch-1"
	spoil := func(change func(*storage.Shard)) { w.spoilRow(ds, 1, change) }
	all := wire.NewCheck{Scope: w.scope(ds), Data: true}
	const finding = "changed " + ds + "/1"
	spoil(func(*storage.Shard) {})
	c, found := w.check(all)
	w.wants(c, found, finding) // the nonce
	var size int64
	spoil(func(s *storage.Shard) { size = s.PlainSize; s.PlainSize += 70_000 })
	c, found = w.check(wire.NewCheck{Scope: w.scope(ds)})
	w.wants(c, found, finding)
	spoil(func(s *storage.Shard) { s.PlainSize = size; s.Manifest = []byte("no age file") })
	c, found = w.check(all)
	w.wants(c, found, finding)
	// A complete dataset that has lost a row.
	spoil(func(s *storage.Shard) { s.Version = 0 })
	w.exec(func(ctx context.Context, tx *catalog.Tx) error {
		d, err := tx.Dataset(ctx, w.scope(ds))
		if err == nil {
			_, err = tx.DropSpareShards(ctx, d.ID, nil)
		}
		return err
	})
	c, found = w.check(wire.NewCheck{Scope: dataset.Root})
	w.wants(c, found, "extra", "missing "+ds+"/1")
}

// spoilRow changes a shard's row, and its nonce: none comes twice.
func (w *world) spoilRow(ds string, n int, change func(*storage.Shard)) {
	w.t.Helper()
	w.exec(func(ctx context.Context, tx *catalog.Tx) error {
		d, err := tx.Dataset(ctx, w.scope(ds))
		if err != nil {
			return err
		}
		s, err := tx.Shard(ctx, d.ID, n)
		if err != nil {
			return err
		}
		change(&s)
		s.Nonce[0]++
		_, err = tx.PutShard(ctx, s)
		return err
	})
}

// TestCheckIndexes: the objects that list the members of shards are checked as
// the shards' own are.
func TestCheckIndexes(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	const ds = "acme/signs/batch-1"
	ctx := context.Background()
	var keys []string
	for n := range 2 {
		key := storage.IndexKey(w.objectKey(ds, n))
		w.spoilRow(ds, n, func(s *storage.Shard) {
			index := w.contents(s.Key) // any sealed file will do
			x, sum := w.overwrite(key, index), sha256.Sum256(index)
			s.Index = storage.Index{ETag: x.ETag, Size: x.Size, SHA256: sum[:], Header: index[:len(s.Header)]}
			shard := bytes.Clone(index)
			shard[len(s.Header)]++ // as the nonce in the row
			s.ETag, s.SHA256 = w.overwrite(s.Key, shard).ETag, sha256.Sum256(shard)
		})
		keys = append(keys, key)
	}
	all := wire.NewCheck{Scope: w.scope(ds), Data: true}
	c, found := w.check(all)
	w.wants(c, found)
	if c.Checked != 4 || c.Objects != 4 || c.Read != c.Bytes {
		t.Errorf("%+v", c)
	}
	data := w.contents(keys[0])
	data[len(data)/2] ^= 1
	w.rot(keys[0], data)
	if err := w.objects.Delete(ctx, keys[1]); err != nil {
		t.Fatal(err)
	}
	c, found = w.check(all)
	w.wants(c, found, "changed "+ds+"/0", "missing "+ds+"/1")
	data[len(data)/2] ^= 1
	w.overwrite(keys[0], data)
	c, found = w.check(wire.NewCheck{Scope: dataset.Root, Data: true, Repair: true})
	w.wants(c, found, "changed "+ds+"/0 repaired", "missing "+ds+"/1")
	c, found = w.check(all)
	w.wants(c, found, "missing "+ds+"/1")
	w.spoilRow(ds, 0, func(s *storage.Shard) { s.Index.SHA256 = s.Index.SHA256[:31] })
	c, found = w.check(wire.NewCheck{Scope: dataset.Root})
	w.wants(c, found, "changed "+ds+"/0", "missing "+ds+"/1")
}

// TestCheckLeftovers: what the catalog marks as not needed is removed with
// repair only; what is on its way is left alone.
func TestCheckLeftovers(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	const ds = "acme/signs/batch-7"
	w.upload("carol", ds, 0, []byte("kept"))
	key := func(n int) string { return w.objectKey(ds, 0) + string(rune('a'+n)) }
	var d storage.Dataset
	w.exec(func(ctx context.Context, tx *catalog.Tx) (err error) {
		d, err = tx.Dataset(ctx, w.scope(ds))
		return err
	})
	carol := w.as("carol").Principal
	for n, a := range []storage.Attempt{
		{StartedAt: w.clock.Now()},                                                      // doomed
		{StartedAt: w.clock.Now().Add(-25 * time.Hour), StartedBy: carol},               // given up
		{StartedAt: w.clock.Now().Add(-time.Hour), StartedBy: carol},                    // under way
		{StartedAt: w.clock.Now().Add(-25 * time.Hour), StartedBy: carol, ETag: "none"}, // given up, without an object
	} {
		a.ID, a.Dataset, a.Number, a.Key = dataset.AttemptID{byte(n + 1)}, d.ID, 9, key(n)
		w.exec(func(ctx context.Context, tx *catalog.Tx) error { return tx.AddAttempt(ctx, a) })
		if n < 3 {
			w.overwrite(a.Key, []byte("leftover"))
		}
	}
	c, found := w.check(wire.NewCheck{Scope: dataset.Root, Data: true})
	w.wants(c, found, "leftover "+ds+"/9", "leftover "+ds+"/9")
	if c.Damaged() || c.Leftovers != 2 || c.Repaired != 0 {
		t.Errorf("%+v", c)
	}
	c, found = w.check(wire.NewCheck{Scope: dataset.Root, Repair: true})
	w.wants(c, found, "leftover "+ds+"/9 repaired", "leftover "+ds+"/9 repaired", "leftover "+ds+"/9 repaired")
	for n, gone := range []bool{true, true, false} {
		if _, err := w.objects.Stat(ctx, key(n)); errors.Is(err, storage.ErrNoObject) != gone {
			t.Errorf("attempt %d: %v", n, err)
		}
	}
	c, found = w.check(wire.NewCheck{Scope: dataset.Root})
	w.wants(c, found)
	must[[]byte](t)(w.read("carol", ds, 0))
}

// TestCheckIsForAdmins: those who read the log see results, and nobody else.
func TestCheckIsForAdmins(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	w.tokens["bot"] = must[wire.NewToken](t)(w.v.Invite(ctx, w.as("root"), wire.NewPerson{Handle: "bot", Service: true})).Token
	w.grant(dataset.Service, "bot", "acme", nil)
	for name, code := range map[string]fault.Code{
		"root": "", "bot": "", "carol": fault.Forbidden, "lee": fault.Forbidden, "rita": fault.Forbidden, "audrey": fault.Forbidden, "stranger": fault.NotFound,
	} {
		c, err := w.v.StartCheck(ctx, w.as(name), wire.NewCheck{Scope: w.scope("acme/signs")})
		wantCode(t, err, code)
		if err == nil {
			w.ended(c.ID)
		}
	}
	_, err := w.v.StartCheck(ctx, w.as("bot"), wire.NewCheck{Scope: dataset.Root})
	if err == nil {
		t.Error("a machine account of one client checks the whole vault")
	}
	c, _ := w.check(wire.NewCheck{Scope: w.scope("acme/signs")})
	for name, code := range map[string]fault.Code{
		"root": "", "bot": "", "carol": "", "audrey": "", "lee": fault.Forbidden, "rita": fault.Forbidden, "stranger": fault.NotFound,
	} {
		_, one := w.v.Check(ctx, w.as(name), c.ID)
		_, all := w.v.Checks(ctx, w.as(name), w.scope("acme/signs"), "", 0)
		_, found := w.v.Findings(ctx, w.as(name), c.ID, -1, 0)
		for _, err := range []error{one, all, found} {
			if fault.CodeOf(err) != code {
				t.Errorf("%s: %v, want %q", name, err, code)
			}
		}
	}
	_, err = w.v.Check(ctx, w.as("root"), dataset.CheckID{1})
	wantCode(t, err, fault.NotFound)
	_, err = w.v.StartCheck(ctx, w.as("root"), wire.NewCheck{Scope: w.scope("nobody")})
	wantCode(t, err, fault.NotFound)
	_, err = w.v.StartCheck(ctx, w.as("root"), wire.NewCheck{Scope: dataset.Root, Rate: 10})
	wantCode(t, err, fault.Invalid)
}
