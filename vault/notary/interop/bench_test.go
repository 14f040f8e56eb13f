package interop

import (
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
)

// leafSize is about what an admission adds to the log, bytes.
const leafSize = 300

// BenchmarkTessera compares 64 admissions at once, all of each on SQLite, with
// 64 appends at once to Tessera's POSIX log, each of which waits for the first
// checkpoint that covers it. The two run by turns, on one disk: set TMPDIR to
// choose it. Tessera has the shortest interval between checkpoints that it
// allows, and no wait for more entries.
func BenchmarkTessera(b *testing.B) {
	const writers = 64
	ledger := filepath.Join(b.TempDir(), "ledger.test")
	build := exec.Command("go", "test", "-c", "-o", ledger, "dsvault/vault/ledger")
	build.Dir = "../../.." // this is a module of its own
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	add := newTessera(b)
	var ours, theirs []float64
	for b.Loop() {
		ours = append(ours, admissions(b, ledger))
		theirs = append(theirs, appended(b, add, writers))
	}
	median := func(list []float64) float64 {
		slices.Sort(list)
		return list[len(list)/2]
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(ours), "admissions/s")
	b.ReportMetric(median(theirs), "tessera/s")
	b.ReportMetric(median(ours)/median(theirs), "admissions/tessera")
}

// admissions runs our own benchmark for a while, and gives its rate.
func admissions(b *testing.B, ledger string) float64 {
	cmd := exec.Command(ledger, "-test.run=^$", "-test.bench=^BenchmarkAdmission$/^sqlite$/^64$", "-test.benchtime=10x")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	found := regexp.MustCompile(`([0-9.e+]+) admissions/s`).FindSubmatch(out)
	if err != nil || found == nil {
		b.Fatalf("%v: %s", err, out)
	}
	return must(strconv.ParseFloat(string(found[1]), 64))(b)
}

func appended(b *testing.B, add func([]byte) error, writers int) float64 {
	const each = 8
	begin := time.Now()
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				entry := make([]byte, leafSize)
				rand.Read(entry)
				if err := add(entry); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	return float64(writers*each) / time.Since(begin).Seconds()
}

// newTessera gives what appends an entry and returns once a checkpoint covers it.
func newTessera(b *testing.B) func([]byte) error {
	ctx, cancel := context.WithCancel(context.Background())
	b.Cleanup(cancel)
	private, _, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		b.Fatal(err)
	}
	signer := must(note.NewSigner(private))(b)
	driver := must(posix.New(ctx, posix.Config{Path: b.TempDir()}))(b)
	options := tessera.NewAppendOptions().WithCheckpointSigner(signer).
		WithCheckpointInterval(100*time.Millisecond).WithBatching(64, time.Millisecond)
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, options)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := shutdown(ctx); err != nil {
			b.Error(err)
		}
	})
	awaiter := tessera.NewPublicationAwaiter(ctx, reader.ReadCheckpoint, time.Millisecond)
	return func(data []byte) error {
		_, checkpoint, err := awaiter.Await(ctx, appender.Add(ctx, tessera.NewEntry(data)))
		if err == nil && !bytes.HasPrefix(checkpoint, []byte(origin)) {
			b.Error("a checkpoint of another log")
		}
		return err
	}
}
