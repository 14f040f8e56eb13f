package ledger_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"dsvault/storage/storagetest"
)

// share has as many writers on each of some nodes admit reads, until total are
// admitted, and gives how many each node did.
func share(t testing.TB, v *vault, nodes []*node, writers, total int) []int64 {
	t.Helper()
	counts := make([]atomic.Int64, len(nodes))
	var all atomic.Int64
	var wg sync.WaitGroup
	for i, n := range nodes {
		for w := range writers {
			wg.Go(func() {
				in := v.read(v.lee, w%100)
				for all.Add(1) <= int64(total) {
					if _, err := n.Admit(context.Background(), in); err != nil {
						t.Error(err)
						return
					}
					counts[i].Add(1)
				}
			})
		}
	}
	wg.Wait()
	out := make([]int64, len(nodes))
	for i := range counts {
		out[i] = counts[i].Load()
	}
	return out
}

// TestNodesShare: of nodes that are all busy, none starves another.
func TestNodesShare(t *testing.T) {
	v, first := newVault(t, storagetest.Postgres(t))
	nodes := []*node{first, v.node(), v.node()}
	const total = 9000
	counts := share(t, v, nodes, 16, total)
	t.Log(counts)
	if least := slices.Min(counts); least < total/int64(len(nodes))/2 {
		t.Errorf("a node got %d of %d admissions, less than half of its share", least, total)
	}
}

// BenchmarkNodes admits reads with 64 writers, on one node and spread over three
// nodes, by turns. The metrics of interest: three/one compares the rates, and
// least is the smallest share of a node, by a fair one.
func BenchmarkNodes(b *testing.B) {
	v, first := newVault(b, storagetest.Postgres(b))
	nodes := []*node{first, v.node(), v.node()}
	one, three := newTally(), newTally()
	const writers = 63
	intents := v.read(v.lee, 1)
	var counts [3]atomic.Int64
	for b.Loop() {
		one.run(writers, 300, func(int) error {
			_, err := first.Admit(context.Background(), intents)
			return err
		})
		three.run(writers, 300, func(i int) error {
			k := i / 300 % 3
			_, err := nodes[k].Admit(context.Background(), intents)
			counts[k].Add(1)
			return err
		})
	}
	check(b, one.err)
	check(b, three.err)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(one.rate(), "one/s")
	b.ReportMetric(three.rate(), "three/s")
	b.ReportMetric(three.rate()/one.rate(), "three/one")
	for name, t := range map[string]*tally{"one": one, "three": three} {
		b.ReportMetric(t.quantile(0.50), name+"-p50-ms")
		b.ReportMetric(t.quantile(0.99), name+"-p99-ms")
		b.ReportMetric(t.work(), name+"-cpu-µs")
	}
	counted := share(b, v, nodes, writers/3, 30000)
	b.ReportMetric(float64(3*slices.Min(counted))/30000, "least")
	b.Log(fmt.Sprint(counted))
}
