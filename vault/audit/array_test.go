package audit_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/transparency-dev/merkle/rfc6962"
	"pgregory.net/rapid"

	"dsvault/vault/audit"
)

// naivePath is RFC 6962, section 2.1.1, word for word.
func naivePath(m int, leaves [][]byte) [][]byte {
	if len(leaves) <= 1 {
		return nil
	}
	k := 1
	for k*2 < len(leaves) {
		k *= 2
	}
	if m < k {
		return append(naivePath(m, leaves[:k]), naiveRoot(leaves[k:]))
	}
	return append(naivePath(m-k, leaves[k:]), naiveRoot(leaves[:k]))
}

// naiveConsistency is RFC 6962, section 2.1.2, word for word.
func naiveConsistency(m int, leaves [][]byte, whole bool) [][]byte {
	if m == len(leaves) {
		if whole {
			return nil
		}
		return [][]byte{naiveRoot(leaves)}
	}
	k := 1
	for k*2 < len(leaves) {
		k *= 2
	}
	if m <= k {
		return append(naiveConsistency(m, leaves[:k], whole), naiveRoot(leaves[k:]))
	}
	return append(naiveConsistency(m-k, leaves[k:], false), naiveRoot(leaves[:k]))
}

func toHashes(list [][]byte) []audit.Hash {
	out := make([]audit.Hash, len(list))
	for i, h := range list {
		out[i] = audit.Hash(h)
	}
	return out
}

// entryByTheBook encodes an entry by the offsets of the package comment.
func entryByTheBook(e audit.Entry) []byte {
	b := make([]byte, 80)
	b[0] = 15
	copy(b[1:], "dsvault/slot/v1")
	copy(b[16:], e.Tag[:])
	binary.BigEndian.PutUint64(b[32:], e.Count)
	binary.BigEndian.PutUint64(b[40:], e.Last)
	copy(b[48:], e.Hash[:])
	return b
}

func anEntry(n uint64) audit.Entry {
	return audit.Entry{Tag: id16(n), Count: n, Last: n * n, Hash: audit.LeafHash(binary.BigEndian.AppendUint64(nil, n))}
}

// TestArray: an array that was changed, made longer and cut in any order is the
// tree of its entries.
func TestArray(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var array audit.Array
		var model []audit.Entry
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0, 1: // some changes, without a look at the root in between
				for range rapid.IntRange(1, 6).Draw(t, "changes") {
					slot := rapid.IntRange(0, 70).Draw(t, "slot")
					e := anEntry(rapid.Uint64Range(0, 50).Draw(t, "entry"))
					if err := array.Set(uint64(slot), e); err != nil {
						t.Fatal(err)
					}
					if slot >= len(model) {
						model = append(model, make([]audit.Entry, slot+1-len(model))...)
					}
					model[slot] = e
				}
			case 2:
				n := rapid.IntRange(0, 80).Draw(t, "length")
				array.Resize(uint64(n))
				if n > len(model) {
					model = append(model, make([]audit.Entry, n-len(model))...)
				}
				model = slices.Clip(model[:n])
			}
			compareArray(t, &array, model)
		}
	})
}

func compareArray(t *rapid.T, array *audit.Array, model []audit.Entry) {
	leaves := make([][]byte, len(model))
	for i, e := range model {
		leaves[i] = entryByTheBook(e)
		if array.Entry(uint64(i)) != e {
			t.Fatalf("slot %d is %+v, want %+v", i, array.Entry(uint64(i)), e)
		}
	}
	root := array.Root()
	if array.Len() != uint64(len(model)) || !bytes.Equal(root[:], naiveRoot(leaves)) {
		t.Fatalf("%d slots: another root than the naive tree", len(model))
	}
	if len(model) == 0 {
		return
	}
	slot := rapid.IntRange(0, len(model)-1).Draw(t, "proven")
	path, err := array.Prove(uint64(slot))
	if err != nil || !slices.Equal(path, toHashes(naivePath(slot, leaves))) {
		t.Fatalf("slot %d of %d: another proof than the naive one (%v)", slot, len(model), err)
	}
	if err := audit.VerifyEntry(uint64(slot), model[slot], array.Len(), root, path); err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]audit.Entry{
		"tag":   {Tag: id16(1 << 40), Count: model[slot].Count, Last: model[slot].Last, Hash: model[slot].Hash},
		"count": {Tag: model[slot].Tag, Count: model[slot].Count + 1, Last: model[slot].Last, Hash: model[slot].Hash},
		"last":  {Tag: model[slot].Tag, Count: model[slot].Count, Last: model[slot].Last + 1, Hash: model[slot].Hash},
		"hash":  {Tag: model[slot].Tag, Count: model[slot].Count, Last: model[slot].Last, Hash: audit.EmptyRoot()},
	} {
		if audit.VerifyEntry(uint64(slot), e, array.Len(), root, path) == nil {
			t.Fatalf("slot %d of %d: another %s was accepted", slot, len(model), name)
		}
	}
	if other := (slot + 1) % len(model); model[other] != model[slot] {
		if audit.VerifyEntry(uint64(other), model[slot], array.Len(), root, path) == nil {
			t.Fatalf("the entry of slot %d was accepted as that of slot %d", slot, other)
		}
	}
}

func TestArrayLimits(t *testing.T) {
	var array audit.Array
	if array.Set(audit.MaxSlots, audit.Entry{}) == nil || array.Len() != 0 {
		t.Error("a slot beyond the limit was accepted")
	}
	if _, err := array.Prove(0); err == nil {
		t.Error("a proof in an empty array")
	}
	if array.Root() != audit.EmptyRoot() {
		t.Error("the empty array has another root")
	}
	err := audit.VerifyEntry(0, audit.Entry{}, 1, audit.Hash{}, make([]audit.Hash, audit.MaxProof+1))
	wantCheck(t, err, audit.CheckSlot, -1)
}

func TestParseEntry(t *testing.T) {
	e := anEntry(7)
	data := e.Marshal()
	if !bytes.Equal(data, entryByTheBook(e)) {
		t.Fatalf("got %x", data)
	}
	if got, err := audit.ParseEntry(data); err != nil || got != e {
		t.Errorf("%+v, %v", got, err)
	}
	longer, label := append(bytes.Clone(data), 0), bytes.Clone(data)
	label[3] ^= 1
	for _, bad := range [][]byte{nil, data[:79], longer, label} {
		_, err := audit.ParseEntry(bad)
		wantCheck(t, err, audit.CheckSlot, -1)
	}
	// The two trees have no leaf in common.
	if hash := rfc6962.DefaultHasher.HashLeaf(data); !bytes.Equal(hash, naiveRoot([][]byte{data})) {
		t.Errorf("another leaf hash: %x", hash)
	}
	if _, err := audit.ParseLeaf(data); err == nil {
		t.Error("an entry was taken for a leaf")
	}
}

// What an array of 100,000 slots costs: to build, and to bring up to date.
func BenchmarkArray(b *testing.B) {
	const slots = 100_000
	var array audit.Array
	b.Run("build", func(b *testing.B) {
		for b.Loop() {
			array = audit.Array{}
			for slot := range uint64(slots) {
				array.Set(slot, anEntry(slot))
			}
			array.Root()
		}
	})
	for _, changed := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("changed=%d", changed), func(b *testing.B) {
			for n := uint64(0); b.Loop(); n++ {
				for i := range uint64(changed) {
					array.Set((i*7919+n)%slots, anEntry(n+i))
				}
				array.Root()
			}
		})
	}
	b.Run("prove", func(b *testing.B) {
		for n := uint64(0); b.Loop(); n++ {
			if _, err := array.Prove(n % slots); err != nil {
				b.Fatal(err)
			}
		}
	})
}
