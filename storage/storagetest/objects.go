package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"dsvault/storage"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

const mib = 1 << 20

// Allowance is a weakness that the suite puts up with.
type Allowance string

// BreaksOff: a read of an object that is being overwritten may fail with
// fault.Unavailable. It still gives no wrong byte.
const BreaksOff Allowance = "breaks off"

// Objects runs the tests that every object store has to pass. open gives a
// store with no objects in it, another one for each call.
func Objects(t *testing.T, open func(t *testing.T) storage.Objects, allowed ...Allowance) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, storage.Objects)
	}{
		{"Sizes", testSizes},
		{"Range", testRange},
		{"Absent", testAbsent},
		{"Delete", testDelete},
		{"BadKeys", testBadKeys},
		{"LongKey", testLongKey},
		{"Overwrite", testOverwrite},
		{"OverwriteWhileReading", testOverwriteWhileReading},
		{"BadReaders", testBadReaders},
		{"BadReaderKeepsOld", testBadReaderKeepsOld},
		{"CancelledPut", testCancelledPut},
		{"CancelledRead", testCancelledRead},
		{"EndedContext", testEndedContext},
		{"ListOrder", testListOrder},
		{"ListMany", testListMany},
		{"ListAfter", testListAfter},
		{"Concurrent", func(t *testing.T, store storage.Objects) {
			testConcurrent(t, store, slices.Contains(allowed, BreaksOff))
		}},
		{"Sweep", testSweep},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// testSizes stores and reads objects around the sizes at which stores change
// their ways, with the size known and unknown.
func testSizes(t *testing.T, store storage.Objects) {
	sizes := []int64{0, 1, 5*mib - 1, 5 * mib, 5*mib + 1, 16 * mib, 17 * mib, 32 * mib, 37 * mib}
	if testing.Short() {
		sizes = sizes[:7]
	}
	for i, size := range sizes {
		for _, known := range []bool{true, false} {
			if !known && (5*mib-1 <= size && size <= 5*mib+1 || size == 37*mib) {
				continue // that the size is unknown makes a difference at our own parts only
			}
			t.Run(fmt.Sprintf("%d/known=%v", size, known), func(t *testing.T) {
				key, said := fmt.Sprintf("sizes/%d-%v", size, known), size
				if !known {
					said = -1
				}
				put, sum, err := storage.PutHashed(t.Context(), store, key, content(byte(i), size), said)
				if err != nil {
					t.Fatal(err)
				}
				hash := dataset.SealedHash(storage.HashedBy(store))
				if _, err := io.Copy(hash, content(byte(i), size)); err != nil || !bytes.Equal(hash.Sum(nil), sum[:]) {
					t.Errorf("PutHashed gave the hash %x", sum)
				}
				if put.Key != key || put.Size != size || put.ETag == "" || put.ModTime.IsZero() {
					t.Errorf("Put returned %+v, want key %q and size %d", put, key, size)
				}
				if stat, err := store.Stat(t.Context(), key); err != nil || !equal(stat, put) {
					t.Errorf("Stat = %+v, %v; Put returned %+v", stat, err, put)
				}
				checkContent(t, store, key, put.ETag, content(byte(i), size))
				if err := store.Delete(t.Context(), key); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func testRange(t *testing.T, store storage.Objects) {
	const size = 300_001
	data := contentBytes(1, size)
	put := mustPut(t, store, "range/object", data)
	empty := mustPut(t, store, "range/empty", nil)

	for _, r := range []struct{ offset, length int64 }{
		{0, -1}, {0, size}, {0, 1}, {size - 1, 1}, {size - 1, -1}, {1, size - 1}, {65_535, 65_537}, {100_000, -1},
		{0, 0}, {7, 0}, {size, 0}, {size, -1},
	} {
		for _, etag := range []string{"", put.ETag} {
			want := data[r.offset:]
			if r.length >= 0 {
				want = want[:r.length]
			}
			got, err := read(t.Context(), store, put.Key, r.offset, r.length, etag)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("Open(%d, %d, %q) gave %d bytes, want %d; error %v", r.offset, r.length, etag, len(got), len(want), err)
			}
		}
	}
	for _, r := range []struct{ offset, length int64 }{{0, 0}, {0, -1}} {
		if got, err := read(t.Context(), store, empty.Key, r.offset, r.length, empty.ETag); err != nil || len(got) != 0 {
			t.Errorf("Open(%d, %d) of an empty object gave %d bytes, error %v", r.offset, r.length, len(got), err)
		}
	}

	const huge = int64(1) << 62
	for _, r := range []struct{ offset, length int64 }{
		{0, size + 1}, {size - 1, 2}, {size, 1}, {size + 1, 0}, {size + 1, -1}, {size + 1, 1},
		{1, huge}, {huge, 1}, {huge, huge}, {huge, -1}, {-1, 1}, {-1, -1}, {0, -2},
	} {
		if _, err := read(t.Context(), store, put.Key, r.offset, r.length, ""); !fault.Is(err, fault.Invalid) {
			t.Errorf("Open(%d, %d) of %d bytes: error %v, want %s", r.offset, r.length, size, err, fault.Invalid)
		}
	}
}

// testAbsent also opens ranges of what is not there: no range of it is valid,
// and yet the answer has to be that it is absent.
func testAbsent(t *testing.T, store storage.Objects) {
	mustPut(t, store, "absent/there/object", []byte("x"))
	for _, key := range []string{"absent", "absent/there", "absent/there/objec", "absent/there/object/below", "other/one", "v1"} {
		checkAbsent(t, store, key)
		for _, r := range [][2]int64{{0, 0}, {0, 1}, {5, 1}, {5, -1}} {
			if _, err := read(t.Context(), store, key, r[0], r[1], "etag"); !errors.Is(err, storage.ErrNoObject) {
				t.Errorf("Open(%q, %d, %d): error %v, want %v", key, r[0], r[1], err, storage.ErrNoObject)
			}
		}
	}
}

func testDelete(t *testing.T, store storage.Objects) {
	put := mustPut(t, store, "delete/a/object", []byte("x"))
	other := mustPut(t, store, "delete/a/other", []byte("y"))
	for range 2 { // the second time it is absent
		if err := store.Delete(t.Context(), put.Key); err != nil {
			t.Fatal(err)
		}
		checkAbsent(t, store, put.Key)
	}
	if err := store.Delete(t.Context(), "never/was/there"); err != nil {
		t.Errorf("deleting what was never there: %v", err)
	}
	if err := store.Delete(t.Context(), "delete/a"); err != nil {
		t.Errorf("deleting a folder, which is no object: %v", err)
	}
	checkContent(t, store, other.Key, "", strings.NewReader("y"))
	if err := store.Delete(t.Context(), other.Key); err != nil {
		t.Error(err)
	}
	mustPut(t, store, put.Key, []byte("again"))
	checkContent(t, store, put.Key, "", strings.NewReader("again"))
}

func testBadKeys(t *testing.T, store storage.Objects) {
	keys := []string{
		"", ".", "..", "/", "a/", "/a", "/etc/passwd", "a//b", "./a", "a/.", "a/./b", "../a", "a/../b", "a/..",
		"a\x00b", "a\\b", "a b", "a\nb", "a%2fb", "a+b", "a:b", "a*", "ä", "a\u2215b", "a\xffb", "a\u202eb", "ａ",
		strings.Repeat("a/", 299) + "aa", strings.Repeat("a", 600), strings.Repeat("a/", 256) + "a", strings.Repeat("a", 256),
	}
	for _, key := range keys {
		_, put := store.Put(t.Context(), key, strings.NewReader("x"), 1)
		_, opened := read(t.Context(), store, key, 0, -1, "")
		_, stat := store.Stat(t.Context(), key)
		for op, err := range map[string]error{"Put": put, "Open": opened, "Stat": stat, "Delete": store.Delete(t.Context(), key)} {
			if !fault.Is(err, fault.Invalid) || errors.Is(err, storage.ErrNoObject) {
				t.Errorf("%s(%.40q): error %v, want %s", op, key, err, fault.Invalid)
			}
		}
	}
	checkList(t, store, "", nil)
	for _, prefix := range []string{"a b", "a\x00", "ä", strings.Repeat("a", 600)} {
		for _, err := range store.List(t.Context(), prefix) {
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("List(%.20q): error %v, want %s", prefix, err, fault.Invalid)
			}
		}
	}
	for _, prefix := range []string{"/", "../", "..", "./", "//", "a//"} { // no key begins so
		checkList(t, store, prefix, nil)
	}
}

func testLongKey(t *testing.T, store storage.Objects) {
	keys := []string{
		strings.Repeat(strings.Repeat("k", 99)+"/", 5) + strings.Repeat("z", 12), // 512 bytes
		strings.Repeat("s", 255),
		"...", ".hidden/.x", "-", "_/-.", "a/..b",
	}
	for _, key := range keys {
		mustPut(t, store, key, []byte(key))
	}
	slices.Sort(keys)
	checkList(t, store, "", keys)
	checkList(t, store, "..", []string{"..."})
	checkList(t, store, "a/.", []string{"a/..b"})
	for _, key := range keys {
		checkContent(t, store, key, "", strings.NewReader(key))
		if err := store.Delete(t.Context(), key); err != nil {
			t.Error(err)
		}
	}
	checkList(t, store, "", nil)
}

// testOverwrite uses bytes of one length, one right after the other: the ETag
// has to differ all the same.
func testOverwrite(t *testing.T, store storage.Objects) {
	const key = "overwrite/object"
	old := mustPut(t, store, key, []byte("number 0"))
	for i := 1; i < 10; i++ {
		text := fmt.Sprintf("number %d", i)
		put := mustPut(t, store, key, []byte(text))
		if put.ETag == old.ETag {
			t.Fatalf("two objects have the ETag %s", put.ETag)
		}
		checkContent(t, store, key, put.ETag, strings.NewReader(text))
		for _, r := range [][2]int64{{0, -1}, {0, 8}, {3, 2}, {0, 0}} {
			if _, err := read(t.Context(), store, key, r[0], r[1], old.ETag); !errors.Is(err, storage.ErrChanged) {
				t.Errorf("Open(%d, %d) pinned to what was replaced: error %v, want %v", r[0], r[1], err, storage.ErrChanged)
			}
		}
		old = put
	}
	checkList(t, store, "", []string{key})
	if err := store.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if _, err := read(t.Context(), store, key, 0, -1, old.ETag); !errors.Is(err, storage.ErrNoObject) {
		t.Errorf("Open pinned to what was deleted: error %v, want %v", err, storage.ErrNoObject)
	}
}

// testOverwriteWhileReading allows the old bytes or an error, never a mixture.
// The two run at once: MinIO makes the Put wait until the reader is done.
func testOverwriteWhileReading(t *testing.T, store storage.Objects) {
	const key, size = "overwrite/reading", 17 * mib
	put, err := store.Put(t.Context(), key, content(1, size), size)
	if err != nil {
		t.Fatal(err)
	}
	r, err := store.Open(t.Context(), key, 0, -1, put.ETag)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	first := make([]byte, 1)
	if _, err := io.ReadFull(r, first); err != nil {
		t.Fatal(err)
	}
	var group errgroup.Group
	group.Go(func() error {
		_, err := store.Put(t.Context(), key, content(2, size), size)
		return err
	})
	rest, err := io.ReadAll(r)
	if err == nil && !bytes.Equal(append(first, rest...), contentBytes(1, size)) {
		t.Error("the reader mixed two objects")
	}
	if err != nil && !errors.Is(err, storage.ErrChanged) && !fault.Is(err, fault.Unavailable) {
		t.Errorf("error %v", err)
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	checkContent(t, store, key, "", content(2, size))
}

func testListOrder(t *testing.T, store storage.Objects) {
	keys := []string{
		"B/x", "a-b/x", "a-b/y", "a.b/x", "a/b-c", "a/b.c", "a/b/c", "a/b/d/e", "a/b0", "a0", "aa", "v1/1/1/x.age", "v1/1/10/x.age", "v1/1/2/x.age",
	}
	for _, i := range []int{5, 0, 9, 3, 13, 1, 8, 2, 12, 4, 7, 11, 6, 10} {
		mustPut(t, store, keys[i], bytes.Repeat([]byte("x"), i))
	}
	slices.Sort(keys)
	for _, prefix := range []string{"", "a", "a/", "a/b", "a/b/", "a/b/c", "a-", "v1/1/1", "v1/1/1/", "z", "a/b/c/", "a/b/cc"} {
		var want []string
		for _, key := range keys {
			if strings.HasPrefix(key, prefix) {
				want = append(want, key)
			}
		}
		checkList(t, store, prefix, want)
	}
	for o, err := range store.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		stat, err := store.Stat(t.Context(), o.Key)
		if err != nil || stat.Size != o.Size || stat.ETag != o.ETag {
			t.Errorf("List gave %+v, Stat %+v, %v", o, stat, err)
		}
	}
	for range store.List(t.Context(), "") {
		break // the iterator must bear it
	}
}

// testListAfter begins in the middle of listings, at keys that are there and
// between them.
func testListAfter(t *testing.T, store storage.Objects) {
	keys := []string{"a-b", "a/b-c/x", "a/b/c", "a/c/1/x", "a/c/2/x", "a/c/2/y", "a/d", "b"}
	for _, key := range keys {
		mustPut(t, store, key, []byte(key))
	}
	for _, prefix := range []string{"", "a/", "a/c", "a/c/2/", "b", "z"} {
		for _, after := range append([]string{"", "A", "a", "a/", "a/c", "a/c/", "a/c/15", "a/c/2/", "a/c0", "zz"}, keys...) {
			var want, got []string
			for _, key := range keys {
				if strings.HasPrefix(key, prefix) && key > after {
					want = append(want, key)
				}
			}
			for o, err := range storage.ListAfter(t.Context(), store, prefix, after) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, o.Key)
			}
			if !slices.Equal(got, want) {
				t.Errorf("ListAfter(%q, %q) gave %q, want %q", prefix, after, got, want)
			}
		}
	}
}

// testListMany needs more than one page of every S3 server.
func testListMany(t *testing.T, store storage.Objects) {
	const many = 1011
	keys := make([]string, many)
	var group errgroup.Group
	group.SetLimit(16)
	for i := range keys {
		keys[i] = fmt.Sprintf("many/%d/%04d", i%3, i)
		group.Go(func() error {
			_, err := store.Put(t.Context(), keys[i], strings.NewReader(keys[i]), int64(len(keys[i])))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(keys)
	checkList(t, store, "", keys)
	checkList(t, store, "many/1/", keys[many/3:2*many/3])

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen, failed := 0, error(nil)
	for _, err := range store.List(ctx, "") {
		if err != nil {
			failed = err
			continue
		}
		if failed != nil {
			t.Fatal("List went on after an error")
		}
		if seen++; seen == 10 {
			cancel()
		}
	}
	if !errors.Is(failed, context.Canceled) {
		t.Errorf("List went on to %d objects of %d after its context ended: error %v", seen, many, failed)
	}
}

// testConcurrent has writers of one key with the same bytes, writers of their
// own keys, readers and listers at once.
func testConcurrent(t *testing.T, store storage.Objects, breaksOff bool) {
	const workers, rounds, size = 8, 6, 200_000
	shared := contentBytes(99, size)
	mustPut(t, store, "concurrent/shared", shared)
	group, ctx := errgroup.WithContext(t.Context())
	for w := range workers {
		group.Go(func() error {
			for round := range rounds {
				own := fmt.Sprintf("concurrent/%d/%d", w, round)
				if _, err := store.Put(ctx, own, content(byte(w), size), size); err != nil {
					return err
				}
				if _, err := store.Put(ctx, "concurrent/shared", bytes.NewReader(shared), size); err != nil {
					return err
				}
				for key, want := range map[string]io.Reader{own: content(byte(w), size), "concurrent/shared": bytes.NewReader(shared)} {
					r, err := store.Open(ctx, key, 0, -1, "")
					if err == nil {
						err = errors.Join(same(r, want), r.Close())
					}
					if overwritten := key != own; err != nil && !(overwritten && breaksOff && fault.Is(err, fault.Unavailable)) {
						return fmt.Errorf("%s: %w", key, err)
					}
				}
				for _, err := range store.List(ctx, "concurrent/") {
					if err != nil {
						return err
					}
				}
				if err := store.Delete(ctx, own); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	checkList(t, store, "", []string{"concurrent/shared"})
}

func testSweep(t *testing.T, store storage.Objects) {
	sweeper, ok := store.(storage.Sweeper)
	if !ok {
		t.Skip("this store does not sweep")
	}
	put := mustPut(t, store, "sweep/object", []byte("x"))
	broken := &thenDo{r: content(1, 40*mib), n: 20 * mib, do: func() error { return errReader }}
	if _, err := store.Put(t.Context(), "sweep/broken", broken, -1); !errors.Is(err, errReader) {
		t.Errorf("error %v", err)
	}
	for _, cutoff := range []time.Time{{}, time.Now().Add(time.Hour)} {
		if n, err := sweeper.Sweep(t.Context(), cutoff); err != nil || n != 0 {
			t.Errorf("Sweep = %d, %v: a Put that failed has to clear up by itself", n, err)
		}
	}
	checkContent(t, store, put.Key, put.ETag, strings.NewReader("x"))
	checkList(t, store, "", []string{put.Key})
}
