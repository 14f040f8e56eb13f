package pack

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

type shape struct {
	name  string
	files int
	size  int
}

// The two that matter: many small files, and one large one.
var shapes = []shape{{"20000x20kB", 20_000, 20_000}, {"1x1GiB", 1, 1 << 30}}

func makeInput(b *testing.B, s shape) (path string) {
	b.Helper()
	dir := b.TempDir()
	data := bytes.Repeat([]byte("0123456789abcdef"), s.size/16+1)[:s.size]
	if s.files == 1 {
		path = filepath.Join(dir, "big")
		put(b, path, string(data))
		return path
	}
	for i := range s.files {
		name := filepath.Join(dir, fmt.Sprintf("%03d/%05d", i/200, i))
		if i%200 == 0 {
			os.Mkdir(filepath.Dir(name), 0o755)
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	return dir
}

// plainRead is the floor for Write: read every file and hash it.
func plainRead(b *testing.B, p *Plan, path string) time.Duration {
	start := time.Now()
	sum, buf := sha256.New(), make([]byte, chunkSize)
	for _, m := range p.members {
		name := path
		if len(p.members) > 1 {
			name = filepath.Join(path, m.name)
		}
		f, err := os.Open(name)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{sum}, struct{ io.Reader }{f}, buf); err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
	return time.Since(start)
}

// BenchmarkWrite gives MB/s and the ratio to reading and hashing the files.
func BenchmarkWrite(b *testing.B) {
	for _, s := range shapes {
		b.Run(s.name, func(b *testing.B) {
			path := makeInput(b, s)
			var planned, ours, floor time.Duration
			for b.Loop() {
				start := time.Now()
				p := plan(b, path, Options{})
				planned += time.Since(start)
				b.SetBytes(p.TotalSize())
				floor += plainRead(b, p, path)
				start = time.Now()
				for n := range p.Shards() {
					if _, _, err := p.Write(b.Context(), n, io.Discard); err != nil {
						b.Fatal(err)
					}
				}
				ours += time.Since(start)
			}
			report(b, int64(s.files)*int64(s.size), ours, floor)
			b.ReportMetric(planned.Seconds()*1e3/float64(b.N), "plan-ms")
		})
	}
}

// BenchmarkUnpack gives MB/s and the ratio to hashing the shards and writing
// the files; neither waits for the disk.
func BenchmarkUnpack(b *testing.B) {
	for _, s := range shapes {
		b.Run(s.name, func(b *testing.B) {
			path := makeInput(b, s)
			p := plan(b, path, Options{})
			b.SetBytes(p.TotalSize())
			shards := make([][]byte, p.Shards())
			var ours, floor time.Duration
			for b.Loop() {
				base := b.TempDir()
				floor += plainWrite(b, p, filepath.Join(base, "plain"), path)
				for n := range shards {
					raw, m := write(b, p, n)
					start := time.Now()
					if _, err := Unpack(b.Context(), filepath.Join(base, "ours"), bytes.NewReader(raw), m, quick); err != nil {
						b.Fatal(err)
					}
					ours += time.Since(start)
				}
				os.RemoveAll(base)
			}
			report(b, int64(s.files)*int64(s.size), ours, floor)
		})
	}
}

// plainWrite is the floor for Unpack: hash the content and write each file.
func plainWrite(b *testing.B, p *Plan, to, from string) (spent time.Duration) {
	sum := sha256.New()
	for _, m := range p.members {
		name := from
		if len(p.members) > 1 {
			name = filepath.Join(from, m.name)
		}
		data, err := os.ReadFile(name)
		if err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		target := filepath.Join(to, m.name)
		os.MkdirAll(filepath.Dir(target), 0o755)
		sum.Write(data)
		if err := os.WriteFile(target, data, 0o644); err != nil {
			b.Fatal(err)
		}
		spent += time.Since(start)
	}
	return spent
}

func report(b *testing.B, size int64, ours, floor time.Duration) {
	b.ReportMetric(float64(size)*float64(b.N)/1e6/ours.Seconds(), "ours-MB/s")
	b.ReportMetric(float64(size)*float64(b.N)/1e6/floor.Seconds(), "plain-MB/s")
	b.ReportMetric(ours.Seconds()/floor.Seconds(), "ours/plain")
}

// BenchmarkIndex gives the rate at which a file is looked through for records.
func BenchmarkIndex(b *testing.B) {
	jsonl := bytes.Repeat([]byte(`{"id":12345,"lang":"de","text":"`+string(bytes.Repeat([]byte("lorem "), 30))+`"}`+"\n"), 1<<20)
	table := append([]byte("id,lang,text\n"), bytes.Repeat([]byte(`12345,de,"`+string(bytes.Repeat([]byte("lorem\n"), 30))+`"`+"\n"), 1<<20)...)
	for _, c := range []struct {
		name string
		raw  []byte
		opts Options
	}{
		{"a.jsonl", jsonl, Options{ShardSize: 1 << 20}},
		{"a.csv", table, Options{ShardSize: 1 << 20}},
		{"by-field.jsonl", jsonl, Options{Field: "lang"}},
		{"by-field.csv", table, Options{Field: "lang"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			path := filepath.Join(b.TempDir(), c.name)
			put(b, path, string(c.raw))
			b.SetBytes(int64(len(c.raw)))
			for b.Loop() {
				plan(b, path, c.opts)
			}
		})
	}
}
