package audit

import (
	"fmt"
	"time"
)

// Recovered is the leaf that began an epoch of the log, with the proof that it
// is in the log of a checkpoint. The leaf names the loss, and no person or thing.
type Recovered struct {
	Index uint64   `json:"index"`
	Leaf  []byte   `json:"leaf"`
	Proof [][]byte `json:"proof"`
}

// sameEpoch refuses a log that was recovered since it was pinned, in the words
// of the leaf that says what was lost.
func (c *bundleCheck) sameEpoch() error {
	_, pinned := SplitOrigin(c.opts.Origin)
	_, epoch := SplitOrigin(c.out.Checkpoint.Origin)
	switch {
	case c.opts.Origin == "", epoch == pinned, epoch > pinned && c.opts.AcceptRecovery:
		return nil
	case epoch < pinned:
		return &VerifyError{Check: CheckOrigin, Index: -1, Detail: fmt.Sprintf("it is of epoch %d of the log, which is in epoch %d by now", epoch, pinned)}
	}
	return c.out.Header.Recovered.loss(c.out.Checkpoint, epoch)
}

// loss says what was lost when an epoch of the log began.
func (r *Recovered) loss(cp Checkpoint, epoch uint64) error {
	failed := func(index int64, format string, args ...any) error {
		return &VerifyError{Check: CheckRecovered, Index: index, Detail: fmt.Sprintf(format, args...)}
	}
	if r == nil {
		return failed(-1, "the log was recovered: it is in its epoch %d, and shows no record that says what was lost", epoch)
	}
	leaf, err := ParseLeaf(r.Leaf)
	if err != nil {
		return err
	}
	proof := make([]Hash, len(r.Proof))
	for i, h := range r.Proof {
		if len(h) != len(Hash{}) {
			return failed(-1, "the log was recovered, and the proof of the record that says so is damaged")
		}
		proof[i] = Hash(h)
	}
	if err := CheckInclusion(cp, r.Index, LeafHash(r.Leaf), proof); err != nil {
		return err
	}
	began, _ := leaf.Uint64(FieldLogEpoch)
	if leaf.Kind != KindLogRecover || began != epoch {
		return failed(-1, "the log was recovered: it is in its epoch %d, and the record that it shows for it is another", epoch)
	}
	when := time.UnixMicro(leaf.Time).UTC().Format(time.RFC3339)
	size, known := leaf.Uint64(FieldLostSize)
	root, _ := leaf.Bytes(FieldLostRoot)
	if !known {
		return failed(int64(r.Index), "its operator recovered the log here on %s: what had been signed until then is not known any more", when)
	}
	return failed(int64(r.Index), "its operator recovered the log here on %s: %d records with the root %x had been signed, of which no more than the first %d are left",
		when, size, root, min(size, r.Index))
}
