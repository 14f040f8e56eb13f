package pack

import (
	"archive/tar"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"dsvault/vault/fault"
)

// untar unpacks one archive into an empty folder that nobody else uses. It
// takes what Plan.Write makes and little else: files and folders, no links, no
// devices, no sparse files, no owners.
type untar struct {
	stage  *os.Root
	names  *nameSet
	limits Limits
	left   int64 // bytes that files may still have
	files  int
	bytes  int64
	folder subfolder
	// Modes of folders come last: a folder that forbids writing could not be
	// filled, nor moved.
	folders []member
	buf     []byte
}

// The extended header records that Plan.Write uses.
var paxKnown = []string{"path", "mtime", "size"}

// run unpacks an archive with the given number of regular files.
func (t *untar) run(in *hashReader, files int) error {
	t.folder.root = t.stage
	defer t.folder.close()
	t.buf = make([]byte, chunkSize)
	for tr := tar.NewReader(in); ; {
		h, err := tr.Next()
		if failed := in.failed(); failed != nil {
			return sourceFault(failed)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fault.Wrap(fault.Invalid, "pack.Unpack", "the archive cannot be read", err)
		}
		m, err := t.check(h)
		if err != nil {
			return err
		}
		if m.dir {
			t.folders = append(t.folders, m)
			_, err = t.dir(m.name)
		} else {
			err = t.file(m, tr, in)
		}
		if err != nil {
			return err
		}
	}
	if t.files != files {
		return fault.New(fault.Invalid, "pack.Unpack",
			fmt.Sprintf("the archive has %d files and its manifest says %d", t.files, files))
	}
	return nil
}

// check refuses a member that Plan.Write would not make.
func (t *untar) check(h *tar.Header) (member, error) {
	const op = "pack.Unpack"
	m := member{
		name:  h.Name,
		dir:   h.Typeflag == tar.TypeDir,
		mode:  uint32(h.Mode) & 0o777,
		size:  h.Size,
		mtime: h.ModTime.UnixNano(),
	}
	if m.dir {
		m.name = strings.TrimSuffix(m.name, "/")
	}
	refuse := func(why string) (member, error) {
		return member{}, fault.New(fault.Invalid, op, fmt.Sprintf("the archive's member %s is refused: %s", quote(h.Name), why)).
			WithHint("nothing was unpacked; ask the dataset's owner to push it again with dsvault")
	}
	extended := 0
	for key, value := range h.PAXRecords {
		extended += len(key) + len(value)
		if !slices.Contains(paxKnown, key) {
			return refuse("it has the extended record " + quote(key))
		}
	}
	switch {
	case h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir:
		return refuse("it is neither a file nor a folder")
	case h.Format != tar.FormatPAX && h.Format != tar.FormatUSTAR && h.Format != tar.FormatPAX|tar.FormatUSTAR:
		return refuse("its header is in another tar format")
	case h.Linkname != "":
		return refuse("it is a link")
	case h.Mode&^0o777 != 0:
		return refuse("its mode has more than permission bits")
	case !time.Unix(0, m.mtime).Equal(h.ModTime):
		return refuse("its time cannot be")
	case m.size < 0 || m.size > t.left:
		return refuse("it says that it is larger than the shard")
	case extended > t.limits.MaxPAX:
		return member{}, fault.New(fault.TooLarge, op, fmt.Sprintf("an extended header has %d bytes and the limit is %d", extended, t.limits.MaxPAX))
	}
	err := checkName(m.name, t.limits)
	if err == nil {
		err = t.names.add(m.name, m.dir)
	}
	if err != nil {
		return refuse(err.Error())
	}
	if t.names.size() > t.limits.MaxFiles {
		return member{}, fault.New(fault.TooLarge, op, fmt.Sprintf("the archive has more than %d files and folders", t.limits.MaxFiles))
	}
	t.left -= m.size
	return m, nil
}

// dir makes a folder, and those above it, and opens it.
func (t *untar) dir(name string) (*os.Root, error) {
	dir, err := t.folder.open(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err = t.stage.MkdirAll(name, 0o755); err == nil {
			dir, err = t.folder.open(name)
		}
	}
	if err != nil {
		return nil, localFault("pack.Unpack", "cannot make the folder "+quote(name), err)
	}
	return dir, nil
}

func (t *untar) file(m member, tr *tar.Reader, in *hashReader) error {
	const op = "pack.Unpack"
	dir, err := t.dir(path.Dir(m.name))
	if err != nil {
		return err
	}
	base := path.Base(m.name)
	f, err := dir.OpenFile(base, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return localFault(op, "cannot make the file "+quote(m.name), err)
	}
	// Plain Write calls: the file's own ReadFrom would bring its own buffer.
	n, err := io.CopyBuffer(struct{ io.Writer }{f}, tr, t.buf)
	switch {
	case in.failed() != nil:
		err = sourceFault(in.failed())
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = fault.Wrap(fault.Invalid, op, "the archive ends inside "+quote(m.name), err)
	}
	if err == nil && m.mode != 0o600 {
		err = f.Chmod(os.FileMode(m.mode))
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = dir.Chtimes(base, time.Time{}, time.Unix(0, m.mtime))
	}
	if err != nil {
		return localFault(op, "cannot write "+quote(m.name), err)
	}
	t.files++
	t.bytes += n
	return nil
}

// unlock lets the folders of the archive that are there already be written to:
// another shard of the dataset may have given them their modes, and their times,
// which it notes for finish. The function it gives undoes that.
func (t *untar) unlock(root *os.Root) (lock func(), err error) {
	type opened struct {
		name string
		mode os.FileMode
	}
	var changed []opened
	lock = func() {
		for _, o := range slices.Backward(changed) {
			_ = root.Chmod(o.name, o.mode)
		}
	}
	for i, m := range t.folders { // the upper ones come first
		info, err := root.Lstat(m.name)
		if err != nil || !info.IsDir() {
			continue // absent, or for move to stumble over
		}
		if m.mtime == noTime {
			t.folders[i].mtime = info.ModTime().UnixNano()
		}
		if info.Mode()&0o700 == 0o700 {
			continue
		}
		if err := root.Chmod(m.name, info.Mode().Perm()|0o700); err != nil {
			return lock, localFault("pack.Unpack", "cannot write to the folder "+quote(m.name), err)
		}
		changed = append(changed, opened{m.name, info.Mode().Perm()})
	}
	return lock, nil
}

// finish gives the folders of the archive, now below root, their modes and
// times, the deepest first.
func (t *untar) finish(root *os.Root) error {
	slices.SortFunc(t.folders, func(a, b member) int {
		return cmp.Or(-cmp.Compare(strings.Count(a.name, "/"), strings.Count(b.name, "/")), cmp.Compare(a.name, b.name))
	})
	for _, m := range t.folders {
		err := root.Chmod(m.name, os.FileMode(m.mode))
		if err == nil && m.mtime != noTime {
			err = root.Chtimes(m.name, time.Time{}, time.Unix(0, m.mtime))
		}
		if err != nil {
			return localFault("pack.Unpack", "cannot set the mode of "+quote(m.name), err)
		}
	}
	return nil
}
