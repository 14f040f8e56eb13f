package pack

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// sparse makes a file of text and a hole of a GiB, which takes no room and has
// no line end: a line, a quoted field, or a name.
func sparse(t *testing.T, name, text string) string {
	t.Helper()
	src := filepath.Join(t.TempDir(), name)
	put(t, src, text)
	if err := os.Truncate(src, int64(len(text))+1<<30); err != nil {
		t.Fatal(err)
	}
	return src
}

// allocated is what f allocates in all, in bytes.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestHugeRecords: a line of a real GiB is refused after MaxRecord of it, in
// little memory; as a plain file it is cut into parts.
func TestHugeRecords(t *testing.T) {
	for name, c := range map[string]struct {
		file, text, says string
		opts             Options
		most             uint64 // bytes to allocate
	}{
		"line":            {"a.jsonl", "{}\n", "line 2", Options{}, 8 << 20},
		"only line":       {"a.jsonl", "", "line 1", Options{Format: FormatJSONL}, 8 << 20},
		"line with field": {"a.jsonl", "{\"k\":1}\n{\"k\":\"", "line 2", Options{Field: "k"}, 8 * MaxRecord}, // it is kept whole, and grows
		"quote":           {"a.csv", "a,b\n1,\"", "line 2", Options{Format: FormatCSV}, 8 << 20},             // by looking, it is no text
		"quote of field":  {"a.csv", "a,b\n1,\"", "line 2", Options{Format: FormatCSV, Field: "b"}, 8 << 20},
		"CSV header":      {"a.csv", "a,\"b", "line 1", Options{Format: FormatCSV}, 16 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			src := sparse(t, c.file, c.text)
			c.opts.ShardSize = MinShardSize
			var err error
			used := allocated(func() { _, err = NewPlan(t.Context(), src, c.opts) })
			wantCode(t, err, fault.Invalid)
			if !strings.Contains(err.Error(), c.says) || fault.HintOf(err) == "" {
				t.Errorf("%v; hint %q", err, fault.HintOf(err))
			}
			if used > c.most {
				t.Errorf("%d MiB were allocated for it", used>>20)
			}
		})
	}
	src := sparse(t, "a.jsonl", "{}\n")
	p := plan(t, src, Options{Format: FormatFile, ShardSize: 256 << 20})
	if p.Packing() != dataset.PackPart || p.Shards() != 5 {
		t.Fatalf("%s, %d shards", p.Packing(), p.Shards())
	}
	used := allocated(func() {
		if _, _, err := p.Write(t.Context(), p.Shards()-1, io.Discard); err != nil {
			t.Error(err)
		}
	})
	if used > 8<<20 {
		t.Errorf("%d MiB were allocated to write a part", used>>20)
	}
}
