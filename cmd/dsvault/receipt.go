package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"dsvault/vault/audit"
	"dsvault/vault/client"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// receiptVerdict is what a good receipt shows.
type receiptVerdict struct {
	Origin    string           `json:"origin"`
	Index     uint64           `json:"index"`
	Hash      dataset.HexBytes `json:"hash"`
	Time      time.Time        `json:"time"`
	Kind      string           `json:"kind"`
	Object    string           `json:"object,omitempty"` // as the reader has noted it
	Proven    bool             `json:"proven"`           // in a checkpoint; else promised
	Size      uint64           `json:"size,omitempty"`   // of that checkpoint
	Witnesses []string         `json:"witnesses,omitempty"`
}

// receipt checks a receipt and keeps it for the exported logs that follow.
func (v *fileVerifier) receipt(path string) error {
	r, err := readReceipt(path)
	if err != nil {
		return err
	}
	out := verification{File: path}
	pin := v.pin(r.Origin)
	if pin.Key == "" {
		out.Key = keyFromFile
	}
	report, err := client.VerifyReceipt(r, pin, v.proof.witnesses)
	if err != nil {
		return err
	}
	if report.Checkpoint == nil && len(v.proof.witnesses) > 0 {
		return fault.New(fault.Corrupt, "dsvault.receipt", "no witness can have cosigned what the log has only promised").
			WithHint("add the proof with `dsvault receipt complete FILE`, or leave --witness out")
	}
	if err := v.proof.check(report.Witnesses); err != nil {
		return err
	}
	v.receipts = append(v.receipts, r)
	if report.Checkpoint != nil {
		v.others = append(v.others, *report.Checkpoint)
	}
	return v.receiptShown(out, r, report)
}

func (v *fileVerifier) receiptShown(out verification, r audit.Receipt, report audit.ReceiptReport) error {
	verdict := &receiptVerdict{
		Origin: r.Origin, Index: r.Index, Hash: report.Hash[:], Time: time.UnixMicro(report.Leaf.Time).UTC(),
		Kind: report.Leaf.Kind.String(), Object: r.Object, Witnesses: report.Witnesses,
	}
	how := "promised by " + r.Origin + ", not yet proven"
	if report.Checkpoint != nil {
		verdict.Proven, verdict.Size = true, report.Checkpoint.Size
		how = fmt.Sprintf("proven to be in the log %s of %d records", r.Origin, verdict.Size)
	}
	out.Receipt = verdict
	err := v.result(out, "receipt good: %s at %s, record %d: %s", verdict.Kind, timeText(verdict.Time), r.Index, how)
	if err == nil && !v.json && out.Key == keyFromFile {
		v.trustNote(r.Key)
	}
	return err
}

func readReceipt(path string) (audit.Receipt, error) {
	f, _, err := openFile(path)
	if err != nil {
		return audit.Receipt{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, audit.MaxReceipt+1))
	if err != nil {
		return audit.Receipt{}, unreadable("dsvault.receipt", "it", err)
	}
	r, err := audit.ParseReceipt(data)
	if err != nil && !audit.MayBeProof(data) {
		return r, fault.Wrap(fault.Invalid, "dsvault.receipt", "it is no receipt, certificate or exported log", err).
			WithHint("name files that `dsvault pull`, `dsvault log --export` or `dsvault erase` has written, or the note that `dsvault log --format` has")
	}
	if err != nil {
		return r, client.Failed(err)
	}
	return r, nil
}

func (a *app) receiptCmd() *cobra.Command {
	complete := &cobra.Command{
		Use:   "complete FILE...",
		Short: "Add to receipts the proof that the log holds the reads",
		Long: `A receipt as ` + "`dsvault pull`" + ` writes it is the log's promise. This asks the server for
the proof that the promise was kept, checks it and adds it to the file. With the
proof, the receipt shows that the read is in a log of which others know the
checkpoint.`,
		Example: "  dsvault receipt complete work.receipts/*.json",
		Args:    args(1, 1000),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.connect()
			if err != nil {
				return err
			}
			for _, path := range args {
				if err := a.completeReceipt(cmd.Context(), s, path); err != nil {
					return inFile(path, err)
				}
			}
			return nil
		},
	}
	return group("receipt", "Receipts of what you have read", complete)
}

func (a *app) completeReceipt(ctx context.Context, s *session, path string) error {
	r, err := readReceipt(path)
	if err != nil {
		return err
	}
	v := fileVerifier{app: a}
	pin := s.login.FilePin()
	report, err := s.CompleteReceipt(ctx, &r, pin)
	if err != nil {
		return err
	}
	if err := client.SaveReceipt(path, r); err != nil {
		return err
	}
	return v.receiptShown(verification{File: path}, r, report)
}
