package seal

import (
	"fmt"
	"io"
	"log/slog"
)

// redacted is embedded by secrets: every way of printing them, also %#v, JSON
// and slog, gives "[redacted]".
type redacted struct{}

const redactedText = "[redacted]"

func (redacted) String() string                { return redactedText }
func (redacted) GoString() string              { return redactedText }
func (redacted) Format(f fmt.State, verb rune) { io.WriteString(f, redactedText) }
func (redacted) MarshalText() ([]byte, error)  { return []byte(redactedText), nil }
func (redacted) LogValue() slog.Value          { return slog.StringValue(redactedText) }
