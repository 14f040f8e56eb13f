package audit

import (
	"fmt"
	"io"
	"slices"

	cosignature "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

// BundleOptions say what a bundle is checked against.
type BundleOptions struct {
	// Keys are those of the log, as pinned. Its checkpoint has to be signed by
	// one of them. None means that the key in the bundle is used: then the
	// bundle proves itself only to somebody who compares that key.
	Keys []note.Verifier

	// Pin is, in place of Keys, the text of the log's verifier key as pinned. It
	// leads to newer keys by the notes that name them, and to the log's epochs.
	Pin string

	// Origin is the log's name, as pinned; "" takes the bundle's.
	Origin string

	// AcceptRecovery goes on with a log whose operator has recovered it since it
	// was pinned, though records that were signed are lost.
	AcceptRecovery bool

	// Older are keys that led to Pin, for what was signed before them: files, not
	// a log as it is now. They count only where there is a Pin.
	Older []string

	chain []string // the keys that Pin leads to, the newest first, and itself

	// Witnesses are the keys of those whose cosignatures count.
	Witnesses []note.Verifier

	// Known is a checkpoint of this log that was verified earlier. The bundle's
	// has to continue it, and the bundle to prove that. The zero Checkpoint, and
	// one of another origin, ask for nothing.
	Known Checkpoint

	// Nonce, if it is not zero, has to be in a record that the log was looked
	// at: what is older does not have it.
	Nonce [16]byte

	// Receipts, which Verify has accepted, have to be among the records, unless
	// they are of other slots or newer: see Bundle.Receipts.
	Receipts []Receipt

	// Others are checkpoints of this log that somebody else has verified. A whole
	// log is compared with each that is not of a longer one; otherwise only one
	// of the same size can be. See Bundle.Compared.
	Others []Checkpoint

	// Progress, if set, hears now and then how many records of how many are done.
	Progress func(done, total uint64)

	// Each hears of every record, in order, after its own checks and before
	// those of the whole. Data and Details are good until it returns. An error
	// ends the walk.
	Each func(Record) error
}

// Bundle is what a verified bundle holds.
type Bundle struct {
	Report
	Header     BundleHeader
	Checkpoint Checkpoint
	Key        string   // the newest key that BundleOptions.Pin leads to; to be pinned from now on
	Followed   []string // the keys that led to it, the newest first; the last one is the Pin
	Witnesses  []string // names of those that have cosigned
	Details    uint64   // records whose personal details are those committed to
	Bare       uint64   // records that commit to details which are not shown: destroyed, or withheld
	Compared   int      // of the Others, those that were compared with it
	Receipts   int      // of the Receipts, those that the bundle is about; all of them are in it
}

// VerifyBundle reads a bundle and checks all of it: the checkpoint's signature;
// that it continues Known; that the statement is in the log of the checkpoint,
// and each slot's entry in the array of the statement; that the leaves of each
// slot are those that were stated, from the first to the last; and personal
// details against their commitments. Of a whole log the root is computed from
// the leaves, and each statement compared with those before it.
//
// What fails is a *VerifyError, which names the check. Other errors are those of
// the reader and of Each.
func VerifyBundle(r io.Reader, opts BundleOptions) (Bundle, error) {
	parts, err := newBundleReader(r)
	if err != nil {
		return Bundle{}, err
	}
	c := bundleCheck{parts: parts, opts: opts, out: Bundle{Header: parts.header}, fresh: opts.Nonce == [16]byte{}}
	c.missing = make(map[promise]struct{}, len(opts.Receipts))
	for _, r := range opts.Receipts {
		c.missing[promise{r.Index, LeafHash(r.Leaf)}] = struct{}{}
	}
	if err := c.run(); err != nil {
		return Bundle{}, err
	}
	return c.out, nil
}

// promise is what a receipt promises: this leaf at this index.
type promise struct {
	index uint64
	leaf  Hash
}

// bundleCheck is one walk through a bundle.
type bundleCheck struct {
	parts *bundleReader
	opts  BundleOptions
	out   Bundle

	verifier  *Verifier
	statement Statement
	stated    map[uint64]Entry
	proven    bool // that the log continues Known
	fresh     bool // the nonce was there
	records   uint64
	missing   map[promise]struct{} // of the receipts, those whose leaf has not come yet
}

func (c *bundleCheck) run() error {
	kind, data, err := c.parts.next()
	if err != nil {
		return err
	}
	if kind != partCheckpoint {
		return bundleError("it has no checkpoint")
	}
	if err := c.checkpoint(data); err != nil {
		return err
	}
	if kind, data, err = c.parts.next(); err != nil {
		return err
	}
	if kind == partConsistency {
		if err := c.consistency(data); err != nil {
			return err
		}
		if kind, data, err = c.parts.next(); err != nil {
			return err
		}
	}
	if c.out.Header.Whole {
		c.verifier = NewVerifier()
	} else {
		c.verifier = NewVerifier(SomeSlots())
		if kind, data, err = c.slots(kind, data); err != nil {
			return err
		}
	}
	total := c.total()
	for kind == partRecord {
		if c.opts.Progress != nil && c.records%tellEvery == 0 {
			c.opts.Progress(c.records, total)
		}
		if err := c.record(data); err != nil {
			return err
		}
		if kind, data, err = c.parts.next(); err != nil {
			return err
		}
	}
	if kind != partEnd || len(data) != 8 || !slices.Equal(data, Uint64Field(0, c.records).Value) {
		return bundleError("it does not end with the number of its records")
	}
	if err := c.parts.end(); err != nil {
		return err
	}
	return c.finish()
}

// tellEvery is how many records pass between two words to Progress.
const tellEvery = 1 << 12

// total is how many records there should be.
func (c *bundleCheck) total() (n uint64) {
	if c.out.Header.Whole {
		return c.out.Checkpoint.Size
	}
	for _, e := range c.stated {
		n += e.Count
	}
	return n
}

// checkpoint opens the checkpoint, and compares its size with what is known.
func (c *bundleCheck) checkpoint(data []byte) error {
	h := c.out.Header
	keys, origin, err := c.opts.trust(h.Origin, h.Key, h.Successions)
	if err != nil {
		return err
	}
	if c.out.Checkpoint, err = openWith(data, origin, keys); err != nil {
		return err
	}
	if len(c.opts.chain) > 0 {
		c.out.Key, c.out.Followed = c.opts.chain[0], c.opts.chain[1:]
	}
	if err := c.sameEpoch(); err != nil {
		return err
	}
	c.out.Witnesses = cosigned(data, c.opts.Witnesses)
	if !c.out.Header.Whole {
		if err := c.compare(c.out.Checkpoint.Size, c.out.Checkpoint.Root); err != nil {
			return err
		}
	}
	if c.opts.Known.Origin != origin {
		c.opts.Known = Checkpoint{}
	}
	if known := c.opts.Known.Size; c.out.Checkpoint.Size < known {
		return knownError("it has %d leaves, and had %d when it was verified earlier: the end was cut off", c.out.Checkpoint.Size, known)
	}
	c.proven = c.opts.Known.Size == 0
	if c.opts.Known.Size == c.out.Checkpoint.Size {
		return c.continues(nil)
	}
	return nil
}

// WitnessKey reads the verifier key of a witness: its signatures are those of
// C2SP tlog-cosignature.
func WitnessKey(vkey string) (note.Verifier, error) {
	v, err := cosignature.NewVerifierForCosignatureV1(vkey)
	if err != nil {
		return nil, fmt.Errorf("audit: not the key of a witness: %w", err)
	}
	return v, nil
}

// cosigned gives the names of the witnesses whose signatures the note has.
func cosigned(data []byte, witnesses []note.Verifier) []string {
	var names []string
	for _, w := range witnesses {
		if n, err := note.Open(data, note.VerifierList(w)); err == nil && len(n.Sigs) > 0 {
			names = append(names, w.Name())
		}
	}
	return names
}

func knownError(format string, args ...any) error {
	return &VerifyError{Check: CheckKnown, Index: -1, Detail: fmt.Sprintf(format, args...)}
}

// continues checks that the log begins with the one that is known.
func (c *bundleCheck) continues(path []Hash) error {
	if c.proven {
		return nil
	}
	if CheckConsistency(c.opts.Known, c.out.Checkpoint, path) != nil {
		return knownError("its first %d leaves are not those that were verified earlier: it was rewritten", c.opts.Known.Size)
	}
	c.proven = true
	return nil
}

func (c *bundleCheck) consistency(data []byte) error {
	size, path, err := consistencyPart(data)
	if err != nil || size != c.opts.Known.Size { // a proof for somebody else
		return err
	}
	return c.continues(path)
}

// slots reads the statement and what it says of each slot, and gives the part
// that follows.
func (c *bundleCheck) slots(kind byte, data []byte) (byte, []byte, error) {
	if kind != partStatement {
		return 0, nil, bundleError("it has no statement")
	}
	index, raw, path, err := statementPart(data)
	if err != nil {
		return 0, nil, err
	}
	if err := CheckInclusion(c.out.Checkpoint, index, LeafHash(raw), path); err != nil {
		return 0, nil, err
	}
	leaf, err := ParseLeaf(raw)
	if err != nil {
		return 0, nil, err
	}
	if c.statement, err = ReadStatement(index, &leaf); err != nil {
		return 0, nil, err
	}
	c.stated = make(map[uint64]Entry)
	for last := int64(-1); ; {
		if kind, data, err = c.parts.next(); err != nil || kind != partSlot {
			return kind, data, err
		}
		slot, entry, path, err := slotPart(data)
		if err != nil {
			return 0, nil, err
		}
		if slot >= MaxSlots || int64(slot) <= last {
			return 0, nil, bundleError("its slots are not in order")
		}
		if err := VerifyEntry(slot, entry, c.statement.Length, c.statement.Root, path); err != nil {
			return 0, nil, err
		}
		c.stated[slot], last = entry, int64(slot)
	}
}

// record checks one record.
func (c *bundleCheck) record(data []byte) error {
	r, err := recordPart(data)
	if err != nil {
		return err
	}
	c.records++
	r.Hash = LeafHash(r.Data)
	leaf, err := ParseLeaf(r.Data)
	if err := c.verifier.add(r.Index, leaf, r.Hash, err); err != nil {
		return err
	}
	r.Leaf = leaf
	switch {
	case r.Salt != nil:
		if err := c.verifier.CheckDetails(r.Index, *r.Salt, r.Details); err != nil {
			return err
		}
		c.out.Details++
	case r.Leaf.Commitment != [32]byte{}:
		c.out.Bare++
	}
	if !c.fresh && r.Leaf.Kind == KindLogRead && r.Leaf.Decision == Allowed {
		nonce, ok := r.Leaf.Bytes(FieldNonce)
		c.fresh = ok && [16]byte(nonce) == c.opts.Nonce
	}
	delete(c.missing, promise{r.Index, r.Hash})
	if err := c.remembered(); err != nil {
		return err
	}
	if c.opts.Each != nil {
		return c.opts.Each(r)
	}
	return nil
}

// compare compares the root at a size with what others have seen.
func (c *bundleCheck) compare(size uint64, root Hash) error {
	for _, o := range c.opts.Others {
		if o.Size != size || o.Origin != c.out.Checkpoint.Origin {
			continue
		}
		if o.Root != root {
			return knownError("its first %d leaves have another root than somebody else was shown: the log was forked", size)
		}
		c.out.Compared++
	}
	return nil
}

// remembered compares a whole log, when it is as long as one that is known.
func (c *bundleCheck) remembered() error {
	v := c.verifier
	if !v.some && len(c.opts.Others) > 0 && slices.ContainsFunc(c.opts.Others, func(o Checkpoint) bool { return o.Size == v.tree.Size() }) {
		if err := c.compare(v.tree.Size(), v.tree.Root()); err != nil {
			return err
		}
	}
	if c.proven || v.some || v.tree.Size() != c.opts.Known.Size {
		return nil
	}
	if v.tree.Root() != c.opts.Known.Root {
		return knownError("its first %d leaves are not those that were verified earlier: it was rewritten", c.opts.Known.Size)
	}
	c.proven = true
	return nil
}

func (c *bundleCheck) finish() error {
	var err error
	if c.out.Header.Whole {
		c.out.Report, err = c.verifier.Finish(c.out.Checkpoint)
	} else {
		c.out.Report, err = c.verifier.FinishStated(c.statement, c.stated)
	}
	if err == nil {
		err = c.promised()
	}
	switch {
	case err != nil:
		return err
	case !c.proven:
		return knownError("it does not prove that it begins with the %d leaves that were verified earlier", c.opts.Known.Size)
	case !c.fresh:
		return &VerifyError{Check: CheckFresh, Index: -1, Detail: "it does not hold the record of this very look at it: it is an older one"}
	}
	return nil
}

// promised checks that no leaf is left out of which somebody has a receipt.
func (c *bundleCheck) promised() error {
	for _, r := range c.opts.Receipts {
		leaf, err := ParseLeaf(r.Leaf)
		if err != nil {
			return err
		}
		covered, upTo := c.out.Header.Whole, c.out.Checkpoint.Size
		if !covered {
			_, covered = c.stated[leaf.Slot]
			upTo = c.statement.Index
		}
		if !covered || r.Index >= upTo {
			continue
		}
		c.out.Receipts++
		if _, missing := c.missing[promise{r.Index, LeafHash(r.Leaf)}]; missing {
			return &VerifyError{Check: CheckReceipt, Index: int64(r.Index), Detail: fmt.Sprintf(
				"the log has promised that it holds this leaf of slot %d, and now states that it does not: it left the leaf out", leaf.Slot)}
		}
	}
	return nil
}
