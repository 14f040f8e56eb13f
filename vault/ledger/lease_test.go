package ledger_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/ledger"
)

// sharedNode is a node beside others, with a clock of its own.
func (v *vault) sharedNode(settle func(context.Context, ledger.Receipt) error) *node {
	v.t.Helper()
	n := v.nodeAt(v.url, newClock())
	n.Ledger.Close()
	cfg := v.config(n)
	cfg.Shared, cfg.Settle = true, settle
	n.Ledger = must[*ledger.Ledger](v.t)(ledger.Open(context.Background(), cfg))
	v.t.Cleanup(n.Ledger.Close)
	return n
}

// TestLease: beside other nodes a permit is good for a while only, until the node
// has looked again. A clock that was set counts like time that has passed.
func TestLease(t *testing.T) {
	onEngines(t, func(t *testing.T, url string) {
		v, alone := newVault(t, url)
		n := v.sharedNode(nil)
		ctx := t.Context()
		p := must[*ledger.Permit](t)(n.Admit(ctx, v.read(v.lee, 7)))
		lapsed := func(when string) {
			t.Helper()
			for what, err := range map[string]error{"sent": p.Holds(), "opened": p.Covers(v.id, 7)} {
				if !errors.Is(err, ledger.ErrLapsed) || !fault.Is(err, fault.Unavailable) {
					t.Errorf("%s: something may be %s: %v", when, what, err)
				}
			}
			if left := p.Left(); left != 0 {
				t.Errorf("%s: %s are left", when, left)
			}
		}
		n.clock.Add(ledger.Lease)
		check(t, p.Holds())
		check(t, p.Covers(v.id, 7))
		n.clock.Add(time.Microsecond)
		lapsed("after the lease")
		seen := must[ledger.Look](t)(n.Look(ctx))
		n.clock.Add(ledger.Lease / 2)
		check(t, p.Renew(seen))
		check(t, p.Holds())
		if left := p.Left(); left != ledger.Lease/2 {
			t.Errorf("%s are left; a lease counts from before the look", left)
		}
		n.clock.Add(-ledger.Lease)
		lapsed("on a clock that was set back")
		n.clock.Add(time.Hour)
		lapsed("on a clock that was set forward")
		// For all that the node can tell the others have taken it for dead.
		seen = must[ledger.Look](t)(n.Look(ctx))
		if err := p.Renew(seen); !errors.Is(err, ledger.ErrLapsed) {
			t.Errorf("after an hour: %v", err)
		}
		p = must[*ledger.Permit](t)(n.Admit(ctx, v.read(v.lee, 7)))

		// A look from before the revoke renews nothing once the node has followed.
		seen = must[ledger.Look](t)(n.Look(ctx))
		check(t, p.Renew(seen))
		v.revoke(alone, v.lee, dataset.Labeler, v.scope.Parent())
		check(t, p.Holds()) // the node has not looked yet
		must[ledger.Look](t)(n.Look(ctx))
		wantCode(t, p.Holds(), fault.NotFound)
		wantCode(t, p.Renew(seen), fault.NotFound)

		// What is not for a reader has longer, and so has who is alone.
		v.grant(alone, v.lee, dataset.Labeler, v.scope.Parent())
		in := v.read(v.lee, 1)
		in.Kind = audit.KindUpload
		up := must[*ledger.Permit](t)(n.Admit(ctx, in))
		own := must[*ledger.Permit](t)(alone.Admit(ctx, v.read(v.lee, 1)))
		n.clock.Add(ledger.Lease + time.Microsecond)
		v.clock.Add(ledger.Lease + time.Microsecond)
		check(t, up.Covers(v.id, 1))
		check(t, own.Covers(v.id, 1))
		wantCode(t, p.Renew(ledger.Look{}), fault.Internal)
	})
}

// TestUnfollowed: a change is followed once each node that had a read open has said
// so, or has closed it. Reads from after the change do not matter.
func TestUnfollowed(t *testing.T) {
	onEngines(t, func(t *testing.T, url string) {
		v, alone := newVault(t, url)
		ctx := t.Context()
		var settled atomic.Int32
		a := v.sharedNode(func(context.Context, ledger.Receipt) error {
			settled.Add(1)
			return nil
		})
		b := v.sharedNode(nil)
		behind := func(n *node, change ledger.Receipt, want bool, when string) {
			t.Helper()
			if got := must[bool](t)(n.Unfollowed(ctx, change)); got != want {
				t.Errorf("%s: others are behind: %v", when, got)
			}
		}
		must[*ledger.Permit](t)(a.Admit(ctx, v.read(v.lee, 1)))
		change := v.grant(a, v.stranger, dataset.Auditor, dataset.Root)
		behind(a, change, false, "only the node's own read is open")
		first := must[*ledger.Permit](t)(b.Admit(ctx, v.read(v.lee, 1)))
		behind(a, change, false, "another's read is newer")
		before := must[ledger.Look](t)(b.Look(ctx))
		change = v.grant(a, v.stranger, dataset.Reviewer, dataset.Root)
		behind(a, change, true, "another's read is open")
		check(t, b.Follow(ctx, before))
		behind(a, change, true, "the other one has looked before")
		check(t, b.Follow(ctx, must[ledger.Look](t)(b.Look(ctx))))
		check(t, b.Follow(ctx, before)) // comes late, and takes nothing back
		behind(a, change, false, "the other one has followed")
		change = v.grant(a, v.stranger, dataset.Admin, dataset.Root)
		behind(a, change, true, "it changes again")
		check(t, first.End(ctx, 0, ledger.Finished))
		behind(a, change, false, "the read has ended")
		behind(alone, change, false, "a node that is alone asks nobody")

		if got := settled.Load(); got != 3 {
			t.Errorf("%d of 3 changes were settled", got)
		}
		in := v.ownChange(audit.KindGrant, func(context.Context, *ledger.Tx) error { return nil })
		in.Gives = true
		must[ledger.Receipt](t)(a.Record(ctx, in))
		if got := settled.Load(); got != 3 {
			t.Error("a change that only gives was waited for")
		}
		v.log(alone)
	})
}
