package notary

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/ledger"
)

// stater is one node that writes leaves and statements.
type stater struct {
	*Statements
	t     testing.TB
	db    *catalog.DB
	led   *ledger.Ledger
	clock *atomic.Int64 // Unix microseconds
}

// noSealer: the records of these tests have no person in them.
type noSealer struct{ ledger.Sealer }

func newStater(t testing.TB, url string, place ledger.Place) *stater {
	t.Helper()
	s := &stater{t: t, db: openCatalog(t, url), clock: new(atomic.Int64)}
	s.clock.Store(time.Date(2027, 2, 28, 12, 0, 0, 0, time.UTC).UnixMicro())
	now := func() time.Time { return time.UnixMicro(s.clock.Load()) }
	led, err := ledger.Open(t.Context(), ledger.Config{
		Catalog: s.db, World: rbac.NewPartial(rbac.Default()), Sealer: noSealer{}, Now: now, Random: rand.Reader, Logger: slog.New(slog.DiscardHandler),
	})
	check(t, err)
	t.Cleanup(led.Close)
	s.led, s.Statements = led, NewStatements(s.db, led, place, now)
	s.mustRecord(&place) // a vault's first leaf is in slot 0
	return s
}

// vaultSlot makes slot 0 of a new catalog.
func vaultSlot(t testing.TB, url string) ledger.Place {
	t.Helper()
	ctx := t.Context()
	place := ledger.Place{Tag: dataset.NewID[dataset.DatasetID](rand.Reader)}
	check(t, openCatalog(t, url).Update(ctx, func(tx *catalog.Tx) error {
		if _, err := tx.LockHead(ctx); err != nil {
			return err
		}
		return tx.AddScope(ctx, storage.ScopeRow{Scope: dataset.Root, Tag: place.Tag, CreatedAt: time.Unix(1, 0)})
	}))
	return place
}

// record appends a leaf, in a new slot if place is nil, and gives its place and
// its index.
func (s *stater) record(place *ledger.Place) (ledger.Place, uint64, error) {
	in := ledger.Intent{Kind: audit.KindNodeStart, Own: true}
	if place != nil {
		in.Place = *place
	} else {
		in.Place.Tag = dataset.NewID[dataset.DatasetID](rand.Reader)
		in.Apply = func(ctx context.Context, tx *ledger.Tx, in *ledger.Intent) error {
			in.Place.Slot = tx.NewSlot()
			scope, err := dataset.ParseScope(fmt.Sprintf("client-%d", in.Place.Slot))
			if err != nil {
				return err
			}
			place = &in.Place
			return tx.AddScope(ctx, storage.ScopeRow{Slot: in.Place.Slot, Scope: scope, Tag: in.Place.Tag, CreatedAt: tx.Now})
		}
	}
	receipt, err := s.led.Record(s.t.Context(), in)
	return *place, receipt.Index, err
}

func (s *stater) mustRecord(place *ledger.Place) (ledger.Place, uint64) {
	s.t.Helper()
	at, index, err := s.record(place)
	check(s.t, err)
	return at, index
}

// verify verifies the whole log, each statement in it among the rest, and gives
// what the leaves before an index are.
func (s *stater) verify(before uint64) map[uint64]audit.Entry {
	s.t.Helper()
	ctx := s.t.Context()
	entries := map[uint64]audit.Entry{}
	v := audit.NewVerifier()
	check(s.t, s.db.View(ctx, func(tx *catalog.Tx) error {
		head, err := tx.Head(ctx)
		if err != nil {
			return err
		}
		err = tx.LeafData(ctx, 0, head.Size, func(index, slot uint64, data []byte) error {
			leaf, err := audit.ParseLeaf(data)
			if err == nil && index < before {
				entries[slot] = audit.Entry{Tag: leaf.Tag, Count: leaf.Seq, Last: index, Hash: audit.LeafHash(data)}
			}
			return errors.Join(err, v.AddLeaf(index, data))
		})
		if err != nil {
			return err
		}
		tree, err := audit.NewTree(head.Size, head.Frontier)
		if err != nil {
			return err
		}
		_, err = v.Finish(audit.Checkpoint{Size: head.Size, Root: tree.Root()})
		return err
	}))
	return entries
}

// compare checks what a statement proves against the log.
func (s *stater) compare(got Stated, slots []uint64) {
	s.t.Helper()
	want := s.verify(got.Index)
	if got.Length != uint64(len(want)) {
		s.t.Errorf("statement %d is of %d slots, the log has %d", got.Index, got.Length, len(want))
	}
	proven := map[uint64]bool{}
	for _, p := range got.Slots {
		if p.Entry != want[p.Slot] {
			s.t.Errorf("statement %d says of slot %d %+v, the log says %+v", got.Index, p.Slot, p.Entry, want[p.Slot])
		}
		check(s.t, audit.VerifyEntry(p.Slot, p.Entry, got.Length, got.Root, p.Path))
		proven[p.Slot] = true
	}
	for _, slot := range slots {
		if _, there := want[slot]; there != proven[slot] {
			s.t.Errorf("statement %d: slot %d is proven: %v", got.Index, slot, proven[slot])
		}
	}
}

func slotsTo(n uint64) (slots []uint64) {
	for slot := range n {
		slots = append(slots, slot)
	}
	return slots
}

// TestStatements: whichever of two nodes writes leaves and statements, each
// statement is of the leaves before it, and each node proves the newest.
func TestStatements(t *testing.T) {
	maxReplay = 10
	defer func() { maxReplay = 50_000 }()
	onEngines(t, func(t *testing.T, url string) {
		root := vaultSlot(t, url)
		nodes := []*stater{newStater(t, url, root), newStater(t, url, root)}
		places := []ledger.Place{root}
		last := uint64(0)
		for round := range 24 {
			n := nodes[round/2%2]
			for i := range round % 15 { // some rounds write more than is replayed
				if i%4 == 0 {
					place, _ := n.mustRecord(nil)
					places = append(places, place)
				} else {
					n.mustRecord(&places[(round+i)%len(places)])
				}
			}
			_, last = n.mustRecord(&places[round%len(places)])
			slots := slotsTo(uint64(len(places)) + 3)
			got, err := nodes[round%2].After(t.Context(), last, slots)
			check(t, err)
			if got.Index <= last {
				t.Fatalf("statement %d does not cover leaf %d", got.Index, last)
			}
			nodes[0].compare(got, slots)
			// Another who asks for no more gets the same one, if it is in reach.
			again, err := nodes[round%2].After(t.Context(), last, slots[:1])
			if check(t, err); again.Index != got.Index {
				t.Errorf("a second statement %d after %d", again.Index, got.Index)
			}
		}
	})
}

// TestStatementsAmongOthers: statements that are written while others write
// hold what lies before them, and nothing else.
func TestStatementsAmongOthers(t *testing.T) {
	onEngines(t, func(t *testing.T, url string) {
		root := vaultSlot(t, url)
		nodes := []*stater{newStater(t, url, root), newStater(t, url, root)}
		var wg sync.WaitGroup
		for i := range 8 {
			n := nodes[i%2]
			wg.Go(func() {
				place, _, err := n.record(nil)
				for range 30 {
					if err == nil {
						_, _, err = n.record(&place)
					}
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		for _, n := range nodes {
			wg.Go(func() {
				for range 10 {
					_, index, err := n.record(&root)
					if err == nil {
						_, err = n.After(t.Context(), index, slotsTo(9))
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		nodes[0].verify(0)
	})
}

// TestStatementThatFailed: a statement whose transaction failed leaves nothing
// behind that the next one builds on wrongly.
func TestStatementThatFailed(t *testing.T) {
	url := engines[0].url(t)
	root := vaultSlot(t, url)
	n := newStater(t, url, root)
	place, first := n.mustRecord(nil)
	got, err := n.After(t.Context(), first, slotsTo(2))
	check(t, err)
	n.mustRecord(&place)
	// The array is brought to the head, as the failed transaction would.
	check(t, n.db.View(t.Context(), func(tx *catalog.Tx) error { return n.catchUp(t.Context(), tx) }))
	again, err := n.After(t.Context(), first, slotsTo(2))
	check(t, err)
	if again.Index <= got.Index {
		t.Errorf("statement %d again, which the array is not of any more", again.Index)
	}
	n.compare(again, slotsTo(2))

	n.led.Close()
	if _, err := n.After(t.Context(), again.Index, nil); !fault.Is(err, fault.Unavailable) {
		t.Errorf("without a ledger: %v", err)
	}
}

// TestStatementEachMinute: the elected node's task writes one a minute, and only
// if something was written since.
func TestStatementEachMinute(t *testing.T) {
	url := engines[0].url(t)
	n := newStater(t, url, vaultSlot(t, url))
	run := func(size, covered uint64) {
		t.Helper()
		got, err := n.Run(t.Context(), size)
		if check(t, err); got != covered {
			t.Errorf("of %d leaves %d are covered, want %d", size, got, covered)
		}
	}
	pass := func(d time.Duration) { n.clock.Add(d.Microseconds()) }
	run(1, 0) // the node has just started
	pass(time.Minute)
	run(1, 2)
	pass(time.Hour)
	run(2, 2) // there is nothing but the statement itself
	n.mustRecord(nil)
	run(3, 4)
	n.mustRecord(nil)
	pass(30 * time.Second)
	run(5, 0)
	pass(30 * time.Second)
	run(5, 6)
	n.mustRecord(nil)
	pass(-time.Hour)
	run(7, 8) // a clock that was set back does not stop it
	n.verify(0)
}

// TestStatementsAreLimited: who asks without end waits.
func TestStatementsAreLimited(t *testing.T) {
	url := engines[0].url(t)
	n := newStater(t, url, vaultSlot(t, url))
	place, index := n.mustRecord(nil)
	for range stateBurst {
		got, err := n.After(t.Context(), index, nil)
		check(t, err)
		index = got.Index
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.After(ctx, index, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	n.clock.Add(time.Minute.Microseconds())
	_, index = n.mustRecord(&place)
	if _, err := n.After(t.Context(), index, nil); err != nil {
		t.Error(err)
	}
}

// TestWrongStatement: a catalog that names another leaf as the newest statement
// proves nothing.
func TestWrongStatement(t *testing.T) {
	url := engines[0].url(t)
	n := newStater(t, url, vaultSlot(t, url))
	for name, wrong := range map[string]func(newest uint64) []byte{
		"no statement": func(newest uint64) []byte { return binary.BigEndian.AppendUint64(nil, newest+1) },
		"no leaf":      func(newest uint64) []byte { return binary.BigEndian.AppendUint64(nil, newest+9) },
		"nonsense":     func(uint64) []byte { return nil },
	} {
		_, index := n.mustRecord(nil)
		got, err := n.After(t.Context(), index, nil) // whatever was wrong before, a new one is right
		check(t, err)
		n.mustRecord(nil)
		value := append(wrong(got.Index), make([]byte, 8)...)
		check(t, n.db.Update(t.Context(), func(tx *catalog.Tx) error { return tx.SetMeta(t.Context(), metaStatement, value) }))
		if _, err := n.After(t.Context(), index, slotsTo(2)); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "nonsense" { // only then is the catalog to be mended by hand
			check(t, n.db.Update(t.Context(), func(tx *catalog.Tx) error { return tx.SetMeta(t.Context(), metaStatement, make([]byte, 16)) }))
		}
	}
}

// What a statement costs with 100,000 slots, of which some have changed; the
// metric is the time under the lock.
func BenchmarkStatement(b *testing.B) {
	const slots = 100_000
	url := engines[0].url(b)
	n := newStater(b, url, vaultSlot(b, url))
	ctx := b.Context()
	places := make([]ledger.Place, slots)
	check(b, n.db.Update(ctx, func(tx *catalog.Tx) error { // chains without leaves: nothing reads these
		if _, err := tx.LockHead(ctx); err != nil {
			return err
		}
		chains := make([]storage.Chain, slots)
		for i := range places {
			places[i] = ledger.Place{Slot: uint64(i), Tag: dataset.NewID[dataset.DatasetID](rand.Reader)}
			chains[i] = storage.Chain{Slot: uint64(i), Seq: 5, LastIndex: uint64(i), LastHash: audit.LeafHash(places[i].Tag[:])}
			if i == 0 {
				continue
			}
			scope, err := dataset.ParseScope(fmt.Sprintf("client-%d", i))
			if err != nil {
				return err
			}
			if err := tx.AddScope(ctx, storage.ScopeRow{Slot: uint64(i), Scope: scope, Tag: places[i].Tag, CreatedAt: time.Unix(1, 0)}); err != nil {
				return err
			}
		}
		return tx.SetChains(ctx, chains)
	}))
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			n.size = 0
			check(b, n.db.View(ctx, func(tx *catalog.Tx) error { return n.catchUp(ctx, tx) }))
			n.array.Root()
		}
	})
	for _, changed := range []int{1, 1000} {
		b.Run(fmt.Sprintf("changed=%d", changed), func(b *testing.B) {
			var taken time.Duration
			for round := 0; b.Loop(); round++ {
				var wg sync.WaitGroup
				for i := range changed {
					wg.Go(func() {
						if _, _, err := n.record(&places[1+(round*changed+i)%(slots-1)]); err != nil {
							b.Error(err)
						}
					})
				}
				wg.Wait()
				begin := time.Now()
				_, err := n.write(ctx)
				check(b, err)
				taken += time.Since(begin)
			}
			b.ReportMetric(float64(taken.Microseconds())/float64(b.N), "statement-µs")
		})
	}
}
