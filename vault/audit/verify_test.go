package audit_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dsvault/vault/audit"
)

// logBuilder writes a correct log, as the vault does.
type logBuilder struct {
	data  [][]byte
	tree  audit.Tree
	slots map[uint64]audit.Entry
	array audit.Array
}

const startTime = 1_767_225_600_000_000

func id16(n uint64) (id [16]byte) {
	binary.BigEndian.PutUint64(id[8:], n)
	return id
}

// add completes l as the next leaf of its slot, whose dataset has the same number.
func (b *logBuilder) add(t testing.TB, l audit.Leaf) uint64 {
	t.Helper()
	if b.slots == nil {
		b.slots = map[uint64]audit.Entry{}
	}
	index := b.tree.Size()
	l.Seq, l.Prev, l.Tag = b.slots[l.Slot].Count+1, b.slots[l.Slot].Hash, id16(1000+l.Slot)
	l.Time, l.Revision = startTime+int64(index/2), index/3
	if l.Decision == audit.None {
		l.Decision = audit.Allowed
	}
	data, err := l.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	b.push(data)
	b.slots[l.Slot] = audit.Entry{Tag: l.Tag, Count: l.Seq, Last: index, Hash: audit.LeafHash(data)}
	if err := b.array.Set(l.Slot, b.slots[l.Slot]); err != nil {
		t.Fatal(err)
	}
	return index
}

// state adds a statement, which edit may falsify.
func (b *logBuilder) state(t testing.TB, edit func(*audit.Statement)) audit.Statement {
	t.Helper()
	s := audit.Statement{Length: b.array.Len(), Root: b.array.Root()}
	if edit != nil {
		edit(&s)
	}
	l := audit.Leaf{Kind: audit.KindStatement}
	l.Set(s.Fields()...)
	s.Index = b.add(t, l)
	s.Time = startTime + int64(s.Index/2)
	return s
}

func (b *logBuilder) push(data []byte) {
	b.data = append(b.data, data)
	b.tree.Append(audit.LeafHash(data))
}

func (b *logBuilder) read(t testing.TB, slot uint64) uint64 {
	t.Helper()
	return b.add(t, audit.Leaf{Kind: audit.KindRead, Slot: slot, Object: audit.Object{Kind: audit.ObjectShard, ID: id16(slot)}})
}

func (b *logBuilder) readEnd(t testing.TB, slot, ref uint64) uint64 {
	t.Helper()
	l := audit.Leaf{Kind: audit.KindReadEnd, Slot: slot, Object: audit.Object{Kind: audit.ObjectShard, ID: id16(slot)}}
	l.Set(audit.Uint64Field(audit.FieldRefIndex, ref))
	return b.add(t, l)
}

var salt, details = fill[[32]byte](0x77), []byte(`{"name":"Alice"}`)

// sampleLog holds, by index: 0 vault-init, 1 and 2 two datasets (slots 1 and 2),
// 3 read in 1, 4 read in 2, 5 end of 4, 6 end of 3, 7 refused in 1, 8 login with
// details in 0, 9 read in 1 that stays open.
func sampleLog(t testing.TB) *logBuilder {
	t.Helper()
	b := &logBuilder{}
	b.add(t, audit.Leaf{Kind: audit.KindVaultInit})
	for slot := uint64(1); slot <= 2; slot++ {
		b.add(t, audit.Leaf{Kind: audit.KindDatasetCreate, Slot: slot, Object: audit.Object{Kind: audit.ObjectDataset, ID: id16(slot)}})
	}
	first, second := b.read(t, 1), b.read(t, 2)
	b.readEnd(t, 2, second)
	b.readEnd(t, 1, first)
	refused := audit.Leaf{Kind: audit.KindRefused, Decision: audit.Refused, Slot: 1, Object: audit.Object{Kind: audit.ObjectShard, ID: id16(99)}}
	refused.Set(audit.Uint64Field(audit.FieldRefusedKind, uint64(audit.KindRead)))
	b.add(t, refused)
	b.add(t, audit.Leaf{Kind: audit.KindLogin, Commitment: audit.Commit(salt, details)})
	b.read(t, 1)
	return b
}

func (b *logBuilder) checkpoint() audit.Checkpoint {
	return audit.Checkpoint{Origin: origin, Size: b.tree.Size(), Root: b.tree.Root()}
}

// verify adds the leaves and finishes with cp.
func verify(data [][]byte, cp audit.Checkpoint) (audit.Report, error) {
	v := audit.NewVerifier()
	for i, leaf := range data {
		if err := v.AddLeaf(uint64(i), leaf); err != nil {
			if _, again := v.Finish(cp); again != err {
				return audit.Report{}, errors.New("an error was not final")
			}
			return audit.Report{}, err
		}
	}
	return v.Finish(cp)
}

func wantCheck(t *testing.T, err error, check string, index int64) {
	t.Helper()
	var verr *audit.VerifyError
	if !errors.As(err, &verr) || verr.Check != check || verr.Index != index {
		t.Errorf("got %v, want %s on leaf %d", err, check, index)
		return
	}
	if msg := err.Error(); !strings.Contains(msg, check) || strings.Contains(msg, "\n") || len(msg) > 300 ||
		index >= 0 && !strings.Contains(msg, "leaf "+strconv.FormatInt(index, 10)) {
		t.Errorf("unclear message %q", msg)
	}
}

func TestVerify(t *testing.T) {
	b := sampleLog(t)
	r, err := verify(b.data, b.checkpoint())
	if err != nil {
		t.Fatal(err)
	}
	var want []audit.SlotReport
	for slot, count := range []uint64{2, 5, 3} {
		want = append(want, audit.SlotReport{Slot: uint64(slot), Entry: b.slots[uint64(slot)]})
		if want[slot].Count != count {
			t.Fatalf("slot %d of the sample has %d leaves", slot, want[slot].Count)
		}
	}
	if r.Leaves != 10 || !slices.Equal(r.Slots, want) || !slices.Equal(r.OpenReads, []uint64{9}) || r.Statement != nil ||
		!r.First.Equal(time.UnixMicro(startTime)) || !r.Last.Equal(time.UnixMicro(startTime+4)) {
		t.Errorf("got %+v", r)
	}
	empty := &logBuilder{}
	if r, err := verify(nil, empty.checkpoint()); err != nil || r.Leaves != 0 || !r.First.IsZero() {
		t.Errorf("the empty log: %+v, %v", r, err)
	}
}

// A refused read, however it is written, opens nothing and binds no dataset.
func TestVerifyRefusedRead(t *testing.T) {
	b := sampleLog(t)
	refused := b.add(t, audit.Leaf{
		Kind: audit.KindRead, Decision: audit.Refused, Slot: 1,
		Object: audit.Object{Kind: audit.ObjectShard, ID: id16(99)},
	})
	r, err := verify(b.data, b.checkpoint())
	if err != nil || !slices.Equal(r.OpenReads, []uint64{9}) {
		t.Errorf("got %+v, %v", r, err)
	}
	end := b.readEnd(t, 1, refused)
	_, err = verify(b.data, b.checkpoint())
	wantCheck(t, err, audit.CheckReadEnd, int64(end))
}

// change decodes leaf i of a copy, lets f edit it and encodes it again.
func change(t *testing.T, data [][]byte, i int, f func(*audit.Leaf)) [][]byte {
	t.Helper()
	out := slices.Clone(data)
	l, err := audit.ParseLeaf(out[i])
	if err != nil {
		t.Fatal(err)
	}
	f(&l)
	if out[i], err = l.Marshal(); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestVerifyTampered(t *testing.T) {
	b := sampleLog(t)
	edit := func(i int, f func(*audit.Leaf)) [][]byte { return change(t, b.data, i, f) }
	extended := func(f func(*logBuilder)) [][]byte {
		more := sampleLog(t)
		f(more)
		return more.data
	}
	flipped := slices.Clone(b.data)
	flipped[4] = bytes.Clone(flipped[4])
	flipped[4][130] ^= 0x80 // an object kind that does not exist: decodes, hashes differently
	cut := slices.Clone(b.data)
	cut[4] = cut[4][:len(cut[4])-1]
	swapped := slices.Clone(b.data)
	swapped[3], swapped[6] = swapped[6], swapped[3]

	var messages strings.Builder
	for _, c := range []struct {
		name  string
		data  [][]byte
		check string
		index int64
	}{
		{"flip", flipped, audit.CheckPrev, 5},
		{"flip in the last leaf", edit(9, func(l *audit.Leaf) { l.Request[0] ^= 1 }), audit.CheckRoot, -1},
		{"cut leaf", cut, audit.CheckFormat, 4},
		{"delete", slices.Delete(slices.Clone(b.data), 7, 8), audit.CheckSeq, 8},
		{"delete a read", slices.Delete(slices.Clone(b.data), 3, 4), audit.CheckReadEnd, 4},
		{"delete the first", b.data[1:], audit.CheckReadEnd, 4},
		{"insert a copy", slices.Insert(slices.Clone(b.data), 4, b.data[3]), audit.CheckSeq, 4},
		{"insert in a new slot", slices.Insert(slices.Clone(b.data), 9, edit(0, func(l *audit.Leaf) {
			l.Slot, l.Tag, l.Time, l.Revision = 3, id16(1003), startTime+4, 3
		})[0]), audit.CheckSize, -1},
		{"reorder in a slot", swapped, audit.CheckSeq, 3},
		{"truncate", b.data[:9], audit.CheckSize, -1},
		{"extend", extended(func(b *logBuilder) { b.read(t, 1) }), audit.CheckSize, -1},
		{"swapped prev hash", edit(6, func(l *audit.Leaf) { l.Prev = audit.LeafHash(b.data[4]) }), audit.CheckPrev, 6},
		{"prev hash in a first leaf", edit(1, func(l *audit.Leaf) { l.Prev[0] = 1 }), audit.CheckPrev, 1},
		{"sequence 0", edit(1, func(l *audit.Leaf) { l.Seq = 0 }), audit.CheckSeq, 1},
		{"huge sequence", edit(6, func(l *audit.Leaf) { l.Seq = 1<<64 - 1 }), audit.CheckSeq, 6},
		{"tag changed", edit(3, func(l *audit.Leaf) { l.Tag[0] ^= 1 }), audit.CheckTag, 3},
		{"tag shared", edit(2, func(l *audit.Leaf) { l.Tag = id16(1001) }), audit.CheckTag, 2},
		{"time back", edit(6, func(l *audit.Leaf) { l.Time = startTime + 1 }), audit.CheckTime, 6},
		{"revision back", edit(6, func(l *audit.Leaf) { l.Revision = 0 }), audit.CheckRevision, 6},
		{"read of another dataset", edit(3, func(l *audit.Leaf) { l.Object.ID = id16(2) }), audit.CheckDataset, 3},
		{"read of an unknown dataset", edit(3, func(l *audit.Leaf) { l.Object.ID = id16(5) }), audit.CheckDataset, 3},
		{"end without a read", edit(5, func(l *audit.Leaf) { l.Ext = nil }), audit.CheckReadEnd, 5},
		{"end of itself", edit(5, func(l *audit.Leaf) { l.Set(audit.Uint64Field(audit.FieldRefIndex, 5)) }), audit.CheckReadEnd, 5},
		{"end of a far leaf", edit(5, func(l *audit.Leaf) { l.Set(audit.Uint64Field(audit.FieldRefIndex, 1<<63)) }), audit.CheckReadEnd, 5},
		{"end of something else", edit(5, func(l *audit.Leaf) { l.Set(audit.Uint64Field(audit.FieldRefIndex, 2)) }), audit.CheckReadEnd, 5},
		{"end of another slot's read", edit(5, func(l *audit.Leaf) { l.Set(audit.Uint64Field(audit.FieldRefIndex, 3)) }), audit.CheckReadEnd, 5},
		{"end of a refused read", extended(func(b *logBuilder) { b.readEnd(t, 1, 7) }), audit.CheckReadEnd, 10},
		{"end twice", extended(func(b *logBuilder) { b.readEnd(t, 1, 3) }), audit.CheckReadEndTwice, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := verify(c.data, b.checkpoint())
			wantCheck(t, err, c.check, c.index)
			fmt.Fprintf(&messages, "%s: %v\n", c.name, err)
		})
	}
	golden(t, "testdata/messages.golden", messages.String())

	t.Run("given out of order", func(t *testing.T) {
		wantCheck(t, audit.NewVerifier().AddLeaf(1, b.data[0]), audit.CheckOrder, 1)
	})
}

// Whatever is done to the leaves, a log that still verifies is the same log.
func TestVerifyAnyChange(t *testing.T) {
	b := sampleLog(t)
	rapid.Check(t, func(t *rapid.T) {
		data := slices.Clone(b.data)
		i := rapid.IntRange(0, len(data)-1).Draw(t, "leaf")
		j := rapid.IntRange(0, len(data)-1).Draw(t, "other")
		switch rapid.SampledFrom([]string{"flip", "delete", "repeat", "swap", "truncate"}).Draw(t, "change") {
		case "flip":
			data[i] = bytes.Clone(data[i])
			data[i][rapid.IntRange(0, len(data[i])-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		case "delete":
			data = slices.Delete(data, i, i+1)
		case "repeat":
			data = slices.Insert(data, i, data[j])
		case "swap":
			data[i], data[j] = data[j], data[i]
		case "truncate":
			data = data[:i]
		}
		same := slices.EqualFunc(data, b.data, bytes.Equal)
		if _, err := verify(data, b.checkpoint()); (err == nil) != same {
			t.Fatalf("got %v for a log that is the same: %v", err, same)
		}
	})
}

func TestCheckDetails(t *testing.T) {
	b := sampleLog(t)
	upTo := func(n int) *audit.Verifier {
		v := audit.NewVerifier()
		for i, data := range b.data[:n] {
			if err := v.AddLeaf(uint64(i), data); err != nil {
				t.Fatal(err)
			}
		}
		return v
	}
	v := upTo(9)
	if err := v.CheckDetails(8, salt, details); err != nil {
		t.Error(err)
	}
	if err := v.AddLeaf(9, b.data[9]); err != nil {
		t.Error(err)
	}
	wantCheck(t, upTo(9).CheckDetails(8, salt, []byte(`{"name":"Mallory"}`)), audit.CheckDetails, 8)
	wantCheck(t, upTo(9).CheckDetails(8, fill[[32]byte](1), details), audit.CheckDetails, 8)
	wantCheck(t, upTo(8).CheckDetails(7, [32]byte{}, nil), audit.CheckDetails, 7) // a leaf without details
	wantCheck(t, upTo(10).CheckDetails(8, salt, details), audit.CheckOrder, 8)
	wantCheck(t, audit.NewVerifier().CheckDetails(0, salt, details), audit.CheckOrder, 0)
}

func TestFinishTwice(t *testing.T) {
	b := sampleLog(t)
	v := audit.NewVerifier()
	grown := &logBuilder{}
	for i, data := range b.data {
		if err := v.AddLeaf(uint64(i), data); err != nil {
			t.Fatal(err)
		}
		grown.push(data)
		if _, err := v.Finish(b.checkpoint()); (err == nil) != (i == len(b.data)-1) {
			t.Errorf("leaf %d: %v", i, err)
		}
		if _, err := v.Finish(grown.checkpoint()); err != nil {
			t.Errorf("leaf %d: %v", i, err)
		}
	}
}

// corpusBytes reads one input in the form of Go's fuzzing.
func corpusBytes(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	body, ok := strings.CutPrefix(string(text), "go test fuzz v1\n[]byte(")
	quoted := strings.TrimSuffix(strings.TrimSpace(body), ")")
	data, err := strconv.Unquote(quoted)
	if !ok || err != nil {
		t.Fatalf("%s is not a fuzzing input: %v", file, err)
	}
	return []byte(data)
}

func BenchmarkAppendLeaf(b *testing.B) {
	l := goldenLeaf()
	var tree audit.Tree
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if buf, err = l.AppendTo(buf[:0]); err != nil {
			b.Fatal(err)
		}
		hash := audit.LeafHash(buf)
		tree.Append(hash)
		l.Prev, l.Seq = hash, l.Seq+1
	}
}

func BenchmarkVerifyLeaf(b *testing.B) {
	log := &logBuilder{}
	for range 5000 {
		log.readEnd(b, 1, log.read(b, 1))
	}
	b.ReportAllocs()
	n := uint64(0)
	v := audit.NewVerifier()
	for b.Loop() {
		if n == uint64(len(log.data)) {
			n, v = 0, audit.NewVerifier()
		}
		if err := v.AddLeaf(n, log.data[n]); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "leaves/s")
}
