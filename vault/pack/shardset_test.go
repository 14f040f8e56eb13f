package pack

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// putShards makes a set of real shards of three kinds, some in a folder.
func putShards(t testing.TB, dir string) {
	t.Helper()
	for i := range 4 {
		raw := archive(t, tar.Header{Name: "0.jpg", Mode: 0o644, Size: int64(i * 999)})
		put(t, fmt.Sprintf("%s/train/set-%06d.tar", dir, i), string(raw))
	}
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	z.Create("empty")
	z.Close()
	put(t, dir+"/val-1.zip", buf.String())
	buf.Reset()
	g := gzip.NewWriter(&buf)
	g.Write([]byte("{\"a\":1}\n"))
	g.Close()
	put(t, dir+"/train-00000-of-00002.jsonl.gz", buf.String())
	os.Chmod(dir+"/val-1.zip", 0o600)
}

func TestShardsAreTakenAsTheyAre(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	putShards(t, src)
	p := plan(t, src, Options{ShardSize: MinShardSize})
	if p.Shards() != 6 || p.Files() != 6 || p.Packing() != dataset.PackFile {
		t.Fatal(p.Shards(), p.Files(), p.Packing())
	}
	seen := map[[32]byte]bool{}
	for n := range p.Shards() {
		raw, m := write(t, p, n)
		whole, err := os.ReadFile(filepath.Join(src, m.Name))
		if err != nil || !bytes.Equal(raw, whole) {
			t.Fatalf("shard %d is not the file %s: %v", n, m.Name, err)
		}
		if m.MediaType == "" {
			t.Fatalf("%s has no media type", m.Name)
		}
		for range 2 {
			if res, err := Unpack(t.Context(), dst, bytes.NewReader(raw), m, quick); err != nil || res.Name != m.Name {
				t.Fatal(res, err)
			}
		}
		seen[p.Fingerprint(n, nil)] = true
	}
	if len(seen) != 6 {
		t.Fatal("fingerprints repeat")
	}
	got, want := tree(t, dst), tree(t, src)
	delete(got, "train") // a set has no folders of its own
	delete(want, "train")
	sameTree(t, got, want)
}

func TestWhatIsNoShardSet(t *testing.T) {
	for name, spoil := range map[string]func(dir string){
		"another file":     func(dir string) { put(t, dir+"/README.md", "read me") },
		"an empty folder":  func(dir string) { os.Mkdir(dir+"/empty", 0o755) },
		"no number":        func(dir string) { put(t, dir+"/photos.zip", "PK") },
		"not what it says": func(dir string) { put(t, dir+"/val-2.zip", "zip") },
		"an empty file":    func(dir string) { put(t, dir+"/val-2.tar", "") },
		"only an ending":   func(dir string) { put(t, dir+"/.zip", "PK") },
	} {
		t.Run(name, func(t *testing.T) {
			src := t.TempDir()
			putShards(t, src)
			spoil(src)
			if p := plan(t, src, Options{}); p.Packing() != dataset.PackTar {
				t.Fatal(p.Packing())
			}
			p, err := NewPlan(t.Context(), src, Options{Format: FormatShards})
			if name == "an empty folder" {
				wantCode(t, err, fault.Invalid)
			} else if err != nil || p.Packing() != dataset.PackFile || p.Shards() != 7 {
				t.Fatal(p, err)
			}
		})
	}
	src := t.TempDir()
	putShards(t, src)
	if p := plan(t, src, Options{Format: FormatTar}); p.Packing() != dataset.PackTar || p.Shards() != 1 {
		t.Fatal(p.Packing(), p.Shards())
	}
}

// TestFileInAFolder: the name of a file shard may have folders, and nothing in
// its way is replaced.
func TestFileInAFolder(t *testing.T) {
	raw := []byte("data")
	m := dataset.Manifest{Version: 1, Packing: dataset.PackFile, Size: 4, SHA256: sumOf(raw), Mode: 0o644}
	for _, name := range []string{"data", "data/x", ".dsvault/x", "a/.dsvault-data"} {
		dir := t.TempDir()
		m.Name = name
		if _, err := Unpack(t.Context(), dir, bytes.NewReader(raw), m, quick); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, _ := os.ReadFile(filepath.Join(dir, name)); !bytes.Equal(got, raw) {
			t.Fatalf("%s: %q", name, got)
		}
	}
	dir, outside := t.TempDir(), t.TempDir()
	os.Symlink(outside, dir+"/a")
	m.Name = "a/b"
	_, err := Unpack(t.Context(), dir, bytes.NewReader(raw), m, quick)
	wantCode(t, err, fault.Conflict)
	nothingIn(t, outside)
}
