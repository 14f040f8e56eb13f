package vault

import (
	"context"
	"encoding/hex"
	"errors"
	"strconv"
	"time"

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

	now   time.Time
	hides func(dataset.Scope) (bool, error) // whether what is withheld there is hidden from the reader
}

func (v *Vault) newReader(ctx context.Context, c identity.Caller, tx *catalog.Tx) *reader {
	return &reader{v: v, ctx: ctx, tx: tx, names: v.names(ctx, tx), scopes: map[uint64]dataset.Scope{}, now: v.now(),
		hides: func(scope dataset.Scope) (bool, error) { return v.withholds(ctx, c, scope) }}
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
	hidden := false
	if withheld(&leaf, r.now) {
		scope, err := r.scopeOf(leaf.Slot)
		if err != nil {
			return rec, err
		}
		if hidden, err = r.hides(scope); err != nil {
			return rec, err
		}
	}
	if !l.Principal.IsZero() && l.Details != nil && !hidden {
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

func (r *reader) scopeOf(slot uint64) (dataset.Scope, error) {
	scope, known := r.scopes[slot]
	if !known {
		row, err := r.tx.ScopeBySlot(r.ctx, slot)
		if err != nil && !errors.Is(err, storage.ErrNoRow) {
			return scope, err
		}
		scope = row.Scope
		r.scopes[slot] = scope
	}
	return scope, nil
}

// object names what the leaf is about, by the scope that its slot stands for.
func (r *reader) object(leaf audit.Leaf) (string, error) {
	scope, err := r.scopeOf(leaf.Slot)
	if err != nil {
		return "", err
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
