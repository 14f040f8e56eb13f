package ledger

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
)

// entry is one Intent on its way through a commit.
type entry struct {
	ctx      context.Context
	in       Intent
	decision rbac.Decision
	sealed   Sealed
	result   chan result // buffered; exactly one answer is sent

	// Set while the batch is built, by the committer.
	leaf    storage.Leaf
	receipt Receipt
	open    *storage.OpenRead
}

type result struct {
	receipt Receipt
	stale   bool // decided on a revision that is not in force any more
	err     error
}

func unavailable(message string, err error) error {
	return fault.Wrap(fault.Unavailable, "ledger.commit", message, err).
		WithHint("try again; if it goes on, the operator should look at the database").WithRetry(time.Second)
}

// describe seals what the leaf must not hold.
func (l *Ledger) describe(ctx context.Context, e *entry) error {
	if e.in.Actor.Principal.IsZero() {
		return nil
	}
	details, err := json.Marshal(details{
		Handle: e.in.Actor.Handle, Address: e.in.Actor.Address, Agent: e.in.Actor.Agent, Note: e.in.Note,
	})
	if err != nil {
		return fault.Wrap(fault.Internal, "ledger.describe", "cannot encode details", err)
	}
	e.sealed, err = l.sealer.Seal(ctx, e.in.Actor.Principal, e.in.Place.Tag, details)
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
	l.mu.Lock()
	switch {
	case l.closed:
		l.mu.Unlock()
		return unavailable("the vault is shutting down", nil)
	case len(l.queue) >= maxQueue:
		l.mu.Unlock()
		return unavailable("too many requests are waiting for the audit log", nil)
	}
	l.queue = append(l.queue, e)
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

func (l *Ledger) drain() []*entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(l.queue), maxBatch)
	batch := l.queue[:n:n]
	if l.queue = l.queue[n:]; len(l.queue) == 0 {
		l.queue = nil
	}
	return batch
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

// commitBatch runs one admission transaction. The head lock comes first and the
// queue is drained after it, so that everyone who arrived while another node
// held the lock shares this commit.
func (l *Ledger) commitBatch() {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	fail := func(batch []*entry, err error) {
		l.log.Error("admission failed; nothing was served", "entries", len(batch), "err", err)
		for _, e := range batch {
			e.result <- result{err: unavailable("the audit log cannot be written", err)}
		}
	}
	tx, err := l.db.Begin(ctx)
	if err != nil {
		fail(l.drain(), err)
		return
	}
	defer tx.Rollback()
	head, err := tx.LockHead(ctx)
	if err != nil {
		fail(l.drain(), err)
		return
	}
	batch := l.drain()
	revision := head.Revision
	b, err := l.build(ctx, tx, head, batch)
	if err != nil {
		fail(batch, err)
		return
	}
	if len(b.admitted) > 0 {
		if err := b.write(ctx, tx); err != nil {
			fail(b.admitted, err)
			return
		}
		// A failed commit may have happened all the same. Nobody gets a permit
		// for it: a record without a read is harmless, the reverse is not.
		if err := tx.Commit(); err != nil {
			fail(b.admitted, err)
			return
		}
	}
	if b.head.Revision != revision {
		// Before anyone hears of it, this node decides on the new state. If it
		// cannot, its next decisions are stale and are refused by the fence.
		if err := l.CatchUp(ctx); err != nil {
			l.log.Error("cannot follow the policy", "err", err)
		}
	}
	for _, e := range b.admitted {
		e.result <- result{receipt: e.receipt}
	}
}

// batch is the part of a transaction that is built in memory.
type batch struct {
	head     storage.Head
	tree     *audit.Tree
	chains   map[uint64]storage.Chain
	admitted []*entry
}

// build decides the fate of each entry: stale, failed, or part of this batch.
// Stale and failed ones are answered here.
func (l *Ledger) build(ctx context.Context, tx *catalog.Tx, head storage.Head, entries []*entry) (*batch, error) {
	tree, err := audit.NewTree(head.Size, head.Frontier)
	if err != nil {
		return nil, fault.Wrap(fault.Corrupt, "ledger.build", "the log's head is damaged", err)
	}
	slots := make([]uint64, 0, len(entries))
	for _, e := range entries {
		slots = append(slots, e.in.Place.Slot)
	}
	chains, err := tx.Chains(ctx, slots)
	if err != nil {
		return nil, err
	}
	b := &batch{head: head, tree: tree, chains: chains, admitted: make([]*entry, 0, len(entries))}
	for i, e := range entries {
		if err := e.ctx.Err(); err != nil {
			e.result <- result{err: err}
			continue
		}
		if e.decision.Revision != b.head.Revision {
			e.result <- result{stale: true}
			continue
		}
		if err := l.admit(ctx, tx, b, e); err != nil {
			if fault.Is(err, fault.Unavailable) && ctx.Err() != nil {
				// The transaction is lost, for the rest of the entries too.
				for _, rest := range entries[i:] {
					rest.result <- result{err: err}
				}
				return b, failAdmitted(b, err)
			}
			e.result <- result{err: err}
			continue
		}
		b.admitted = append(b.admitted, e)
	}
	return b, nil
}

// failAdmitted answers the entries that were in the batch already and empties it.
func failAdmitted(b *batch, err error) error {
	for _, e := range b.admitted {
		e.result <- result{err: err}
	}
	b.admitted = nil
	return nil
}

// admit applies one entry's rows and appends its leaf to the batch. On an error
// the transaction and the batch are as they were before.
func (l *Ledger) admit(ctx context.Context, tx *catalog.Tx, b *batch, e *entry) error {
	now := max(l.now().UnixMicro(), b.head.Time)
	next := b.head
	if e.decision.Allowed && e.in.PolicyChange {
		next.Revision++
	}
	if !e.decision.Allowed || e.in.Apply == nil {
		return l.append(ctx, tx, b, e, next, now)
	}
	return tx.Savepoint(ctx, func() error {
		atx := &Tx{Tx: tx, Now: time.UnixMicro(now).UTC(), Revision: next.Revision, nextSlot: &next.NextSlot}
		if err := e.in.Apply(ctx, atx, &e.in); err != nil {
			return err
		}
		return l.append(ctx, tx, b, e, next, now)
	})
}

// append adds the entry's leaf to the batch; head is the log's head before it.
func (l *Ledger) append(ctx context.Context, tx *catalog.Tx, b *batch, e *entry, head storage.Head, now int64) error {
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
	leaf := e.build(now, head.Revision, chain)
	data, err := leaf.Marshal()
	if err != nil {
		return fault.Wrap(fault.Internal, "ledger.append", "cannot encode the record", err)
	}
	hash, index := audit.LeafHash(data), head.Size
	b.tree.Append(hash)
	head.Size, head.Time = index+1, now
	b.head = head
	b.chains[slot] = storage.Chain{Slot: slot, Seq: chain.Seq + 1, LastIndex: index, LastHash: hash}
	e.leaf = storage.Leaf{
		Index: index, Slot: slot, Kind: uint16(leaf.Kind), Decision: uint8(leaf.Decision), Time: now,
		Data: data, Principal: e.in.Actor.Principal, Details: e.sealed.Details,
	}
	e.receipt = Receipt{Index: index, Hash: hash, Time: time.UnixMicro(now).UTC(), Revision: head.Revision}
	if r := e.in.Access; e.decision.Allowed && r != nil && e.in.Kind == audit.KindRead {
		e.open = &storage.OpenRead{
			Index: index, Slot: slot, Dataset: r.Dataset, Shard: r.Shard,
			Principal: e.in.Actor.Principal, MaxBytes: r.MaxBytes, Time: now, Node: l.node,
		}
	}
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
	leaf.Set(e.in.Fields...)
	if !e.decision.Allowed {
		leaf.Decision, leaf.Kind = audit.Refused, audit.KindRefused
		leaf.Reason = reasonText(e.decision.Reasons)
		leaf.Set(audit.Uint64Field(audit.FieldRefusedKind, uint64(e.in.Kind)))
	}
	return leaf
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

// write stores the batch: leaves, chains, open and closed reads, head.
func (b *batch) write(ctx context.Context, tx *catalog.Tx) error {
	leaves := make([]storage.Leaf, 0, len(b.admitted))
	touched := make(map[uint64]struct{}, len(b.admitted))
	var opened []storage.OpenRead
	var closed []uint64
	for _, e := range b.admitted {
		leaves = append(leaves, e.leaf)
		touched[e.leaf.Slot] = struct{}{}
		if e.open != nil {
			opened = append(opened, *e.open)
		}
		if e.in.closes != nil {
			closed = append(closed, *e.in.closes)
		}
	}
	if err := tx.AppendLeaves(ctx, leaves); err != nil {
		return err
	}
	chains := make([]storage.Chain, 0, len(touched))
	for slot := range touched {
		chains = append(chains, b.chains[slot])
	}
	if err := tx.SetChains(ctx, chains); err != nil {
		return err
	}
	if len(opened) > 0 {
		if err := tx.AddOpenReads(ctx, opened); err != nil {
			return err
		}
	}
	if len(closed) > 0 {
		if _, err := tx.CloseOpenReads(ctx, closed); err != nil {
			return err
		}
	}
	b.head.Frontier = b.tree.Frontier()
	return tx.SetHead(ctx, b.head)
}
