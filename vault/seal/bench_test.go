package seal

import (
	"bytes"
	"io"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

const benchSize = 16 << 20

func BenchmarkRewrap(b *testing.B) {
	id, reader := newIdentity(b), newIdentity(b).Recipient()
	header := mustSeal(b, nil, id.Recipient())[:HeaderSize()]
	b.ReportAllocs()
	for b.Loop() {
		key, err := OpenHeader(header, id)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Rewrap(key, reader); err != nil {
			b.Fatal(err)
		}
		key.Destroy()
	}
}

func BenchmarkParseRecipient(b *testing.B) {
	text := newIdentity(b).Recipient().String()
	for b.Loop() {
		if _, err := ParseRecipient(text); err != nil {
			b.Fatal(err)
		}
	}
}

// rawSeal and rawOpen are ChaCha20-Poly1305 alone over the same chunks.
func rawSeal(b *testing.B, plain, buf []byte) {
	aead, nonce := rawAEAD(b)
	for at := 0; at < len(plain); at += ChunkSize {
		buf = aead.Seal(buf[:0], nonce, plain[at:at+ChunkSize], nil)
	}
}

func rawOpen(b *testing.B, chunk, buf []byte) {
	aead, nonce := rawAEAD(b)
	for range benchSize / ChunkSize {
		if _, err := aead.Open(buf[:0], nonce, chunk, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func rawAEAD(b *testing.B) (aead interface {
	Seal(dst, nonce, plaintext, additionalData []byte) []byte
	Open(dst, nonce, ciphertext, additionalData []byte) ([]byte, error)
}, nonce []byte) {
	b.Helper()
	c, err := chacha20poly1305.New(make([]byte, chacha20poly1305.KeySize))
	if err != nil {
		b.Fatal(err)
	}
	return c, make([]byte, chacha20poly1305.NonceSize)
}

// against runs ours and raw in turn, and reports ours in MB/s and as a share of
// raw's speed in the same run.
func against(b *testing.B, ours, raw func()) {
	b.SetBytes(benchSize)
	var rawTime time.Duration
	for b.Loop() {
		b.StopTimer()
		start := time.Now()
		raw()
		rawTime += time.Since(start)
		b.StartTimer()
		ours()
	}
	b.ReportMetric(rawTime.Seconds()/b.Elapsed().Seconds(), "of-raw")
}

func BenchmarkSeal(b *testing.B) {
	plain, buf := sample(benchSize), make([]byte, 0, sealedChunk)
	to := newIdentity(b).Recipient()
	against(b, func() {
		w, err := Seal(io.Discard, to)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := w.Write(plain); err != nil {
			b.Fatal(err)
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}, func() { rawSeal(b, plain, buf) })
}

func BenchmarkOpen(b *testing.B) {
	id := newIdentity(b)
	sealed := mustSeal(b, sample(benchSize), id.Recipient())
	chunk, buf := rawChunk(b)
	copyBuf := make([]byte, ChunkSize)
	against(b, func() {
		r, err := Open(bytes.NewReader(sealed), id)
		if err != nil {
			b.Fatal(err)
		}
		drain(b, r, copyBuf)
	}, func() { rawOpen(b, chunk, buf) })
}

func BenchmarkOpenRange(b *testing.B) {
	_, payload, nonce, key := parts(b, sample(benchSize))
	chunk, buf := rawChunk(b)
	copyBuf := make([]byte, ChunkSize)
	against(b, func() {
		r, err := OpenRange(key, nonce, int64(len(payload)), 0, benchSize, func(off, n int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(payload[off : off+n])), nil
		})
		if err != nil {
			b.Fatal(err)
		}
		drain(b, r, copyBuf)
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}, func() { rawOpen(b, chunk, buf) })
}

func rawChunk(b *testing.B) (chunk, buf []byte) {
	aead, nonce := rawAEAD(b)
	return aead.Seal(nil, nonce, sample(ChunkSize), nil), make([]byte, 0, ChunkSize)
}

// drain reads r through a buffer, as a server does.
func drain(b *testing.B, r io.Reader, buf []byte) {
	b.Helper()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, buf)
	if err != nil || n != benchSize {
		b.Fatalf("%d bytes, %v", n, err)
	}
}
