package dataset

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"dsvault/vault/fault"
)

func sampleIndex() Index {
	sum := make(HexBytes, 32)
	return Index{Number: 3, Size: 10_000, Members: []Member{
		{Name: "images/0001.jpg", Offset: 512, Size: 4000, Type: "image/jpeg", SHA256: sum},
		{Name: "images/0001 <&> é.json", Offset: 5000, Size: 0, Type: "application/json", SHA256: sum},
		{Name: "labels", Offset: 5000, Size: 5000, SHA256: sum},
	}}
}

func TestIndex(t *testing.T) {
	data, err := sampleIndex().Encode()
	if err != nil {
		t.Fatal(err)
	}
	x, err := ParseIndex(data)
	if err != nil || x.Number != 3 || x.Size != 10_000 || len(x.Members) != 3 || x.Members[1].Name != "images/0001 <&> é.json" || x.Members[2].Offset != 5000 {
		t.Fatalf("%+v, %v", x, err)
	}
	if x, err := ParseIndex([]byte(`{"version":1,"number":0,"size":0,"members":0}` + "\n")); err != nil || len(x.Members) != 0 {
		t.Errorf("no members: %+v, %v", x, err)
	}
	edit := func(old, new string) []byte {
		if !bytes.Contains(data, []byte(old)) {
			t.Fatalf("there is no %s in %s", old, data)
		}
		return bytes.Replace(data, []byte(old), []byte(new), 1)
	}
	long := strings.Repeat("n/", MaxMemberName/2) + "n"
	for name, bad := range map[string][]byte{
		"empty":                    {},
		"not JSON":                 []byte("x\n"),
		"no head":                  data[bytes.IndexByte(data, '\n')+1:],
		"another version":          edit(`"version":1`, `"version":2`),
		"number out of range":      edit(`"number":3`, `"number":1000000`),
		"negative number":          edit(`"number":3`, `"number":-1`),
		"negative size":            edit(`"size":10000`, `"size":-1`),
		"fewer members":            edit(`"members":3`, `"members":4`),
		"more members":             edit(`"members":3`, `"members":2`),
		"a huge count":             edit(`"members":3`, `"members":1000000000`),
		"a count beyond numbers":   edit(`"members":3`, `"members":99999999999999999999`),
		"negative count":           edit(`"members":3`, `"members":-1`),
		"overlapping members":      edit(`"offset":5000,"size":0`, `"offset":4511,"size":0`),
		"members in another order": edit(`"offset":512,`, `"offset":6000,`),
		"beyond the end":           edit(`"offset":5000,"size":5000`, `"offset":5001,"size":5000`),
		"offset beyond the end":    edit(`"offset":5000,"size":5000`, `"offset":10001,"size":0`),
		"size that overflows":      edit(`"offset":5000,"size":5000`, `"offset":5000,"size":9223372036854775807`),
		"negative offset":          edit(`"offset":512,`, `"offset":-1,`),
		"negative member":          edit(`"size":4000`, `"size":-4000`),
		"one name twice":           edit(`"labels"`, `"images/0001.jpg"`),
		"traversal":                edit(`"labels"`, `"../labels"`),
		"absolute":                 edit(`"labels"`, `"/labels"`),
		"no name":                  edit(`"labels"`, `""`),
		"backslash":                edit(`"labels"`, `"a\\b"`),
		"newline in a name":        edit(`"labels"`, `"a\nb"`),
		"escape in a name":         edit(`"labels"`, "\"a\\u001bb\""),
		"long name":                edit(`"labels"`, `"`+long+`"`),
		"short hash":               edit(`"sha256":"00`, `"sha256":"`),
		"hash in capitals":         edit(`"sha256":"00`, `"sha256":"AA`),
		"strange type":             edit(`"image/jpeg"`, `"image/jpeg; x"`),
		"type with a line end":     edit(`"image/jpeg"`, `"a/b\r\n"`),
		"unknown field":            edit(`"offset":512,`, `"offset":512,"mode":0,`),
		"field twice":              edit(`"offset":512,`, `"offset":1,"offset":512,`),
		"field in capitals":        edit(`"offset":512,`, `"Offset":512,`),
		"a space":                  edit(`"offset":512,`, `"offset": 512,`),
		"another form of a number": edit(`"offset":512,`, `"offset":5.12e2,`),
		"escaped letters":          edit(`"labels"`, `"\u006cabels"`),
		"trailing data":            append(slices.Clone(data), "{}\n"...),
		"trailing line end":        append(slices.Clone(data), '\n'),
		"cut in a line":            data[:len(data)-1],
		"cut between lines":        data[:bytes.LastIndexByte(data[:len(data)-1], '\n')+1],
		"a line without end":       append(slices.Clone(data[:len(data)-1]), strings.Repeat("x", 1<<20)...),
		"carriage returns":         bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n")),
		"not UTF-8":                edit(`labels`, "l\xff"),
	} {
		if _, err := ParseIndex(bad); !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.TooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// endless gives an index of as many members as it says, one after the other,
// without holding it.
type endless struct {
	buf bytes.Buffer
	n   int
}

func (e *endless) Read(p []byte) (int, error) {
	for e.buf.Len() == 0 {
		fmt.Fprintf(&e.buf, `{"name":"%s%d","offset":0,"size":0,"sha256":"%064d"}`+"\n", strings.Repeat("n", 4000), e.n, 0)
		e.n++
	}
	return e.buf.Read(p)
}

// TestIndexBounds: reading stops at the limits, whatever more there is.
func TestIndexBounds(t *testing.T) {
	head := fmt.Sprintf(`{"version":1,"number":0,"size":0,"members":%d}`+"\n", MaxMembers)
	e := &endless{}
	heard := 0
	_, err := ScanIndex(io.MultiReader(strings.NewReader(head), e), func(IndexHead, Member) error { heard++; return nil })
	if !fault.Is(err, fault.TooLarge) || heard > MaxIndex/4000 || e.n > MaxIndex/4000+100 {
		t.Errorf("%v after %d members, %d lines", err, heard, e.n)
	}
	many := Index{Size: 1, Members: make([]Member, MaxMembers+1)}
	if _, err := many.Encode(); !fault.Is(err, fault.TooLarge) {
		t.Errorf("too many members: %v", err)
	}
	good, _ := sampleIndex().Encode()
	_, err = ScanIndex(iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(good))), func(IndexHead, Member) error { return nil })
	if !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("a reader that fails: %v", err)
	}
	stop := fault.New(fault.Canceled, "test", "enough")
	if _, err = ScanIndex(bytes.NewReader(good), func(IndexHead, Member) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("a caller that has enough: %v", err)
	}
}

// TestIndexComesBack: what is encoded parses to the same.
func TestIndexComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := Index{Number: rapid.IntRange(0, MaxShards-1).Draw(t, "number")}
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-zäß文<>&"' .-]{1,8}(/[a-z]{1,3}){0,3}`), 0, 10, func(s string) string { return s }).Draw(t, "names")
		for _, name := range names {
			if !isName(name, true) {
				continue
			}
			x.Size += rapid.Int64Range(0, 1000).Draw(t, "gap")
			m := Member{Name: name, Offset: x.Size, Size: rapid.Int64Range(0, 1<<40).Draw(t, "size"),
				SHA256: rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "hash"), Type: rapid.SampledFrom([]string{"", "image/png", "a/b+c.d"}).Draw(t, "type")}
			x.Members = append(x.Members, m)
			x.Size += m.Size
		}
		data, err := x.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseIndex(data)
		if err != nil || fmt.Sprint(back) != fmt.Sprint(x) {
			t.Fatalf("%v became %v, %v", x, back, err)
		}
	})
}

// FuzzIndex: what parses is what Encode writes, byte for byte, and its members
// lie in the shard, one behind the other.
func FuzzIndex(f *testing.F) {
	entries, err := os.ReadDir("testdata/fuzz/FuzzIndex")
	if err != nil || len(entries) < 3 {
		f.Fatalf("the committed corpus has %d entries (%v)", len(entries), err)
	}
	good, _ := sampleIndex().Encode()
	f.Add(good)
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := ParseIndex(data)
		if err != nil {
			if !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.TooLarge) {
				t.Errorf("%v", err)
			}
			return
		}
		if again, err := x.Encode(); err != nil || !bytes.Equal(again, data) {
			t.Errorf("%q became %q, %v", data, again, err)
		}
		end := int64(0)
		for _, m := range x.Members {
			if m.Offset < end || m.Size < 0 || m.Offset+m.Size > x.Size {
				t.Errorf("%+v lies outside", m)
			}
			end = m.Offset + m.Size
		}
	})
}
