package vault_test

import (
	"context"
	"testing"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"

	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// details counts the records of a scope that show who made them.
func (w *world) details(scope string) (n int) {
	w.t.Helper()
	err := w.db.View(context.Background(), func(tx *catalog.Tx) error {
		return tx.Leaves(context.Background(), storage.LeafQuery{Under: w.scope(scope), Limit: 1000}, func(l storage.Leaf) error {
			if !l.Principal.IsZero() {
				n++
			}
			return nil
		})
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// TestExpireDetails: details of old records go, by the nearest period, and not
// under a hold; young ones, the names of scopes, the records and every proof stay.
func TestExpireDetails(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	must[[]byte](t)(w.read("carol", keptDataset, 0))
	must[wire.Entry](t)(w.v.CreateProject(ctx, w.as("root"), wire.NewProject{Scope: w.scope("acme/roads"), Purposes: []string{"labeling"}}))
	if err := w.upload("carol", "acme/roads/batch-1", 0, []byte("road")); err != nil {
		t.Fatal(err)
	}
	_, err := w.v.SetRetention(ctx, w.as("carol"), wire.NewRetention{Scope: w.scope("acme"), What: storage.KeepLog, Period: "1d"})
	wantCode(t, err, fault.NotFound)
	w.keep("/", storage.KeepLog, "1y")
	w.keep("acme/signs", storage.KeepLog, "30d")
	hold := must[wire.Hold](t)(w.hold("root", keptDataset))

	w.clock.Add(30*24*time.Hour - time.Minute)
	w.v.Chores(ctx)
	before := w.details(keptDataset)
	if before < 5 {
		t.Fatalf("only %d records with details", before)
	}
	w.clock.Add(2 * time.Hour)
	w.v.Chores(ctx)
	if n := w.details(keptDataset); n != before {
		t.Errorf("under a hold %d of %d are left", n, before)
	}
	w.release(hold.ID)
	err = w.db.Update(ctx, func(tx *catalog.Tx) error { return tx.ResetRetentionDone(ctx) }) // as a release does
	if err != nil {
		t.Fatal(err)
	}
	must[[]byte](t)(w.read("carol", keptDataset, 0)) // a young one
	other := w.details("acme/roads")
	w.clock.Add(2 * time.Hour)
	w.v.Chores(ctx)
	if n := w.details(keptDataset); n != 3 { // creation, read and read-end
		t.Errorf("%d records of %d show who made them, want 3", n, before)
	}
	if n := w.details("acme/roads"); n != other {
		t.Errorf("another project has %d of %d", n, other)
	}
	leaves := w.verify()
	if n := recordsOf(leaves, audit.KindLogExpire); n != 2 {
		t.Errorf("%d records of it, want one of the project's own records and one of the dataset's", n)
	}
	w.clock.Add(2 * time.Hour)
	w.v.Chores(ctx) // nothing more to do
	if n := recordsOf(w.verify(), audit.KindLogExpire); n != 2 {
		t.Errorf("%d records of it after another round", n)
	}
}

// TestExpirePeople: who was not active for long enough is anonymised, to the
// second; who was, the last admin, and everybody under a hold on the vault stays.
func TestExpirePeople(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	_, err := w.v.SetRetention(ctx, w.as("root"), wire.NewRetention{Scope: w.scope("acme"), What: storage.KeepPersonal, Period: "1d"})
	wantCode(t, err, fault.Invalid)
	w.keep("/", storage.KeepPersonal, "60d")
	w.assign("lee", "0")
	start := w.clock.Now()
	w.clock.Add(20 * 24 * time.Hour)
	must[[]byte](t)(w.read("lee", keptDataset, 0))
	hold := must[wire.Hold](t)(w.hold("root", "/"))
	w.clock.Add(start.Add(60*24*time.Hour + time.Hour).Sub(w.clock.Now()))
	w.v.Chores(ctx)
	if n := recordsOf(w.verify(), audit.KindAnonymize); n != 0 {
		t.Errorf("%d people were anonymised under a hold", n)
	}
	w.release(hold.ID)
	w.clock.Add(2 * time.Hour)
	w.v.Chores(ctx)
	var left []string
	for _, p := range must[wire.Page[wire.Person]](t)(w.v.People(ctx, w.as("root"), "", 0)).Items {
		if p.Name != "" || p.Handle == "root" {
			left = append(left, p.Handle)
		}
	}
	if len(left) != 2 || left[0] != "lee" || left[1] != "root" {
		t.Errorf("left are %v", left)
	}
	if n := recordsOf(w.verify(), audit.KindAnonymize); n != 6 {
		t.Errorf("%d people were anonymised, want 6", n)
	}
	if _, err := w.v.Dataset(ctx, w.as("root"), w.scope(keptDataset)); err != nil {
		t.Error(err)
	}
}
