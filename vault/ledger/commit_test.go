package ledger_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/ledger"
)

// commits counts the transactions that have written to the catalog so far, as
// the database itself does.
func (v *vault) commits(t *testing.T) int {
	t.Helper()
	if path, ok := strings.CutPrefix(v.url, "sqlite:"); ok {
		// iChange of the WAL index: https://www.sqlite.org/walformat.html
		shm := must[[]byte](t)(os.ReadFile(path + "-shm"))
		return int(binary.NativeEndian.Uint32(shm[8:]))
	}
	return v.query(t, "SELECT count(DISTINCT xmin::text) FROM leaf_batches")
}

// query asks PostgreSQL for a number.
func (v *vault) query(t *testing.T, text string) (n int) {
	t.Helper()
	conn := must[*pgx.Conn](t)(pgx.Connect(t.Context(), v.url))
	defer conn.Close(context.Background())
	check(t, conn.QueryRow(t.Context(), text).Scan(&n))
	return n
}

func TestGroupCommit(t *testing.T) {
	onEngines(t, func(t *testing.T, url string) {
		v, n := newVault(t, url)
		release := v.hold(n)
		const readers = ledger.MaxBatch + 88
		permits := make([]*ledger.Permit, readers)
		var done sync.WaitGroup
		for i := range readers {
			done.Go(func() {
				who := v.lee
				if i%4 == 3 {
					who = v.stranger
				}
				var err error
				permits[i], err = n.Admit(context.Background(), v.read(who, i%100))
				if (err == nil) != (who == v.lee) || err == nil != (permits[i] != nil) {
					t.Errorf("reader %d: permit %v, error %v", i, permits[i] != nil, err)
				}
			})
		}
		queued(n, readers)
		before := v.commits(t)
		release()
		done.Wait()
		if got := v.commits(t) - before; got != 2 {
			t.Errorf("%d admissions took %d transactions, want 2", readers, got)
		}
		log, report := v.log(n)
		if want := readers / 4 * 3; len(report.OpenReads) != want {
			t.Errorf("%d open reads, want %d", len(report.OpenReads), want)
		}
		for i, p := range permits {
			if p == nil {
				continue
			}
			r := p.Receipt()
			e := log[r.Index]
			if e.Kind != audit.KindRead || e.Decision != audit.Allowed || e.Object.Number != uint32(i%100) || audit.LeafHash(e.data) != r.Hash {
				t.Errorf("reader %d: leaf %d is %+v", i, r.Index, e.Leaf)
			}
		}
		together(readers, func(i int) {
			if permits[i] != nil {
				if err := permits[i].End(context.Background(), 10, ledger.Finished); err != nil {
					t.Error(err)
				}
			}
		})
		if _, report = v.log(n); len(report.OpenReads) != 0 {
			t.Errorf("still open: %v", report.OpenReads)
		}
	})
}

func TestRefusalsAreRecorded(t *testing.T) {
	onEngines(t, func(t *testing.T, url string) {
		v, n := newVault(t, url)
		ctx := t.Context()
		hidden := v.read(v.stranger, 1)
		hidden.Refused = &v.root
		_, err := n.Admit(ctx, hidden)
		wantCode(t, err, fault.NotFound)
		_, err = n.Admit(ctx, v.read(v.lee, 100)) // not assigned, but lee knows the dataset
		wantCode(t, err, fault.Forbidden)
		var f *fault.Error
		if !errors.As(err, &f) || len(f.Reasons) == 0 || f.Hint == "" {
			t.Errorf("%+v has no reasons or no hint", f)
		}
		odd := v.read(v.lee, 101)
		odd.Fields = append(odd.Fields, audit.StringField(audit.FieldPurpose, "\u0085"))
		_, err = n.Admit(ctx, odd)
		wantCode(t, err, fault.Forbidden)
		// Looking is recorded if it is refused, and only then.
		look := v.read(v.stranger, 2)
		look.Apply = func(context.Context, *ledger.Tx, *ledger.Intent) error { panic("a check changes nothing") }
		if d, err := n.Check(ctx, look); !fault.Is(err, fault.NotFound) || d.Allowed {
			t.Errorf("check: %v, %v", d, err)
		}
		if d, err := n.Check(ctx, v.read(v.lee, 2)); err != nil || !d.Allowed {
			t.Errorf("check: %v, %v", d, err)
		}

		log, report := v.log(n)
		if len(report.OpenReads) != 0 {
			t.Errorf("refused reads are open: %v", report.OpenReads)
		}
		refused := log[len(log)-4:]
		for i, e := range refused {
			kind, _ := e.Uint64(audit.FieldRefusedKind)
			if e.Kind != audit.KindRefused || e.Decision != audit.Refused || audit.Kind(kind) != audit.KindRead || e.Reason == "" {
				t.Errorf("refusal %d is %+v", i, e.Leaf)
			}
			if want := []uint64{0, v.dataset.Slot, v.dataset.Slot, v.dataset.Slot}[i]; e.Slot != want {
				t.Errorf("refusal %d is in slot %d, want %d", i, e.Slot, want)
			}
		}
		if !strings.Contains(refused[1].Reason, "assigned") {
			t.Errorf("reason %q", refused[1].Reason)
		}
	})
}

// TestRefusalStaysOne: no outage makes a refusal anything else, and an outage is
// no refusal; nor is that the node does not know the caller yet. Who has left is
// not told of a refusal that is in no record.
func TestRefusalStaysOne(t *testing.T) {
	v, n := newVault(t, engines[0].url(t))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := n.Admit(gone, v.read(v.stranger, 1))
	wantCode(t, err, fault.Canceled)
	_, err = n.Admit(t.Context(), v.read(v.stranger, 1)) // who is known from then on
	wantCode(t, err, fault.NotFound)
	_, err = n.Admit(gone, v.read(v.stranger, 1))
	wantCode(t, err, fault.Canceled)
	_, err = n.Check(gone, v.read(v.stranger, 1))
	wantCode(t, err, fault.Canceled)
	_, err = n.Admit(gone, v.read(v.lee, 1))
	wantCode(t, err, fault.Canceled)
	leaving, leave := context.WithCancel(t.Context())
	release := v.hold(n)
	left := make(chan error)
	go func() {
		_, err := n.Admit(leaving, v.read(v.stranger, 1))
		left <- err
	}()
	queued(n, 1)
	leave()
	wantCode(t, <-left, fault.Canceled)
	release()
	check(t, n.db.Close())
	_, err = n.Admit(t.Context(), v.read(v.stranger, 1))
	wantCode(t, err, fault.NotFound)
	_, err = n.Admit(t.Context(), v.read(newID[dataset.PrincipalID](), 1))
	wantCode(t, err, fault.Unavailable)
	p, err := n.Admit(t.Context(), v.read(v.lee, 1))
	wantCode(t, err, fault.Unavailable)
	if p != nil || fault.HintOf(err) == "" {
		t.Errorf("permit %v, hint %q", p, fault.HintOf(err))
	}
	n.Close()
	_, err = n.Admit(t.Context(), v.read(v.lee, 1))
	wantCode(t, err, fault.Unavailable)
	_, err = n.Admit(t.Context(), v.read(v.stranger, 1))
	wantCode(t, err, fault.NotFound)
}

// TestApplyInABatch: whatever one Apply does, the others of its batch are
// admitted, and nothing of it stays if it failed.
func TestApplyInABatch(t *testing.T) {
	errOwn := fault.New(fault.Conflict, "test", "no")
	scopeRow := func(name string) storage.ScopeRow {
		return storage.ScopeRow{Slot: 1000 + uint64(len(name)), Scope: scopeOf(t, name), Tag: newID[[16]byte]()}
	}
	onEngines(t, func(t *testing.T, url string) {
		v, n := newVault(t, url)
		cases := map[string]func(ctx context.Context, tx *ledger.Tx, in *ledger.Intent) error{
			"fails after it wrote rows": func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
				if err := tx.AddScope(ctx, scopeRow("one")); err != nil {
					return err
				}
				return errOwn
			},
			"hides that a row exists": func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
				row := scopeRow("acme")
				_ = tx.AddScope(ctx, row)
				return nil
			},
			"makes a record that cannot be encoded": func(ctx context.Context, tx *ledger.Tx, in *ledger.Intent) error {
				in.Fields = append(in.Fields, audit.StringField(audit.FieldRegion, "\x00"))
				return tx.AddScope(ctx, scopeRow("three"))
			},
		}
		before, _ := v.log(n)
		release := v.hold(n)
		var done sync.WaitGroup
		for name, apply := range cases {
			done.Go(func() {
				in := v.ownChange(audit.KindClientCreate, nil)
				in.PolicyChange, in.Apply = false, apply
				if _, err := n.Record(context.Background(), in); err == nil {
					t.Errorf("%s: admitted", name)
				}
			})
		}
		const readers = 20
		for i := range readers {
			done.Go(func() {
				if _, err := n.Admit(context.Background(), v.read(v.lee, i)); err != nil {
					t.Error(err)
				}
			})
		}
		queued(n, readers+len(cases))
		release()
		done.Wait()
		log, _ := v.log(n)
		if got := len(log) - len(before); got != readers {
			t.Errorf("%d records, want %d", got, readers)
		}
		for _, name := range []string{"one", "three"} {
			v.absent(n, name)
		}
	})
}

func TestPanicEndsOneBatch(t *testing.T) {
	onEngines(t, func(t *testing.T, url string) {
		v, n := newVault(t, url)
		in := v.ownChange(audit.KindClientCreate, func(ctx context.Context, tx *ledger.Tx) error {
			if err := tx.AddScope(ctx, storage.ScopeRow{Slot: 77, Scope: scopeOf(t, "gone"), Tag: newID[[16]byte]()}); err != nil {
				return err
			}
			return tx.Leaves(ctx, storage.LeafQuery{}, func(storage.Leaf) error { panic("in the middle of reading rows") })
		})
		release := v.hold(n)
		var done sync.WaitGroup
		for _, in := range []ledger.Intent{v.read(v.lee, 1), in, v.read(v.lee, 2)} {
			waiting := n.Waiting()
			done.Go(func() { n.Record(context.Background(), in) })
			queued(n, waiting+1)
		}
		release()
		done.Wait() // nobody hangs
		v.absent(n, "gone")
		must[*ledger.Permit](t)(n.Admit(t.Context(), v.read(v.lee, 3)))
		log, _ := v.log(n)
		if last := log[len(log)-1]; last.Object.Number != 3 {
			t.Errorf("the last record is of shard %d", last.Object.Number)
		}
	})
}

// absent checks that a scope was not made.
func (v *vault) absent(n *node, name string) {
	v.t.Helper()
	err := n.db.View(context.Background(), func(tx *catalog.Tx) error {
		_, err := tx.Scope(context.Background(), scopeOf(v.t, name))
		return err
	})
	if !errors.Is(err, storage.ErrNoRow) {
		v.t.Errorf("scope %s: %v, want none", name, err)
	}
}

func TestCanceledWhileQueued(t *testing.T) {
	v, n := newVault(t, engines[0].url(t))
	before, _ := v.log(n)
	release := v.hold(n)
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		p, err := n.Admit(ctx, v.read(v.lee, 1))
		wantCode(t, err, fault.Canceled)
		if p != nil {
			t.Error("a permit for somebody who left")
		}
	})
	queued(n, 1)
	cancel()
	release()
	done.Wait()
	if after, _ := v.log(n); len(after) != len(before) {
		t.Errorf("%d records, want %d", len(after), len(before))
	}
}

func TestQueueFull(t *testing.T) {
	v, n := newVault(t, engines[0].url(t))
	release := v.hold(n)
	var done sync.WaitGroup
	for i := range ledger.MaxQueue {
		done.Go(func() {
			if _, err := n.Admit(context.Background(), v.read(v.lee, i%100)); err != nil {
				t.Error(err)
			}
		})
	}
	queued(n, ledger.MaxQueue)
	_, err := n.Admit(t.Context(), v.read(v.lee, 1))
	wantCode(t, err, fault.Unavailable)
	_, err = n.Admit(t.Context(), v.read(v.stranger, 1))
	wantCode(t, err, fault.NotFound)
	release()
	done.Wait()
	v.log(n)
}

// TestClose: what was queued is finished, what comes later is refused, and
// nobody is left without an answer.
func TestClose(t *testing.T) {
	v, n := newVault(t, engines[0].url(t))
	admitted := make(chan uint64, 1<<16)
	var readers, closers sync.WaitGroup
	for range 32 {
		readers.Go(func() {
			for {
				p, err := n.Admit(context.Background(), v.read(v.lee, 1))
				if err != nil {
					wantCode(t, err, fault.Unavailable)
					return
				}
				admitted <- p.Receipt().Index
			}
		})
	}
	for range 100 {
		<-admitted
	}
	for range 3 {
		closers.Go(n.Close)
	}
	closers.Wait()
	readers.Wait()
	close(admitted)
	log, _ := v.log(n)
	for index := range admitted {
		if log[index].Kind != audit.KindRead {
			t.Errorf("record %d is %v", index, log[index].Kind)
		}
	}
}

// TestChangesTogether: every one of many changes at once is made, in a revision
// of its own, and none is told to try again.
func TestChangesTogether(t *testing.T) {
	onEngines(t, func(t *testing.T, url string) {
		v, n := newVault(t, url)
		const changes = 40
		together(2*changes, func(i int) {
			if i%2 == 1 {
				if _, err := n.Admit(context.Background(), v.read(v.lee, i)); err != nil {
					t.Error(err)
				}
				return
			}
			in := v.ownChange(audit.KindGrant, func(ctx context.Context, tx *ledger.Tx) error {
				return tx.AddGrant(ctx, dataset.Grant{ID: newID[dataset.GrantID](), Principal: v.stranger, Role: dataset.Auditor,
					Scope: dataset.Root, By: v.admin, At: tx.Now}, tx.Revision)
			})
			in.Own = false
			in.Query = rbac.Query{Actor: v.admin, Action: rbac.Grant, Target: v.stranger,
				Object: rbac.Object{Kind: rbac.GrantObj, Scope: dataset.Root, Shard: -1}}
			if _, err := n.Record(context.Background(), in); err != nil {
				t.Error(err)
			}
		})
		v.log(n)
	})
}

// TestLapsedWhileQueued: time counts when the record is made, not when it was
// asked for.
func TestLapsedWhileQueued(t *testing.T) {
	onEngines(t, func(t *testing.T, url string) {
		v, n := newVault(t, url)
		v.assign(n, v.lee, v.clock.Now().Add(time.Hour))
		release := v.hold(n)
		var done sync.WaitGroup
		done.Go(func() {
			_, err := n.Admit(context.Background(), v.read(v.lee, 1))
			if !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Forbidden) {
				t.Errorf("an assignment that has run out: %v", err)
			}
		})
		queued(n, 1)
		v.clock.Add(time.Hour)
		release()
		done.Wait()
		log, _ := v.log(n)
		if last := log[len(log)-1]; last.Kind != audit.KindRefused {
			t.Errorf("the last record is %v", last.Kind)
		}
	})
}

// TestClockSetBack: the log's time never goes back, and what has run out by it
// stays so, on the node whose clock is wrong as on another.
func TestClockSetBack(t *testing.T) {
	onEngines(t, func(t *testing.T, url string) {
		v, n := newVault(t, url)
		slow := newClock()
		other := v.nodeAt(v.url, slow)
		v.assign(n, v.lee, v.clock.Now().Add(time.Hour))
		v.clock.Add(2 * time.Hour)
		_, err := n.Admit(t.Context(), v.read(v.lee, 1))
		if err == nil {
			t.Fatal("an assignment that has run out")
		}
		v.clock.Add(-90 * time.Minute)
		for _, n := range []*node{n, other} {
			if _, err := n.Admit(t.Context(), v.read(v.lee, 1)); !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Forbidden) {
				t.Errorf("an assignment that has run out by the log's time: %v", err)
			}
		}
		v.assign(other, v.lee, time.Time{})
		p := must[*ledger.Permit](t)(n.Admit(t.Context(), v.read(v.lee, 1)))
		if _, err := n.ring.FileKey(t.Context(), p, 1, v.header); err != nil {
			t.Errorf("a fresh permit while the clock is behind the log: %v", err)
		}
		v.clock.Add(ledger.StartLife + time.Second) // still behind the log
		_, err = n.ring.FileKey(t.Context(), p, 1, v.header)
		wantCode(t, err, fault.Unavailable)
		v.log(n)
	})
}

// TestNothingPersonal looks for names, addresses and IDs in the leaves.
func TestNothingPersonal(t *testing.T) {
	v, n := newVault(t, engines[0].url(t))
	p := must[*ledger.Permit](t)(n.Admit(t.Context(), v.read(v.lee, 1)))
	check(t, p.End(t.Context(), 1, ledger.Finished))
	_, err := n.Admit(t.Context(), v.read(v.stranger, 1))
	wantCode(t, err, fault.NotFound)
	log, _ := v.log(n)
	found := 0
	for _, e := range log {
		words := [][]byte{[]byte(handle), []byte(address), []byte("batch-1"), v.lee[:], v.stranger[:]}
		for _, word := range words {
			if bytes.Contains(e.data, word) || bytes.Contains(e.details, word) {
				t.Errorf("record %d holds %q", e.index, word)
			}
		}
		if len(e.details) == 0 {
			continue
		}
		_, details, err := n.ring.OpenDetails(t.Context(), e.principal, e.details)
		check(t, err)
		if bytes.Contains(details, []byte(handle)) && bytes.Contains(details, []byte(address)) {
			found++
		}
	}
	if found != 3 {
		t.Errorf("%d records have their details sealed, want 3", found)
	}
}

func TestBadIntents(t *testing.T) {
	v, n := newVault(t, engines[0].url(t))
	before, _ := v.log(n)
	for name, spoil := range map[string]func(*ledger.Intent){
		"no shard":               func(in *ledger.Intent) { in.Access = nil },
		"no decision":            func(in *ledger.Intent) { in.Own = true },
		"no query":               func(in *ledger.Intent) { in.Query = rbac.Query{} },
		"another shard decided":  func(in *ledger.Intent) { in.Query.Object.Shard = 2 },
		"another shard recorded": func(in *ledger.Intent) { in.Object.Number = 2 },
		"another dataset opened": func(in *ledger.Intent) { in.Access.Dataset[0] ^= 1 },
	} {
		in := v.read(v.lee, 1)
		spoil(&in)
		p, err := n.Admit(t.Context(), in)
		if p != nil || !fault.Is(err, fault.Internal) {
			t.Errorf("%s: permit %v, error %v", name, p != nil, err)
		}
	}
	if after, _ := v.log(n); len(after) != len(before) {
		t.Errorf("%d records were made", len(after)-len(before))
	}
}
