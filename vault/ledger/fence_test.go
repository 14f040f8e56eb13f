package ledger_test

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/ledger"
)

// TestFence: what one node changes, the other decides on at once.
func TestFence(t *testing.T) {
	onEngines(t, func(t *testing.T, url string) {
		v, one := newVault(t, url)
		two := v.node()
		ctx := t.Context()
		labelers := v.scope.Parent()
		must[*ledger.Permit](t)(two.Admit(ctx, v.read(v.lee, 1)))
		for range 3 {
			v.revoke(one, v.lee, dataset.Labeler, labelers)
			if d := two.World().Revision(); d >= one.World().Revision() {
				t.Fatal("the other node knew before it was asked")
			}
			if p, err := two.Admit(ctx, v.read(v.lee, 1)); p != nil || !fault.Is(err, fault.NotFound) {
				t.Errorf("after a revoke on the other node: permit %v, error %v", p != nil, err)
			}
			v.grant(one, v.lee, dataset.Labeler, labelers)
			must[*ledger.Permit](t)(two.Admit(ctx, v.read(v.lee, 1)))
			// Looking at records goes by the policy in force, too.
			v.revoke(one, v.lee, dataset.Labeler, labelers)
			if d, err := two.Check(ctx, v.read(v.lee, 1)); err == nil || d.Allowed {
				t.Errorf("a check after a revoke on the other node: %+v", d)
			}
			v.grant(two, v.lee, dataset.Labeler, labelers)
			must[*ledger.Permit](t)(one.Admit(ctx, v.read(v.lee, 1)))
		}
		v.log(one)
	})
}

// TestRevokeUnderLoad hammers two nodes with reads while a role is granted and
// revoked. Every read that is asked for after a revoke has returned is refused,
// on both; and in the log no read is allowed between a revoke and a grant.
func TestRevokeUnderLoad(t *testing.T) {
	onEngines(t, func(t *testing.T, url string) {
		v, one := newVault(t, url)
		nodes := []*node{one, v.node()}
		labelers := v.scope.Parent()
		const rounds, readers, after = 4, 24, 5
		for round := range rounds {
			var revoked atomic.Bool
			var begun, done sync.WaitGroup
			begun.Add(readers)
			for i := range readers {
				done.Go(func() {
					first := sync.OnceFunc(begun.Done)
					defer first()
					for late := 0; late < after; {
						asked := revoked.Load()
						p, err := nodes[i%2].Admit(context.Background(), v.read(v.lee, i))
						first()
						switch {
						case err == nil && asked:
							t.Errorf("record %d: a read was admitted after the revoke had returned", p.Receipt().Index)
						case err != nil && !fault.Is(err, fault.NotFound):
							t.Error(err)
							return
						}
						if asked {
							late++
						}
					}
				})
			}
			begun.Wait()
			v.revoke(nodes[round%2], v.lee, dataset.Labeler, labelers)
			revoked.Store(true)
			done.Wait()
			v.grant(nodes[(round+1)%2], v.lee, dataset.Labeler, labelers)
		}
		log, _ := v.log(one)
		granted, reads := true, 0
		for _, e := range log {
			switch e.Kind {
			case audit.KindRevoke:
				granted = false
			case audit.KindGrant:
				granted = true
			case audit.KindRead:
				if reads++; !granted {
					t.Errorf("record %d allows a read after the revoke", e.index)
				}
			}
		}
		if reads < rounds*readers/2 {
			t.Errorf("only %d reads were admitted", reads)
		}
	})
}

func TestPermit(t *testing.T) {
	v, n := newVault(t, engines[0].url(t))
	ctx := t.Context()
	open := func(p *ledger.Permit, shard int) error {
		key, err := n.ring.FileKey(ctx, p, shard, v.header)
		if err == nil {
			key.Destroy()
		}
		return err
	}
	admit := func() *ledger.Permit {
		t.Helper()
		return must[*ledger.Permit](t)(n.Admit(ctx, v.read(v.lee, 7)))
	}
	for name, p := range map[string]*ledger.Permit{"nil": nil, "zero": {}} {
		wantCode(t, open(p, 0), fault.Forbidden)
		wantCode(t, p.Recheck(), fault.Forbidden)
		wantCode(t, p.End(ctx, 1, ledger.Finished), fault.Forbidden)
		if t.Failed() {
			t.Fatal(name)
		}
	}

	p := admit()
	check(t, open(p, 7))
	wantCode(t, open(p, 8), fault.Forbidden)
	other := v.id
	other[0] ^= 1
	wantCode(t, p.Covers(other, 7), fault.Forbidden)
	check(t, p.End(ctx, 5, ledger.Finished))
	wantCode(t, open(p, 7), fault.Forbidden)
	log, _ := v.log(n)
	check(t, p.End(ctx, 6, ledger.Failed)) // counts for nothing
	again, _ := v.log(n)
	if len(again) != len(log) {
		t.Error("a second End was recorded")
	}
	end := log[len(log)-1]
	sent, _ := end.Uint64(audit.FieldBytesSent)
	cause, _ := end.Text(audit.FieldCause)
	ref, _ := end.Uint64(audit.FieldRefIndex)
	if end.Kind != audit.KindReadEnd || sent != 5 || cause != "finished" || ref != p.Receipt().Index {
		t.Errorf("the end is %+v", end.Leaf)
	}

	late := admit()
	v.clock.Add(ledger.StartLife)
	check(t, open(late, 7))
	v.clock.Add(time.Microsecond)
	wantCode(t, open(late, 7), fault.Unavailable)
	early := admit()
	v.clock.Add(-time.Second)
	wantCode(t, open(early, 7), fault.Unavailable)
	v.clock.Add(time.Second)

	p = admit()
	v.grant(n, v.stranger, dataset.Auditor, dataset.Root) // of no concern
	check(t, p.Recheck())
	v.revoke(n, v.lee, dataset.Labeler, v.scope.Parent())
	wantCode(t, p.Recheck(), fault.NotFound)
	wantCode(t, open(p, 7), fault.NotFound)
	v.grant(n, v.lee, dataset.Labeler, v.scope.Parent())
	check(t, p.Recheck())

	v.assign(n, v.lee, v.clock.Now().Add(time.Hour))
	p = admit()
	v.clock.Add(time.Hour - time.Microsecond)
	check(t, p.Recheck())
	v.clock.Add(time.Microsecond)
	if p.Recheck() == nil {
		t.Error("the assignment has run out, and the read goes on")
	}
	check(t, p.End(ctx, 0, ledger.CutOff))

	v.assign(n, v.lee, time.Time{})
	p = admit()
	v.assign(n, v.lee, v.clock.Now().Add(time.Hour)) // it gets an end while the read runs
	check(t, p.Recheck())
	v.clock.Add(time.Hour - time.Microsecond)
	check(t, p.Recheck())
	v.clock.Add(time.Microsecond)
	if p.Recheck() == nil {
		t.Error("the later assignment has run out, and the read goes on")
	}
}

// TestPermitForUpload: a permit that is not for a read opens and ends nothing in
// the log.
func TestPermitForUpload(t *testing.T) {
	v, n := newVault(t, engines[0].url(t))
	in := v.read(v.lee, 1)
	in.Kind = audit.KindUpload
	p := must[*ledger.Permit](t)(n.Admit(t.Context(), in))
	check(t, p.End(t.Context(), 1, ledger.Finished))
	wantCode(t, p.Covers(v.id, 1), fault.Forbidden)
	if _, report := v.log(n); len(report.OpenReads) != 0 {
		t.Error("an upload is open as a read")
	}
}

// TestAbandonedReads: what a process left open, the next one closes, with the
// most that it can have sent. A process that is not dead after all does not
// close it a second time.
func TestAbandonedReads(t *testing.T) {
	onEngines(t, func(t *testing.T, url string) {
		v, n := newVault(t, url)
		const reads = ledger.MaxBatch + 10
		permits := make([]*ledger.Permit, reads)
		together(reads, func(i int) {
			in := v.read(v.lee, i%100)
			in.Access.MaxBytes = int64(1000 + i)
			var err error
			if permits[i], err = n.Admit(context.Background(), in); err != nil {
				t.Error(err)
			}
		})
		check(t, permits[0].End(t.Context(), 3, ledger.ClientGone))
		if _, report := v.log(n); len(report.OpenReads) != reads-1 {
			t.Fatalf("%d open reads", len(report.OpenReads))
		}
		// Two restart at once.
		together(2, func(int) {
			m := &node{db: n.db, ring: n.ring, clock: n.clock}
			l, err := ledger.Open(context.Background(), v.config(m))
			if err != nil {
				t.Error(err)
				return
			}
			l.Close()
		})
		log, report := v.log(n)
		if len(report.OpenReads) != 0 {
			t.Errorf("still open: %v", report.OpenReads)
		}
		most := make(map[uint64]uint64, reads)
		for i, p := range permits {
			most[p.Receipt().Index] = uint64(1000 + i)
		}
		ends := 0
		for _, e := range log {
			cause, _ := e.Text(audit.FieldCause)
			if e.Kind != audit.KindReadEnd || cause != string(ledger.Crashed) {
				continue
			}
			ends++
			ref, _ := e.Uint64(audit.FieldRefIndex)
			if sent, _ := e.Uint64(audit.FieldBytesSent); sent != most[ref] {
				t.Errorf("read %d was closed with %d bytes, want %d", ref, sent, most[ref])
			}
		}
		if ends != reads-1 {
			t.Errorf("%d reads were closed as unknown, want %d", ends, reads-1)
		}
		wantCode(t, permits[1].End(t.Context(), math.MaxInt64, ledger.Finished), fault.Conflict)
		v.log(n)
	})
}

// TestReadsOfLivingNodes: a node that starts leaves the reads of others alone as
// long as they are alive, and closes them after that.
func TestReadsOfLivingNodes(t *testing.T) {
	onEngines(t, func(t *testing.T, url string) {
		v, first := newVault(t, url)
		first.Close()
		start := func() *ledger.Ledger {
			t.Helper()
			config := v.config(first)
			config.Shared = true
			l := must[*ledger.Ledger](t)(ledger.Open(t.Context(), config))
			t.Cleanup(l.Close)
			return l
		}
		open := func() []uint64 {
			t.Helper()
			_, report := v.log(first)
			return report.OpenReads
		}
		a := start()
		read := must[*ledger.Permit](t)(a.Admit(t.Context(), v.read(v.lee, 1)))
		b := start()
		own := must[*ledger.Permit](t)(b.Admit(t.Context(), v.read(v.lee, 2)))
		if got := open(); len(got) != 2 {
			t.Fatalf("open are %v, want the reads of two nodes", got)
		}
		a.Close() // as its process may end with a read under way
		start()
		if got := open(); len(got) != 1 || got[0] != own.Receipt().Index {
			t.Errorf("open are %v, want %d, of the node that is alive", got, own.Receipt().Index)
		}
		check(t, own.End(t.Context(), 1, ledger.Finished))
		if got := open(); len(got) != 0 {
			t.Errorf("open are %v; read %d has ended", got, read.Receipt().Index)
		}
	})
}

// TestOpenReadWithoutRead: a vault whose open reads are not in its log does not start.
func TestOpenReadWithoutRead(t *testing.T) {
	for _, index := range []uint64{0, 1 << 40} {
		v, n := newVault(t, engines[0].url(t))
		tx := must[*catalog.Tx](t)(n.db.Begin(t.Context()))
		check(t, tx.AddOpenReads(t.Context(), "gone", []uint64{index}))
		head := must[storage.Head](t)(tx.Head(t.Context()))
		head.Size = max(head.Size, index+1)
		check(t, tx.SetHead(t.Context(), head))
		check(t, tx.Commit())
		_, err := ledger.Open(t.Context(), v.config(n))
		wantCode(t, err, fault.Corrupt)
	}
}

// TestRefusedBlindly: a node that cannot reach the catalog does not refuse what
// another may have allowed meanwhile; one that has the catalog to itself does, and
// so does one that can look, but not write.
func TestRefusedBlindly(t *testing.T) {
	onEngines(t, func(t *testing.T, url string) {
		v, one := newVault(t, url)
		for shared, code := range map[bool]fault.Code{true: fault.Unavailable, false: fault.NotFound} {
			two := v.node()
			two.Close()
			cfg := v.config(two)
			cfg.Shared = shared
			two.Ledger = must[*ledger.Ledger](t)(ledger.Open(t.Context(), cfg))
			t.Cleanup(two.Close)
			v.revoke(one, v.lee, dataset.Labeler, v.scope.Parent())
			check(t, two.CatchUp(t.Context()))
			for _, who := range []dataset.PrincipalID{v.lee, v.stranger} { // loads what they have
				must[bool](t)(two.NeedsDual(t.Context(), v.read(who, 1).Query))
			}
			v.grant(one, v.lee, dataset.Labeler, v.scope.Parent())
			two.Close()
			if _, err := two.Admit(t.Context(), v.read(v.stranger, 1)); !fault.Is(err, fault.NotFound) {
				t.Errorf("shared %v: whoever is refused is told %v", shared, err)
			}
			if shared {
				if _, err := two.Admit(t.Context(), v.read(v.lee, 1)); !fault.Is(err, fault.Unavailable) {
					t.Errorf("whoever is allowed elsewhere is told %v", err)
				}
			}
			two.db.Close()
			if p, err := two.Admit(t.Context(), v.read(v.lee, 1)); p != nil || !fault.Is(err, code) {
				t.Errorf("shared %v: permit %v, error %v, want %s", shared, p != nil, err, code)
			}
		}
	})
}
