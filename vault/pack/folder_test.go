package pack

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// filesIn lists the regular files of an archive, as any tar reader would.
func filesIn(t testing.TB, raw []byte) (names []string) {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(raw)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			names = append(names, h.Name)
		}
	}
}

// keyOf is the WebDataset reader's rule, written another way.
func keyOf(name string) string {
	base := path.Base(name)
	if dot := strings.Index(base, "."); dot > 0 {
		base = base[:dot]
	}
	return path.Join(path.Dir(name), base)
}

func TestSamplesAreNeverCut(t *testing.T) {
	src := t.TempDir()
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 300 {
		dir := []string{"", "train/", "train/a.d/", "train/a/", "val/"}[i%5]
		for _, ext := range []string{"", ".jpg", ".json", ".seg.png", "-b.jpg", "!.x"} {
			put(t, filepath.Join(src, fmt.Sprintf("%ss%03d%s", dir, i, ext)), strings.Repeat("x", r.IntN(6000)))
		}
	}
	put(t, src+"/train/a.jpg", "a sample beside a folder of its name")
	put(t, src+"/train/a.z", "z")
	put(t, src+"/.hidden", "h")
	put(t, src+"/.hidden.x", "h")
	put(t, src+"/giant.a", strings.Repeat("g", 100<<10))
	put(t, src+"/giant.b", strings.Repeat("g", 100<<10))
	p := plan(t, src, Options{ShardSize: 64 << 10})
	shardOf, shards := map[string]int{}, 0
	for n := range p.Shards() {
		raw, m := write(t, p, n)
		if want := fmt.Sprintf("%s-%06d.tar", filepath.Base(src), n); m.Name != want {
			t.Fatalf("shard %d is %s, want %s", n, m.Name, want)
		}
		inShard := map[string]bool{}
		last := ""
		for _, name := range filesIn(t, raw) {
			key := keyOf(name)
			if have, ok := shardOf[key]; ok && have != n {
				t.Fatalf("the sample %s is in shards %d and %d", key, have, n)
			}
			if key != last && inShard[key] {
				t.Fatalf("the files of %s do not lie together", key)
			}
			shardOf[key], inShard[key], last = n, true, key
		}
		if len(raw) > 64<<10 {
			shards++
			if !inShard["giant"] || len(inShard) != 1 {
				t.Fatalf("shard %d of %d bytes has %v", n, len(raw), inShard)
			}
		}
	}
	if shards != 1 || len(shardOf) < 300 {
		t.Fatalf("%d shards over the size, %d samples", shards, len(shardOf))
	}
}

func TestSamplesByNumber(t *testing.T) {
	src := t.TempDir()
	for i := range 10 {
		put(t, fmt.Sprintf("%s/%d.a", src, i), "a")
		put(t, fmt.Sprintf("%s/%d.b", src, i), "b")
	}
	p := plan(t, src, Options{Records: 4})
	var files []int
	for n := range p.Shards() {
		files = append(files, p.Manifest(n).Files)
	}
	if !slices.Equal(files, []int{8, 8, 4}) {
		t.Fatal(files)
	}
}

// TestFoldersComeBack: modes and times of folders that hold files, whichever
// shard comes last.
func TestFoldersComeBack(t *testing.T) {
	src := t.TempDir()
	for i := range 12 {
		put(t, fmt.Sprintf("%s/deep/er/%02d", src, i), strings.Repeat("x", 20_000))
	}
	os.Mkdir(src+"/deep/empty", 0o711)
	for name, mode := range map[string]os.FileMode{"deep/er": 0o550, "deep": 0o2755 &^ 0o2000, "deep/empty": 0o711} {
		os.Chmod(filepath.Join(src, name), mode)
	}
	for i, name := range []string{"deep/empty", "deep/er", "deep"} {
		os.Chtimes(filepath.Join(src, name), time.Time{}, time.Unix(int64(1e9+i), 5))
	}
	want := tree(t, src)
	p := plan(t, src, Options{ShardSize: 64 << 10})
	for seed := range uint64(5) {
		dst := t.TempDir()
		for _, n := range rand.New(rand.NewPCG(1, seed)).Perm(p.Shards()) {
			raw, m := write(t, p, n)
			if _, err := Unpack(t.Context(), dst, bytes.NewReader(raw), m, quick); err != nil {
				t.Fatal(err)
			}
		}
		sameTree(t, tree(t, dst), want)
	}
	before := p.Fingerprint(0, nil)
	os.Chtimes(src+"/deep", time.Time{}, time.Unix(7, 0))
	if plan(t, src, Options{ShardSize: 64 << 10}).Fingerprint(0, nil) == before {
		t.Fatal("a folder's time is not in the fingerprint")
	}
}

func TestFormatsThatDoNotFit(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/f", "x")
	for _, c := range []struct {
		path string
		opts Options
	}{
		{dir, Options{Format: FormatFile}}, {dir + "/f", Options{Format: FormatTar}}, {dir + "/f", Options{Format: FormatShards}},
		{dir, Options{Format: "zip"}}, {dir, Options{Records: -1}}, {dir + "/f", Options{Records: 3}},
	} {
		_, err := NewPlan(t.Context(), c.path, c.opts)
		wantCode(t, err, fault.Invalid)
		if fault.HintOf(err) == "" {
			t.Fatal("no hint")
		}
	}
	if p := plan(t, dir+"/f", Options{Format: FormatFile}); p.Packing() != dataset.PackFile {
		t.Fatal(p.Packing())
	}
}
