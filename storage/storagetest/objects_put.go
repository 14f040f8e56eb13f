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

	"dsvault/storage"
	"dsvault/vault/fault"
)

// testBadReaders gives Put readers that do not hold what was announced.
func testBadReaders(t *testing.T, store storage.Objects) {
	fail := func() error { return errReader }
	refused := fault.New(fault.TooLarge, "test", "over a limit of the caller's")
	for i, test := range []struct {
		name string
		r    io.Reader
		size int64
		want error // in the chain
		code fault.Code
	}{
		{"early end", content(1, 99_999), 100_000, io.ErrUnexpectedEOF, fault.Invalid},
		{"early end, large", content(1, 20*mib), 40 * mib, io.ErrUnexpectedEOF, fault.Invalid},
		{"early end, at a part's end", content(1, 32*mib), 40 * mib, io.ErrUnexpectedEOF, fault.Invalid},
		{"empty", strings.NewReader(""), 1, io.ErrUnexpectedEOF, fault.Invalid},
		{"too long", content(1, 100_001), 100_000, nil, fault.Invalid},
		{"too long, large", content(1, 17*mib+1), 17 * mib, nil, fault.Invalid},
		{"too long, at a part's end", content(1, 16*mib+1), 16 * mib, nil, fault.Invalid},
		{"not empty", strings.NewReader("x"), 0, nil, fault.Invalid},
		{"negative size", strings.NewReader("x"), -2, nil, fault.Invalid},
		{"fails at once", &thenDo{r: content(1, 10), do: fail}, 10, errReader, ""},
		{"fails at once, size unknown", &thenDo{r: content(1, 10), do: fail}, -1, errReader, ""},
		{"fails in the middle", &thenDo{r: content(1, mib), n: 1000, do: fail}, mib, errReader, ""},
		{"fails late, size unknown", &thenDo{r: content(1, 40*mib), n: 35 * mib, do: fail}, -1, errReader, ""},
		{"fails late, large", &thenDo{r: content(1, 40*mib), n: 33 * mib, do: fail}, 40 * mib, errReader, ""},
		{"fails after its last byte", io.MultiReader(content(1, 1000), &thenDo{do: fail}), 1000, errReader, ""},
		{"fails after its last byte, large", io.MultiReader(content(1, 32*mib), &thenDo{do: fail}), -1, errReader, ""},
		{"is refused by the caller's own limit", io.MultiReader(content(1, 1000), &thenDo{do: func() error { return refused }}), -1, refused, fault.TooLarge},
	} {
		t.Run(test.name, func(t *testing.T) {
			key := fmt.Sprintf("bad/readers/%d", i)
			_, err := store.Put(t.Context(), key, test.r, test.size)
			var asFault *fault.Error
			switch {
			case err == nil:
				t.Error("Put succeeded")
			case test.want != nil && !errors.Is(err, test.want):
				t.Errorf("error %v, want %v in its chain", err, test.want)
			case test.code != "" && !fault.Is(err, test.code), !errors.As(err, &asFault):
				t.Errorf("error %v with code %q, want %q", err, fault.CodeOf(err), test.code)
			}
			checkAbsent(t, store, key)
			checkList(t, store, "bad/", nil)
		})
	}
}

func testBadReaderKeepsOld(t *testing.T, store storage.Objects) {
	put := mustPut(t, store, "bad/old", []byte("old bytes"))
	for _, size := range []int64{20, -1, 40 * mib} {
		r := &thenDo{r: content(1, 40*mib), n: 10, do: func() error { return errReader }}
		if _, err := store.Put(t.Context(), put.Key, r, size); !errors.Is(err, errReader) {
			t.Errorf("error %v, want %v", err, errReader)
		}
		checkContent(t, store, put.Key, put.ETag, strings.NewReader("old bytes"))
	}
}

func testCancelledPut(t *testing.T, store storage.Objects) {
	for i, test := range []struct{ size, after, said int64 }{
		{mib, 1000, mib}, {mib, 1000, -1}, {17 * mib, 16*mib + 1, 17 * mib}, {40 * mib, 35 * mib, -1}, {10, 0, 10},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		r := &thenDo{r: content(1, test.size), n: test.after, do: func() error { cancel(); return nil }}
		key := fmt.Sprintf("cancelled/%d", i)
		_, err := store.Put(ctx, key, r, test.said)
		cancel()
		if !errors.Is(err, context.Canceled) || !fault.Is(err, fault.Canceled) {
			t.Errorf("%+v: error %v, want %v", test, err, context.Canceled)
		}
		checkAbsent(t, store, key)
	}
	checkList(t, store, "", nil)
}

func testCancelledRead(t *testing.T, store storage.Objects) {
	const size = 17 * mib
	if _, err := store.Put(t.Context(), "cancelled/read", content(1, size), size); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := store.Open(ctx, "cancelled/read", 0, -1, "")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if n, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) || !fault.Is(err, fault.Canceled) {
		t.Errorf("read %d more bytes after the context ended, error %v", n, err)
	}
}

// testEndedContext: an operation that did not take place says so, and never
// that the object is absent.
func testEndedContext(t *testing.T, store storage.Objects) {
	put := mustPut(t, store, "ended/object", []byte("x"))
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	for ctx, code := range map[context.Context]fault.Code{cancelled: fault.Canceled, late: fault.Unavailable} {
		for _, key := range []string{put.Key, "ended/absent"} {
			_, puts := store.Put(ctx, "ended/new", strings.NewReader("x"), 1)
			_, opens := read(ctx, store, key, 0, -1, "")
			_, stats := store.Stat(ctx, key)
			var lists error
			for _, err := range store.List(ctx, "") {
				lists = err
			}
			for op, err := range map[string]error{"Put": puts, "Open": opens, "Stat": stats, "List": lists, "Delete": store.Delete(ctx, key)} {
				if !errors.Is(err, ctx.Err()) || !fault.Is(err, code) || errors.Is(err, storage.ErrNoObject) {
					t.Errorf("%s(%q): error %v with code %q, want %q", op, key, err, fault.CodeOf(err), code)
				}
			}
		}
	}
	checkList(t, store, "", []string{put.Key})
}

func mustPut(t *testing.T, store storage.Objects, key string, data []byte) storage.Object {
	t.Helper()
	put, err := store.Put(t.Context(), key, bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return put
}

// read opens a range and reads it to its end.
func read(ctx context.Context, store storage.Objects, key string, offset, length int64, etag string) ([]byte, error) {
	r, err := store.Open(ctx, key, offset, length, etag)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	return data, errors.Join(err, r.Close())
}

func checkContent(t *testing.T, store storage.Objects, key, etag string, want io.Reader) {
	t.Helper()
	r, err := store.Open(t.Context(), key, 0, -1, etag)
	if err != nil {
		t.Error(err)
		return
	}
	if err := errors.Join(same(r, want), r.Close()); err != nil {
		t.Errorf("%.40q: %v", key, err)
	}
}

func checkAbsent(t *testing.T, store storage.Objects, key string) {
	t.Helper()
	if o, err := store.Stat(t.Context(), key); !errors.Is(err, storage.ErrNoObject) {
		t.Errorf("Stat(%q) = %+v, %v; want %v", key, o, err, storage.ErrNoObject)
	}
	if data, err := read(t.Context(), store, key, 0, -1, ""); !errors.Is(err, storage.ErrNoObject) {
		t.Errorf("Open(%q) gave %d bytes, error %v; want %v", key, len(data), err, storage.ErrNoObject)
	}
}

func checkList(t *testing.T, store storage.Objects, prefix string, want []string) {
	t.Helper()
	var got []string
	for o, err := range store.List(t.Context(), prefix) {
		if err != nil {
			t.Errorf("List(%q): %v", prefix, err)
			return
		}
		got = append(got, o.Key)
	}
	if !slices.Equal(got, want) {
		const show = 20
		t.Errorf("List(%q) gave %d keys %.600q, want %d %.600q", prefix, len(got), got[:min(show, len(got))], len(want), want[:min(show, len(want))])
	}
}

// equal leaves fractions of a second aside: some servers tell them in one
// answer and not in the other.
func equal(a, b storage.Object) bool {
	return a.Key == b.Key && a.Size == b.Size && a.ETag == b.ETag && a.ModTime.Truncate(time.Second).Equal(b.ModTime.Truncate(time.Second))
}
