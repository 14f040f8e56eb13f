package ledger

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"dsvault/rbac"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// startWithin is how long a permit may wait before the file key is opened: a
// node that was suspended in between must ask again.
const startWithin = time.Minute

// Permit is the proof that one access to one shard was authorised and durably
// recorded. Only Admit makes one; the zero Permit is good for nothing.
type Permit struct {
	ledger  *Ledger
	receipt Receipt
	kind    audit.Kind
	query   rbac.Query
	actor   Actor
	place   Place
	object  audit.Object
	access  Access

	withheld *audit.Field  // FieldWithheldUntil; nil: nothing is
	seen     atomic.Uint64 // the policy revision that Recheck last looked at
	ended    atomic.Bool
}

// Admit decides and records an access to a shard (in.Access names it) and gives
// the permit for it. Errors are those of Record.
func (l *Ledger) Admit(ctx context.Context, in Intent) (*Permit, error) {
	if in.Access == nil || in.Own {
		return nil, fault.New(fault.Internal, "ledger.Admit", "an admission without a shard or a decision")
	}
	access := *in.Access
	asked, recorded := in.Query.Object, in.Object
	if asked.Kind == rbac.Shard && asked.Shard != access.Shard ||
		recorded.Kind != audit.ObjectShard || recorded.ID != access.Dataset || int(recorded.Number) != access.Shard {
		return nil, fault.New(fault.Internal, "ledger.Admit", "what is decided, recorded and opened is not one shard")
	}
	receipt, err := l.Record(ctx, in)
	if err != nil {
		return nil, err
	}
	p := &Permit{
		ledger: l, receipt: receipt, kind: in.Kind, query: in.Query,
		actor: in.Actor, place: in.Place, object: in.Object, access: access,
	}
	p.seen.Store(receipt.Decision.Revision)
	if in.Withheld {
		i := slices.IndexFunc(in.Fields, func(f audit.Field) bool { return f.ID == audit.FieldWithheldUntil })
		if i < 0 {
			return nil, fault.New(fault.Internal, "ledger.Admit", "something is withheld without a date")
		}
		p.withheld = &in.Fields[i]
	}
	return p, nil
}

// Dataset is the dataset that the permit is for; no permit is for none.
func (p *Permit) Dataset() dataset.DatasetID {
	if p == nil {
		return dataset.DatasetID{}
	}
	return p.access.Dataset
}

// Receipt says where the access is recorded.
func (p *Permit) Receipt() Receipt { return p.receipt }

// Covers refuses, with fault.Forbidden, anything that this permit is not for,
// and any start that comes too late.
func (p *Permit) Covers(id dataset.DatasetID, shard int) error {
	if p == nil || p.ledger == nil {
		return noPermit("ledger.Covers")
	}
	// By the wall clock, which goes on while a node is suspended.
	waited := p.ledger.now().Sub(p.receipt.at)
	switch {
	case p.access.Dataset != id || p.access.Shard != shard:
		return fault.New(fault.Forbidden, "ledger.Covers", "the permit is for another shard")
	case p.ended.Load():
		return fault.New(fault.Forbidden, "ledger.Covers", "the permit has ended")
	case waited < 0 || waited > startWithin:
		return fault.New(fault.Unavailable, "ledger.Covers", "the permit waited too long").WithHint("ask again")
	}
	return p.Recheck()
}

func noPermit(op string) error { return fault.New(fault.Forbidden, op, "no permit") }

// Recheck decides again if the policy has changed since, or if the decision has
// lapsed by itself. It returns the refusal, or nil while the access may go on.
func (p *Permit) Recheck() error {
	if p == nil || p.ledger == nil {
		return noPermit("ledger.Recheck")
	}
	now, revision := p.ledger.clock(), p.ledger.world.Revision()
	until := p.receipt.Decision.Until
	if p.seen.Load() == revision && (until.IsZero() || now.Before(until)) {
		return nil
	}
	q := p.query
	q.Now = now
	d := p.ledger.world.Decide(q)
	if !d.Allowed {
		return refusal(d)
	}
	p.seen.Store(d.Revision)
	return nil
}

// Cause says why an access ended.
type Cause string

const (
	Finished   Cause = "finished"
	ClientGone Cause = "client-gone"
	CutOff     Cause = "revoked"
	Failed     Cause = "failed"
	Unmetered  Cause = "unmetered" // the bytes do not pass the node; up to those recorded may have been read
	Crashed    Cause = "unknown"   // the node died; up to the bytes recorded went out
)

// ErrOwed: the end of a read is recorded later, as soon as the database is back.
var ErrOwed = errors.New("the end of the read will be recorded later")

// End records how many bytes were really sent and closes the read. Only the
// first call counts. ErrOwed says that the node will record it by itself. Any
// other End that fails leaves the read open; the next start of the vault closes
// it as unknown. A read that somebody has closed meanwhile, as
// another node does when it starts, is fault.Conflict.
func (p *Permit) End(ctx context.Context, sent int64, cause Cause) error {
	if p == nil || p.ledger == nil {
		return noPermit("ledger.End")
	}
	if p.ended.Swap(true) || p.kind != audit.KindRead {
		return nil
	}
	in := closing(p.receipt.Index, p.place, p.object, sent, cause, p.actor, p.withheld)
	_, err := p.ledger.Record(ctx, in)
	if fault.Is(err, fault.Unavailable) && p.ledger.owe(in) {
		return ErrOwed
	}
	return err
}

func closing(index uint64, place Place, object audit.Object, bytes int64, cause Cause, actor Actor, withheld *audit.Field) Intent {
	in := Intent{
		Kind: audit.KindReadEnd, Own: true, Actor: actor, Place: place, Object: object, closes: &index,
		Fields: []audit.Field{
			audit.Uint64Field(audit.FieldBytesSent, uint64(bytes)),
			audit.StringField(audit.FieldCause, string(cause)),
			audit.Uint64Field(audit.FieldRefIndex, index),
		},
	}
	if withheld != nil {
		in.Withheld, in.Fields = true, append(in.Fields, *withheld)
	}
	return in
}
