package ledger_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/storage/storagetest"
	"dsvault/vault/ledger"
)

// BenchmarkAdmission admits reads, all of it: decide, seal the details, leaf,
// open read, commit. In the same loop, by turns and on the same disk, it runs
// bare group commit: as many writers at once that share transactions, one row
// of as many bytes for each, with the same settings of the database and nothing
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
	intents := make([]ledger.Intent, 100)
	for i := range intents {
		intents[i] = v.read(v.lee, i)
	}

	each := 16384 / writers // operations of a writer in one turn: most are in the middle of many
	if writers == 1 {
		each = 256
	}
	admissions, plain, synced := newTally(), newTally(), newTally()
	for b.Loop() {
		admissions.run(writers, each, func(i int) error {
			_, err := n.Admit(ctx, intents[i%len(intents)])
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
	b.ReportMetric(admissions.work(), "cpu-µs")
	b.ReportMetric(plain.work(), "bare-cpu-µs")
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
	cpu   time.Duration // of the whole process
	err   error
}

func used() time.Duration {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func newTally() *tally { return new(tally) }

func (t *tally) run(writers, each int, f func(i int) error) {
	begin, before := time.Now(), used()
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
	t.cpu += used() - before
}

func (t *tally) rate() float64 { return float64(len(t.each)) / t.total.Seconds() }

// work is the processor's time for one, in microseconds: on a busy machine it
// says more than the rate.
func (t *tally) work() float64 { return t.cpu.Seconds() * 1e6 / float64(len(t.each)) }

// quantile is in milliseconds.
func (t *tally) quantile(q float64) float64 {
	slices.Sort(t.each)
	return float64(t.each[int(q*float64(len(t.each)-1))].Microseconds()) / 1000
}

// group is bare group commit: whoever waits when a transaction begins is in it.
// One row for each writer, in a table with nothing but a key, inserted many at
// a time by prepared statements.
type group struct {
	conn  *sql.Conn
	begin string
	stmts map[int]*sql.Stmt // by the rows they insert
	queue chan job
	index int64
}

type job struct {
	data []byte
	done chan error
}

func newGroup(b *testing.B, url string) *group {
	driver, dsn, blob, begin := "pgx", url, "bytea", "BEGIN"
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
		driver, dsn, blob, begin = "sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&"+
			"_pragma=wal_autocheckpoint(4000)&_pragma=cache_size(-8192)", "blob", "BEGIN IMMEDIATE"
	}
	db := must[*sql.DB](b)(sql.Open(driver, dsn))
	conn := must[*sql.Conn](b)(db.Conn(b.Context()))
	must[sql.Result](b)(conn.ExecContext(b.Context(), "CREATE TABLE bare (idx bigint PRIMARY KEY, data "+blob+" NOT NULL)"))
	if driver == "sqlite" { // there, a key called INTEGER is the row's own number
		must[sql.Result](b)(conn.ExecContext(b.Context(), "DROP TABLE bare; CREATE TABLE bare (idx INTEGER PRIMARY KEY, data blob NOT NULL)"))
	}
	g := &group{conn: conn, begin: begin, stmts: map[int]*sql.Stmt{}, queue: make(chan job, 1024)}
	for _, rows := range []int{1, 4, 16, 64} {
		values := ""
		for i := range rows {
			values += fmt.Sprintf(", ($%d, $%d)", 2*i+1, 2*i+2)
		}
		g.stmts[rows] = must[*sql.Stmt](b)(conn.PrepareContext(b.Context(), "INSERT INTO bare (idx, data) VALUES "+values[2:]))
	}
	var wg sync.WaitGroup
	wg.Go(g.run)
	b.Cleanup(func() {
		close(g.queue)
		wg.Wait()
		conn.Close()
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
	if _, err := g.conn.ExecContext(ctx, g.begin); err != nil {
		return err
	}
	for len(jobs) > 0 {
		rows := 1
		for rows < 64 && 4*rows <= len(jobs) {
			rows *= 4
		}
		args := make([]any, 0, 2*rows)
		for _, j := range jobs[:rows] {
			args = append(args, g.index, j.data)
			g.index++
		}
		jobs = jobs[rows:]
		if _, err := g.stmts[rows].ExecContext(ctx, args...); err != nil {
			return err
		}
	}
	_, err := g.conn.ExecContext(ctx, "COMMIT")
	return err
}
