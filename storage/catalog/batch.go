package catalog

import (
	"encoding/binary"
	"math"
	"slices"
	"strconv"

	"dsvault/storage"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// Leaves are kept in batches, one row for as many as share a commit: a row for
// each, with its place in two indexes, took half of the time of a commit.
//
// A batch has two blobs, of whole leaves one after another, in the order of
// their index:
//
//	leaves   slot, kind, decision, time - time of the leaf before, length, data
//	details  position in the batch, principal (16 bytes), length, sealed bytes
//
// Numbers are unsigned varints; a time's difference is a signed one, and the
// first leaf's is from 0. Only leaves with details are in the second blob.

const (
	// maxBatchLeaves and maxBatchBytes bound a batch, so that whoever looks for
	// one leaf reads little. A single leaf may be larger.
	maxBatchLeaves = 256
	maxBatchBytes  = 256 << 10
)

// leafBatch is one row of leaf_batches.
type leafBatch struct {
	first   uint64
	count   int
	time    int64 // of the last leaf
	leaves  []byte
	details []byte

	// Whose leaves and whose details are in it.
	slots  []uint64
	people []dataset.PrincipalID
}

// packer makes batches in the same memory again and again.
type packer struct {
	batch  leafBatch
	slots  map[uint64]struct{}
	people map[dataset.PrincipalID]struct{}
}

// pack packs the beginning of list: leaves with consecutive indexes, as many as
// a batch takes. It returns the rest. The batch holds until the next call.
func (p *packer) pack(list []storage.Leaf) (*leafBatch, []storage.Leaf) {
	size, sealed, n := 0, 0, 0
	for n < len(list) && n < maxBatchLeaves {
		l := &list[n]
		if n > 0 && (l.Index != list[n-1].Index+1 || size+sealed+len(l.Data)+len(l.Details) > maxBatchBytes) {
			break
		}
		const around = 24 // bytes of numbers beside the data, at the most in practice
		size += around + len(l.Data)
		if len(l.Details) > 0 {
			sealed += around + len(l.Details)
		}
		n++
	}
	if p.slots == nil {
		p.slots, p.people = map[uint64]struct{}{}, map[dataset.PrincipalID]struct{}{}
		p.batch.leaves, p.batch.details = []byte{}, []byte{} // nil would be NULL
	}
	clear(p.slots)
	clear(p.people)
	b := &p.batch
	*b = leafBatch{
		first: list[0].Index, count: n, leaves: slices.Grow(b.leaves[:0], size), details: slices.Grow(b.details[:0], sealed),
		slots: b.slots[:0], people: b.people[:0],
	}
	for i := range list[:n] {
		l := &list[i]
		b.leaves = binary.AppendUvarint(b.leaves, l.Slot)
		b.leaves = binary.AppendUvarint(b.leaves, uint64(l.Kind))
		b.leaves = append(b.leaves, l.Decision)
		b.leaves = binary.AppendVarint(b.leaves, l.Time-b.time)
		b.leaves = binary.AppendUvarint(b.leaves, uint64(len(l.Data)))
		b.leaves = append(b.leaves, l.Data...)
		b.time = l.Time
		if _, known := p.slots[l.Slot]; !known {
			p.slots[l.Slot] = struct{}{}
			b.slots = append(b.slots, l.Slot)
		}
		who := nobody
		if len(l.Details) > 0 {
			who = l.Principal
			b.details = appendDetails(b.details, i, who, l.Details)
		}
		if _, known := p.people[who]; !known {
			p.people[who] = struct{}{}
			b.people = append(b.people, who)
		}
	}
	return b, list[n:]
}

func appendDetails(b []byte, position int, who dataset.PrincipalID, sealed []byte) []byte {
	b = binary.AppendUvarint(b, uint64(position))
	b = append(b, who[:]...)
	b = binary.AppendUvarint(b, uint64(len(sealed)))
	return append(b, sealed...)
}

// eachLeaf unpacks the leaves, without details, and calls f with each. Data is
// a piece of the blob.
func (b *leafBatch) eachLeaf(f func(*storage.Leaf) error) error {
	r := unpacker{rest: b.leaves}
	var l storage.Leaf
	for i := range b.count {
		l.Index = b.first + uint64(i)
		l.Slot = r.number()
		kind := r.number()
		l.Kind, r.broken = uint16(kind), r.broken || kind > math.MaxUint16
		if decision := r.bytes(1); len(decision) == 1 {
			l.Decision = decision[0]
		}
		l.Time += r.signed()
		l.Data = r.bytes(r.number())
		if r.broken {
			break
		}
		if err := f(&l); err != nil {
			return err
		}
	}
	return r.finish(b.first)
}

// eachDetail unpacks the details. sealed is a piece of the blob.
func (b *leafBatch) eachDetail(f func(position int, who dataset.PrincipalID, sealed []byte)) error {
	r := unpacker{rest: b.details}
	for next := uint64(0); len(r.rest) > 0 && !r.broken; {
		position := r.number()
		who := r.bytes(uint64(len(dataset.PrincipalID{})))
		sealed := r.bytes(r.number())
		if r.broken = r.broken || position < next || position >= uint64(b.count); r.broken {
			break
		}
		next = position + 1
		f(int(position), dataset.PrincipalID(who), sealed)
	}
	return r.finish(b.first)
}

// unpacker reads a blob; it remembers that it was broken.
type unpacker struct {
	rest   []byte
	broken bool
}

func (r *unpacker) number() uint64 {
	n, size := binary.Uvarint(r.rest)
	return advance(r, n, size)
}

func (r *unpacker) signed() int64 {
	n, size := binary.Varint(r.rest)
	return advance(r, n, size)
}

func advance[N uint64 | int64](r *unpacker, n N, size int) N {
	if r.broken = r.broken || size <= 0; r.broken {
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *unpacker) bytes(n uint64) []byte {
	if r.broken = r.broken || n > uint64(len(r.rest)); r.broken {
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *unpacker) finish(first uint64) error {
	if !r.broken && len(r.rest) == 0 {
		return nil
	}
	return fault.New(fault.Corrupt, "catalog.Leaves", "the log's batch of leaves from "+strconv.FormatUint(first, 10)+" on is damaged").
		WithHint("stop the server, keep a copy of the damaged database, and restore a backup")
}
