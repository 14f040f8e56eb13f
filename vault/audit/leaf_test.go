package audit_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"dsvault/vault/audit"
)

func fill[T ~[16]byte | ~[32]byte](b byte) (out T) {
	for i := range len(out) {
		out[i] = b + byte(i)
	}
	return out
}

func goldenLeaf() audit.Leaf {
	l := audit.Leaf{
		Kind: audit.KindReadEnd, Time: 1_767_225_600_123_456, Revision: 42,
		Slot: 7, Tag: fill[[16]byte](0x10), Seq: 3, Prev: fill[[32]byte](0x20),
		Actor: fill[[16]byte](0x40), Request: fill[[16]byte](0x50),
		Object:   audit.Object{Kind: audit.ObjectShard, ID: fill[[16]byte](0x60), Number: 5},
		Decision: audit.Allowed, Commitment: fill[[32]byte](0x70), Reason: "LAB-4",
	}
	l.Set(audit.StringField(audit.FieldDelivery, "sealed"), audit.Uint64Field(audit.FieldRefIndex, 11),
		audit.Uint64Field(audit.FieldBytesSent, 1<<28), audit.BytesField(audit.FieldDeviceID, make([]byte, 16)))
	return l
}

// The format is fixed for good: this file never changes.
func TestGoldenLeaf(t *testing.T) {
	text, err := os.ReadFile("testdata/leaf.golden")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(text))
	l := goldenLeaf()
	data, err := l.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	hash := audit.LeafHash(data)
	if len(lines) != 2 || hex.EncodeToString(data) != lines[0] || hex.EncodeToString(hash[:]) != lines[1] {
		t.Fatalf("the leaf format has changed:\n%x\n%x", data, hash)
	}
}

// byTheBook encodes a leaf by the offsets of the package comment.
func byTheBook(l audit.Leaf) []byte {
	var ext []byte
	for _, f := range l.Ext {
		ext = binary.BigEndian.AppendUint16(ext, uint16(f.ID))
		ext = binary.BigEndian.AppendUint16(ext, uint16(len(f.Value)))
		ext = append(ext, f.Value...)
	}
	r := len(l.Reason)
	b := make([]byte, 188+r+len(ext))
	b[0] = 15
	copy(b[1:], "dsvault/leaf/v1")
	binary.BigEndian.PutUint16(b[16:], uint16(l.Kind))
	binary.BigEndian.PutUint64(b[18:], uint64(l.Time))
	binary.BigEndian.PutUint64(b[26:], l.Revision)
	binary.BigEndian.PutUint64(b[34:], l.Slot)
	copy(b[42:], l.Tag[:])
	binary.BigEndian.PutUint64(b[58:], l.Seq)
	copy(b[66:], l.Prev[:])
	copy(b[98:], l.Actor[:])
	copy(b[114:], l.Request[:])
	b[130] = byte(l.Object.Kind)
	copy(b[131:], l.Object.ID[:])
	binary.BigEndian.PutUint32(b[147:], l.Object.Number)
	b[151] = byte(l.Decision)
	copy(b[152:], l.Commitment[:])
	binary.BigEndian.PutUint16(b[184:], uint16(r))
	copy(b[186:], l.Reason)
	binary.BigEndian.PutUint16(b[186+r:], uint16(len(ext)))
	copy(b[188+r:], ext)
	return b
}

func genArray[T ~[16]byte | ~[32]byte](t *rapid.T, label string) (out T) {
	b := rapid.SliceOfN(rapid.Byte(), len(out), len(out)).Draw(t, label)
	for i := range len(out) {
		out[i] = b[i]
	}
	return out
}

func genLeaf(t *rapid.T) audit.Leaf {
	l := audit.Leaf{
		Kind:       audit.Kind(rapid.Uint16().Draw(t, "kind")),
		Time:       rapid.Int64Min(0).Draw(t, "time"),
		Revision:   rapid.Uint64().Draw(t, "revision"),
		Slot:       rapid.Uint64().Draw(t, "slot"),
		Tag:        genArray[[16]byte](t, "tag"),
		Seq:        rapid.Uint64().Draw(t, "seq"),
		Prev:       genArray[[32]byte](t, "prev"),
		Actor:      genArray[[16]byte](t, "actor"),
		Request:    genArray[[16]byte](t, "request"),
		Decision:   audit.Decision(rapid.IntRange(0, 2).Draw(t, "decision")),
		Commitment: genArray[[32]byte](t, "commitment"),
		Reason:     rapid.StringMatching(`[ -~]{0,512}`).Draw(t, "reason"),
	}
	l.Object = audit.Object{
		Kind: audit.ObjectKind(rapid.Byte().Draw(t, "object")), ID: genArray[[16]byte](t, "id"),
		Number: rapid.Uint32().Draw(t, "number"),
	}
	for _, id := range rapid.SliceOfNDistinct(rapid.Uint16Range(0, 50), 0, 12, rapid.ID[uint16]).Draw(t, "fields") {
		field := audit.FieldID(id)
		switch field.Type() {
		case audit.TypeNumber:
			l.Set(audit.Uint64Field(field, rapid.Uint64().Draw(t, "value")))
		case audit.TypeText:
			l.Set(audit.StringField(field, rapid.StringMatching(`[ -~äß€]{0,20}`).Draw(t, "value")))
		case audit.TypeID:
			l.Set(audit.BytesField(field, rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "value")))
		case audit.TypeHash:
			l.Set(audit.BytesField(field, rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "value")))
		default:
			l.Set(audit.BytesField(field, rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "value")))
		}
	}
	return l
}

func equalLeaf(a, b audit.Leaf) bool {
	sameExt := slices.EqualFunc(a.Ext, b.Ext, func(f, g audit.Field) bool { return f.ID == g.ID && bytes.Equal(f.Value, g.Value) })
	a.Ext, b.Ext = nil, nil
	return sameExt && fmt.Sprint(a) == fmt.Sprint(b)
}

func TestLeafRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := genLeaf(t)
		data, err := l.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(data, byTheBook(l)) {
			t.Fatal("the encoding is not that of the package comment")
		}
		back, err := audit.ParseLeaf(data)
		if err != nil {
			t.Fatal(err)
		}
		if !equalLeaf(l, back) {
			t.Fatalf("got %v, want %v", back, l)
		}
		prefixed, err := l.AppendTo([]byte("prefix"))
		if err != nil || !bytes.Equal(prefixed, append([]byte("prefix"), data...)) {
			t.Fatalf("AppendTo does not append: %v", err)
		}
		data[len(data)-1] ^= 1
		if !equalLeaf(l, back) {
			t.Fatal("the leaf shares memory with its encoding")
		}
	})
}

func TestEveryBitFlipShows(t *testing.T) {
	l := goldenLeaf()
	data, err := l.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	want := audit.LeafHash(data)
	parsed := 0
	for i := range len(data) * 8 {
		flipped := bytes.Clone(data)
		flipped[i/8] ^= 1 << (i % 8)
		back, err := audit.ParseLeaf(flipped)
		if err != nil {
			continue
		}
		parsed++
		again, err := back.Marshal()
		if err != nil || !bytes.Equal(again, flipped) {
			t.Fatalf("bit %d: accepted a leaf that does not encode to itself", i)
		}
		if audit.LeafHash(flipped) == want || equalLeaf(back, l) {
			t.Fatalf("bit %d: the flip does not show", i)
		}
	}
	if parsed == 0 {
		t.Fatal("no flipped leaf parsed: the test tests nothing")
	}
}

func TestParseLeafRefuses(t *testing.T) {
	l := goldenLeaf()
	good, err := l.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	edit := func(f func([]byte) []byte) []byte { return f(bytes.Clone(good)) }
	refused := map[string][]byte{
		"nothing":       nil,
		"trailing byte": edit(func(b []byte) []byte { return append(b, 0) }),
		"other version": edit(func(b []byte) []byte { b[15] = '2'; return b }),
		"longer label":  edit(func(b []byte) []byte { b[0]++; return b }),
		"time":          edit(func(b []byte) []byte { b[18] |= 0x80; return b }),
		"decision":      edit(func(b []byte) []byte { b[151] = 3; return b }),
		"reason":        edit(func(b []byte) []byte { b[186] = '\n'; return b }),
		"reason length": edit(func(b []byte) []byte { b[184] = 0xff; return b }),
		"ext length":    edit(func(b []byte) []byte { b[186+5+1]--; return b[:len(b)-1] }),
		"field order":   edit(func(b []byte) []byte { b[188+5+1] = 0x30; return b }),
		"field type":    edit(func(b []byte) []byte { b[188+5+1] = byte(audit.FieldPolicyHash); return b }),
		"too large":     edit(func(b []byte) []byte { return append(b, make([]byte, audit.MaxLeaf)...) }),
	}
	for i := range good {
		refused[fmt.Sprintf("cut at %d", i)] = good[:i]
	}
	for name, data := range refused {
		if _, err := audit.ParseLeaf(data); !errors.Is(err, &audit.VerifyError{Check: audit.CheckFormat}) {
			t.Errorf("%s: got %v, want a %s", name, err, audit.CheckFormat)
		}
	}
}

func TestMarshalRefuses(t *testing.T) {
	many := func(n, size int) (ext []audit.Field) {
		for i := range n {
			ext = append(ext, audit.BytesField(audit.FieldID(1000+i), make([]byte, size)))
		}
		return ext
	}
	refused := map[string]func(*audit.Leaf){
		"time":          func(l *audit.Leaf) { l.Time = -1 },
		"decision":      func(l *audit.Leaf) { l.Decision = 3 },
		"long reason":   func(l *audit.Leaf) { l.Reason = strings.Repeat("x", audit.MaxReason+1) },
		"reason":        func(l *audit.Leaf) { l.Reason = "größe" },
		"fields":        func(l *audit.Leaf) { l.Ext = many(audit.MaxFields+1, 1) },
		"large ext":     func(l *audit.Leaf) { l.Ext = append(many(31, 124), audit.BytesField(2000, make([]byte, 125))) },
		"one large":     func(l *audit.Leaf) { l.Ext = many(1, 1<<20) },
		"field twice":   func(l *audit.Leaf) { l.Ext = append(many(1, 1), many(1, 1)...) },
		"field order":   func(l *audit.Leaf) { l.Ext = many(2, 1); slices.Reverse(l.Ext) },
		"number":        func(l *audit.Leaf) { l.Set(audit.BytesField(audit.FieldCount, []byte{1})) },
		"hash":          func(l *audit.Leaf) { l.Set(audit.BytesField(audit.FieldKeyHash, make([]byte, 31))) },
		"control":       func(l *audit.Leaf) { l.Set(audit.StringField(audit.FieldPurpose, "a\nb")) },
		"C1 control":    func(l *audit.Leaf) { l.Set(audit.StringField(audit.FieldPurpose, "a\u0085b")) },
		"invalid UTF-8": func(l *audit.Leaf) { l.Set(audit.StringField(audit.FieldPurpose, "a\xff")) },
	}
	for name, spoil := range refused {
		l := goldenLeaf()
		spoil(&l)
		if data, err := l.Marshal(); !errors.Is(err, &audit.VerifyError{Check: audit.CheckFormat}) || data != nil {
			t.Errorf("%s: got %d bytes and %v, want a %s", name, len(data), err, audit.CheckFormat)
		}
		if data, err := l.AppendTo([]byte("x")); err == nil || string(data) != "x" {
			t.Errorf("%s: AppendTo gives %q and %v", name, data, err)
		}
	}
	full := goldenLeaf()
	full.Reason, full.Ext = strings.Repeat("x", audit.MaxReason), many(32, 124)
	if data, err := full.Marshal(); err != nil || len(data) != 4796 {
		t.Errorf("the longest leaf: %d bytes, %v", len(data), err)
	} else if _, err := audit.ParseLeaf(data); err != nil {
		t.Errorf("the longest leaf does not parse: %v", err)
	}
}

func TestSetAndGet(t *testing.T) {
	shared := []audit.Field{audit.Uint64Field(audit.FieldCount, 1), {}}[:1]
	a, b := audit.Leaf{Ext: shared}, audit.Leaf{Ext: shared}
	a.Set(audit.Uint64Field(audit.FieldCount, 2), audit.StringField(audit.FieldRole, "admin"))
	b.Set(audit.StringField(audit.FieldFacts, "live"))
	if n, ok := b.Uint64(audit.FieldCount); n != 1 || !ok {
		t.Error("Set changed a shared extension")
	}
	if n, ok := a.Uint64(audit.FieldCount); n != 2 || !ok || len(a.Ext) != 2 {
		t.Error("Set did not replace the field")
	}
	if s, ok := a.Text(audit.FieldRole); s != "admin" || !ok {
		t.Error("Set did not add the field")
	}
	if _, ok := a.Bytes(audit.FieldFacts); ok {
		t.Error("a field that is not there was found")
	}
	if _, ok := a.Uint64(audit.FieldRole); ok {
		t.Error("text was read as a number")
	}
}

// Numbers and names are fixed for good: testdata/words.golden only ever grows.
func TestWords(t *testing.T) {
	var b strings.Builder
	for n := range 1 << 16 {
		if k := audit.Kind(n); !strings.HasPrefix(k.String(), "kind-") {
			fmt.Fprintln(&b, "kind", n, k)
		}
	}
	for n := range 1 << 8 {
		if k := audit.ObjectKind(n); !strings.HasPrefix(k.String(), "object-") {
			fmt.Fprintln(&b, "object", n, k)
		}
	}
	types := map[audit.FieldType]string{audit.TypeBytes: "bytes", audit.TypeNumber: "number", audit.TypeText: "text", audit.TypeID: "id", audit.TypeHash: "hash"}
	for n := range 1 << 16 {
		if id := audit.FieldID(n); !strings.HasPrefix(id.String(), "field-") {
			fmt.Fprintln(&b, "field", n, id, types[id.Type()])
		}
	}
	for d := range audit.Refused + 1 {
		fmt.Fprintln(&b, "decision", uint8(d), d)
	}
	golden(t, "testdata/words.golden", b.String())
}

// golden compares got with a file, or writes the file if UPDATE_GOLDEN is set.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s says otherwise; got:\n%s", file, got)
	}
}

func TestParseNames(t *testing.T) {
	for n := range 1 << 16 {
		if k, err := audit.ParseKind(audit.Kind(n).String()); err != nil || k != audit.Kind(n) {
			t.Fatalf("kind %d: %v, %v", n, k, err)
		}
	}
	for n := range 1 << 8 {
		if k, err := audit.ParseObjectKind(audit.ObjectKind(n).String()); err != nil || k != audit.ObjectKind(n) {
			t.Fatalf("object %d: %v, %v", n, k, err)
		}
	}
	for _, s := range []string{"", "Read", "read ", "kind-10", "kind-0123", "kind-+200", "kind-65536", "kind-", strings.Repeat("x", 1000)} {
		if _, err := audit.ParseKind(s); err == nil || len(err.Error()) > 100 {
			t.Errorf("%q: got %v", s, err)
		}
	}
	if _, err := audit.ParseObjectKind("object-300"); err == nil {
		t.Error("object-300 was accepted")
	}
}

func TestLeafHash(t *testing.T) {
	for _, n := range []int{0, 1, 188, 510, 511, 512, 513, 4796, 65535} {
		data := bytes.Repeat([]byte{0xa5}, n)
		got := audit.LeafHash(data)
		if got != [32]byte(tlog.RecordHash(data)) || !bytes.Equal(got[:], rfc6962.DefaultHasher.HashLeaf(data)) {
			t.Errorf("%d bytes: another hash than x/mod and transparency-dev give", n)
		}
	}
}

func TestPseudonymsAndCommitments(t *testing.T) {
	key, tag := fill[[32]byte](1), fill[[16]byte](2)
	// Written out, so that labels and order are fixed too.
	inner := sha256.New()
	inner.Write(pad(key, 0x36))
	inner.Write([]byte("dsvault/actor/v1\x00"))
	inner.Write(tag[:])
	outer := sha256.New()
	outer.Write(pad(key, 0x5c))
	outer.Write(inner.Sum(nil))
	if got := audit.ActorTag(key, tag); !bytes.Equal(got[:], outer.Sum(nil)[:16]) {
		t.Errorf("ActorTag gives %x", got)
	}
	inner.Reset()
	inner.Write(pad(key, 0x36))
	inner.Write([]byte("dsvault/details/v1\x00details"))
	outer.Reset()
	outer.Write(pad(key, 0x5c))
	outer.Write(inner.Sum(nil))
	if got := audit.Commit(key, []byte("details")); !bytes.Equal(got[:], outer.Sum(nil)) {
		t.Errorf("Commit gives %x", got)
	}
	if audit.ActorTag(key, tag) == audit.ActorTag(key, fill[[16]byte](3)) ||
		audit.ActorTag(key, tag) == audit.ActorTag(fill[[32]byte](2), tag) ||
		audit.Commit(key, nil) == audit.Commit(fill[[32]byte](2), nil) {
		t.Error("different inputs give the same output")
	}
}

func pad(key [32]byte, with byte) []byte {
	block := bytes.Repeat([]byte{with}, 64)
	for i, k := range key {
		block[i] ^= k
	}
	return block
}

func FuzzLeaf(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := audit.ParseLeaf(data)
		if err != nil {
			var verr *audit.VerifyError
			if !errors.As(err, &verr) || verr.Check != audit.CheckFormat {
				t.Fatalf("got %v, want a %s", err, audit.CheckFormat)
			}
			return
		}
		if !bytes.Equal(byTheBook(l), data) {
			t.Fatal("accepted a leaf that does not encode to itself")
		}
	})
}
