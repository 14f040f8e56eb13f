// Package dir keeps objects as files below one local folder. Put returns after
// the file and the folders that lead to it have been synced, so that what was
// acknowledged survives a crash of the machine.
//
// Below the folder, objects/KEY is the object, byte for byte, and tmp holds
// what is being written. Both have to be on one file system. The folder may be
// copied by any tool that keeps file times to the nanosecond (cp -a, rsync -a);
// they are part of the ETags.
package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"dsvault/storage"
	"dsvault/vault/fault"
)

// Store is a storage.Objects, Pager, Sweeper and Describer on a local folder.
type Store struct {
	path    string
	root    *os.Root // the whole
	objects *os.Root
	now     func() time.Time
	sync    func(*os.File) error

	mu      sync.Mutex
	last    time.Time           // the last stamp handed out
	running map[string]struct{} // the temporary files of Puts that run
}

var (
	_ storage.Objects   = (*Store)(nil)
	_ storage.Pager     = (*Store)(nil)
	_ storage.Sweeper   = (*Store)(nil)
	_ storage.Describer = (*Store)(nil)
)

// Open makes the folder with mode 0700 if it is missing. A path that is a
// symbolic link or no folder is fault.Invalid.
func Open(path string) (*Store, error) {
	const op = "dir.Open"
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fail(op, err)
	}
	if err := makeRoot(path); err != nil {
		return nil, fail(op, err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, fail(op, err)
	}
	if !info.IsDir() {
		return nil, fault.New(fault.Invalid, op, "the object folder "+path+" is a link or no folder").
			WithHint("Name a real folder, or a path where one can be made.")
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fail(op, err)
	}
	s := &Store{path: path, root: root, now: time.Now, sync: (*os.File).Sync, running: make(map[string]struct{})}
	if err := s.prepare(info); err != nil {
		root.Close()
		return nil, fail(op, err)
	}
	return s, nil
}

// makeRoot makes path and syncs its parent, so that a new store outlives a crash.
func makeRoot(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}

// prepare makes the two folders, in the folder that info describes.
func (s *Store) prepare(info fs.FileInfo) error {
	if opened, err := s.root.Stat("."); err != nil || !os.SameFile(opened, info) {
		return errors.Join(errors.New("the folder was replaced while it was opened"), err)
	}
	for _, name := range []string{"objects", "tmp"} {
		if err := s.root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if info, err := s.root.Lstat(name); err != nil || !info.IsDir() {
			return errors.Join(fmt.Errorf("%s is not a folder", name), err)
		}
	}
	if err := s.syncFolder(s.root, "."); err != nil {
		return err
	}
	var err error
	s.objects, err = s.root.OpenRoot("objects")
	return err
}

// Close gives the folder back. No operation may be running.
func (s *Store) Close() error { return errors.Join(s.objects.Close(), s.root.Close()) }

// Describe says where the store is.
func (s *Store) Describe() string { return "dir:" + s.path }

// Stat describes one object.
func (s *Store) Stat(ctx context.Context, key string) (storage.Object, error) {
	const op = "dir.Stat"
	if err := begin(ctx, op, key); err != nil {
		return storage.Object{}, err
	}
	info, err := s.lstat(key)
	if err != nil {
		return storage.Object{}, s.absentOr(op, err)
	}
	return object(key, info), nil
}

// Delete removes key, syncs its folder, and clears away folders left empty.
func (s *Store) Delete(ctx context.Context, key string) error {
	const op = "dir.Delete"
	if err := begin(ctx, op, key); err != nil {
		return err
	}
	folder, err := s.objects.Open(path.Dir(key))
	if absent(err) {
		return nil
	} else if err != nil {
		return fail(op, err)
	}
	defer folder.Close()
	switch _, err := s.lstat(key); {
	case err == nil:
		if err := s.objects.Remove(key); err != nil && !absent(err) {
			return fail(op, err)
		}
	case !absent(err):
		return fail(op, err)
	}
	// Also if it was absent: the Delete that removed it may have failed here.
	if err := s.sync(folder); err != nil {
		return fail(op, err)
	}
	for parent := path.Dir(key); parent != "."; parent = path.Dir(parent) {
		if s.objects.Remove(parent) != nil {
			break // not empty, or gone; a folder too many does no harm
		}
	}
	return nil
}

// Sweep removes temporary files that were last written to before cutoff. Those
// of this Store's running Puts stay, whatever the clocks say.
func (s *Store) Sweep(ctx context.Context, cutoff time.Time) (int, error) {
	const op = "dir.Sweep"
	tmp, err := s.root.Open("tmp")
	if err != nil {
		return 0, fail(op, err)
	}
	defer tmp.Close()
	names, err := tmp.Readdirnames(-1)
	if err != nil {
		return 0, fail(op, err)
	}
	removed := 0
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return removed, fail(op, err)
		}
		name = path.Join("tmp", name)
		info, err := s.root.Lstat(name)
		if err == nil && info.ModTime().Before(cutoff) && !s.isRunning(name) {
			if err = s.root.Remove(name); err == nil {
				removed++
			}
		}
		if err != nil && !absent(err) {
			return removed, fail(op, err)
		}
	}
	return removed, nil
}

// lstat describes the file of an object; whatever is no file is no object.
func (s *Store) lstat(key string) (fs.FileInfo, error) {
	info, err := s.objects.Lstat(key)
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "lstat", Path: key, Err: fs.ErrNotExist}
	}
	return info, err
}

// object describes a file. The ETag is its size and its time to the nanosecond:
// Put gives each file a time of its own (stamp), and writing to a file changes
// it. Unlike an inode number it survives a faithful copy, and unlike a hash it
// costs nothing; against forgery, sealed bytes protect themselves.
func object(key string, info fs.FileInfo) storage.Object {
	return storage.Object{
		Key: key, Size: info.Size(), ModTime: info.ModTime(),
		ETag: strconv.FormatInt(info.Size(), 36) + "-" + strconv.FormatInt(info.ModTime().UnixNano(), 36),
	}
}

// stamp returns the time, moved on so that no two files get the same.
func (s *Store) stamp() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if !now.After(s.last) {
		now = s.last.Add(time.Nanosecond)
	}
	s.last = now
	return now
}

func (s *Store) syncFolder(root *os.Root, name string) error {
	folder, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(s.sync(folder), folder.Close())
}

// begin checks what every operation on a key needs.
func begin(ctx context.Context, op, key string) error {
	if !storage.ValidKey(key) {
		return fault.New(fault.Invalid, op, "not a valid object key")
	}
	if err := ctx.Err(); err != nil {
		return fail(op, err)
	}
	return nil
}

// absent reports whether err says that there is no such file: it is missing, or
// its folder is a file.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// absentOr is storage.ErrNoObject if err says that a file is missing while the
// store itself is there.
func (s *Store) absentOr(op string, err error) error {
	if !absent(err) {
		return fail(op, err)
	}
	if _, gone := s.root.Lstat("objects"); gone != nil {
		return fault.Wrap(fault.Unavailable, op, "the object folder is gone", gone).
			WithHint("Mount or restore the object folder, then restart the server.")
	}
	return storage.ErrNoObject
}

// fail classifies what the operating system said.
func fail(op string, err error) error {
	var known *fault.Error
	switch {
	case errors.As(err, &known):
		return err
	case errors.Is(err, context.Canceled):
		return fault.Wrap(fault.Canceled, op, "canceled", err)
	case errors.Is(err, context.DeadlineExceeded):
		return fault.Wrap(fault.Unavailable, op, "the object folder did not answer in time", err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fault.Wrap(fault.Unavailable, op, "the disk of the object folder is full", err).
			WithHint("Free space on the disk that holds the objects, then try again.")
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fault.Wrap(fault.Unavailable, op, "the object folder may not be used", err).
			WithHint("The user that runs the server has to own the object folder and be able to write to it.")
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return fault.Wrap(fault.Unavailable, op, "too many open files", err).
			WithHint("Raise the limit of open files (ulimit -n).")
	default:
		return fault.Wrap(fault.Unavailable, op, "the object folder does not work", err)
	}
}
