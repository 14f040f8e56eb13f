package vault_test

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/storage/storagetest"
	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// rare is how many leaves there are for one in the small dataset, and for one
// with the details of its reader.
const rare = 10_000

// grow adds n valid leaves to the log of a vault that is not running, behind its
// ledger's back: in the dataset big but for those in small, which have details of who.
func (w *world) grow(n int, big, small storage.ScopeRow, who dataset.PrincipalID) {
	w.t.Helper()
	const atOnce = 1 << 15
	ctx := context.Background()
	for n > 0 {
		err := w.db.Update(ctx, func(tx *catalog.Tx) error {
			head, err := tx.LockHead(ctx)
			if err != nil {
				return err
			}
			tree, err := audit.NewTree(head.Size, head.Frontier)
			if err != nil {
				return err
			}
			chains, err := tx.Chains(ctx, []uint64{big.Slot, small.Slot})
			if err != nil {
				return err
			}
			list := make([]storage.Leaf, 0, atOnce)
			for ; n > 0 && len(list) < atOnce; n-- {
				row := big
				if head.Size%rare == 0 {
					row = small
				}
				chain := chains[row.Slot]
				head.Time++
				leaf := audit.Leaf{Kind: audit.KindLogRead, Time: head.Time, Revision: head.Revision, Slot: row.Slot, Tag: row.Tag,
					Seq: chain.Seq + 1, Prev: chain.LastHash, Decision: audit.Allowed, Reason: "own",
					Object: audit.Object{Kind: audit.ObjectDataset, ID: row.Tag}}
				data, err := leaf.Marshal()
				if err != nil {
					return err
				}
				stored := storage.Leaf{Index: head.Size, Slot: row.Slot, Kind: uint16(leaf.Kind), Decision: uint8(leaf.Decision), Time: head.Time, Data: data}
				if row.Slot == small.Slot {
					stored.Principal, stored.Details = who, make([]byte, 200)
				}
				list = append(list, stored)
				hash := audit.LeafHash(data)
				tree.Append(hash)
				chains[row.Slot] = storage.Chain{Slot: row.Slot, Seq: leaf.Seq, LastIndex: head.Size, LastHash: hash}
				head.Size++
			}
			if err := tx.AppendLeaves(ctx, list); err != nil {
				return err
			}
			for _, chain := range chains {
				if err := tx.SetChains(ctx, []storage.Chain{chain}); err != nil {
					return err
				}
			}
			head.Frontier = tree.Frontier()
			return tx.SetHead(ctx, head)
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// large makes a running vault with a log of n leaves.
func large(b *testing.B, url string, n int) *world {
	w := newWorldOn(b, url, catalog.Options{})
	w.setUp()
	w.v.Close()
	var big, small storage.ScopeRow
	w.look(func(ctx context.Context, tx *catalog.Tx) (err error) {
		if big, err = tx.Scope(ctx, w.scope("acme/signs")); err != nil {
			return err
		}
		small, err = tx.Scope(ctx, w.scope(faultyDataset))
		return err
	})
	begin := time.Now()
	w.grow(n, big, small, w.person("lee").ID)
	b.Logf("%d leaves written in %v", n, time.Since(begin))
	w.v = must[*vault.Vault](b)(w.open())
	begin = time.Now()
	for { // the first checkpoint waits for all tiles
		_, err := w.v.Inclusion(context.Background(), w.as("root"), uint64(n), w.leafHash(uint64(n)))
		if err == nil {
			break
		}
		if !fault.Is(err, fault.Unavailable) {
			b.Fatal(err)
		}
	}
	b.Logf("tiles made and signed in %v", time.Since(begin))
	return w
}

func (w *world) leafHash(index uint64) (hash audit.Hash) {
	w.look(func(ctx context.Context, tx *catalog.Tx) error {
		return tx.LeafData(ctx, index, index+1, func(_, _ uint64, data []byte) error {
			hash = audit.LeafHash(data)
			return nil
		})
	})
	return hash
}

// BenchmarkLargeLog measures what must not depend on the length of the log: the
// start of a vault, the proof for one record, and looking up the records of one
// dataset, of one person, and since a time. The log has DSVAULT_BENCH_LEAVES
// leaves, a million without that; SQLite's file is in DSVAULT_BENCH_DIR, or else
// in the folder for temporary files.
func BenchmarkLargeLog(b *testing.B) {
	n := 1_000_000
	if s := os.Getenv("DSVAULT_BENCH_LEAVES"); s != "" {
		n = must[int](b)(strconv.Atoi(s))
	}
	for _, engine := range []string{"sqlite", "postgres"} {
		b.Run(engine, func(b *testing.B) {
			var url string
			if engine == "postgres" {
				url = storagetest.Postgres(b)
			} else {
				folder := must[string](b)(os.MkdirTemp(os.Getenv("DSVAULT_BENCH_DIR"), "large"))
				b.Cleanup(func() { os.RemoveAll(folder) })
				url = "sqlite:" + filepath.Join(folder, "catalog.db")
			}
			benchmarkLarge(b, large(b, url, n), url, n)
		})
	}
}

func benchmarkLarge(b *testing.B, w *world, url string, n int) {
	ctx := context.Background()
	b.Run("start", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			w.v.Close()
			b.StartTimer()
			db := must[*catalog.DB](b)(catalog.Open(ctx, url, catalog.Options{}))
			w.v = must[*vault.Vault](b)(w.open())
			b.StopTimer()
			db.Close()
			b.StartTimer()
		}
	})
	b.Run("proof", func(b *testing.B) {
		root := w.as("root")
		for b.Loop() {
			b.StopTimer()
			index := rand.Uint64N(uint64(n))
			hash := w.leafHash(index)
			b.StartTimer()
			must[wire.Inclusion](b)(w.v.Inclusion(ctx, root, index, hash))
		}
	})
	var middle storage.Leaf
	w.look(func(ctx context.Context, tx *catalog.Tx) error {
		return tx.Leaves(ctx, storage.LeafQuery{From: uint64(n / 2), Limit: 1}, func(l storage.Leaf) error { middle = l; return nil })
	})
	for name, q := range map[string]storage.LeafQuery{
		"dataset": {Under: w.scope(faultyDataset), Limit: 100},
		"person":  {Principal: w.person("lee").ID, Limit: 100},
		"since":   {SinceUS: middle.Time, Limit: 100},
		"last":    {From: uint64(n) - 100, Limit: 100},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				found := 0
				w.look(func(ctx context.Context, tx *catalog.Tx) error {
					return tx.Leaves(ctx, q, func(storage.Leaf) error { found++; return nil })
				})
				if found != 100 && n >= 100*rare {
					b.Fatalf("found %d", found)
				}
			}
		})
	}
}
