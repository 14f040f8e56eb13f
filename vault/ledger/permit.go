package ledger

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"dsvault/rbac"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// Lease is how long a permit for a read is good, where other nodes may change the
// policy: since its commit held the log's lock, or since the node began to look
// whether it still is. A node that stalls, or does not see the catalog, sends
// nothing after that. And whoever has taken access away need not wait longer
// than this for a node that does not answer.
const Lease = 2 * time.Second

// startWithin is the same for permits that are not for reads, and on a node that
// is alone, until the file key is opened.
const startWithin = time.Minute

// ErrLapsed is the cause of a fault.Unavailable: the permit's lease is over, and
// has to be renewed before anything goes on.
var ErrLapsed = errors.New("the permit's lease is over")

// Permit is the proof that one access to one shard was authorised and durably
// recorded. Only Admit makes one; the zero Permit is good for nothing.
type Permit struct {
	ledger *Ledger
	entry  *entry // that was admitted; it does not change any more
	access Access

	withheld *audit.Field              // FieldWithheldUntil; nil: nothing is
	stands   atomic.Pointer[standing]  // as last decided
	sure     atomic.Pointer[time.Time] // from when the lease counts, by both clocks of the node
	ended    atomic.Bool
}

// standing is on which policy an access was allowed, and until when that holds by
// itself; zero: for good.
type standing struct {
	revision uint64
	until    time.Time
}

func standingOf(d *rbac.Decision) *standing { return &standing{d.Revision, d.Until} }

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
	e, err := l.record(ctx, &in, false)
	if err != nil {
		return nil, err
	}
	p := &Permit{ledger: l, entry: e, access: access}
	p.stands.Store(standingOf(&e.decision))
	p.sure.Store(&e.locked)
	if in.Withheld {
		if p.withheld = withheldUntil(&in); p.withheld == nil {
			return nil, fault.New(fault.Internal, "ledger.Admit", "something is withheld without a date")
		}
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
func (p *Permit) Receipt() Receipt { return p.entry.receipt() }

// Covers refuses, with fault.Forbidden, anything that this permit is not for,
// and any start that comes too late.
func (p *Permit) Covers(id dataset.DatasetID, shard int) error {
	if p == nil || p.ledger == nil {
		return noPermit("ledger.Covers")
	}
	now := p.ledger.own()
	switch {
	case p.access.Dataset != id || p.access.Shard != shard:
		return fault.New(fault.Forbidden, "ledger.Covers", "the permit is for another shard")
	case p.ended.Load():
		return fault.New(fault.Forbidden, "ledger.Covers", "the permit has ended")
	case !p.leased() && !within(startWithin, *p.sure.Load(), now):
		return lapsed("ledger.Covers")
	}
	return p.holds("ledger.Covers", now)
}

// Holds says whether something may be sent on the permit at this moment: the
// refusal, if it is not allowed any more, or ErrLapsed.
func (p *Permit) Holds() error {
	if p == nil || p.ledger == nil {
		return noPermit("ledger.Holds")
	}
	return p.holds("ledger.Holds", p.ledger.own())
}

func (p *Permit) holds(op string, now time.Time) error {
	if p.leased() && !within(Lease, *p.sure.Load(), now) {
		return lapsed(op)
	}
	return p.Recheck()
}

// leased reports whether another node may have the access taken away.
func (p *Permit) leased() bool { return p.ledger.shared && p.entry.in.Kind == audit.KindRead }

// within reports whether now is no later than so long after from. Of the two
// clocks the stricter one counts: one stands still while a machine is suspended,
// the other one can be set.
func within(life time.Duration, from, now time.Time) bool {
	wall := now.Round(0).Sub(from.Round(0))
	return now.Sub(from) <= life && 0 <= wall && wall <= life
}

func lapsed(op string) error {
	return fault.Wrap(fault.Unavailable, op, "the server was held up before it could send", ErrLapsed).
		WithHint("ask again").WithRetry(time.Second)
}

// Left is for how long the lease goes on, as far as the node's clocks tell; 0: it
// is over.
func (p *Permit) Left() time.Duration {
	from, now := *p.sure.Load(), p.ledger.own()
	if !within(Lease, from, now) {
		return 0
	}
	return Lease - max(now.Sub(from), now.Round(0).Sub(from.Round(0)))
}

// Unsure is how long ago the node last made sure that the access was allowed.
func (p *Permit) Unsure() time.Duration { return max(0, p.ledger.own().Sub(*p.sure.Load())) }

// Look is what a node knows after it has looked at the catalog.
type Look struct {
	ledger   *Ledger
	from     time.Time // before it looked
	revision uint64    // that it has followed to
}

// Look follows the policy, and gives what permits are renewed with.
func (l *Ledger) Look(ctx context.Context) (Look, error) {
	from := l.own()
	if err := l.CatchUp(ctx); err != nil {
		return Look{}, err
	}
	return Look{ledger: l, from: from, revision: l.world.Revision()}, nil
}

// Renew decides again, as Recheck does, and gives the permit a new lease, which
// counts from before the look. ErrLapsed says that the other nodes may have taken
// this one for dead since the read began: it has to end. The caller has looked since whether the
// credential still holds.
func (p *Permit) Renew(k Look) error {
	if err := p.Recheck(); err != nil {
		return err
	}
	if k.ledger != p.ledger {
		return fault.New(fault.Internal, "ledger.Renew", "another node has looked")
	}
	if life, ok := p.ledger.living(); p.leased() && (!ok || life != p.entry.life) {
		return lapsed("ledger.Renew") // the others may have closed the read
	}
	p.sure.Store(&k.from)
	return nil
}

func noPermit(op string) error { return fault.New(fault.Forbidden, op, "no permit") }

// Recheck decides again if the policy has changed since, or if the decision has
// lapsed by itself. It returns the refusal, or nil while the access may go on.
func (p *Permit) Recheck() error {
	if p == nil || p.ledger == nil {
		return noPermit("ledger.Recheck")
	}
	now, revision := p.ledger.clock(), p.ledger.world.Revision()
	if s := p.stands.Load(); s.revision == revision && (s.until.IsZero() || now.Before(s.until)) {
		return nil
	}
	q := p.entry.in.Query
	q.Now = now
	d, unheld := p.ledger.world.Decide(q)
	if len(unheld) > 0 { // who was decided on is held
		return fault.New(fault.Unavailable, "ledger.Recheck", "whether the access may go on cannot be decided").WithHint("ask again")
	}
	if !d.Allowed {
		return refusal(d)
	}
	p.stands.Store(standingOf(&d))
	return nil
}

// Cause says why an access ended.
type Cause string

const (
	Finished   Cause = "finished"
	ClientGone Cause = "client-gone"
	CutOff     Cause = "revoked"
	Blind      Cause = "blind" // the node could not tell whether it was still allowed
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
	if p.ended.Swap(true) || p.entry.in.Kind != audit.KindRead {
		return nil
	}
	in := p.closing(sent, cause)
	_, err := p.ledger.Record(ctx, in)
	if err != nil && !fault.Is(err, fault.Conflict) && p.ledger.owe(in) {
		return ErrOwed
	}
	return err
}

// EndLater is End on a node that does not see the catalog: nobody waits for the
// record. It reports false if there are too many already.
func (p *Permit) EndLater(sent int64, cause Cause) bool {
	if p == nil || p.ledger == nil || p.entry.in.Kind != audit.KindRead || p.ended.Load() ||
		!p.ledger.owe(p.closing(sent, cause)) {
		return false
	}
	p.ended.Store(true)
	return true
}

func (p *Permit) closing(sent int64, cause Cause) Intent {
	in := &p.entry.in
	return closing(p.entry.leaf.Index, in.Place, in.Object, sent, cause, in.Actor, p.withheld)
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
