package pack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"pgregory.net/rapid"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

type label struct {
	ID    int64     `parquet:"id"`
	Text  *string   `parquet:"text,optional,dict,zstd"`
	Tags  []string  `parquet:"tags,list,snappy"`
	Boxes []float32 `parquet:"boxes"`
	Good  bool      `parquet:"good"`
}

func labels(n int, seed int64) (rows []label) {
	for i := range int64(n) {
		text := fmt.Sprintf("text %d", (i*7+seed)%13)
		row := label{ID: i + seed, Tags: []string{"a", fmt.Sprint(i)}[:i%3%2+1], Good: i%2 == 0}
		if i%5 != 0 {
			row.Text = &text
		}
		for j := range i % 4 {
			row.Boxes = append(row.Boxes, float32(j))
		}
		rows = append(rows, row)
	}
	return rows
}

// parquetOf writes a real file with row groups of these sizes.
func parquetOf(t interface{ Fatal(...any) }, sizes []int, options ...parquet.WriterOption) ([]byte, []label) {
	var buf bytes.Buffer
	w := parquet.NewGenericWriter[label](&buf, append(options, parquet.KeyValueMetadata("by", "a test"))...)
	var all []label
	for i, n := range sizes {
		rows := labels(n, int64(i*1000))
		if _, err := w.Write(rows); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		all = append(all, rows...)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), all
}

func rowsOf(raw []byte) ([]label, error) {
	f, err := parquet.OpenFile(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return nil, err
	}
	if by, _ := f.Lookup("by"); by != "a test" {
		return nil, fmt.Errorf("the metadata is lost: %q", by)
	}
	return parquet.Read[label](bytes.NewReader(raw), int64(len(raw)))
}

func TestParquetComesBack(t *testing.T) {
	base, run := t.TempDir(), 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		dir := filepath.Join(base, fmt.Sprint(run))
		defer os.RemoveAll(dir)
		src := filepath.Join(dir, "in", "labels.parquet")
		var options []parquet.WriterOption
		if rapid.Bool().Draw(rt, "bloom") {
			options = append(options, parquet.BloomFilters(parquet.SplitBlockFilter(10, "id"), parquet.SplitBlockFilter(10, "text")))
		}
		if rapid.Bool().Draw(rt, "v1") {
			options = append(options, parquet.DataPageVersion(1))
		}
		sizes := rapid.SliceOfN(rapid.IntRange(1, 400), 1, 20).Draw(rt, "sizes")
		raw, want := parquetOf(rt, sizes, options...)
		put(t, src, string(raw))
		opts := Options{ShardSize: MinShardSize, Format: FormatParquet, Records: rapid.SampledFrom([]int{0, 1, 500}).Draw(rt, "records")}
		p, err := NewPlan(t.Context(), src, opts)
		if err != nil {
			rt.Fatal(err)
		}
		all := pieces(t, p)
		if opts.Records == 1 && len(all) != len(sizes) {
			rt.Fatalf("%d shards of %d row groups", len(all), len(sizes))
		}
		var got []label
		for i, one := range all {
			rows, err := rowsOf(one.raw)
			if err != nil {
				rt.Fatalf("slice %d is no Parquet file: %v", i, err)
			}
			if len(all) > 1 && one.m.Records != int64(len(rows)) {
				rt.Fatalf("%d rows, the manifest says %d", len(rows), one.m.Records)
			}
			if opts.Records == 500 && len(rows) > 500 {
				rt.Fatalf("%d rows", len(rows))
			}
			got = append(got, rows...)
		}
		if fmt.Sprint(plainRows(got)) != fmt.Sprint(plainRows(want)) {
			rt.Fatal("rows differ")
		}
		comesBack(rt, filepath.Join(dir, "out"), src, all, uint64(run))
	})
}

func plainRows(rows []label) (out []string) {
	for _, r := range rows {
		text := "none"
		if r.Text != nil {
			text = *r.Text
		}
		out = append(out, fmt.Sprint(r.ID, text, r.Tags, r.Boxes, r.Good))
	}
	return out
}

func TestParquetByLooking(t *testing.T) {
	src := filepath.Join(t.TempDir(), "labels.parquet")
	raw, _ := parquetOf(t, slices.Repeat([]int{400}, 30))
	put(t, src, string(raw))
	p := plan(t, src, Options{ShardSize: MinShardSize})
	if p.Packing() != dataset.PackSlice || len(raw) < 2*MinShardSize {
		t.Fatal(p.Packing(), len(raw))
	}
	for n := range p.Shards() - 1 { // the last one has the original's footer
		if p.Size(n) > MinShardSize {
			t.Errorf("slice %d has %d bytes", n, p.Size(n))
		}
	}
	if p := plan(t, src, Options{ShardSize: MinShardSize, Format: FormatFile}); p.Packing() != dataset.PackPart {
		t.Fatal(p.Packing())
	}
	put(t, src, strings.Repeat("not Parquet", 30_000))
	if p := plan(t, src, Options{ShardSize: MinShardSize}); p.Packing() != dataset.PackPart {
		t.Fatal(p.Packing())
	}
}

// forged changes the footer of a real file.
func forged(t testing.TB, raw []byte, change func(fields []thriftField) []thriftField) []byte {
	t.Helper()
	length := int(binary.LittleEndian.Uint32(raw[len(raw)-8:]))
	data := raw[:len(raw)-8-length]
	fields, _, err := readStruct(raw[len(raw)-8-length:len(raw)-8], 0)
	if err != nil {
		t.Fatal(err)
	}
	footer := appendStruct(nil, change(fields))
	out := append(slices.Clone(data), footer...)
	return append(binary.LittleEndian.AppendUint32(out, uint32(len(footer))), "PAR1"...)
}

// groupsAs replaces the list of row groups.
func groupsAs(list func(groups [][]byte) []byte) func([]thriftField) []thriftField {
	return func(fields []thriftField) []thriftField {
		for i, f := range fields {
			if f.id != fileGroups {
				continue
			}
			var groups [][]byte
			eachItem(f.raw, 0, func(g []byte) error { groups = append(groups, g); return nil })
			fields[i].raw = list(groups)
		}
		return fields
	}
}

func groupList(groups ...[]byte) []byte {
	return append(appendListHead(nil, len(groups)), bytes.Join(groups, nil)...)
}

// chunksWith sets a number in every column's metadata.
func chunksWith(g []byte, id int16, value int64) []byte {
	return edit(g, func(f thriftField) (thriftField, bool) {
		if f.id == groupColumns {
			_, count, _, _ := listHead(f.raw)
			list := appendListHead(nil, count)
			eachItem(f.raw, 0, func(chunk []byte) error {
				list = append(list, edit(chunk, func(f thriftField) (thriftField, bool) {
					if f.id == chunkMeta {
						f.raw = edit(f.raw, func(f thriftField) (thriftField, bool) {
							if f.id == id {
								f = f.with(value)
							}
							return f, true
						})
					}
					return f, true
				})...)
				return nil
			})
			f.raw = list
		}
		return f, true
	})
}

func badParquet(t testing.TB) map[string][]byte {
	raw, _ := parquetOf(t, []int{20, 20, 20})
	each := func(id int16, value int64) []byte {
		return forged(t, raw, groupsAs(func(g [][]byte) []byte { return groupList(g[0], chunksWith(g[1], id, value), g[2]) }))
	}
	end := func(length uint32, magic string) []byte {
		out := slices.Clone(raw[:len(raw)-8])
		return append(binary.LittleEndian.AppendUint32(out, length), magic...)
	}
	return map[string][]byte{
		"offset behind the file": each(metaData, 1<<40),
		"offset before it":       each(metaData, -5),
		"largest offset":         each(metaData, 1<<63-1),
		"size over the end":      each(metaSize, 1<<62),
		"negative size":          each(metaSize, -1),
		"columns overlap":        each(metaData, 4),
		"groups overlap":         forged(t, raw, groupsAs(func(g [][]byte) []byte { return groupList(g[0], g[1], g[1]) })),
		"another order":          forged(t, raw, groupsAs(func(g [][]byte) []byte { return groupList(g[1], g[0], g[2]) })),
		"a row group is missing": forged(t, raw, groupsAs(func(g [][]byte) []byte { return groupList(g[0], g[2]) })),
		"2 billion row groups":   forged(t, raw, groupsAs(func(g [][]byte) []byte { return append(appendListHead(nil, 2e9), g[0]...) })),
		"endless depth": forged(t, raw, func(f []thriftField) []thriftField {
			return append(f, thriftField{15, thriftStruct, bytes.Repeat([]byte{1<<4 | thriftStruct}, 20<<20)})
		}),
		"2 billion of a map": forged(t, raw, func(f []thriftField) []thriftField {
			return append(f, thriftField{15, thriftMap, append(binary.AppendUvarint(nil, 2e9), 0x55)})
		}),
		"2 GiB string": forged(t, raw, func(f []thriftField) []thriftField {
			return append(f, thriftField{15, thriftBinary, binary.AppendUvarint(nil, 2<<30)})
		}),
		"footer over the file": end(1<<20, "PAR1"),
		"footer over 64 MiB":   end(1<<31, "PAR1"),
		"no footer":            end(0, "PAR1"),
		"no magic":             end(100, "PAR2"),
		"encrypted":            end(100, "PARE"),
		"only the magic":       []byte("PAR1PAR1"),
		"cut off":              raw[:len(raw)/2],
	}
}

func TestParquetThatLies(t *testing.T) {
	for name, raw := range badParquet(t) {
		t.Run(name, func(t *testing.T) {
			src := filepath.Join(t.TempDir(), "a.parquet")
			put(t, src, string(raw))
			_, err := NewPlan(t.Context(), src, Options{Format: FormatParquet, Records: 1})
			wantCode(t, err, fault.Invalid)
			if !strings.Contains(err.Error(), "Parquet") || fault.HintOf(err) == "" {
				t.Fatalf("%v; hint %q", err, fault.HintOf(err))
			}
			if (strings.Contains(name, "offset") || strings.Contains(name, "size")) && !strings.Contains(err.Error(), "outside") {
				t.Fatal(err)
			}
			p := plan(t, src, Options{Format: FormatFile})
			comesBack(t, filepath.Join(t.TempDir(), "out"), src, pieces(t, p), 1)
		})
	}
}

// TestUncuttableParquet: good files that cannot be cut go in plain parts.
func TestUncuttableParquet(t *testing.T) {
	raw, _ := parquetOf(t, slices.Repeat([]int{400}, 10))
	for name, other := range map[string][]byte{
		"another order": forged(t, raw, groupsAs(func(g [][]byte) []byte { slices.Reverse(g); return groupList(g...) })),
		"encrypted":     append(slices.Clone(raw[:len(raw)-4]), "PARE"...),
	} {
		src := filepath.Join(t.TempDir(), "a.parquet")
		put(t, src, string(other))
		p := plan(t, src, Options{ShardSize: MinShardSize})
		if p.Packing() != dataset.PackPart {
			t.Fatalf("%s: %s", name, p.Packing())
		}
		comesBack(t, filepath.Join(t.TempDir(), "out"), src, pieces(t, p), 1)
	}
}

func FuzzParquet(f *testing.F) {
	for _, seed := range fuzzSeeds(f, "parquet", 15) {
		f.Add(seed, uint8(1))
	}
	f.Fuzz(func(t *testing.T, raw []byte, records uint8) {
		fuzzSlices(t, "a.parquet", raw, Options{Format: FormatParquet, Records: int(records)})
	})
}

// TestThriftKeepsWhatItDoesNotKnow: a struct read and written is the same.
func TestThriftKeepsWhatItDoesNotKnow(t *testing.T) {
	raw, _ := parquetOf(t, []int{50, 50})
	same := forged(t, raw, func(f []thriftField) []thriftField { return f })
	if !bytes.Equal(same, raw) {
		t.Fatal("a footer changed")
	}
	again := edit(appendStruct(nil, []thriftField{{1, thriftTrue, nil}, {20, thriftI64, []byte{2}}, {3, thriftBinary, []byte{1, 'x'}}}),
		func(f thriftField) (thriftField, bool) { return f, true })
	if !bytes.Equal(again, []byte{1<<4 | thriftTrue, thriftI64, 40, 2, thriftBinary, 6, 1, 'x', 0}) {
		t.Fatalf("%v", again)
	}
}
