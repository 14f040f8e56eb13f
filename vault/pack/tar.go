package pack

import (
	"archive/tar"
	"bytes"
	"time"
)

const (
	tarBlock = 512
	tarEnd   = 2 * tarBlock // the zero blocks that end an archive
)

// tarHeader writes m's header into buf, replacing what was there. The bytes
// depend on m alone: no owner, no names of users, permission bits only.
func tarHeader(buf *bytes.Buffer, m *member) error {
	h := tar.Header{
		Typeflag: tar.TypeReg,
		Name:     m.name,
		Size:     m.size,
		Mode:     int64(m.mode),
		ModTime:  time.Unix(0, m.mtime),
		Format:   tar.FormatPAX,
	}
	if m.dir {
		h.Typeflag, h.Name, h.Size = tar.TypeDir, m.name+"/", 0
	}
	buf.Reset()
	return tar.NewWriter(buf).WriteHeader(&h)
}

// tarSize is the number of bytes that m takes in an archive.
func tarSize(buf *bytes.Buffer, m *member) (int64, error) {
	if err := tarHeader(buf, m); err != nil {
		return 0, err
	}
	return int64(buf.Len()) + m.size + tarPadding(m.size), nil
}

func tarPadding(size int64) int64 { return -size & (tarBlock - 1) }
