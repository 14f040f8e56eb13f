package pack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"

	"dsvault/vault/fault"
)

// lister walks one folder without following links.
type lister struct {
	ctx      context.Context
	opts     Options
	names    *nameSet
	members  []member
	folders  map[string]member // those that hold members
	special  int               // entries that are neither file nor folder
	example  string            // the first of them, in order of the walk
	exampleK string
}

// list gives the folder's regular files and empty folders, the files of one
// sample together, and the folders that hold them.
func list(ctx context.Context, folder string, opts Options) ([]member, map[string]member, error) {
	const op = "pack.NewPlan"
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, nil, localFault(op, "cannot open the folder "+quote(folder), err)
	}
	defer root.Close()
	l := &lister{ctx: ctx, opts: opts, names: newNameSet(), folders: map[string]member{}}
	if err := l.walk(root, ""); err != nil {
		return nil, nil, err
	}
	if l.special > 0 && !opts.SkipSpecial {
		return nil, nil, fault.New(fault.Invalid, op, fmt.Sprintf("%s is a %s; the folder has %d entries that are neither files nor folders",
			quote(l.example), l.exampleK, l.special)).
			WithHint("remove them, replace links by the files they point to, or ask to skip them")
	}
	slices.SortFunc(l.members, bySample)
	return l.members, l.folders, nil
}

// walk lists dir, whose path below the first root is prefix ("" for itself).
func (l *lister) walk(dir *os.Root, prefix string) error {
	const op = "pack.NewPlan"
	if err := l.ctx.Err(); err != nil {
		return canceled(op, err)
	}
	entries, err := readDir(dir, ".")
	if err != nil {
		return localFault(op, "cannot list the folder "+quote(cmp.Or(prefix, ".")), err)
	}
	for _, e := range entries {
		name := path.Join(prefix, e.Name())
		info, err := dir.Lstat(e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			return changed(op, name, err)
		}
		if err != nil {
			return localFault(op, "cannot look at "+quote(name), err)
		}
		switch {
		case info.IsDir():
			err = l.folder(dir, e.Name(), name, info)
		case info.Mode().IsRegular():
			err = l.add(memberOf(name, info))
		default:
			l.skip(name, kindOf(info.Mode()))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// folder lists a folder below dir; one that gives no member becomes one.
func (l *lister) folder(dir *os.Root, base, name string, info fs.FileInfo) error {
	const op = "pack.NewPlan"
	// Checked before descending, so that depth is bounded.
	if err := checkName(name, DefaultLimits()); err != nil {
		return nameFault(op, name, err)
	}
	sub, err := dir.OpenRoot(base)
	if err != nil {
		return localFault(op, "cannot open the folder "+quote(name), err)
	}
	defer sub.Close()
	before := len(l.members)
	if err := l.walk(sub, name); err != nil {
		return err
	}
	m := memberOf(name, info)
	m.dir, m.size = true, 0
	if len(l.members) > before {
		l.folders[name] = m
		return nil
	}
	return l.add(m)
}

func (l *lister) add(m member) error {
	err := checkName(m.name, DefaultLimits())
	if err == nil {
		err = l.names.add(m.name, m.dir)
	}
	if err != nil {
		return nameFault("pack.NewPlan", m.name, err)
	}
	m.key = sampleKey(m)
	l.members = append(l.members, m)
	return nil
}

func (l *lister) skip(name, kind string) {
	if l.special == 0 {
		l.example, l.exampleK = name, kind
	}
	l.special++
	if l.opts.SkipSpecial && l.opts.Skipped != nil {
		l.opts.Skipped(name, kind)
	}
}

func memberOf(name string, info fs.FileInfo) member {
	return member{
		name:  name,
		mode:  uint32(info.Mode().Perm()),
		size:  info.Size(),
		mtime: info.ModTime().UnixNano(),
		id:    idOf(info),
	}
}

// readDir gives the entries of a folder below root, sorted by name.
func readDir(root *os.Root, name string) ([]fs.DirEntry, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	return entries, err
}

func kindOf(mode fs.FileMode) string {
	switch mode.Type() {
	case fs.ModeSymlink:
		return "symbolic link"
	case fs.ModeNamedPipe:
		return "FIFO"
	case fs.ModeSocket:
		return "socket"
	case fs.ModeDir:
		return "folder"
	case 0:
		return "file"
	default:
		return "device or other special file"
	}
}
