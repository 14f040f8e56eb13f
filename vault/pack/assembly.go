package pack

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// Assembly is what the Unpack calls of one run into a folder share. The parts of
// files that all come in the run are written to their place in the file, which
// spares joining them later. A file is a hidden one until all of its parts have
// been checked. Who uses it unpacks the parts of a file that may be at once in the
// order of their numbers. It is safe for concurrent use.
type Assembly struct {
	dir   string
	swept atomic.Bool // the folder has no leftovers of runs that died before

	joining sync.Mutex // held while a record of parts is worked on
	memo    joinMemo   // guarded by joining

	mu    sync.Mutex
	files map[string]*assembled // guarded by mu
}

// NewAssembly is for one run of Unpack calls into dir; Close ends it.
func NewAssembly(dir string) *Assembly {
	return &Assembly{dir: dir, files: make(map[string]*assembled)}
}

// maxAssembled is how many files may be in the making: each has open files.
const maxAssembled = 16

// assembled is one file. Its fields are guarded by the Assembly's mutex, but for
// those that do not change.
type assembled struct {
	w    *workspace // of its own
	f    *os.File
	like dataset.Manifest // the first part that came
	opts UnpackOptions

	known    chan struct{} // closed when partSize is
	partSize int64         // of all but the last
	have     map[int]dataset.Manifest
	writing  map[int]bool
	done     bool
}

// errNotHere says that a part is joined in the ordinary way.
var errNotHere = errors.New("pack: not assembled here")

// unpack takes a part, or gives errNotHere.
func (a *Assembly) unpack(ctx context.Context, r io.Reader, m dataset.Manifest, opts UnpackOptions) (UnpackResult, error) {
	const op = "pack.Unpack"
	file, err := a.begin(ctx, m, opts)
	if err != nil {
		return UnpackResult{}, err
	}
	offset, err := file.offset(ctx, m, opts.Earlier)
	if err == nil {
		in := newHashReader(ctx, r, m.Size)
		_, err = in.WriteTo(io.NewOffsetWriter(file.f, offset))
		if failed := in.failed(); failed != nil {
			err = sourceFault(failed)
		} else if err != nil {
			err = localFault(op, "cannot write "+quote(m.Name), err)
		} else {
			err = verify(in, m)
		}
		in.close()
	}
	missing := a.end(file, m, err == nil)
	res := UnpackResult{Files: 1, Bytes: m.Size, Missing: missing}
	if err == nil && missing == 0 {
		res.Name = m.Name
		err = file.finish(ctx)
	}
	if err != nil {
		return UnpackResult{}, err
	}
	return res, nil
}

// begin finds the file that m is a part of, and claims the part.
func (a *Assembly) begin(ctx context.Context, m dataset.Manifest, opts UnpackOptions) (*assembled, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	file := a.files[m.Name]
	if file == nil && len(a.files) >= maxAssembled {
		return nil, errNotHere
	}
	if file == nil {
		var err error
		if file, err = a.open(ctx, m, opts); err != nil {
			return nil, err
		}
		a.files[m.Name] = file
	}
	l := file.like
	before, again := file.have[m.Part] // the file could not be finished then
	switch {
	case file.f == nil:
		return nil, errNotHere
	case m.Parts != l.Parts || m.Mode != l.Mode || m.ModTime != l.ModTime:
		return nil, fault.New(fault.Conflict, "pack.Unpack", "parts of two versions of "+quote(m.Name)+" came").WithHint("pull again")
	case file.writing[m.Part], again && !bytes.Equal(before.SHA256, m.SHA256):
		return nil, fault.New(fault.Conflict, "pack.Unpack", "a part of "+quote(m.Name)+" came twice").WithHint("pull again")
	case m.Part == m.Parts-1:
	case file.partSize < 0:
		file.partSize = m.Size
		close(file.known)
	case file.partSize != m.Size:
		return nil, fault.New(fault.Invalid, "pack.Unpack", "the parts of "+quote(m.Name)+" do not fit each other").
			WithHint("pull them one by one with --shard")
	}
	delete(file.have, m.Part)
	file.writing[m.Part] = true
	return file, nil
}

// open makes the hidden file, unless parts or the file itself are there already:
// what is to become of these the ordinary way knows.
func (a *Assembly) open(ctx context.Context, m dataset.Manifest, opts UnpackOptions) (*assembled, error) {
	opts.Assembly = nil // salvage does without
	file := &assembled{like: m, opts: opts, known: make(chan struct{}), partSize: -1,
		have: make(map[int]dataset.Manifest), writing: make(map[int]bool)}
	w, err := openWorkspace(ctx, a.dir, a)
	if err != nil {
		return nil, err
	}
	j := newJoin(w, m, !opts.NoSync)
	for _, name := range []string{m.Name, j.hidden("parts")} {
		if _, err := w.root.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			w.close()
			return file, nil
		}
	}
	f, err := w.stage.OpenFile(stagedFile, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		w.close()
		return nil, localFault("pack.Unpack", "cannot make a file", err)
	}
	file.w, file.f = w, f
	return file, nil
}

// offset is where the part begins. The last one may have to wait until another
// has said how large they are. If none of them comes, it is not for the hidden file.
func (f *assembled) offset(ctx context.Context, m dataset.Manifest, earlier <-chan struct{}) (int64, error) {
	if m.Parts == 1 {
		return 0, nil
	}
	select {
	case <-f.known:
	case <-earlier:
		select {
		case <-f.known:
		default:
			return 0, errNotHere
		}
	case <-ctx.Done():
		return 0, canceled("pack.Unpack", ctx.Err())
	}
	return int64(m.Part) * f.partSize, nil
}

// end gives a part back, and says how many are missing now.
func (a *Assembly) end(file *assembled, m dataset.Manifest, good bool) (missing int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(file.writing, m.Part)
	if good {
		file.have[m.Part] = m
	}
	file.done = len(file.have) == m.Parts
	return m.Parts - len(file.have)
}

// finish gives the whole file its name.
func (f *assembled) finish(ctx context.Context) error {
	const op = "pack.Unpack"
	err := f.f.Chmod(os.FileMode(f.like.Mode))
	if err == nil {
		err = f.w.stage.Chtimes(stagedFile, time.Time{}, time.Unix(0, f.like.ModTime))
	}
	if err == nil && !f.opts.NoSync {
		err = f.f.Sync()
	}
	if err != nil {
		return localFault(op, "cannot write "+quote(f.like.Name), err)
	}
	unlock, err := lockFolder(ctx, f.w.root)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err = f.w.placeFile(ctx, f.like, f.like.Name, f.opts); err != nil {
		_ = f.w.stage.Rename(f.like.Name, stagedFile) // for another try
	}
	return err
}

// Close leaves the good parts of files that did not become whole as parts beside
// them, for a later run, unless ctx has ended.
func (a *Assembly) Close(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var err error
	for _, file := range a.files {
		if file.f == nil {
			continue
		}
		if !file.done {
			err = cmp.Or(err, file.salvage(ctx, a.dir))
		}
		file.f.Close()
		file.w.close()
	}
	a.files = nil
	return err
}

func (f *assembled) salvage(ctx context.Context, dir string) error {
	for n, m := range f.have {
		if ctx.Err() != nil {
			return nil
		}
		if _, err := Unpack(ctx, dir, io.NewSectionReader(f.f, int64(n)*f.partSize, m.Size), m, f.opts); err != nil {
			return err
		}
	}
	return nil
}
