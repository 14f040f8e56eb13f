package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// entry is one Intent on its way through a commit.
type entry struct {
	ctx      context.Context
	in       Intent
	decision rbac.Decision
	sealed   Sealed
	at       time.Time   // when it was enqueued
	taken    time.Time   // by the committer; zero: not yet
	result   chan result // buffered, for the one answer

	// The committer's, until it has answered.
	answered bool
	leaf     storage.Leaf
	chain    storage.Chain // of its slot, with leaf
	hash     audit.Hash    // of leaf
	revision uint64        // see Receipt, likewise the others
	locked   time.Time
	life     uint64
	opens    bool // the record leaves a read open
}

// receipt says where the record is, once it has been admitted.
func (e *entry) receipt() Receipt {
	return Receipt{
		Index: e.leaf.Index, Hash: e.hash, Leaf: e.leaf.Data, Time: time.UnixMicro(e.leaf.Time).UTC(),
		Revision: e.revision, Decision: e.decision,
	}
}

// answer gives the caller its answer; only the first counts.
func (e *entry) answer(r result) {
	if !e.answered {
		e.answered = true
		e.result <- r
	}
}

// result of an entry that was admitted is the zero result; its receipt is there.
type result struct {
	stale bool // the decision does not hold any more: decide again
	err   error
}

// unavailable says what cannot be done, and why and what helps if err tells.
func unavailable(message string, err error) error {
	hint := "try again; if it goes on, the operator should look at the database"
	var cause *fault.Error
	if errors.As(err, &cause) && cause.Code == fault.Unavailable && cause.Hint != "" {
		message, hint = message+": "+cause.Message, cause.Hint
	}
	return fault.Wrap(fault.Unavailable, "ledger.commit", message, err).WithHint(hint).WithRetry(time.Second)
}

// describe seals what the leaf must not hold.
func (l *Ledger) describe(ctx context.Context, e *entry) error {
	if e.in.Actor.Principal.IsZero() {
		return nil
	}
	note := e.in.Note
	if c := e.decision.Crossing; c.Region != "" {
		if note = maps.Clone(note); note == nil {
			note = map[string]string{}
		}
		if note["reader-region"] = c.Region; c.Reference != "" {
			note["transfer-reference"] = c.Reference
		}
	}
	details, err := json.Marshal(details{
		Handle: e.in.Actor.Handle, Address: e.in.Actor.Address, Agent: e.in.Actor.Agent, Note: note,
	})
	if err != nil {
		return fault.Wrap(fault.Internal, "ledger.describe", "cannot encode details", err)
	}
	e.sealed, err = l.sealer.Seal(ctx, e.in.Actor.Principal, e.in.Place.Tag, details)
	if errors.Is(err, ErrForgotten) { // what they began may still end, and what they are refused is recorded
		e.in.Actor, err = Actor{Request: e.in.Actor.Request}, nil
	}
	return err
}

// details is the sealed side of a leaf, as JSON.
type details struct {
	Handle  string            `json:"handle,omitempty"`
	Address string            `json:"address,omitempty"`
	Agent   string            `json:"agent,omitempty"`
	Note    map[string]string `json:"note,omitempty"`
}

func (l *Ledger) enqueue(e *entry) error {
	e.at = l.now()
	l.mu.Lock()
	switch {
	case l.closed:
		l.mu.Unlock()
		return unavailable("the vault is shutting down", errClosing)
	case len(l.queue) >= l.most:
		l.mu.Unlock()
		return unavailable("too many requests are waiting for the audit log", errQueueFull)
	case len(l.queue) > 0 && e.at.Sub(l.queue[0].at) > slowQueue:
		l.mu.Unlock()
		return unavailable("requests wait too long for the audit log", errQueueSlow)
	}
	if e.in.First {
		l.queue = slices.Insert(l.queue, 0, e)
	} else {
		l.queue = append(l.queue, e)
	}
	l.mu.Unlock()
	l.signal()
	return nil
}

func (l *Ledger) signal() {
	select {
	case l.wake <- struct{}{}:
	default: // the committer has not taken the last signal yet; one is enough
	}
}

// drain takes the next batch. A change of the policy ends it: whoever comes
// after the change is decided on the new state, in the next batch.
func (l *Ledger) drain() []*entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for change := false; n < min(len(l.queue), maxBatch) && !change; n++ {
		change = l.queue[n].in.PolicyChange && l.queue[n].decision.Allowed
	}
	batch := l.queue[:n:n]
	if l.queue = l.queue[n:]; len(l.queue) == 0 {
		l.queue = nil
	}
	return batch
}

// drainAll takes everybody who waits.
func (l *Ledger) drainAll() []*entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.queue
	l.queue = nil
	return all
}

func (l *Ledger) waiting() (n int, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue), l.closed
}

// run is the committer.
func (l *Ledger) run() {
	defer close(l.done)
	for range l.wake {
		for {
			n, closed := l.waiting()
			if n == 0 {
				if closed {
					return
				}
				break
			}
			l.commitBatch()
		}
	}
}

// batch is one admission transaction.
type batch struct {
	entries  []*entry  // nil until the queue is drained; each gets one answer
	admitted []*entry  // those of them that are part of the transaction
	locked   time.Time // when this node had the head's lock, by both of its clocks
	life     uint64    // of this node, likewise
	revives  bool      // the node's lease is taken again with it

	// The log as it will be once the transaction has committed.
	head   storage.Head
	tree   *audit.Tree
	chains map[uint64]storage.Chain
}

// commitBatch runs one admission transaction and answers everybody in it.
func (l *Ledger) commitBatch() {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	var b batch
	began := l.now()
	err := l.commit(ctx, &b)
	l.meter.Committed(len(b.entries), l.now().Sub(began), err == nil)
	if err == nil {
		for _, e := range b.admitted {
			e.answer(result{})
		}
		return
	}
	if errors.Is(err, storage.ErrCommitUnknown) {
		l.doubt(&b)
	}
	if b.entries == nil { // no transaction could be had: nobody waits for the next try
		b.entries = l.drainAll()
	}
	l.log.Error("admission failed; nothing was served", "cause", causeOf(err), "entries", len(b.entries), "err", err)
	for _, e := range b.entries {
		e.answer(result{err: unavailable("the audit log cannot be written", err)})
	}
}

// commit locks the head and drains the queue after that, so that everyone who
// arrived while another node held the lock shares this commit. An error, or a
// panic of an Apply, means that nobody in b is admitted. It does not mean that
// nothing was written: a failed COMMIT may have happened all the same. A record
// without a read is harmless, the reverse is not; and a change that was made
// though its author was told to try again is followed at the next admission.
func (l *Ledger) commit(ctx context.Context, b *batch) (err error) {
	tx, err := l.db.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	defer func() {
		if p := recover(); p != nil {
			err = fault.New(fault.Internal, "ledger.commit", fmt.Sprintf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	if b.head, err = tx.LockHead(ctx); err != nil {
		return err
	}
	b.locked = l.own() // what another node commits from here on comes after this
	if err := l.goesOn(b.head); err != nil {
		return err
	}
	l.observe(b.head.Time)
	revision := b.head.Revision
	if revision != l.world.Revision() {
		if err := l.catchUpNow(ctx); err != nil {
			return err
		}
	}
	if err := l.beAlive(ctx, tx, b); err != nil {
		return err
	}
	b.entries = l.drain()
	taken := l.now()
	for _, e := range b.entries {
		e.taken = taken
	}
	if err := l.build(ctx, tx, b); err != nil {
		return err
	}
	if len(b.admitted) == 0 {
		return nil
	}
	if err := b.write(ctx, tx, l.node); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	l.last = b.head
	l.revived(b)
	l.observe(b.head.Time)
	if b.head.Revision != revision {
		// Before anyone hears of it, this node decides on the new state. If it
		// cannot, its next decisions are stale and are refused by the fence.
		if err := l.catchUpNow(ctx); err != nil {
			l.log.Error("cannot follow the policy", "err", err)
		}
	}
	return nil
}

// goesOn refuses a log that is behind the one that this node has left, or is
// another one of its size: nothing is admitted to a catalog that was rolled back.
func (l *Ledger) goesOn(head storage.Head) error {
	if head.Size > l.last.Size || head.Size == l.last.Size && slices.Equal(head.Frontier, l.last.Frontier) {
		return nil
	}
	err := fault.New(fault.Corrupt, "ledger.commit", fmt.Sprintf("the catalog was rolled back: it has %d leaves, and had %d", head.Size, l.last.Size)).
		WithHint("nothing is served. Restore the newest catalog; if it is lost, `dsvault recover` goes on with this one, on record")
	l.lost(err)
	return err
}

// build decides the fate of each entry: part of this transaction, or answered
// here. An error is the whole batch's.
func (l *Ledger) build(ctx context.Context, tx *catalog.Tx, b *batch) error {
	var err error
	if b.tree, err = audit.NewTree(b.head.Size, b.head.Frontier); err != nil {
		return fault.Wrap(fault.Corrupt, "ledger.build", "the log's head is damaged", err)
	}
	var slots, closing []uint64
	live := make([]*entry, 0, len(b.entries))
	for _, e := range b.entries {
		if err := e.ctx.Err(); err != nil {
			e.answer(result{err: err})
			continue
		}
		live = append(live, e)
		slots = append(slots, e.in.Place.Slot)
		if e.in.closes != nil {
			closing = append(closing, *e.in.closes)
		}
	}
	slices.Sort(slots)
	if b.chains, err = tx.Chains(ctx, slices.Compact(slots)); err != nil {
		return err
	}
	closed, err := tx.CloseOpenReads(ctx, closing)
	if err != nil {
		return err
	}
	for _, e := range live {
		if e.in.closes != nil {
			i, open := slices.BinarySearch(closed, *e.in.closes)
			if !open {
				e.answer(result{err: fault.New(fault.Conflict, "ledger.End", "the read was closed already")})
				continue
			}
			closed = slices.Delete(closed, i, i+1)
		}
		now := max(l.now().UnixMicro(), b.head.Time)
		if e.in.closes == nil && !l.inForce(ctx, b, e, now) || e.in.First && len(b.admitted) > 0 {
			e.answer(result{stale: true})
			continue
		}
		switch err := l.admit(ctx, tx, b, e, now); {
		case err == nil:
			b.admitted = append(b.admitted, e)
		case ctx.Err() != nil, e.in.closes != nil:
			return err // the transaction is lost, or has closed a read without a record
		default:
			e.answer(result{err: err})
		}
	}
	return nil
}

// inForce reports whether e was decided on the policy and at a time at which it
// would be recorded. If not, it is decided again here, under the head's lock. A
// verdict that turns, or another transfer basis, goes back to the caller: it is
// described in another way.
func (l *Ledger) inForce(ctx context.Context, b *batch, e *entry, now int64) bool {
	at, until := time.UnixMicro(now), e.decision.Until
	if e.decision.Revision == b.head.Revision && (until.IsZero() || at.Before(until)) {
		return true
	}
	d, err := l.decide(ctx, &e.in, at)
	if err != nil || d.Revision != b.head.Revision || d.Allowed != e.decision.Allowed || d.Crossing != e.decision.Crossing {
		return false
	}
	e.decision = d
	return true
}

// admit applies one entry's rows and appends its leaf to the batch. On an error
// the batch is as it was before, and so is the transaction, unless it is broken:
// then it refuses everything from there on.
func (l *Ledger) admit(ctx context.Context, tx *catalog.Tx, b *batch, e *entry, now int64) error {
	next := b.head
	next.Size, next.Time = b.head.Size+1, now
	if e.decision.Allowed && e.in.PolicyChange {
		next.Revision++
	}
	var err error
	if !e.decision.Allowed || e.in.Apply == nil {
		err = l.stage(ctx, tx, b, e, next)
	} else {
		err = tx.Savepoint(ctx, func() error {
			atx := &Tx{Tx: tx, Now: time.UnixMicro(now).UTC(), Revision: next.Revision, Index: next.Size - 1, nextSlot: &next.NextSlot}
			if err := e.in.Apply(ctx, atx, &e.in); err != nil {
				return err
			}
			return l.stage(ctx, tx, b, e, next)
		})
	}
	if err != nil {
		return err
	}
	// Only what the transaction has kept moves the log on.
	b.head = next
	b.tree.Append(e.hash)
	b.chains[e.leaf.Slot] = e.chain
	return nil
}

// stage makes the entry's rows for a log whose head is next once they are in it.
func (l *Ledger) stage(ctx context.Context, tx *catalog.Tx, b *batch, e *entry, next storage.Head) error {
	slot := e.in.Place.Slot
	chain, known := b.chains[slot]
	if !known { // a slot that Apply has made, or has found
		found, err := tx.Chains(ctx, []uint64{slot})
		if err != nil {
			return err
		}
		if chain, known = found[slot]; !known {
			chain = storage.Chain{Slot: slot}
		}
	}
	leaf := e.build(next.Time, next.Revision, chain)
	data, err := leaf.Marshal()
	if err != nil && !e.decision.Allowed {
		// Nobody escapes the record of a refusal by asking in odd words.
		leaf.Ext = []audit.Field{refusedKind(e.in.Kind)}
		data, err = leaf.Marshal()
	}
	if err != nil {
		return fault.Wrap(fault.Internal, "ledger.stage", "cannot encode the record", err)
	}
	hash, index := audit.LeafHash(data), next.Size-1
	e.chain = storage.Chain{Slot: slot, Seq: leaf.Seq, LastIndex: index, LastHash: hash}
	e.leaf = storage.Leaf{
		Index: index, Slot: slot, Kind: uint16(leaf.Kind), Decision: uint8(leaf.Decision), Time: leaf.Time,
		Data: data, Principal: e.in.Actor.Principal, Details: e.sealed.Details,
	}
	e.hash, e.revision, e.locked, e.life = hash, next.Revision, b.locked, b.life
	e.opens = e.decision.Allowed && e.in.Access != nil && e.in.Kind == audit.KindRead
	return nil
}

// build makes the record itself. No name, address or client word goes into it.
func (e *entry) build(now int64, revision uint64, chain storage.Chain) audit.Leaf {
	leaf := audit.Leaf{
		Kind: e.in.Kind, Time: now, Revision: revision,
		Slot: chain.Slot, Tag: e.in.Place.Tag, Seq: chain.Seq + 1, Prev: chain.LastHash,
		Actor: e.sealed.Actor, Request: e.in.Actor.Request, Object: e.in.Object,
		Decision: audit.Allowed, Reason: e.decision.Rule, Commitment: e.sealed.Commitment,
	}
	var room [16]audit.Field
	fields := append(room[:0], e.in.Fields...)
	if a := e.in.Access; a != nil { // whoever closes an abandoned read takes it from here
		fields = append(fields, audit.Uint64Field(audit.FieldMaxBytes, uint64(a.MaxBytes)))
	}
	if c := e.decision.Crossing; c.Basis != "" {
		fields = append(fields, audit.Uint64Field(audit.FieldBasis, c.Basis.Code()))
		if c.Basis != dataset.BasisNone { // then it is one that the conditions name; any other is the person's alone
			fields = append(fields, audit.StringField(audit.FieldReaderRegion, c.Region))
		}
	}
	if !e.decision.Allowed {
		leaf.Decision, leaf.Kind = audit.Refused, audit.KindRefused
		leaf.Reason = reasonText(e.decision.Reasons)
		fields = append(fields, refusedKind(e.in.Kind))
	}
	leaf.Set(fields...)
	if e.in.Withheld {
		leaf.Actor, leaf.Reason = [16]byte{}, ""
	}
	return leaf
}

func refusedKind(k audit.Kind) audit.Field {
	return audit.Uint64Field(audit.FieldRefusedKind, uint64(k))
}

// reasonText fits the reasons into what a leaf may hold.
func reasonText(reasons []string) string {
	const limit = 500
	s := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, strings.Join(reasons, "; "))
	if len(s) > limit {
		s = s[:limit]
	}
	return s
}

// write stores the batch: leaves, chains, open reads, head. On PostgreSQL in one
// round trip: the other nodes wait for the head.
func (b *batch) write(ctx context.Context, tx *catalog.Tx, node string) error {
	leaves := make([]storage.Leaf, 0, len(b.admitted))
	touched := make(map[uint64]struct{}, len(b.admitted))
	var opened []uint64
	for _, e := range b.admitted {
		leaves = append(leaves, e.leaf)
		touched[e.leaf.Slot] = struct{}{}
		if e.opens {
			opened = append(opened, e.leaf.Index)
		}
	}
	chains := make([]storage.Chain, 0, len(touched))
	for slot := range touched {
		chains = append(chains, b.chains[slot])
	}
	b.head.Frontier = b.tree.Frontier()
	return tx.Together(ctx, func() error {
		if err := tx.AppendLeaves(ctx, leaves); err != nil {
			return err
		}
		if err := tx.SetChains(ctx, chains); err != nil {
			return err
		}
		if err := tx.AddOpenReads(ctx, node, opened); err != nil {
			return err
		}
		return tx.SetHead(ctx, b.head)
	})
}
