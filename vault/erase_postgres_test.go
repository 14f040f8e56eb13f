package vault_test

import (
	"context"
	"testing"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/storage/storagetest"
	"dsvault/vault/wire"
)

// TestEraseOnPostgres: holds, retention and erasures do the same there.
func TestEraseOnPostgres(t *testing.T) {
	w := newWorldOn(t, storagetest.Postgres(t), catalog.Options{})
	w.setUp()
	ctx := context.Background()
	other := w.newDataset(1)
	h := must[wire.Hold](t)(w.hold("root", "acme/signs"))
	w.keep(other, storage.KeepData, "1d")
	w.keep("/", storage.KeepLog, "1d")
	w.keep("/", storage.KeepPersonal, "9y")
	w.clock.Add(25 * time.Hour)
	w.v.Chores(ctx)
	must[int](t)(w.v.Sweep(ctx, w.clock.Now()))
	asked := must[wire.Hold](t)(w.v.ReleaseHold(ctx, w.as("root"), h.ID, ""))
	must[wire.Approval](t)(w.v.Approve(ctx, w.as("second"), asked.Pending.ID))
	w.v.Chores(ctx)
	e := must[wire.Erasure](t)(w.v.Erase(ctx, w.as("root"), wire.NewErasure{Scope: w.scope("acme")}))
	must[wire.Approval](t)(w.v.Approve(ctx, w.as("second"), e.Pending.ID))
	w.v.Chores(ctx)
	w.v.Chores(ctx)
	for _, e := range w.erasures("acme") {
		if e.State != "complete" {
			t.Errorf("%+v", e)
		}
		w.certificate(e)
	}
	must[wire.Page[wire.Retention]](t)(w.v.Retentions(ctx, w.as("carol"), w.scope("acme/signs"), "", 1))
	must[wire.Page[wire.Hold]](t)(w.v.Holds(ctx, w.as("carol"), w.scope("acme/signs"), true, h.ID, 1))
	w.clock.Add(31 * 24 * time.Hour)
	w.v.Chores(ctx)
	w.nothingLeft()
	w.verify()
}
