package notary

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
	"dsvault/vault/ledger"
)

const (
	// LookEvery is how often the elected node should call Run.
	LookEvery = 5 * time.Second

	// stateEvery is the longest time without a statement while the log grows,
	// give or take LookEvery.
	stateEvery = time.Minute - LookEvery

	// stateGap is the time between two statements of one node, however many
	// ask for one; after a quiet time, stateBurst of them may follow at once.
	stateGap   = 2 * time.Second
	stateBurst = 30
)

// maxReplay is how many leaves are read to bring the array up to date. If more
// were written since, it is built anew from the ends of all chains. Tests
// shorten it.
var maxReplay uint64 = 50_000

// metaStatement keeps index and time of the newest statement's leaf, 8 bytes each.
const metaStatement = "statement"

// Statements writes the statements of the log and proves what the newest one
// says of a slot. Every node has one: any of them may write a statement, in a
// transaction of the ledger. It is safe for concurrent use.
type Statements struct {
	db     *catalog.DB
	ledger *ledger.Ledger
	place  ledger.Place // the vault's own slot
	now    func() time.Time

	// turn holds a token. Whoever has it owns the fields below.
	turn  chan struct{}
	array audit.Array
	size  uint64    // the array is that of the first so many leaves
	start time.Time // of this node
	limit *rate.Limiter
}

// NewStatements returns the Statements of a node. place is the vault's own slot.
func NewStatements(db *catalog.DB, led *ledger.Ledger, place ledger.Place, now func() time.Time) *Statements {
	s := &Statements{db: db, ledger: led, place: place, now: now, start: now(), limit: rate.NewLimiter(rate.Every(stateGap), stateBurst), turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	return s
}

// Run is a Task's: it writes a statement once a minute while the log grows.
func (s *Statements) Run(ctx context.Context, size uint64) (uint64, error) {
	if err := s.take(ctx); err != nil {
		return 0, err
	}
	defer s.give()
	newest, at, found, err := s.newest(ctx)
	switch {
	case err != nil:
		return 0, err
	case found && newest+1 >= size:
		return size, nil
	case !found:
		at = s.start
	}
	if age := s.now().Sub(at); age >= 0 && age < stateEvery {
		return 0, nil
	}
	index, err := s.write(ctx)
	return index + 1, err
}

// SlotProof is what a statement says of a slot, with the proof for
// audit.VerifyEntry.
type SlotProof struct {
	Slot  uint64
	Entry audit.Entry
	Path  []audit.Hash
}

// Stated is a statement with proofs.
type Stated struct {
	audit.Statement
	Leaf  []byte
	Slots []SlotProof
}

// After gives the newest statement that covers the leaf at index, and proves
// what it says of slots, which are ascending. It writes a statement if it has
// to, and waits before if too many were written lately. Slots without leaves before
// the statement are left out.
func (s *Statements) After(ctx context.Context, index uint64, slots []uint64) (Stated, error) {
	if err := s.take(ctx); err != nil {
		return Stated{}, err
	}
	defer s.give()
	at, err := s.reach(ctx, index)
	if err != nil {
		return Stated{}, err
	}
	out, err := s.read(ctx, at)
	if err != nil {
		return Stated{}, err
	}
	for _, slot := range slots {
		entry := s.array.Entry(slot)
		if entry.Count == 0 {
			continue
		}
		path, err := s.array.Prove(slot)
		if err != nil {
			return Stated{}, fault.Wrap(fault.Internal, "notary.After", "cannot prove a slot", err)
		}
		out.Slots = append(out.Slots, SlotProof{Slot: slot, Entry: entry, Path: path})
	}
	return out, nil
}

func (s *Statements) take(ctx context.Context) error {
	select {
	case <-s.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Statements) give() { s.turn <- struct{}{} }

// reach brings the array to the newest statement, which is to lie behind the
// leaf at index; if it does not, or is out of reach, it writes one.
func (s *Statements) reach(ctx context.Context, index uint64) (uint64, error) {
	newest, _, found, err := s.newest(ctx)
	if err != nil {
		return 0, err
	}
	if found && newest > index && newest >= s.size && newest-s.size <= maxReplay && s.size > 0 {
		err := s.db.View(ctx, func(tx *catalog.Tx) error { return s.replay(ctx, tx, newest) })
		return newest, err
	}
	now := s.now()
	if wait := s.limit.ReserveN(now, 1).DelayFrom(now); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return s.write(ctx)
}

// newest gives index and time of the newest statement's leaf.
func (s *Statements) newest(ctx context.Context) (index uint64, at time.Time, found bool, err error) {
	err = s.db.View(ctx, func(tx *catalog.Tx) error {
		value, err := tx.Meta(ctx, metaStatement)
		if errors.Is(err, storage.ErrNoRow) {
			return nil
		}
		if err == nil && len(value) != 16 {
			err = fault.New(fault.Corrupt, "notary.newest", "the catalog's note of the newest statement is damaged")
		}
		if err == nil {
			index, found = binary.BigEndian.Uint64(value), true
			at = time.UnixMicro(int64(binary.BigEndian.Uint64(value[8:])))
		}
		return err
	})
	return index, at, found, err
}

// write appends a statement and gives its index.
//
// What is known long before is brought up to date first, so that little is left
// to do while the log's head is locked.
func (s *Statements) write(ctx context.Context) (uint64, error) {
	const op = "notary.state"
	if err := s.db.View(ctx, func(tx *catalog.Tx) error { return s.catchUp(ctx, tx) }); err != nil {
		return 0, err
	}
	var at uint64
	receipt, err := s.ledger.Record(ctx, ledger.Intent{
		Kind: audit.KindStatement, Own: true, First: true, Place: s.place, Object: audit.Object{Kind: audit.ObjectLog},
		Apply: func(ctx context.Context, tx *ledger.Tx, in *ledger.Intent) error {
			head, err := tx.Head(ctx)
			if err != nil {
				return err
			}
			if err := s.replay(ctx, tx.Tx, head.Size); err != nil {
				return err
			}
			at = head.Size
			statement := audit.Statement{Root: s.array.Root(), Length: s.array.Len()}
			in.Fields = statement.Fields()
			value := binary.BigEndian.AppendUint64(nil, at)
			return tx.SetMeta(ctx, metaStatement, binary.BigEndian.AppendUint64(value, uint64(tx.Now.UnixMicro())))
		},
	})
	if err != nil {
		return 0, err
	}
	if receipt.Index != at {
		return 0, fault.New(fault.Internal, op, fmt.Sprintf("the statement of %d leaves is leaf %d", at, receipt.Index))
	}
	return at, nil
}

// catchUp brings the array to the log's head.
func (s *Statements) catchUp(ctx context.Context, tx *catalog.Tx) error {
	head, err := tx.Head(ctx)
	if err != nil {
		return err
	}
	if s.size > 0 && s.size <= head.Size && head.Size-s.size <= maxReplay {
		return s.replay(ctx, tx, head.Size)
	}
	s.array, s.size = audit.Array{}, 0
	err = tx.EachChain(ctx, func(c storage.Chain, tag [16]byte) error {
		if err := s.array.Set(c.Slot, audit.Entry{Tag: tag, Count: c.Seq, Last: c.LastIndex, Hash: c.LastHash}); err != nil {
			return fault.Wrap(fault.Corrupt, "notary.catchUp", "the catalog has a slot that cannot be", err)
		}
		return nil
	})
	if err == nil {
		s.size = head.Size
	}
	return err
}

// replay brings the array up to the first size leaves, by the leaves that it
// does not know yet. If it fails the array is built anew the next time.
func (s *Statements) replay(ctx context.Context, tx *catalog.Tx, size uint64) error {
	const op = "notary.replay"
	next := s.size
	err := tx.LeafData(ctx, next, size, func(index, _ uint64, data []byte) error {
		leaf, err := audit.ParseLeaf(data)
		if err != nil || index != next {
			return fault.Wrap(fault.Corrupt, op, fmt.Sprintf("leaf %d of the log is missing or damaged", next), err)
		}
		next++
		return s.array.Set(leaf.Slot, audit.Entry{Tag: leaf.Tag, Count: leaf.Seq, Last: index, Hash: audit.LeafHash(data)})
	})
	if err == nil && next != size {
		err = fault.New(fault.Corrupt, op, fmt.Sprintf("leaf %d of the log is missing", next))
	}
	if s.size = next; err != nil {
		s.size = 0
	}
	return err
}

// read reads the statement's leaf at index, and checks that it is what the array
// says.
func (s *Statements) read(ctx context.Context, index uint64) (Stated, error) {
	const op = "notary.read"
	var out Stated
	err := s.db.View(ctx, func(tx *catalog.Tx) error {
		return tx.LeafData(ctx, index, index+1, func(_, _ uint64, data []byte) error {
			out.Leaf = data
			return nil
		})
	})
	if err != nil {
		return out, err
	}
	leaf, err := audit.ParseLeaf(out.Leaf)
	if err == nil {
		out.Statement, err = audit.ReadStatement(index, &leaf)
	}
	if err == nil && (out.Root != s.array.Root() || out.Length != s.array.Len()) {
		err = errors.New("it is not what the log holds")
	}
	if err != nil {
		s.size = 0
		return out, fault.Wrap(fault.Corrupt, op, fmt.Sprintf("the statement at leaf %d is wrong", index), err).
			WithHint("the operator should restore the catalog from a backup")
	}
	return out, nil
}
