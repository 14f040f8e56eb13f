package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"testing"
	"testing/iotest"

	"filippo.io/age"
	"pgregory.net/rapid"

	"dsvault/vault/fault"
)

func TestSealedOpensWithAge(t *testing.T) {
	id := newIdentity(t)
	for _, n := range edges {
		plain := sample(n)
		sealed := mustSeal(t, plain, id.Recipient())
		if int64(len(sealed)) != SealedSize(int64(n)) {
			t.Errorf("%d bytes seal to %d, not %d", n, len(sealed), SealedSize(int64(n)))
		}
		r, err := age.Decrypt(bytes.NewReader(sealed), id.hybrid)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: stock age does not open it (%v)", n, err)
		}
		if got, err := readAll(sealed, id); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: Open does not open it (%v)", n, err)
		}
		if got, err := OpenBytes(sealed, id, int64(n)); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: OpenBytes does not open it (%v)", n, err)
		}
		if n > 0 {
			_, err := OpenBytes(sealed, id, int64(n)-1)
			wantRefusal(t, err, fault.TooLarge, msgOverMax)
		}
	}
}

func TestSizes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.Int64Range(0, 1<<62).Draw(t, "plain")
		payload := PayloadSize(plain)
		if back, err := PlainSize(payload); err != nil || back != plain {
			t.Fatalf("%d bytes: payload %d, back to %d (%v)", plain, payload, back, err)
		}
		if tail, err := TailSize(payload); err != nil || tail < Overhead || tail > sealedChunk {
			t.Fatalf("a tail of %d bytes (%v)", tail, err)
		}
		// Whatever size is accepted is the size of what it gives.
		if back, err := PlainSize(plain); err == nil && PayloadSize(back) != plain {
			t.Fatalf("payload %d gives %d, which has another payload", plain, back)
		}
	})
	// Every size, exhaustively, over the first chunks.
	valid := map[int64]int64{}
	for plain := range int64(3 * ChunkSize) {
		valid[PayloadSize(plain)] = plain
	}
	for payload := range PayloadSize(3*ChunkSize - 1) {
		plain, err := PlainSize(payload)
		want, ok := valid[payload]
		if ok != (err == nil) || plain != want || err != nil && !fault.Is(err, fault.Invalid) {
			t.Fatalf("payload %d: got %d, %v", payload, plain, err)
		}
	}
	for _, plain := range []int64{-1, math.MinInt64, math.MaxInt64, math.MaxInt64 - 16} {
		if PayloadSize(plain) != -1 || SealedSize(plain) != -1 {
			t.Errorf("%d: %d, %d, want -1", plain, PayloadSize(plain), SealedSize(plain))
		}
	}
	for _, payload := range []int64{-1, math.MinInt64, 0, 31, NonceSize + sealedChunk + 16} {
		_, err := PlainSize(payload)
		wantCode(t, err, fault.Invalid)
		_, err = TailSize(payload)
		wantCode(t, err, fault.Invalid)
	}
	if plain, err := PlainSize(math.MaxInt64); err == nil && PayloadSize(plain) != math.MaxInt64 {
		t.Errorf("the largest payload gives %d", plain)
	}
}

// wantPrefix checks that bad data gave an error and only true bytes, in whole
// chunks.
func wantPrefix(t *testing.T, what string, got, plain []byte, err error) {
	t.Helper()
	if !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.Invalid) {
		t.Fatalf("%s: %d bytes and %v", what, len(got), err)
	}
	if !bytes.HasPrefix(plain, got) || len(got)%ChunkSize != 0 && len(got) != len(plain) {
		t.Fatalf("%s: %d bytes flowed that are not a true prefix in whole chunks", what, len(got))
	}
}

func TestTruncation(t *testing.T) {
	for _, n := range []int{0, 1, ChunkSize, 2*ChunkSize + 100} {
		id, plain := newIdentity(t), sample(n)
		sealed := mustSeal(t, plain, id.Recipient())
		body := HeaderSize() + NonceSize
		cuts := []int{0, 1, len(intro), HeaderSize() - 1, HeaderSize(), HeaderSize() + 1, body - 1, body, body + 1,
			body + Overhead - 1, body + Overhead, body + Overhead + 1}
		for chunk := body; chunk < len(sealed); chunk += sealedChunk {
			cuts = append(cuts, chunk-1, chunk, chunk+1, chunk+Overhead, chunk+Overhead+1)
		}
		for _, cut := range append(cuts, len(sealed)-1, len(sealed)-Overhead) {
			if cut >= len(sealed) {
				continue
			}
			got, err := readAll(sealed[:cut], id)
			wantPrefix(t, fmt.Sprintf("%d bytes cut at %d", n, cut), got, plain, err)
			if len(got) == len(plain) && n > 0 {
				t.Fatalf("cut at %d: all of it flowed", cut)
			}
			if _, err := OpenBytes(sealed[:cut], id, math.MaxInt64); err == nil {
				t.Fatalf("OpenBytes opens it cut at %d", cut)
			}
		}
		got, err := readAll(append(bytes.Clone(sealed), 0), id)
		wantPrefix(t, "a byte added", got, plain, err)
	}
}

func TestBitFlips(t *testing.T) {
	id, plain := newIdentity(t), sample(2*ChunkSize+100)
	sealed := mustSeal(t, plain, id.Recipient())
	rapid.Check(t, func(rt *rapid.T) {
		at := rapid.IntRange(0, len(sealed)-1).Draw(rt, "at")
		altered := bytes.Clone(sealed)
		altered[at] ^= 1 << rapid.IntRange(0, 7).Draw(rt, "bit")
		got, err := readAll(altered, id)
		if err == nil || !bytes.HasPrefix(plain, got) || len(got)%ChunkSize != 0 {
			rt.Fatalf("%d bytes and %v", len(got), err)
		}
		if payloadAt := at - HeaderSize() - NonceSize; payloadAt >= 0 && len(got) != payloadAt/sealedChunk*ChunkSize {
			rt.Fatalf("%d bytes flowed", len(got))
		}
	})
}

func TestCheckTail(t *testing.T) {
	for _, n := range edges {
		_, payload, nonce, key := parts(t, sample(n))
		size := int64(len(payload))
		tailSize, err := TailSize(size)
		if err != nil {
			t.Fatal(err)
		}
		tail := payload[size-tailSize:]
		if err := CheckTail(key, nonce, tail, size); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		for i := range min(len(tail), 64) {
			at := i * len(tail) / min(len(tail), 64)
			altered := bytes.Clone(tail)
			altered[at] ^= 0x80
			wantRefusal(t, CheckTail(key, nonce, altered, size), fault.Invalid, msgTail)
		}
		other := nonce
		other[3] ^= 1
		wantRefusal(t, CheckTail(key, other, tail, size), fault.Invalid, msgTail)
		_, _, _, otherKey := parts(t, nil)
		wantRefusal(t, CheckTail(otherKey, nonce, tail, size), fault.Invalid, msgTail)
		// The same last bytes are not the end of a file one chunk longer.
		wantCode(t, CheckTail(key, nonce, tail, size+sealedChunk), fault.Invalid)
		wantCode(t, CheckTail(key, nonce, tail[1:], size), fault.Invalid)
		wantCode(t, CheckTail(key, nonce, nil, size), fault.Invalid)
		wantCode(t, CheckTail(key, nonce, append([]byte{0}, tail...), size), fault.Invalid)
		if n > ChunkSize {
			// A whole chunk from the middle is not the end of a shorter file.
			cut := int64(NonceSize + sealedChunk)
			wantRefusal(t, CheckTail(key, nonce, payload[NonceSize:cut], cut), fault.Invalid, msgTail)
		}
	}
}

// TestCheckTailOfHugeFile: the middle of 1 TiB is neither read nor allocated.
func TestCheckTailOfHugeFile(t *testing.T) {
	_, _, nonce, key := parts(t, nil)
	wantRefusal(t, CheckTail(key, nonce, make([]byte, sealedChunk), PayloadSize(1<<40)), fault.Invalid, msgTail)
}

func TestSparseFile(t *testing.T) {
	f := sparseFile{head: []byte("head"), tail: []byte("tail"), size: 12}
	whole := []byte("head\x00\x00\x00\x00tail")
	for off := range len(whole) + 1 {
		for n := 1; n < len(whole)+2; n++ {
			p := bytes.Repeat([]byte{0xff}, n)
			got, err := f.ReadAt(p, int64(off))
			want := whole[off:min(off+n, len(whole))]
			if !bytes.Equal(p[:got], want) || (err == io.EOF) != (got < n) {
				t.Fatalf("%d bytes at %d: %q, %v", n, off, p[:got], err)
			}
		}
	}
}

// closer counts how often it is closed.
type closer struct {
	io.Reader
	closed int
}

func (c *closer) Close() error { c.closed++; return nil }

// store serves ranges of a payload and counts the fetches.
type store struct {
	payload []byte
	fetched int
	body    *closer
}

func (s *store) fetch(off, n int64) (io.ReadCloser, error) {
	s.fetched++
	s.body = &closer{Reader: bytes.NewReader(s.payload[off : off+n])}
	return s.body, nil
}

func TestOpenRange(t *testing.T) {
	type file struct {
		plain, payload []byte
		nonce          [NonceSize]byte
		key            FileKey
	}
	var files []file
	for _, n := range edges {
		f := file{plain: sample(n)}
		_, f.payload, f.nonce, f.key = parts(t, f.plain)
		files = append(files, f)
	}
	check := func(t rapid.TB, f file, off, n int64) {
		s := &store{payload: f.payload}
		r, err := OpenRange(f.key, f.nonce, int64(len(f.payload)), off, n, s.fetch)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, f.plain[off:off+n]) {
			t.Fatalf("[%d, +%d) of %d: wrong bytes (%v)", off, n, len(f.plain), err)
		}
		if want := int(min(n, 1)); s.fetched != want {
			t.Fatalf("%d fetches, want %d", s.fetched, want)
		}
		if err := r.Close(); err != nil || s.body != nil && s.body.closed != 1 {
			t.Fatalf("close: %v", err)
		}
	}
	for _, f := range files {
		size := int64(len(f.plain))
		for _, off := range []int64{0, 1, ChunkSize - 1, ChunkSize, ChunkSize + 1, size - 1, size} {
			for _, n := range []int64{0, 1, 2, ChunkSize, ChunkSize + 1, size - off} {
				if off >= 0 && off <= size && n >= 0 && n <= size-off {
					check(t, f, off, n)
				}
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.SampledFrom(files).Draw(t, "file")
		off := rapid.Int64Range(0, int64(len(f.plain))).Draw(t, "off")
		check(t, f, off, rapid.Int64Range(0, int64(len(f.plain))-off).Draw(t, "n"))
	})
}

func TestOpenRangeRefuses(t *testing.T) {
	plain := sample(3*ChunkSize + 10)
	_, payload, nonce, key := parts(t, plain)
	size, end := int64(len(payload)), int64(len(plain))
	for _, c := range [][2]int64{{-1, 1}, {0, -1}, {0, end + 1}, {end, 1}, {end + 1, 0}, {1, math.MaxInt64}, {math.MaxInt64, 1}} {
		s := &store{payload: payload}
		_, err := OpenRange(key, nonce, size, c[0], c[1], s.fetch)
		if wantCode(t, err, fault.Invalid); s.fetched != 0 {
			t.Error("it fetched before it refused")
		}
	}
	down := fault.New(fault.Unavailable, "storage.Get", "the store is down")
	_, err := OpenRange(key, nonce, size, 0, 1, func(int64, int64) (io.ReadCloser, error) { return nil, down })
	if wantCode(t, err, fault.Unavailable); !errors.Is(err, down) {
		t.Error("the cause is lost")
	}
	cut, err := OpenRange(key, nonce, size, 0, end, func(off, n int64) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(payload[off:100_000]), iotest.ErrReader(down))), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(cut)
	if wantCode(t, err, fault.Unavailable); !errors.Is(err, down) || !bytes.Equal(got, plain[:ChunkSize]) {
		t.Errorf("%d bytes before the outage", len(got))
	}

	read := func(payload []byte, payloadSize, off, n int64) ([]byte, error) {
		r, err := OpenRange(key, nonce, payloadSize, off, n, func(off, n int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(payload[min(off, int64(len(payload))):min(off+n, int64(len(payload)))])), nil
		})
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(r)
	}
	for chunk := range 4 {
		altered := bytes.Clone(payload)
		altered[NonceSize+chunk*sealedChunk+5] ^= 1
		got, err := read(altered, size, 100, end-100)
		wantCode(t, err, fault.Corrupt)
		if want := max(0, chunk*ChunkSize-100); !bytes.Equal(got, plain[100:100+want]) {
			t.Errorf("chunk %d altered: %d bytes flowed, want %d", chunk, len(got), want)
		}
	}
	// Chunks in another place, a file cut short, and a wrong idea of its size.
	swapped := slices.Concat(payload[:NonceSize], payload[NonceSize+sealedChunk:NonceSize+2*sealedChunk], payload[NonceSize:NonceSize+sealedChunk], payload[NonceSize+2*sealedChunk:])
	got, err = read(swapped, size, 0, end)
	wantPrefix(t, "swapped", got, plain, err)
	got, err = read(payload[:NonceSize+sealedChunk+7], size, 0, end)
	wantPrefix(t, "cut", got, plain, err)
	got, err = read(payload, NonceSize+sealedChunk, 0, ChunkSize)
	if wantCode(t, err, fault.Corrupt); len(got) != 0 {
		t.Error("a middle chunk passed as the last")
	}
}

func TestRangeReaderAfterClose(t *testing.T) {
	_, payload, nonce, key := parts(t, sample(100))
	s := &store{payload: payload}
	r, err := OpenRange(key, nonce, int64(len(payload)), 0, 100, s.fetch)
	if err != nil {
		t.Fatal(err)
	}
	one := make([]byte, 1)
	if _, err := r.Read(one); err != nil {
		t.Fatal(err)
	}
	r.Close()
	if n, err := r.Read(one); n != 0 || err == nil || err == io.EOF {
		t.Fatalf("read after close: %d, %v", n, err)
	}
}

// failingWriter fails after some bytes.
type failingWriter struct {
	left int
	err  error
}

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, w.err
	}
	return len(p), nil
}

func TestSealGivesWriteErrors(t *testing.T) {
	full := fault.New(fault.Unavailable, "disk", "no space left")
	plain := sample(2*ChunkSize + 1)
	for _, left := range []int{0, HeaderSize(), HeaderSize() + NonceSize, HeaderSize() + sealedChunk, int(SealedSize(int64(len(plain)))) - 1} {
		w, err := Seal(&failingWriter{left, full}, newIdentity(t).Recipient())
		if err == nil {
			_, err = w.Write(plain)
		}
		if err == nil {
			err = w.Close()
		}
		if !errors.Is(err, full) || !fault.Is(err, fault.Unavailable) {
			t.Errorf("full after %d bytes: %v", left, err)
		}
	}
}

// TestOpenSized: it gives what Open gives, whatever the reader's memory, and
// nothing of a file that has another size or was altered.
func TestOpenSized(t *testing.T) {
	id := newIdentity(t)
	read := func(sealed []byte, size int64, memory int) ([]byte, error) {
		r, err := OpenSized(bytes.NewReader(sealed), size, id)
		if err != nil {
			return nil, err
		}
		var got bytes.Buffer
		_, err = io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{r}, make([]byte, memory))
		return got.Bytes(), err
	}
	for _, n := range edges {
		plain := sample(n)
		sealed := mustSeal(t, plain, id.Recipient())
		size := int64(len(sealed))
		for _, memory := range []int{1000, ChunkSize, sealedChunk, 256 << 10} {
			if got, err := read(sealed, size, memory); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%d bytes into %d: %d bytes, %v", n, memory, len(got), err)
			}
			_, err := read(append(slices.Clone(sealed), 0), size, memory)
			wantCode(t, err, fault.Corrupt)
			for _, cut := range []int{1, Overhead, sealedChunk} {
				if cut < len(sealed)-HeaderSize() {
					got, err := read(sealed[:len(sealed)-cut], size, memory)
					wantPrefix(t, fmt.Sprintf("%d bytes without the last %d", n, cut), got, plain, err)
				}
			}
			for _, wrong := range []int64{size - 1, size + 1, size + sealedChunk, 0, -1} {
				got, err := read(sealed, wrong, memory)
				wantPrefix(t, fmt.Sprintf("%d bytes said to be %d", size, wrong), got, plain, err)
			}
			altered := slices.Clone(sealed)
			altered[len(altered)-1] ^= 1
			got, err := read(altered, size, memory)
			wantPrefix(t, "altered", got, plain, err)
		}
	}
	outage := fault.New(fault.Unavailable, "test", "gone")
	sealed := mustSeal(t, sample(3*ChunkSize), id.Recipient())
	r, err := OpenSized(io.MultiReader(bytes.NewReader(sealed[:100_000]), iotest.ErrReader(outage)), int64(len(sealed)), id)
	if err == nil {
		_, err = io.ReadAll(r)
	}
	wantCode(t, err, fault.Unavailable)
}
