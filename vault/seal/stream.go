package seal

import (
	"bytes"
	"io"

	"filippo.io/age"

	"dsvault/vault/fault"
)

const (
	msgPayload  = "the sealed data is cut short or was altered"
	msgOverMax  = "the sealed data is larger than allowed here"
	hintPayload = "fetch it again; if that does not help, restore it from a copy"

	localStanza = "dsvault-local"
)

// Seal writes the header to dst and returns a writer that seals what is
// written to it, in chunks of ChunkSize. Close writes the last chunk: without
// it the file is not complete and does not open. Close does not close dst.
// Write and Close give dst's errors unchanged. Each call has a new file key.
func Seal(dst io.Writer, to Recipient) (io.WriteCloser, error) {
	const op = "seal.Seal"
	hybrid, err := to.hybrid(op)
	if err != nil {
		return nil, err
	}
	w, err := age.Encrypt(dst, hybrid)
	if err != nil {
		return nil, fault.Wrap(fault.CodeOf(err), op, "writing the header failed", err)
	}
	return w, nil
}

// SealBytes seals a small blob, such as a manifest or a key.
func SealBytes(plain []byte, to Recipient) ([]byte, error) {
	var sealed bytes.Buffer
	sealed.Grow(int(SealedSize(int64(len(plain)))))
	w, err := Seal(&sealed, to)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, fault.Wrap(fault.Internal, "seal.SealBytes", "sealing failed", err)
	}
	if err := w.Close(); err != nil {
		return nil, fault.Wrap(fault.Internal, "seal.SealBytes", "sealing failed", err)
	}
	return sealed.Bytes(), nil
}

// OpenBytes opens what SealBytes made. A plaintext of more than max bytes is
// TooLarge, found before anything is decrypted; otherwise the errors are those
// of ReadHeader, OpenHeader and OpenPayload.
func OpenBytes(sealed []byte, id *Identity, max int64) ([]byte, error) {
	const op = "seal.OpenBytes"
	header, _, err := ReadHeader(bytes.NewReader(sealed))
	if err != nil {
		return nil, err
	}
	payload := sealed[len(header):]
	size, err := PlainSize(int64(len(payload)))
	if err != nil {
		return nil, err
	}
	if size > max {
		return nil, fault.New(fault.TooLarge, op, msgOverMax)
	}
	r, err := openParts(header, bytes.NewReader(payload), id)
	if err != nil {
		return nil, err
	}
	// The spare room keeps the buffer from growing, which would leave copies.
	plain := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead))
	if _, err := plain.ReadFrom(r); err != nil {
		return nil, err
	}
	return plain.Bytes(), nil
}

// Open opens a whole sealed file with all checks of ReadHeader, OpenHeader and
// OpenPayload, and their errors.
func Open(sealed io.Reader, id *Identity) (io.Reader, error) {
	header, payload, err := ReadHeader(sealed)
	if err != nil {
		return nil, err
	}
	return openParts(header, payload, id)
}

func openParts(header []byte, payload io.Reader, id *Identity) (io.Reader, error) {
	key, err := OpenHeader(header, id)
	if err != nil {
		return nil, err
	}
	defer key.Destroy()
	return OpenPayload(key, payload)
}

// OpenSized is Open for a file of size bytes, which is known beforehand: then no
// memory is taken for each chunk. A file of another size is Corrupt.
func OpenSized(sealed io.Reader, size int64, id *Identity) (io.Reader, error) {
	const op = "seal.OpenSized"
	header, payload, err := ReadHeader(sealed)
	if err != nil {
		return nil, err
	}
	payloadSize := size - int64(len(header))
	plain, err := PlainSize(payloadSize)
	switch {
	case err != nil:
		return nil, fault.Wrap(fault.Corrupt, op, msgPayload, err).WithHint(hintPayload)
	case plain == 0: // OpenRange would not look at the one chunk, which has no bytes
		r, err := openParts(header, payload, id)
		if err != nil {
			return nil, err
		}
		if n, err := io.ReadFull(r, make([]byte, 1)); n > 0 {
			return nil, fault.New(fault.Corrupt, op, msgPayload).WithHint(hintPayload)
		} else if err != io.EOF {
			return nil, err
		}
		return bytes.NewReader(nil), nil
	}
	key, err := OpenHeader(header, id)
	if err != nil {
		return nil, err
	}
	defer key.Destroy()
	r := &sizedReader{src: source{r: payload}}
	var nonce [NonceSize]byte
	if _, err := io.ReadFull(&r.src, nonce[:]); err != nil {
		return nil, r.fail(err)
	}
	r.plain, err = OpenRange(key, nonce, payloadSize, 0, plain, func(int64, int64) (io.ReadCloser, error) {
		return io.NopCloser(&r.src), nil
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// sizedReader sees to it that nothing follows the last chunk.
type sizedReader struct {
	src   source
	plain io.ReadCloser
	err   error // sticky
}

func (r *sizedReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.plain.Read(p)
	if err == io.EOF {
		var more [1]byte
		if got, end := io.ReadFull(&r.src, more[:]); got > 0 || end != io.EOF {
			err = r.fail(end)
		}
		r.plain.Close()
	}
	r.err = err
	return n, err
}

func (r *sizedReader) fail(err error) error {
	const op = "seal.OpenSized"
	if r.src.err != nil {
		return sourceFailed(op, r.src.err)
	}
	return fault.Wrap(fault.Corrupt, op, msgPayload, err).WithHint(hintPayload)
}

// OpenPayload reads the nonce from payload and returns a reader of the
// plaintext. Each chunk is authenticated before any byte of it flows. Data
// that is cut short, altered or followed by more is Corrupt: bytes that were
// read until then are authentic, but not all of the file until io.EOF. An
// error of payload itself keeps its code.
func OpenPayload(key FileKey, payload io.Reader) (io.Reader, error) {
	const op = "seal.OpenPayload"
	secret, err := key.bytes(op)
	if err != nil {
		return nil, err
	}
	header, err := localHeader(secret)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, op, "writing the header failed", err)
	}
	r := &payloadReader{op: op, src: source{r: payload}}
	r.plain, err = age.Decrypt(io.MultiReader(bytes.NewReader(header), &r.src), age.NewInjectedFileKeyIdentity(secret))
	if err != nil {
		return nil, r.fail(err)
	}
	return r, nil
}

// localHeader is a header that lets age's own code open a payload whose file
// key we hold. It wraps nothing and never leaves the process.
func localHeader(fileKey []byte) ([]byte, error) {
	return sealHeader(fileKey, []*age.Stanza{{Type: localStanza}})
}

// payloadReader gives age's errors a code.
type payloadReader struct {
	op    string
	src   source
	plain io.Reader
}

func (r *payloadReader) Read(p []byte) (int, error) {
	n, err := r.plain.Read(p)
	if err != nil && err != io.EOF {
		err = r.fail(err)
	}
	return n, err
}

func (r *payloadReader) fail(err error) error {
	if r.src.err != nil {
		return sourceFailed(r.op, r.src.err)
	}
	return fault.Wrap(fault.Corrupt, r.op, msgPayload, err).WithHint(hintPayload)
}

// source remembers its reader's own failure, to tell an outage from bad data.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}
