package vault_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// TestHoldHints: who is stopped by a legal hold is told so, and nobody else.
func TestHoldHints(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	const ds = "acme/signs/batch-1"
	w.assign("lee", "0-1")
	must[wire.BreakGlass](t)(w.breakGlass("root", "acme/signs", "incident 12", 0))
	must[wire.Hold](t)(w.hold("carol", "acme"))
	read := func(who string) error { _, err := w.read(who, ds, 0); return err }
	erase := func(who string) error {
		_, err := w.v.Erase(context.Background(), w.as(who), wire.NewErasure{Scope: w.scope(ds), Reason: "over"})
		return err
	}
	for name, c := range map[string]struct {
		err  error
		held bool
	}{
		"emergency": {read("root"), true}, "assigned": {read("lee"), true}, "auditor": {read("audrey"), false},
		"erased by the client": {erase("carol"), true}, "erased by a labeler": {erase("lee"), false},
	} {
		var e *fault.Error
		if !errors.As(c.err, &e) || e.Code != fault.Forbidden {
			t.Errorf("%s: %v", name, c.err)
			continue
		}
		if strings.Contains(fault.HintOf(e), "hold") != c.held || !c.held && strings.Contains(strings.Join(e.Reasons, "\n"), "hold") {
			t.Errorf("%s: %q, hint %q", name, e.Reasons, fault.HintOf(e))
		}
	}
	if _, err := w.v.ReadShard(context.Background(), w.as("carol"), dataset.ShardRef{Dataset: w.scope(ds)}, w.ids["carol"], "training"); err != nil {
		t.Errorf("the client under her own hold: %v", err)
	}
}
