package ledger_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/storage/storagetest"
)

// BenchmarkAdmission admits reads, all of it: decide, seal the details, leaf,
// open read, commit. In the same loop, by turns and on the same disk, it runs
// bare group commit: as many writers at once that share transactions, one row
// of as many bytes for each, through the same catalog settings and nothing
// else; and bare fdatasync: appending as many bytes to a file, one writer.
// The metrics of interest: admissions/bare and admissions/fdatasync compare the
// rates; p50 and p99 are an admission's latency.
func BenchmarkAdmission(b *testing.B) {
	folder := b.TempDir()
	for _, engine := range []string{"sqlite", "postgres"} {
		b.Run(engine, func(b *testing.B) {
			url := func(name string) string { return "sqlite:" + filepath.Join(folder, name) }
			if engine == "postgres" {
				url = func(string) string { return storagetest.Postgres(b) }
			}
			v, n := newVault(b, url("vault.db"))
			bare := newGroup(b, url("bare.db"))
			for _, writers := range []int{1, 64, 512} {
				b.Run(fmt.Sprint(writers), func(b *testing.B) { benchmarkAdmission(b, v, n, bare, writers) })
			}
		})
	}
}

func benchmarkAdmission(b *testing.B, v *vault, n *node, bare *group, writers int) {
	ctx := context.Background()
	row := v.rowSize(b, n)
	file, err := os.Create(filepath.Join(b.TempDir(), "file"))
	check(b, err)
	defer file.Close()
	record := make([]byte, row)

	each := max(1, 2048/writers) // operations of a writer in one turn
	if writers == 1 {
		each = 256
	}
	admissions, plain, synced := newTally(), newTally(), newTally()
	for b.Loop() {
		admissions.run(writers, each, func(i int) error {
			_, err := n.Admit(ctx, v.read(v.lee, i%100))
			return err
		})
		plain.run(writers, each, func(int) error { return bare.write(record) })
		synced.run(1, 64, func(int) error {
			if _, err := file.Write(record); err != nil {
				return err
			}
			return syscall.Fdatasync(int(file.Fd()))
		})
	}
	for _, t := range []*tally{admissions, plain, synced} {
		check(b, t.err)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(admissions.rate(), "admissions/s")
	b.ReportMetric(plain.rate(), "bare/s")
	b.ReportMetric(synced.rate(), "fdatasync/s")
	b.ReportMetric(admissions.rate()/plain.rate(), "admissions/bare")
	b.ReportMetric(admissions.rate()/synced.rate(), "admissions/fdatasync")
	b.ReportMetric(admissions.quantile(0.50), "p50-ms")
	b.ReportMetric(admissions.quantile(0.99), "p99-ms")
	b.ReportMetric(plain.quantile(0.50), "bare-p50-ms")
	b.ReportMetric(plain.quantile(0.99), "bare-p99-ms")
}

// rowSize is how many bytes an admission writes: leaf, details, open read.
func (v *vault) rowSize(b *testing.B, n *node) int {
	p, err := n.Admit(context.Background(), v.read(v.lee, 1))
	check(b, err)
	size := 0
	check(b, n.db.View(context.Background(), func(tx *catalog.Tx) error {
		return tx.Leaves(context.Background(), storage.LeafQuery{From: p.Receipt().Index}, func(l storage.Leaf) error {
			const openRead = 3*8 + 2*16 + 8 + 8 + 30
			size = len(l.Data) + len(l.Details) + openRead
			return nil
		})
	}))
	return size
}

// tally collects the latencies of operations and the time they took together.
type tally struct {
	mu    sync.Mutex
	each  []time.Duration
	total time.Duration
	err   error
}

func newTally() *tally { return new(tally) }

func (t *tally) run(writers, each int, f func(i int) error) {
	begin := time.Now()
	together(writers, func(i int) {
		took := make([]time.Duration, each)
		var failed error
		for k := range took {
			at := time.Now()
			if err := f(i*each + k); err != nil {
				failed = err
			}
			took[k] = time.Since(at)
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.each = append(t.each, took...)
		if failed != nil {
			t.err = failed
		}
	})
	t.total += time.Since(begin)
}

func (t *tally) rate() float64 { return float64(len(t.each)) / t.total.Seconds() }

// quantile is in milliseconds.
func (t *tally) quantile(q float64) float64 {
	slices.Sort(t.each)
	return float64(t.each[int(q*float64(len(t.each)-1))].Microseconds()) / 1000
}

// group is bare group commit: whoever waits when a transaction begins is in it.
type group struct {
	db    *catalog.DB
	queue chan job
	index uint64
}

type job struct {
	data []byte
	done chan error
}

func newGroup(b *testing.B, url string) *group {
	db, err := catalog.Open(context.Background(), url, catalog.Options{})
	check(b, err)
	g := &group{db: db, queue: make(chan job, 1024)}
	var wg sync.WaitGroup
	wg.Go(g.run)
	b.Cleanup(func() {
		close(g.queue)
		wg.Wait()
		db.Close()
	})
	return g
}

func (g *group) write(data []byte) error {
	j := job{data, make(chan error, 1)}
	g.queue <- j
	return <-j.done
}

func (g *group) run() {
	for first := range g.queue {
		jobs := []job{first}
		for len(g.queue) > 0 && len(jobs) < 512 {
			jobs = append(jobs, <-g.queue)
		}
		err := g.commit(jobs)
		for _, j := range jobs {
			j.done <- err
		}
	}
}

func (g *group) commit(jobs []job) error {
	ctx := context.Background()
	tx, err := g.db.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	rows := make([]storage.Leaf, len(jobs))
	for i, j := range jobs {
		rows[i] = storage.Leaf{Index: g.index, Data: j.data}
		g.index++
	}
	if err := tx.AppendLeaves(ctx, rows); err != nil {
		return err
	}
	return tx.Commit()
}
