package dataset

import "encoding/hex"

// HexBytes are bytes whose text form is lower-case hexadecimal.
type HexBytes []byte

// MarshalText writes hexadecimal.
func (h HexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

// UnmarshalText reads hexadecimal.
func (h *HexBytes) UnmarshalText(text []byte) error {
	raw, err := hex.DecodeString(string(text))
	if err == nil {
		*h = raw
	}
	return err
}

// String gives hexadecimal.
func (h HexBytes) String() string { return hex.EncodeToString(h) }
