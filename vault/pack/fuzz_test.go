package pack

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

const corpus = "testdata/archives"

// FuzzUnpack: whatever the archive, it unpacks to what it says or not at all,
// and nothing outside the folder changes.
func FuzzUnpack(f *testing.F) {
	for _, raw := range readCorpus(f) {
		f.Add(raw, uint8(2), false)
		f.Add(raw, uint8(1), true)
	}
	f.Fuzz(func(t *testing.T, raw []byte, files uint8, whole bool) {
		outer := t.TempDir()
		dir := filepath.Join(outer, "to")
		m := manifestOf(raw, int(files))
		if whole {
			m.Packing = dataset.PackFile
		}
		res, err := Unpack(t.Context(), dir, bytes.NewReader(raw), m, UnpackOptions{
			NoSync: true, Limits: Limits{MaxFiles: 50, MaxBytes: 1 << 20, MaxPath: 500, MaxDepth: 10},
		})
		if outside, _ := os.ReadDir(outer); len(outside) > 1 {
			t.Fatal("something appeared outside")
		}
		if err != nil {
			if code := fault.CodeOf(err); code != fault.Invalid && code != fault.TooLarge {
				t.Fatalf("%v (%s)", err, code)
			}
			nothingIn(t, dir)
			return
		}
		regular := 0
		for name, e := range tree(t, dir) {
			if e.mode.IsRegular() {
				regular++
			} else if !e.mode.IsDir() {
				t.Fatalf("%q is %v", name, e.mode)
			}
			if e.mode&(os.ModeSetuid|os.ModeSetgid|os.ModeSticky) != 0 {
				t.Fatalf("%q is %v", name, e.mode)
			}
		}
		if regular != res.Files {
			t.Fatalf("%d files, result says %d", regular, res.Files)
		}
		if again, err := Unpack(t.Context(), dir, bytes.NewReader(raw), m, quick); err != nil || again.Same != res.Files {
			t.Fatalf("second run: %+v %v", again, err)
		}
	})
}

func readCorpus(t testing.TB) map[string][]byte {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(corpus, "*.tar"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, name := range found {
		if all[filepath.Base(name)], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestFuzzCorpusIsThere(t *testing.T) {
	got := readCorpus(t)
	if want := len(evilArchives(t)); len(got) < want {
		t.Fatalf("%s has %d archives, want at least %d", corpus, len(got), want)
	}
	good := 0
	for name, raw := range got {
		if len(raw) == 0 {
			t.Errorf("%s is empty", name)
		}
		if _, err := Unpack(t.Context(), t.TempDir(), bytes.NewReader(raw), manifestOf(raw, 2), quick); err == nil {
			good++
		}
	}
	if good == 0 {
		t.Error("no archive of the corpus unpacks: the fuzzer would see refusals only")
	}
}
