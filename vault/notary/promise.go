package notary

import (
	"dsvault/vault/audit"
	"dsvault/vault/fault"
)

// Promise signs that the log holds the leaf with this hash at index. It is for
// leaves that are committed.
func (n *Notary) Promise(index uint64, leaf audit.Hash) (string, error) {
	signers, err := n.signers()
	var text string
	if err == nil {
		text, err = audit.SignPromise(n.Origin(), index, leaf, signers...)
	}
	if err != nil {
		return "", fault.Wrap(fault.Internal, "notary.Promise", "cannot sign a promise", err)
	}
	return text, nil
}

// Read opens a checkpoint that Await has given.
func (n *Notary) Read(signed []byte) (audit.Checkpoint, error) {
	cp, err := n.open(signed)
	if err != nil {
		return cp, fault.Wrap(fault.Corrupt, "notary.Read", "the checkpoint in the catalog is not signed by this log's key", err).
			WithHint("use the keys folder and the catalog of one vault")
	}
	return cp, nil
}
