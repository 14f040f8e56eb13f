package s3

import (
	"context"
	"io"

	"dsvault/vault/fault"
)

// source cuts the caller's reader into parts, and looks one byte ahead: the
// last part is known as such, and known to be right, before it is sent.
type source struct {
	ctx  context.Context
	r    io.Reader
	size int64 // announced; -1 unknown
	read int64 // bytes given out by next

	ahead  [1]byte
	peeked bool   // ahead holds the byte after those read
	pooled []byte // of parts; nil: none
}

// smallObject is up to which size a buffer is not worth keeping.
const smallObject = 1 << 20

// buffer returns memory for one part: no more than the announced size.
func (s *source) buffer() []byte {
	if 0 <= s.size && s.size <= smallObject {
		return make([]byte, s.size)
	}
	s.pooled = parts.get()
	if 0 <= s.size && s.size < partSize {
		return s.pooled[:s.size]
	}
	return s.pooled
}

// release gives the memory back. No request may be using it.
func (s *source) release() {
	if s.pooled != nil {
		parts.put(s.pooled)
		s.pooled = nil
	}
}

// next fills buffer with the next part. last means that the source has ended,
// after as many bytes as were announced.
func (s *source) next(buffer []byte) (part []byte, last bool, err error) {
	const op = "s3.Put"
	n := 0
	if s.peeked {
		n = copy(buffer, s.ahead[:])
	}
	more, err := io.ReadFull(reading{s}, buffer[n:])
	n += more
	switch err {
	case nil:
		_, err = io.ReadFull(reading{s}, s.ahead[:])
		s.peeked, last = err == nil, err == io.EOF
		if err != nil && !last {
			return nil, false, err
		}
	case io.EOF, io.ErrUnexpectedEOF: // only ReadFull itself says so, see reading
		last = true
	default:
		return nil, false, err
	}
	s.read += int64(n)
	switch {
	case s.size < 0:
	case last && s.read < s.size:
		return nil, false, fault.Wrap(fault.Invalid, op, "the data ended before its announced size", io.ErrUnexpectedEOF)
	case s.read > s.size, !last && s.read == s.size:
		return nil, false, fault.New(fault.Invalid, op, "the data is longer than its announced size")
	}
	return buffer[:n], last, nil
}

// reading marks the errors of the caller's reader as the caller's, and ends
// with the context.
type reading struct{ s *source }

func (r reading) Read(b []byte) (int, error) {
	if err := r.s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.s.r.Read(b)
	if err != nil && err != io.EOF {
		err = fault.Wrap(fault.CodeOf(err), "s3.Put", "the data to store could not be read", err)
	}
	return n, err
}
