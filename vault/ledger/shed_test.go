package ledger_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"dsvault/vault/fault"
	"dsvault/vault/ledger"
)

// TestQueueDoesNotMove holds the log's head for long: who comes is turned away at
// once, who waits is, too, in the end, and afterwards all goes on.
func TestQueueDoesNotMove(t *testing.T) {
	v, n := newVault(t, engines[0].url(t))
	release := v.hold(n)
	refused := make(chan error, 3)
	var done sync.WaitGroup
	for i := range cap(refused) {
		done.Go(func() {
			_, err := n.Admit(context.Background(), v.read(v.lee, i))
			refused <- err
		})
	}
	queued(n, cap(refused))
	v.clock.Add(ledger.SlowQueue)
	done.Go(func() {
		_, err := n.Admit(context.Background(), v.read(v.lee, 4))
		if err != nil {
			t.Errorf("turned away after %v: %v", ledger.SlowQueue, err)
		}
	})
	queued(n, cap(refused)+1)
	v.clock.Add(time.Second)
	_, err := n.Admit(context.Background(), v.read(v.lee, 5))
	wantCode(t, err, fault.Unavailable)
	if fault.HintOf(err) == "" {
		t.Errorf("%v has no hint", err)
	}
	v.clock.Add(ledger.MaxWaiting - ledger.SlowQueue)
	for range cap(refused) {
		err := <-refused
		wantCode(t, err, fault.Unavailable)
	}
	release()
	done.Wait()
	must[*ledger.Permit](t)(n.Admit(context.Background(), v.read(v.lee, 6)))
	if log, _ := v.log(n); len(log) < 2 {
		t.Error("the log lacks records")
	}
}

// TestWithdraws: who leaves while waiting has an answer at once.
func TestWithdraws(t *testing.T) {
	v, n := newVault(t, engines[0].url(t))
	release := v.hold(n)
	defer release()
	before := n.Waiting()
	ctx, leave := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		_, err := n.Admit(ctx, v.read(v.lee, 1))
		wantCode(t, err, fault.Canceled)
	})
	queued(n, before+1)
	leave()
	done.Wait() // the head is still held
	if n.Waiting() != before {
		t.Errorf("%d wait", n.Waiting())
	}
}

// TestLateDrain: who comes while another node holds the head shares the first
// commit after that, on every node.
func TestLateDrain(t *testing.T) {
	v, first := newVault(t, engines[1].url(t))
	nodes := make([]*node, 2)
	batches := make([]*batches, 2)
	for i := range nodes {
		nodes[i] = v.node()
		nodes[i].Close()
		cfg := v.config(nodes[i])
		batches[i] = newBatches()
		cfg.Meter = batches[i]
		l, err := ledger.Open(context.Background(), cfg)
		check(t, err)
		t.Cleanup(l.Close)
		nodes[i].Ledger = l
	}
	release := v.hold(first)
	const readers = 20
	var done sync.WaitGroup
	for _, n := range nodes {
		for i := range readers {
			done.Go(func() { must[*ledger.Permit](t)(n.Admit(context.Background(), v.read(v.lee, i))) })
		}
		queued(n, readers)
	}
	release()
	done.Wait()
	for i, b := range batches {
		if got := b.sizes(); len(got) != 1 || got[0] != readers {
			t.Errorf("node %d committed batches of %d entries, want one of %d", i, got, readers)
		}
	}
}

// batches is a meter that remembers how many entries each commit had.
type batches struct {
	mu  sync.Mutex
	all []int // guarded by mu
}

func newBatches() *batches { return new(batches) }

func (*batches) Recorded(string, string) {}
func (*batches) Failed(string)           {}

func (b *batches) Committed(entries int, _ time.Duration, _ bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = append(b.all, entries)
}

func (b *batches) sizes() []int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all
}
