package notary

import (
	"encoding/binary"
	mathrand "math/rand/v2"
	"os"
	"testing"

	"dsvault/storage/catalog"
	"dsvault/vault/audit"
)

// BenchmarkLargeLog has a log of 10,000,000 leaves of 250 bytes with
// DSVAULT_TEST_FULL=1, else of 1,000,000. It measures the proof for one leaf,
// the proof that the log continues an older one, and what a start costs: the
// comparison with the state file, and finding the place to go on from.
func BenchmarkLargeLog(b *testing.B) {
	size := uint64(1_000_000)
	if os.Getenv("DSVAULT_TEST_FULL") == "1" {
		size *= 10
	}
	size += 12_345 // so that no level ends with a full tile
	db := openCatalog(b, engines[0].url(b))
	leaf := func(i uint64) []byte { return binary.BigEndian.AppendUint64(make([]byte, 242, 250), i) }
	const step = 100_000
	for to := uint64(step); to < size; to += step {
		growBy(b, db, to, leaf)
	}
	growBy(b, db, size, leaf)
	key := newKey(b)
	cfg := testConfig(b, db, key)
	check(b, InitState(cfg.State, key))
	n, err := Open(b.Context(), cfg)
	check(b, err)
	b.Run("first", func(b *testing.B) { // makes all tiles
		for b.Loop() {
			n.build = nil
			check(b, db.Update(b.Context(), func(tx *catalog.Tx) error { return tx.DropTiles(b.Context()) }))
			n.signed.Size, n.signed.Root = 0, audit.EmptyRoot()
			check(b, n.sign(b.Context()))
		}
		b.ReportMetric(float64(size)*float64(b.N)/b.Elapsed().Seconds(), "leaves/s")
	})
	cp := n.signed
	b.Run("inclusion", func(b *testing.B) {
		for b.Loop() {
			_, err := n.Inclusion(b.Context(), cp, mathrand.Uint64N(size))
			check(b, err)
		}
	})
	b.Run("consistency", func(b *testing.B) {
		for b.Loop() {
			_, err := n.Consistency(b.Context(), cp, 1+mathrand.Uint64N(size-1))
			check(b, err)
		}
	})
	b.Run("tile", func(b *testing.B) {
		for b.Loop() {
			_, err := n.Tile(b.Context(), audit.Tile{N: mathrand.Uint64N(size / 256), Width: 256})
			check(b, err)
		}
	})
	growBy(b, db, size+200, leaf) // that were not signed when the node died
	b.Run("start", func(b *testing.B) {
		for b.Loop() {
			n, err := Open(b.Context(), cfg)
			check(b, err)
			_, err = n.resume(b.Context())
			check(b, err)
		}
	})
}
