package dir

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"

	"dsvault/storage"
	"dsvault/vault/fault"
)

// Put writes a temporary file, syncs it, renames it into place, and syncs the
// folders above it. If the last step fails the object may be there, though it
// was not acknowledged.
func (s *Store) Put(ctx context.Context, key string, r io.Reader, size int64) (storage.Object, error) {
	const op = "dir.Put"
	if err := begin(ctx, op, key); err != nil {
		return storage.Object{}, err
	}
	if size < -1 {
		return storage.Object{}, fault.New(fault.Invalid, op, "the size is negative")
	}
	name := "tmp/" + rand.Text()
	defer s.run(name)()
	info, err := s.write(ctx, name, r, size)
	if err == nil {
		err = s.publish(name, key)
	}
	if err != nil {
		_ = s.root.Remove(name) // else Sweep does it
		return storage.Object{}, fail(op, err)
	}
	return object(key, info), nil
}

// run keeps Sweep from the temporary file name until its result is called.
func (s *Store) run(name string) (ended func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running[name] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.running, name)
	}
}

func (s *Store) isRunning(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.running[name]
	return ok
}

// write makes the temporary file name and returns once its bytes are durable.
func (s *Store) write(ctx context.Context, name string, r io.Reader, size int64) (info fs.FileInfo, err error) {
	f, err := s.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := copyExactly(f, &source{ctx: ctx, r: r}, size); err != nil {
		return nil, err
	}
	stamp := s.stamp()
	if err := s.root.Chtimes(name, stamp, stamp); err != nil {
		return nil, err
	}
	if err := s.sync(f); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return f.Stat()
}

// copyExactly copies size bytes, or with size -1 all, and checks that the
// source then ends.
func copyExactly(w io.Writer, src *source, size int64) error {
	if size < 0 {
		_, err := io.Copy(w, src)
		return err
	}
	n, err := io.Copy(w, io.LimitReader(src, size))
	if err != nil {
		return err
	}
	if n < size {
		return fault.Wrap(fault.Invalid, "dir.Put", "the data ended before its announced size", io.ErrUnexpectedEOF)
	}
	switch _, err := io.ReadFull(src, make([]byte, 1)); err {
	case io.EOF:
		return nil
	case nil:
		return fault.New(fault.Invalid, "dir.Put", "the data is longer than its announced size")
	default:
		return err
	}
}

// source marks the errors of the caller's reader as the caller's, and ends with
// the context.
type source struct {
	ctx context.Context
	r   io.Reader
}

func (s *source) Read(b []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(b)
	if err != nil && err != io.EOF {
		err = fault.Wrap(fault.CodeOf(err), "dir.Put", "the data to store could not be read", err)
	}
	return n, err
}

// publish gives a synced temporary file its key.
func (s *Store) publish(name, key string) error {
	const tries = 10 // a Delete may clear away the empty folder in between
	folder := path.Dir(key)
	for try := 1; ; try++ {
		err := s.objects.MkdirAll(folder, 0o700)
		if err == nil {
			err = s.root.Rename(name, path.Join("objects", key))
		}
		if err == nil {
			break
		}
		if clash(err) {
			return fault.Wrap(fault.Conflict, "dir.Put", "one object's key is the folder of another's", err)
		}
		if !errors.Is(err, fs.ErrNotExist) || try == tries {
			return err
		}
	}
	// The object can be seen from here on, and is durable after the last sync.
	// All folders are synced, not only new ones: who made them may not have
	// come to it yet.
	for ; ; folder = path.Dir(folder) {
		if err := s.syncFolder(s.objects, folder); err != nil {
			return err
		}
		if folder == "." {
			return nil
		}
	}
}

// clash reports whether a file is where a folder has to be, or the reverse.
func clash(err error) bool {
	return errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR) || errors.Is(err, fs.ErrExist)
}
