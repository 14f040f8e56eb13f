package wire

import "dsvault/vault/dataset"

// Verifying the log. GET PathBundle?under=SCOPE&known=SIZE&nonce=HEX gives a
// bundle, as package audit has it, of the log at and below a scope. It continues
// the log of known leaves, and holds the record of this request, with the nonce:
// 16 bytes in hexadecimal.
//
// GET PathInclusion?index=N&leaf=HEX gives Inclusion, to whoever knows a leaf's
// hash: the holder of a receipt.
const (
	PathBundle    = "/v1/log/bundle"
	PathInclusion = "/v1/log/inclusion"
)

// BundleType is the media type of a bundle.
const BundleType = "application/vnd.dsvault.bundle"

// HeaderReceipt is a header of a read's answer: a receipt, as package audit has
// it, in base64.
const HeaderReceipt = "Dsvault-Receipt"

// Inclusion proves that a leaf is in the log of a checkpoint.
type Inclusion struct {
	Checkpoint string             `json:"checkpoint"` // a signed note
	Proof      []dataset.HexBytes `json:"proof"`      // from the leaf up
}
