package vault

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"dsvault/storage"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/ledger"
)

// reading is one admitted read of a shard, whatever the way of delivery. It is
// cut when the read is not allowed any more, until deliver or Close ends it.
type reading struct {
	Index uint64     // of the read's leaf in the log
	Hash  audit.Hash // of that leaf
	// Receipt is what the reader keeps: an audit.Receipt as JSON.
	Receipt []byte

	v      *Vault
	ctx    context.Context
	cancel context.CancelCauseFunc
	permit *ledger.Permit
	caller identity.Caller
	shard  storage.Shard
	ahead  *ahead // what open begins with; nil: nothing, or it has
}

// admit decides and records a read. When it returns, the read is in the log.
func (v *Vault) admit(ctx context.Context, c identity.Caller, in ledger.Intent, shard storage.Shard) (*reading, error) {
	known := v.watchPurpose(&in)
	permit, err := v.ledger.Admit(ctx, in)
	if err != nil {
		return nil, err
	}
	known()
	r := &reading{v: v, permit: permit, caller: c, shard: shard, Index: permit.Receipt().Index, Hash: permit.Receipt().Hash}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	v.streams.add(r)
	if r.Receipt, err = v.receipt(permit); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// stateTerms completes in with what the project asks of a read: its purpose and its
// region. An only purpose need not be stated.
func stateTerms(in *ledger.Intent, p storage.Project, purpose string) {
	if purpose == "" && len(p.Purposes) == 1 {
		purpose = p.Purposes[0]
	}
	in.Query.Purpose = purpose
	if slices.Contains(p.Purposes, purpose) { // any other text is the caller's own words
		in.Fields = append(in.Fields, audit.StringField(audit.FieldPurpose, purpose))
	} else if purpose != "" {
		in.Note["purpose"] = purpose
	}
	if p.Region != "" {
		in.Fields = append(in.Fields, audit.StringField(audit.FieldRegion, p.Region))
	}
}

// deliver has send write what is read to w, and records how many bytes w took.
// If it fails, the caller has to abort the connection. If the read is revoked
// meanwhile, cut is called from another goroutine and has to make a blocked
// Write return.
func (r *reading) deliver(w io.Writer, cut func(), send func(*meter) error) error {
	defer context.AfterFunc(r.ctx, func() {
		if !errors.Is(context.Cause(r.ctx), errSent) {
			cut()
		}
	})()
	sent := &meter{w: w, ctx: r.ctx}
	err := send(sent)
	cause := ledger.Finished
	switch {
	case err == nil:
	case errors.Is(context.Cause(r.ctx), errRevoked):
		cause, err = ledger.CutOff, errRevoked
	case sent.err != nil || fault.Is(err, fault.Canceled):
		cause = ledger.ClientGone
	default:
		cause = ledger.Failed
	}
	r.end(sent.n, cause)
	return err
}

// Close ends a read of which nothing was sent.
func (r *reading) Close() { r.end(0, ledger.Failed) }

// end closes the read in the log; the permit does it once. The record outlives
// the request, whose context may be gone.
func (r *reading) end(sent int64, cause ledger.Cause) {
	r.cancel(errSent)
	r.ahead.drop()
	r.ahead = nil
	defer r.v.streams.remove(r)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err := r.permit.End(ctx, sent, cause)
	if errors.Is(err, ledger.ErrOwed) {
		r.v.log.Warn("the end of a read will be recorded once the database is back", "index", r.Index)
	} else if err != nil && !fault.Is(err, fault.Conflict) {
		r.v.log.Warn("a read stays open in the log until the next start", "index", r.Index, "err", err)
	}
}

var (
	errSent    = errors.New("the stream has ended")
	errRevoked = fault.New(fault.Forbidden, "vault.Send", "the read was revoked while it ran")
)

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// meter counts what the reader took and stops when the read is cut.
type meter struct {
	w   io.Writer
	ctx context.Context
	n   int64
	err error // of the writer
}

func (m *meter) Write(p []byte) (int, error) {
	if err := m.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := m.w.Write(p)
	m.n += int64(n)
	m.err = err
	return n, err
}
