package audit

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// epochMark stands between a log's name and the number of its epoch.
const epochMark = "/epoch-"

// EpochOrigin is the origin of a log's checkpoints in one of its epochs. The
// first epoch's is the log's own name. A later one is begun when records that
// were signed are lost, and is another log to witnesses and monitors: nobody
// who remembers a checkpoint takes it for the same.
func EpochOrigin(name string, epoch uint64) string {
	if epoch <= 1 {
		return name
	}
	return name + epochMark + strconv.FormatUint(epoch, 10)
}

// SplitOrigin gives the log's name and the epoch of an origin.
func SplitOrigin(origin string) (name string, epoch uint64) {
	i := strings.LastIndex(origin, epochMark)
	if i <= 0 {
		return origin, 1
	}
	epoch, err := strconv.ParseUint(origin[i+len(epochMark):], 10, 64)
	if err != nil || epoch < 2 || EpochOrigin(origin[:i], epoch) != origin {
		return origin, 1
	}
	return origin[:i], epoch
}

// EpochKey gives the same public key, a note verifier key, under the name that
// it signs with in an epoch.
func EpochKey(key string, epoch uint64) (string, error) {
	bad := errors.New("audit: not an Ed25519 verifier key")
	if _, err := note.NewVerifier(key); err != nil {
		return "", bad
	}
	parts := strings.SplitN(key, "+", 3) // NAME+HASH+DATA; DATA may hold a + too
	data, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(data) != 1+ed25519.PublicKeySize {
		return "", bad
	}
	name, _ := SplitOrigin(parts[0])
	return note.NewEd25519VerifierKey(EpochOrigin(name, epoch), ed25519.PublicKey(data[1:]))
}

// successionLabel is the first line of a succession.
const successionLabel = "dsvault/log-key/v1"

// maxSuccession is the most bytes of a succession.
const maxSuccession = 8 << 10

// SignSuccession names the next key of a log: a note that the old key and the
// new one sign. Its lines are a label, the log's name, the new verifier key and
// the Unix second from which on the old key signs nothing any more. Keys are
// under the log's own name, whatever its epoch.
func SignSuccession(name, next string, retires time.Time, old, new note.Signer) ([]byte, error) {
	text := successionLabel + "\n" + name + "\n" + next + "\n" + strconv.FormatInt(retires.Unix(), 10) + "\n"
	data, err := note.Sign(&note.Note{Text: text}, old, new)
	if err != nil {
		return nil, fmt.Errorf("audit: cannot sign the succession of a key: %w", err)
	}
	return data, nil
}

// OpenSuccession reads the succession of old, a note verifier key, in the log
// called name: the next key, and when old retires. Both have to have signed it.
// Errors are *VerifyError of CheckSuccession.
func OpenSuccession(data []byte, name, old string) (next string, retires time.Time, err error) {
	fail := func(detail string) (string, time.Time, error) {
		return "", time.Time{}, &VerifyError{Check: CheckSuccession, Index: -1, Detail: detail}
	}
	verifier, err := note.NewVerifier(old)
	if err != nil {
		return fail("the old key is not a verifier key")
	}
	if len(data) > maxSuccession {
		return fail("the note is too long")
	}
	signed, err := note.Open(data, note.VerifierList(verifier))
	if err != nil {
		return fail("the note is not signed by the old key")
	}
	lines := strings.Split(signed.Text, "\n")
	if len(lines) != 5 || lines[0] != successionLabel || lines[4] != "" {
		return fail("the note does not name a key")
	}
	if lines[1] != name {
		return fail("the note is of another log")
	}
	seconds, err := strconv.ParseInt(lines[3], 10, 64)
	if err != nil || seconds < 0 || seconds > 1<<34 || strconv.FormatInt(seconds, 10) != lines[3] {
		return fail("the note does not say when the old key retires")
	}
	fresh, err := note.NewVerifier(lines[2])
	if err != nil || fresh.Name() != name {
		return fail("the note does not name a key of this log")
	}
	if _, err := note.Open(data, note.VerifierList(fresh)); err != nil {
		return fail("the note is not signed by the new key")
	}
	return lines[2], time.Unix(seconds, 0).UTC(), nil
}

// maxSuccessions bounds the notes that are followed from key to key.
const maxSuccessions = 1000

// Successors gives the keys that a pinned one, a note verifier key, leads to,
// and itself, the newest first: each was named by the one before it. They are
// under the name of the log called name in an epoch.
func Successors(pin, name string, epoch uint64, successions [][]byte) ([]string, error) {
	key, err := EpochKey(pin, 1)
	if err != nil {
		return nil, err
	}
	chain := []string{key}
	for _, succession := range successions[:min(len(successions), maxSuccessions)] {
		// A note of a key before ours is not for us; only ours can name the next.
		// The note that names ours is signed by ours, too.
		if next, _, err := OpenSuccession(succession, name, chain[0]); err == nil && !slices.Contains(chain, next) {
			chain = append([]string{next}, chain...)
		}
	}
	for i := range chain {
		if chain[i], err = EpochKey(chain[i], epoch); err != nil {
			return nil, err
		}
	}
	return chain, nil
}
