package pack

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// pieces writes every shard of a plan.
func pieces(t testing.TB, p *Plan) (all []piece) {
	t.Helper()
	for n := range p.Shards() {
		raw, m := write(t, p, n)
		all = append(all, piece{raw, m})
	}
	return all
}

// comesBack unpacks the pieces in some order and wants the one file.
func comesBack(t interface{ Fatalf(string, ...any) }, dst, src string, all []piece, seed uint64) {
	ctx := context.Background()
	for _, i := range rand.New(rand.NewPCG(2, seed)).Perm(len(all)) {
		if _, err := Unpack(ctx, dst, bytes.NewReader(all[i].raw), all[i].m, quick); err != nil {
			t.Fatalf("shard %d: %v", i, err)
		}
	}
	entries, _ := os.ReadDir(dst)
	if len(entries) != 1 || entries[0].Name() != filepath.Base(src) {
		t.Fatalf("the folder has %v", entries)
	}
	want, _ := os.ReadFile(src)
	got, _ := os.ReadFile(filepath.Join(dst, filepath.Base(src)))
	if !bytes.Equal(got, want) {
		t.Fatalf("%d bytes came back as %d others", len(want), len(got))
	}
	a, _ := os.Stat(src)
	b, _ := os.Stat(filepath.Join(dst, filepath.Base(src)))
	if a.Mode() != b.Mode() || !a.ModTime().Equal(b.ModTime()) {
		t.Fatalf("%v %v became %v %v", a.Mode(), a.ModTime(), b.Mode(), b.ModTime())
	}
}

func TestLinesComeBack(t *testing.T) {
	base, run := t.TempDir(), 0
	line := rapid.Custom(func(t *rapid.T) string {
		size := rapid.SampledFrom([]int{0, 1, 80, 3000, 66_000, 300_000}).Draw(t, "size")
		return `{"id":1,"text":"` + strings.Repeat("é", size/2) + `"}`
	})
	rapid.Check(t, func(rt *rapid.T) {
		run++
		dir := filepath.Join(base, fmt.Sprint(run))
		defer os.RemoveAll(dir)
		src := filepath.Join(dir, "in", "data.jsonl")
		end := rapid.SampledFrom([]string{"\n", "\r\n", "\n\n", "\n  \n"}).Draw(rt, "end")
		lines := rapid.SliceOfN(line, 1, 40).Draw(rt, "lines")
		text := rapid.SampledFrom([]string{"", "\ufeff"}).Draw(rt, "BOM") + strings.Join(lines, end) + rapid.SampledFrom([]string{"", end}).Draw(rt, "last")
		put(t, src, text)
		opts := Options{ShardSize: MinShardSize, Format: FormatJSONL, Records: rapid.IntRange(0, 5).Draw(rt, "records")}
		p, err := NewPlan(t.Context(), src, opts)
		if err != nil {
			rt.Fatal(err)
		}
		all := pieces(t, p)
		whole, records := "", int64(0)
		for _, one := range all {
			whole, records = whole+string(one.raw), records+one.m.Records
			got := strings.Count(strings.TrimSuffix(string(one.raw), end), "{")
			if opts.Records > 0 && got > opts.Records {
				rt.Fatalf("%d records in a shard, at most %d", got, opts.Records)
			}
			if len(one.raw) > MinShardSize && got > 1 {
				rt.Fatalf("a shard of %d records has %d bytes", got, len(one.raw))
			}
			if len(all) > 1 && int64(got) != one.m.Records {
				rt.Fatalf("%d records, the manifest says %d", got, one.m.Records)
			}
		}
		if whole != text || len(all) > 1 && records != int64(len(lines)) {
			rt.Fatalf("%d records of %d", records, len(lines))
		}
		for _, one := range all[:len(all)-1] {
			if one.raw[len(one.raw)-1] != '\n' {
				rt.Fatal("a line was cut")
			}
		}
		comesBack(rt, filepath.Join(dir, "out"), src, all, uint64(run))
	})
}

func TestCSVComesBack(t *testing.T) {
	base, run := t.TempDir(), 0
	cell := rapid.OneOf(rapid.StringMatching(`[a-z ]{0,8}`), rapid.SampledFrom([]string{
		"a\nb", "a\r\nb", `say ""hi""`, "comma, comma", "", " ", "\n\n\n", strings.Repeat("long\n", 3000), strings.Repeat("x", 70_000),
	}))
	rapid.Check(t, func(rt *rapid.T) {
		run++
		dir := filepath.Join(base, fmt.Sprint(run))
		defer os.RemoveAll(dir)
		src := filepath.Join(dir, "in", "table.csv")
		comma := rapid.SampledFrom([]string{",", ";", "\t"}).Draw(rt, "comma")
		end := rapid.SampledFrom([]string{"\n", "\r\n"}).Draw(rt, "end")
		rows := rapid.SliceOfN(rapid.SliceOfN(cell, 3, 3), 0, 30).Draw(rt, "rows")
		text := rapid.SampledFrom([]string{"", "\ufeff"}).Draw(rt, "BOM") + rapid.SampledFrom([]string{`id`, `"i""d"`}).Draw(rt, "id") + comma + `"the text"` + comma + `more` + end
		for _, row := range rows {
			for i, c := range row {
				if i > 0 {
					text += comma
				}
				if strings.ContainsAny(c, "\n\",;\t") || rapid.Bool().Draw(rt, "quoted") {
					c = `"` + c + `"`
				}
				text += c
			}
			text += end
		}
		if rapid.Bool().Draw(rt, "no last end") {
			text = strings.TrimSuffix(text, end)
		}
		put(t, src, text)
		opts := Options{ShardSize: MinShardSize, Format: FormatCSV, Records: rapid.IntRange(0, 4).Draw(rt, "records")}
		p, err := NewPlan(t.Context(), src, opts)
		if err != nil {
			rt.Fatal(err)
		}
		all := pieces(t, p)
		read := func(raw []byte) [][]string {
			r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(raw, []byte(byteOrderMark))))
			r.Comma = rune(comma[0])
			rows, err := r.ReadAll()
			if err != nil {
				rt.Fatalf("a slice is no CSV: %v", err)
			}
			return rows
		}
		want := read([]byte(text))
		got := want[:1]
		for _, one := range all {
			rows := read(one.raw)
			if !slices.Equal(rows[0], want[0]) {
				rt.Fatalf("the header is %q", rows[0])
			}
			if opts.Records > 0 && len(rows)-1 > opts.Records {
				rt.Fatalf("%d records in a shard, at most %d", len(rows)-1, opts.Records)
			}
			if len(all) > 1 && one.m.Records != int64(len(rows)-1) {
				rt.Fatalf("%d records, the manifest says %d", len(rows)-1, one.m.Records)
			}
			got = append(got, rows[1:]...)
		}
		if !slices.EqualFunc(got, want, slices.Equal) {
			rt.Fatalf("records differ")
		}
		comesBack(rt, filepath.Join(dir, "out"), src, all, uint64(run))
	})
}

// TestSlicesApart: what somebody gets who works on some slices.
func TestSlicesApart(t *testing.T) {
	src, dst := filepath.Join(t.TempDir(), "t.csv"), t.TempDir()
	put(t, src, "a,b\n1,2\n3,4\n5,6\n")
	all := pieces(t, plan(t, src, Options{Records: 1}))
	apart := UnpackOptions{NoSync: true, Apart: true}
	for range 2 {
		for _, one := range all {
			if _, err := Unpack(t.Context(), dst, bytes.NewReader(one.raw), one.m, apart); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, want := range map[string]string{"t-000000.csv": "a,b\n1,2\n", "t-000001.csv": "a,b\n3,4\n", "t-000002.csv": "a,b\n5,6\n"} {
		if got, _ := os.ReadFile(filepath.Join(dst, name)); string(got) != want {
			t.Errorf("%s is %q", name, got)
		}
	}
	// The owner's pull into the same folder takes them up.
	comesBack(t, dst, src, all, 1)
	for _, one := range all { // and a second finds the file whole
		if res, err := Unpack(t.Context(), dst, bytes.NewReader(one.raw), one.m, quick); err != nil || res.Same != 1 || res.Name != "t.csv" {
			t.Fatal(res, err)
		}
	}
	put(t, filepath.Join(dst, "t.csv"), "a,b\n1,2\n3,4\n5,7\n")
	_, err := Unpack(t.Context(), dst, bytes.NewReader(all[0].raw), all[0].m, quick)
	wantCode(t, err, fault.Conflict)
}

// TestSlicesThatDoNotJoin: slices that are each what their manifests say, of a
// whole that they are not.
func TestSlicesThatDoNotJoin(t *testing.T) {
	src := filepath.Join(t.TempDir(), "t.csv")
	put(t, src, "a,b\n1,2\n3,4\n5,6\n")
	for name, spoil := range map[string]func(*dataset.Manifest){
		"hash": func(m *dataset.Manifest) { m.Whole.SHA256 = sumOf([]byte("x")) },
		"size": func(m *dataset.Manifest) { m.Whole.Size++ },
		"head": func(m *dataset.Manifest) { m.Head = 0 },
		"tail": func(m *dataset.Manifest) { m.Tail = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			dst := t.TempDir()
			var err error
			for _, one := range pieces(t, plan(t, src, Options{Records: 1})) {
				spoil(&one.m)
				_, err = Unpack(t.Context(), dst, bytes.NewReader(one.raw), one.m, quick)
			}
			wantCode(t, err, fault.Corrupt)
			nothingIn(t, dst)
		})
	}
}

func TestBadRecords(t *testing.T) {
	for name, c := range map[string]struct {
		file, text, says string
		opts             Options
	}{
		"1 GiB line":      {"a.jsonl", "{}\n{" + strings.Repeat(" ", MaxRecord), "line 2", Options{}},
		"1 GiB quote":     {"a.csv", "a,b\n1,\"" + strings.Repeat("\n", MaxRecord), "line 2", Options{}},
		"open quote":      {"a.csv", "a,b\n1,2\n3,\"4\n5,6\n", "line 3", Options{Records: 1}},
		"bare quote":      {"a.csv", "a,b\n1,2\n3,4\"\n", "line 3", Options{Records: 1}},
		"behind a quote":  {"a.csv", "a,b\n\"1\n\n\"x,2\n", "line 4", Options{Records: 1}},
		"return inside":   {"a.csv", "a,b\n\"1\"\r,2\n", "line 2", Options{Records: 1}},
		"wide header":     {"a.csv", strings.Repeat("h,", maxHeader) + "\n1\n", "header", Options{}},
		"no records":      {"a.bin", "a\nb\n", "no records", Options{Records: 1}},
		"JSONL by format": {"a.txt", "{}\n" + strings.Repeat("x", MaxRecord+1), "line 2", Options{Format: FormatJSONL}},
	} {
		t.Run(name, func(t *testing.T) {
			src := filepath.Join(t.TempDir(), c.file)
			put(t, src, c.text)
			c.opts.ShardSize = MinShardSize
			_, err := NewPlan(t.Context(), src, c.opts)
			wantCode(t, err, fault.Invalid)
			if !strings.Contains(err.Error(), c.says) || fault.HintOf(err) == "" {
				t.Fatalf("%v; hint %q", err, fault.HintOf(err))
			}
			if p := plan(t, src, Options{ShardSize: MinShardSize, Format: FormatFile}); p.Packing() == dataset.PackSlice {
				t.Fatal("cut all the same")
			}
		})
	}
}

func TestCutByLooking(t *testing.T) {
	long := strings.Repeat("1,2\n", 30_000)
	for name, c := range map[string]struct {
		file, text string
		opts       Options
		want       dataset.Packing
	}{
		"large CSV":           {"a.csv", long, Options{}, dataset.PackSlice},
		"small CSV":           {"a.csv", "a,b\n1,2\n", Options{}, dataset.PackFile},
		"small CSV, records":  {"a.CSV", "a,b\n1,2\n3,4\n", Options{Records: 1}, dataset.PackSlice},
		"one slice":           {"a.csv", "a,b\n1,2\n3,4\n", Options{Records: 9}, dataset.PackFile},
		"CSV as a file":       {"a.csv", long, Options{Format: FormatFile}, dataset.PackPart},
		"UTF-16":              {"a.csv", strings.Repeat("1\x00,\x002\x00\n\x00", 30_000), Options{}, dataset.PackPart},
		"large JSONL":         {"a.ndjson", strings.Repeat("{}\n", 30_000), Options{}, dataset.PackSlice},
		"not JSONL":           {"a.jsonl", long, Options{}, dataset.PackPart},
		"another ending":      {"a.txt", long, Options{}, dataset.PackPart},
		"another, by request": {"a.txt", long, Options{Format: FormatCSV}, dataset.PackSlice},
	} {
		src := filepath.Join(t.TempDir(), c.file)
		put(t, src, c.text)
		c.opts.ShardSize = MinShardSize
		p := plan(t, src, c.opts)
		if p.Packing() != c.want {
			t.Errorf("%s: packed as %s", name, p.Packing())
		}
		comesBack(t, filepath.Join(t.TempDir(), "out"), src, pieces(t, p), 1)
	}
}

func TestFingerprintOfSlices(t *testing.T) {
	src := filepath.Join(t.TempDir(), "a.csv")
	prints := map[[32]byte]string{}
	for text, opts := range map[string]Options{"a\n1\n2\n3\n": {Records: 1}, "a\n1\n2\n4\n": {Records: 1}, "b\n1\n2\n3\n": {Records: 2}} {
		put(t, src, text)
		os.Chtimes(src, fixed, fixed)
		f := plan(t, src, opts).Fingerprint(0, nil)
		if prints[f] != "" || f != plan(t, src, opts).Fingerprint(0, nil) {
			t.Fatalf("%q and %q", text, prints[f])
		}
		prints[f] = text
	}
}
