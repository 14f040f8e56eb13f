package vault

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
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

// Transfers counts the reads below a scope over some time by dataset, month,
// regions and transfer basis, for those who may read the log there; that is
// recorded as looking is.
func (v *Vault) Transfers(ctx context.Context, c identity.Caller, under dataset.Scope, from, until time.Time) (wire.Transfers, error) {
	out := wire.Transfers{From: from.UTC(), Until: until.UTC(), Items: []wire.TransferRow{}}
	if from.IsZero() || !until.After(from) || until.Sub(from) > maxReportSpan {
		return out, fault.New(fault.Invalid, "vault.Transfers", "the time of a report has a beginning and an end, at most 400 days apart")
	}
	t, err := v.target(ctx, under)
	if err != nil {
		return out, err
	}
	in := v.intent(c, audit.KindLogRead, t, rbac.Read, rbac.Log)
	if !t.known {
		return out, v.absent(ctx, t, in)
	}
	in.Fields = []audit.Field{audit.StringField(audit.FieldAction, "transfers")}
	receipt, err := v.ledger.Record(ctx, in)
	if err != nil {
		return out, err
	}
	out.Scope = t.scope
	r := transferCount{rows: map[transferKey]*wire.TransferRow{}, open: map[uint64]transferKey{}}
	end := receipt.Index
	err = v.scanTime(ctx, t.scope, from, until, end, r.add)
	if err != nil {
		return out, err
	}
	out.LeftOff = r.left
	return out, v.db.View(ctx, func(tx *catalog.Tx) error {
		for key, row := range r.rows {
			scope, err := tx.ScopeBySlot(ctx, key.slot)
			if err != nil && !errors.Is(err, storage.ErrNoRow) {
				return err
			}
			row.Dataset = scope.Scope.String()
			out.Items = append(out.Items, *row)
		}
		slices.SortFunc(out.Items, func(a, b wire.TransferRow) int {
			return cmp.Or(strings.Compare(a.Period, b.Period), strings.Compare(a.Dataset, b.Dataset), strings.Compare(a.Region, b.Region),
				strings.Compare(a.Reader, b.Reader), strings.Compare(string(a.Basis), string(b.Basis)))
		})
		return nil
	})
}

// scanTime goes through the records below a scope, of some time and before end,
// some in one snapshot.
func (v *Vault) scanTime(ctx context.Context, under dataset.Scope, since, until time.Time, end uint64, add func(storage.Leaf) error) error {
	var from, to uint64
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		if from, err = tx.LeafSince(ctx, since.UnixMicro()); err != nil {
			return err
		}
		to, err = tx.LeafSince(ctx, until.UnixMicro())
		return err
	})
	to = min(to, end)
	for err == nil && from < to {
		next := min(from+maxScan, to)
		err = v.db.View(ctx, func(tx *catalog.Tx) error {
			return tx.Leaves(ctx, storage.LeafQuery{From: from, To: next, Under: under}, add)
		})
		from = next
	}
	return err
}

// transferCount keeps a row for each key, not for each record.
type transferCount struct {
	rows map[transferKey]*wire.TransferRow
	open map[uint64]transferKey // reads without their end
	left int
}

type transferKey struct {
	slot                   uint64
	period, region, reader string
	basis                  uint64
}

func (r *transferCount) add(l storage.Leaf) error {
	leaf, err := audit.ParseLeaf(l.Data)
	if err != nil {
		return damagedRecord(l.Index, err)
	}
	switch {
	case leaf.Kind == audit.KindRead && leaf.Decision == audit.Allowed:
		r.read(l.Index, leaf)
	case leaf.Kind == audit.KindReadEnd:
		r.readEnd(leaf)
	}
	return nil
}

func (r *transferCount) read(index uint64, leaf audit.Leaf) {
	key := transferKey{slot: leaf.Slot, period: time.UnixMicro(leaf.Time).UTC().Format("2006-01")}
	key.region, _ = leaf.Text(audit.FieldRegion)
	key.reader, _ = leaf.Text(audit.FieldReaderRegion)
	key.basis, _ = leaf.Uint64(audit.FieldBasis)
	if dataset.BasisOf(key.basis) == dataset.BasisNone {
		key.reader = key.region // or whatever it is, where the project asks for none
	}
	row := r.rows[key]
	if row == nil {
		if len(r.rows) == wire.MaxReport {
			r.left++
			return
		}
		row = &wire.TransferRow{Period: key.period, Region: key.region, Reader: key.reader, Basis: dataset.BasisOf(key.basis)}
		r.rows[key] = row
	}
	row.Reads++
	r.open[index] = key
}

func (r *transferCount) readEnd(leaf audit.Leaf) {
	index, _ := leaf.Uint64(audit.FieldRefIndex)
	key, known := r.open[index]
	if !known {
		return // it began before
	}
	delete(r.open, index)
	sent, _ := leaf.Uint64(audit.FieldBytesSent)
	if cause, _ := leaf.Text(audit.FieldCause); cause == string(ledger.Crashed) || cause == string(ledger.Unmetered) {
		r.rows[key].AtMost += sent
		return
	}
	r.rows[key].Bytes += sent
}
