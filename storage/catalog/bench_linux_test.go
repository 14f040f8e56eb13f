package catalog

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

// BenchmarkAdmission commits batches as an admission does: n leaves with
// details, n open reads, the chains and the head. In the same loop it commits
// ONE row of the same number of bytes (bare), and writes and syncs as many
// bytes to a plain file on the same disk (fdatasync). The metric batch/bare is
// what our rows cost beyond a commit; leaves/s is of the batches alone.
func BenchmarkAdmission(b *testing.B) {
	for _, engine := range engines {
		b.Run(engine.name, func(b *testing.B) {
			freshURL := engine.start(b)
			for _, n := range []int{1, 64, 512} {
				b.Run(fmt.Sprint(n), func(b *testing.B) { benchmarkAdmission(b, open(b, freshURL()), n) })
			}
		})
	}
}

func benchmarkAdmission(b *testing.B, db *DB, n int) {
	const dataBytes, detailBytes, slots = 300, 200, 16
	rowBytes := n * (dataBytes + detailBytes + 100)
	file, err := os.Create(filepath.Join(b.TempDir(), "bare"))
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	var batch, bare, sync time.Duration
	timed := func(total *time.Duration, f func() error) {
		begin := time.Now()
		if err := f(); err != nil {
			b.Fatal(err)
		}
		*total += time.Since(begin)
	}
	ctx := b.Context()
	size := uint64(0)
	for b.Loop() {
		leaves, reads := make([]storage.Leaf, n), make([]uint64, n)
		for i := range leaves {
			index := size + uint64(i)
			who := dataset.PrincipalID{byte(i)}
			leaves[i] = storage.Leaf{Index: index, Slot: index % slots, Kind: 1, Data: make([]byte, dataBytes), Principal: who, Details: make([]byte, detailBytes)}
			reads[i] = index
		}
		timed(&batch, func() error { return admit(ctx, db, leaves, reads, slots) })
		size += uint64(n)
		timed(&bare, func() error {
			tx, err := db.Begin(ctx)
			if err != nil {
				return err
			}
			defer tx.Rollback()
			if err := tx.SetMeta(ctx, fmt.Sprint(size), make([]byte, rowBytes)); err != nil {
				return err
			}
			return tx.Commit()
		})
		timed(&sync, func() error {
			if _, err := file.Write(make([]byte, rowBytes)); err != nil {
				return err
			}
			return syscall.Fdatasync(int(file.Fd()))
		})
	}
	each := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(b.N) }
	b.ReportMetric(each(batch), "µs/batch")
	b.ReportMetric(each(bare), "µs/bare")
	b.ReportMetric(each(sync), "µs/fdatasync")
	b.ReportMetric(each(batch)/each(bare), "batch/bare")
	b.ReportMetric(float64(n)*1e6/each(batch), "leaves/s")
}

func admit(ctx context.Context, db *DB, leaves []storage.Leaf, reads []uint64, slots uint64) error {
	tx, err := db.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	head, err := tx.LockHead(ctx)
	if err != nil {
		return err
	}
	var touched []uint64
	for slot := range min(slots, uint64(len(leaves))) {
		touched = append(touched, slot)
	}
	if _, err := tx.Chains(ctx, touched); err != nil {
		return err
	}
	if err := tx.AppendLeaves(ctx, leaves); err != nil {
		return err
	}
	if err := tx.AddOpenReads(ctx, "node", reads); err != nil {
		return err
	}
	var chains []storage.Chain
	for _, slot := range touched {
		chains = append(chains, storage.Chain{Slot: slot, Seq: head.Size})
	}
	if err := tx.SetChains(ctx, chains); err != nil {
		return err
	}
	head.Size += uint64(len(leaves))
	head.Frontier = make([][32]byte, 20)
	if err := tx.SetHead(ctx, head); err != nil {
		return err
	}
	return tx.Commit()
}
