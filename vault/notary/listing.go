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

// SignCertificate signs what a certificate says.
func (n *Notary) SignCertificate(c *audit.Certificate, e audit.Erasure) error {
	signers, err := n.signers()
	if err == nil {
		err = c.SignCertificate(e, signers...)
	}
	if err != nil {
		return fault.Wrap(fault.Internal, "notary.SignCertificate", "cannot sign a certificate", err)
	}
	return nil
}
