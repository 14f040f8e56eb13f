package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"golang.org/x/mod/sumdb/note"

	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// LogHead gives the log's signed checkpoint and the slots at and below a scope.
func (c *Client) LogHead(ctx context.Context, under dataset.Scope) (out wire.LogHead, err error) {
	err = c.get(ctx, "client.LogHead", "/v1/log/head", url.Values{"under": {under.String()}}, &out)
	return out, err
}

// LogPin is the log that a client trusts: its name and key, as kept from the
// first login.
type LogPin struct {
	Origin string
	Key    string // note verifier key
}

// VerifyOptions says what else to do while verifying.
type VerifyOptions struct {
	// Each hears of every record that is visible, in order, after its own
	// checks and before those of the whole log. An error ends the walk.
	Each func(wire.Record) error

	// Known is what an earlier verification found. The log has to begin with
	// it: one that is shorter, or that had another root then, is refused. The
	// zero Known is nothing.
	Known Known
}

// Known is a state of the log that was verified: how many leaves, and the root
// of their tree.
type Known struct {
	Origin string           `json:"origin"`
	Size   uint64           `json:"size"`
	Root   dataset.HexBytes `json:"root"`
}

// Verified is what a log was found to be.
type Verified struct {
	Origin  string           `json:"origin"`
	Size    uint64           `json:"size"`   // leaves of the whole log
	Seen    uint64           `json:"seen"`   // of these, read in full
	Hidden  uint64           `json:"hidden"` // of these, known by their hash only
	Root    dataset.HexBytes `json:"root"`
	Slots   int              `json:"slots"`      // chains that were followed
	Details uint64           `json:"details"`    // records whose personal details are those committed to
	Bare    uint64           `json:"bare"`       // records that commit to details which are not shown: destroyed, or withheld
	Open    []uint64         `json:"open_reads"` // reads that no record ends yet
}

// VerifyLog reads the log at and below a scope and recomputes everything: each
// leaf's hash from its bytes, the chain of each scope, what is shown against
// what the leaf says, personal details against their commitments, and the root
// of the whole tree against a checkpoint signed by the pinned key. Leaves that
// the caller may not see take part by their hash.
//
// What fails is Corrupt and wraps an *audit.VerifyError, which names the check.
func (c *Client) VerifyLog(ctx context.Context, under dataset.Scope, pin LogPin, opts VerifyOptions) (Verified, error) {
	const op = "client.VerifyLog"
	key, err := note.NewVerifier(pin.Key)
	if err != nil {
		return Verified{}, fault.Wrap(fault.Invalid, op, "the log's key is not known on this machine", err).
			WithHint("run `dsvault login URL` first: it keeps the key for later")
	}
	// The checkpoint comes first: what is read after it can only be newer.
	head, err := c.LogHead(ctx, under)
	if err != nil {
		return Verified{}, err
	}
	cp, err := audit.OpenCheckpoint(head.Checkpoint, pin.Origin, key)
	if err != nil {
		return Verified{}, failed(err)
	}
	if k := opts.Known; k.Origin == cp.Origin && cp.Size < k.Size {
		return Verified{}, failed(&audit.VerifyError{Check: checkKnown, Index: -1,
			Detail: fmt.Sprintf("it has %d leaves, and had %d when it was verified earlier: the end was cut off", cp.Size, k.Size)})
	}
	check := newLogCheck(cp, head, opts)
	hashes := hashReader{c: c, under: under, size: cp.Size}
	for rec, err := range c.Log(ctx, under, LogFilter{}) {
		if err != nil {
			return Verified{}, err
		}
		if rec.Index >= cp.Size {
			break // written after the checkpoint
		}
		if err := check.hide(ctx, &hashes, rec.Index); err != nil {
			return Verified{}, err
		}
		if err := check.record(rec); err != nil {
			return Verified{}, err
		}
	}
	if err := check.hide(ctx, &hashes, cp.Size); err != nil {
		return Verified{}, err
	}
	return check.finish()
}

// failed reports a check that failed.
func failed(err error) error {
	return fault.Wrap(fault.Corrupt, "client.VerifyLog", "the log does not verify: "+err.Error(), err).
		WithHint("keep this output and ask the operator and the other readers of this log; do not rely on it meanwhile")
}

// logCheck is one walk through the log.
type logCheck struct {
	cp       audit.Checkpoint
	all      bool
	known    Known
	each     func(wire.Record) error
	verifier *audit.Verifier
	next     uint64            // the leaf that comes next
	ends     map[uint64]uint64 // records of each slot, as the head says
	names    map[uint64]string // scopes of slots, as the records of their creation say
	details  uint64
	bare     uint64
}

func newLogCheck(cp audit.Checkpoint, head wire.LogHead, opts VerifyOptions) *logCheck {
	k := &logCheck{cp: cp, all: head.All, known: opts.Known, each: opts.Each,
		ends: make(map[uint64]uint64, len(head.Slots)), names: map[uint64]string{0: "/"}}
	for _, s := range head.Slots {
		k.ends[s.Slot] = s.Records
	}
	k.verifier = audit.NewVerifier(audit.WholeSlots(func(slot uint64) bool {
		_, whole := k.ends[slot]
		return head.All || whole
	}))
	if k.each == nil {
		k.each = func(wire.Record) error { return nil }
	}
	return k
}

// hide adds the leaves before index that are not shown, by their hashes.
func (k *logCheck) hide(ctx context.Context, hashes *hashReader, index uint64) error {
	if k.all && k.next < index {
		return failed(&audit.VerifyError{Check: audit.CheckOrder, Index: int64(k.next),
			Detail: "it is not shown, though the whole log was asked for"})
	}
	for ; k.next < index; k.next++ {
		h, err := hashes.at(ctx, k.next)
		if err != nil {
			return err
		}
		if err := k.verifier.AddHash(k.next, h); err != nil {
			return failed(err)
		}
		if err := k.remembered(k.next + 1); err != nil {
			return err
		}
	}
	return nil
}

// remembered compares the log of this size with what was verified earlier.
func (k *logCheck) remembered(size uint64) error {
	if size != k.known.Size || k.known.Origin != k.cp.Origin {
		return nil
	}
	var root audit.Hash
	copy(root[:], k.known.Root)
	if _, err := k.verifier.Finish(audit.Checkpoint{Origin: k.cp.Origin, Size: size, Root: root}); err != nil {
		return failed(&audit.VerifyError{Check: checkKnown, Index: -1,
			Detail: "its first " + strconv.FormatUint(size, 10) + " leaves are not those that were verified earlier: it was rewritten"})
	}
	return nil
}

// checkKnown names the check against what was verified earlier.
const checkKnown = "known"

// record adds a leaf that is shown, and checks that what is shown is the leaf.
func (k *logCheck) record(rec wire.Record) error {
	if err := k.verifier.AddLeaf(rec.Index, rec.Leaf); err != nil {
		return failed(err)
	}
	k.next = rec.Index + 1
	leaf, err := audit.ParseLeaf(rec.Leaf)
	if err == nil {
		err = compare(rec, leaf)
	}
	if err == nil {
		err = k.named(rec, leaf)
	}
	if err != nil {
		return failed(err)
	}
	if len(rec.Personal) == 0 && leaf.Commitment != [32]byte{} {
		k.bare++
	}
	if len(rec.Personal) > 0 {
		if len(rec.Salt) != 32 {
			return failed(&audit.VerifyError{Check: audit.CheckDetails, Index: int64(rec.Index), Detail: "its salt is not 32 bytes"})
		}
		if err := k.verifier.CheckDetails(rec.Index, [32]byte(rec.Salt), rec.Personal); err != nil {
			return failed(err)
		}
		k.details++
	}
	if err := k.remembered(k.next); err != nil {
		return err
	}
	return k.each(rec)
}

func (k *logCheck) finish() (Verified, error) {
	report, err := k.verifier.Finish(k.cp)
	if err != nil {
		return Verified{}, failed(err)
	}
	seen := make(map[uint64]uint64, len(report.Slots))
	for _, s := range report.Slots {
		seen[s.Slot] = s.Seq
	}
	for slot, records := range k.ends {
		if seen[slot] != records {
			return Verified{}, failed(&audit.VerifyError{Check: audit.CheckSeq, Index: -1,
				Detail: fmt.Sprintf("slot %d ends after %d records where the server counts %d: the last ones are missing", slot, seen[slot], records)})
		}
	}
	open := report.OpenReads
	if open == nil {
		open = []uint64{}
	}
	return Verified{
		Origin: k.cp.Origin, Size: report.Size, Seen: report.Seen, Hidden: report.Hidden, Root: report.Root[:],
		Slots: len(report.Slots), Details: k.details, Bare: k.bare, Open: open,
	}, nil
}

// hashReader reads leaf hashes in chunks, forwards only.
type hashReader struct {
	c     *Client
	under dataset.Scope
	size  uint64
	from  uint64
	chunk []byte
}

const (
	hashSize  = 32
	hashChunk = 1 << 14 // hashes of one request
)

func (r *hashReader) at(ctx context.Context, index uint64) (audit.Hash, error) {
	const op = "client.VerifyLog"
	if index < r.from || index >= r.from+uint64(len(r.chunk)/hashSize) {
		to := min(index+hashChunk, r.size)
		q := url.Values{"under": {r.under.String()}, "from": {strconv.FormatUint(index, 10)}, "to": {strconv.FormatUint(to, 10)}}
		var chunk []byte
		err := r.c.retry(ctx, maxRetries, func(ctx context.Context) error {
			resp, err := r.c.send(ctx, request{op: op, method: http.MethodGet, path: "/v1/log/hashes", query: q})
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			chunk, err = io.ReadAll(io.LimitReader(resp.Body, hashSize*hashChunk+1))
			return err
		})
		if err != nil {
			return audit.Hash{}, err
		}
		if uint64(len(chunk)) != hashSize*(to-index) {
			return audit.Hash{}, failed(&audit.VerifyError{Check: audit.CheckSize, Index: int64(index),
				Detail: "the server does not give the hashes that its checkpoint covers"})
		}
		r.from, r.chunk = index, chunk
	}
	at := (index - r.from) * hashSize
	return audit.Hash(r.chunk[at : at+hashSize]), nil
}
