package dataset

import (
	"bytes"
	"crypto/sha256"
	"io"
	"testing"
	"testing/iotest"
)

func TestSealedHash(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 10)
	for _, partSize := range []int64{0, 1, 7, 10, 50, 99, 100, 101} {
		var sums [][sha256.Size]byte
		for rest := data; len(rest) > 0 && partSize > 0; {
			n := min(len(rest), int(partSize))
			sums, rest = append(sums, sha256.Sum256(rest[:n])), rest[n:]
		}
		want := PartsSum(sums)
		if partSize == 0 {
			want = sha256.Sum256(data)
		}
		for name, r := range map[string]io.Reader{
			"whole": bytes.NewReader(data), "bytewise": iotest.OneByteReader(bytes.NewReader(data)), "halves": iotest.HalfReader(bytes.NewReader(data)),
		} {
			h := SealedHash(partSize)
			h.Write([]byte("what Reset forgets"))
			h.Reset()
			if _, err := io.CopyBuffer(h, struct{ io.Reader }{r}, make([]byte, 64)); err != nil {
				t.Fatal(err)
			}
			if got := h.Sum(nil); !bytes.Equal(got, want[:]) {
				t.Errorf("parts of %d, %s: %x, want %x", partSize, name, got, want)
			}
		}
	}
}

func TestParts(t *testing.T) {
	for sealed, want := range map[int64]int{1: 1, PartSize - 1: 1, PartSize: 1, PartSize + 1: 2, 64 << 30: 8192} {
		if got := Parts(sealed); got != want || got > MaxParts {
			t.Errorf("%d bytes have %d parts, want %d", sealed, got, want)
		}
	}
}
