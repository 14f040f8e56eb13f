package audit_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	cosignature "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"pgregory.net/rapid"

	"dsvault/vault/audit"
)

// bundled is a log with everything that a bundle of it is made from. What is
// there can be falsified before it is written.
type bundled struct {
	log       *logBuilder
	header    audit.BundleHeader
	size      uint64 // of the checkpoint
	statement audit.Statement
	array     audit.Array // as stated
	slots     []uint64
	known     uint64 // size of the log that the bundle is shown to continue; 0: none
	signers   []note.Signer
}

var nonce = fill[[16]byte](0x33)

// sampleBundle is a bundle of slot 1 of the sample log, to which a look at slot 1
// and a statement were added.
func sampleBundle(t testing.TB) *bundled {
	t.Helper()
	signer, vkey := testKey(t)
	b := &bundled{log: sampleLog(t), slots: []uint64{1}, signers: []note.Signer{signer}}
	b.header = audit.BundleHeader{Origin: origin, Key: vkey, Scope: "acme/signs"}
	look := audit.Leaf{Kind: audit.KindLogRead, Slot: 1, Commitment: audit.Commit(salt, details)}
	look.Set(audit.BytesField(audit.FieldNonce, nonce[:]))
	b.log.add(t, look)
	b.state(t, nil)
	b.log.read(t, 1) // after the statement: not covered
	b.size = b.log.tree.Size()
	return b
}

// state makes a statement of the log as it is, which edit may falsify.
func (b *bundled) state(t testing.TB, edit func(*audit.Array)) {
	t.Helper()
	b.array = audit.Array{}
	for slot, e := range b.log.slots {
		if err := b.array.Set(slot, e); err != nil {
			t.Fatal(err)
		}
	}
	if edit != nil {
		edit(&b.array)
	}
	b.statement = b.log.state(t, func(s *audit.Statement) { s.Root, s.Length = b.array.Root(), b.array.Len() })
	b.size = b.log.tree.Size()
}

func (b *bundled) checkpoint(t testing.TB) []byte {
	t.Helper()
	signed, err := audit.SignCheckpoint(origin, b.size, audit.Hash(naiveRoot(b.log.data[:b.size])), b.signers...)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// testKey is the log's key: to sign with, and as a client pins it.
func testKey(t testing.TB) (note.Signer, string) {
	t.Helper()
	seed := bytes.NewReader(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	skey, vkey, err := note.GenerateKey(seed, origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return signer, vkey
}

// write writes the bundle; each may change a record, or say that it is left out.
func (b *bundled) write(t testing.TB, each func(*audit.Record) bool) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := audit.NewBundleWriter(&out, b.header)
	try := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	try(err)
	try(w.Checkpoint(b.checkpoint(t)))
	if b.known > 0 {
		try(w.Consistency(b.known, toHashes(naiveConsistency(int(b.known), b.log.data[:b.size], true))))
	}
	if !b.header.Whole {
		index := b.statement.Index
		try(w.Statement(index, b.log.data[index], toHashes(naivePath(int(index), b.log.data[:b.size]))))
		for _, slot := range b.slots {
			path, err := b.array.Prove(slot)
			try(err)
			try(w.Slot(slot, b.array.Entry(slot), path))
		}
	}
	for i, data := range b.log.data[:b.size] {
		l, err := audit.ParseLeaf(data)
		try(err)
		if !b.header.Whole && (!slices.Contains(b.slots, l.Slot) || uint64(i) >= b.statement.Index) {
			continue
		}
		r := audit.Record{Index: uint64(i), Data: data}
		if l.Commitment == audit.Commit(salt, details) {
			r.Salt, r.Details = &salt, details
		}
		if each == nil || each(&r) {
			try(w.Record(r))
		}
	}
	try(w.End())
	return out.Bytes()
}

func (b *bundled) options(t testing.TB) audit.BundleOptions {
	t.Helper()
	_, vkey := testKey(t)
	return audit.BundleOptions{Keys: []note.Verifier{mustVerifier(t, vkey)}, Origin: origin}
}

func mustVerifier(t testing.TB, vkey string) note.Verifier {
	t.Helper()
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func verifyBundle(data []byte, opts audit.BundleOptions) (audit.Bundle, error) {
	return audit.VerifyBundle(iotest.OneByteReader(bytes.NewReader(data)), opts)
}

func TestBundle(t *testing.T) {
	b := sampleBundle(t)
	b.known = 5
	opts := b.options(t)
	opts.Nonce = nonce
	opts.Known = audit.Checkpoint{Origin: origin, Size: 5, Root: audit.Hash(naiveRoot(b.log.data[:5]))}
	opts.Progress = func(done, total uint64) {
		if done != 0 || total != 6 {
			t.Errorf("%d of %d records", done, total)
		}
	}
	var seen []uint64
	opts.Each = func(r audit.Record) error {
		if !bytes.Equal(r.Data, b.log.data[r.Index]) || r.Hash != audit.LeafHash(r.Data) || r.Leaf.Slot != 1 {
			t.Errorf("record %d is %+v", r.Index, r)
		}
		seen = append(seen, r.Index)
		return nil
	}
	got, err := verifyBundle(b.write(t, nil), opts)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(seen, []uint64{1, 3, 6, 7, 9, 10}) || got.Leaves != 6 || got.Details != 1 || got.Bare != 0 ||
		got.Checkpoint.Size != 13 || got.Statement.Index != 11 || !reflect.DeepEqual(got.Header, b.header) ||
		len(got.Slots) != 1 || got.Slots[0] != (audit.SlotReport{Slot: 1, Entry: b.array.Entry(1)}) || !slices.Equal(got.OpenReads, []uint64{9}) {
		t.Errorf("seen %v, got %+v", seen, got)
	}
	// Whoever has no key takes the bundle's.
	if _, err := verifyBundle(b.write(t, nil), audit.BundleOptions{}); err != nil {
		t.Error(err)
	}
	stop := errors.New("enough")
	opts.Each = func(audit.Record) error { return stop }
	if _, err := verifyBundle(b.write(t, nil), opts); err != stop {
		t.Errorf("got %v", err)
	}
}

func TestBundleWhole(t *testing.T) {
	b := sampleBundle(t)
	b.header.Whole = true
	opts := b.options(t)
	opts.Nonce = nonce
	// No proof is needed: the tree is computed.
	opts.Known = audit.Checkpoint{Origin: origin, Size: 5, Root: audit.Hash(naiveRoot(b.log.data[:5]))}
	got, err := verifyBundle(b.write(t, nil), opts)
	if err != nil {
		t.Fatal(err)
	}
	if got.Leaves != 13 || got.Statement == nil || got.Statement.Index != 11 || len(got.Slots) != 3 || got.Details != 2 {
		t.Errorf("got %+v", got)
	}
	opts.Known.Root[0] ^= 1
	_, err = verifyBundle(b.write(t, nil), opts)
	wantCheck(t, err, audit.CheckKnown, -1)
}

// Two who were shown different logs find out by comparing what they have.
func TestBundlesOfAFork(t *testing.T) {
	for _, whole := range []bool{false, true} {
		b := sampleBundle(t)
		b.header.Whole = whole
		opts := b.options(t)
		other := func(size int) audit.Checkpoint {
			return audit.Checkpoint{Origin: origin, Size: uint64(size), Root: audit.Hash(naiveRoot(b.log.data[:size]))}
		}
		opts.Others = []audit.Checkpoint{other(4), other(13), {Origin: origin, Size: 14}, {Origin: "another", Size: 13}}
		want := 1
		if whole {
			want = 2
		}
		if got, err := verifyBundle(b.write(t, nil), opts); err != nil || got.Compared != want {
			t.Errorf("whole %v: compared with %d, %v", whole, got.Compared, err)
		}
		opts.Others[1].Root[0] ^= 1
		_, err := verifyBundle(b.write(t, nil), opts)
		wantCheck(t, err, audit.CheckKnown, -1)
		if opts.Others = opts.Others[:1]; whole {
			opts.Others[0].Root[0] ^= 1
			_, err := verifyBundle(b.write(t, nil), opts)
			wantCheck(t, err, audit.CheckKnown, -1)
		}
	}
}

// A witness's cosignature counts if its key is among those that were asked for.
func TestBundleWitnesses(t *testing.T) {
	b := sampleBundle(t)
	skey, vkey, err := note.GenerateKey(nil, "witness.example")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := cosignature.NewSignerForCosignatureV1(skey)
	if err != nil {
		t.Fatal(err)
	}
	witness, err := audit.WitnessKey(vkey)
	if err != nil {
		t.Fatal(err)
	}
	opts := b.options(t)
	opts.Witnesses = []note.Verifier{witness}
	for want, signers := range [][]note.Signer{b.signers, append(slices.Clone(b.signers), signer)} {
		b.signers = signers
		got, err := verifyBundle(b.write(t, nil), opts)
		if err != nil || len(got.Witnesses) != want {
			t.Errorf("%d witnesses: %v, %v", want, got.Witnesses, err)
		}
	}
	if _, err := audit.WitnessKey("nonsense"); err == nil {
		t.Error("nonsense was taken for a key")
	}
}

func TestBundleTampered(t *testing.T) {
	none := func(*testing.T, *bundled) {}
	leave := func(index uint64) func(*audit.Record) bool {
		return func(r *audit.Record) bool { return r.Index != index }
	}
	known := func(o *audit.BundleOptions, b *bundled, size uint64) {
		o.Known = audit.Checkpoint{Origin: origin, Size: size, Root: audit.EmptyRoot()}
		if size <= b.size {
			o.Known.Root = audit.Hash(naiveRoot(b.log.data[:size]))
		}
	}
	var messages strings.Builder
	for _, c := range []struct {
		name  string
		edit  func(*testing.T, *bundled)
		each  func(*audit.Record) bool
		opts  func(*audit.BundleOptions, *bundled)
		check string
		index int64
	}{
		{"delete", none, leave(3), nil, audit.CheckSeq, 6},
		{"delete the last", none, leave(10), nil, audit.CheckSeq, -1},
		{"delete the first", none, leave(1), nil, audit.CheckSeq, 3},
		{"shown elsewhere", none, func(r *audit.Record) bool {
			if r.Index == 3 {
				r.Index = 4
			}
			return true
		}, nil, audit.CheckReadEnd, 6},
		{"last shown elsewhere", none, func(r *audit.Record) bool {
			if r.Index == 10 {
				r.Index = 20
			}
			return true
		}, nil, audit.CheckSlot, -1},
		{"details", none, func(r *audit.Record) bool {
			if r.Salt != nil {
				r.Details = []byte(`{"name":"Mallory"}`)
			}
			return true
		}, nil, audit.CheckDetails, 10},
		{"details where none are", none, func(r *audit.Record) bool { r.Salt = &salt; return true }, nil, audit.CheckDetails, 1},
		{"undercount", func(t *testing.T, b *bundled) {
			b.log = sampleLog(t)
			b.state(t, func(a *audit.Array) {
				a.Set(1, audit.Entry{Tag: id16(1001), Count: 4, Last: 7, Hash: audit.LeafHash(b.log.data[7])})
			})
		}, nil, nil, audit.CheckSlot, -1},
		{"statement of another root", func(t *testing.T, b *bundled) { b.array.Set(1, audit.Entry{}) }, nil, nil, audit.CheckSlot, -1},
		{"not a statement", func(t *testing.T, b *bundled) { b.statement.Index = 8 }, nil, nil, audit.CheckStatement, 8},
		{"statement beyond the checkpoint", func(t *testing.T, b *bundled) { b.size = 11 }, nil, nil, audit.CheckInclusionProof, 11},
		{"another key", func(t *testing.T, b *bundled) {
			skey, _, _ := note.GenerateKey(nil, origin)
			signer, _ := note.NewSigner(skey)
			b.signers = []note.Signer{signer}
		}, nil, nil, audit.CheckSignature, -1},
		{"another log", none, nil, func(o *audit.BundleOptions, b *bundled) { o.Origin = "another.example" }, audit.CheckOrigin, -1},
		{"cut off", none, nil, func(o *audit.BundleOptions, b *bundled) { known(o, b, 14) }, audit.CheckKnown, -1},
		{"no proof of consistency", none, nil, func(o *audit.BundleOptions, b *bundled) { known(o, b, 4) }, audit.CheckKnown, -1},
		{"rewritten", func(t *testing.T, b *bundled) { b.known = 4 }, nil, func(o *audit.BundleOptions, b *bundled) { known(o, b, 4); o.Known.Root[1] ^= 1 }, audit.CheckKnown, -1},
		{"fork of the same size", none, nil, func(o *audit.BundleOptions, b *bundled) { known(o, b, 13); o.Known.Root[1] ^= 1 }, audit.CheckKnown, -1},
		{"replayed", none, nil, func(o *audit.BundleOptions, b *bundled) { o.Nonce = fill[[16]byte](0x34) }, audit.CheckFresh, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := sampleBundle(t)
			opts := b.options(t)
			c.edit(t, b)
			if c.opts != nil {
				c.opts(&opts, b)
			}
			_, err := verifyBundle(b.write(t, c.each), opts)
			wantCheck(t, err, c.check, c.index)
			fmt.Fprintf(&messages, "%s: %v\n", c.name, err)
		})
	}
	golden(t, "testdata/bundle.golden", messages.String())
}

// A statement that does not say what the leaves before it are is noticed by
// whoever sees all of them, wherever it stands.
func TestStatementOfTheWholeLog(t *testing.T) {
	for name, edit := range map[string]func(*audit.Statement){
		"right":  nil,
		"root":   func(s *audit.Statement) { s.Root[5] ^= 1 },
		"longer": func(s *audit.Statement) { s.Length++ },
		"huge":   func(s *audit.Statement) { s.Length = 1 << 60 },
		"none":   func(s *audit.Statement) { s.Length, s.Root = 0, audit.EmptyRoot() },
	} {
		b := sampleLog(t)
		b.state(t, nil)
		b.read(t, 2)
		at := b.state(t, edit).Index
		b.read(t, 1)
		b.state(t, nil)
		r, err := verify(b.data, b.checkpoint())
		if edit == nil {
			if err != nil || r.Statement.Index != b.tree.Size()-1 {
				t.Errorf("%s: %v, %+v", name, err, r.Statement)
			}
			continue
		}
		wantCheck(t, err, audit.CheckStatement, int64(at))
	}
	b := sampleLog(t)
	at := b.add(t, audit.Leaf{Kind: audit.KindStatement}) // without an array
	_, err := verify(b.data, b.checkpoint())
	wantCheck(t, err, audit.CheckStatement, int64(at))
}

// Whatever is done to a bundle's bytes, what it then shows is what it showed.
func TestBundleAnyChange(t *testing.T) {
	for _, whole := range []bool{false, true} {
		b := sampleBundle(t)
		b.header.Whole = whole
		data := b.write(t, nil)
		opts := b.options(t)
		show := func(data []byte) (string, error) {
			var out strings.Builder
			opts.Each = func(r audit.Record) error {
				fmt.Fprintf(&out, "%x %s\n", r.Data, r.Details)
				return nil
			}
			_, err := audit.VerifyBundle(bytes.NewReader(data), opts)
			return out.String(), err
		}
		want, err := show(data)
		if err != nil {
			t.Fatal(err)
		}
		rapid.Check(t, func(t *rapid.T) {
			changed := bytes.Clone(data)
			i := rapid.IntRange(0, len(data)-1).Draw(t, "at")
			switch rapid.SampledFrom([]string{"flip", "cut", "delete", "repeat"}).Draw(t, "change") {
			case "flip":
				changed[i] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			case "cut":
				changed = changed[:i]
			case "delete":
				changed = append(changed[:i], changed[rapid.IntRange(i+1, len(data)).Draw(t, "to"):]...)
			case "repeat":
				changed = slices.Insert(changed, i, data[i:rapid.IntRange(i+1, len(data)).Draw(t, "to")]...)
			}
			if got, err := show(changed); err == nil && got != want {
				t.Fatalf("a changed bundle was accepted and shows something else")
			}
		})
	}
}

func TestBundleFormat(t *testing.T) {
	b := sampleBundle(t)
	data := b.write(t, nil)
	version := bytes.Replace(data, []byte("v1"), []byte("v2"), 1)
	unknown := bytes.Replace(data, []byte(`"whole"`), []byte(`"whale"`), 1)
	part := bytes.Index(data, []byte("C\x00"))
	huge := bytes.Clone(data)
	copy(huge[part+1:], "\xff\xff\xff\xff")
	for name, bad := range map[string][]byte{
		"empty": nil, "text": []byte("{}"), "version": version, "header": unknown, "huge part": huge,
		"cut": data[:len(data)-1], "cut between parts": data[:len(data)-13], "longer": append(bytes.Clone(data), 0),
	} {
		_, err := verifyBundle(bad, b.options(t))
		if !errors.Is(err, &audit.VerifyError{Check: audit.CheckBundle}) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !audit.IsBundle(version) || audit.IsBundle([]byte("{}")) {
		t.Error("IsBundle is wrong")
	}
	broken := errors.New("the disk")
	_, err := audit.VerifyBundle(iotest.TimeoutReader(iotest.ErrReader(broken)), b.options(t))
	if err != broken {
		t.Errorf("an error of the reader became %v", err)
	}
}

func FuzzBundle(f *testing.F) {
	for _, whole := range []bool{false, true} {
		b := sampleBundle(f)
		b.header.Whole, b.known = whole, 3
		f.Add(b.write(f, nil))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := audit.VerifyBundle(bytes.NewReader(data), audit.BundleOptions{})
		if verr := (*audit.VerifyError)(nil); err != nil && !errors.As(err, &verr) {
			t.Fatalf("got %v", err)
		}
	})
}
