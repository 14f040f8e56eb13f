package vault_test

import (
	"context"
	"crypto/rand"
	"path/filepath"
	"testing"
	"time"

	"dsvault/storage/catalog"
	"dsvault/vault"
	"dsvault/vault/keys"
	"dsvault/vault/wire"
)

// TestListingsOnOneConnection: a listing does not wait for a second connection
// while it has one: as many listings at once as there are would wait for ever.
func TestListingsOnOneConnection(t *testing.T) {
	w := newWorldOn(t, "sqlite:"+filepath.Join(t.TempDir(), "catalog.db"), catalog.Options{Readers: 1})
	w.setUp()
	w.claimable()
	c := must[wire.Claim](t)(w.claim("lee"))
	work := must[wire.Work](t)(w.submit("lee", c.Shard, []byte("labels")))
	must[wire.Work](t)(w.v.JudgeWork(t.Context(), w.as("rita"), w.scope(workDataset), work.ID, wire.Judgement{Reason: "look again"}))
	// A node that has just started has nobody's key at hand.
	w.config = func(cfg *vault.Config) {
		cfg.Keys = must[*keys.Ring](t)(keys.Open(w.keyDir, keys.NewPassphrase(""), w.db, rand.Reader))
	}
	restart := func() {
		w.v.Close()
		w.v = must[*vault.Vault](t)(w.open())
	}
	restart()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	page := must[wire.Page[wire.Work]](t)(w.v.Results(ctx, w.as("rita"), w.scope(workDataset), vault.ResultQuery{Shard: -1}))
	if len(page.Items) != 1 || page.Items[0].Reason != "look again" {
		t.Errorf("%+v", page.Items)
	}
	restart()
	log := must[wire.Page[wire.Record]](t)(w.v.Log(ctx, w.as("root"), vault.LogQuery{}))
	if len(log.Items) < 10 {
		t.Errorf("%+v", log.Items)
	}
}
