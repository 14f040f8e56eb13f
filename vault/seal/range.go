package seal

import (
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"io/fs"

	"filippo.io/age"
	"golang.org/x/crypto/chacha20poly1305"

	"dsvault/vault/fault"
)

const msgTail = "the sealed file is not complete: its last chunk does not authenticate"

// CheckTail checks that tail, the last TailSize(payloadSize) bytes of a
// payload, is the final chunk of a payload of exactly payloadSize bytes under
// this key and nonce. It says nothing about the chunks before. A tail that
// fails, or of another length, is Invalid.
func CheckTail(key FileKey, nonce [NonceSize]byte, tail []byte, payloadSize int64) error {
	const op = "seal.CheckTail"
	secret, err := key.bytes(op)
	if err != nil {
		return err
	}
	want, err := TailSize(payloadSize)
	if err != nil {
		return err
	}
	if int64(len(tail)) != want {
		return fault.New(fault.Invalid, op, "the tail does not have the size of the last chunk")
	}
	header, err := localHeader(secret)
	if err != nil {
		return fault.Wrap(fault.Internal, op, "writing the header failed", err)
	}
	file := sparseFile{head: append(header, nonce[:]...), tail: tail, size: int64(len(header)) + payloadSize}
	// age decrypts the final chunk, and no other, before it returns.
	if _, _, err := age.DecryptReaderAt(file, file.size, age.NewInjectedFileKeyIdentity(secret)); err != nil {
		return fault.Wrap(fault.Invalid, op, msgTail, err).WithHint("upload it again")
	}
	return nil
}

// sparseFile is a file of which only the two ends are known; the rest is zero.
type sparseFile struct {
	head, tail []byte
	size       int64
}

func (f sparseFile) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= f.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), f.size-off))
	clear(p[:n])
	if off < int64(len(f.head)) {
		copy(p[:n], f.head[off:])
	}
	switch gap := f.size - int64(len(f.tail)) - off; {
	case gap < 0:
		copy(p[:n], f.tail[-gap:])
	case gap < int64(n):
		copy(p[gap:n], f.tail)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// ChunkRange says which bytes of a payload of payloadSize bytes hold the chunks
// with the plaintext bytes [off, off+n): size bytes at from, which OpenRange
// fetches. An empty range has none; one outside the plaintext is Invalid.
func ChunkRange(payloadSize, off, n int64) (from, size int64, err error) {
	const op = "seal.OpenRange"
	chunks, err := chunkCount(op, payloadSize)
	if err != nil {
		return 0, 0, err
	}
	plain := payloadSize - NonceSize - chunks*Overhead
	if off < 0 || n < 0 || off > plain || n > plain-off {
		return 0, 0, fault.New(fault.Invalid, op, "the range is outside the file").
			WithHint("ask for bytes inside the file")
	}
	if n == 0 {
		return 0, 0, nil
	}
	first, last := off/ChunkSize, (off+n-1)/ChunkSize
	from = NonceSize + first*sealedChunk
	if last == chunks-1 {
		return from, payloadSize - from, nil
	}
	return from, (last - first + 1) * sealedChunk, nil
}

// OpenRange gives the plaintext bytes [off, off+n) of a payload of payloadSize
// bytes. It calls fetch once, for the chunks that hold the range, with an
// offset and a count in bytes of the payload (the nonce included, which is the
// 16 bytes given here); an empty range fetches nothing. Each chunk is
// authenticated, at its own place in a file of this size, before any byte of it
// flows. A range outside the plaintext is Invalid, bad data Corrupt, and an
// error of fetch or of what it gave keeps its code. The caller closes the
// reader, which closes what fetch gave.
func OpenRange(key FileKey, nonce [NonceSize]byte, payloadSize, off, n int64,
	fetch func(off, n int64) (io.ReadCloser, error)) (io.ReadCloser, error) {
	const op = "seal.OpenRange"
	secret, err := key.bytes(op)
	if err != nil {
		return nil, err
	}
	from, size, err := ChunkRange(payloadSize, off, n)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	streamKey, err := hkdf.Key(sha256.New, secret, nonce[:], "payload", chacha20poly1305.KeySize)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, op, "deriving the stream key failed", err)
	}
	aead, err := chacha20poly1305.New(streamKey)
	clear(streamKey)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, op, "deriving the stream key failed", err)
	}
	chunks, err := chunkCount(op, payloadSize)
	if err != nil {
		return nil, err
	}
	body, err := fetch(from, size)
	if err != nil {
		return nil, sourceFailed(op, err)
	}
	return &rangeReader{
		op: op, aead: aead, body: body,
		chunk: off / ChunkSize, final: chunks - 1, sealed: size,
		skip: int(off % ChunkSize), left: n,
	}, nil
}

// rangeReader opens consecutive chunks of a payload.
type rangeReader struct {
	op   string
	aead cipher.AEAD
	body io.ReadCloser

	chunk  int64 // number of the next chunk to open
	final  int64 // number of the payload's last chunk
	sealed int64 // bytes of body still to read
	skip   int   // plaintext bytes of the first chunk before the range
	left   int64 // plaintext bytes of the range not yet opened

	buf   []byte // one chunk, opened in place; nil until it is needed
	plain []byte // opened and not yet read; part of buf
	err   error  // sticky
}

func (r *rangeReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(r.plain) == 0 && r.err == nil && r.skip == 0 && int64(len(p)) >= min(sealedChunk, r.sealed) {
		// The reader's own memory will do: nothing is copied.
		var plain []byte
		if plain, r.err = r.open(p); r.err != nil {
			return 0, r.err
		}
		return len(plain), nil
	}
	if len(r.plain) == 0 {
		if r.err == nil {
			if r.buf == nil {
				r.buf = make([]byte, min(sealedChunk, r.sealed))
			}
			r.plain, r.err = r.open(r.buf)
		}
		if r.err != nil {
			return 0, r.err
		}
	}
	n := copy(p, r.plain)
	r.plain = r.plain[n:]
	return n, nil
}

// open reads and authenticates the next chunk in buf, which it has to fit into, and
// gives what of it is in the range.
func (r *rangeReader) open(buf []byte) ([]byte, error) {
	if r.left == 0 {
		return nil, io.EOF
	}
	size := min(sealedChunk, r.sealed)
	chunk := buf[:size]
	src := source{r: r.body}
	if _, err := io.ReadFull(&src, chunk); err != nil {
		if src.err != nil {
			return nil, sourceFailed(r.op, src.err)
		}
		return nil, fault.Wrap(fault.Corrupt, r.op, msgPayload, err).WithHint(hintPayload)
	}
	nonce := chunkNonce(r.chunk, r.chunk == r.final)
	plain, err := r.aead.Open(chunk[:0], nonce[:], chunk, nil)
	if err != nil {
		return nil, fault.Wrap(fault.Corrupt, r.op, msgPayload, err).WithHint(hintPayload)
	}
	plain = plain[r.skip:]
	plain = plain[:min(int64(len(plain)), r.left)]
	r.chunk, r.sealed = r.chunk+1, r.sealed-size
	r.skip, r.left = 0, r.left-int64(len(plain))
	return plain, nil
}

// Close clears the plaintext that is left and closes what fetch gave.
func (r *rangeReader) Close() error {
	clear(r.buf)
	r.plain, r.err = nil, fault.Wrap(fault.Internal, r.op, "read after close", fs.ErrClosed)
	return r.body.Close()
}

// chunkNonce is the STREAM nonce of the age specification: an 11-byte
// big-endian counter and a byte that is 1 for the final chunk.
func chunkNonce(chunk int64, final bool) (nonce [chacha20poly1305.NonceSize]byte) {
	binary.BigEndian.PutUint64(nonce[3:11], uint64(chunk))
	if final {
		nonce[11] = 1
	}
	return nonce
}
