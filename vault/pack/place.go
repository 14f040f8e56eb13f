package pack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

const (
	stagePrefix = reserved + "partial-"
	stagedFile  = reserved + "data" // a file or part, in the stage
)

// workspace is a target folder with a stage in it: a folder of our own, on the
// same file system, that nothing shows up from before it has been checked. The
// lock on the stage tells a live one from a leftover; it ends with the process.
type workspace struct {
	root  *os.Root
	name  string // of the stage, below root
	stage *os.Root
	lock  *os.File
}

// openWorkspace makes a stage, and removes leftovers of runs that died unless the
// run of a has done so already.
func openWorkspace(ctx context.Context, dir string, a *Assembly) (*workspace, error) {
	const op = "pack.Unpack"
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, localFault(op, "cannot open the folder "+quote(dir), err)
	}
	unlock, err := lockFolder(ctx, root)
	if err != nil {
		root.Close()
		return nil, err
	}
	defer unlock()
	w := &workspace{root: root}
	if a == nil || !a.swept.Load() {
		err = sweep(w.root)
	}
	if err == nil {
		err = w.makeStage()
	}
	if err != nil {
		w.close()
		return nil, localFault(op, "cannot write to the folder "+quote(dir), err)
	}
	if a != nil {
		a.swept.Store(true)
	}
	return w, nil
}

// Scratch makes a folder inside dir for what is not whole yet, and gives its
// path. done removes it with all that is in it; what a killed process has left
// goes with the next Scratch or Unpack in the same dir.
//
// Errors: Unavailable when the disk fails; Canceled.
func Scratch(ctx context.Context, dir string) (path string, done func(), err error) {
	w, err := openWorkspace(ctx, dir, nil)
	if err != nil {
		return "", nil, err
	}
	return filepath.Join(dir, w.name), w.close, nil
}

func (w *workspace) makeStage() error {
	for i := 0; ; i++ {
		name := fmt.Sprint(stagePrefix, i)
		err := w.root.Mkdir(name, 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		w.name = name
		break
	}
	var err error
	if w.stage, err = w.root.OpenRoot(w.name); err != nil {
		return err
	}
	if w.lock, err = w.root.Open(w.name); err != nil {
		return err
	}
	// Where there are no locks nobody sweeps, either.
	_, _ = tryLock(w.lock)
	return nil
}

// sweep removes the stages that nobody holds a lock on.
func sweep(root *os.Root) error {
	entries, err := readDir(root, ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), stagePrefix) {
			continue
		}
		f, err := root.Open(e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // its owner has just removed it
		}
		if err != nil {
			return err
		}
		dead, _ := tryLock(f)
		if dead {
			err = root.RemoveAll(e.Name())
		}
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// close removes the stage with all that is still in it.
func (w *workspace) close() {
	if w.stage != nil {
		w.stage.Close()
	}
	if w.name != "" {
		_ = w.root.RemoveAll(w.name) // what stays is swept by the next run
	}
	if w.lock != nil {
		w.lock.Close()
	}
	w.root.Close()
}

// lockFolder keeps other runs from changing names in the folder. Where there
// are no locks it only looks as if: then one run at a time is the rule.
func lockFolder(ctx context.Context, root *os.Root) (unlock func(), err error) {
	const op, pause = "pack.Unpack", 10 * time.Millisecond
	f, err := root.Open(".")
	if err != nil {
		return nil, localFault(op, "cannot open the folder", err)
	}
	for {
		if err := ctx.Err(); err != nil {
			f.Close()
			return nil, canceled(op, err)
		}
		if ok, err := tryLock(f); ok || err != nil {
			return func() { f.Close() }, nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// placeTar moves the stage's tree to its place: all of it can go, or none.
func (w *workspace) placeTar(ctx context.Context, t *untar, opts UnpackOptions) (UnpackResult, error) {
	p := placer{ctx: ctx, w: w, overwrite: opts.Overwrite}
	lock, err := t.unlock(w.root)
	if err == nil {
		err = p.look(".")
	}
	if err == nil {
		err = p.move()
	}
	if err != nil {
		lock()
		return UnpackResult{}, err
	}
	if err := t.finish(w.root); err != nil {
		return UnpackResult{}, err
	}
	return UnpackResult{Files: t.files, Same: p.same, Bytes: t.bytes}, nil
}

// placeFile moves the staged file to its name.
func (w *workspace) placeFile(ctx context.Context, m dataset.Manifest, name string, opts UnpackOptions) (UnpackResult, error) {
	err := w.stage.MkdirAll(path.Dir(name), 0o755)
	if err == nil {
		err = w.stage.Rename(stagedFile, name)
	}
	if err != nil {
		return UnpackResult{}, localFault("pack.Unpack", "cannot write "+quote(name), err)
	}
	p := placer{ctx: ctx, w: w, overwrite: opts.Overwrite}
	if err := p.look("."); err != nil {
		return UnpackResult{}, err
	}
	if err := p.move(); err != nil {
		return UnpackResult{}, err
	}
	return UnpackResult{Files: 1, Same: p.same, Bytes: m.Size, Name: name}, nil
}

// placer moves what is in the stage to the same path in the folder.
type placer struct {
	ctx       context.Context
	w         *workspace
	overwrite bool
	moves     []string // files, and whole subtrees whose top is not there yet
	same      int
}

// look decides what to do with everything below the staged folder rel.
func (p *placer) look(rel string) error {
	const op = "pack.Unpack"
	entries, err := readDir(p.w.stage, rel)
	if err != nil {
		return localFault(op, "cannot read back "+quote(rel), err)
	}
	for _, e := range entries {
		name := path.Join(rel, e.Name())
		have, err := p.w.root.Lstat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			p.moves, err = append(p.moves, name), nil
		case err != nil:
			return localFault(op, "cannot look at "+quote(name), err)
		case e.IsDir() && have.IsDir():
			err = p.look(name)
		case !e.IsDir() && have.Mode().IsRegular():
			err = p.compare(name)
		default:
			err = inTheWay(name, "a "+kindOf(have.Mode()))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *placer) compare(name string) error {
	same, err := sameFiles(p.ctx, p.w.root, path.Join(p.w.name, name), name)
	switch {
	case err != nil && !p.overwrite:
		return localFault("pack.Unpack", "cannot compare "+quote(name), err)
	case same:
		p.same++
	case p.overwrite:
		p.moves = append(p.moves, name)
	default:
		return inTheWay(name, "another file")
	}
	return nil
}

func (p *placer) move() error {
	if err := p.ctx.Err(); err != nil {
		return canceled("pack.Unpack", err)
	}
	for _, name := range p.moves {
		if err := p.w.root.Rename(path.Join(p.w.name, name), name); err != nil {
			return localFault("pack.Unpack", "cannot write "+quote(name), err)
		}
	}
	return nil
}

func inTheWay(name, what string) error {
	return fault.New(fault.Conflict, "pack.Unpack", fmt.Sprintf("%s of the name %s is in the way", what, quote(name))).
		WithHint("unpack into an empty folder, move it away, or ask to overwrite")
}

// sameFiles compares the bytes of two files below root.
func sameFiles(ctx context.Context, root *os.Root, a, b string) (bool, error) {
	fa, err := root.Open(a)
	if err != nil {
		return false, err
	}
	defer fa.Close()
	ia, err := fa.Stat()
	if err != nil {
		return false, err
	}
	ib, err := root.Lstat(b)
	if err != nil || ia.Size() != ib.Size() {
		return false, err
	}
	return sameRange(ctx, root, fa, b, 0, ia.Size())
}

// sameRange compares size bytes of a with those of the file name from offset.
func sameRange(ctx context.Context, root *os.Root, a io.Reader, name string, offset, size int64) (bool, error) {
	b, err := root.OpenFile(name, readFlags, 0)
	if err != nil {
		return false, err
	}
	defer b.Close()
	section := io.NewSectionReader(b, offset, size)
	bufA, bufB := chunkPool.Get().(*[chunkSize]byte), chunkPool.Get().(*[chunkSize]byte)
	defer chunkPool.Put(bufA)
	defer chunkPool.Put(bufB)
	for size > 0 {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n := min(size, chunkSize)
		if _, err := io.ReadFull(a, bufA[:n]); err != nil {
			return false, err
		}
		if _, err := io.ReadFull(section, bufB[:n]); err != nil {
			return false, err
		}
		if !bytes.Equal(bufA[:n], bufB[:n]) {
			return false, nil
		}
		size -= n
	}
	return true, nil
}
