package audit

import (
	"fmt"
	"maps"
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
)

// Entry is what a statement says of one slot. The zero Entry is that of a slot
// without leaves.
type Entry struct {
	Tag   [16]byte // of the slot
	Count uint64   // leaves in the slot
	Last  uint64   // index of its last leaf
	Hash  Hash     // LeafHash of its last leaf
}

const entryLabel = "dsvault/slot/v1"

const entrySize = 1 + len(entryLabel) + 16 + 8 + 8 + 32

// Marshal encodes the entry as a leaf of the array. The package comment gives
// the encoding.
func (e *Entry) Marshal() []byte {
	out := cryptobyte.NewBuilder(make([]byte, 0, entrySize))
	out.AddUint8(uint8(len(entryLabel)))
	out.AddBytes([]byte(entryLabel))
	out.AddBytes(e.Tag[:])
	out.AddUint64(e.Count)
	out.AddUint64(e.Last)
	out.AddBytes(e.Hash[:])
	return out.BytesOrPanic() // of one fixed size
}

// ParseEntry decodes exactly what Marshal writes.
func ParseEntry(data []byte) (Entry, error) {
	var e Entry
	in := cryptobyte.String(data)
	var label cryptobyte.String
	ok := in.ReadUint8LengthPrefixed(&label) && string(label) == entryLabel &&
		in.CopyBytes(e.Tag[:]) && in.ReadUint64(&e.Count) && in.ReadUint64(&e.Last) && in.CopyBytes(e.Hash[:]) && in.Empty()
	if !ok {
		return Entry{}, &VerifyError{CheckSlot, -1, "what is said of a slot is not in the encoding of " + entryLabel}
	}
	return e, nil
}

func (e *Entry) leafHash() Hash { return LeafHash(e.Marshal()) }

// MaxSlots is the most slots that an Array holds.
const MaxSlots = 1 << 26

// Array is the Merkle array of a statement: what is known of slots 0 to Len-1,
// at their places. A change costs as many hashes as the tree is high, and many
// changes at once share them. The zero Array is empty and ready to use. It is
// not safe for use by several goroutines.
type Array struct {
	entries []Entry
	// levels[k][i] is the root of the perfect subtree over the leaves from
	// i<<k to (i+1)<<k. What lies over changed leaves is stale until settle.
	levels  [][]Hash
	changed map[uint64]struct{}
}

// Len is the number of slots.
func (a *Array) Len() uint64 { return uint64(len(a.entries)) }

// Entry gives what is known of a slot; the zero Entry beyond the end.
func (a *Array) Entry(slot uint64) Entry {
	if slot >= a.Len() {
		return Entry{}
	}
	return a.entries[slot]
}

// Set changes one slot's entry. A slot beyond the end makes the array longer;
// those before it are without leaves until they are set.
func (a *Array) Set(slot uint64, e Entry) error {
	if slot >= MaxSlots {
		return fmt.Errorf("audit: slot %d is beyond what an array holds", slot)
	}
	if slot >= a.Len() {
		a.Resize(slot + 1)
	}
	a.entries[slot] = e
	a.levels[0][slot] = e.leafHash()
	a.touch(slot)
	return nil
}

// Resize makes the array n slots long, at most MaxSlots: it cuts the end off, or
// adds slots without leaves.
func (a *Array) Resize(n uint64) {
	if len(a.levels) == 0 {
		a.levels = [][]Hash{nil}
	}
	if n < a.Len() {
		a.entries = a.entries[:n]
		maps.DeleteFunc(a.changed, func(slot uint64, _ struct{}) bool { return slot >= n })
		for k := range a.levels {
			a.levels[k] = a.levels[k][:n>>k]
		}
		return
	}
	empty := (&Entry{}).leafHash()
	for slot := a.Len(); slot < n; slot++ {
		a.entries = append(a.entries, Entry{})
		a.levels[0] = append(a.levels[0], empty)
		a.touch(slot)
	}
	for k := 1; n>>k > 0; k++ {
		if k == len(a.levels) {
			a.levels = append(a.levels, nil)
		}
		a.levels[k] = slices.Grow(a.levels[k], int(n>>k)-len(a.levels[k]))[:n>>k]
	}
}

func (a *Array) touch(slot uint64) {
	if a.changed == nil {
		a.changed = make(map[uint64]struct{})
	}
	a.changed[slot] = struct{}{}
}

// settle hashes what lies over changed leaves.
func (a *Array) settle() {
	if len(a.changed) == 0 {
		return
	}
	stale := slices.Sorted(maps.Keys(a.changed))
	a.changed = nil // clearing a map takes as long as it was ever large
	for k := 1; k < len(a.levels) && len(stale) > 0; k++ {
		above := stale[:0]
		for _, i := range stale {
			i >>= 1
			if i >= uint64(len(a.levels[k])) || len(above) > 0 && above[len(above)-1] == i {
				continue
			}
			a.levels[k][i] = nodeHash(&a.levels[k-1][2*i], &a.levels[k-1][2*i+1])
			above = append(above, i)
		}
		stale = above
	}
}

// Root is the root of the RFC 6962 tree over the entries.
func (a *Array) Root() Hash {
	a.settle()
	n := a.Len()
	if n == 0 {
		return EmptyRoot()
	}
	var root Hash
	begun := false
	for k := range a.levels {
		if n>>k&1 == 0 {
			continue
		}
		node := a.levels[k][n>>k-1] // the perfect subtree of this height on the right edge
		if begun {
			root = nodeHash(&node, &root)
		} else {
			root, begun = node, true
		}
	}
	return root
}

// Prove gives the proof that a slot's entry is at its place: an RFC 6962
// inclusion proof, from the leaf up.
func (a *Array) Prove(slot uint64) ([]Hash, error) {
	nodes, err := proof.Inclusion(slot, a.Len())
	if err != nil {
		return nil, fmt.Errorf("audit: slot %d is not in an array of %d", slot, a.Len())
	}
	a.settle()
	return rehash(nodes, func(id compact.NodeID) Hash { return a.levels[id.Level][id.Index] })
}

// rehash turns the nodes of a proof into its hashes.
func rehash(nodes proof.Nodes, node func(compact.NodeID) Hash) ([]Hash, error) {
	hashes := make([][]byte, len(nodes.IDs))
	for i, id := range nodes.IDs {
		h := node(id)
		hashes[i] = h[:]
	}
	hashes, err := nodes.Rehash(hashes, rfc6962.DefaultHasher.HashChildren)
	if err != nil {
		return nil, fmt.Errorf("audit: cannot build a proof: %w", err)
	}
	out := make([]Hash, len(hashes))
	for i, h := range hashes {
		out[i] = Hash(h)
	}
	return out, nil
}

// VerifyEntry checks that an array of n slots with this root has e at a slot.
// The error is a *VerifyError of CheckSlot.
func VerifyEntry(slot uint64, e Entry, n uint64, root Hash, path []Hash) error {
	leaf := e.leafHash()
	if slot >= n || len(path) > MaxProof ||
		proof.VerifyInclusion(rfc6962.DefaultHasher, slot, n, leaf[:], slicesOf(path), root[:]) != nil {
		return &VerifyError{CheckSlot, -1, fmt.Sprintf("the statement does not say of slot %d what is shown", slot)}
	}
	return nil
}

func slicesOf(hashes []Hash) [][]byte {
	out := make([][]byte, len(hashes))
	for i := range hashes {
		out[i] = hashes[i][:]
	}
	return out
}
