package seal

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"dsvault/vault/fault"
)

// edges are plaintext sizes around the chunk boundaries.
var edges = []int{0, 1, 15, 16, 17, ChunkSize - 1, ChunkSize, ChunkSize + 1,
	2*ChunkSize - 1, 2 * ChunkSize, 2*ChunkSize + 1, 5*ChunkSize + 7}

func newIdentity(t testing.TB) *Identity {
	t.Helper()
	id, err := GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// sample gives n bytes that differ everywhere and are the same every time.
func sample(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func mustSeal(t testing.TB, plain []byte, to Recipient) []byte {
	t.Helper()
	sealed, err := SealBytes(plain, to)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func mustOpenHeader(t testing.TB, header []byte, id *Identity) FileKey {
	t.Helper()
	key, err := OpenHeader(header, id)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// parts seals plain and gives the header, the payload, its nonce and its key.
func parts(t testing.TB, plain []byte) (header, payload []byte, nonce [NonceSize]byte, key FileKey) {
	t.Helper()
	id := newIdentity(t)
	sealed := mustSeal(t, plain, id.Recipient())
	header, payload = sealed[:HeaderSize()], sealed[HeaderSize():]
	return header, payload, [NonceSize]byte(payload), mustOpenHeader(t, header, id)
}

// readAll opens sealed and gives what flowed before the end or the error.
func readAll(sealed []byte, id *Identity) ([]byte, error) {
	r, err := Open(bytes.NewReader(sealed), id)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func wantCode(t testing.TB, err error, code fault.Code) {
	t.Helper()
	if fault.CodeOf(err) != code {
		t.Fatalf("got code %q (%v), want %q", fault.CodeOf(err), err, code)
	}
}

// wantRefusal checks the code and the outermost message.
func wantRefusal(t testing.TB, err error, code fault.Code, message string) {
	t.Helper()
	wantCode(t, err, code)
	if got := messageOf(err); got != message {
		t.Fatalf("refused with %q, want %q", got, message)
	}
}

func messageOf(err error) string {
	var e *fault.Error
	if errors.As(err, &e) {
		return e.Message
	}
	return ""
}
