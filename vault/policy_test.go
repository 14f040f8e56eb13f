package vault_test

import (
	"context"
	"encoding/hex"
	"testing"
	"testing/fstest"

	"dsvault/policies"
	"dsvault/rbac"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// TestLoadPolicy: a policy that cannot be recorded is not in force, and one that
// is recorded is.
func TestLoadPolicy(t *testing.T) {
	w := newWorld(t)
	files := fstest.MapFS{}
	for _, name := range []string{"model.conf", "policy.csv", "truth.csv"} {
		text := must[[]byte](t)(policies.FS.ReadFile(name))
		files[name] = &fstest.MapFile{Data: append(text, "# another\n"...)}
	}
	files["model.conf"].Data = must[[]byte](t)(policies.FS.ReadFile("model.conf"))
	other := must[*rbac.Policy](t)(rbac.LoadPolicy(files))
	inForce := func(want *rbac.Policy) {
		t.Helper()
		d := must[wire.Decision](t)(w.v.Can(t.Context(), w.as("root"), "me", rbac.Read, "/", "", ""))
		if hash := want.Hash(); d.Policy != hex.EncodeToString(hash[:]) {
			t.Errorf("the policy in force is %s", d.Policy)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.v.LoadPolicy(gone, other); !fault.Is(err, fault.Canceled) {
		t.Errorf("loaded without a record: %v", err)
	}
	inForce(rbac.Default())
	if err := w.v.LoadPolicy(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	inForce(other)
}
