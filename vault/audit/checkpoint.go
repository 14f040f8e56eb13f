package audit

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/transparency-dev/formats/log"
	"golang.org/x/mod/sumdb/note"
)

// MaxCheckpoint is the most bytes that OpenCheckpoint reads. It leaves room for
// the signatures of many witnesses.
const MaxCheckpoint = 64 << 10

const maxOrigin = 255

// Checkpoint is the state of a log that its key has signed.
type Checkpoint struct {
	Origin string // the log's name, for example "vault.example.org/log"
	Size   uint64 // leaves
	Root   Hash
}

// SignCheckpoint writes a C2SP tlog-checkpoint: a note of origin, size and root
// with a signature of each signer. The origin is 1 to 255 bytes of UTF-8
// without control characters.
func SignCheckpoint(origin string, size uint64, root Hash, signers ...note.Signer) ([]byte, error) {
	if !isOrigin(origin) {
		return nil, errors.New("audit: the log's origin must be 1 to 255 bytes of text on one line")
	}
	if size > math.MaxInt64 {
		return nil, fmt.Errorf("audit: a log of %d leaves is too large", size)
	}
	text := log.Checkpoint{Origin: origin, Size: size, Hash: root[:]}.Marshal()
	data, err := note.Sign(&note.Note{Text: string(text)}, signers...)
	if err != nil {
		return nil, fmt.Errorf("audit: cannot sign the checkpoint: %w", err)
	}
	return data, nil
}

// OpenCheckpoint reads a checkpoint that verifier's key has signed for the log
// called origin. Signatures of other keys, as witnesses add them, and extension
// lines are passed over. Errors are *VerifyError of CheckSignature,
// CheckCheckpoint or CheckOrigin.
func OpenCheckpoint(data []byte, origin string, verifier note.Verifier) (Checkpoint, error) {
	fail := func(check, format string, args ...any) (Checkpoint, error) {
		return Checkpoint{}, &VerifyError{Check: check, Index: -1, Detail: fmt.Sprintf(format, args...)}
	}
	if len(data) > MaxCheckpoint {
		return fail(CheckCheckpoint, "the checkpoint is %d bytes long, more than %d", len(data), MaxCheckpoint)
	}
	signed, err := note.Open(data, note.VerifierList(verifier))
	var invalid *note.InvalidSignatureError
	var unverified *note.UnverifiedNoteError
	switch {
	case errors.As(err, &invalid):
		return fail(CheckSignature, "the checkpoint's signature by the key %s is wrong", verifier.Name())
	case errors.As(err, &unverified):
		return fail(CheckSignature, "the checkpoint is not signed by the key %s", verifier.Name())
	case err != nil:
		return fail(CheckCheckpoint, "the checkpoint is not a signed note")
	}
	var cp log.Checkpoint
	if _, err := cp.Unmarshal([]byte(signed.Text)); err != nil || len(cp.Hash) != len(Hash{}) || cp.Size > math.MaxInt64 {
		return fail(CheckCheckpoint, "the signed note is not a checkpoint of origin, size and root")
	}
	// One state has one text: no leading zeros, no loose base64.
	if !isOrigin(cp.Origin) || !strings.HasPrefix(signed.Text, string(cp.Marshal())) {
		return fail(CheckCheckpoint, "the checkpoint is not in the canonical form")
	}
	if cp.Origin != origin {
		return fail(CheckOrigin, "the checkpoint is of the log %q, not of %q", cp.Origin, origin)
	}
	return Checkpoint{Origin: cp.Origin, Size: cp.Size, Root: Hash(cp.Hash)}, nil
}

func isOrigin(s string) bool {
	return s != "" && len(s) <= maxOrigin && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
