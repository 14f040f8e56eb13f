package dataset

import (
	"crypto/sha256"
	"hash"
)

// PartSize is the bytes of each part but the last in which the sealed bytes of
// a shard go straight to the object store. The last has 1 byte or more.
const PartSize = 8 << 20

// MaxParts is how many parts an object may have.
const MaxParts = 10_000

// Parts is how many parts sealed bytes have.
func Parts(sealed int64) int { return int((sealed + PartSize - 1) / PartSize) }

// PartsSum is the SHA-256 over the SHA-256 of every part, in order: what stands
// for sealed bytes that nobody but the object store has seen whole.
func PartsSum(parts [][sha256.Size]byte) [sha256.Size]byte {
	over := sha256.New()
	for _, sum := range parts {
		over.Write(sum[:])
	}
	return [sha256.Size]byte(over.Sum(nil))
}

// SealedHash hashes sealed bytes as a shard records them: at once if partSize
// is 0, otherwise by parts of this many bytes.
func SealedHash(partSize int64) hash.Hash {
	if partSize <= 0 {
		return sha256.New()
	}
	return &partsHash{size: partSize, part: sha256.New(), over: sha256.New()}
}

type partsHash struct {
	size       int64
	used       int64 // bytes in part
	part, over hash.Hash
}

func (h *partsHash) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		if h.used == h.size {
			h.close()
		}
		n := min(int64(len(rest)), h.size-h.used)
		h.part.Write(rest[:n])
		h.used, rest = h.used+n, rest[n:]
	}
	return len(p), nil
}

func (h *partsHash) close() {
	h.over.Write(h.part.Sum(nil))
	h.part.Reset()
	h.used = 0
}

// Sum ends the last part: nothing is written after it.
func (h *partsHash) Sum(b []byte) []byte {
	if h.used > 0 {
		h.close()
	}
	return h.over.Sum(b)
}

func (h *partsHash) Reset() {
	h.part.Reset()
	h.over.Reset()
	h.used = 0
}

func (h *partsHash) Size() int      { return sha256.Size }
func (h *partsHash) BlockSize() int { return sha256.BlockSize }
