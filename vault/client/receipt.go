package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/pack"
	"dsvault/vault/wire"
)

// VerifyReceipt checks a receipt without a server. With the zero LogPin it uses
// the key in the receipt.
func VerifyReceipt(r audit.Receipt, pin LogPin, witnesses []string) (audit.ReceiptReport, error) {
	opts, err := bundleOptions(pin, witnesses)
	if err != nil {
		return audit.ReceiptReport{}, err
	}
	report, err := r.Verify(opts)
	if err != nil {
		return report, badReceipt(err)
	}
	return report, nil
}

func badReceipt(err error) error {
	return fault.Wrap(fault.Corrupt, "client.VerifyReceipt", "the receipt does not verify: "+err.Error(), err).
		WithHint("if it was signed with a key that the log had before your first login here, use `dsvault verify --key` with that one; if not, keep it, and ask the operator and those whose data it is about")
}

// CompleteReceipt asks the server for the proof that the log holds what the
// receipt promises, checks it, and adds it to r. A promise that is not kept is
// Corrupt, with an *audit.VerifyError of audit.CheckReceipt.
func (c *Client) CompleteReceipt(ctx context.Context, r *audit.Receipt, pin LogPin) (audit.ReceiptReport, error) {
	report, err := VerifyReceipt(*r, pin, nil)
	if err != nil {
		return report, err
	}
	q := url.Values{"index": {strconv.FormatUint(r.Index, 10)}, "leaf": {hex.EncodeToString(report.Hash[:])}}
	var proof wire.Inclusion
	err = c.get(ctx, "client.CompleteReceipt", wire.PathInclusion, q, &proof)
	if fault.Is(err, fault.NotFound) {
		return report, badReceipt(&audit.VerifyError{Check: audit.CheckReceipt, Index: int64(r.Index),
			Detail: "the log has promised that it holds this leaf, and does not"})
	}
	if err != nil {
		return report, err
	}
	whole := *r
	whole.Checkpoint, whole.Proof = proof.Checkpoint, make([][]byte, len(proof.Proof))
	for i, h := range proof.Proof {
		whole.Proof[i] = h
	}
	if report, err = VerifyReceipt(whole, pin, nil); err != nil {
		return report, err
	}
	*r = whole
	return report, nil
}

// SaveReceipt writes a receipt, in place of one that is there.
func SaveReceipt(path string, r audit.Receipt) (err error) {
	defer func() {
		if err != nil {
			err = pack.DiskFault("client.SaveReceipt", "cannot write "+path, err)
		}
	}()
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".receipt-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(append(data, '\n'))
	if closing := tmp.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// NoReceipts, as PullOptions.Receipts, keeps none.
const NoReceipts = "none"

// receiptFolder is where the receipts of a pull into dir are kept: beside it, so
// that the folder holds the data and nothing else.
func receiptFolder(dir, named string) (string, error) {
	switch named {
	case NoReceipts:
		return "", nil
	case "":
		whole, err := filepath.Abs(dir)
		if err != nil {
			return "", err
		}
		named = whole + ".receipts"
	}
	return named, os.MkdirAll(named, 0o700)
}

// keepReceipt checks and keeps the receipt that came with a read, before the data.
func (p *puller) keepReceipt(resp *http.Response) (string, error) {
	const op = "client.Pull"
	if p.receipts == "" {
		return "", nil
	}
	bad := func(why string, err error) (string, error) {
		return "", fault.Wrap(fault.Corrupt, op, fmt.Sprintf("shard %s: %s", p.ref, why), err).
			WithHint("tell the operator; --receipts none goes without")
	}
	data, err := base64.StdEncoding.DecodeString(resp.Header.Get(wire.HeaderReceipt))
	if err != nil {
		return bad("the receipt is not base64", err)
	}
	r, err := audit.ParseReceipt(data)
	if err != nil {
		return bad("there is no receipt for the read", err)
	}
	r.Object = p.ref.String()
	report, err := VerifyReceipt(r, p.pin, nil)
	if err != nil {
		return "", err
	}
	object := report.Leaf.Object
	device, named := report.Leaf.Bytes(audit.FieldDeviceID)
	// What a law requires may be withheld for a time, and then the leaf names no device.
	_, withheld := report.Leaf.Bytes(audit.FieldWithheldUntil)
	nobodys := withheld && !named && p.opts.Purpose == dataset.Legal
	if report.Leaf.Kind != audit.KindRead || object.Kind != audit.ObjectShard || int(object.Number) != p.ref.Number ||
		!nobodys && !bytes.Equal(device, p.c.deviceID[:]) {
		return bad("the receipt is of something else", nil)
	}
	if resp.Header.Get(wire.HeaderLeaf) != fmt.Sprintf("%d:%x", r.Index, report.Hash) {
		return bad("the receipt is of another record than the answer names", nil)
	}
	path := filepath.Join(p.receipts, receiptName(p.ref, r.Index))
	if _, err := os.Lstat(path); err == nil { // then this read has no record of its own
		return bad("the receipt is of an earlier read", nil)
	}
	return path, SaveReceipt(path, r)
}

func receiptName(ref dataset.ShardRef, index uint64) string {
	return fmt.Sprintf("%s-%04d.%d.json", ref.Dataset.Base(), ref.Number, index)
}
