package audit

import (
	"errors"
	"time"

	f_note "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

// WitnessVerifier verifies the cosignatures of a witness by C2SP
// tlog-cosignature. Its key is a note verifier key, as the witness shows it.
func WitnessVerifier(key string) (note.Verifier, error) {
	v, err := f_note.NewVerifierForCosignatureV1(key)
	if err != nil {
		return nil, errors.New("audit: not the verifier key of a witness")
	}
	return v, nil
}

// CosignedAt gives the time at which a witness says it has seen a checkpoint.
// The signature is one that WitnessVerifier has verified.
func CosignedAt(s note.Signature) (time.Time, error) {
	return f_note.CoSigV1Timestamp(s)
}
