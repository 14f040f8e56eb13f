package vault_test

import (
	"context"
	"fmt"
	"testing"

	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// complete makes a version of a list such as "0,2-3", as part of a push.
func (w *world) complete(who, ds, list string, push int) (wire.Dataset, error) {
	w.t.Helper()
	shards := must[dataset.ShardList](w.t)(dataset.ParseShardList(list))
	return w.v.Complete(context.Background(), w.as(who), w.scope(ds), wire.Complete{Shards: shards, Push: push})
}

func (w *world) numbers(ds string) []int {
	w.t.Helper()
	list := []int{}
	for _, s := range must[wire.Page[wire.Shard]](w.t)(w.v.Shards(context.Background(), w.as("carol"), w.scope(ds), -1, 0)).Items {
		list = append(list, s.Number)
	}
	return list
}

// TestVersions: what a version has stays as it is, and the next one adds to it.
func TestVersions(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	const ds = "acme/signs/batch-1"
	w.assign("lee", "1")

	// A shard that a version has never changes.
	wantCode(t, w.upload("carol", ds, 1, []byte("changed")), fault.Conflict)
	if err := w.upload("carol", ds, 2, []byte("new")); err != nil {
		t.Fatal(err)
	}
	if err := w.upload("carol", ds, 5, []byte("left over")); err != nil {
		t.Fatal(err)
	}
	// What is in no version yet is no part of the dataset.
	if d := must[wire.Dataset](t)(w.v.Dataset(ctx, w.as("carol"), w.scope(ds))); d.Shards != 2 || d.Version != 1 || d.Size != 700_000 {
		t.Errorf("%+v", d)
	}
	_, err := w.v.Assign(ctx, w.as("root"), wire.Assignment{Dataset: w.scope(ds), Person: "lee", Shards: dataset.ShardSet{{First: 1, Last: 2}}})
	wantCode(t, err, fault.Invalid)
	_, err = w.complete("carol", ds, "2-3", 0)
	wantCode(t, err, fault.Conflict)
	d := must[wire.Dataset](t)(w.complete("carol", ds, "2,0", 0))
	if d.Version != 2 || d.Shards != 2 || d.Size != 350_003 {
		t.Errorf("%+v", d)
	}
	// The same list again is not another version; the first one's is.
	if d := must[wire.Dataset](t)(w.complete("carol", ds, "2,0", 0)); d.Version != 2 {
		t.Errorf("%+v", d)
	}
	if got := fmt.Sprint(w.numbers(ds)); got != "[0 1 2]" { // 5 was left over, 1 is in version 1
		t.Errorf("shards %v", got)
	}
	wantCode(t, w.upload("carol", ds, 2, []byte("changed")), fault.Conflict)
	if d := must[wire.Dataset](t)(w.complete("carol", ds, "0-1", 0)); d.Version != 3 || d.Size != 700_000 {
		t.Errorf("%+v", d)
	}

	page := must[wire.Page[wire.Version]](t)(w.v.Versions(ctx, w.as("rita"), w.scope(ds), 1, 0))
	if len(page.Items) != 2 || page.Items[0].Shards.String() != "2,0" || page.Items[1].Version != 3 || page.Items[0].By != "carol" {
		t.Errorf("%+v", page)
	}
	// Annotators see their own shards, and keep them.
	mine := must[wire.Version](t)(w.v.Version(ctx, w.as("lee"), w.scope(ds), 1))
	if mine.Count != 2 || mine.Shards.String() != "1" || mine.By != "" {
		t.Errorf("%+v", mine)
	}
	if mine = must[wire.Version](t)(w.v.Version(ctx, w.as("lee"), w.scope(ds), 2)); len(mine.Shards) != 0 {
		t.Errorf("%+v", mine)
	}
	must[[]byte](t)(w.read("lee", ds, 1))
	_, err = w.v.Version(ctx, w.as("carol"), w.scope(ds), 4)
	wantCode(t, err, fault.NotFound)
	_, err = w.v.Versions(ctx, w.as("stranger"), w.scope(ds), 0, 0)
	wantCode(t, err, fault.NotFound)

	want := []uint64{1, 2, 3}
	for _, l := range w.verify() {
		if version, ok := l.Uint64(audit.FieldVersion); ok {
			count, _ := l.Uint64(audit.FieldCount)
			if l.Kind != audit.KindDatasetComplete || len(want) == 0 || version != want[0] || count != 2 {
				t.Errorf("a leaf of kind %v says version %d of %d shards", l.Kind, version, count)
			}
			want = want[min(1, len(want)):]
		}
	}
	if len(want) > 0 {
		t.Errorf("no leaf for the versions %v", want)
	}
}

// TestPushesDoNotMix: once another push has begun, nothing of the one before
// becomes a shard or a version.
func TestPushesDoNotMix(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	const ds = "acme/signs/batch-7"
	_, to := w.openDataset(ds)
	start := func(push, n int, text string) (func() error, error) {
		return w.startUpload(push, "carol", ds, n, []byte(text), must[[]byte](t)(seal.SealBytes([]byte(text), to)), to)
	}
	send := func(push, n int, text string) error {
		finish, err := start(push, n, text)
		if err == nil {
			err = finish()
		}
		return err
	}
	begin := func() int {
		return must[wire.Push](t)(w.v.BeginPush(ctx, w.as("carol"), w.scope(ds))).Push
	}
	first := begin()
	if err := send(first, 0, "of the first"); err != nil {
		t.Fatal(err)
	}
	// An upload that was under way when the other one began.
	late := must[func() error](t)(start(first, 1, "late"))
	second := begin()
	wantCode(t, late(), fault.Conflict)
	wantCode(t, send(first, 0, "again"), fault.Conflict)
	_, err := w.complete("carol", ds, "0", first)
	wantCode(t, err, fault.Conflict)
	_, err = w.complete("carol", ds, "0", 0)
	wantCode(t, err, fault.Conflict)
	if err := send(second, 1, "of the second"); err != nil {
		t.Fatal(err)
	}
	if d := must[wire.Dataset](t)(w.complete("carol", ds, "1", second)); d.Version != 1 || d.Shards != 1 {
		t.Errorf("%+v", d)
	}
	if got := string(must[[]byte](t)(w.read("carol", ds, 1))); got != "of the second" {
		t.Errorf("read %q", got)
	}
	// Asked again, since the answer was lost, it is there; for the other it is not.
	must[wire.Dataset](t)(w.complete("carol", ds, "1", second))
	_, err = w.complete("carol", ds, "1", first)
	wantCode(t, err, fault.Conflict)
}
