package audit_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"dsvault/vault/audit"
)

// BenchmarkBundle verifies a file of a million leaves with personal details, as
// two halves of reads: the whole log, and all but the vault's slot of it.
func BenchmarkBundle(b *testing.B) {
	const leaves = 1_000_000
	signer, vkey := testKey(b)
	for _, whole := range []bool{true, false} {
		b.Run(fmt.Sprintf("whole=%v", whole), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "bundle")
			size := writeLong(b, path, whole, leaves, signer, vkey)
			opts := audit.BundleOptions{Keys: []note.Verifier{mustVerifier(b, vkey)}, Origin: origin}
			b.SetBytes(size)
			b.ResetTimer()
			for b.Loop() {
				f, err := os.Open(path)
				if err != nil {
					b.Fatal(err)
				}
				got, err := audit.VerifyBundle(f, opts)
				f.Close()
				if err != nil || got.Leaves < leaves-2 || got.Details < leaves-2 {
					b.Fatalf("%+v, %v", got.Leaves, err)
				}
			}
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			b.ReportMetric(float64(b.N)*leaves/b.Elapsed().Seconds(), "leaves/s")
			b.ReportMetric(float64(m.Sys)/(1<<20), "MiB-sys")
		})
	}
}

// writeLong writes a bundle of many reads in 1000 slots, and gives its size.
func writeLong(b *testing.B, path string, whole bool, leaves uint64, signer note.Signer, vkey string) int64 {
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	// Two rounds: the checkpoint comes first and is known last.
	log := longLog{leaves: leaves}
	log.walk(b, nil)
	signed, err := audit.SignCheckpoint(origin, log.tree.Size(), log.tree.Root(), signer)
	if err != nil {
		b.Fatal(err)
	}
	buf := bufio.NewWriterSize(f, 1<<20)
	w, err := audit.NewBundleWriter(buf, audit.BundleHeader{Origin: origin, Key: vkey, Scope: "/", Whole: whole})
	if err == nil {
		err = w.Checkpoint(signed)
	}
	if !whole && err == nil {
		err = w.Statement(leaves, log.statement, log.path)
		for slot := uint64(1); slot < log.array.Len() && err == nil; slot++ {
			path, bad := log.array.Prove(slot)
			if err = bad; err == nil {
				err = w.Slot(slot, log.array.Entry(slot), path)
			}
		}
	}
	if err != nil {
		b.Fatal(err)
	}
	again := longLog{leaves: leaves}
	again.walk(b, func(r audit.Record) {
		if r.Leaf.Slot == 0 && !whole {
			return
		}
		if err := w.Record(r); err != nil {
			b.Fatal(err)
		}
	})
	if err := errors.Join(w.End(), buf.Flush()); err != nil {
		b.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		b.Fatal(err)
	}
	return info.Size()
}

// longLog is a log of so many leaves and a statement.
type longLog struct {
	leaves    uint64
	tree      audit.Tree
	array     audit.Array
	statement []byte
	path      []audit.Hash // the statement's: it is the last leaf
}

func (l *longLog) walk(b *testing.B, each func(audit.Record)) {
	const slots = 1000
	personal := []byte(`{"handle":"lee","address":"192.0.2.77","agent":"dsvault/1.0 (linux)","note":{"object":"acme/signs/batch-1/17"}}`)
	commitment := audit.Commit(salt, personal)
	open := map[uint64]uint64{} // slot -> index of its open read
	emit := func(leaf audit.Leaf) {
		index := l.tree.Size()
		e := l.array.Entry(leaf.Slot)
		leaf.Tag, leaf.Seq, leaf.Prev = id16(1000+leaf.Slot), e.Count+1, e.Hash
		leaf.Time, leaf.Revision, leaf.Decision = startTime+int64(index), 7, audit.Allowed
		data, err := leaf.Marshal()
		if err != nil {
			b.Fatal(err)
		}
		hash := audit.LeafHash(data)
		if index < l.leaves {
			l.array.Set(leaf.Slot, audit.Entry{Tag: leaf.Tag, Count: leaf.Seq, Last: index, Hash: hash})
		} else {
			l.statement, l.path = data, l.tree.Frontier()
			slices.Reverse(l.path)
		}
		l.tree.Append(hash)
		if each != nil {
			r := audit.Record{Index: index, Data: data, Leaf: leaf}
			if leaf.Commitment == commitment {
				r.Salt, r.Details = &salt, personal
			}
			each(r)
		}
	}
	emit(audit.Leaf{Kind: audit.KindVaultInit})
	for l.tree.Size() < l.leaves {
		index := l.tree.Size()
		slot := 1 + index/2%slots
		leaf := audit.Leaf{Kind: audit.KindRead, Slot: slot, Commitment: commitment, Reason: "LAB-03",
			Object: audit.Object{Kind: audit.ObjectShard, ID: id16(slot), Number: uint32(index)}}
		leaf.Set(audit.StringField(audit.FieldDelivery, "sealed"), audit.Uint64Field(audit.FieldMaxBytes, 1<<28), audit.BytesField(audit.FieldDeviceID, salt[:16]))
		if at, running := open[slot]; running {
			leaf.Kind, leaf.Reason = audit.KindReadEnd, "own"
			leaf.Set(audit.Uint64Field(audit.FieldRefIndex, at), audit.StringField(audit.FieldCause, "finished"))
			delete(open, slot)
		} else {
			open[slot] = index
		}
		emit(leaf)
	}
	s := audit.Statement{Root: l.array.Root(), Length: l.array.Len()}
	leaf := audit.Leaf{Kind: audit.KindStatement}
	leaf.Set(s.Fields()...)
	emit(leaf)
}
