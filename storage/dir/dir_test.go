package dir

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dsvault/storage"
	"dsvault/storage/storagetest"
	"dsvault/vault/fault"
)

func TestConformance(t *testing.T) {
	storagetest.Objects(t, func(t *testing.T) storage.Objects { return mustOpen(t, t.TempDir()) })
}

func TestOpenMakesAPrivateFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "some", "where")
	s := mustOpen(t, path)
	mustPut(t, s, "v1/a/b.age", "x")
	err := filepath.WalkDir(path, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if want := map[bool]fs.FileMode{true: 0o700, false: 0o600}[e.IsDir()]; err == nil && info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), want)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, path)
	if got := contentOf(t, again, "v1/a/b.age"); got != "x" {
		t.Errorf("opened again, it has %q", got)
	}
}

func TestOpenRefusesWhatIsNoFolder(t *testing.T) {
	dir := t.TempDir()
	file, link, dangling := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "dangling")
	err := errors.Join(os.WriteFile(file, nil, 0o600), os.Symlink(dir, link), os.Symlink(filepath.Join(dir, "none"), dangling))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link, dangling} {
		if s, err := Open(path); !fault.Is(err, fault.Invalid) || fault.HintOf(err) == "" {
			t.Errorf("Open(%s) = %v, %v; want %s with a hint", path, s, err, fault.Invalid)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "none")); err == nil {
		t.Error("a folder was made through a link")
	}
	inner := filepath.Join(dir, "inner")
	if err := errors.Join(os.Mkdir(inner, 0o700), os.Symlink(dir, filepath.Join(inner, "objects"))); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(inner); err == nil {
		t.Error("the objects folder may not be a link")
	}
}

// TestForeignFiles: links, pipes and names that are no keys are not objects,
// and opening them neither follows nor hangs.
func TestForeignFiles(t *testing.T) {
	path := t.TempDir()
	s := mustOpen(t, path)
	secret := filepath.Join(t.TempDir(), "secret")
	objects := filepath.Join(path, "objects")
	err := errors.Join(
		os.WriteFile(secret, []byte("secret"), 0o600),
		os.Symlink(secret, filepath.Join(objects, "link")),
		os.Symlink(filepath.Dir(secret), filepath.Join(objects, "folder")),
		os.Symlink("real", filepath.Join(objects, "inside")),
		syscall.Mkfifo(filepath.Join(objects, "pipe"), 0o600),
		os.WriteFile(filepath.Join(objects, "not a key"), nil, 0o600),
		os.Mkdir(filepath.Join(objects, "lost+found"), 0o700),
		os.WriteFile(filepath.Join(objects, "lost+found", "x"), nil, 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, "real", "x")
	for _, key := range []string{"link", "folder", "inside", "pipe", "folder/secret"} {
		if _, err := s.Open(t.Context(), key, 0, -1, ""); err == nil {
			t.Errorf("%s was opened", key)
		}
		if _, err := s.Stat(t.Context(), key); err == nil {
			t.Errorf("%s was described", key)
		}
	}
	if keys := list(t, s); len(keys) != 1 || keys[0] != "real" {
		t.Errorf("List gave %q", keys)
	}
}

func TestKeyUnderAnObject(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	mustPut(t, s, "a/b", "x")
	for _, key := range []string{"a", "a/b/c"} {
		if _, err := s.Put(t.Context(), key, strings.NewReader("y"), 1); !fault.Is(err, fault.Conflict) {
			t.Errorf("Put(%q): error %v, want %s", key, err, fault.Conflict)
		}
	}
	if got := contentOf(t, s, "a/b"); got != "x" {
		t.Errorf("the object has %q", got)
	}
	checkNoTemp(t, s)
}

// TestTampered changes a file behind the store's back.
func TestTampered(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	put := mustPut(t, s, "a", strings.Repeat("x", 100_000))
	file := filepath.Join(s.path, "objects", "a")
	read := func(before, between func()) error {
		before()
		r, err := s.Open(t.Context(), "a", 0, -1, put.ETag)
		if err != nil {
			return err
		}
		defer r.Close()
		if _, err := io.CopyN(io.Discard, r, 10); err != nil {
			return err
		}
		between()
		_, err = io.Copy(io.Discard, r)
		return err
	}
	overwrite := func() {
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt([]byte("y"), 50_000)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	replace := func() { mustPut(t, s, "a", strings.Repeat("z", 100_000)) }
	shorten := func() {
		if err := os.Truncate(file, 5000); err != nil {
			t.Fatal(err)
		}
	}
	nothing := func() {}
	fresh := func() { put = mustPut(t, s, "a", strings.Repeat("x", 100_000)) }

	if err := read(nothing, nothing); err != nil {
		t.Error(err)
	}
	if err := read(nothing, replace); err != nil {
		t.Errorf("a replaced file is still the pinned one: %v", err)
	}
	if err := read(nothing, nothing); !errors.Is(err, storage.ErrChanged) {
		t.Errorf("replaced before: error %v", err)
	}
	if err := read(fresh, overwrite); !errors.Is(err, storage.ErrChanged) {
		t.Errorf("overwritten in place meanwhile: error %v", err)
	}
	if err := read(nothing, nothing); !errors.Is(err, storage.ErrChanged) {
		t.Errorf("overwritten in place before: error %v", err)
	}
	if err := read(fresh, shorten); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("shortened meanwhile: error %v", err)
	}
}

// TestETagsDifferWhenTheClockStands: size and time alone must not repeat.
func TestETagsDifferWhenTheClockStands(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	stopped := time.Unix(1_700_000_000, 0)
	s.now = func() time.Time { return stopped }
	seen := map[string]bool{}
	for range 100 {
		seen[mustPut(t, s, "a", "same size").ETag] = true
	}
	if len(seen) != 100 {
		t.Errorf("100 objects have %d ETags", len(seen))
	}
}

func TestETagSurvivesACopy(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	put := mustPut(t, s, "v1/a", "x")
	copied := filepath.Join(t.TempDir(), "copy")
	if out, err := exec.Command("cp", "-a", s.path, copied).CombinedOutput(); err != nil {
		t.Skipf("cp -a: %v %s", err, out)
	}
	if stat, err := mustOpen(t, copied).Stat(t.Context(), "v1/a"); err != nil || stat.ETag != put.ETag {
		t.Errorf("the copy has %+v, %v; want the ETag %s", stat, err, put.ETag)
	}
}

// TestSyncOrder: the bytes are synced before the object can be seen, and every
// folder that leads to it afterwards, before Put returns.
func TestSyncOrder(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	var order []string
	s.sync = func(f *os.File) error {
		_, err := os.Lstat(filepath.Join(s.path, "objects", "v1/a/b.age"))
		name := strings.TrimPrefix(f.Name(), s.objects.Name())
		if info, err := f.Stat(); err != nil || !info.IsDir() {
			name = "the file"
		}
		order = append(order, name+map[bool]string{true: " visible"}[err == nil])
		return f.Sync()
	}
	mustPut(t, s, "v1/a/b.age", "x")
	if got, want := strings.Join(order, ", "), "the file, /v1/a visible, /v1 visible, /. visible"; got != want {
		t.Errorf("synced %s; want %s", got, want)
	}
}

func TestFailedSyncIsNotAcknowledged(t *testing.T) {
	for n := 1; n <= 4; n++ {
		s := mustOpen(t, t.TempDir())
		calls := 0
		s.sync = func(f *os.File) error {
			if calls++; calls == n {
				return &fs.PathError{Op: "sync", Path: f.Name(), Err: syscall.EIO}
			}
			return f.Sync()
		}
		if _, err := s.Put(t.Context(), "v1/a/b.age", strings.NewReader("x"), 1); !fault.Is(err, fault.Unavailable) || !errors.Is(err, syscall.EIO) {
			t.Errorf("sync %d failed: error %v", n, err)
		}
		if keys := list(t, s); n == 1 && len(keys) != 0 {
			t.Errorf("after its file's sync failed there is %q", keys)
		}
		checkNoTemp(t, s)
	}
}

func TestFolderGone(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	mustPut(t, s, "a", "x")
	if err := os.RemoveAll(filepath.Join(s.path, "objects")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stat(t.Context(), "a"); !fault.Is(err, fault.Unavailable) || fault.HintOf(err) == "" {
		t.Errorf("error %v: an outage is no \"no\"", err)
	}
}

// TestKilledInPut kills a process that has written half an object.
func TestKilledInPut(t *testing.T) {
	if path := os.Getenv("DIR_TEST_PUT"); path != "" {
		s := mustOpen(t, path)
		r := io.MultiReader(bytes.NewReader(make([]byte, 1<<20)), readerFunc(func([]byte) (int, error) {
			os.Stdout.WriteString("half\n")
			select {} // until killed
		}))
		_, err := s.Put(context.Background(), "v1/killed", r, 2<<20)
		t.Fatal(err)
	}
	path := t.TempDir()
	s := mustOpen(t, path)
	mustPut(t, s, "v1/safe", "x")
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledInPut$")
	cmd.Env = append(os.Environ(), "DIR_TEST_PUT="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if keys := list(t, s); len(keys) != 1 || keys[0] != "v1/safe" {
		t.Errorf("List gave %q", keys)
	}
	if n, err := s.Sweep(t.Context(), begun.Add(-time.Hour)); n != 0 || err != nil {
		t.Errorf("Sweep = %d, %v: this leftover is younger than the cutoff", n, err)
	}
	if n, err := s.Sweep(t.Context(), begun.Add(time.Hour)); n != 1 || err != nil {
		t.Errorf("Sweep = %d, %v; want 1", n, err)
	}
	checkNoTemp(t, s)
	if got := contentOf(t, s, "v1/safe"); got != "x" {
		t.Errorf("after Sweep the object has %q", got)
	}
}

// TestSweepInPut sweeps while an object is written, with a clock far ahead.
func TestSweepInPut(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	r := io.MultiReader(strings.NewReader("x"), readerFunc(func([]byte) (int, error) {
		if n, err := s.Sweep(t.Context(), time.Now().Add(time.Hour)); n != 0 || err != nil {
			t.Errorf("Sweep = %d, %v", n, err)
		}
		return 0, io.EOF
	}))
	if _, err := s.Put(t.Context(), "a", r, 1); err != nil {
		t.Error(err)
	}
	if got := contentOf(t, s, "a"); got != "x" {
		t.Errorf("the object has %q", got)
	}
	if len(s.running) != 0 {
		t.Errorf("%v run still", s.running)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

func mustOpen(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func mustPut(t testing.TB, s storage.Objects, key, text string) storage.Object {
	t.Helper()
	o, err := s.Put(t.Context(), key, strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func contentOf(t *testing.T, s storage.Objects, key string) string {
	t.Helper()
	r, err := s.Open(t.Context(), key, 0, -1, "")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func list(t *testing.T, s storage.Objects) (keys []string) {
	t.Helper()
	for o, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}

func checkNoTemp(t *testing.T, s *Store) {
	t.Helper()
	left, err := os.ReadDir(filepath.Join(s.path, "tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
}
