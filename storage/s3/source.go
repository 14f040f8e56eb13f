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
	peeked bool     // ahead holds the byte after those read
	pooled [][]byte // of parts
}

// smallObject is up to which size a buffer is not worth keeping.
const smallObject = 1 << 20

// buffer returns memory for one part: no more than the announced size.
func (s *source) buffer() []byte {
	if 0 <= s.size && s.size <= smallObject {
		return make([]byte, s.size)
	}
	buffer := parts.get()
	s.pooled = append(s.pooled, buffer)
	if 0 <= s.size && s.size < partSize {
		return buffer[:s.size]
	}
	return buffer
}

// release gives the memory back. No request may be using it.
func (s *source) release() {
	for _, buffer := range s.pooled {
		parts.put(buffer)
	}
	s.pooled = nil
}

// each sends what is in buffer and then the rest, part by part. It reads the
// next part while one is sent; send is never called twice at once, and is done
// when each returns.
func (s *source) each(ctx context.Context, buffer []byte, send func(context.Context, []byte) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	other := s.buffer()
	for n, data, last := 1, buffer, false; ; n++ {
		sent := make(chan error, 1)
		go func(data []byte) { sent <- send(ctx, data) }(data)
		if last {
			return <-sent
		}
		var err error
		if data, last, err = s.next(other); err == nil && n == maxParts {
			err = tooLarge("s3.Put")
		}
		if err != nil {
			cancel() // what is on its way is for nothing
			<-sent
			return err
		}
		if err := <-sent; err != nil {
			return err
		}
		buffer, other = other, buffer
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
