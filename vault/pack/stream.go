package pack

import (
	"context"
	"crypto/sha256"
	"io"
	"sync"
)

const (
	chunkSize = 256 << 10
	chunks    = 4 // between a stream and its hasher
)

var chunkPool = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// readError marks an error of the source, so that it is told from the sink's.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// chunk is bytes on their way to the hasher, with the places in them where members
// begin or end, by turns.
type chunk struct {
	b     []byte
	marks []int
}

// hasher computes SHA-256 of a stream, and of the members in it, beside it, in a
// goroutine that close ends. The stream passes a chunk on, may still read it, and
// takes its next one from free: so a chunk comes back only when both are done
// with it.
type hasher struct {
	full chan chunk
	free chan *[chunkSize]byte
	done chan hashes
}

// hashes are of a stream, and of its members in order.
type hashes struct {
	sum     [sha256.Size]byte
	members [][sha256.Size]byte
}

func newHasher() *hasher {
	h := &hasher{
		full: make(chan chunk, chunks),
		free: make(chan *[chunkSize]byte, chunks),
		done: make(chan hashes, 1),
	}
	for range chunks {
		h.free <- chunkPool.Get().(*[chunkSize]byte)
	}
	go h.run()
	return h
}

func (h *hasher) run() {
	sum, member := sha256.New(), sha256.New()
	var out hashes
	inside := false
	for p := range h.full {
		sum.Write(p.b)
		from := 0
		for _, at := range p.marks {
			if inside {
				member.Write(p.b[from:at])
				out.members = append(out.members, [sha256.Size]byte(member.Sum(nil)))
				member.Reset()
			}
			inside, from = !inside, at
		}
		if inside {
			member.Write(p.b[from:])
		}
		h.free <- (*[chunkSize]byte)(p.b[:chunkSize])
	}
	for range len(h.free) {
		chunkPool.Put(<-h.free)
	}
	out.sum = [sha256.Size]byte(sum.Sum(nil))
	h.done <- out
}

// close ends the goroutine and gives the hashes of all chunks passed on.
func (h *hasher) close() hashes {
	close(h.full)
	return <-h.done
}

// hashWriter collects what is written into chunks, and passes each on to a
// writer and to a hasher.
type hashWriter struct {
	ctx     context.Context
	w       io.Writer
	h       *hasher
	buf     *[chunkSize]byte
	used    int
	written int64
	marks   []int // in buf
}

func newHashWriter(ctx context.Context, w io.Writer) *hashWriter {
	h := newHasher()
	return &hashWriter{ctx: ctx, w: w, h: h, buf: <-h.free}
}

func (s *hashWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := copy(s.buf[s.used:], rest)
		rest = rest[n:]
		if err := s.advance(n); err != nil {
			return len(p) - len(rest), err
		}
	}
	return len(p), nil
}

// fill reads exactly size bytes of r; an error of r is a *readError.
func (s *hashWriter) fill(r io.Reader, size int64) error {
	for size > 0 {
		want := min(int64(chunkSize-s.used), size)
		n, err := io.ReadFull(r, s.buf[s.used:s.used+int(want)])
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return &readError{err}
		}
		size -= want
		if err := s.advance(n); err != nil {
			return err
		}
	}
	return nil
}

// mark says that a member begins here, or that the one that has begun ends. It
// gives the place in the stream.
func (s *hashWriter) mark() int64 {
	s.marks = append(s.marks, s.used)
	return s.written + int64(s.used)
}

func (s *hashWriter) advance(n int) error {
	s.used += n
	if s.used < chunkSize {
		return nil
	}
	return s.flush()
}

func (s *hashWriter) flush() error {
	if err := s.ctx.Err(); err != nil {
		return canceled("pack.Write", err)
	}
	if s.used == 0 && len(s.marks) == 0 {
		return nil
	}
	b := s.buf[:s.used]
	s.h.full <- chunk{b, s.marks}
	s.marks = nil // the hasher's now
	n := 0
	var err error
	if len(b) > 0 {
		n, err = s.w.Write(b)
	}
	s.written += int64(n)
	s.buf, s.used = <-s.h.free, 0
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}

// sums ends the stream and gives its hashes.
func (s *hashWriter) sums() hashes {
	sums := s.h.close()
	s.h = nil
	return sums
}

// release ends the hasher if sums did not.
func (s *hashWriter) release() {
	if s.h != nil {
		s.h.close()
		s.h = nil
	}
}

// hashReader reads at most limit bytes of r in chunks, and hashes them beside.
type hashReader struct {
	ctx   context.Context
	r     io.Reader
	h     *hasher
	rest  []byte // of the current chunk, not yet read
	limit int64  // bytes that r may still give
	err   error  // why r ended; io.EOF at its end or at the limit
}

func newHashReader(ctx context.Context, r io.Reader, limit int64) *hashReader {
	return &hashReader{ctx: ctx, r: r, h: newHasher(), limit: limit}
}

// next reads a chunk. It is called when rest is empty.
func (s *hashReader) next() error {
	if s.err == nil {
		s.err = s.ctx.Err()
	}
	if s.err == nil && s.limit == 0 {
		s.err = io.EOF
	}
	if s.err != nil {
		return s.err
	}
	buf := <-s.h.free
	n := 0
	for want := int(min(chunkSize, s.limit)); n < want && s.err == nil; {
		var got int
		got, s.err = s.r.Read(buf[n:want])
		n += got
	}
	s.limit -= int64(n)
	s.rest = buf[:n]
	s.h.full <- chunk{b: s.rest}
	if n == 0 {
		return s.err
	}
	return nil
}

func (s *hashReader) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// WriteTo passes the rest on without copying it.
func (s *hashReader) WriteTo(w io.Writer) (total int64, err error) {
	for {
		if len(s.rest) == 0 {
			if err := s.next(); err == io.EOF {
				return total, nil
			} else if err != nil {
				return total, err
			}
		}
		n, err := w.Write(s.rest)
		total += int64(n)
		s.rest = s.rest[n:]
		if err != nil {
			return total, err
		}
	}
}

// failed gives the error of r, or of the context, that is not its end.
func (s *hashReader) failed() error {
	if s.err == nil || s.err == io.EOF {
		return nil
	}
	return s.err
}

// close ends the hasher, once, and gives the hash of what was read.
func (s *hashReader) close() []byte {
	if s.h == nil {
		return nil
	}
	sum := s.h.close().sum
	s.h = nil
	return sum[:]
}
