package client

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// LogPin is the log that a client trusts: its name and key, as kept from the
// first login. The zero LogPin trusts what a file says of itself.
type LogPin struct {
	Origin string
	Key    string // note verifier key
	// Older are keys that were followed to Key: receipts, certificates and files
	// that were signed before may be signed by one of them. What a server sends of
	// its log is not.
	Older []string
}

// VerifyOptions says what else to do while verifying.
type VerifyOptions struct {
	// Each hears of every record, in order, after its own checks and before
	// those of the whole. An error ends the walk.
	Each func(wire.Record) error

	// Known is what an earlier verification found. The log has to begin with
	// it: one that is shorter, or that had another root then, is refused. The
	// zero Known is nothing.
	Known Known

	// Witnesses are note verifier keys of those whose cosignatures count.
	Witnesses []string

	// Receipts must be among the records.
	Receipts []audit.Receipt

	// AcceptRecovery goes on with a log whose operator has recovered it, though
	// records that were signed are lost. What is Known of it then counts no more.
	AcceptRecovery bool

	// Others are checkpoints of this log that others were shown. The log has to
	// agree with them, as far as they can be compared.
	Others []audit.Checkpoint

	// Progress, if set, hears now and then how many records of how many are done.
	Progress func(done, total uint64)

	// Export gets a copy of what the server sends: a bundle, which is good if
	// the verification succeeds. nil is none.
	Export io.Writer
}

// Verified is what a log was found to be.
type Verified struct {
	Origin string           `json:"origin"`
	Scope  dataset.Scope    `json:"scope"`
	Size   uint64           `json:"size"` // leaves of the whole log
	Root   dataset.HexBytes `json:"root"`
	Seen   uint64           `json:"seen"` // of these, read in full: all that the scopes have
	// The last of these were covered at this time: by the statement, or by the
	// last record if the whole log was read.
	From      time.Time       `json:"from"`
	Until     time.Time       `json:"until"`
	Statement *uint64         `json:"statement,omitempty"` // index of its leaf
	Scopes    []VerifiedScope `json:"scopes"`              // by slot
	Details   uint64          `json:"details"`             // records whose personal details are those committed to
	Bare      uint64          `json:"bare"`                // records that commit to details which are not shown: destroyed, or withheld
	Open      []uint64        `json:"open_reads"`          // reads that no record ends yet
	Witnesses []string        `json:"witnesses"`           // names of those that have cosigned
	Receipts  int             `json:"receipts,omitempty"`  // that were given and are in it
	Compared  int             `json:"compared,omitempty"`  // checkpoints of others that it agrees with
	Key       string          `json:"key"`                 // the newest key of the log that the pinned one leads to
	Followed  []string        `json:"-"`                   // the keys that were followed to it, the newest first
}

// VerifiedScope is one slot of the log, all of whose records were there.
type VerifiedScope struct {
	Slot    uint64           `json:"slot"`
	Tag     dataset.HexBytes `json:"tag"`
	Name    string           `json:"name,omitempty"` // empty: the record that names it is not shown
	Records uint64           `json:"records"`
}

// VerifyLog fetches the log at and below a scope with all its proofs and checks
// everything on this machine, with the pinned key: see audit.VerifyBundle. The
// names of scopes are those that the records of their creation commit to. What
// the server sends has to hold the record of this very look.
//
// What fails is Corrupt and wraps an *audit.VerifyError, which names the check.
func (c *Client) VerifyLog(ctx context.Context, under dataset.Scope, pin LogPin, opts VerifyOptions) (Verified, error) {
	const op = "client.VerifyLog"
	if pin.Key == "" {
		return Verified{}, fault.New(fault.Invalid, op, "the log's key is not known on this machine").
			WithHint("run `dsvault login URL` first: it keeps the key for later")
	}
	pin.Older = nil // they sign the log no more
	check, err := newLogCheck(pin, opts)
	if err != nil {
		return Verified{}, err
	}
	check.under = under
	rand.Read(check.opts.Nonce[:]) // never fails
	q := url.Values{"under": {under.String()}, "nonce": {hex.EncodeToString(check.opts.Nonce[:])}}
	if k := check.opts.Known; k.Size > 0 {
		q.Set("known", strconv.FormatUint(k.Size, 10))
	}
	var resp *http.Response
	err = c.retry(ctx, maxRetries, func(ctx context.Context) (err error) {
		resp, err = c.send(ctx, request{op: op, method: http.MethodGet, path: wire.PathBundle, query: q})
		return err
	})
	if err != nil {
		return Verified{}, err
	}
	defer resp.Body.Close()
	var body io.Reader = resp.Body
	if opts.Export != nil {
		body = io.TeeReader(body, opts.Export)
	}
	return check.run(body)
}

// VerifyBundle checks a bundle that VerifyLog has exported, without a server.
// With the zero LogPin it uses the key in the bundle, and Verified.Key says
// which.
func VerifyBundle(r io.Reader, pin LogPin, opts VerifyOptions) (Verified, error) {
	check, err := newLogCheck(pin, opts)
	if err != nil {
		return Verified{}, err
	}
	return check.run(r)
}

// bundleOptions turns pins into keys.
func bundleOptions(pin LogPin, witnesses []string) (audit.BundleOptions, error) {
	opts := audit.BundleOptions{Origin: pin.Origin, Pin: pin.Key, Older: pin.Older}
	if pin.Key != "" {
		if _, err := audit.EpochKey(pin.Key, 1); err != nil {
			return opts, badKey("the log's key", err)
		}
	}
	for _, text := range witnesses {
		key, err := audit.WitnessKey(text)
		if err != nil {
			return opts, badKey("the key of a witness", err)
		}
		opts.Witnesses = append(opts.Witnesses, key)
	}
	return opts, nil
}

func badKey(what string, err error) error {
	return fault.Wrap(fault.Invalid, "client.Verify", what+" is not a key", err).
		WithHint("a key is one word of the form NAME+1234abcd+BASE64")
}

// Failed is the error for a check of the log that failed.
func Failed(err error) error { return failedCheck(err) }

// failed reports a check that failed.
func failed(err error) error {
	f := fault.Wrap(fault.Corrupt, "client.VerifyLog", "the log does not verify: "+err.Error(), err)
	if errors.Is(err, &audit.VerifyError{Check: audit.CheckRecovered}) {
		return f.WithHint("ask the operator what was lost, and keep what you have; --accept-recovery goes on from there")
	}
	return f.WithHint("keep this output and ask the operator and the other readers of this log; do not rely on it meanwhile")
}

// failedCheck is failed for checks that failed, and err for what else can
// happen on the way.
func failedCheck(err error) error {
	if check := (*audit.VerifyError)(nil); errors.As(err, &check) && fault.CodeOf(err) == fault.Internal {
		return failed(err)
	}
	return err
}
