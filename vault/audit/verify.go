package audit

import (
	"crypto/subtle"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Verifier checks a log offline, leaf by leaf in index order, and then against
// a checkpoint. It keeps a few words for each slot and each open read and a bit or
// a word for each closed one, so that logs larger than memory can be verified. Each
// statement on the way is compared with the slots as they are then.
//
// Somebody who may see only some slots has each of these whole: see SomeSlots.
//
// The first error is final: every later call returns it too. A Verifier is not
// safe for use by several goroutines.
type Verifier struct {
	some bool // only the leaves of some slots
	err  error
	tree Tree // of the whole log

	slots    map[uint64]*slotState
	tags     map[[16]byte]uint64 // tag -> its slot
	datasets map[[16]byte]uint64 // dataset -> its slot

	array   Array               // the slots at the last statement
	changed map[uint64]struct{} // slots with leaves since then
	stated  *Statement          // the last one

	open   map[uint64]uint64 // index of an open read -> its slot
	closed bitset            // indices of reads that a read-end closed

	count     uint64 // leaves
	last      Leaf   // without Ext and Reason
	lastIndex uint64
	first     int64 // time of the first leaf
}

type slotState struct {
	Entry   // after its last leaf
	dataset [16]byte
	bound   bool // dataset is known
}

// Option changes what a Verifier asks for.
type Option func(*Verifier)

// SomeSlots says that only the leaves of some slots are given, but all of
// these. What has to be theirs is what a statement says: see FinishStated.
func SomeSlots() Option { return func(v *Verifier) { v.some = true } }

// NewVerifier returns a Verifier for a log from its first leaf.
func NewVerifier(opts ...Option) *Verifier {
	v := &Verifier{
		slots: map[uint64]*slotState{}, tags: map[[16]byte]uint64{}, datasets: map[[16]byte]uint64{},
		open: map[uint64]uint64{}, closed: bitset{}, changed: map[uint64]struct{}{},
	}
	for _, opt := range opts {
		opt(v)
	}
	return v
}

// AddLeaf checks and adds the leaf at index, which must be the next one, or
// with SomeSlots a later one than the last. Errors are *VerifyError.
func (v *Verifier) AddLeaf(index uint64, data []byte) error {
	l, err := ParseLeaf(data)
	return v.add(index, l, LeafHash(data), err)
}

// add is AddLeaf for a leaf that was parsed before, with the error of that.
func (v *Verifier) add(index uint64, l Leaf, hash Hash, err error) error {
	if err := v.next(index); err != nil {
		return err
	}
	if err != nil {
		detail := err.Error()
		if format, ok := err.(*VerifyError); ok {
			detail = format.Detail
		}
		return v.fail(CheckFormat, index, "%s", detail)
	}
	if err := v.checkOrder(index, &l); err != nil {
		return err
	}
	if err := v.checkStatement(index, &l); err != nil {
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
	if v.count == 0 {
		v.first = l.Time
	}
	l.Reason, l.Ext = "", nil
	v.last, v.lastIndex = l, index
	v.count++
	if !v.some {
		v.tree.Append(hash)
	}
	return nil
}

// CheckDetails checks that the leaf that was added last commits to details.
func (v *Verifier) CheckDetails(index uint64, salt [32]byte, details []byte) error {
	if v.err != nil {
		return v.err
	}
	if v.count == 0 || index != v.lastIndex {
		return v.fail(CheckOrder, index, "its details were given, but it is not the leaf that was added last")
	}
	if want := Commit(salt, details); subtle.ConstantTimeCompare(want[:], v.last.Commitment[:]) != 1 {
		return v.fail(CheckDetails, index, "its personal details are not those that it commits to")
	}
	return nil
}

// next refuses any leaf but the next one.
func (v *Verifier) next(index uint64) error {
	want := uint64(0)
	if v.count > 0 {
		want = v.lastIndex + 1
	}
	switch {
	case v.err != nil:
		return v.err
	case index < want || index > want && !v.some:
		return v.fail(CheckOrder, index, "it was given where leaf %d comes next", want)
	}
	return nil
}

// checkOrder checks what holds across all slots.
func (v *Verifier) checkOrder(index uint64, l *Leaf) error {
	switch {
	case v.count == 0:
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

// checkStatement compares a statement with the slots as they are before it.
// Somebody who sees only some slots cannot.
func (v *Verifier) checkStatement(index uint64, l *Leaf) error {
	if v.some || l.Kind != KindStatement || l.Decision == Refused {
		return nil
	}
	s, err := ReadStatement(index, l)
	if err != nil {
		v.err = err
		return err
	}
	length := v.array.Len()
	for slot := range v.changed {
		length = max(length, slot+1)
	}
	if s.Length != length {
		return v.fail(CheckStatement, index, "it states %d slots where the leaves before it have %d", s.Length, length)
	}
	for slot := range v.changed {
		if err := v.array.Set(slot, v.slots[slot].Entry); err != nil {
			return v.fail(CheckStatement, index, "%s", err)
		}
	}
	v.changed = map[uint64]struct{}{}
	if v.array.Root() != s.Root {
		return v.fail(CheckStatement, index, "what it states of the slots is not what the leaves before it are")
	}
	v.stated = &s
	return nil
}

// checkSlot checks the chain of the leaf's slot and moves it on.
func (v *Verifier) checkSlot(index uint64, l *Leaf, hash Hash) error {
	s, known := v.slots[l.Slot]
	if !known {
		if other, taken := v.tags[l.Tag]; taken {
			return v.fail(CheckTag, index, "its slot %d has the tag of slot %d", l.Slot, other)
		}
		s = &slotState{Entry: Entry{Tag: l.Tag}}
		v.slots[l.Slot], v.tags[l.Tag] = s, l.Slot
	}
	want := s.Count + 1
	switch {
	case l.Tag != s.Tag:
		return v.fail(CheckTag, index, "its tag is not that of its slot %d", l.Slot)
	case l.Seq < want:
		return v.fail(CheckSeq, index, "its number in slot %d is %d where %d comes next: it is repeated or out of place",
			l.Slot, l.Seq, want)
	case l.Seq > want:
		return v.fail(CheckSeq, index, "its number in slot %d is %d where %d comes next: leaves before it are missing",
			l.Slot, l.Seq, want)
	case want == 1 && l.Prev != s.Hash:
		return v.fail(CheckPrev, index, "it is the first leaf of slot %d and yet names a previous one", l.Slot)
	case l.Prev != s.Hash:
		return v.fail(CheckPrev, index, "the previous leaf that it names is not leaf %d, the last of slot %d", s.Last, l.Slot)
	}
	s.Count, s.Last, s.Hash = l.Seq, index, hash
	v.changed[l.Slot] = struct{}{}
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
	Leaves uint64       // that were seen
	Slots  []SlotReport // ascending
	// OpenReads are the reads, ascending, that no read-end has closed.
	OpenReads   []uint64
	First, Last time.Time  // of the leaves; zero if there are none
	Statement   *Statement // the last one, which says what the leaves before it are; nil if there is none
}

// SlotReport is one slot, with what its leaves are.
type SlotReport struct {
	Slot uint64
	Entry
}

// Finish compares size and root with cp, which OpenCheckpoint has checked. More
// leaves may be added afterwards, and finished with a later checkpoint. It is
// for the whole log.
func (v *Verifier) Finish(cp Checkpoint) (Report, error) {
	if v.err != nil {
		return Report{}, v.err
	}
	size, root := v.tree.Size(), v.tree.Root()
	if cp.Size != size || v.some {
		return Report{}, &VerifyError{CheckSize, -1, fmt.Sprintf("there are %d leaves, but the checkpoint is of %d", size, cp.Size)}
	}
	if cp.Root != root {
		return Report{}, &VerifyError{CheckRoot, -1, fmt.Sprintf("the %d leaves have the root %x, but the checkpoint says %x", size, root, cp.Root)}
	}
	return v.report(), nil
}

// FinishStated compares each slot with what the statement says of it, which
// VerifyEntry has checked. No other slot may have been given. It is for some
// slots.
func (v *Verifier) FinishStated(st Statement, stated map[uint64]Entry) (Report, error) {
	if v.err != nil {
		return Report{}, v.err
	}
	for _, slot := range slices.Sorted(maps.Keys(stated)) {
		if err := v.checkStated(slot, stated[slot]); err != nil {
			return Report{}, err
		}
	}
	for _, slot := range slices.Sorted(maps.Keys(v.slots)) {
		if _, ok := stated[slot]; !ok {
			return Report{}, &VerifyError{CheckSlot, -1, fmt.Sprintf("leaves of slot %d are shown, but not what the statement says of it", slot)}
		}
	}
	if v.count > 0 && v.lastIndex >= st.Index {
		return Report{}, &VerifyError{CheckSlot, int64(v.lastIndex), fmt.Sprintf("it does not come before the statement, leaf %d", st.Index)}
	}
	if v.count > 0 && v.last.Time > st.Time {
		return Report{}, &VerifyError{CheckTime, int64(st.Index), fmt.Sprintf("its time %s lies before that of leaf %d, %s",
			stamp(st.Time), v.lastIndex, stamp(v.last.Time))}
	}
	r := v.report()
	r.Statement = &st
	return r, nil
}

func (v *Verifier) checkStated(slot uint64, want Entry) error {
	var got Entry
	if s, seen := v.slots[slot]; seen {
		got = s.Entry
	}
	fail := func(check, format string, args ...any) error {
		return &VerifyError{Check: check, Index: -1, Detail: fmt.Sprintf(format, args...)}
	}
	switch {
	case got.Count < want.Count:
		return fail(CheckSeq, "slot %d ends after %d leaves where the statement counts %d: the last ones are missing", slot, got.Count, want.Count)
	case got.Count > want.Count:
		return fail(CheckSlot, "slot %d has %d leaves where the statement counts %d: it leaves some out", slot, got.Count, want.Count)
	case got.Tag != want.Tag:
		return fail(CheckTag, "slot %d has another tag than the statement says", slot)
	case got.Hash != want.Hash:
		return fail(CheckSlot, "the last leaf of slot %d is not the one that was stated", slot)
	case got.Last != want.Last:
		return fail(CheckSlot, "the last leaf of slot %d is shown at %d where the statement says %d", slot, got.Last, want.Last)
	}
	return nil
}

func (v *Verifier) report() Report {
	r := Report{Leaves: v.count, Statement: v.stated}
	for _, slot := range slices.Sorted(maps.Keys(v.slots)) {
		r.Slots = append(r.Slots, SlotReport{slot, v.slots[slot].Entry})
	}
	r.OpenReads = slices.Sorted(maps.Keys(v.open))
	if v.count > 0 {
		r.First, r.Last = time.UnixMicro(v.first).UTC(), time.UnixMicro(v.last.Time).UTC()
	}
	return r
}

func (v *Verifier) fail(check string, index uint64, format string, args ...any) error {
	v.err = &VerifyError{Check: check, Index: int64(index), Detail: fmt.Sprintf(format, args...)}
	return v.err
}

func stamp(micros int64) string { return time.UnixMicro(micros).UTC().Format(time.RFC3339Nano) }

// bitset is a set of leaf indices, 64 of them in a word. Indices are what
// somebody claims, so words are kept only where there is something.
type bitset map[uint64]uint64

func (b bitset) set(i uint64) { b[i/64] |= 1 << (i % 64) }

func (b bitset) has(i uint64) bool { return b[i/64]&(1<<(i%64)) != 0 }
