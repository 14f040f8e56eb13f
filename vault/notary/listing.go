package notary

import (
	"golang.org/x/mod/sumdb/note"

	"dsvault/vault/audit"
	"dsvault/vault/fault"
)

// SignListing signs for a file with records of the log. It sets l.Origin.
func (n *Notary) SignListing(l audit.Listing) ([]byte, error) {
	signers := make([]note.Signer, len(n.cfg.Keys))
	for i, key := range n.cfg.Keys {
		signers[i] = key.Signer
	}
	l.Origin = n.cfg.Origin
	data, err := audit.SignListing(l, signers...)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "notary.SignListing", "cannot sign a listing", err)
	}
	return data, nil
}
