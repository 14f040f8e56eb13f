package vault

import (
	"context"
	"errors"
	"slices"
	"time"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/ledger"
	"dsvault/vault/wire"
)

// LogQuery selects records. Zero fields do not restrict.
type LogQuery struct {
	Under    dataset.Scope
	Actor    string         // a handle
	Tag      [16]byte       // a pseudonym: the actor tag in the leaf
	Kinds    []audit.Kind   // refusals of what would have been of such a kind included
	Decision audit.Decision // Allowed or Refused
	Since    time.Time      // not before
	Until    time.Time      // before
	Cursor   wire.LogCursor
	Follow   bool // to the end of the log as it is now; there is always a next page
	Limit    int
}

// lookLife is how long one record of looking at the log holds.
const lookLife = 10 * time.Minute

// maxScan is how many records one page looks through, however few match. Tests
// shorten it.
var maxScan uint64 = 50_000

// Log gives one page of the records below a scope, oldest first, to those who
// may read the log there. Looking is recorded too, once for all pages of one
// look. A page may have fewer records than asked for and yet a next one.
func (v *Vault) Log(ctx context.Context, c identity.Caller, q LogQuery) (wire.Page[wire.Record], error) {
	page := wire.Page[wire.Record]{Items: []wire.Record{}}
	t, err := v.target(ctx, q.Under)
	if err != nil {
		return page, err
	}
	in := v.intent(c, audit.KindLogRead, t, rbac.Read, rbac.Log)
	if !t.known {
		return page, v.absent(ctx, t, in)
	}
	if len(q.Kinds) > maxKinds {
		return page, fault.New(fault.Invalid, "vault.Log", "too many kinds")
	}
	var who dataset.PrincipalID
	if q.Actor != "" {
		p, err := v.principal(ctx, c, q.Actor, in)
		if err != nil {
			return page, err
		}
		who = p.ID
	}
	look, err := v.look(ctx, c, t, in, q.Cursor.Look)
	if err != nil {
		return page, err
	}
	if q.Cursor.End {
		q.Cursor.From = look + 1
	}
	scan := logScan{query: q, under: t.scope, who: who, limit: clip(q.Limit, wire.MaxPage)}
	if !who.IsZero() {
		withholds, err := v.withholds(ctx, c, t.scope)
		if err != nil {
			return page, err
		}
		if withholds {
			scan.withheldAt = v.now()
		}
	}
	if !q.Follow {
		scan.to = look // the page ends before the record of looking at it
	}
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		if err := scan.run(ctx, tx); err != nil {
			return err
		}
		r := v.newReader(ctx, c, tx)
		for _, l := range scan.found {
			rec, err := r.record(l)
			if err != nil {
				return err
			}
			page.Items = append(page.Items, rec)
		}
		return nil
	})
	if err == nil && (scan.more || q.Follow) {
		page.Next = wire.LogCursor{From: scan.next, Look: look}.String()
	}
	return page, err
}

// maxKinds is the most kinds of one query.
const maxKinds = 50

// look gives the index of the record of this look: an earlier one of the same
// caller at the same scope, while it is young, or else a new one. Whether the
// caller may look is decided each time.
func (v *Vault) look(ctx context.Context, c identity.Caller, t target, in ledger.Intent, earlier uint64) (uint64, error) {
	if earlier > 0 {
		holds := false
		err := v.db.View(ctx, func(tx *catalog.Tx) error {
			return tx.Leaves(ctx, storage.LeafQuery{From: earlier, To: earlier + 1}, func(l storage.Leaf) error {
				age := v.now().Sub(time.UnixMicro(l.Time))
				holds = l.Kind == uint16(audit.KindLogRead) && l.Decision == uint8(audit.Allowed) &&
					l.Slot == t.row.Slot && l.Principal == c.Principal && age >= 0 && age < lookLife
				return nil
			})
		})
		if err != nil {
			return 0, err
		}
		if holds {
			_, err := v.ledger.Check(ctx, in)
			return earlier, err
		}
	}
	receipt, err := v.ledger.Record(ctx, in)
	return receipt.Index, err
}

// logScan finds the leaves of one page.
type logScan struct {
	query LogQuery
	under dataset.Scope
	who   dataset.PrincipalID
	to    uint64 // 0: the end of the log
	limit int

	// Not zero: what is withheld at that time is nobody's, for who asks.
	withheldAt time.Time

	found []storage.Leaf
	next  uint64 // index of the first leaf that was not looked at
	more  bool
}

var errEnough = errors.New("the page is full")

func (s *logScan) run(ctx context.Context, tx *catalog.Tx) error {
	head, err := tx.Head(ctx)
	if err != nil {
		return err
	}
	from, to := s.query.Cursor.From, head.Size
	if s.to > 0 {
		to = min(to, s.to)
	}
	if !s.query.Since.IsZero() {
		first, err := tx.LeafSince(ctx, s.query.Since.UnixMicro())
		if err != nil {
			return err
		}
		from = max(from, first)
	}
	if !s.query.Until.IsZero() {
		end, err := tx.LeafSince(ctx, s.query.Until.UnixMicro())
		if err != nil {
			return err
		}
		to = min(to, end)
	}
	s.next = from
	if from >= to {
		return nil
	}
	q := storage.LeafQuery{From: from, To: to, Under: s.under, Principal: s.who, Decision: uint8(s.query.Decision)}
	if s.narrow() && to-from > maxScan {
		q.To, s.more = from+maxScan, true
	}
	if !s.who.IsZero() {
		q.Bare = uint16(audit.KindReadEnd)
	}
	for _, kind := range s.query.Kinds {
		q.Kinds = append(q.Kinds, uint16(kind))
	}
	if len(q.Kinds) > 0 && s.query.Decision != audit.Allowed {
		q.Kinds = append(q.Kinds, uint16(audit.KindRefused))
	}
	err = tx.Leaves(ctx, q, func(l storage.Leaf) error {
		keep, err := s.keeps(l)
		if err != nil || !keep {
			return err
		}
		s.found, s.next = append(s.found, l), l.Index+1
		if len(s.found) == s.limit {
			return errEnough
		}
		return nil
	})
	if err == errEnough {
		s.more = true
		return s.resolve(ctx, tx)
	}
	if err != nil {
		return err
	}
	s.next = q.To
	return s.resolve(ctx, tx)
}

// narrow reports whether few of many leaves may match.
func (s *logScan) narrow() bool {
	return !s.who.IsZero() || len(s.query.Kinds) > 0 || s.query.Decision != audit.None || s.query.Tag != [16]byte{}
}

// keeps decides what the columns of a leaf do not tell.
func (s *logScan) keeps(l storage.Leaf) (bool, error) {
	kinds := s.query.Kinds
	wanted := len(kinds) == 0 || slices.Contains(kinds, audit.Kind(l.Kind))
	if wanted && s.query.Tag == [16]byte{} && s.withheldAt.IsZero() {
		return true, nil
	}
	leaf, err := audit.ParseLeaf(l.Data)
	if err != nil {
		return false, damagedRecord(l.Index, err)
	}
	if !s.withheldAt.IsZero() && withheld(&leaf, s.withheldAt) {
		return false, nil
	}
	if !wanted {
		asked, ok := leaf.Uint64(audit.FieldRefusedKind)
		wanted = ok && slices.Contains(kinds, audit.Kind(asked))
	}
	return wanted && (s.query.Tag == [16]byte{} || leaf.Actor == s.query.Tag), nil
}

// resolve drops the read-ends that nobody is named in, unless the read that
// they end is of the one who is asked for: a restart closes reads on its own.
func (s *logScan) resolve(ctx context.Context, tx *catalog.Tx) error {
	if s.who.IsZero() {
		return nil
	}
	kept := s.found[:0]
	for _, l := range s.found {
		if l.Principal.IsZero() {
			leaf, err := audit.ParseLeaf(l.Data)
			if err != nil {
				return damagedRecord(l.Index, err)
			}
			read, _ := leaf.Uint64(audit.FieldRefIndex)
			err = tx.Leaves(ctx, storage.LeafQuery{From: read, To: read + 1}, func(begun storage.Leaf) error {
				read, err := audit.ParseLeaf(begun.Data)
				if err != nil {
					return damagedRecord(begun.Index, err)
				}
				if s.withheldAt.IsZero() || !withheld(&read, s.withheldAt) {
					l.Principal = begun.Principal
				}
				return nil
			})
			if err != nil {
				return err
			}
			if l.Principal != s.who {
				continue
			}
			l.Principal = dataset.PrincipalID{}
		}
		kept = append(kept, l)
	}
	s.found = kept
	return nil
}
