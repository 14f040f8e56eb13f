package ledger_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"dsvault/storage/storagetest"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/ledger"
)

// TestCommitUnknown: when the connection breaks in the middle of COMMIT, nobody
// gets a permit, whether the record was made or not; a change that was made is
// in force for the next decision; and the node goes on.
func TestCommitUnknown(t *testing.T) {
	for name, mode := range map[string]storagetest.WireMode{"the reply is lost": storagetest.LosesReply, "COMMIT is lost": storagetest.LosesCommit} {
		t.Run(name, func(t *testing.T) {
			dsn := engines[1].url(t)
			v, _ := newVault(t, dsn)
			w, near := storagetest.NewWire(t, dsn)
			n := v.nodeAt(near, v.clock)
			before, _ := v.log(n)
			committed := 0
			if mode == storagetest.LosesReply {
				committed = 1
			}

			w.Set(mode)
			p, err := n.Admit(t.Context(), v.read(v.lee, 1))
			wantCode(t, err, fault.Unavailable)
			if p != nil {
				t.Error("a permit without an acknowledged record")
			}
			_, err = n.Admit(t.Context(), v.read(v.stranger, 1))
			wantCode(t, err, fault.NotFound)
			_, err = n.Record(t.Context(), v.ownChange(audit.KindRevoke, func(ctx context.Context, tx *ledger.Tx) error {
				_, err := tx.EndGrants(ctx, v.lee, dataset.Labeler, v.scope.Parent(), tx.Now, tx.Revision)
				return err
			}))
			wantCode(t, err, fault.Unavailable)

			w.Set(storagetest.Works)
			_, err = n.Admit(t.Context(), v.read(v.lee, 2))
			if revoked := err != nil; revoked != (committed == 1) {
				t.Errorf("after a revoke that was committed %d times: %v", committed, err)
			}
			log, report := v.log(n)
			log = slices.DeleteFunc(log, func(e entry) bool { return e.Kind == audit.KindReadEnd }) // the node may have closed the read
			if got := len(log) - len(before); got != 3*committed+1 {
				t.Errorf("%d records were made, want %d", got, 3*committed+1)
			}
			// A restart closes what nobody could.
			n.Close()
			v.open(n)
			if _, report = v.log(n); len(report.OpenReads) != 0 {
				t.Errorf("open: %v", report.OpenReads)
			}
		})
	}
}

// TestServerGone: the database goes away under load and comes back. Nothing
// that was acknowledged is lost, and nobody needs to restart the node.
func TestServerGone(t *testing.T) {
	dsn := engines[1].url(t)
	v, _ := newVault(t, dsn)
	w, near := storagetest.NewWire(t, dsn)
	n := v.nodeAt(near, v.clock)
	var mu sync.Mutex
	var acknowledged []uint64
	for range 3 {
		var admitted, done sync.WaitGroup
		const readers = 16
		admitted.Add(readers)
		for i := range readers {
			done.Go(func() {
				first := sync.OnceFunc(admitted.Done)
				defer first()
				for {
					p, err := n.Admit(context.Background(), v.read(v.lee, i))
					if err != nil {
						wantCode(t, err, fault.Unavailable)
						return
					}
					mu.Lock()
					acknowledged = append(acknowledged, p.Receipt().Index)
					mu.Unlock()
					first()
				}
			})
		}
		admitted.Wait()
		w.Break(storagetest.Cut)
		done.Wait()
		w.Set(storagetest.Works)
	}
	p := must[*ledger.Permit](t)(n.Admit(t.Context(), v.read(v.lee, 1)))
	log, _ := v.log(n)
	for _, index := range append(acknowledged, p.Receipt().Index) {
		if index >= uint64(len(log)) || log[index].Kind != audit.KindRead {
			t.Errorf("read %d was acknowledged and is not in the log", index)
		}
	}
}

// TestConnectionBreaksInApply: the whole batch fails, whoever was admitted
// already, and nothing of it stays.
func TestConnectionBreaksInApply(t *testing.T) {
	dsn := engines[1].url(t)
	v, _ := newVault(t, dsn)
	w, near := storagetest.NewWire(t, dsn)
	n := v.nodeAt(near, v.clock)
	before, _ := v.log(n)
	breaks := v.ownChange(audit.KindClientCreate, func(ctx context.Context, tx *ledger.Tx) error {
		w.Break(storagetest.Works)
		_, err := tx.Scope(ctx, scopeOf(t, "acme"))
		return err
	})
	breaks.PolicyChange = false
	other := v.node()
	release := v.hold(other)
	var done sync.WaitGroup
	for _, in := range []ledger.Intent{v.read(v.lee, 1), breaks, v.read(v.lee, 2), v.read(v.stranger, 3)} {
		waiting := n.Waiting()
		done.Go(func() {
			_, err := n.Record(context.Background(), in)
			want := fault.Unavailable
			if in.Actor.Principal == v.stranger {
				want = fault.NotFound
			}
			wantCode(t, err, want)
		})
		queued(n, waiting+1)
	}
	release()
	done.Wait()
	if after, _ := v.log(n); len(after) != len(before) {
		t.Errorf("%d records were made", len(after)-len(before))
	}
	must[*ledger.Permit](t)(n.Admit(t.Context(), v.read(v.lee, 1)))
	v.log(n)
}

// sealerThatFails is a key ring during an outage.
type sealerThatFails struct{ err error }

func (s sealerThatFails) Seal(context.Context, dataset.PrincipalID, [16]byte, []byte) (ledger.Sealed, error) {
	return ledger.Sealed{}, s.err
}

func (sealerThatFails) Forget(dataset.PrincipalID) {}

func TestDetailsCannotBeSealed(t *testing.T) {
	v, n := newVault(t, engines[0].url(t))
	cause := errors.New("no keys")
	cfg := v.config(n)
	cfg.Sealer = sealerThatFails{fault.Wrap(fault.Unavailable, "test", "no keys", cause)}
	l := must[*ledger.Ledger](t)(ledger.Open(t.Context(), cfg))
	defer l.Close()
	before, _ := v.log(n)
	p, err := l.Admit(t.Context(), v.read(v.lee, 1))
	if p != nil || !errors.Is(err, cause) {
		t.Errorf("permit %v, error %v", p != nil, err)
	}
	_, err = l.Admit(t.Context(), v.read(v.stranger, 1))
	wantCode(t, err, fault.NotFound)
	if after, _ := v.log(n); len(after) != len(before) {
		t.Error("a record without its details")
	}
}
