package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// MaxReceipt is the most bytes of a receipt.
const MaxReceipt = 256 << 10

// receiptLabel begins the text that a promise signs. Its second line keeps it
// from being taken for a checkpoint.
const receiptLabel = "dsvault/receipt/v1"

// Receipt is what a reader keeps of one read: its leaf, and the log's signed
// promise that the leaf is in the log. Once a checkpoint covers the leaf, the
// proof can stand in it too. As a file it is one JSON document.
type Receipt struct {
	Version int    `json:"dsvault_receipt"` // 1
	Origin  string `json:"origin"`          // the log's name
	Key     string `json:"key"`             // the log's note verifier key, for who has not got it elsewhere
	Object  string `json:"object,omitempty"`
	// Successions lead from an older key of the log to the one that signed.
	Successions [][]byte `json:"successions,omitempty"`
	Index       uint64   `json:"index"`
	Leaf        []byte   `json:"leaf"`
	Promise     string   `json:"promise"`              // a signed note of SignPromise
	Checkpoint  string   `json:"checkpoint,omitempty"` // the signed checkpoint that the proof leads to
	Proof       [][]byte `json:"proof,omitempty"`      // of inclusion, from the leaf up
}

// SignPromise signs that the log called origin has the leaf with this hash at
// index: a C2SP signed-note. The package comment gives the text.
func SignPromise(origin string, index uint64, leaf Hash, signers ...note.Signer) (string, error) {
	if !isOrigin(origin) {
		return "", errors.New("audit: the log's origin must be 1 to 255 bytes of text on one line")
	}
	data, err := note.Sign(&note.Note{Text: promiseText(origin, index, leaf)}, signers...)
	if err != nil {
		return "", fmt.Errorf("audit: cannot sign the promise: %w", err)
	}
	return string(data), nil
}

func promiseText(origin string, index uint64, leaf Hash) string {
	return receiptLabel + "\nlog " + origin + "\nleaf " + strconv.FormatUint(index, 10) + "\n" +
		base64.StdEncoding.EncodeToString(leaf[:]) + "\n"
}

// ParseReceipt reads a receipt. What is not one is a *VerifyError of
// CheckReceipt. It checks nothing else: see Verify.
func ParseReceipt(data []byte) (Receipt, error) {
	var r Receipt
	if len(data) > MaxReceipt {
		return r, receiptError("it is %d bytes long, more than %d", len(data), MaxReceipt)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return Receipt{}, receiptError("it is not a receipt")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Receipt{}, receiptError("something follows its end")
	}
	switch {
	case r.Version != 1:
		return Receipt{}, receiptError("it is a receipt of another version")
	case len(r.Proof) > MaxProof || (r.Checkpoint == "") != (r.Proof == nil):
		return Receipt{}, receiptError("checkpoint and proof do not go together")
	}
	for _, h := range r.Proof {
		if len(h) != 32 {
			return Receipt{}, receiptError("its proof is not of hashes")
		}
	}
	return r, nil
}

// proofMarks are in receipts and certificates, and hardly anywhere else.
var proofMarks = []string{`"dsvault_receipt"`, `"dsvault_certificate"`, receiptLabel, certificateLabel, `"successions"`, `"promise"`}

// MayBeProof tells a receipt, certificate, bundle or listing, whatever has been
// done to it, from a file that never was one. A receipt's data is all of it. An
// empty file may have been one.
func MayBeProof(data []byte) bool {
	if len(data) == 0 {
		return true
	}
	for _, mark := range proofMarks {
		if bytes.Contains(data, []byte(mark)) {
			return true
		}
	}
	for _, label := range []string{bundleMagic, listingLabel} {
		same := 0
		for i := range min(len(label), len(data)) {
			if label[i] == data[i] {
				same++
			}
		}
		if 2*same > len(label) {
			return true
		}
	}
	return false
}

// ReceiptReport is what a verified receipt shows.
type ReceiptReport struct {
	Leaf Leaf
	Hash Hash
	// Checkpoint is the one that the leaf is proven to be in; nil while the log
	// has only promised it.
	Checkpoint *Checkpoint
	Witnesses  []string // names of those that have cosigned that checkpoint
}

// Verify checks the log's promise, and the proof if there is one, with one of
// the log's keys. Of opts it looks at Keys, Origin and Witnesses. Errors are
// *VerifyError.
func (r *Receipt) Verify(opts BundleOptions) (ReceiptReport, error) {
	// A log that was recovered since has promised it all the same.
	keys, origin, err := opts.trust(r.Origin, r.Key, r.Successions)
	if err != nil {
		return ReceiptReport{}, err
	}
	out := ReceiptReport{Hash: LeafHash(r.Leaf)}
	if out.Leaf, err = ParseLeaf(r.Leaf); err != nil {
		return ReceiptReport{}, err
	}
	if len(r.Promise) > MaxCheckpoint {
		return ReceiptReport{}, receiptError("its promise is too long")
	}
	n, err := note.Open([]byte(r.Promise), note.VerifierList(keys...))
	switch {
	case err != nil || len(n.Sigs) == 0:
		return ReceiptReport{}, receiptError("its promise is not signed by the log's key")
	case n.Text != promiseText(origin, r.Index, out.Hash):
		return ReceiptReport{}, receiptError("the log has promised something else than this leaf")
	case r.Checkpoint == "":
		return out, nil
	}
	cp, err := r.openCheckpoint(opts)
	if err != nil {
		return ReceiptReport{}, err
	}
	path := make([]Hash, len(r.Proof))
	for i := range path {
		path[i] = Hash(r.Proof[i])
	}
	if err := CheckInclusion(cp, r.Index, out.Hash, path); err != nil {
		return ReceiptReport{}, err
	}
	out.Checkpoint, out.Witnesses = &cp, cosigned([]byte(r.Checkpoint), opts.Witnesses)
	return out, nil
}

// openCheckpoint opens the receipt's checkpoint, which may be of a later epoch
// of the log than the promise.
func (r *Receipt) openCheckpoint(opts BundleOptions) (Checkpoint, error) {
	origin, _, _ := strings.Cut(r.Checkpoint, "\n")
	promised, _ := SplitOrigin(r.Origin)
	if name, _ := SplitOrigin(origin); name != promised {
		origin = r.Origin // which it is then found not to be of
	}
	keys, origin, err := opts.trust(origin, r.Key, r.Successions)
	if err != nil {
		return Checkpoint{}, err
	}
	return openWith([]byte(r.Checkpoint), origin, keys)
}

// trust gives the keys and the name to check with. The origin may be of another
// epoch of the log than the pinned one.
func (o *BundleOptions) trust(origin, key string, successions [][]byte) ([]note.Verifier, string, error) {
	name, epoch := SplitOrigin(origin)
	same := o.Origin == "" || o.Origin == origin
	if pinned, _ := SplitOrigin(o.Origin); pinned == name && len(o.Keys) == 0 {
		same = true
	}
	if !same {
		return nil, "", &VerifyError{Check: CheckOrigin, Index: -1, Detail: fmt.Sprintf("it is of the log %s, not of %s",
			strconv.QuoteToASCII(origin), strconv.QuoteToASCII(o.Origin))}
	}
	if len(o.Keys) > 0 {
		return o.Keys, origin, nil
	}
	if o.Pin == "" {
		o.Pin, o.Older, successions = strings.TrimSpace(key), nil, nil
	}
	chain, err := Successors(o.Pin, name, epoch, successions)
	o.chain = chain
	for _, older := range o.Older {
		if older, wrong := EpochKey(older, epoch); wrong == nil {
			chain = append(chain[:len(chain):len(chain)], older)
		}
	}
	var keys []note.Verifier
	for _, text := range chain {
		var v note.Verifier
		if v, err = note.NewVerifier(text); err != nil {
			break
		}
		keys = append(keys, v)
	}
	if err != nil || len(keys) == 0 {
		return nil, "", &VerifyError{Check: CheckSignature, Index: -1, Detail: "the key that it names is not one"}
	}
	return keys, origin, nil
}

// openWith opens a checkpoint with the first of the keys that has signed it.
func openWith(data []byte, origin string, keys []note.Verifier) (cp Checkpoint, err error) {
	for _, key := range keys {
		if cp, err = OpenCheckpoint(data, origin, key); err == nil {
			return cp, nil
		}
	}
	return cp, err
}

func receiptError(format string, args ...any) error {
	return &VerifyError{Check: CheckReceipt, Index: -1, Detail: fmt.Sprintf(format, args...)}
}
