package vault

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dsvault/storage"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/ledger"
	"dsvault/vault/seal"
	"dsvault/vault/trace"
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
	closed atomic.Bool
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
	// From here on the node's looks find the read. Before, the token may have ended.
	if v.world.Revision() != c.Seen {
		err = r.loggedIn(r.ctx)
	}
	if err == nil {
		err = r.ready()
	}
	if err == nil {
		r.Receipt, err = v.receipt(permit)
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// ready returns nil if something may be sent at this moment. If the permit's
// lease is over, since the node was held up, it has the node look again, and waits.
func (r *reading) ready() error {
	err := r.permit.Holds()
	for errors.Is(err, ledger.ErrLapsed) {
		next := r.v.streams.next()
		if err = r.permit.Holds(); !errors.Is(err, ledger.ErrLapsed) {
			break
		}
		select {
		case r.v.lookNow <- struct{}{}:
		default: // it is about to
		}
		select {
		case <-next:
		case <-r.ctx.Done():
			return r.ended()
		case <-r.v.unwatched:
			return errClosing
		}
		err = r.permit.Holds()
	}
	if err != nil { // it is not allowed any more
		r.cancel(errRevoked)
		return err
	}
	return r.ended()
}

// stillAllowed is ready for a read that has ended already, and that no look of the
// node finds any more.
func (r *reading) stillAllowed(ctx context.Context) error {
	err := cmp.Or(r.whyCut(), r.permit.Holds())
	if err == nil && r.v.world.Revision() != r.caller.Seen { // the token may have ended
		err = r.loggedIn(ctx)
	}
	if !errors.Is(err, ledger.ErrLapsed) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, lookAtLeast)
	defer cancel()
	seen, err := r.v.ledger.Look(ctx)
	if err == nil {
		err = r.loggedIn(ctx)
	}
	if err == nil {
		err = r.permit.Renew(seen)
	}
	return err
}

// loggedIn refuses a read whose credential has ended.
func (r *reading) loggedIn(ctx context.Context) error {
	out, err := r.v.loggedOut(ctx, r)
	switch {
	case err != nil:
		return cmp.Or(r.whyCut(), err)
	case len(out) > 0:
		r.cancel(errRevoked)
		return errRevoked
	}
	return nil
}

// whyCut is why the vault has cut the read, nil if it has not.
func (r *reading) whyCut() error {
	var cut *fault.Error
	if errors.As(context.Cause(r.ctx), &cut) {
		return cut
	}
	return nil
}

// ended is why the read was cut or broken off, nil if it was not.
func (r *reading) ended() error {
	cause := context.Cause(r.ctx)
	if cut := r.whyCut(); cut != nil || cause == nil {
		return cut
	}
	return fault.Wrap(fault.Canceled, "vault.Send", "the read has ended", cause)
}

// fileKey opens the key in one of the shard's headers.
func (r *reading) fileKey(header []byte) (seal.FileKey, error) {
	if err := r.ready(); err != nil {
		return seal.FileKey{}, err
	}
	key, err := r.v.keys.FileKey(r.ctx, r.permit, r.shard.Number, header)
	if err != nil {
		err = cmp.Or(r.whyCut(), err)
	}
	return key, err
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
// If it fails, the caller has to abort the connection, if anything was written.
// If the read is cut meanwhile, cut is called from another goroutine and has to
// make a blocked Write return.
func (r *reading) deliver(w io.Writer, cut func(), send func(*meter) error) error {
	sent := &meter{w: w, r: r}
	defer context.AfterFunc(r.ctx, func() {
		if !errors.Is(context.Cause(r.ctx), errSent) && sent.begun.Load() {
			cut()
		}
	})()
	_, span := trace.Start(r.ctx, "send")
	err := send(sent)
	span.Set("dsvault.dataset", r.shard.Dataset.String())
	span.Set("dsvault.bytes", sent.n)
	span.End(err)
	cause := ledger.Finished
	switch {
	case err == nil:
	case r.cause() != "":
		cause, err = r.cause(), r.ended()
	case sent.err != nil || fault.Is(err, fault.Canceled):
		cause = ledger.ClientGone
	default:
		cause = ledger.Failed
	}
	r.end(sent.n, cause)
	return err
}

// cause is why the vault has cut the read; "": it has not.
func (r *reading) cause() ledger.Cause {
	switch cut := r.whyCut(); {
	case cut == nil:
		return ""
	case errors.Is(cut, errRevoked):
		return ledger.CutOff
	case errors.Is(cut, errBlind):
		return ledger.Blind
	default: // the server ends, or is halted
		return ledger.Failed
	}
}

// Close ends a read of which nothing was sent.
func (r *reading) Close() { r.end(0, cmp.Or(r.cause(), ledger.Failed)) }

// end closes the read in the log, once. The record outlives the request, whose
// context may be gone. Whoever reads does not wait for a catalog that is away.
func (r *reading) end(sent int64, cause ledger.Cause) {
	if !r.closed.CompareAndSwap(false, true) {
		return
	}
	if cause == ledger.CutOff || cause == ledger.Blind {
		r.v.meter.Cut(string(cause), r.permit.Unsure())
	}
	r.cancel(errSent)
	r.ahead.drop()
	r.ahead = nil
	defer r.v.streams.remove(r)
	if cause == ledger.Blind && r.permit.EndLater(sent, cause) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), 30*time.Second)
	defer cancel()
	err := r.permit.End(ctx, sent, cause)
	if errors.Is(err, ledger.ErrOwed) {
		r.v.log.WarnContext(ctx, "the end of a read will be recorded once the database is back", "index", r.Index)
	} else if err != nil && !fault.Is(err, fault.Conflict) {
		r.v.log.WarnContext(ctx, "a read stays open in the log until the next start", "index", r.Index, "err", err)
	}
}

var (
	errSent    = errors.New("the stream has ended")
	errRevoked = fault.New(fault.Forbidden, "vault.Send", "the read was revoked while it ran")
	errClosing = fault.New(fault.Unavailable, "vault.Send", "the server is shutting down")
	errBlind   = fault.New(fault.Unavailable, "vault.Send", "whether the read is still allowed cannot be told").
			WithHint("ask again; if it goes on, the operator should look at the database").WithRetry(time.Second)
)

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// sendStep is how much may be written once the permit was looked at, in bytes.
const sendStep = 64 << 10

// meter counts what the reader took. Before each step it looks whether that may
// still be sent.
type meter struct {
	w     io.Writer
	r     *reading
	n     int64
	err   error       // of the writer
	begun atomic.Bool // the answer has begun: only cutting it off tells of a failure
}

// begin returns nil if something may be written at this moment.
func (m *meter) begin() error {
	if err := m.r.ready(); err != nil {
		return err
	}
	m.begun.Store(true)
	return m.r.ended() // whoever ended it meanwhile may have found that nothing had begun
}

func (m *meter) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) {
		if err := m.begin(); err != nil {
			return written, err
		}
		n, err := m.w.Write(p[written:min(len(p), written+sendStep)])
		written += n
		m.n += int64(n)
		if m.err = err; err != nil {
			return written, err
		}
	}
	return written, nil
}
