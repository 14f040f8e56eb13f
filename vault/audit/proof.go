package audit

import (
	"fmt"
	"math"

	"golang.org/x/mod/sumdb/tlog"
)

// MaxProof is the most hashes of a proof: the height of the largest tree.
const MaxProof = 64

// CheckInclusion checks that the leaf with this hash is the one at index in the
// tree of cp. The proof is that of RFC 6962, section 2.1.1. Errors are
// *VerifyError of CheckInclusionProof.
func CheckInclusion(cp Checkpoint, index uint64, leaf Hash, proof []Hash) error {
	if cp.Size > math.MaxInt64 || index >= cp.Size {
		return proofError(CheckInclusionProof, index, "it is not among the %d leaves of the checkpoint", cp.Size)
	}
	if len(proof) > MaxProof {
		return proofError(CheckInclusionProof, index, "its proof has %d hashes, more than %d", len(proof), MaxProof)
	}
	if err := tlog.CheckRecord(toTlog(proof), int64(cp.Size), tlog.Hash(cp.Root), int64(index), tlog.Hash(leaf)); err != nil {
		return proofError(CheckInclusionProof, index, "its proof does not lead to the root of the checkpoint of %d leaves", cp.Size)
	}
	return nil
}

// CheckConsistency checks that the tree of next begins with that of prev. The
// proof is that of RFC 6962, section 2.1.2; it is empty if the sizes are equal
// or prev is empty. Errors are *VerifyError of CheckConsistencyProof.
func CheckConsistency(prev, next Checkpoint, proof []Hash) error {
	fail := func(format string, args ...any) error {
		err := proofError(CheckConsistencyProof, 0, format, args...)
		err.Index = -1
		return err
	}
	switch {
	case next.Size > math.MaxInt64 || len(proof) > MaxProof:
		return fail("the proof of consistency is too long")
	case prev.Size > next.Size:
		return fail("the log has %d leaves where it had %d before", next.Size, prev.Size)
	case prev.Size == 0:
		if prev.Root != EmptyRoot() || len(proof) != 0 {
			return fail("the empty log has another root")
		}
		return nil
	case prev.Size == next.Size:
		if prev.Root != next.Root || len(proof) != 0 {
			return fail("two logs of %d leaves have different roots", prev.Size)
		}
		return nil
	}
	if err := tlog.CheckTree(toTlog(proof), int64(next.Size), tlog.Hash(next.Root), int64(prev.Size), tlog.Hash(prev.Root)); err != nil {
		return fail("the log of %d leaves does not begin with the log of %d", next.Size, prev.Size)
	}
	return nil
}

func proofError(check string, index uint64, format string, args ...any) *VerifyError {
	return &VerifyError{Check: check, Index: int64(index), Detail: fmt.Sprintf(format, args...)}
}

func toTlog(proof []Hash) []tlog.Hash {
	out := make([]tlog.Hash, len(proof))
	for i, h := range proof {
		out[i] = tlog.Hash(h)
	}
	return out
}
