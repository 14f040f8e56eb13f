package pack

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// fuzzSeeds gives the files of a committed corpus, which must not be empty.
func fuzzSeeds(t testing.TB, dir string, atLeast int) (seeds [][]byte) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join("testdata", dir, "*"))
	if err != nil || len(found) < atLeast {
		t.Fatalf("testdata/%s has %d files (%v), want %d", dir, len(found), err, atLeast)
	}
	for _, name := range found {
		raw, err := os.ReadFile(name)
		if err != nil || len(raw) == 0 {
			t.Fatalf("%s: %d bytes, %v", name, len(raw), err)
		}
		seeds = append(seeds, raw)
	}
	return seeds
}

// fuzzSlices plans a file of any bytes: it is refused, or it comes back.
func fuzzSlices(t *testing.T, name string, raw []byte, opts Options) {
	src := filepath.Join(t.TempDir(), name)
	put(t, src, string(raw))
	p, err := NewPlan(t.Context(), src, opts)
	if err != nil {
		if code := fault.CodeOf(err); code != fault.Invalid && code != fault.TooLarge {
			t.Fatal(err)
		}
		return
	}
	if p.Shards() > 40 {
		return // as right as with fewer, and slow
	}
	all := pieces(t, p)
	comesBack(t, filepath.Join(t.TempDir(), "out"), src, all, 1)
	if p.Packing() == dataset.PackSlice && len(all) < 2 {
		t.Fatal("one slice")
	}
}

func FuzzLines(f *testing.F) {
	for _, seed := range fuzzSeeds(f, "lines", 3) {
		f.Add(seed, uint8(1))
	}
	f.Fuzz(func(t *testing.T, raw []byte, records uint8) {
		fuzzSlices(t, "a.jsonl", raw, Options{Format: FormatJSONL, Records: int(records)})
	})
}

func FuzzCSV(f *testing.F) {
	for _, seed := range fuzzSeeds(f, "csv", 5) {
		f.Add(seed, uint8(1))
	}
	f.Fuzz(func(t *testing.T, raw []byte, records uint8) {
		fuzzSlices(t, "a.csv", raw, Options{Format: FormatCSV, Records: int(records)})
		// However the file comes in, the splitter sees the same records.
		whole, bytewise := splitAll(raw, len(raw)+1), splitAll(raw, 1)
		if !bytes.Equal(whole, bytewise) {
			t.Fatalf("%q and %q", whole, bytewise)
		}
	})
}

// splitAll marks the ends of records, or says that there is an error.
func splitAll(raw []byte, chunk int) (out []byte) {
	s := newCSVSplitter(raw)
	for len(raw) > 0 {
		b := raw[:min(chunk, len(raw))]
		n, done, err := s.take(b)
		if err != nil {
			return []byte(err.Error())
		}
		out, raw = append(out, raw[:n]...), raw[n:]
		if done {
			out = append(out, 0xff, 0xff)
		}
	}
	if err := s.end(); err != nil {
		return []byte(err.Error())
	}
	return out
}
