package seal

import (
	"math"

	"dsvault/vault/fault"
)

const (
	// ChunkSize is the plaintext bytes of every chunk but the last, which may
	// have fewer.
	ChunkSize = 65536
	// NonceSize is the bytes at the start of a payload, before the chunks.
	NonceSize = 16
	// Overhead is the bytes that sealing adds to each chunk.
	Overhead = 16

	sealedChunk = ChunkSize + Overhead
)

// HeaderSize is the size in bytes of a header with one hybrid stanza. Stanzas
// have a fixed size, so a header of this size has exactly one.
func HeaderSize() int { return headerSize }

// PayloadSize is the size of the payload (nonce and chunks) of plain bytes of
// plaintext. It is -1 if plain is negative or the result is over 63 bits.
func PayloadSize(plain int64) int64 {
	if plain < 0 {
		return -1
	}
	// An empty file has one empty chunk.
	added := NonceSize + Overhead*max(1, plain/ChunkSize+min(1, plain%ChunkSize))
	if plain > math.MaxInt64-added {
		return -1
	}
	return plain + added
}

// SealedSize is the size of the file that Seal makes from plain bytes of
// plaintext, or -1 as PayloadSize says.
func SealedSize(plain int64) int64 {
	payload := PayloadSize(plain)
	if payload < 0 || payload > math.MaxInt64-int64(headerSize) {
		return -1
	}
	return int64(headerSize) + payload
}

// PlainSize is the inverse of PayloadSize. It is Invalid if no plaintext has a
// payload of this size.
func PlainSize(payload int64) (int64, error) {
	chunks, err := chunkCount("seal.PlainSize", payload)
	if err != nil {
		return 0, err
	}
	return payload - NonceSize - chunks*Overhead, nil
}

// TailSize is how many bytes at the end of a payload of this size make its
// last chunk: what CheckTail needs. It is Invalid as PlainSize says.
func TailSize(payload int64) (int64, error) {
	chunks, err := chunkCount("seal.TailSize", payload)
	if err != nil {
		return 0, err
	}
	return payload - NonceSize - (chunks-1)*sealedChunk, nil
}

// chunkCount is the number of chunks in a payload, at least 1.
func chunkCount(op string, payload int64) (int64, error) {
	body := payload - NonceSize
	if payload >= NonceSize+Overhead {
		chunks := (body-1)/sealedChunk + 1
		last := body - (chunks-1)*sealedChunk
		// Only an empty file may have an empty chunk.
		if last > Overhead || chunks == 1 {
			return chunks, nil
		}
	}
	return 0, fault.New(fault.Invalid, op, "no age payload has this size").
		WithHint("the file is cut short or is not an age file")
}
