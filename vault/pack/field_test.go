package pack

import (
	"bytes"
	"encoding/binary"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

func TestFieldsComeBack(t *testing.T) {
	base, run := t.TempDir(), 0
	values := []string{"de", "fr", "", "de ", "a\nb", `say "hi"`, "1", "x,y", strings.Repeat("v", 1000), "\U0001f469"}
	rapid.Check(t, func(rt *rapid.T) {
		run++
		dir := filepath.Join(base, fmt.Sprint(run))
		defer os.RemoveAll(dir)
		kind := rapid.SampledFrom([]string{"csv", "jsonl"}).Draw(rt, "kind")
		end := rapid.SampledFrom([]string{"\n", "\r\n", "\n\n"}).Draw(rt, "end")
		bom := rapid.SampledFrom([]string{"", "\ufeff"}).Draw(rt, "BOM")
		picks := rapid.SliceOfN(rapid.IntRange(0, len(values)-1), 0, 60).Draw(rt, "values")
		text := bom
		if kind == "csv" {
			text += "id,lang,\"note\"" + end
		}
		for i, v := range picks {
			if kind == "csv" {
				cell := values[v]
				if strings.ContainsAny(cell, "\n,\"") || i%2 == 0 {
					cell = `"` + strings.ReplaceAll(cell, `"`, `""`) + `"`
				}
				text += fmt.Sprintf("%d,%s,\"a\nb\"%s", i, cell, end)
			} else {
				quoted, _ := json.Marshal(values[v])
				text += fmt.Sprintf(`{"id": %d, "lang": %s}%s`, i, quoted, end)
			}
		}
		if rapid.Bool().Draw(rt, "no last end") {
			text = strings.TrimRight(text, "\r\n")
		}
		src := filepath.Join(dir, "in", "data."+kind)
		put(t, src, text)
		if len(picks) == 0 && kind == "jsonl" {
			return // no record has the field, and it is nothing to cut
		}
		p, err := NewPlan(t.Context(), src, Options{ShardSize: MinShardSize, Field: "lang"})
		if err != nil {
			rt.Fatal(err)
		}
		all := pieces(t, p)
		distinct := map[string]int64{}
		for _, v := range picks {
			distinct[values[v]]++
		}
		if want := len(distinct) + 1; len(distinct) > 1 && len(all) != want {
			rt.Fatalf("%d shards, want %d", len(all), want)
		}
		for _, one := range all {
			if one.m.Packing != dataset.PackSlice {
				continue
			}
			if distinct[one.m.Value] != one.m.Records {
				rt.Fatalf("%q has %d records, want %d", one.m.Value, one.m.Records, distinct[one.m.Value])
			}
			for _, v := range langs(rt, kind, one.raw) {
				if v != one.m.Value {
					rt.Fatalf("%q in the slice of %q", v, one.m.Value)
				}
			}
		}
		comesBack(rt, filepath.Join(dir, "out"), src, all, uint64(run))
	})
}

// langs reads the field as a stock reader does.
func langs(t interface{ Fatalf(string, ...any) }, kind string, raw []byte) (out []string) {
	raw = bytes.TrimPrefix(raw, []byte(byteOrderMark))
	if kind == "csv" {
		rows, err := csv.NewReader(bytes.NewReader(raw)).ReadAll()
		if err != nil || rows[0][1] != "lang" {
			t.Fatalf("%v %v", rows, err)
		}
		for _, row := range rows[1:] {
			out = append(out, row[1])
		}
		return out
	}
	for d := json.NewDecoder(bytes.NewReader(raw)); d.More(); {
		var row struct{ Lang string }
		if err := d.Decode(&row); err != nil {
			t.Fatalf("%v", err)
		}
		out = append(out, row.Lang)
	}
	return out
}

func TestFieldKinds(t *testing.T) {
	src := filepath.Join(t.TempDir(), "a.jsonl")
	put(t, src, `{"v":1}`+"\n"+`{"v":"1"}`+"\n"+`{"v":null}`+"\n"+`{}`+"\n"+`{"v":true}`+"\n"+`{"v":1}`+"\n")
	all := pieces(t, plan(t, src, Options{Field: "v"}))
	var got []string
	for _, one := range all {
		got = append(got, fmt.Sprintf("%s:%d", one.m.Value, one.m.Records))
	}
	if want := "[1:2 1:1 :2 true:1 :0]"; fmt.Sprint(got) != want { // the last is the order
		t.Fatalf("%v, want %s", got, want)
	}
	comesBack(t, t.TempDir(), src, all, 3)
	// Somebody who works on some of them gets no order.
	dst := t.TempDir()
	for _, one := range all {
		if _, err := Unpack(t.Context(), dst, bytes.NewReader(one.raw), one.m, UnpackOptions{NoSync: true, Apart: true}); err != nil {
			t.Fatal(err)
		}
	}
	if got := names(t, dst); got != "a-000000.jsonl a-000001.jsonl a-000002.jsonl a-000003.jsonl" {
		t.Fatal(got)
	}
}

func TestBadFields(t *testing.T) {
	many := "v\n"
	for i := range MaxValues + 1 {
		many += fmt.Sprintln(i)
	}
	for name, c := range map[string]struct {
		file, text, says string
		opts             Options
		code             fault.Code
	}{
		"no such column":  {"a.csv", "a,b\n1,2\n", "no field", Options{Field: "c"}, fault.Invalid},
		"no such field":   {"a.jsonl", "{}\n{\"a\":1}\n", "no field", Options{Field: "c"}, fault.Invalid},
		"an object":       {"a.jsonl", "{\"v\":1}\n{\"v\":{}}\n", "line 2", Options{Field: "v"}, fault.Invalid},
		"a list":          {"a.jsonl", "{\"v\":[]}\n", "line 1", Options{Field: "v"}, fault.Invalid},
		"not JSON":        {"a.jsonl", "{\"v\":1}\n\n{v}\n", "line 3", Options{Field: "v"}, fault.Invalid},
		"long value":      {"a.csv", "v\n1\n" + strings.Repeat("x", maxValue+1) + "\n", "line 3", Options{Field: "v"}, fault.Invalid},
		"many values":     {"a.csv", many, "values", Options{Field: "v"}, fault.TooLarge},
		"field and count": {"a.csv", "v\n1\n", "both", Options{Field: "v", Records: 1}, fault.Invalid},
		"no records":      {"a.txt", "v\n1\n", "no records", Options{Field: "v"}, fault.Invalid},
		"as a file":       {"a.csv", "v\n1\n", "no records", Options{Field: "v", Format: FormatFile}, fault.Invalid},
		"a folder":        {"d/a.csv", "v\n1\n", "no records", Options{Field: "v"}, fault.Invalid},
		"long name":       {"a.csv", "v\n1\n", "bytes", Options{Field: strings.Repeat("v", maxValue+1)}, fault.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, filepath.Join(dir, c.file), c.text)
			first, _, _ := strings.Cut(c.file, "/")
			_, err := NewPlan(t.Context(), filepath.Join(dir, first), c.opts)
			wantCode(t, err, c.code)
			if !strings.Contains(err.Error(), c.says) || fault.HintOf(err) == "" {
				t.Fatalf("%v; hint %q", err, fault.HintOf(err))
			}
		})
	}
}

// TestOrdersThatLie: an order that a pusher made up cannot make a file that is
// not what the manifests say, nor one that is larger.
func TestOrdersThatLie(t *testing.T) {
	src := filepath.Join(t.TempDir(), "a.csv")
	put(t, src, "v,w\n1,a\n2,b\n1,c\n2,d\n")
	order := func(numbers ...uint64) []byte {
		raw := []byte(orderMagic)
		for _, n := range numbers {
			raw = binary.AppendUvarint(raw, n)
		}
		return raw
	}
	for name, raw := range map[string][]byte{
		"empty":         {},
		"no magic":      []byte("dsvault order 2\n"),
		"other count":   order(1, 2, 0, 8),
		"huge count":    order(1 << 60),
		"huge runs":     order(2, 1<<60),
		"behind file":   order(2, 4, 100, 8, 0, 8),
		"huge gap":      append(order(2, 11), binary.AppendUvarint(binary.AppendUvarint(nil, 1<<63), 1)...),
		"overlap":       order(2, 2, 0, 12, 2, 0, 8),
		"zero run":      order(2, 2, 0, 0, 2, 0, 0),
		"swapped":       order(2, 2, 8, 12, 2, 0, 8),
		"trailing":      append(order(2, 4, 0, 8, 4, 4, 4, 8, 4, 4, 4), 0),
		"half a number": append(order(2, 4, 0, 8, 4, 4, 2, 8), 0x80, 0x80),
	} {
		t.Run(name, func(t *testing.T) {
			dst := t.TempDir()
			all := pieces(t, plan(t, src, Options{Field: "v"}))
			last := &all[len(all)-1]
			last.raw, last.m.Size, last.m.SHA256 = raw, int64(len(raw)), sumOf(raw)
			var err error
			for _, one := range all {
				_, err = Unpack(t.Context(), dst, bytes.NewReader(one.raw), one.m, quick)
			}
			wantCode(t, err, fault.Corrupt)
			nothingIn(t, dst)
		})
	}
}

func TestRunsStayInTheFile(t *testing.T) {
	ok := func(int64, int64) error { return nil }
	for numbers, good := range map[[4]uint64]bool{
		{0, 8, 4, 8}: true, {4, 16, 0, 0}: false, {0, 8, 4, 9}: false, {0, 21, 0, 1}: false, {20, 1, 0, 1}: false, {0, 8, 1 << 63, 1}: false, {0, 1 << 63, 0, 1}: false,
	} {
		var runs []byte
		for _, n := range numbers {
			runs = binary.AppendUvarint(runs, n)
		}
		if err := eachRun(runs, 20, ok); (err == nil) != good {
			t.Errorf("%v: %v", numbers, err)
		}
	}
}

// TestScatterIsTakenUp stops a join of slices by value where a process may die.
func TestScatterIsTakenUp(t *testing.T) {
	src := filepath.Join(t.TempDir(), "a.csv")
	put(t, src, "v,w\n1,a\n2,b\n1,c\n3,x\n2,d\n")
	all := pieces(t, plan(t, src, Options{Field: "v"}))
	for joined := range 3 {
		dst := t.TempDir()
		for _, one := range all[1:] {
			unpackPart(t, dst, one, quick)
		}
		m := all[0].m
		j := newJoin(nil, m, false)
		whole, _ := os.ReadFile(src)
		put(t, filepath.Join(dst, j.hidden("join")), strings.Repeat("?", len(whole)/2))
		if joined > 0 { // as if some slices were in it
			put(t, filepath.Join(dst, j.hidden("join")), string(whole))
			raw, _ := os.ReadFile(filepath.Join(dst, j.hidden("parts")))
			if err := j.parse(raw); err != nil {
				t.Fatal(err)
			}
			j.Joined, j.Have[0] = joined, partOf(m)
			raw, _ = json.Marshal(j)
			put(t, filepath.Join(dst, j.hidden("parts")), string(raw))
		}
		comesBack(t, dst, src, all[:1], 1)
	}
}

func FuzzField(f *testing.F) {
	for _, seed := range append(fuzzSeeds(f, "csv", 5), fuzzSeeds(f, "lines", 3)...) {
		f.Add(seed, "a", true)
		f.Add(seed, "a", false)
	}
	f.Fuzz(func(t *testing.T, raw []byte, field string, lines bool) {
		if lines {
			fuzzSlices(t, "a.jsonl", raw, Options{Format: FormatJSONL, Field: field})
		} else {
			fuzzSlices(t, "a.csv", raw, Options{Format: FormatCSV, Field: field})
		}
	})
}

func FuzzOrder(f *testing.F) {
	f.Add([]byte(orderMagic+"\x02\x02\x00\x08\x02\x08\x04"), int64(20))
	f.Add([]byte(orderMagic+"\x00"), int64(0))
	f.Fuzz(func(t *testing.T, raw []byte, size int64) {
		if size < 0 {
			return
		}
		runs, err := parseOrder(raw, 2)
		if err != nil {
			return
		}
		for _, r := range runs {
			end := int64(0)
			_ = eachRun(r, size, func(offset, n int64) error {
				if offset < end || n <= 0 || n > size-offset {
					t.Fatalf("a run of %d at %d in %d", n, offset, size)
				}
				end = offset + n
				return nil
			})
		}
	})
}
