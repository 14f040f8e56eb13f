package seal

import (
	"bytes"

	"filippo.io/age"

	"dsvault/vault/fault"
)

const (
	identityPrefix  = "AGE-SECRET-KEY-PQ-1"
	maxIdentityFile = 64 << 10
)

// Identity is a hybrid (ML-KEM-768 + X25519) secret key. It cannot be printed;
// Expose is the only way to its text. It is safe for concurrent use.
type Identity struct {
	redacted
	hybrid *age.HybridIdentity
}

// GenerateIdentity makes a new identity from the system's randomness.
func GenerateIdentity() (*Identity, error) {
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "seal.GenerateIdentity", "cannot make a key", err)
	}
	return &Identity{hybrid: hybrid}, nil
}

// ParseIdentity reads an age key file with exactly one hybrid key: one line
// "AGE-SECRET-KEY-PQ-1…"; empty lines, lines that begin with "#" and space
// around a line are skipped. Anything else is Invalid. No error repeats any
// part of secret.
func ParseIdentity(secret []byte) (*Identity, error) {
	const op = "seal.ParseIdentity"
	if len(secret) > maxIdentityFile {
		return nil, fault.New(fault.Invalid, op, "a key file is at most 64 KiB")
	}
	var key []byte
	for line := range bytes.Lines(secret) {
		line = bytes.TrimSpace(line)
		switch {
		case len(line) == 0 || line[0] == '#':
		case key != nil:
			return nil, fault.New(fault.Invalid, op, "the key file holds more than one key").
				WithHint("keep exactly one AGE-SECRET-KEY-PQ-1… line")
		default:
			key = line
		}
	}
	switch {
	case key == nil:
		return nil, fault.New(fault.Invalid, op, "the key file holds no key").
			WithHint("a key is one line that begins with " + identityPrefix)
	case !bytes.HasPrefix(key, []byte(identityPrefix)):
		return nil, fault.New(fault.Invalid, op, "not a hybrid post-quantum secret key").
			WithHint("use a key that begins with " + identityPrefix + ", as `age-keygen -pq` makes it")
	}
	hybrid, err := age.ParseHybridIdentity(string(key))
	if err != nil {
		// The cause is dropped: it may quote the key.
		return nil, fault.New(fault.Invalid, op, "the secret key is damaged").
			WithHint("restore the key file from its backup; a character is missing or changed")
	}
	return &Identity{hybrid: hybrid}, nil
}

// Recipient is the public key that seals to this identity.
func (id *Identity) Recipient() Recipient { return Recipient{id.hybrid.Recipient().String()} }

// Expose gives the secret key as text, "AGE-SECRET-KEY-PQ-1…", without a
// newline. Whoever has it can open everything that was sealed to the identity:
// call it only to store the key wrapped, or in a file of mode 0600; never log
// it, and clear the slice after use.
func (id *Identity) Expose() []byte { return []byte(id.hybrid.String()) }
