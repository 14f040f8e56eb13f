package pack

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

type piece struct {
	raw []byte
	m   dataset.Manifest
}

func cut(t *testing.T, seed uint64, size int) (src string, pieces []piece) {
	t.Helper()
	src = filepath.Join(t.TempDir(), "scan.bin")
	data := make([]byte, size)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	put(t, src, string(data))
	p := plan(t, src, Options{ShardSize: 64 << 10})
	for n := range p.Shards() {
		raw, m := write(t, p, n)
		pieces = append(pieces, piece{raw, m})
	}
	return src, pieces
}

func unpackPart(t *testing.T, dir string, p piece, opts UnpackOptions) UnpackResult {
	t.Helper()
	res, err := Unpack(t.Context(), dir, bytes.NewReader(p.raw), p.m, opts)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var visible []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), reserved) {
			visible = append(visible, e.Name())
		}
	}
	return strings.Join(visible, " ")
}

func TestPartsInAnyOrderAndInSeparateRuns(t *testing.T) {
	src, pieces := cut(t, 1, 4*64<<10+77)
	dir := t.TempDir()
	for i, n := range []int{4, 1, 1, 3, 0} {
		res := unpackPart(t, dir, pieces[n], quick)
		if want := []int{4, 3, 3, 2, 1}[i]; res.Missing != want || res.Name != fmt.Sprintf("scan.bin.part-%04d", n) {
			t.Fatalf("after part %d: %+v", n, res)
		}
	}
	if got := names(t, dir); got != "scan.bin.part-0000 scan.bin.part-0001 scan.bin.part-0003 scan.bin.part-0004" {
		t.Fatal(got)
	}
	if res := unpackPart(t, dir, pieces[2], quick); res.Missing != 0 || res.Name != "scan.bin" {
		t.Fatalf("%+v", res)
	}
	sameTree(t, tree(t, dir), tree(t, filepath.Dir(src)))
	for _, p := range pieces { // again, when the file is whole
		if res := unpackPart(t, dir, p, quick); res.Same != 1 || res.Name != "scan.bin" {
			t.Fatalf("%+v", res)
		}
	}
	sameTree(t, tree(t, dir), tree(t, filepath.Dir(src)))
}

func TestPartsAtOnce(t *testing.T) {
	src, pieces := cut(t, 2, 12*64<<10)
	dir := t.TempDir()
	var wg sync.WaitGroup
	for _, p := range pieces {
		wg.Go(func() {
			if _, err := Unpack(t.Context(), dir, bytes.NewReader(p.raw), p.m, quick); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	sameTree(t, tree(t, dir), tree(t, filepath.Dir(src)))
}

func TestPartsOfAnotherVersion(t *testing.T) {
	_, old := cut(t, 3, 3*64<<10)
	src, pieces := cut(t, 4, 3*64<<10)
	for i := range old { // equal in all but content
		old[i].m.ModTime = pieces[i].m.ModTime
	}
	dir := t.TempDir()
	unpackPart(t, dir, old[0], quick)
	unpackPart(t, dir, old[1], quick)
	_, err := Unpack(t.Context(), dir, bytes.NewReader(pieces[0].raw), pieces[0].m, quick)
	wantCode(t, err, fault.Conflict)
	force := UnpackOptions{NoSync: true, Overwrite: true}
	for _, p := range pieces {
		unpackPart(t, dir, p, force)
	}
	sameTree(t, tree(t, dir), tree(t, filepath.Dir(src)))
	_, err = Unpack(t.Context(), dir, bytes.NewReader(old[0].raw), old[0].m, quick)
	wantCode(t, err, fault.Conflict) // the whole file is in the way
	sameTree(t, tree(t, dir), tree(t, filepath.Dir(src)))
}

func TestPartChangedBeforeTheJoin(t *testing.T) {
	src, pieces := cut(t, 5, 3*64<<10)
	dir := t.TempDir()
	unpackPart(t, dir, pieces[0], quick)
	unpackPart(t, dir, pieces[1], quick)
	spoiled := filepath.Join(dir, "scan.bin.part-0001")
	put(t, spoiled, strings.Repeat("x", 64<<10))
	_, err := Unpack(t.Context(), dir, bytes.NewReader(pieces[2].raw), pieces[2].m, quick)
	wantCode(t, err, fault.Conflict)
	if strings.Contains(names(t, dir), "scan.bin ") {
		t.Fatal("a damaged file appeared")
	}
	os.Remove(spoiled)
	if res := unpackPart(t, dir, pieces[1], quick); res.Name != "scan.bin" {
		t.Fatalf("%+v", res)
	}
	sameTree(t, tree(t, dir), tree(t, filepath.Dir(src)))
}

// TestJoinIsTakenUp stops a join in each state that a dead process can leave.
func TestJoinIsTakenUp(t *testing.T) {
	src, pieces := cut(t, 6, 3*64<<10)
	j := &join{Name: "scan.bin"}
	hidden, record := j.hidden("join"), j.hidden("parts")
	for name, spoil := range map[string]func(t *testing.T, dir string){
		"half a part was appended": func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, hidden), string(pieces[0].raw[:1000]))
		},
		"appended, not recorded": func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, hidden), strings.Repeat("and more", 100_000))
		},
		"recorded, not removed": func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, hidden), string(pieces[0].raw))
			raw, _ := os.ReadFile(filepath.Join(dir, record))
			put(t, filepath.Join(dir, record), string(raw)+`{"joined":1}`+"\n")
		},
		"half recorded": func(t *testing.T, dir string) {
			raw, _ := os.ReadFile(filepath.Join(dir, record))
			put(t, filepath.Join(dir, record), string(raw)+`{"joined":1`)
		},
		"recorded by an older dsvault": func(t *testing.T, dir string) {
			raw, _ := os.ReadFile(filepath.Join(dir, record))
			old := &join{Name: "scan.bin"}
			if err := old.parse(raw); err != nil {
				t.Fatal(err)
			}
			raw, _ = json.Marshal(old)
			put(t, filepath.Join(dir, record), string(raw))
		},
		"a part was removed": func(t *testing.T, dir string) {
			os.Remove(filepath.Join(dir, "scan.bin.part-0000"))
			unpackPart(t, dir, pieces[2], quick)
			unpackPart(t, dir, pieces[0], quick)
			if names(t, dir) != "scan.bin" {
				t.Fatal(names(t, dir))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			unpackPart(t, dir, pieces[0], quick)
			unpackPart(t, dir, pieces[1], quick)
			spoil(t, dir)
			unpackPart(t, dir, pieces[2], UnpackOptions{})
			sameTree(t, tree(t, dir), tree(t, filepath.Dir(src)))
		})
	}
}

// TestRecordGrows: the record of a file's parts gets a line for each part. It is
// not written anew, nor read again by the run that wrote it: many parts take time in
// proportion to their number.
func TestRecordGrows(t *testing.T) {
	src, pieces := cut(t, 9, 6*64<<10)
	dir := t.TempDir()
	a := NewAssembly(dir)
	record := filepath.Join(dir, (&join{Name: "scan.bin"}).hidden("parts"))
	unpackPart(t, dir, pieces[0], quick)
	opts := UnpackOptions{NoSync: true, Assembly: a}
	first, size := fileID{}, int64(0)
	for n, p := range pieces[1 : len(pieces)-1] {
		unpackPart(t, dir, p, opts)
		info, err := os.Lstat(record)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			first, size = idOf(info), info.Size()
			continue
		}
		if idOf(info) != first || info.Size()-size > 300 {
			t.Errorf("part %d: the record is another file, or %d bytes longer", n+1, info.Size()-size)
		}
		if a.memo.last.Have[p.m.Part].Size != p.m.Size {
			t.Errorf("part %d is not remembered", n+1)
		}
		size = info.Size()
	}
	// Another run comes between: what it has written counts.
	unpackPart(t, dir, pieces[len(pieces)-1], quick)
	if names(t, dir) != "scan.bin" {
		t.Fatal(names(t, dir))
	}
	sameTree(t, tree(t, dir), tree(t, filepath.Dir(src)))
	if err := a.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
