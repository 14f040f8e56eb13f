package pack

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// archive makes a tar by hand, without any of our rules.
func archive(t testing.TB, members ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range members {
		h := h
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		w.Write(make([]byte, h.Size))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func manifestOf(raw []byte, files int) dataset.Manifest {
	return dataset.Manifest{Version: 1, Packing: dataset.PackTar, Name: "x.tar", Size: int64(len(raw)), SHA256: sumOf(raw), Files: files}
}

// patch changes bytes of the first header and mends its checksum.
func patch(raw []byte, at int, with string) []byte {
	raw = slices.Clone(raw)
	copy(raw[at:], with)
	copy(raw[148:156], "        ")
	sum := 0
	for _, b := range raw[:512] {
		sum += int(b)
	}
	copy(raw[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return raw
}

func evilArchives(t testing.TB) map[string][]byte {
	ok := tar.Header{Name: "ok", Mode: 0o644, Size: 3}
	with := func(h ...tar.Header) []byte { return archive(t, append([]tar.Header{ok}, h...)...) }
	file := func(name string) tar.Header { return tar.Header{Name: name, Mode: 0o644, Size: 1} }
	pax := func(records map[string]string) tar.Header {
		return tar.Header{Name: "p", Mode: 0o644, PAXRecords: records, Format: tar.FormatPAX}
	}
	deep := strings.Repeat("d/", 70) + "f"
	evil := map[string][]byte{
		"absolute":             with(file("/etc/evil")),
		"dot dot":              with(file("../evil")),
		"dot dot inside":       with(file("a/../../evil")),
		"dot":                  with(file("./a")),
		"double slash":         with(file("a//b")),
		"backslash":            with(file(`..\evil`)),
		"drive with backslash": with(file(`C:\evil`)),
		"symlink":              with(tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "/etc"}),
		"symlink then through": with(tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: ".."}, file("l/evil")),
		"hard link":            with(tar.Header{Typeflag: tar.TypeLink, Name: "l", Linkname: "/etc/passwd"}),
		"character device":     with(tar.Header{Typeflag: tar.TypeChar, Name: "c"}),
		"block device":         with(tar.Header{Typeflag: tar.TypeBlock, Name: "b"}),
		"FIFO":                 with(tar.Header{Typeflag: tar.TypeFifo, Name: "f"}),
		"global header":        with(tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "g", PAXRecords: map[string]string{"path": "evil"}}),
		"twice":                with(file("a"), file("a")),
		"twice, folder":        with(tar.Header{Typeflag: tar.TypeDir, Name: "a/"}, tar.Header{Typeflag: tar.TypeDir, Name: "a/"}),
		"file and folder":      with(file("a"), file("a/b")),
		"folder and file":      with(file("a/b"), file("a")),
		"case":                 with(file("Readme"), file("README")),
		"case of a folder":     with(file("d/x"), file("D/y")),
		"Unicode form":         with(file("e\u0301"), file("\u00e9")),
		"Kelvin sign":          with(file("\u212a"), file("k")),
		"not UTF-8":            with(tar.Header{Name: "\xff\xfe", Mode: 0o644, Format: tar.FormatGNU}),
		"newline":              with(file("a\nb")),
		"escape":               with(file("a\x1b[2Jb")),
		"long element":         with(file(strings.Repeat("n", 256))),
		"10 kB":                with(file(strings.Repeat("name/", 2000) + "x")),
		"deep":                 with(file(deep)),
		"setuid":               with(tar.Header{Name: "s", Mode: 0o4755}),
		"sticky folder":        with(tar.Header{Typeflag: tar.TypeDir, Name: "s/", Mode: 0o1777}),
		"GNU format":           with(tar.Header{Name: "g", Mode: 0o644, Format: tar.FormatGNU, ModTime: time.Unix(-5, 0)}),
		"GNU long name":        with(tar.Header{Name: strings.Repeat("n", 150), Mode: 0o644, Format: tar.FormatGNU}),
		"extended attribute":   with(pax(map[string]string{"SCHILY.xattr.user.x": "y"})),
		"large PAX":            with(pax(map[string]string{"comment": strings.Repeat("c", 100_000)})),
		"reserved name":        with(file(".dsvault-partial-0/x")),
		"larger than it is":    patch(archive(t, ok), 124, "77777777777"),
		"sparse":               patch(archive(t, ok), 156, "S"),
		"NUL in PAX path":      bytes.Replace(with(file("näme")), []byte("näme"), []byte("n\x00\x00me"), 1),
		"garbage":              bytes.Repeat([]byte("garbage!"), 256),
		"ends in a file":       archive(t, tar.Header{Name: "ok", Size: 4000})[:1024],
		"wrong count":          archive(t, ok, file("two"), file("three")),
	}
	return evil
}

func TestEvilArchives(t *testing.T) {
	for name, raw := range evilArchives(t) {
		t.Run(name, func(t *testing.T) {
			outer := t.TempDir()
			dir := filepath.Join(outer, "in", "to")
			_, err := Unpack(t.Context(), dir, bytes.NewReader(raw), manifestOf(raw, 2), quick)
			if code := fault.CodeOf(err); code != fault.Invalid && code != fault.TooLarge {
				t.Fatalf("got %v (%s)", err, code)
			}
			nothingIn(t, dir)
			if got := tree(t, outer); len(got) != 2 { // in and in/to themselves
				t.Fatal(got)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	raw := archive(t, tar.Header{Name: "a/b/c", Mode: 0o644, Size: 5}, tar.Header{Name: strings.Repeat("p", 150), Mode: 0o644, Size: 5})
	for name, l := range map[string]Limits{
		"files": {MaxFiles: 3}, "bytes": {MaxBytes: 100}, "path": {MaxPath: 100}, "depth": {MaxDepth: 2}, "pax": {MaxPAX: 100},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := Unpack(t.Context(), dir, bytes.NewReader(raw), manifestOf(raw, 2), UnpackOptions{Limits: l, NoSync: true})
			if code := fault.CodeOf(err); code != fault.TooLarge && code != fault.Invalid {
				t.Fatalf("got %v", err)
			}
			nothingIn(t, dir)
		})
	}
	if _, err := Unpack(t.Context(), t.TempDir(), bytes.NewReader(raw), manifestOf(raw, 2),
		UnpackOptions{Limits: Limits{MaxFiles: 4, MaxPath: 150, MaxDepth: 3}, NoSync: true}); err != nil {
		t.Fatal(err)
	}
}

func TestBadManifests(t *testing.T) {
	raw := []byte("data")
	good := dataset.Manifest{Version: 1, Packing: dataset.PackFile, Name: "f", Size: 4, SHA256: sumOf(raw), Mode: 0o644}
	for name, spoil := range map[string]func(*dataset.Manifest){
		"version":    func(m *dataset.Manifest) { m.Version = 2 },
		"size":       func(m *dataset.Manifest) { m.Size = -1 },
		"hash":       func(m *dataset.Manifest) { m.SHA256 = nil },
		"packing":    func(m *dataset.Manifest) { m.Packing = "zip" },
		"empty name": func(m *dataset.Manifest) { m.Name = "" },
		"path":       func(m *dataset.Manifest) { m.Packing, m.Parts, m.Name = dataset.PackPart, 3, "a/b" },
		"tar path":   func(m *dataset.Manifest) { m.Packing, m.Name = dataset.PackTar, "a/b.tar" },
		"up":         func(m *dataset.Manifest) { m.Name = "a/../b" },
		"absolute":   func(m *dataset.Manifest) { m.Name = "/a" },
		"reserved":   func(m *dataset.Manifest) { m.Name = ".dsvault-data" },
		"parent":     func(m *dataset.Manifest) { m.Name = ".." },
		"mode":       func(m *dataset.Manifest) { m.Mode = 0o4755 },
		"no parts":   func(m *dataset.Manifest) { m.Packing = dataset.PackPart },
		"part":       func(m *dataset.Manifest) { m.Packing, m.Part, m.Parts = dataset.PackPart, 3, 3 },
		"long part":  func(m *dataset.Manifest) { m.Packing, m.Parts, m.Name = dataset.PackPart, 3, strings.Repeat("n", 250) },
	} {
		t.Run(name, func(t *testing.T) {
			dir, m := t.TempDir(), good
			spoil(&m)
			_, err := Unpack(t.Context(), dir, bytes.NewReader(raw), m, quick)
			wantCode(t, err, fault.Invalid)
			nothingIn(t, dir)
		})
	}
}

func TestDamagedShards(t *testing.T) {
	src := t.TempDir()
	put(t, src+"/a/b", strings.Repeat("b", 700<<10))
	put(t, src+"/c", "c")
	for _, from := range []string{src, src + "/a/b"} {
		raw, m := write(t, plan(t, from, Options{}), 0)
		broken := errors.New("the line is cut")
		flipped := slices.Clone(raw)
		flipped[len(raw)-600<<10] ^= 1
		header := slices.Clone(raw)
		header[0] ^= 1
		for name, c := range map[string]struct {
			r    io.Reader
			code fault.Code
		}{
			"a bit":     {bytes.NewReader(flipped), fault.Corrupt},
			"first bit": {bytes.NewReader(header), fault.Corrupt},
			"shorter":   {bytes.NewReader(raw[:len(raw)-1]), fault.Corrupt},
			"half":      {bytes.NewReader(raw[:len(raw)/2]), fault.Corrupt},
			"nothing":   {bytes.NewReader(nil), fault.Corrupt},
			"longer":    {io.MultiReader(bytes.NewReader(raw), strings.NewReader("x")), fault.Corrupt},
			"cut":       {io.MultiReader(bytes.NewReader(raw[:300<<10]), readerFunc(func([]byte) (int, error) { return 0, broken })), fault.Unavailable},
			"cut early": {readerFunc(func([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }), fault.Unavailable},
			"end fails": {io.MultiReader(bytes.NewReader(raw), readerFunc(func([]byte) (int, error) { return 0, broken })), fault.Unavailable},
		} {
			t.Run(string(m.Packing)+" "+name, func(t *testing.T) {
				dir := t.TempDir()
				_, err := Unpack(t.Context(), dir, c.r, m, quick)
				wantCode(t, err, c.code)
				nothingIn(t, dir)
				res, err := Unpack(t.Context(), dir, bytes.NewReader(raw), m, UnpackOptions{})
				if err != nil || res.Same != 0 {
					t.Fatal(res, err)
				}
				res, err = Unpack(t.Context(), dir, bytes.NewReader(raw), m, quick)
				if err != nil || res.Same != res.Files {
					t.Fatal("second run:", res, err)
				}
			})
		}
	}
}

func TestWhatIsInTheWay(t *testing.T) {
	src := t.TempDir()
	put(t, src+"/a/b", "new")
	put(t, src+"/z", "z")
	raw, m := write(t, plan(t, src, Options{}), 0)
	outside := t.TempDir()
	for name, c := range map[string]struct {
		make  func(dir string)
		force bool // Overwrite does not help
	}{
		"another file":         {func(dir string) { put(t, dir+"/a/b", "old") }, false},
		"a longer file":        {func(dir string) { put(t, dir+"/a/b", "older") }, false},
		"a folder":             {func(dir string) { os.MkdirAll(dir+"/a/b/c", 0o755) }, true},
		"a file, not a folder": {func(dir string) { put(t, dir+"/a", "file") }, true},
		"a link to a folder":   {func(dir string) { os.Symlink(outside, dir+"/a") }, true},
		"a link to a file":     {func(dir string) { os.MkdirAll(dir+"/a", 0o755); os.Symlink(outside+"/evil", dir+"/a/b") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c.make(dir)
			before := tree(t, dir)
			_, err := Unpack(t.Context(), dir, bytes.NewReader(raw), m, quick)
			wantCode(t, err, fault.Conflict)
			sameTree(t, tree(t, dir), before)
			_, err = Unpack(t.Context(), dir, bytes.NewReader(raw), m, UnpackOptions{NoSync: true, Overwrite: true})
			if c.force {
				wantCode(t, err, fault.Conflict)
				sameTree(t, tree(t, dir), before)
			} else if err != nil {
				t.Fatal(err)
			} else {
				sameTree(t, tree(t, dir), tree(t, src))
			}
			nothingIn(t, outside)
		})
	}
	file := filepath.Join(t.TempDir(), "file")
	put(t, file, "")
	_, err := Unpack(t.Context(), file, bytes.NewReader(raw), m, quick)
	wantCode(t, err, fault.Conflict)
}

func TestLeftoversAreSwept(t *testing.T) {
	src, dir := t.TempDir(), t.TempDir()
	put(t, src+"/a", "a")
	raw, m := write(t, plan(t, src, Options{}), 0)
	put(t, dir+"/.dsvault-partial-0/half", "half")
	put(t, dir+"/.dsvault-partial-7/x/half", "half")
	// A run that lives: its stage must survive the other's start and end.
	live := readerFunc(nil)
	rest := bytes.NewReader(raw)
	live = func(p []byte) (int, error) {
		if rest.Len() == len(raw) {
			if _, err := Unpack(t.Context(), dir, bytes.NewReader(raw), m, quick); err != nil {
				t.Error(err)
			}
		}
		return rest.Read(p)
	}
	if res, err := Unpack(t.Context(), dir, live, m, quick); err != nil || res.Same != 1 {
		t.Fatal(res, err)
	}
	sameTree(t, tree(t, dir), tree(t, src))
}
