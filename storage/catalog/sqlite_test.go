package catalog

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"dsvault/storage"
	"dsvault/vault/fault"
)

// cannotOpen checks that Open refuses url with a code, a message and a hint.
func cannotOpen(t *testing.T, url string, code fault.Code) {
	t.Helper()
	db, err := Open(t.Context(), url, Options{})
	if err == nil {
		db.Close()
	}
	if !fault.Is(err, code) || fault.HintOf(err) == "" {
		t.Errorf("got %v (code %s, hint %q), want %s", err, fault.CodeOf(err), fault.HintOf(err), code)
	}
}

func TestBadURLs(t *testing.T) {
	for _, url := range []string{"", "catalog.db", "mysql://x/y", "postgres:x"} {
		cannotOpen(t, url, fault.Invalid)
	}
	cannotOpen(t, "sqlite:", fault.Invalid)
	cannotOpen(t, "sqlite:"+filepath.Join(t.TempDir(), "none", "x.db"), fault.Unavailable)
	cannotOpen(t, "sqlite:"+t.TempDir(), fault.Unavailable)
}

func TestOddPaths(t *testing.T) {
	for _, name := range []string{"a b.db", "what?.db", "50%25.db", "#x.db", "ünd.db", ":memory:", "file:x.db"} {
		path := filepath.Join(t.TempDir(), name)
		open(t, "sqlite:"+path)
		if info, err := os.Stat(path); err != nil || info.Size() == 0 {
			t.Errorf("%s: the database is elsewhere: %v", name, err)
		}
	}
}

func TestFileMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	open(t, "sqlite:"+path)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has mode %o", filepath.Base(path+suffix), mode)
		}
	}
}

func TestPragmas(t *testing.T) {
	s := &fixture{T: t, db: open(t, "sqlite:"+filepath.Join(t.TempDir(), "x.db"))}
	pragma := func(ctx context.Context, tx *Tx, name string) (value string) {
		if err := tx.row(ctx, "test", "PRAGMA "+name, nil, &value); err != nil {
			t.Fatal(err)
		}
		return value
	}
	s.write(func(ctx context.Context, tx *Tx) error {
		for name, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000", "query_only": "0"} {
			same(t, name, pragma(ctx, tx, name), want)
		}
		return nil
	})
	s.read(func(ctx context.Context, tx *Tx) error {
		for name, want := range map[string]string{"foreign_keys": "1", "busy_timeout": "5000", "query_only": "1"} {
			same(t, "reader's "+name, pragma(ctx, tx, name), want)
		}
		return nil
	})
}

// filled makes a catalog with some pages in it and returns its path.
func filled(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.db")
	s := &fixture{T: t, db: open(t, "sqlite:"+path)}
	s.write(func(ctx context.Context, tx *Tx) error {
		for i := range 200 {
			if err := tx.SetMeta(ctx, fmt.Sprintf("key %d", i), make([]byte, 3000)); err != nil {
				return err
			}
		}
		return nil
	})
	if err := s.db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBadFiles(t *testing.T) {
	whole, err := os.ReadFile(filled(t))
	if err != nil {
		t.Fatal(err)
	}
	damage := func(at int, with ...byte) []byte {
		b := bytes.Clone(whole)
		copy(b[at:], with)
		return b
	}
	scrambled := bytes.Clone(whole)
	for page := 8; page < len(whole)/4096; page += 8 {
		copy(scrambled[page*4096:], bytes.Repeat([]byte{0xa5}, 4096))
	}
	for name, content := range map[string][]byte{
		"text":             bytes.Repeat([]byte("This is no database.\n"), 500),
		"a short text":     []byte("x"),
		"a damaged header": damage(0, 'X'),
		"a damaged schema": damage(100, bytes.Repeat([]byte{0xff}, 600)...),
		"truncated":        whole[:len(whole)/2/4096*4096],
		"cut in a page":    whole[:len(whole)-1000],
		"damaged pages":    scrambled,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.db")
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			cannotOpen(t, "sqlite:"+path, fault.Corrupt)
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, content) {
				t.Errorf("the file was changed: %v", err)
			}
		})
	}
}

func TestAnotherProgramsDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("CREATE TABLE songs (title TEXT)"); err != nil {
		t.Fatal(err)
	}
	db.Close()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cannotOpen(t, "sqlite:"+path, fault.Invalid)
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file was changed: %v", err)
	}
}

// TestDamageWhileOpen: damage that shows only when a page is read is Corrupt,
// never a missing row.
func TestDamageWhileOpen(t *testing.T) {
	path := filled(t)
	db := open(t, "sqlite:"+path)
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	for page := int64(5); page < info.Size()/4096; page++ {
		if _, err := file.WriteAt(bytes.Repeat([]byte{0xa5}, 4096), page*4096); err != nil {
			t.Fatal(err)
		}
	}
	found := false
	for i := range 200 {
		err := db.View(t.Context(), func(tx *Tx) error {
			_, err := tx.Meta(t.Context(), fmt.Sprintf("key %d", i))
			return err
		})
		if errors.Is(err, storage.ErrNoRow) {
			t.Fatal("damage was read as a missing row")
		}
		found = found || fault.Is(err, fault.Corrupt)
	}
	if !found {
		t.Error("the damage was not found")
	}
}

// TestFull reaches SQLite's own limit of pages, which it reports like a full
// disk. Rows that were committed stay, and there is room again afterwards.
func TestFull(t *testing.T) {
	s := &fixture{T: t, db: open(t, "sqlite:"+filepath.Join(t.TempDir(), "x.db"))}
	limit := func(pages int) {
		s.write(func(ctx context.Context, tx *Tx) error {
			var n int
			return tx.row(ctx, "test", fmt.Sprint("PRAGMA max_page_count = ", pages), nil, &n)
		})
	}
	limit(100)
	fillUp(s)
	limit(100_000)
	s.write(func(ctx context.Context, tx *Tx) error { return tx.SetMeta(ctx, "more", make([]byte, 100_000)) })
}

// fillUp writes until there is no space, and checks what that looks like.
func fillUp(s *fixture) {
	s.Helper()
	var err error
	n := 0
	for ; err == nil; n++ {
		if n > 1000 {
			s.Fatal("it is never full")
		}
		err = s.try(func(ctx context.Context, tx *Tx) error { return tx.SetMeta(ctx, fmt.Sprint(n), make([]byte, 20_000)) })
	}
	if !fault.Is(err, fault.Unavailable) || fault.HintOf(err) == "" || classOf(err) != full {
		s.Errorf("full: %v (class %d)", err, classOf(err))
	}
	for i := range n {
		_, err := get2(s, fmt.Sprint(i))
		if acknowledged := i < n-1; acknowledged != (err == nil) {
			s.Errorf("row %d of %d: %v", i, n, err)
		}
	}
}

func get2(s *fixture, key string) (value []byte, err error) {
	err = s.db.View(s.Context(), func(tx *Tx) error {
		value, err = tx.Meta(s.Context(), key)
		return err
	})
	return value, err
}

func TestBusy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	s := &fixture{T: t, db: open(t, "sqlite:"+path)}
	s.write(func(ctx context.Context, tx *Tx) error {
		var ms int
		return tx.row(ctx, "test", "PRAGMA busy_timeout = 20", nil, &ms)
	})
	other := open(t, "sqlite:"+path) // another program
	tx, err := other.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	_, err = s.db.Begin(t.Context())
	if !fault.Is(err, fault.Unavailable) || fault.HintOf(err) == "" || classOf(err) != busy {
		t.Errorf("writing beside a writer: %v", err)
	}
	if err := s.db.Ping(t.Context()); err != nil {
		t.Errorf("reading beside a writer: %v", err)
	}
	tx.Rollback()
	s.write(func(ctx context.Context, tx *Tx) error { return s.setMeta(ctx, tx, "a") })
}
