package seal

import (
	"strings"

	"filippo.io/age"

	"dsvault/vault/fault"
)

const (
	recipientPrefix = "age1pq1"
	// A recipient's text is 1,959 characters; more is not worth looking at.
	maxRecipient = 4 << 10
)

// Recipient is a hybrid public key. The zero Recipient is unset. Recipients
// are comparable with == and usable as map keys.
type Recipient struct{ text string }

// ParseRecipient reads "age1pq1…". Everything else, X25519, SSH, passphrase
// and plugin recipients among them, is Invalid with a hint. No error repeats s,
// which may be a secret key that was pasted by mistake.
func ParseRecipient(s string) (Recipient, error) {
	const op = "seal.ParseRecipient"
	if !strings.HasPrefix(s, recipientPrefix) || len(s) > maxRecipient {
		return Recipient{}, fault.New(fault.Invalid, op, "not a hybrid post-quantum recipient").WithHint(recipientHint(s))
	}
	hybrid, err := age.ParseHybridRecipient(s)
	if err != nil || hybrid.String() != s {
		return Recipient{}, fault.New(fault.Invalid, op, "the recipient is damaged").
			WithHint("copy the whole line that begins with " + recipientPrefix + "; a character is missing or changed")
	}
	return Recipient{s}, nil
}

func recipientHint(s string) string {
	const use = "use the one that begins with " + recipientPrefix
	switch lower := strings.ToLower(s); {
	case strings.HasPrefix(lower, "age-secret-key-"), strings.HasPrefix(lower, "age-plugin-"):
		return "this is a secret key: keep it to yourself; " + use + " (`age-keygen -y KEYFILE` prints it)"
	case strings.HasPrefix(lower, "ssh-"), strings.HasPrefix(lower, "ecdsa-"), strings.HasPrefix(lower, "sk-"):
		return "SSH keys are not accepted; make a key with `age-keygen -pq` and " + use
	case strings.HasPrefix(lower, recipientPrefix):
		return "copy the line exactly: " + recipientPrefix + " and then 1,952 lower-case characters"
	case strings.HasPrefix(lower, "age1") && strings.Contains(lower[len("age1"):], "1"):
		return "plugin and hardware recipients are not accepted; make a key with `age-keygen -pq` and " + use
	case strings.HasPrefix(lower, "age1"):
		return "X25519 keys are not safe against quantum computers; make a key with `age-keygen -pq` and " + use
	default:
		return "a recipient is one line that begins with " + recipientPrefix + "; passphrases are not accepted"
	}
}

// String gives the text form, or "" for the zero Recipient.
func (r Recipient) String() string { return r.text }

// IsZero reports whether the recipient is unset.
func (r Recipient) IsZero() bool { return r.text == "" }

// MarshalText writes the text form; the zero Recipient is the empty text.
func (r Recipient) MarshalText() ([]byte, error) { return []byte(r.text), nil }

// UnmarshalText reads what MarshalText wrote.
func (r *Recipient) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*r = Recipient{}
		return nil
	}
	parsed, err := ParseRecipient(string(text))
	if err == nil {
		*r = parsed
	}
	return err
}

// hybrid gives age's form. Only the zero Recipient has none.
func (r Recipient) hybrid(op string) (*age.HybridRecipient, error) {
	if r.IsZero() {
		return nil, fault.New(fault.Invalid, op, "no recipient is set")
	}
	hybrid, err := age.ParseHybridRecipient(r.text)
	if err != nil {
		return nil, fault.New(fault.Internal, op, "a checked recipient does not parse")
	}
	return hybrid, nil
}
