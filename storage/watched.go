package storage

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"dsvault/vault/fault"
)

// Power finds an optional power of an object store, such as Sweeper: in the
// store itself, or in the one that it wraps.
func Power[T any](objects Objects) (power T, ok bool) {
	for objects != nil {
		if power, ok = objects.(T); ok {
			return power, true
		}
		w, wraps := objects.(interface{ Unwrap() Objects })
		if !wraps {
			break
		}
		objects = w.Unwrap()
	}
	return power, false
}

// Watch returns a store that does what objects does, and tells failed of each
// operation of it that failed: an error's code, or "missing" or "changed" for
// an object that is not as it was. What the caller's context, arguments or
// reader are to blame for is not told. Optional powers are found with Power.
func Watch(objects Objects, failed func(code string)) Objects {
	return &watched{objects: objects, failed: failed}
}

type watched struct {
	objects Objects
	failed  func(code string)
}

// Unwrap gives the store that is watched.
func (w *watched) Unwrap() Objects { return w.objects }

// tell passes err on, and tells of it if it is the store's.
func (w *watched) tell(err error) error {
	switch {
	case err == nil:
	case errors.Is(err, ErrNoObject):
		w.failed("missing")
	case errors.Is(err, ErrChanged):
		w.failed("changed")
	default:
		if code := fault.CodeOf(err); code != fault.Canceled && code != fault.Invalid {
			w.failed(string(code))
		}
	}
	return err
}

// Put implements Objects.
func (w *watched) Put(ctx context.Context, key string, r io.Reader, size int64) (Object, error) {
	source := &blamed{r: r}
	o, err := w.objects.Put(ctx, key, source, size)
	if !source.failed {
		w.tell(err)
	}
	return o, err
}

// blamed remembers whether a caller's reader failed.
type blamed struct {
	r      io.Reader
	failed bool
}

func (b *blamed) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.failed = b.failed || err != nil && err != io.EOF
	return n, err
}

// Open implements Objects.
func (w *watched) Open(ctx context.Context, key string, offset, length int64, etag string) (io.ReadCloser, error) {
	r, err := w.objects.Open(ctx, key, offset, length, etag)
	if err != nil {
		return nil, w.tell(err)
	}
	return &watchedReader{r, w}, nil
}

type watchedReader struct {
	io.ReadCloser
	w *watched
}

func (r *watchedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		r.w.tell(err)
	}
	return n, err
}

// Stat implements Objects. That an object is not there is an answer.
func (w *watched) Stat(ctx context.Context, key string) (Object, error) {
	o, err := w.objects.Stat(ctx, key)
	if !errors.Is(err, ErrNoObject) {
		w.tell(err)
	}
	return o, err
}

// List implements Objects.
func (w *watched) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return w.each(w.objects.List(ctx, prefix))
}

// ListAfter implements Pager.
func (w *watched) ListAfter(ctx context.Context, prefix, after string) iter.Seq2[Object, error] {
	return w.each(ListAfter(ctx, w.objects, prefix, after))
}

func (w *watched) each(list iter.Seq2[Object, error]) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		for o, err := range list {
			if !yield(o, w.tell(err)) {
				return
			}
		}
	}
}

// Delete implements Objects.
func (w *watched) Delete(ctx context.Context, key string) error {
	return w.tell(w.objects.Delete(ctx, key))
}

// Sweep implements Sweeper, for stores that have something to sweep.
func (w *watched) Sweep(ctx context.Context, cutoff time.Time) (int, error) {
	s, ok := Power[Sweeper](w.objects)
	if !ok {
		return 0, nil
	}
	n, err := s.Sweep(ctx, cutoff)
	return n, w.tell(err)
}
