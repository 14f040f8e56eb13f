package audit_test

import (
	"encoding/binary"
	"testing"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"

	"dsvault/vault/audit"
)

// naiveRoot is RFC 6962, section 2.1, word for word.
func naiveRoot(leaves [][]byte) []byte {
	h := rfc6962.DefaultHasher
	switch len(leaves) {
	case 0:
		return h.EmptyRoot()
	case 1:
		return h.HashLeaf(leaves[0])
	}
	k := 1
	for k*2 < len(leaves) {
		k *= 2
	}
	return h.HashChildren(naiveRoot(leaves[:k]), naiveRoot(leaves[k:]))
}

type hashes []tlog.Hash

func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		out[i] = h[index]
	}
	return out, nil
}

func TestTree(t *testing.T) {
	tree, err := audit.NewTree(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	var leaves [][]byte
	var stored hashes
	other := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	for n := range 301 {
		if tree.Size() != uint64(n) {
			t.Fatalf("size %d, want %d", tree.Size(), n)
		}
		root := tree.Root()
		if string(root[:]) != string(naiveRoot(leaves)) {
			t.Fatalf("size %d: another root than the naive tree", n)
		}
		if want, err := tlog.TreeHash(int64(n), stored); err != nil || n > 0 && root != [32]byte(want) {
			t.Fatalf("size %d: another root than tlog (%v)", n, err)
		}
		frontier := tree.Frontier()
		if len(frontier) != len(other.Hashes()) {
			t.Fatalf("size %d: frontier of %d hashes", n, len(frontier))
		}
		for i, want := range other.Hashes() {
			if string(frontier[i][:]) != string(want) {
				t.Fatalf("size %d: another frontier than a compact range", n)
			}
		}
		resumed, err := audit.NewTree(uint64(n), frontier)
		if err != nil {
			t.Fatal(err)
		}
		clone := tree.Clone()

		data := binary.BigEndian.AppendUint32(nil, uint32(n))
		hash := audit.LeafHash(data)
		leaves = append(leaves, data)
		more, err := tlog.StoredHashes(int64(n), data, stored)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, more...)
		if err := other.Append(hash[:], nil); err != nil {
			t.Fatal(err)
		}
		tree.Append(hash)
		resumed.Append(hash)
		if resumed.Root() != tree.Root() {
			t.Fatalf("size %d: the resumed tree differs", n+1)
		}
		if clone.Root() != root || clone.Size() != uint64(n) {
			t.Fatalf("size %d: the clone moved with its tree", n)
		}
	}
	if audit.EmptyRoot() != [32]byte(rfc6962.DefaultHasher.EmptyRoot()) {
		t.Error("wrong root of the empty tree")
	}
}

func TestNewTreeRefuses(t *testing.T) {
	for _, c := range []struct {
		size uint64
		n    int
	}{{0, 1}, {1, 0}, {3, 1}, {4, 2}, {1 << 63, 1}} {
		if _, err := audit.NewTree(c.size, make([]audit.Hash, c.n)); err == nil {
			t.Errorf("size %d with %d hashes was accepted", c.size, c.n)
		}
	}
}
