package vault_test

import (
	"context"
	"testing"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

func (w *world) toForget() (list []storage.Forgotten) {
	w.t.Helper()
	err := w.db.View(context.Background(), func(tx *catalog.Tx) (err error) {
		list, err = tx.ToForget(context.Background())
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

// TestAnonymizeGoesOn: what could not be cleared away at once is, at the next
// start; the person is forgotten all the same from the first moment.
func TestAnonymizeGoesOn(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.assign("lee", "0")
	must[[]byte](t)(w.read("lee", "acme/signs/batch-1", 0))
	ctx := context.Background()
	lee := w.as("lee")
	var out wire.Anonymized
	err := w.db.View(ctx, func(tx *catalog.Tx) error { // somebody reads the past, such as a backup
		if _, err := tx.Head(ctx); err != nil {
			return err
		}
		out = must[wire.Anonymized](t)(w.v.Anonymize(ctx, w.as("root"), "lee"))
		return nil
	})
	if err != nil || out.Cleared || out.Grants != 1 || out.About != 3 {
		t.Errorf("%+v, %v", out, err)
	}
	if list := w.toForget(); len(list) != 1 || list[0].Done || len(list[0].About) != 3 {
		t.Errorf("to do: %+v", list)
	}
	if w.authenticates(w.tokens["lee"]) {
		t.Error("the token still holds")
	}
	// A request that had authenticated just before is refused as well.
	_, err = w.v.ReadShard(ctx, lee, dataset.ShardRef{Dataset: w.scope("acme/signs/batch-1")}, w.ids["lee"], "")
	if code := fault.CodeOf(err); code != fault.NotFound && code != fault.Forbidden {
		t.Errorf("got %v", err)
	}
	w.v.Close()
	w.v = must[*vault.Vault](t)(w.open())
	t.Cleanup(func() { w.v.Close() })
	if list := w.toForget(); len(list) != 0 {
		t.Errorf("left after a start: %+v", list)
	}
	w.verify()
	people := must[wire.Page[wire.Person]](t)(w.v.People(ctx, w.as("root"), "", 0))
	found := false
	for _, p := range people.Items {
		if p.Handle == "lee" {
			t.Error("lee is still there")
		}
		if p.Handle == out.Pseudonym {
			found = p.Name == "" && p.Email == "" && p.Disabled != nil
		}
	}
	if !found {
		t.Errorf("%s is not among %+v", out.Pseudonym, people.Items)
	}
	// The last admin stays.
	must[wire.Anonymized](t)(w.v.Anonymize(ctx, w.as("root"), "second"))
	w.invite("third")
	soon := w.clock.Now().Add(time.Hour)
	w.grant(dataset.Admin, "third", "/", &soon) // it ends, so it does not count
	_, err = w.v.Anonymize(ctx, w.as("third"), "root")
	wantCode(t, err, fault.Conflict)
}

func TestMentions(t *testing.T) {
	words := []string{"ann", "Ann Öst", "ann@example.org", ""}
	for text, want := range map[string]bool{
		"for ann": true, "Ann's work": true, "(ANN)": true, "planning": false, "annex": false, "ann_2": false, "joann": false,
		"joann and ann": true, "write to ann@example.org": true, "ann öst": true, "": false, "öann": false,
	} {
		if got := vault.Mentions(text, words); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
