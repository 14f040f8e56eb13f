package audit

import (
	"crypto/sha256"
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// Hash is a SHA-256 hash of the RFC 6962 Merkle tree.
type Hash = [32]byte

// LeafHash is the RFC 6962 hash of a leaf: SHA-256 of a zero byte and data.
func LeafHash(data []byte) Hash {
	// Most leaves fit a small buffer, which stays on the stack.
	var buf [512]byte
	if len(data) < len(buf) {
		n := copy(buf[1:], data)
		return sha256.Sum256(buf[:1+n])
	}
	return sha256.Sum256(append([]byte{0}, data...))
}

// nodeHash is the RFC 6962 hash of an inner node: SHA-256 of 1, left and right.
func nodeHash(left, right *Hash) Hash {
	var buf [65]byte
	buf[0] = 1
	copy(buf[1:], left[:])
	copy(buf[33:], right[:])
	return sha256.Sum256(buf[:])
}

// EmptyRoot is the root of the tree without leaves: SHA-256 of nothing.
func EmptyRoot() Hash { return sha256.Sum256(nil) }

// Tree is an append-only Merkle tree as of RFC 6962, of which only the right
// edge is kept: at most 63 hashes. The zero Tree is empty and ready to use. It
// is not safe for use by several goroutines.
type Tree struct {
	size uint64
	edge []Hash // roots of the perfect subtrees, the largest first
}

// NewTree continues a tree from its size and its Frontier, which it copies.
func NewTree(size uint64, frontier []Hash) (*Tree, error) {
	if size > math.MaxInt64 {
		return nil, fmt.Errorf("audit: a tree of %d leaves is too large", size)
	}
	if want := bits.OnesCount64(size); len(frontier) != want {
		return nil, fmt.Errorf("audit: the frontier of %d leaves has %d hashes, not %d", size, want, len(frontier))
	}
	t := &Tree{size: size, edge: make([]Hash, len(frontier), len(frontier)+8)}
	copy(t.edge, frontier)
	return t, nil
}

// Append adds one leaf by its LeafHash.
func (t *Tree) Append(leaf Hash) {
	// Each set bit at the end of size is a full subtree that the new one completes.
	for rest := t.size; rest&1 == 1; rest >>= 1 {
		last := len(t.edge) - 1
		leaf = nodeHash(&t.edge[last], &leaf)
		t.edge = t.edge[:last]
	}
	t.edge = append(t.edge, leaf)
	t.size++
}

// Root is the tree's RFC 6962 root hash.
func (t *Tree) Root() Hash {
	if t.size == 0 {
		return EmptyRoot()
	}
	last := len(t.edge) - 1
	root := t.edge[last]
	for i := last - 1; i >= 0; i-- {
		root = nodeHash(&t.edge[i], &root)
	}
	return root
}

// Size is the number of leaves.
func (t *Tree) Size() uint64 { return t.size }

// Frontier gives a copy of the roots of the tree's perfect subtrees, left to
// right, as NewTree wants them.
func (t *Tree) Frontier() []Hash { return slices.Clone(t.edge) }

// Clone copies the tree.
func (t *Tree) Clone() *Tree { return &Tree{size: t.size, edge: slices.Clone(t.edge)} }
