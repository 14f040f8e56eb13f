package storagetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
)

// content gives n bytes that depend on seed only, without holding them. They
// repeat at a prime distance, so that no two parts or pages of them are alike.
func content(seed byte, n int64) io.Reader {
	const period = 1_000_003
	block := make([]byte, min(n, period))
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(block) // cannot fail
	return io.LimitReader(&repeating{block: block}, n)
}

type repeating struct {
	block []byte
	at    int
}

func (r *repeating) Read(b []byte) (int, error) {
	n := copy(b, r.block[r.at:])
	r.at = (r.at + n) % len(r.block)
	return n, nil
}

func contentBytes(seed byte, n int64) []byte {
	b := make([]byte, n)
	_, _ = io.ReadFull(content(seed, n), b) // cannot fail
	return b
}

// same reports how got differs from want; both are read to their ends.
func same(got, want io.Reader) error {
	const chunk = 64 << 10
	a, b := make([]byte, chunk), make([]byte, chunk)
	for at := int64(0); ; {
		n, err := io.ReadFull(got, a)
		m, end := io.ReadFull(want, b)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return fmt.Errorf("after %d bytes: %w", at+int64(n), err)
		}
		if n != m {
			return fmt.Errorf("it has %d bytes where %d were to follow byte %d", n, m, at)
		}
		if !bytes.Equal(a[:n], b[:m]) {
			return fmt.Errorf("other bytes between %d and %d", at, at+int64(n))
		}
		if at += int64(n); end != nil {
			return nil
		}
	}
}

var errReader = errors.New("the source failed")

// thenDo gives the bytes of r, and calls do once after the first n of them;
// the error that do returns, if any, ends the reader.
type thenDo struct {
	r    io.Reader
	n    int64
	do   func() error
	done bool
}

func (d *thenDo) Read(b []byte) (int, error) {
	if d.n == 0 && !d.done {
		d.done = true
		if err := d.do(); err != nil {
			return 0, err
		}
	}
	if !d.done {
		b = b[:min(int64(len(b)), d.n)]
	}
	n, err := d.r.Read(b)
	if !d.done {
		d.n -= int64(n)
	}
	return n, err
}
