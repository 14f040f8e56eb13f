//go:build peers && linux

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"dsvault/storage/storagetest"
	"dsvault/vault/client"
	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

var (
	nodesRounds = flag.Int("nodes-rounds", 5, "how often each is measured; medians are reported")
	nodesReads  = flag.Int("nodes-reads", 4000, "reads of one measurement")
	nodesReport = flag.String("nodes-report", "", "file whose table of nodes is replaced")
)

const nodesReaders = 64

// TestNodes has 64 readers read tiny shards: from one node, from the same through
// haproxy, and through haproxy from three nodes.
func TestNodes(t *testing.T) {
	objects := t.TempDir()
	f := newFleetOn(t, 3, storagetest.Postgres(t), func(node *site) { node.flags = append(node.flags, "--objects", "dir:"+objects) },
		"--max-requests", "1000000", "--max-transfers-each", "128")
	f.ok("cleo", "push", files(t, 1), batch)
	counts := make([]func() int, len(f.nodes))
	for i, node := range f.nodes {
		node.stop()
		address := storagetest.FreeAddress(t)
		node.start("--metrics", address)
		counts[i] = func() int { return countedReads(t, "http://"+address+metricsPath) }
	}
	f.awaitReady(0)
	alone := &fleet{site: &site{t: t, dir: f.dir}, nodes: f.nodes[:1]}
	alone.url = "http://" + storagetest.HAProxy(t, alone.haproxy)
	alone.awaitReady(0)

	cases := []struct {
		name, url string
		took      []readings
	}{
		{name: "one node", url: f.nodes[0].url}, {name: "one node behind haproxy", url: alone.url}, {name: "three nodes behind haproxy", url: f.url},
	}
	shares := make([]int, len(f.nodes))
	for round := range *nodesRounds + 1 { // the first warms up
		for i := range cases {
			before := make([]int, len(counts))
			for k, count := range counts {
				before[k] = count()
			}
			r := f.readings(cases[i].url)
			if round == 0 {
				continue
			}
			cases[i].took = append(cases[i].took, r)
			if i == len(cases)-1 {
				for k, count := range counts {
					shares[k] += count() - before[k]
				}
			}
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d CPUs, %s/%s, %s; medians of %d rounds of %d reads, %d at once.\n\n", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH,
		runtime.Version(), *nodesRounds, *nodesReads, nodesReaders)
	b.WriteString("| | reads a second | of one node's | half within | 99 % within |\n| --- | --- | --- | --- | --- |\n")
	one := middle(cases[0].took, func(r readings) float64 { return r.rate })
	for _, c := range cases {
		rate := middle(c.took, func(r readings) float64 { return r.rate })
		fmt.Fprintf(&b, "| %s | %.0f | %.2f | %.1f ms | %.1f ms |\n", c.name, rate, rate/one,
			middle(c.took, func(r readings) float64 { return r.half }), middle(c.took, func(r readings) float64 { return r.most }))
	}
	total := *nodesRounds * *nodesReads
	fmt.Fprintf(&b, "\nGoal: three nodes at least 0.60 of one, and no node below half of its fair share. Shares of the three nodes: ")
	for i, n := range shares {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%.0f %%", 100*float64(n)/float64(total))
	}
	b.WriteString(".\n")
	t.Log("\n" + b.String())
	if *nodesReport != "" {
		replaceReport(t, *nodesReport, "<!-- make bench-nodes -->\n", b.String())
	}
}

// readings is one measurement; half and most in milliseconds.
type readings struct{ rate, half, most float64 }

func middle(all []readings, of func(readings) float64) float64 {
	values := make([]float64, len(all))
	for i, r := range all {
		values[i] = of(r)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// readings reads a shard again and again, each reader over a connection of its own.
func (f *fleet) readings(url string) readings {
	t := f.t
	t.Helper()
	home, err := client.OpenHome(f.config("cleo"))
	if err != nil {
		t.Fatal(err)
	}
	token, err1 := home.Current().Token()
	login, err2 := home.Current().Login()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	var wg sync.WaitGroup
	took := make([][]time.Duration, nodesReaders)
	begin := time.Now()
	for i := range took {
		wg.Go(func() { took[i] = f.reader(url, token.Expose(), login.Device, *nodesReads/nodesReaders) })
	}
	wg.Wait()
	total := time.Since(begin)
	all := slices.Concat(took...)
	slices.Sort(all)
	ms := func(q float64) float64 { return float64(all[int(q*float64(len(all)-1))].Microseconds()) / 1000 }
	return readings{float64(len(all)) / total.Seconds(), ms(0.5), ms(0.99)}
}

func (f *fleet) reader(url, token string, device dataset.DeviceID, n int) (took []time.Duration) {
	transport := &http.Transport{MaxIdleConnsPerHost: 1}
	defer transport.CloseIdleConnections()
	c := http.Client{Transport: transport}
	for range n {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url+sealedShard, nil)
		if err != nil {
			f.t.Error(err)
			return took
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set(wire.HeaderDevice, device.String())
		at := time.Now()
		resp, err := c.Do(req)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		if err != nil || resp.StatusCode != http.StatusOK {
			f.t.Errorf("a read failed: %v", err)
			return took
		}
		took = append(took, time.Since(at))
	}
	return took
}

func countedReads(t *testing.T, url string) int {
	t.Helper()
	m := regexp.MustCompile(`(?m)^dsvault_admissions_total\{kind="read"\} (\S+)$`).FindStringSubmatch(get(t, url, http.StatusOK))
	if m == nil {
		return 0
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}
