package vault

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"strconv"
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

// reader turns stored leaves into records, with the names that still resolve.
type reader struct {
	v      *Vault
	ctx    context.Context
	tx     *catalog.Tx
	names  func(dataset.PrincipalID) string
	scopes map[uint64]dataset.Scope
}

func (v *Vault) newReader(ctx context.Context, tx *catalog.Tx) *reader {
	return &reader{v: v, ctx: ctx, tx: tx, names: v.names(ctx, tx), scopes: map[uint64]dataset.Scope{}}
}

func damagedRecord(index uint64, err error) error {
	return fault.Wrap(fault.Corrupt, "vault.Log", "record "+strconv.FormatUint(index, 10)+" is damaged", err)
}

func (r *reader) record(l storage.Leaf) (wire.Record, error) {
	leaf, err := audit.ParseLeaf(l.Data)
	if err != nil {
		return wire.Record{}, damagedRecord(l.Index, err)
	}
	if l.Slot != leaf.Slot || l.Kind != uint16(leaf.Kind) || l.Decision != uint8(leaf.Decision) || l.Time != leaf.Time {
		return wire.Record{}, fault.New(fault.Corrupt, "vault.Log", "record "+strconv.FormatUint(l.Index, 10)+" is filed otherwise than it says").
			WithHint("the catalog was changed behind the vault's back; restore it from a backup")
	}
	hash := audit.LeafHash(l.Data)
	rec := wire.Record{
		Index: l.Index, Hash: hash[:], Time: time.UnixMicro(leaf.Time).UTC(), Kind: leaf.Kind.String(),
		Decision: leaf.Decision.String(), Reason: leaf.Reason, Slot: leaf.Slot, Leaf: l.Data, Detail: leaf.Texts(),
	}
	if leaf.Actor != [16]byte{} {
		rec.Actor = "~" + hex.EncodeToString(leaf.Actor[:])
	}
	if !l.Principal.IsZero() && l.Details != nil {
		salt, personal, err := r.v.keys.OpenDetails(r.ctx, l.Principal, l.Details)
		switch {
		case errors.Is(err, ledger.ErrForgotten): // the pseudonym stays
		case err != nil:
			return rec, err
		default:
			rec.Salt, rec.Personal = salt[:], personal
			if name := r.names(l.Principal); name != "" {
				rec.Actor = name
			}
		}
	}
	rec.Object, err = r.object(leaf)
	return rec, err
}

// object names what the leaf is about, by the scope that its slot stands for.
func (r *reader) object(leaf audit.Leaf) (string, error) {
	scope, known := r.scopes[leaf.Slot]
	if !known {
		row, err := r.tx.ScopeBySlot(r.ctx, leaf.Slot)
		if err != nil && !errors.Is(err, storage.ErrNoRow) {
			return "", err
		}
		scope = row.Scope
		r.scopes[leaf.Slot] = scope
	}
	switch leaf.Object.Kind {
	case audit.ObjectShard:
		return dataset.ShardRef{Dataset: scope, Number: int(leaf.Object.Number)}.String(), nil
	case audit.ObjectPerson:
		return r.names(leaf.Object.ID), nil
	case audit.ObjectAgreement:
		return "agreement version " + strconv.FormatUint(uint64(leaf.Object.Number), 10), nil
	case audit.ObjectDevice:
		return dataset.DeviceID(leaf.Object.ID).String(), nil
	case audit.ObjectUnknown:
		return "", nil
	default:
		return scope.String(), nil
	}
}

// LogHead gives the notary's checkpoint, which covers the log as it is now, and
// the slots below a scope, which the caller may see whole.
func (v *Vault) LogHead(ctx context.Context, c identity.Caller, under dataset.Scope) (wire.LogHead, error) {
	var out wire.LogHead
	t, err := v.target(ctx, under)
	if err != nil {
		return out, err
	}
	in := v.intent(c, audit.KindLogRead, t, rbac.Read, rbac.Log)
	if !t.known {
		return out, v.absent(ctx, t, in)
	}
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return out, err
	}
	out.All = t.scope == dataset.Root
	cp, err := v.signedHead(ctx)
	if err != nil {
		return out, err
	}
	out.Checkpoint = cp.Note
	err = v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		out.Slots, err = chainEnds(ctx, tx, t.scope, cp.Size)
		return err
	})
	return out, err
}

// chainEnds says how many of the first size records each slot below a scope
// has, so that the reader notices if the last ones are missing.
func chainEnds(ctx context.Context, tx *catalog.Tx, under dataset.Scope, size uint64) ([]wire.Slot, error) {
	head, err := tx.Head(ctx)
	if err != nil {
		return nil, err
	}
	later := map[uint64]uint64{} // records of each slot behind the first size
	err = tx.LeafData(ctx, size, head.Size, func(_, slot uint64, _ []byte) error {
		later[slot]++
		return nil
	})
	if err != nil {
		return nil, err
	}
	var out []wire.Slot
	for after := ""; ; {
		rows, err := tx.ScopesUnder(ctx, under, after, wire.MaxPage)
		if err != nil {
			return nil, err
		}
		slots := make([]uint64, 0, len(rows))
		for _, row := range rows {
			slots = append(slots, row.Slot)
			after = row.Scope.String()
		}
		chains, err := tx.Chains(ctx, slots)
		if err != nil {
			return nil, err
		}
		for _, slot := range slots {
			if n := chains[slot].Seq - later[slot]; n > 0 || later[slot] == 0 {
				out = append(out, wire.Slot{Slot: slot, Records: n})
			}
		}
		if len(rows) < wire.MaxPage {
			return out, nil
		}
	}
}

// maxHashes is the most leaf hashes of one answer.
const maxHashes = 1 << 20

// LogHashes writes the hashes of leaves from (included) to (not included), 32
// bytes each, to whoever may read the log below some scope. A leaf hash tells
// nothing about a leaf that one does not know.
func (v *Vault) LogHashes(ctx context.Context, c identity.Caller, under dataset.Scope, from, to uint64, w io.Writer) error {
	t, err := v.target(ctx, under)
	if err != nil {
		return err
	}
	in := v.intent(c, audit.KindLogRead, t, rbac.Read, rbac.Log)
	if !t.known {
		return v.absent(ctx, t, in)
	}
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return err
	}
	if to < from || to-from > maxHashes {
		return fault.New(fault.Invalid, "vault.LogHashes", "ask for at most 1,048,576 hashes at a time")
	}
	return v.db.View(ctx, func(tx *catalog.Tx) error {
		return tx.LeafData(ctx, from, to, func(_, _ uint64, data []byte) error {
			hash := audit.LeafHash(data)
			_, err := w.Write(hash[:])
			return err
		})
	})
}
