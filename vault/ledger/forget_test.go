package ledger_test

import (
	"context"
	"errors"
	"testing"

	"dsvault/storage"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
	"dsvault/vault/ledger"
)

// TestForgottenOnEveryNode: one node anonymises somebody; another one, which
// had the key in memory, drops it with the next decision, and what the person
// had begun there still ends.
func TestForgottenOnEveryNode(t *testing.T) {
	onEngines(t, func(t *testing.T, url string) {
		v, one := newVault(t, url)
		two := v.node()
		ctx := context.Background()
		permit := must[*ledger.Permit](t)(two.Admit(ctx, v.read(v.lee, 1)))
		must[[16]byte](t)(two.ring.Tag(ctx, v.lee, v.root.Tag))
		forget := v.ownChange(audit.KindAnonymize, func(ctx context.Context, tx *ledger.Tx) error {
			_, err := tx.Forget(ctx, storage.Forgotten{Principal: v.lee, At: tx.Now}, "anon-1", tx.Revision)
			return err
		})
		must[ledger.Receipt](t)(one.Record(ctx, forget))
		for name, n := range map[string]*node{"the node that did it": one, "another one": two} {
			if name == "another one" { // it hears of it with its next decision
				_, err := n.Admit(ctx, v.read(v.lee, 2))
				if code := fault.CodeOf(err); code != fault.Forbidden && code != fault.NotFound {
					t.Errorf("%s admitted somebody who was anonymised: %v", name, err)
				}
			}
			if _, err := n.ring.Tag(ctx, v.lee, v.root.Tag); !errors.Is(err, ledger.ErrForgotten) || !fault.Is(err, fault.Conflict) {
				t.Errorf("%s still has the key: %v", name, err)
			}
			if _, _, err := n.ring.OpenDetails(ctx, v.lee, make([]byte, 100)); !errors.Is(err, ledger.ErrForgotten) {
				t.Errorf("%s opens details: %v", name, err)
			}
		}
		check(t, permit.End(ctx, 10, ledger.CutOff))
		log, report := v.log(two)
		if len(report.OpenReads) != 0 {
			t.Error("the read stays open")
		}
		last := log[len(log)-1]
		if last.Kind != audit.KindReadEnd || last.Actor != [16]byte{} || last.Commitment != [32]byte{} {
			t.Errorf("the end names somebody: %+v", last)
		}
		refused := log[len(log)-2]
		if refused.Kind != audit.KindRefused || refused.Actor != [16]byte{} {
			t.Errorf("the refusal names somebody: %+v", refused)
		}
		// A node that starts later never learns the key.
		late := v.node()
		if _, err := late.ring.Seal(ctx, v.lee, v.root.Tag, nil); !errors.Is(err, ledger.ErrForgotten) {
			t.Errorf("a new node: %v", err)
		}
	})
}
