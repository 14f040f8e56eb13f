package ledger_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"dsvault/storage/catalog"
	"dsvault/vault/ledger"
)

// TestTakenForDead: a node that was held up for so long that the others may have
// closed its reads does not go on with them, and is alive again with its next
// read.
func TestTakenForDead(t *testing.T) {
	v, first := newVault(t, engines[1].url(t))
	first.Close()
	n := v.nodeAt(v.url, newClock())
	n.Close()
	config := v.config(n)
	config.Shared = true
	n.Ledger = must[*ledger.Ledger](t)(ledger.Open(t.Context(), config))
	t.Cleanup(n.Close)
	alive := func() (held bool) {
		t.Helper()
		check(t, first.db.View(t.Context(), func(tx *catalog.Tx) error {
			holder, err := tx.LeaseHolder(t.Context(), n.LeaseName())
			held = holder == n.Node()
			return err
		}))
		return held
	}
	renew := func(p *ledger.Permit) error {
		t.Helper()
		look := must[ledger.Look](t)(n.Look(t.Context()))
		return p.Renew(look)
	}
	before := must[*ledger.Permit](t)(n.Admit(t.Context(), v.read(v.lee, 1)))
	check(t, renew(before))
	n.clock.Add(time.Second)
	check(t, renew(before))

	n.clock.Add(ledger.SureAlive)
	check(t, first.db.Update(t.Context(), func(tx *catalog.Tx) error { return tx.DropLease(t.Context(), n.LeaseName(), n.Node()) }))
	if err := renew(before); !errors.Is(err, ledger.ErrLapsed) {
		t.Errorf("the others may have closed the read, and it goes on: %v", err)
	}
	after := must[*ledger.Permit](t)(n.Admit(context.Background(), v.read(v.lee, 2)))
	if !alive() {
		t.Error("a read was admitted on a node that counts as dead")
	}
	check(t, renew(after))
	if err := renew(before); !errors.Is(err, ledger.ErrLapsed) {
		t.Errorf("the node is alive again, and a read from before goes on: %v", err)
	}
	check(t, after.End(t.Context(), 1, ledger.Finished))
}
