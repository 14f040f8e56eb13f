package audit

import "fmt"

// The checks that a *VerifyError can name. The names are stable.
const (
	CheckFormat       = "leaf-format"          // the leaf is not in the canonical encoding
	CheckOrder        = "leaf-order"           // leaves were not given in index order
	CheckSeq          = "slot-sequence"        // a leaf of a slot is missing, repeated or out of place
	CheckPrev         = "slot-chain"           // the previous leaf's hash does not match
	CheckTag          = "slot-tag"             // a slot changed its tag, or two slots share one
	CheckDataset      = "slot-dataset"         // a dataset's leaf is in a slot that is not its own
	CheckTime         = "time-order"           // time went back
	CheckRevision     = "revision-order"       // the policy revision went back
	CheckReadEnd      = "read-end"             // a read-end closes nothing that was open
	CheckReadEndTwice = "read-end-twice"       // a read was closed twice
	CheckDetails      = "details"              // the details are not those that the leaf commits to
	CheckSize         = "size"                 // the checkpoint has another number of leaves
	CheckRoot         = "root"                 // the checkpoint has another root
	CheckCheckpoint   = "checkpoint-format"    // not a checkpoint
	CheckOrigin       = "checkpoint-origin"    // the checkpoint of another log
	CheckSignature    = "checkpoint-signature" // not signed by the log's key

	CheckInclusionProof   = "inclusion"   // a proof does not show the leaf in the tree
	CheckConsistencyProof = "consistency" // a proof does not show that one tree begins with another
	CheckSuccession       = "log-key"     // the log's next key is not named by the one before it
	CheckRecovered        = "recovered"   // records that were signed are lost, and the log says so

	CheckKnown     = "known"          // the log does not continue what was verified earlier
	CheckStatement = "statement"      // a statement is not what the log holds, or is not in the log
	CheckSlot      = "statement-slot" // what is shown of a slot is not what was stated of it
	CheckFresh     = "fresh"          // the answer is older than the question
	CheckBundle    = "bundle-format"  // not a bundle
	CheckListing   = "listing"        // not a listing, or a file that is not the one that was signed
	CheckReceipt   = "receipt"        // not a receipt, or one that the log contradicts

	CheckCertificate = "certificate" // not a certificate of an erasure, or one that the log contradicts
)

// VerifyError says which check failed, on which leaf, and what is wrong.
type VerifyError struct {
	Check  string // one of the Check constants
	Index  int64  // the leaf's index; -1 if it is not about one leaf
	Detail string // what is wrong, in a form that continues "leaf 7: "
}

// Error gives one sentence.
func (e *VerifyError) Error() string {
	if e.Index < 0 {
		return fmt.Sprintf("audit: %s: %s", e.Check, e.Detail)
	}
	return fmt.Sprintf("audit: leaf %d: %s: %s", e.Index, e.Check, e.Detail)
}

// Is makes errors.Is(err, &VerifyError{Check: CheckRoot}) ask for the check,
// whatever the leaf.
func (e *VerifyError) Is(target error) bool {
	t, ok := target.(*VerifyError)
	return ok && t.Check == e.Check
}
