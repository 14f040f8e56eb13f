package client

import (
	"fmt"
	"io"
	"log/slog"
	"strings"

	"dsvault/vault/fault"
)

const redacted = "[redacted]"

// maxToken bounds what is taken for a token.
const maxToken = 512

// Secret is a bearer token. It cannot be printed; Expose is the only way to
// its text. The zero Secret is unset. The pointer is there because fmt follows
// hidden fields of others, where it cannot call Format.
type Secret struct{ text *string }

// ParseSecret reads a token; space around it is dropped. Anything that could
// not be one, such as several lines, is Invalid; no error repeats it.
func ParseSecret(s string) (Secret, error) {
	s = strings.TrimSpace(s)
	ok := len(s) > 0 && len(s) <= maxToken
	for i := 0; ok && i < len(s); i++ {
		ok = s[i] > ' ' && s[i] < 0x7f
	}
	if !ok {
		return Secret{}, fault.New(fault.Invalid, "client.ParseSecret", "that is not a token").
			WithHint("a token is one line, dsv_…, as `dsvault init` or `dsvault person invite` prints it")
	}
	return Secret{&s}, nil
}

// Expose gives the token's text. Never log it.
func (s Secret) Expose() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports whether the secret is unset.
func (s Secret) IsZero() bool { return s.text == nil }

// String gives a placeholder.
func (Secret) String() string { return redacted }

// GoString gives a placeholder.
func (Secret) GoString() string { return redacted }

// Format writes a placeholder, whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// MarshalText gives a placeholder.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue gives a placeholder.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
