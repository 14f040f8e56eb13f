package keys

import (
	"crypto/ed25519"
	"encoding/base64"

	"golang.org/x/mod/sumdb/note"

	"dsvault/vault/fault"
)

// noteVerifier makes the verifier key that belongs to an Ed25519 signing key of
// the C2SP signed-note format: one algorithm byte (1), then the 32-byte seed.
func noteVerifier(name, encoded string) (string, error) {
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(raw) != 1+ed25519.SeedSize || raw[0] != 1 {
		return "", fault.Wrap(fault.Corrupt, "keys.Open", "the log's key is damaged", err)
	}
	public := ed25519.NewKeyFromSeed(raw[1:]).Public().(ed25519.PublicKey)
	return note.NewEd25519VerifierKey(name, public)
}
