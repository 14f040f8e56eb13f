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

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

var zeros [tarEnd]byte

// Write streams shard n to w, exactly Size(n) bytes, and gives its manifest and
// the files in it: those of a tar, also of one that was taken as it is, if it is
// plain and safe. Several shards may be written at once.
//
// Errors: Conflict when a file is no longer as NewPlan saw it; Invalid when one
// cannot be read; an error of w as w gave it; Canceled. After an error the bytes
// that w got are worthless.
func (p *Plan) Write(ctx context.Context, n int, w io.Writer) (dataset.Manifest, []dataset.Member, error) {
	const op = "pack.Write"
	if n < 0 || n >= len(p.shards) {
		return dataset.Manifest{}, nil, fault.New(fault.Invalid, op, fmt.Sprintf("there is no shard %d", n))
	}
	out := newHashWriter(ctx, w)
	defer out.release()
	var members []dataset.Member
	var err error
	switch p.packing {
	case dataset.PackTar:
		members, err = p.writeTar(out, n)
	case dataset.PackSlice:
		if p.isOrder(n) {
			_, err = out.Write(p.sliced.order)
			break
		}
		err = p.writeSlice(out, p.shards[n])
	default:
		members, err = p.writePiece(ctx, out, n)
	}
	if err == nil {
		err = out.flush()
	}
	if err != nil {
		return dataset.Manifest{}, nil, err
	}
	m := p.Manifest(n)
	if out.written != m.Size {
		return dataset.Manifest{}, nil, fault.New(fault.Internal, op,
			fmt.Sprintf("shard %d has %d bytes and was planned with %d", n, out.written, m.Size))
	}
	sums := out.sums()
	m.SHA256 = sums.sum[:]
	for i := range members {
		members[i].SHA256 = sums.members[i][:]
	}
	return m, members, nil
}

func (p *Plan) writeTar(out *hashWriter, n int) ([]dataset.Member, error) {
	from := source{plan: p}
	defer from.close()
	var header bytes.Buffer
	members := make([]dataset.Member, 0, p.shards[n].files)
	for m := range p.entries(p.shards[n]) {
		if err := tarHeader(&header, m); err != nil {
			return nil, fault.Wrap(fault.Internal, "pack.Write", "cannot make a tar header", err)
		}
		if _, err := out.Write(header.Bytes()); err != nil {
			return nil, err
		}
		if m.dir {
			continue
		}
		members = append(members, dataset.Member{Name: m.name, Offset: out.mark(), Size: m.size, Type: mediaTypeOf(m.name)})
		dir, err := from.open(m.name)
		if err != nil {
			return nil, err
		}
		f, err := openBelow(dir, path.Base(m.name), m.name)
		if err != nil {
			return nil, err
		}
		if err := copyMember(out, f, m, 0, m.size); err != nil {
			return nil, err
		}
		out.mark()
		if _, err := out.Write(zeros[:tarPadding(m.size)]); err != nil {
			return nil, err
		}
	}
	_, err := out.Write(zeros[:])
	return members, err
}

func (p *Plan) writePiece(ctx context.Context, out *hashWriter, n int) ([]dataset.Member, error) {
	s := p.shards[n]
	m := &p.members[s.first]
	f, err := p.openMember(m)
	if err != nil {
		return nil, err
	}
	var members []dataset.Member
	if p.packing == dataset.PackFile && isTar(m.name) {
		if members, err = tarMembers(ctx, f, m.size); err != nil {
			f.Close()
			return nil, err
		}
	}
	return members, copyMember(out, f, m, s.offset, s.size, members...)
}

// openMember opens a file of a plan that is not packed as tar.
func (p *Plan) openMember(m *member) (*os.File, error) {
	if !p.folder {
		f, err := os.OpenFile(p.path, readFlags, 0)
		if err != nil {
			return nil, readFault(p.path, err)
		}
		return f, nil
	}
	root, err := os.OpenRoot(p.path)
	if err != nil {
		return nil, readFault(p.path, err)
	}
	defer root.Close()
	return openBelow(root, m.name, m.name)
}

// openBelow opens dir's file base, which errors call name.
func openBelow(dir *os.Root, base, name string) (*os.File, error) {
	f, err := dir.OpenFile(base, readFlags, 0)
	if err == nil {
		return f, nil
	}
	if now, gone := dir.Lstat(base); gone == nil && !now.Mode().IsRegular() {
		return nil, changed("pack.Write", name, err)
	}
	return nil, readFault(name, err)
}

// copyMember copies size bytes of f from offset and closes f. It checks that f
// is what planning saw, before and after. inside are members of what is copied.
func copyMember(out *hashWriter, f *os.File, m *member, offset, size int64, inside ...dataset.Member) error {
	defer f.Close()
	if err := unchanged(f, m); err != nil {
		return err
	}
	if offset > 0 {
		if _, err := f.Seek(offset, io.SeekStart); err != nil {
			return readFault(m.name, err)
		}
	}
	if err := copyMarked(out, f, size, inside); err != nil {
		var bad *readError
		if !errors.As(err, &bad) {
			return err
		}
		return readFault(m.name, bad.err)
	}
	return unchanged(f, m)
}

// copyMarked copies size bytes and marks the members in them.
func copyMarked(out *hashWriter, r io.Reader, size int64, inside []dataset.Member) error {
	at := int64(0)
	for _, m := range inside {
		if err := out.fill(r, m.Offset-at); err != nil {
			return err
		}
		out.mark()
		if err := out.fill(r, m.Size); err != nil {
			return err
		}
		out.mark()
		at = m.Offset + m.Size
	}
	return out.fill(r, size-at)
}

func unchanged(f *os.File, m *member) error {
	info, err := f.Stat()
	if err != nil {
		return readFault(m.name, err)
	}
	now := memberOf(m.name, info)
	if !info.Mode().IsRegular() || now.size != m.size || now.mtime != m.mtime || now.id != m.id {
		return changed("pack.Write", m.name, nil)
	}
	return nil
}

func readFault(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, io.ErrUnexpectedEOF) {
		return changed("pack.Write", filepath.ToSlash(name), err)
	}
	return localFault("pack.Write", "cannot read "+quote(name), err)
}

// subfolder keeps the folder open that was used last: neighbours in a listing
// mostly share it, and opening one by its path costs a call per element.
type subfolder struct {
	root *os.Root
	name string
	cur  *os.Root // nil: root itself
}

// open gives the folder name, "." for the root, until the next call.
func (s *subfolder) open(name string) (*os.Root, error) {
	if name == "." {
		return s.root, nil
	}
	if s.cur != nil && s.name == name {
		return s.cur, nil
	}
	next, err := s.root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	s.close()
	s.name, s.cur = name, next
	return next, nil
}

func (s *subfolder) close() {
	if s.cur != nil {
		s.cur.Close()
		s.cur = nil
	}
}
