package audit

import (
	"crypto/subtle"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Verifier checks a log offline, leaf by leaf in index order, and then against
// a checkpoint. It keeps a few words for each slot and each open read and a bit
// for each leaf, so that logs larger than memory can be verified.
//
// Somebody who may see only some leaves adds the others by their hash. The root
// then still covers the whole log, and each slot's chain is checked as far as
// it is visible: a gap in a slot's sequence must have at least as many hidden
// leaves in it. WholeSlots says of which slots every leaf must be there.
// That no later leaf of a slot is hidden behind the last visible one cannot be
// seen from the leaves: compare Report.Slots with what the log signed.
//
// The first error is final: every later call returns it too. A Verifier is not
// safe for use by several goroutines.
type Verifier struct {
	whole func(slot uint64) bool
	err   error
	tree  Tree

	slots    map[uint64]*slotState
	tags     map[[16]byte]uint64 // tag -> its slot
	datasets map[[16]byte]uint64 // dataset -> its slot

	open      map[uint64]uint64 // index of an open read -> its slot
	closed    bitset            // indices of reads that a read-end closed
	concealed bitset            // indices added by hash
	hidden    uint64

	seen        bool // there is a last visible leaf
	last        Leaf // without Ext and Reason
	lastIndex   uint64
	first       int64 // time of the first visible leaf
	lastVisible bool  // the last leaf added is visible, so its details can be checked
}

type slotState struct {
	report  SlotReport
	hash    Hash   // of its last visible leaf
	index   uint64 // of its last visible leaf
	hidden  uint64 // leaves hidden before that leaf, in all slots
	dataset [16]byte
	bound   bool // dataset is known
}

// Option changes what a Verifier asks for.
type Option func(*Verifier)

// WholeSlots names the slots of which no leaf may be hidden. Without it none is
// named, and hidden leaves may belong to any slot.
func WholeSlots(whole func(slot uint64) bool) Option {
	return func(v *Verifier) { v.whole = whole }
}

// NewVerifier returns a Verifier for a log from its first leaf.
func NewVerifier(opts ...Option) *Verifier {
	v := &Verifier{
		whole: func(uint64) bool { return false },
		slots: map[uint64]*slotState{}, tags: map[[16]byte]uint64{}, datasets: map[[16]byte]uint64{},
		open: map[uint64]uint64{},
	}
	for _, opt := range opts {
		opt(v)
	}
	return v
}

// AddLeaf checks and adds the leaf at index, which must be the next one.
// Errors are *VerifyError.
func (v *Verifier) AddLeaf(index uint64, data []byte) error {
	if err := v.next(index); err != nil {
		return err
	}
	l, err := ParseLeaf(data)
	if err != nil {
		detail := err.Error()
		if format, ok := err.(*VerifyError); ok {
			detail = format.Detail
		}
		return v.fail(CheckFormat, index, "%s", detail)
	}
	hash := LeafHash(data)
	if err := v.checkOrder(index, &l); err != nil {
		return err
	}
	if err := v.checkSlot(index, &l, hash); err != nil {
		return err
	}
	if err := v.checkDataset(index, &l); err != nil {
		return err
	}
	if err := v.checkRead(index, &l); err != nil {
		return err
	}
	if !v.seen {
		v.first = l.Time
	}
	l.Reason, l.Ext = "", nil
	v.last, v.lastIndex, v.seen, v.lastVisible = l, index, true, true
	v.tree.Append(hash)
	return nil
}

// AddHash adds the leaf at index, which must be the next one, by its LeafHash.
func (v *Verifier) AddHash(index uint64, h Hash) error {
	if err := v.next(index); err != nil {
		return err
	}
	v.concealed.set(index)
	v.hidden++
	v.lastVisible = false
	v.tree.Append(h)
	return nil
}

// CheckDetails checks that the leaf that was added last commits to details.
func (v *Verifier) CheckDetails(index uint64, salt [32]byte, details []byte) error {
	if v.err != nil {
		return v.err
	}
	if !v.lastVisible || index != v.lastIndex {
		return v.fail(CheckOrder, index, "its details were given, but it is not the leaf that was added last")
	}
	if want := Commit(salt, details); subtle.ConstantTimeCompare(want[:], v.last.Commitment[:]) != 1 {
		return v.fail(CheckDetails, index, "its personal details are not those that it commits to")
	}
	return nil
}

// next refuses any leaf but the next one.
func (v *Verifier) next(index uint64) error {
	if v.err != nil {
		return v.err
	}
	if want := v.tree.Size(); index != want {
		return v.fail(CheckOrder, index, "it was given where leaf %d comes next", want)
	}
	return nil
}

// checkOrder checks what holds across all slots.
func (v *Verifier) checkOrder(index uint64, l *Leaf) error {
	switch {
	case !v.seen:
		return nil
	case l.Time < v.last.Time:
		return v.fail(CheckTime, index, "its time %s lies before that of leaf %d, %s",
			stamp(l.Time), v.lastIndex, stamp(v.last.Time))
	case l.Revision < v.last.Revision:
		return v.fail(CheckRevision, index, "its policy revision %d is lower than that of leaf %d, %d",
			l.Revision, v.lastIndex, v.last.Revision)
	}
	return nil
}

// checkSlot checks the chain of the leaf's slot and moves it on.
func (v *Verifier) checkSlot(index uint64, l *Leaf, hash Hash) error {
	s, known := v.slots[l.Slot]
	if !known {
		if other, taken := v.tags[l.Tag]; taken {
			return v.fail(CheckTag, index, "its slot %d has the tag of slot %d", l.Slot, other)
		}
		s = &slotState{report: SlotReport{Slot: l.Slot, Tag: l.Tag}}
		v.slots[l.Slot], v.tags[l.Tag] = s, l.Slot
	}
	want := s.report.Seq + 1
	switch {
	case l.Tag != s.report.Tag:
		return v.fail(CheckTag, index, "its tag is not that of its slot %d", l.Slot)
	case l.Seq < want:
		return v.fail(CheckSeq, index, "its number in slot %d is %d where %d comes next: it is repeated or out of place",
			l.Slot, l.Seq, want)
	case l.Seq > want && (v.whole(l.Slot) || l.Seq-want > v.hidden-s.hidden):
		return v.fail(CheckSeq, index, "its number in slot %d is %d where %d comes next: leaves before it are missing",
			l.Slot, l.Seq, want)
	case l.Seq == want && want == 1 && l.Prev != s.hash:
		return v.fail(CheckPrev, index, "it is the first leaf of slot %d and yet names a previous one", l.Slot)
	case l.Seq == want && l.Prev != s.hash:
		return v.fail(CheckPrev, index, "the previous leaf that it names is not leaf %d, the last of slot %d", s.index, l.Slot)
	}
	s.hash, s.index, s.hidden = hash, index, v.hidden
	s.report.Seq = l.Seq
	s.report.Leaves++
	return nil
}

// checkDataset checks that what was done with a dataset's data stands in the
// one slot of this dataset: elsewhere its owner would not find it.
func (v *Verifier) checkDataset(index uint64, l *Leaf) error {
	switch l.Kind {
	case KindRead, KindReadEnd, KindUpload, KindUploadEnd, KindDatasetCreate, KindDatasetComplete:
	default:
		return nil
	}
	if l.Decision == Refused || l.Object.Kind != ObjectDataset && l.Object.Kind != ObjectShard {
		return nil
	}
	slot, known := v.datasets[l.Object.ID]
	if known && slot != l.Slot {
		return v.fail(CheckDataset, index, "it is in slot %d, but its dataset's slot is %d", l.Slot, slot)
	}
	s := v.slots[l.Slot]
	if !known && s.bound {
		return v.fail(CheckDataset, index, "its slot %d is that of another dataset", l.Slot)
	}
	v.datasets[l.Object.ID] = l.Slot
	s.dataset, s.bound = l.Object.ID, true
	return nil
}

// checkRead checks that each read is closed at most once, in its own slot.
func (v *Verifier) checkRead(index uint64, l *Leaf) error {
	if l.Decision == Refused {
		return nil
	}
	switch l.Kind {
	case KindRead:
		v.open[index] = l.Slot
		return nil
	case KindReadEnd:
	default:
		return nil
	}
	ref, ok := l.Uint64(FieldRefIndex)
	switch {
	case !ok:
		return v.fail(CheckReadEnd, index, "it ends a read without saying which")
	case ref >= index:
		return v.fail(CheckReadEnd, index, "it ends leaf %d, which does not come before it", ref)
	case v.closed.has(ref):
		return v.fail(CheckReadEndTwice, index, "it ends the read of leaf %d, which had ended already", ref)
	case v.concealed.has(ref):
		if v.whole(l.Slot) {
			return v.fail(CheckReadEnd, index, "it ends leaf %d, which is hidden although its slot %d is whole", ref, l.Slot)
		}
	default:
		slot, open := v.open[ref]
		if !open {
			return v.fail(CheckReadEnd, index, "it ends leaf %d, which is not a read", ref)
		}
		if slot != l.Slot {
			return v.fail(CheckReadEnd, index, "it is in slot %d, but the read that it ends, leaf %d, is in slot %d", l.Slot, ref, slot)
		}
		delete(v.open, ref)
	}
	v.closed.set(ref)
	return nil
}

// Report is what a verified log holds.
type Report struct {
	Size   uint64 // leaves, Seen and Hidden
	Root   Hash
	Seen   uint64
	Hidden uint64
	Slots  []SlotReport // ascending; those with visible leaves
	// OpenReads are the visible reads, ascending, that no visible read-end
	// closed. In a slot with hidden leaves a hidden one may have.
	OpenReads   []uint64
	First, Last time.Time // of the visible leaves; zero if there are none
}

// SlotReport is what the visible leaves say of one slot.
type SlotReport struct {
	Slot   uint64
	Tag    [16]byte
	Leaves uint64 // visible ones
	Seq    uint64 // number of the last visible one; equals Leaves if none is hidden before it
}

// Finish compares size and root with cp, which OpenCheckpoint has checked. More
// leaves may be added afterwards, and finished with a later checkpoint.
func (v *Verifier) Finish(cp Checkpoint) (Report, error) {
	if v.err != nil {
		return Report{}, v.err
	}
	r := Report{Size: v.tree.Size(), Root: v.tree.Root(), Hidden: v.hidden, Seen: v.tree.Size() - v.hidden}
	if cp.Size != r.Size {
		return Report{}, &VerifyError{CheckSize, -1, fmt.Sprintf("there are %d leaves, but the checkpoint is of %d", r.Size, cp.Size)}
	}
	if cp.Root != r.Root {
		return Report{}, &VerifyError{CheckRoot, -1, fmt.Sprintf("the %d leaves have the root %x, but the checkpoint says %x", r.Size, r.Root, cp.Root)}
	}
	for _, slot := range slices.Sorted(maps.Keys(v.slots)) {
		r.Slots = append(r.Slots, v.slots[slot].report)
	}
	r.OpenReads = slices.Sorted(maps.Keys(v.open))
	if v.seen {
		r.First, r.Last = time.UnixMicro(v.first).UTC(), time.UnixMicro(v.last.Time).UTC()
	}
	return r, nil
}

func (v *Verifier) fail(check string, index uint64, format string, args ...any) error {
	v.err = &VerifyError{Check: check, Index: int64(index), Detail: fmt.Sprintf(format, args...)}
	return v.err
}

func stamp(micros int64) string { return time.UnixMicro(micros).UTC().Format(time.RFC3339Nano) }

// bitset is a set of leaf indices.
type bitset []uint64

func (b *bitset) set(i uint64) {
	word := int(i / 64)
	if word >= len(*b) {
		*b = append(*b, make([]uint64, word+1-len(*b))...)
	}
	(*b)[word] |= 1 << (i % 64)
}

func (b bitset) has(i uint64) bool {
	word := i / 64
	return word < uint64(len(b)) && b[word]&(1<<(i%64)) != 0
}
