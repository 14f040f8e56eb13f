package pack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

var quick = UnpackOptions{NoSync: true}

// entry is what a file or a folder is, for comparison.
type entry struct {
	mode  fs.FileMode
	mtime int64
	data  string
}

// tree reads a folder: its files and folders.
func tree(t testing.TB, dir string) map[string]entry {
	t.Helper()
	got := map[string]entry{}
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		en := entry{mode: info.Mode(), mtime: info.ModTime().UnixNano()}
		if info.Mode().IsRegular() {
			raw, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			en.data = string(raw)
		}
		got[rel] = en
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func sameTree(t interface{ Fatalf(string, ...any) }, got, want map[string]entry) {
	for name, w := range want {
		if g, ok := got[name]; !ok || g != w {
			t.Fatalf("%q: got %v %d (%d bytes), want %v %d (%d bytes)", name, g.mode, g.mtime, len(g.data), w.mode, w.mtime, len(w.data))
		}
	}
	if len(got) != len(want) {
		t.Fatalf("got %d entries, want %d: %v", len(got), len(want), got)
	}
}

func put(t testing.TB, name, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

func plan(t testing.TB, path string, opts Options) *Plan {
	t.Helper()
	p, err := NewPlan(t.Context(), path, opts)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func write(t testing.TB, p *Plan, n int) ([]byte, dataset.Manifest) {
	t.Helper()
	var buf bytes.Buffer
	m, members, err := p.Write(t.Context(), n, &buf)
	if err != nil {
		t.Fatal(err)
	}
	wantIndex(t, buf.Bytes(), m, members)
	if int64(buf.Len()) != p.Size(n) || m.Size != p.Size(n) {
		t.Fatalf("shard %d has %d bytes, planned %d, manifest %d", n, buf.Len(), p.Size(n), m.Size)
	}
	return buf.Bytes(), m
}

func wantCode(t testing.TB, err error, code fault.Code) {
	t.Helper()
	if fault.CodeOf(err) != code {
		t.Fatalf("got %v (%s), want %s", err, fault.CodeOf(err), code)
	}
}

// nothingIn asserts that dir holds no entry at all, temporary ones included.
func nothingIn(t testing.TB, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if len(entries) > 0 {
		t.Fatalf("%s has %v", dir, entries)
	}
}

func TestRoundTripOfRandomTrees(t *testing.T) {
	element := rapid.OneOf(
		rapid.StringMatching(`[a-z0-9]{1,3}`),
		rapid.SampledFrom([]string{"Größe", "文件", "with space", "-rf", "~", "*", "a'b\"c", "é", "👩‍🚀", strings.Repeat("n", 200), "..x", ".hidden"}),
	)
	base := t.TempDir()
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		src, dst := filepath.Join(base, fmt.Sprint("s", run)), filepath.Join(base, fmt.Sprint("d", run))
		defer os.RemoveAll(src)
		defer os.RemoveAll(dst)
		os.MkdirAll(src, 0o755)
		names := rapid.SliceOfN(rapid.SliceOfN(element, 1, 4), 1, 20).Draw(rt, "names")
		for _, elements := range names {
			full := filepath.Join(src, path.Join(elements...))
			size := rapid.SampledFrom([]int{0, 1, 511, 512, 513, 20_000, 70_000}).Draw(rt, "size")
			mode := fs.FileMode(rapid.Uint32Range(0, 0o777).Draw(rt, "mode"))
			mtime := time.Unix(rapid.Int64Range(-1<<31, 1<<33).Draw(rt, "s"), rapid.Int64Range(0, 999_999_999).Draw(rt, "ns"))
			folder := rapid.Bool().Draw(rt, "folder")
			if os.MkdirAll(filepath.Dir(full), 0o755) != nil {
				continue // a file has the name of a folder
			}
			if folder {
				if os.Mkdir(full, 0o755) != nil {
					continue
				}
			} else {
				data := make([]byte, size)
				for i := range data {
					data[i] = byte(i*7 + size)
				}
				if os.WriteFile(full, data, 0o600) != nil {
					continue
				}
			}
			os.Chmod(full, mode|0o700) // searchable, for a user who is not root
			os.Chtimes(full, time.Time{}, mtime)
		}
		want := tree(t, src)
		p := plan(t, src, Options{ShardSize: 64 << 10})
		total, files := int64(0), 0
		order := rand.New(rand.NewPCG(1, uint64(run))).Perm(p.Shards())
		for _, n := range order {
			raw, m := write(t, p, n)
			if s := p.shards[n]; m.Size > 64<<10 && s.end > p.sampleEnd(s.first) {
				rt.Fatalf("shard %d has %d members and %d bytes", n, s.end-s.first, m.Size)
			}
			again, _ := write(t, plan(t, src, Options{ShardSize: 64 << 10}), n)
			if !bytes.Equal(raw, again) {
				rt.Fatalf("shard %d differs between two runs", n)
			}
			res, err := Unpack(t.Context(), dst, bytes.NewReader(raw), m, quick)
			if err != nil {
				rt.Fatal(err)
			}
			total, files = total+m.Size, files+res.Files
		}
		if total != p.TotalSize() || files != p.Files() {
			rt.Fatalf("%d bytes, %d files; planned %d, %d", total, files, p.TotalSize(), p.Files())
		}
		sameTree(rt, tree(t, dst), want)
	})
}

func TestOneFile(t *testing.T) {
	for _, size := range []int{0, 1, 64 << 10, 64<<10 + 1, 3 * 64 << 10, 1 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			src, dst := filepath.Join(t.TempDir(), "lab.bin"), t.TempDir()
			data := make([]byte, size)
			rand.NewChaCha8([32]byte{}).Read(data)
			put(t, src, string(data))
			os.Chmod(src, 0o640)
			p := plan(t, src, Options{ShardSize: 64 << 10})
			if want := max(1, (size+65535)/65536); p.Shards() != want || p.TotalSize() != int64(size) || p.Files() != 1 {
				t.Fatalf("%d shards, %d bytes, %d files", p.Shards(), p.TotalSize(), p.Files())
			}
			for _, n := range rand.New(rand.NewPCG(1, 2)).Perm(p.Shards()) {
				raw, m := write(t, p, n)
				if _, err := Unpack(t.Context(), dst, bytes.NewReader(raw), m, UnpackOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			sameTree(t, tree(t, dst), tree(t, filepath.Dir(src)))
		})
	}
}

func TestFingerprint(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	at := time.Unix(1_700_000_000, 123)
	for _, dir := range []string{a, b} {
		for i := range 8 {
			name := filepath.Join(dir, fmt.Sprintf("f%d", i))
			put(t, name, strings.Repeat("x", 20_000))
			os.Chtimes(name, at, at)
		}
	}
	opts := Options{ShardSize: 64 << 10}
	one, two := plan(t, a, opts), plan(t, b, opts)
	seen := map[[32]byte]bool{}
	for n := range one.Shards() {
		f := one.Fingerprint(n, []byte("salt"))
		if f != two.Fingerprint(n, []byte("salt")) {
			t.Fatal("equal folders have different fingerprints")
		}
		if f == one.Fingerprint(n, []byte("other")) || seen[f] {
			t.Fatal("fingerprints repeat")
		}
		seen[f] = true
	}
	os.Chtimes(filepath.Join(b, "f0"), at, at.Add(1))
	if plan(t, b, opts).Fingerprint(0, []byte("salt")) == one.Fingerprint(0, []byte("salt")) {
		t.Fatal("the time is not in the fingerprint")
	}
}

// hooked runs hook when the first bytes of a shard are passed on.
type hooked struct {
	w    io.Writer
	hook func()
}

func (h *hooked) Write(p []byte) (int, error) {
	if h.hook != nil {
		h.hook()
		h.hook = nil
	}
	return h.w.Write(p)
}

func TestFilesThatChangeWhilePushed(t *testing.T) {
	cases := map[string]func(t *testing.T, name string){
		"grows": func(t *testing.T, name string) {
			f, _ := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
			f.WriteString("more")
			f.Close()
		},
		"shrinks": func(t *testing.T, name string) { os.Truncate(name, 300<<10) },
		"same size, other time": func(t *testing.T, name string) {
			os.Chtimes(name, time.Time{}, time.Unix(1, 0))
		},
		"replaced by another": func(t *testing.T, name string) {
			info, _ := os.Stat(name)
			put(t, name+".new", strings.Repeat("y", 1<<20))
			os.Chtimes(name+".new", info.ModTime(), info.ModTime())
			os.Rename(name+".new", name)
		},
		"vanishes":  func(t *testing.T, name string) { os.Remove(name) },
		"is a link": func(t *testing.T, name string) { os.Remove(name); os.Symlink("/etc/passwd", name) },
	}
	for label, change := range cases {
		for _, when := range []string{"before", "while"} {
			for _, kind := range []string{"folder", "file", "parts"} {
				if when == "while" && (label == "vanishes" || label == "is a link" || label == "replaced by another") {
					continue // the open file stays what it was, and that is fine
				}
				t.Run(label+" "+when+" "+kind, func(t *testing.T) {
					dir := t.TempDir()
					name := filepath.Join(dir, "data")
					put(t, name, strings.Repeat("x", 1<<20))
					p := plan(t, map[string]string{"folder": dir, "file": name, "parts": name}[kind],
						Options{ShardSize: map[string]int64{"folder": 0, "file": 0, "parts": 512 << 10}[kind]})
					w := &hooked{w: io.Discard}
					if when == "before" {
						change(t, name)
					} else {
						w.hook = func() { change(t, name) }
					}
					_, _, err := p.Write(t.Context(), 0, w)
					wantCode(t, err, fault.Conflict)
					if fault.HintOf(err) == "" {
						t.Fatal("no hint")
					}
				})
			}
		}
	}
}

func TestWriteGivesTheWritersError(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "a"), "a")
	r, w := io.Pipe()
	mine := errors.New("the line is cut")
	r.CloseWithError(mine)
	if _, _, err := plan(t, dir, Options{}).Write(t.Context(), 0, w); !errors.Is(err, mine) {
		t.Fatal(err)
	}
}

func TestCanceled(t *testing.T) {
	dir, dst := t.TempDir(), t.TempDir()
	put(t, filepath.Join(dir, "a"), strings.Repeat("a", 1<<20))
	p := plan(t, dir, Options{})
	raw, m := write(t, p, 0)
	ctx, cancel := context.WithCancel(t.Context())
	_, _, err := p.Write(ctx, 0, &hooked{w: io.Discard, hook: cancel})
	wantCode(t, err, fault.Canceled)
	_, err = NewPlan(ctx, dir, Options{})
	wantCode(t, err, fault.Canceled)

	ctx, cancel = context.WithCancel(t.Context())
	in := io.MultiReader(bytes.NewReader(raw[:600<<10]), readerFunc(func([]byte) (int, error) {
		cancel()
		return 0, ctx.Err()
	}))
	_, err = Unpack(ctx, dst, in, m, quick)
	wantCode(t, err, fault.Canceled)
	nothingIn(t, dst)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func sumOf(raw []byte) dataset.HexBytes {
	sum := sha256.Sum256(raw)
	return sum[:]
}

var fixed = time.Unix(1_700_000_000, 0)
