package pack

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// wantIndex checks that the index of a shard says what is in it.
func wantIndex(t testing.TB, raw []byte, m dataset.Manifest, members []dataset.Member) dataset.Index {
	t.Helper()
	data, err := EncodeIndex(m, members)
	if err != nil {
		t.Fatal(err)
	}
	x, err := dataset.ParseIndex(data)
	if err != nil {
		t.Fatal(err)
	}
	if x.Number != m.Number || x.Size != int64(len(raw)) {
		t.Fatalf("the index is of shard %d with %d bytes", x.Number, x.Size)
	}
	for _, member := range x.Members {
		sum := sha256.Sum256(raw[member.Offset : member.Offset+member.Size])
		if !bytes.Equal(member.SHA256, sum[:]) {
			t.Fatalf("the hash of %q is not that of its bytes", member.Name)
		}
	}
	want := 1
	if m.Packing == dataset.PackTar {
		want = m.Files
	}
	if len(x.Members) < want || m.Packing != dataset.PackFile && len(x.Members) != want {
		t.Fatalf("the index has %d members, want %d", len(x.Members), want)
	}
	return x
}

// TestIndexOfForeignTars: the files of an archive that somebody else has made
// are listed if that can be done safely, and otherwise the archive itself.
func TestIndexOfForeignTars(t *testing.T) {
	header := func(name string, kind byte, size int64) tar.Header {
		return tar.Header{Name: name, Typeflag: kind, Mode: 0o644, Size: size}
	}
	archives := map[string][]tar.Header{
		"./a.jpg,b/c.txt": {header("./", tar.TypeDir, 0), header("./a.jpg", tar.TypeReg, 3), header("b/", tar.TypeDir, 0), header("b/c.txt", tar.TypeReg, 2000)},
		"f":               {header("f", tar.TypeReg, 1), {Name: "l", Typeflag: tar.TypeSymlink, Linkname: "f"}, {Name: "h", Typeflag: tar.TypeLink, Linkname: "f"}},
		"self, traversal": {header("a", tar.TypeReg, 1), header("../b", tar.TypeReg, 1)},
		"self, twice":     {header("a", tar.TypeReg, 1), header("a", tar.TypeReg, 2)},
		"self, case":      {header("a", tar.TypeReg, 1), header("A", tar.TypeReg, 2)},
		"self, absolute":  {header("/a", tar.TypeReg, 1)},
		"self, newline":   {header("a\nb", tar.TypeReg, 1)},
		"self, no files":  {header("d/", tar.TypeDir, 0)},
	}
	for want, headers := range archives {
		t.Run(want, func(t *testing.T) {
			dir := t.TempDir()
			put(t, dir+"/set-0.tar", string(archive(t, headers...)))
			p := plan(t, dir, Options{Format: FormatShards})
			raw, m := write(t, p, 0)
			_, members, err := p.Write(t.Context(), 0, &bytes.Buffer{})
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, member := range wantIndex(t, raw, m, members).Members {
				names = append(names, strings.TrimPrefix(member.Name, "./"))
			}
			if strings.HasPrefix(want, "self") {
				want = "set-0.tar"
			}
			if got := strings.Join(names, ","); got != strings.ReplaceAll(want, "./", "") {
				t.Errorf("members %s, want %s", got, want)
			}
		})
	}
}

// TestIndexOfDamagedTars: whatever lies in a file that is called a tar, it can
// be pushed, and its index holds.
func TestIndexOfDamagedTars(t *testing.T) {
	for name, raw := range readCorpus(t) {
		dir := t.TempDir()
		put(t, dir+"/set-0.tar", string(raw))
		write(t, plan(t, dir, Options{Format: FormatShards}), 0)
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

// FuzzTarMembers: the members of an archive lie inside it, in order.
func FuzzTarMembers(f *testing.F) {
	for _, raw := range readCorpus(f) {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		members, err := tarMembers(t.Context(), bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(raw)
		m := manifestOf(raw, len(members))
		m.Packing, m.Name, m.SHA256 = dataset.PackFile, "set-0.tar", sum[:]
		for i, member := range members {
			sum := sha256.Sum256(raw[member.Offset : member.Offset+member.Size])
			members[i].SHA256 = sum[:]
		}
		if len(wantIndex(t, raw, m, members).Members) < len(members) {
			t.Fatalf("%d members do not make an index", len(members))
		}
	})
}

// TestIndexThatIsTooLarge: a shard with more members than can be listed is its
// own one member.
func TestIndexThatIsTooLarge(t *testing.T) {
	var members []dataset.Member
	for i := range 20_000 {
		members = append(members, dataset.Member{Name: fmt.Sprint(strings.Repeat("n/", 2000), i), Offset: int64(i), Size: 1, SHA256: make([]byte, 32)})
	}
	m := dataset.Manifest{Number: 3, Packing: dataset.PackTar, Name: "x-000003.tar", Size: 20_000, SHA256: make([]byte, 32), Files: 20_000}
	data, err := EncodeIndex(m, members)
	if err != nil {
		t.Fatal(err)
	}
	if x, err := dataset.ParseIndex(data); err != nil || len(x.Members) != 1 || x.Members[0].Name != m.Name || x.Members[0].Size != m.Size {
		t.Errorf("%d members, %v", len(x.Members), err)
	}
}

// TestKeepCuts: behind a file that has changed its size the shards stay as they
// were, and the time of a folder that has many of them does not matter.
func TestKeepCuts(t *testing.T) {
	src := t.TempDir()
	for i := range 20 {
		put(t, fmt.Sprintf("%s/deep/%02d.a", src, i), strings.Repeat("x", 10_000))
		put(t, fmt.Sprintf("%s/deep/%02d.b", src, i), strings.Repeat("y", 10_000))
	}
	opts := Options{ShardSize: 64 << 10}
	salt := []byte("salt")
	before := plan(t, src, opts)
	known := map[[32]byte]bool{}
	var starts [][]byte
	for n := range before.Shards() {
		known[before.Fingerprint(n, salt)] = true
		starts = append(starts, before.Start(n, salt))
	}
	if before.Shards() < 7 {
		t.Fatalf("%d shards", before.Shards())
	}
	again := func() (fresh []int, after *Plan) {
		after, err := plan(t, src, opts).KeepCuts(starts, salt)
		if err != nil {
			t.Fatal(err)
		}
		for n := range after.Shards() {
			if !known[after.Fingerprint(n, salt)] {
				fresh = append(fresh, n)
			}
			if after.Size(n) > 64<<10 {
				t.Errorf("shard %d has %d bytes", n, after.Size(n))
			}
			write(t, after, n)
		}
		return fresh, after
	}
	if fresh, _ := again(); fresh != nil {
		t.Errorf("nothing has changed, and shards %v are new", fresh)
	}
	// Larger, so that its shard has to be cut in two.
	put(t, src+"/deep/07.a", strings.Repeat("x", 30_000))
	if fresh, after := again(); len(fresh) != 2 || after.Shards() != before.Shards()+1 || fresh[1] != fresh[0]+1 {
		t.Errorf("new shards %v of %d", fresh, after.Shards())
	}
	// One more file, of a sample that is there, and none any more.
	put(t, src+"/deep/12.c", "z")
	os.Remove(src + "/deep/07.a")
	if fresh, _ := again(); !slices.Equal(fresh, []int{0, 3, 6}) { // two samples each; the folder's own time is in the first
		t.Errorf("new shards %v", fresh)
	}
	// Without the old cuts everything behind moves.
	if moved := plan(t, src, opts); known[moved.Fingerprint(5, salt)] && known[moved.Fingerprint(6, salt)] {
		t.Error("the cuts would have stayed anyway: the test is void")
	}
	if p, err := before.KeepCuts([][]byte{[]byte("nonsense")}, salt); err != nil || p.Shards() != before.Shards() {
		t.Errorf("starts that are not there: %v", err)
	}
	one := plan(t, src+"/deep/12.c", opts)
	if p, err := one.KeepCuts(starts, salt); p != one || err != nil || one.Start(0, salt) != nil {
		t.Error("a file has no cuts to keep")
	}
	if bytes.Equal(before.Start(0, salt), before.Start(0, []byte("other"))) {
		t.Error("the start does not depend on the salt")
	}
}

func TestNumbered(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/f", "x")
	p := plan(t, dir, Options{})
	if m := p.Numbered(p.Manifest(0), 12); m.Number != 12 || !strings.HasSuffix(m.Name, "-000012.tar") {
		t.Errorf("%+v", m)
	}
	if _, _, err := p.Write(t.Context(), 1, &bytes.Buffer{}); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
}
