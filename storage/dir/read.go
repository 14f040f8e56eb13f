package dir

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"

	"dsvault/storage"
	"dsvault/vault/fault"
)

// Open opens the object's file. Once open it stays the same file, whatever is
// put or deleted.
func (s *Store) Open(ctx context.Context, key string, offset, length int64, etag string) (io.ReadCloser, error) {
	const op = "dir.Open"
	if err := begin(ctx, op, key); err != nil {
		return nil, err
	}
	f, info, err := s.open(key)
	if err != nil {
		return nil, s.absentOr(op, err)
	}
	size := info.Size()
	if length == -1 && 0 <= offset && offset <= size {
		length = size - offset
	}
	switch {
	case etag != "" && object(key, info).ETag != etag:
		err = storage.ErrChanged
	case offset < 0 || length < 0 || offset > size || length > size-offset:
		err = fault.New(fault.Invalid, op, "the range is not within the object")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &reader{ctx: ctx, f: f, at: offset, left: length, etag: etag}, nil
}

// open opens the file of an object. It follows no link and waits for no pipe.
func (s *Store) open(key string) (*os.File, fs.FileInfo, error) {
	const tries = 10 // a Put may replace the file between the two calls
	for range tries {
		named, err := s.lstat(key)
		if err != nil {
			return nil, nil, err
		}
		f, err := s.objects.Open(key)
		if err != nil {
			return nil, nil, err
		}
		opened, err := f.Stat()
		if err == nil && os.SameFile(named, opened) {
			return f, opened, nil
		}
		f.Close()
	}
	return nil, nil, errors.New("the file is not the one that its name stands for")
}

// reader reads one range of one file.
type reader struct {
	ctx      context.Context
	f        *os.File
	at, left int64
	etag     string // "" if not pinned
}

func (r *reader) Read(b []byte) (int, error) {
	const op = "dir.Read"
	if err := r.ctx.Err(); err != nil {
		return 0, fail(op, err)
	}
	if r.left == 0 {
		return 0, r.end()
	}
	b = b[:min(int64(len(b)), r.left)]
	n, err := r.f.ReadAt(b, r.at)
	r.at, r.left = r.at+int64(n), r.left-int64(n)
	switch {
	case n == len(b):
		return n, nil
	case err == io.EOF:
		return n, fault.Wrap(fault.Corrupt, op, "the object's file has become shorter", io.ErrUnexpectedEOF)
	default:
		return n, fail(op, err)
	}
}

// end is io.EOF, unless the file was written to while a pinned read ran.
func (r *reader) end() error {
	if r.etag == "" {
		return io.EOF
	}
	info, err := r.f.Stat()
	if err != nil {
		return fail("dir.Read", err)
	}
	if object("", info).ETag != r.etag {
		return storage.ErrChanged
	}
	return io.EOF
}

func (r *reader) Close() error { return r.f.Close() }

// List walks the folders; it holds the names of one folder per level.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[storage.Object, error] {
	return s.ListAfter(ctx, prefix, "")
}

// ListAfter does not enter folders whose keys all come before.
func (s *Store) ListAfter(ctx context.Context, prefix, after string) iter.Seq2[storage.Object, error] {
	const op = "dir.List"
	return func(yield func(storage.Object, error) bool) {
		if !storage.KeyPrefix(prefix) {
			yield(storage.Object{}, fault.New(fault.Invalid, op, "no object key has this prefix"))
			return
		}
		folder, start := path.Split(prefix)
		folder = strings.TrimSuffix(folder, "/")
		if prefix != start && !storage.ValidKey(folder) {
			return // such as "../": no key begins with it
		}
		w := walk{ctx: ctx, s: s, after: after, yield: yield}
		if err := w.folder(folder, start); err != nil && err != errStop {
			yield(storage.Object{}, fail(op, err))
		}
	}
}

// errStop: the caller of List has seen enough.
var errStop = errors.New("stop")

type walk struct {
	ctx   context.Context
	s     *Store
	after string // keys up to this one are left out
	yield func(storage.Object, error) bool
}

// folder yields the objects below folder whose next segment begins with start.
func (w *walk) folder(folder, start string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	names, err := w.names(folder, start)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		key := path.Join(folder, name)
		if strings.HasSuffix(name, "/") {
			below := key + "/" // how the keys in it begin
			if storage.ValidKey(key) && (below > w.after || strings.HasPrefix(w.after, below)) {
				err = w.folder(key, "")
			}
			if err != nil {
				return err
			}
			continue
		}
		if key <= w.after {
			continue
		}
		info, err := w.s.lstat(key)
		if absent(err) || !storage.ValidKey(key) {
			continue // deleted meanwhile, or not ours
		}
		if err != nil {
			return err
		}
		if !w.yield(object(key, info), nil) {
			return errStop
		}
	}
	return nil
}

// names lists folder ("" is the top) in the order of the keys below it: "a-b",
// "a.b", "a/", "a0". The name of a folder ends with a slash.
func (w *walk) names(folder, start string) ([]string, error) {
	f, err := w.s.objects.Open(path.Join(".", folder))
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if absent(err) { // removed while it was open, or a file
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		switch name := e.Name(); {
		case !strings.HasPrefix(name, start):
		case e.IsDir():
			names = append(names, name+"/")
		case e.Type().IsRegular():
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, err
}
