package vault

import (
	"context"
	"errors"
	"fmt"
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

// Erase destroys the keys of all datasets at a scope and below, in one
// transaction with its record: from then on nobody can read them. What is left
// of them is removed by itself, by whichever node is elected; the erasure says
// how far that is. Reads that run are cut.
func (v *Vault) Erase(ctx context.Context, c identity.Caller, req wire.NewErasure) (wire.Erasure, error) {
	const op = "vault.Erase"
	t, err := v.target(ctx, req.Scope)
	if err != nil {
		return wire.Erasure{}, err
	}
	in, err := v.eraseIntent(ctx, c, t)
	if err != nil {
		return wire.Erasure{}, err
	}
	if !t.known {
		return wire.Erasure{}, v.absent(ctx, t, in)
	}
	if err := checkText("reason", req.Reason, wire.MaxReason); err != nil {
		return wire.Erasure{}, err
	}
	if t.scope == dataset.Root {
		return wire.Erasure{}, fault.New(fault.Invalid, op, "the whole vault is not erased at once").WithHint("name a client, a project or a dataset")
	}
	if err := v.mayAsk(ctx, in); err != nil {
		return wire.Erasure{}, err
	}
	living := 0
	err = v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		living, err = tx.CountDatasets(ctx, t.scope, false)
		return err
	})
	if err != nil {
		return wire.Erasure{}, err
	}
	if living == 0 { // nobody has to approve that
		return wire.Erasure{}, nothingToErase(t.scope)
	}
	e := storage.Erasure{ID: dataset.NewID[dataset.ErasureID](v.random), Slot: t.row.Slot, Scope: t.scope,
		Cause: storage.EraseRequested, Reason: req.Reason, StartedBy: c.Principal}
	v.prepareErasure(&in, &e, nil)
	second, err := v.twoPeople(ctx, c, &in, map[string]string{"reason": req.Reason})
	if err != nil || second.Pending != nil {
		return wire.Erasure{Scope: t.scope, State: "asked", Pending: second.Pending}, err
	}
	e.Second = second.By
	if err := v.startErasure(ctx, in); err != nil {
		return wire.Erasure{}, err
	}
	return v.erasure(ctx, e.ID)
}

// eraseAsAsked erases what was asked for and approved.
func (v *Vault) eraseAsAsked(ctx context.Context, asker identity.Caller, scope dataset.Scope, terms map[string]string) error {
	_, err := v.Erase(ctx, asker, wire.NewErasure{Scope: scope, Reason: terms["reason"]})
	return err
}

// eraseIntent asks for the key's destruction where the caller is an admin, and
// for the dataset's deletion where they are not.
func (v *Vault) eraseIntent(ctx context.Context, c identity.Caller, t target) (ledger.Intent, error) {
	in := v.intent(c, audit.KindErase, t, rbac.Destroy, rbac.Key)
	d, err := v.decide(ctx, in.Query)
	if !d.Roles.Has(dataset.Admin) {
		in.Query.Action, in.Query.Object.Kind = rbac.Delete, rbac.Dataset
	}
	return in, err
}

// prepareErasure has in start e in its transaction. allow may refuse there.
func (v *Vault) prepareErasure(in *ledger.Intent, e *storage.Erasure, allow func(context.Context, *ledger.Tx) error) {
	const op = "vault.prepareErasure"
	// Bytes that a node was storing when the keys went may still arrive.
	settle := storage.PresignedLife
	if v.alone && !v.anyDirect() {
		settle = 0 // this node waits for its own requests
	}
	if e.Reason != "" || e.Basis != "" {
		note := map[string]string{}
		for name, text := range map[string]string{"reason": e.Reason, "basis": e.Basis} {
			if text != "" {
				note[name] = text
			}
		}
		in.Note = note
	}
	in.PolicyChange = true
	in.Apply = func(ctx context.Context, tx *ledger.Tx, in *ledger.Intent) error {
		if err := unheld(ctx, tx.Tx, op, e.Scope); err != nil {
			return err
		}
		if allow != nil {
			if err := allow(ctx, tx); err != nil {
				return err
			}
		}
		e.StartedAt, e.Start = tx.Now, tx.Index
		_, list, err := tx.StartErasure(ctx, *e, settle, tx.Revision)
		if err == nil && len(list) == 0 {
			err = nothingToErase(e.Scope)
		}
		in.Fields = append(in.Fields, audit.BytesField(audit.FieldErasureID, e.ID[:]), audit.Uint64Field(audit.FieldDatasets, uint64(len(list))))
		return err
	}
}

// anyDirect reports whether bytes may go to one of the stores without us.
func (v *Vault) anyDirect() bool {
	for _, region := range append([]string{""}, storage.RegionsOf(v.objects)...) {
		if _, ok := storage.DirectAt(v.objects, storage.RegionKey(region, "v1/")); ok {
			return true
		}
	}
	return false
}

func nothingToErase(scope dataset.Scope) error {
	return fault.New(fault.Conflict, "vault.Erase", "there is nothing to erase at "+scope.String()).
		WithHint("`dsvault erasure list " + scope.String() + "` shows what was erased before")
}

// startErasure records an erasure that was prepared. The world has followed it:
// keys in memory are forgotten, and what ran on the data is cut.
func (v *Vault) startErasure(ctx context.Context, in ledger.Intent) error {
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return err
	}
	v.chores.wakeUp()
	return nil
}

// advanceErasures goes on with every erasure that has not ended.
func (v *Vault) advanceErasures(ctx context.Context) error {
	var list []storage.Erasure
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		list, err = tx.RunningErasures(ctx)
		return err
	})
	if err != nil || len(list) == 0 {
		return err
	}
	if err := v.buryErased(ctx, list); err != nil {
		return v.stuck(ctx, err, list...)
	}
	if err := v.rotateEpoch(ctx, list); err != nil {
		return v.stuck(ctx, err, list...)
	}
	var failed []error
	for _, e := range list {
		if err := v.advanceErasure(ctx, e.ID); err != nil {
			failed = append(failed, v.stuck(ctx, err, e))
		}
	}
	return errors.Join(failed...)
}

// stuck notes in the erasures why they do not go on.
func (v *Vault) stuck(ctx context.Context, why error, list ...storage.Erasure) error {
	err := v.db.Update(ctx, func(tx *catalog.Tx) error {
		for _, e := range list {
			if err := tx.SetErasureProblem(ctx, e.ID, problemOf(why)); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(why, err)
}

// eachErased calls f for the datasets of an erasure, by path.
func (v *Vault) eachErased(ctx context.Context, id dataset.ErasureID, f func(storage.ErasedDataset) error) error {
	for after := ""; ; {
		var page []storage.ErasedDataset
		err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
			page, err = tx.ErasedDatasets(ctx, id, after, catalog.MaxPage)
			return err
		})
		if err != nil {
			return err
		}
		for _, d := range page {
			if err := f(d); err != nil {
				return err
			}
			after = d.Scope.String()
		}
		if len(page) < catalog.MaxPage {
			return nil
		}
	}
}

// buryErased notes beside the keys what is erased, so that it stays so whatever
// becomes of the catalog.
func (v *Vault) buryErased(ctx context.Context, list []storage.Erasure) error {
	var ids []dataset.DatasetID
	for _, e := range list {
		err := v.eachErased(ctx, e.ID, func(d storage.ErasedDataset) error {
			if !v.keys.IsBuried(d.Dataset) {
				ids = append(ids, d.Dataset)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return v.keys.Bury(ids...)
}

// advanceErasure removes what is left, and ends the erasure once nothing is.
func (v *Vault) advanceErasure(ctx context.Context, id dataset.ErasureID) error {
	var e storage.Erasure
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		e, err = tx.Erasure(ctx, id)
		return err
	})
	if err != nil || e.Finished || v.now().Before(e.SettledAt) {
		return err
	}
	waits := false
	err = v.eachErased(ctx, id, func(d storage.ErasedDataset) error {
		switch {
		case d.Stage == storage.EraseGone:
			return nil
		case v.writesTo(d.Dataset): // its request was cut, and ends in a moment
			waits = true
			return nil
		}
		return v.eraseDataset(ctx, d)
	})
	if err != nil || waits {
		return err
	}
	return v.endErasure(ctx, e)
}

const (
	eraseRows  = 1000 // that one transaction removes
	eraseTries = 3    // of removing what turns up again, in one round
)

// eraseDataset removes all that storage has of a dataset, and looks again
// whether nothing is left. It can be broken off anywhere: the rows of uploads
// and what was counted stay until the objects are gone.
func (v *Vault) eraseDataset(ctx context.Context, d storage.ErasedDataset) error {
	save := func() error {
		return v.db.Update(ctx, func(tx *catalog.Tx) error { return tx.SaveErased(ctx, d) })
	}
	for n := int64(eraseRows); n == eraseRows; {
		err := v.db.Update(ctx, func(tx *catalog.Tx) (err error) {
			n, err = tx.DropErasedShards(ctx, d.Dataset, eraseRows)
			return err
		})
		if err != nil {
			return err
		}
	}
	var row storage.Dataset
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		row, err = tx.DatasetByID(ctx, d.Dataset)
		return missingRow("dataset", err)
	})
	if err != nil {
		return err
	}
	prefix := storage.RegionKey(row.Store, "v1/"+d.Dataset.String()+"/")
	left, err := storage.Remains(ctx, v.objects, prefix)
	if err != nil {
		return err
	}
	if d.Stage == storage.ErasePending {
		uploads, err := v.unfinished(ctx, d.Dataset)
		if err != nil {
			return err
		}
		d.Stage, d.Stored = storage.EraseCounted, left
		d.Stored.Uploads = max(left.Uploads, uploads) // not every server lists them
		if err := save(); err != nil {
			return err
		}
	}
	for try := 1; ; try++ {
		if err := storage.Purge(ctx, v.objects, prefix); err != nil {
			return err
		}
		if err := v.eraseAttempts(ctx, d.Dataset); err != nil {
			return err
		}
		if left, err = storage.Remains(ctx, v.objects, prefix); err != nil {
			return err
		}
		if left.Empty() {
			break
		}
		if try == eraseTries {
			return fault.New(fault.Unavailable, "vault.eraseDataset",
				fmt.Sprintf("storage still lists %d object versions, %d delete markers and %d uploads", left.Versions, left.Markers, left.Uploads))
		}
	}
	d.Stage = storage.EraseGone
	return save()
}

// unfinished counts the uploads in parts that the rows of a dataset name.
func (v *Vault) unfinished(ctx context.Context, id dataset.DatasetID) (n int64, err error) {
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		list, err := tx.DatasetAttempts(ctx, id, 0)
		for _, a := range list {
			if a.Upload != "" {
				n++
			}
		}
		return err
	})
	return n, err
}

// eraseAttempts ends the uploads that were on their way, by the whole keys of
// their objects: some servers do not list them otherwise.
func (v *Vault) eraseAttempts(ctx context.Context, id dataset.DatasetID) error {
	for {
		var list []storage.Attempt
		err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
			list, err = tx.DatasetAttempts(ctx, id, 200)
			return err
		})
		if err != nil || len(list) == 0 {
			return err
		}
		for _, a := range list {
			if err := v.delete(ctx, a); err != nil {
				return err
			}
		}
	}
}

// endErasure records that nothing is left.
func (v *Vault) endErasure(ctx context.Context, e storage.Erasure) error {
	t, err := v.target(ctx, e.Scope)
	if err != nil {
		return err
	}
	in := ledger.Intent{Kind: audit.KindEraseEnd, Own: true, Place: t.place(), Object: t.object()}
	in.Apply = func(ctx context.Context, tx *ledger.Tx, in *ledger.Intent) error {
		count, _, s, err := tx.EraseSum(ctx, e.ID)
		if err != nil {
			return err
		}
		in.Fields = []audit.Field{
			audit.BytesField(audit.FieldErasureID, e.ID[:]), audit.Uint64Field(audit.FieldDatasets, uint64(count)),
			audit.Uint64Field(audit.FieldCount, uint64(s.Objects)), audit.Uint64Field(audit.FieldVersions, uint64(s.Versions)),
			audit.Uint64Field(audit.FieldMarkers, uint64(s.Markers)), audit.Uint64Field(audit.FieldUploads, uint64(s.Uploads)),
			audit.Uint64Field(audit.FieldErasedBytes, uint64(s.Bytes)),
			audit.Uint64Field(audit.FieldEpoch, uint64(e.Epoch)), audit.Uint64Field(audit.FieldFinal, uint64(e.FinalAt.UnixMicro())),
		}
		err = tx.EndErasure(ctx, e.ID, tx.Now, tx.Index)
		if errors.Is(err, storage.ErrNoRow) {
			err = fault.Wrap(fault.Conflict, "vault.endErasure", "something of the erased data is left", err)
		}
		if err != nil {
			return err
		}
		return v.notify(ctx, tx, wire.NoticeErasure, e.Scope, wire.NoticeData{})
	}
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return err
	}
	v.log.InfoContext(ctx, "erased", "erasure", e.ID, "final", e.FinalAt.UTC().Format(time.RFC3339))
	return nil
}

// erasure describes one erasure.
func (v *Vault) erasure(ctx context.Context, id dataset.ErasureID) (out wire.Erasure, err error) {
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		e, err := tx.Erasure(ctx, id)
		if err == nil {
			out, err = v.wireErasure(ctx, tx, e, v.names(ctx, tx))
		}
		return err
	})
	return out, err
}

func (v *Vault) wireErasure(ctx context.Context, tx *catalog.Tx, e storage.Erasure, name func(dataset.PrincipalID) string) (wire.Erasure, error) {
	count, gone, s, err := tx.EraseSum(ctx, e.ID)
	out := wire.Erasure{
		ID: e.ID, Scope: e.Scope, Cause: string(e.Cause), Basis: e.Basis, Reason: e.Reason, State: "running", Problem: e.Problem,
		By: name(e.StartedBy), Second: name(e.Second), Started: e.StartedAt.UTC(), Ended: timePtr(e.EndedAt), Final: timePtr(e.FinalAt),
		Datasets: count, Gone: gone, Objects: s.Objects, Versions: s.Versions, Markers: s.Markers, Uploads: s.Uploads, Bytes: s.Bytes,
	}
	if e.Finished {
		out.State = "complete"
	}
	return out, err
}

// Erasures lists the erasures at a scope and below it, and those above that took
// it along, the newest first, to those who may read its record.
func (v *Vault) Erasures(ctx context.Context, c identity.Caller, scope dataset.Scope, before dataset.ErasureID, limit int) (wire.Page[wire.Erasure], error) {
	page := wire.Page[wire.Erasure]{Items: []wire.Erasure{}}
	t, err := v.target(ctx, scope)
	if err != nil {
		return page, err
	}
	in := v.intent(c, audit.KindList, t, rbac.Read, recordKind(t.scope))
	if !t.known {
		return page, v.absent(ctx, t, in)
	}
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return page, err
	}
	limit = clip(limit, wire.MaxPage)
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		rows, err := tx.Erasures(ctx, t.scope, before, limit)
		if err != nil {
			return err
		}
		name := v.names(ctx, tx)
		for _, e := range rows {
			if seen, err := v.visible(ctx, c, e.Scope); err != nil {
				return err
			} else if !seen {
				continue
			}
			w, err := v.wireErasure(ctx, tx, e, name)
			if err != nil {
				return err
			}
			page.Items = append(page.Items, w)
		}
		if len(rows) == limit {
			page.Next = rows[limit-1].ID.String()
		}
		return nil
	})
	return page, err
}

// Erasure tells how far an erasure is.
func (v *Vault) Erasure(ctx context.Context, c identity.Caller, id dataset.ErasureID) (wire.Erasure, error) {
	if _, err := v.findErasure(ctx, c, id); err != nil {
		return wire.Erasure{}, err
	}
	return v.erasure(ctx, id)
}

// findErasure finds an erasure whose scope's record the caller may read.
func (v *Vault) findErasure(ctx context.Context, c identity.Caller, id dataset.ErasureID) (storage.Erasure, error) {
	e := storage.Erasure{Scope: dataset.Root}
	err := v.db.View(ctx, func(tx *catalog.Tx) error {
		found, err := tx.Erasure(ctx, id)
		if err == nil {
			e = found
		}
		return none(err)
	})
	if err != nil {
		return e, err
	}
	t, err := v.target(ctx, e.Scope)
	if err != nil {
		return e, err
	}
	in := v.intent(c, audit.KindList, t, rbac.Read, recordKind(t.scope))
	if e.ID != id {
		return e, noCheck(v.absent(ctx, t, in))
	}
	_, err = v.ledger.Check(ctx, in)
	return e, err
}
