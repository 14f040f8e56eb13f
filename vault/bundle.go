package vault

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/ledger"
	"dsvault/vault/notary"
	"dsvault/vault/wire"
)

// BundleQuery says which part of the log somebody wants to verify.
type BundleQuery struct {
	Under dataset.Scope
	Known uint64   // size of the log that the bundle is to continue; 0: none
	Nonce [16]byte // goes into the record of this look
}

// maxBundles is how many bundles may be on their way at once: each keeps the
// proofs of its slots in memory until they are sent.
const maxBundles = 8

// Bundle is a bundle of the log on its way.
type Bundle struct {
	v         *Vault
	target    target
	bare      bool // of no slot, and without records: see anchorBundle
	hides     bool // what is withheld
	known     uint64
	note      []byte
	cp        audit.Checkpoint
	statement notary.Stated
	recovered *audit.Recovered // nil in the log's first epoch
	leave     func()           // makes room for another; nil: it takes none
}

// LogBundle prepares everything that is needed to verify the log at and below a
// scope, for those who may read it there: a statement that covers this very look,
// which is recorded, and a checkpoint of the statement. End it with Close.
func (v *Vault) LogBundle(ctx context.Context, c identity.Caller, q BundleQuery) (*Bundle, error) {
	const op = "vault.LogBundle"
	t, err := v.target(ctx, q.Under)
	if err != nil {
		return nil, err
	}
	in := v.intent(c, audit.KindLogRead, t, rbac.Read, rbac.Log)
	if !t.known {
		return nil, v.absent(ctx, t, in)
	}
	if q.Nonce != [16]byte{} {
		in.Fields = append(in.Fields, audit.BytesField(audit.FieldNonce, q.Nonce[:]))
	}
	hides, err := v.withholds(ctx, c, t.scope)
	if err != nil {
		return nil, err
	}
	select {
	case v.bundles <- struct{}{}:
	default:
		return nil, fault.New(fault.Busy, op, "too many people verify the log at once").WithHint("try again in a moment").WithRetry(2 * time.Second)
	}
	b := &Bundle{v: v, target: t, hides: hides, known: q.Known, leave: sync.OnceFunc(func() { <-v.bundles })}
	if err := b.prepare(ctx, func() (uint64, error) {
		receipt, err := v.ledger.Record(ctx, in)
		return receipt.Index, err
	}); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// Close ends the bundle. It may be called more than once.
func (b *Bundle) Close() {
	if b.leave != nil {
		b.leave()
	}
}

func (b *Bundle) prepare(ctx context.Context, look func() (uint64, error)) error {
	looked, err := look()
	if err != nil {
		return err
	}
	slots, err := b.slots(ctx)
	if err != nil {
		return err
	}
	if b.statement, err = b.v.statements.After(ctx, looked, slots); err != nil {
		return err
	}
	return b.sign(ctx)
}

// sign waits for a checkpoint that covers the statement.
func (b *Bundle) sign(ctx context.Context) error {
	signed, err := b.v.notary.Await(ctx, b.statement.Index+1)
	if err != nil {
		return err
	}
	b.note = signed.Note
	if b.cp, err = b.v.notary.Read(signed.Note); err != nil {
		return err
	}
	b.recovered, err = b.v.recovered(ctx, b.cp)
	return err
}

// slots are those at and below the scope. Of the whole log none is proven: who
// has all leaves computes them.
func (b *Bundle) slots(ctx context.Context) ([]uint64, error) {
	var slots []uint64
	if b.whole() {
		return nil, nil
	}
	for after, more := "", true; more; {
		err := b.v.db.View(ctx, func(tx *catalog.Tx) error {
			rows, err := tx.ScopesUnder(ctx, b.target.scope, after, wire.MaxPage)
			for _, row := range rows {
				slots = append(slots, row.Slot)
				after = row.Scope.String()
			}
			more = len(rows) == wire.MaxPage
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(slots)
	return slots, nil
}

func (b *Bundle) whole() bool { return b.target.scope == dataset.Root && !b.bare }

// Send writes the bundle to w, in the form of audit.VerifyBundle, and makes room
// for another once its proofs are written. A failure leaves it without an end.
func (b *Bundle) Send(ctx context.Context, w io.Writer) error {
	buffered := bufio.NewWriterSize(w, 64<<10)
	out, err := audit.NewBundleWriter(buffered, audit.BundleHeader{
		Origin: b.v.notary.Origin(), Key: b.v.notary.Verifier(), Scope: b.target.scope.String(), Whole: b.whole(),
		Successions: b.v.notary.Successions(), Recovered: b.recovered,
	})
	if err != nil {
		return err
	}
	if err := b.proofs(ctx, out); err != nil {
		return err
	}
	b.statement.Slots = nil
	b.Close() // whoever takes the records slowly holds nobody up
	if !b.bare {
		if err := b.records(ctx, out); err != nil {
			return err
		}
	}
	if err := out.End(); err != nil {
		return err
	}
	return buffered.Flush()
}

// proofs writes what comes before the records.
func (b *Bundle) proofs(ctx context.Context, out *audit.BundleWriter) error {
	if err := out.Checkpoint(b.note); err != nil {
		return err
	}
	// A log that was longer once is not continued: the caller sees that himself.
	if b.known > 0 && b.known <= b.cp.Size {
		path, err := b.v.notary.Consistency(ctx, b.cp, b.known)
		if err != nil {
			return err
		}
		if err := out.Consistency(b.known, path); err != nil {
			return err
		}
	}
	if b.whole() {
		return nil
	}
	path, err := b.v.notary.Inclusion(ctx, b.cp, b.statement.Index)
	if err != nil {
		return err
	}
	if err := out.Statement(b.statement.Index, b.statement.Leaf, path); err != nil {
		return err
	}
	for _, s := range b.statement.Slots {
		if err := out.Slot(s.Slot, s.Entry, s.Path); err != nil {
			return err
		}
	}
	return nil
}

// records writes the leaves, page by page: a slow reader must not hold a
// snapshot of the catalog.
func (b *Bundle) records(ctx context.Context, out *audit.BundleWriter) error {
	q := storage.LeafQuery{Under: b.target.scope, To: b.statement.Index, Limit: wire.MaxPage}
	if b.whole() {
		q.To = b.cp.Size
	}
	for q.From < q.To {
		page := make([]storage.Leaf, 0, q.Limit)
		err := b.v.db.View(ctx, func(tx *catalog.Tx) error {
			return tx.Leaves(ctx, q, func(l storage.Leaf) error {
				page = append(page, l)
				return nil
			})
		})
		if err != nil {
			return err
		}
		for _, l := range page {
			rec, err := b.bundled(ctx, l)
			if err != nil {
				return err
			}
			if err := out.Record(rec); err != nil {
				return err
			}
			q.From = l.Index + 1
		}
		if len(page) < q.Limit {
			return nil
		}
	}
	return nil
}

// bundled is a leaf with its personal details.
func (b *Bundle) bundled(ctx context.Context, l storage.Leaf) (audit.Record, error) {
	rec := audit.Record{Index: l.Index, Data: l.Data}
	if l.Principal.IsZero() || l.Details == nil {
		return rec, nil
	}
	if b.hides {
		leaf, err := audit.ParseLeaf(l.Data)
		if err != nil {
			return rec, damagedRecord(l.Index, err)
		}
		if withheld(&leaf, b.v.now()) {
			return rec, nil
		}
	}
	salt, details, err := b.v.keys.OpenDetails(ctx, l.Principal, l.Details)
	if errors.Is(err, ledger.ErrForgotten) { // the pseudonym stays
		return rec, nil
	}
	if err != nil {
		return rec, err
	}
	rec.Salt, rec.Details = &salt, details
	return rec, nil
}

// anchorBundle is what is left in the anchor for a log of size leaves: a signed
// checkpoint that covers them, and the bundle that says what it is worth, which is
// the proof that its log continues the one of known leaves (0: none), and a
// statement of the end of every slot. Anybody can verify it with the log's key, and
// compare it with what they were shown.
func (v *Vault) anchorBundle(ctx context.Context, size, known uint64) (signed, bundle []byte, err error) {
	root, err := v.root(ctx)
	if err != nil {
		return nil, nil, err
	}
	b := &Bundle{v: v, target: root, bare: true, known: known}
	if b.statement, err = v.statements.After(ctx, size-1, nil); err != nil {
		return nil, nil, err
	}
	if err := b.sign(ctx); err != nil {
		return nil, nil, err
	}
	var out bytes.Buffer
	err = b.Send(ctx, &out)
	return b.note, out.Bytes(), err
}

// openStatements makes what writes and proves the log's statements.
func (v *Vault) openStatements(ctx context.Context) error {
	root, err := v.root(ctx)
	if err != nil {
		return err
	}
	v.statements = notary.NewStatements(v.db, v.ledger, root.place(), v.now)
	return nil
}
