package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/ledger"
)

// wire stands between a node and PostgreSQL and breaks when told to.
type wire struct {
	listener net.Listener
	target   string
	mode     atomic.Int32

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	wg    sync.WaitGroup
}

const (
	works       int32 = iota
	losesReply        // the server has committed; nobody hears of it
	losesCommit       // COMMIT does not arrive
	cut               // no connection at all
)

// newWire gives a wire to the server at dsn, and the URL of its near end.
func newWire(t *testing.T, dsn string) (*wire, string) {
	t.Helper()
	u := must[*url.URL](t)(url.Parse(dsn))
	query := u.Query()
	folder := must[string](t)(os.MkdirTemp("", "wire")) // short: it holds a socket
	t.Cleanup(func() { os.RemoveAll(folder) })
	const socket = ".s.PGSQL.5432"
	w := &wire{target: filepath.Join(query.Get("host"), socket), conns: map[net.Conn]struct{}{}}
	w.listener = must[net.Listener](t)(net.Listen("unix", filepath.Join(folder, socket)))
	w.wg.Go(w.serve)
	t.Cleanup(func() {
		w.listener.Close()
		w.breakNow(cut)
		w.wg.Wait()
	})
	query.Set("host", folder)
	u.RawQuery = query.Encode()
	return w, u.String()
}

func (w *wire) serve() {
	for {
		near, err := w.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("unix", w.target)
		if err != nil || w.mode.Load() == cut {
			near.Close()
			continue
		}
		w.mu.Lock()
		w.conns[near], w.conns[far] = struct{}{}, struct{}{}
		w.mu.Unlock()
		swallow := new(atomic.Bool)
		w.wg.Go(func() {
			w.pump(near, far, func(data []byte) bool {
				mode := w.mode.Load()
				commit := bytes.Contains(data, []byte("COMMIT\x00"))
				swallow.Store(commit && mode == losesReply)
				return mode == cut || commit && mode == losesCommit
			})
		})
		w.wg.Go(func() { w.pump(far, near, func([]byte) bool { return swallow.Load() || w.mode.Load() == cut }) })
	}
}

// pump carries data until either end closes, or stop says so.
func (w *wire) pump(from, to net.Conn, stop func([]byte) bool) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil || stop(buf[:n]) {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// breakNow sets the mode and ends the connections there are.
func (w *wire) breakNow(mode int32) {
	w.mode.Store(mode)
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		c.Close()
	}
	clear(w.conns)
}

// TestCommitUnknown: when the connection breaks in the middle of COMMIT, nobody
// gets a permit, whether the record was made or not; a change that was made is
// in force for the next decision; and the node goes on.
func TestCommitUnknown(t *testing.T) {
	for name, mode := range map[string]int32{"the reply is lost": losesReply, "COMMIT is lost": losesCommit} {
		t.Run(name, func(t *testing.T) {
			dsn := engines[1].url(t)
			v, _ := newVault(t, dsn)
			w, near := newWire(t, dsn)
			n := v.nodeAt(near, v.clock)
			before, _ := v.log(n)
			committed := 0
			if mode == losesReply {
				committed = 1
			}

			w.mode.Store(mode)
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

			w.mode.Store(works)
			_, err = n.Admit(t.Context(), v.read(v.lee, 2))
			if revoked := err != nil; revoked != (committed == 1) {
				t.Errorf("after a revoke that was committed %d times: %v", committed, err)
			}
			log, report := v.log(n)
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
	w, near := newWire(t, dsn)
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
		w.breakNow(cut)
		done.Wait()
		w.mode.Store(works)
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
	w, near := newWire(t, dsn)
	n := v.nodeAt(near, v.clock)
	before, _ := v.log(n)
	breaks := v.ownChange(audit.KindClientCreate, func(ctx context.Context, tx *ledger.Tx) error {
		w.breakNow(works)
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
