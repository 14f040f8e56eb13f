// Package ledger is the one gate of dsvault: admission. It takes what somebody
// wants to do, has rbac decide it, and in ONE database transaction compares the
// policy revision that the decision was made on with the one in force, appends
// the record to the audit log, changes the rows that belong to it and commits.
// Only a commit yields a Permit, and nothing opens a file key without one.
//
// Concurrent admissions share a transaction. There is no timer: whoever arrives
// while one commit is under way rides on the next.
package ledger

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/trace"
)

const (
	maxBatch      = 256              // entries that share one commit: while it is written, as many others prepare
	maxQueue      = 8192             // entries that may wait; beyond it callers are told to come back
	commitTimeout = 30 * time.Second // for one batch, so that a hung database fails closed
	maxDecisions  = 4                // one decision, and three more after stale ones
)

// Actor is who asks, and from where. Address, Agent and Handle are personal
// data: they go into the sealed details, never into a leaf.
type Actor struct {
	Principal dataset.PrincipalID
	Handle    string
	Request   dataset.RequestID
	Address   string
	Agent     string
}

// Place is the slot of the log that a record belongs to: the scope's permanent
// number and the random tag that stands for its name. The zero Place is the
// vault's own slot.
type Place struct {
	Slot uint64
	Tag  [16]byte
}

// Intent is one thing that somebody wants to do.
type Intent struct {
	Kind   audit.Kind // of the leaf if it is allowed
	Actor  Actor
	Place  Place
	Object audit.Object
	Fields []audit.Field     // the leaf's extension; no names in it
	Note   map[string]string // client words and personal data: sealed with the details

	// Query is what rbac decides. Own marks the few things that every active
	// principal may do for itself (sign, register a device), and the node's own
	// records; then Query is not used. An Intent with neither is refused.
	Query rbac.Query
	Own   bool

	// Refused, if set, is where a refusal is recorded instead of Place.
	Refused *Place

	// Withheld: until a date that stands in FieldWithheldUntil some are not told
	// by whom and why. The leaf names neither, and the details do; who reads
	// them out holds the date.
	Withheld bool

	// Access, if set, is the shard whose file key this is about. A record of
	// kind read is open until Permit.End closes it.
	Access *Access
	closes *uint64 // the index of the open read that this record closes

	// Apply changes the rows that belong to the record, in its transaction. It
	// may complete the Intent (a new scope gets its slot there). An error undoes
	// what Apply did and the record with it, and is the caller's answer.
	// PolicyChange says that decisions rest on those rows: revision + 1.
	Apply        func(ctx context.Context, tx *Tx, in *Intent) error
	PolicyChange bool
	// Gives says that the change takes nothing from anybody: then nobody waits
	// until all nodes have followed it. Apply may say so.
	Gives bool

	// First says that the record comes first in its transaction: what Apply
	// reads of the log is all that lies before the record.
	First bool
}

// Access is one shard, and how many bytes a read of it may send at the most.
type Access struct {
	Dataset  dataset.DatasetID
	Shard    int
	MaxBytes int64
}

// Tx is the admission transaction as Apply sees it.
type Tx struct {
	*catalog.Tx
	Now      time.Time // of the leaf
	Revision uint64    // in force once this transaction has committed
	Index    uint64    // of the record in the log
	nextSlot *uint64
}

// NewSlot hands out the next permanent slot of the log.
func (tx *Tx) NewSlot() uint64 {
	slot := *tx.nextSlot
	*tx.nextSlot++
	return slot
}

// Receipt says where a record is in the log.
type Receipt struct {
	Index    uint64
	Hash     audit.Hash
	Leaf     []byte // as encoded; not to be changed
	Time     time.Time
	Revision uint64
	Decision rbac.Decision
}

// Sealer seals a person's details under that person's key, so that destroying
// the key forgets them without touching the log. It is called before the
// admission transaction, by many goroutines.
type Sealer interface {
	// Seal returns the pseudonym of who at a slot's tag, a salted commitment to
	// details, and the sealed details.
	//
	// ErrForgotten for somebody who was anonymised: then a record names nobody.
	Seal(ctx context.Context, who dataset.PrincipalID, tag [16]byte, details []byte) (Sealed, error)

	// Forget drops what the node keeps in memory of somebody who was anonymised,
	// for good.
	Forget(who dataset.PrincipalID)
}

// DatasetForgetter is what a Sealer may do besides: drop what the node keeps in
// memory of a dataset that was erased, for good.
type DatasetForgetter interface {
	ForgetDataset(id dataset.DatasetID)
}

// ErrForgotten: this person was anonymised, and the key is gone.
var ErrForgotten = errors.New("this person was anonymised")

// Sealed is what a leaf and its side row hold of a person.
type Sealed struct {
	Actor      [16]byte
	Commitment [32]byte
	Details    []byte
}

// Config is what a Ledger is made of. Every field is required, but for Clock
// and what follows it.
type Config struct {
	Catalog *catalog.DB
	World   *rbac.Partial
	Sealer  Sealer
	Now     func() time.Time
	Random  io.Reader // for the node's name
	Logger  *slog.Logger

	// Clock is the machine's own, which leases are measured by: nobody puts it right
	// by another's; nil: Now.
	Clock func() time.Time
	Queue int   // entries that may wait; 0 means 8192
	Meter Meter // nil: nobody counts

	// Lost hears once that the catalog's log is not the one that this node has
	// written; nil: nobody does.
	Lost func(error)

	// Settle is called after each change of the policy that may take something
	// away, before Record returns: when it has returned nil, no read goes on that
	// the change does not allow. nil: nothing is waited for.
	Settle func(context.Context, Receipt) error

	// LeaveOpen leaves the reads as they are that an earlier process left open.
	LeaveOpen bool
	// Shared says that other nodes may have the catalog open: then only the
	// reads of nodes that are gone are closed, now and later.
	Shared bool
}

// Ledger admits. It owns the committer, from Open to Close, and what shows other
// nodes that this one is alive.
type Ledger struct {
	db     *catalog.DB
	world  *rbac.Partial
	sealer Sealer
	now    func() time.Time
	own    func() time.Time // Config.Clock
	log    *slog.Logger
	meter  Meter
	most   int    // entries that may wait
	node   string // this process, in open reads
	shared bool

	life    life
	alive   context.CancelFunc
	workers sync.WaitGroup // end with alive
	paying  context.CancelFunc
	payer   sync.WaitGroup // ends with paying; so does shedding

	lost   func(error) // see Config
	settle func(context.Context, Receipt) error
	last   storage.Head // the committer's: the log as it was left, or last seen

	told   atomic.Uint64 // the revision that the other nodes know to be followed here
	logged atomic.Int64  // the log's time as far as this node has seen it, Unix microseconds

	catchUp  turn   // one catch-up at a time
	nextSlot uint64 // guarded by catchUp; scopes below it are known
	wanted   wanted // whom others wait for, who want to load them

	mu     sync.Mutex
	queue  []*entry // guarded by mu
	owed   []Intent // guarded by mu; ends of reads that could not be recorded
	closed bool     // guarded by mu
	wake   chan struct{}
	done   chan struct{} // closed when the committer has ended

	doubtful []*entry // guarded by mu; reads that may be in the log, and were not admitted
}

// Open loads the policy state into the world, but for what people have, which is
// loaded when they are asked about, closes the reads that a crash
// left open ("unknown, up to N bytes"), and starts the committer.
func Open(ctx context.Context, cfg Config) (*Ledger, error) {
	l := &Ledger{
		db: cfg.Catalog, world: cfg.World, sealer: cfg.Sealer, now: cfg.Now, own: cfg.Clock, log: cfg.Logger,
		node: dataset.NewID[dataset.RequestID](cfg.Random).String(),
		wake: make(chan struct{}, 1), done: make(chan struct{}), catchUp: make(turn, 1),
		most: cmp.Or(cfg.Queue, maxQueue), meter: noMeter{}, shared: cfg.Shared, alive: func() {}, lost: cfg.Lost, settle: cfg.Settle,
	}
	if l.own == nil {
		l.own = l.now
	}
	if l.lost == nil {
		l.lost = func(error) {}
	}
	if cfg.Meter != nil {
		l.meter = cfg.Meter
	}
	if err := l.CatchUp(ctx); err != nil {
		return nil, err
	}
	if l.shared {
		if err := l.live(ctx); err != nil {
			return nil, err
		}
	}
	go l.run()
	paying, end := context.WithCancel(context.Background())
	l.paying = end
	l.payer.Go(func() { l.payForever(paying) })
	l.payer.Go(func() { l.shedForever(paying) })
	if cfg.LeaveOpen {
		return l, nil
	}
	if err := l.closeAbandoned(ctx); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Close refuses new work, finishes what is queued and ends the committer. Reads
// that are open then are left to other nodes, or to the next start.
func (l *Ledger) Close() {
	l.paying()
	l.payer.Wait()
	last, cancel := context.WithTimeout(context.Background(), payAtEnd)
	l.pay(last)
	cancel()
	l.mu.Lock()
	already := l.closed
	l.closed = true
	l.mu.Unlock()
	if !already {
		l.signal()
	}
	<-l.done
	l.alive()
	l.workers.Wait()
}

// World is the policy state that this node decides on. Decide asks it.
func (l *Ledger) World() *rbac.Partial { return l.world }

// Record decides in and records it, with its rows. It returns once both are
// durable. A refusal is recorded too and comes back as fault.Forbidden, or as
// fault.NotFound for somebody who may not know that the object exists.
//
// fault.Unavailable says that nothing was admitted. If the connection to the
// database broke in the middle of COMMIT, the record and its rows may be in the
// log all the same: a caller that repeats an operation meets its own rows.
func (l *Ledger) Record(ctx context.Context, in Intent) (Receipt, error) {
	e, err := l.record(ctx, &in, false)
	if e == nil || e.leaf.Data == nil {
		return Receipt{}, err
	}
	return e.receipt(), err
}

// Check decides in without recording an allowed decision; a refusal is recorded
// and returned as Record does. It is for looking at records that hold no data.
// It decides on the policy in force, whichever node has changed it.
func (l *Ledger) Check(ctx context.Context, in Intent) (rbac.Decision, error) {
	if err := l.CatchUp(ctx); err != nil {
		l.meter.Failed(causeOf(err))
		return rbac.Decision{}, err
	}
	e, err := l.record(ctx, &in, true)
	if e == nil {
		return rbac.Decision{}, err
	}
	return e.decision, err
}

// record is Record; if refusals is set, an allowed decision is not recorded.
// The entry, if there is one, holds the decision.
func (l *Ledger) record(ctx context.Context, in *Intent, refusals bool) (e *entry, err error) {
	name := "admission"
	if refusals {
		name = "decision"
	}
	ctx, span := trace.Start(ctx, name)
	if trace.Heard(span) {
		defer func() { span.End(err) }()
		span.Set("dsvault.kind", in.Kind.String())
		if in.Access != nil {
			span.Set("dsvault.dataset", in.Access.Dataset.String())
		}
	}
	for range maxDecisions {
		e = &entry{ctx: ctx, in: *in, result: make(chan result, 1)}
		if e.decision, err = l.decide(ctx, &e.in, l.clock()); err != nil {
			return nil, err
		}
		if refusals && e.decision.Allowed {
			return e, nil
		}
		if !e.decision.Allowed && in.Refused != nil {
			e.in.Place = *in.Refused
		}
		if err := l.describe(ctx, e); err != nil {
			return e, l.outage(ctx, e, CauseSealing, err)
		}
		if err := l.enqueue(e); err != nil {
			return e, l.outage(ctx, e, causeOf(err), err)
		}
		var answer result
		select {
		case answer = <-e.result: // always comes: from the commit, its failure, shedding, or Close
		case <-ctx.Done():
			if l.withdraw(e) {
				answer.err = ctx.Err()
			} else {
				answer = <-e.result
			}
		}
		if trace.Heard(span) {
			e.timed(span, l.now())
		}
		switch {
		case answer.stale:
			if err := l.CatchUp(ctx); err != nil {
				return e, l.outage(ctx, e, causeOf(err), err)
			}
			continue
		case answer.err != nil:
			return e, l.outage(ctx, e, causeOf(answer.err), answer.err)
		}
		l.recorded(in.Kind, e.decision)
		switch {
		case !e.decision.Allowed:
			return e, refusal(e.decision)
		case l.settle != nil && e.in.PolicyChange && !e.in.Gives:
			return e, l.settle(ctx, e.receipt())
		}
		return e, nil
	}
	l.meter.Failed(CauseStale)
	return e, fault.New(fault.Unavailable, "ledger.Record", "the policy changes faster than this node can follow").
		WithHint("try again in a moment").WithRetry(time.Second)
}

// timed says how long an entry has waited, and how long its commit took.
func (e *entry) timed(span trace.Span, now time.Time) {
	if !e.taken.IsZero() {
		span.Set("dsvault.queue_us", e.taken.Sub(e.at).Microseconds())
		span.Set("dsvault.commit_us", now.Sub(e.taken).Microseconds())
	}
}

// outage is the answer when a decision could not be recorded. A refusal stays
// one; beside other nodes, which may have allowed meanwhile what this one
// refuses, only after a look at the policy in force. Who has left does not hear
// of it: else people could leave in time to be told without a record.
func (l *Ledger) outage(ctx context.Context, e *entry, cause string, err error) error {
	if cause != "" {
		l.meter.Failed(cause)
	}
	d := e.decision
	if d.Allowed || ctx.Err() != nil {
		return err
	}
	l.log.Warn("a refusal could not be recorded", "cause", cause, "reasons", d.Reasons, "err", err)
	if l.shared {
		if l.CatchUp(ctx) != nil {
			return err
		}
		var blind error
		if d, blind = l.decide(ctx, &e.in, l.clock()); blind != nil || d.Allowed {
			return err
		}
	}
	return refusal(d)
}

func (l *Ledger) decide(ctx context.Context, in *Intent, now time.Time) (rbac.Decision, error) {
	if in.Own {
		if in.closes != nil { // what has happened is recorded, whoever did it
			return rbac.Decision{Allowed: true, Rule: "own", Revision: l.world.Revision()}, nil
		}
		return knowing(ctx, l, func() (rbac.Decision, []dataset.PrincipalID) { return l.world.DecideOwn(in.Actor.Principal) })
	}
	if in.Query.Action == "" {
		return rbac.Decision{}, fault.New(fault.Internal, "ledger.decide", "an intent without a query")
	}
	in.Query.Now = now
	return l.Decide(ctx, in.Query)
}

// clock is the time to decide at: now, but never before the log's. What has
// expired for the log does not revive because a clock was set back.
func (l *Ledger) clock() time.Time {
	now, logged := l.now(), time.UnixMicro(l.logged.Load())
	if now.Before(logged) {
		return logged
	}
	return now
}

// observe notes a time of the log, in Unix microseconds.
func (l *Ledger) observe(logged int64) {
	for {
		seen := l.logged.Load()
		if logged <= seen || l.logged.CompareAndSwap(seen, logged) {
			return
		}
	}
}

// refusal turns a decision into the caller's answer. Who may not know that the
// object exists gets the same answer as for an absent one, without reasons.
func refusal(d rbac.Decision) error {
	if !d.Visible {
		return Absent()
	}
	e := fault.New(fault.Forbidden, "ledger.Record", "refused")
	if d.Erased {
		e = fault.New(fault.Gone, "ledger.Record", "the data was erased")
	}
	e.Reasons = d.Reasons
	e.Hint = Hint(d)
	return e
}

// Absent is the one answer for what is not there and for what is hidden.
func Absent() error {
	return fault.New(fault.NotFound, "ledger.Record", "no such thing, or not for you").
		WithHint("check the name; if it is right, ask an admin for a role or an assignment")
}
