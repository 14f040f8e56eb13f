package pack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"dsvault/vault/fault"
)

// NewFilesPlan packs files and folders from anywhere as one tar shard, at most
// opts.ShardSize bytes long. Each lies in it under its own base name; what is
// called name is the whole.
//
// Errors: those of NewPlan; TooLarge when one shard does not hold it all.
func NewFilesPlan(ctx context.Context, name string, paths []string, opts Options) (*Plan, error) {
	const op = "pack.NewFilesPlan"
	p := &Plan{name: name, folder: true, opts: opts, parents: map[string]string{}}
	l := &lister{ctx: ctx, opts: opts, names: newNameSet(), folders: map[string]member{}}
	for _, given := range paths {
		absolute, err := filepath.Abs(given)
		if err != nil {
			return nil, localFault(op, "cannot look at "+quote(given), err)
		}
		base := filepath.Base(absolute)
		if p.parents[base] != "" {
			return nil, fault.New(fault.Invalid, op, "two of them are called "+quote(base)).WithHint("rename one, or put them into a folder")
		}
		p.parents[base] = filepath.Dir(absolute)
		if err := l.addPath(p.parents[base], base, given); err != nil {
			return nil, err
		}
	}
	if l.special > 0 && !opts.SkipSpecial {
		return nil, fault.New(fault.Invalid, op, fmt.Sprintf("%s is a %s", quote(l.example), l.exampleK)).WithHint("give files and folders")
	}
	if len(l.members) == 0 {
		return nil, fault.New(fault.Invalid, op, "there are no files in what was named").WithHint("name the files to send")
	}
	slices.SortFunc(l.members, bySample)
	p.members, p.folders = l.members, l.folders
	if err := p.cutSamples(opts, nil); err != nil {
		return nil, err
	}
	if p.Shards() > 1 {
		return nil, fault.New(fault.TooLarge, op, fmt.Sprintf("these are %d bytes together, and at most %d are taken at once", p.total, opts.ShardSize)).
			WithHint("leave out what need not go along")
	}
	return p, nil
}

// addPath lists what is called base in the folder parent.
func (l *lister) addPath(parent, base, given string) error {
	const op = "pack.NewFilesPlan"
	root, err := os.OpenRoot(parent)
	if err != nil {
		return localFault(op, "cannot open the folder "+quote(parent), err)
	}
	defer root.Close()
	info, err := root.Lstat(base)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.Wrap(fault.NotFound, op, "there is no file or folder "+quote(given), err).
			WithHint("check the path; it is on this machine")
	case err != nil:
		return localFault(op, "cannot look at "+quote(given), err)
	case info.IsDir():
		return l.folder(root, base, base, info)
	case info.Mode().IsRegular():
		return l.add(memberOf(base, info))
	}
	l.skip(base, kindOf(info.Mode()))
	return nil
}

// source opens the folders that members lie below, one at a time.
type source struct {
	plan   *Plan
	path   string
	root   *os.Root
	folder subfolder
}

// open gives the folder of the member name, until the next call.
func (s *source) open(name string) (*os.Root, error) {
	below := s.plan.path
	if s.plan.parents != nil {
		first, _, _ := strings.Cut(name, "/")
		below = s.plan.parents[first]
	}
	if s.root == nil || s.path != below {
		s.close()
		root, err := os.OpenRoot(below)
		if err != nil {
			return nil, readFault(below, err)
		}
		s.path, s.root, s.folder = below, root, subfolder{root: root}
	}
	dir, err := s.folder.open(path.Dir(name))
	if err != nil {
		return nil, readFault(name, err)
	}
	return dir, nil
}

func (s *source) close() {
	if s.root != nil {
		s.folder.close()
		s.root.Close()
		s.root = nil
	}
}
