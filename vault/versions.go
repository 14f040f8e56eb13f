package vault

import (
	"context"
	"fmt"

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

// BeginPush begins a push, and ends whichever was under way: from now on only
// uploads that name this one become shards. So two that run at once cannot mix
// what they send; the one that began last goes on.
func (v *Vault) BeginPush(ctx context.Context, c identity.Caller, scope dataset.Scope) (wire.Push, error) {
	d, err := v.uploadTo(ctx, c, scope)
	if err != nil {
		return wire.Push{}, err
	}
	out := wire.Push{Version: d.Version}
	err = v.update(ctx, func(tx *catalog.Tx) error {
		if out.Push, err = tx.BeginPush(ctx, d.ID); err != nil {
			return missingRow("dataset", err)
		}
		now, err := tx.DatasetByID(ctx, d.ID)
		out.Version = now.Version
		return err
	})
	return out, err
}

func superseded(op string, scope dataset.Scope) error {
	return fault.New(fault.Conflict, op, "another push to "+scope.String()+" has begun since").
		WithHint("wait until it has ended; to go on with this one, run it again")
}

// Complete makes the next version of a dataset, once all its shards are there.
func (v *Vault) Complete(ctx context.Context, c identity.Caller, scope dataset.Scope, req wire.Complete) (wire.Dataset, error) {
	const op = "vault.Complete"
	d, err := v.uploadTo(ctx, c, scope)
	if err != nil {
		return wire.Dataset{}, err
	}
	switch {
	case len(req.Shards) == 0:
		return wire.Dataset{}, fault.New(fault.Invalid, op, "a version has at least one shard")
	case req.Push != d.Push: // even of the same list: its shards may have been replaced
		return wire.Dataset{}, superseded(op, scope)
	case d.Version >= dataset.MaxVersions:
		return wire.Dataset{}, fault.New(fault.Conflict, op, fmt.Sprintf("a dataset has at most %d versions", dataset.MaxVersions)).
			WithHint("go on under a new dataset name")
	}
	if same, err := v.isNewest(ctx, d, req.Shards); err != nil || same {
		if err != nil {
			return wire.Dataset{}, err
		}
		return v.wireDataset(ctx, d, true)
	}
	t, err := v.target(ctx, scope)
	if err != nil {
		return wire.Dataset{}, err
	}
	next := storage.Version{Dataset: d.ID, Version: d.Version + 1, Shards: req.Shards, CompletedBy: c.Principal}
	var dropped []storage.Attempt
	in := v.intent(c, audit.KindDatasetComplete, t, rbac.Upload, rbac.Dataset)
	in.Fields = []audit.Field{
		audit.Uint64Field(audit.FieldCount, uint64(req.Shards.Len())),
		audit.Uint64Field(audit.FieldVersion, uint64(next.Version)),
	}
	in.PolicyChange, in.Gives = true, true
	in.Apply = func(ctx context.Context, tx *ledger.Tx, in *ledger.Intent) error {
		now, err := tx.DatasetByID(ctx, d.ID)
		if err != nil {
			return missingRow("dataset", err)
		}
		if now.Version != d.Version || now.Push != req.Push {
			return superseded(op, scope)
		}
		if dropped, err = v.dropSpare(ctx, tx, c, in, next); err != nil {
			return err
		}
		var count int
		count, _, next.PlainSize, next.SealedSize, err = tx.ShardSum(ctx, d.ID, next.Shards.Set())
		if err != nil {
			return err
		}
		if want := next.Shards.Len(); count != want {
			return fault.New(fault.Conflict, op, fmt.Sprintf("%d of %d shards have arrived", count, want)).
				WithHint("push again; it sends only what is missing")
		}
		next.CompletedAt = tx.Now
		return tx.AddVersion(ctx, next, tx.Revision)
	}
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return wire.Dataset{}, err
	}
	for _, a := range dropped {
		v.clear(ctx, a)
	}
	d.Complete, d.Version, d.Shards = true, next.Version, req.Shards.Len()
	return v.wireDataset(ctx, d, true)
}

// isNewest reports whether the dataset's newest version has exactly this list.
func (v *Vault) isNewest(ctx context.Context, d storage.Dataset, list dataset.ShardList) (bool, error) {
	if !d.Complete || d.Shards != list.Len() {
		return false, nil
	}
	newest, err := v.version(ctx, d, d.Version)
	return newest.Shards.Equal(list), err
}

func (v *Vault) version(ctx context.Context, d storage.Dataset, n int) (storage.Version, error) {
	var row storage.Version
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		row, err = tx.Version(ctx, d.ID, n)
		return err
	})
	return row, missingRow("version", err)
}

// dropSpare drops the shards that neither next nor an earlier version has: an
// earlier plan had them. Only the dataset's owner drops what others have
// uploaded.
func (v *Vault) dropSpare(ctx context.Context, tx *ledger.Tx, c identity.Caller, in *ledger.Intent, next storage.Version) ([]storage.Attempt, error) {
	shards, err := tx.DropSpareShards(ctx, next.Dataset, next.Shards.Set())
	if err != nil || len(shards) == 0 {
		return nil, err
	}
	d, err := v.ledger.Decide(ctx, in.Query)
	if err != nil {
		return nil, err
	}
	owner := d.Facts.Has(rbac.Owner)
	var set dataset.ShardSet
	var dropped []storage.Attempt
	for _, s := range shards {
		if !owner && s.CommittedBy != c.Principal {
			return nil, fault.New(fault.Conflict, "vault.Complete", "the dataset has more shards than that, and others have uploaded them").
				WithHint("push what it is made of, or ask the client to complete it")
		}
		set = set.Union(dataset.ShardSet{{First: s.Number, Last: s.Number}})
		a := v.leftover(s)
		if err := tx.AddAttempt(ctx, a); err != nil {
			return nil, err
		}
		dropped = append(dropped, a)
	}
	in.Fields = append(in.Fields, shardSetField(set))
	return dropped, nil
}

// maxVersions is the most versions of a page: each comes with its list.
const maxVersions = 100

// Versions lists a dataset's versions after one (0: from the first) with their
// shards, to those who may read its record. Annotators see their own shards.
func (v *Vault) Versions(ctx context.Context, c identity.Caller, scope dataset.Scope, after, limit int) (wire.Page[wire.Version], error) {
	page := wire.Page[wire.Version]{Items: []wire.Version{}}
	d, _, all, err := v.listable(ctx, c, scope)
	if err != nil {
		return page, err
	}
	limit = clip(limit, maxVersions)
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		rows, err := tx.Versions(ctx, d.ID, after, limit)
		if err != nil {
			return err
		}
		if page.Items, err = v.wireVersions(ctx, tx, c, scope, all, rows...); len(rows) == limit {
			page.Next = fmt.Sprint(rows[len(rows)-1].Version)
		}
		return err
	})
	return page, err
}

// Version gives one version of a dataset, 0 being the newest, as Versions does.
func (v *Vault) Version(ctx context.Context, c identity.Caller, scope dataset.Scope, n int) (wire.Version, error) {
	d, _, all, err := v.listable(ctx, c, scope)
	if err != nil {
		return wire.Version{}, err
	}
	if d.State == dataset.Erased {
		return wire.Version{}, fault.New(fault.Gone, "vault.Version", "the data was erased").
			WithHint("its keys are destroyed, and nobody can read it any more: `dsvault erasure list " + scope.String() + "`")
	}
	if n == 0 {
		n = d.Version
	}
	if n == 0 || n > d.Version {
		return wire.Version{}, fault.New(fault.NotFound, "vault.Version", "the dataset has no such version").
			WithHint("`dsvault ls " + scope.String() + "` shows which it has")
	}
	var out []wire.Version
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		row, err := tx.Version(ctx, d.ID, n)
		if err != nil {
			return missingRow("version", err)
		}
		out, err = v.wireVersions(ctx, tx, c, scope, all, row)
		return err
	})
	if err != nil {
		return wire.Version{}, err
	}
	return out[0], nil
}

func (v *Vault) wireVersions(ctx context.Context, tx *catalog.Tx, c identity.Caller, scope dataset.Scope, all bool, rows ...storage.Version) ([]wire.Version, error) {
	var mine dataset.ShardSet
	if !all {
		var err error
		if mine, err = v.shardsOf(ctx, tx, c.Principal, scope); err != nil {
			return nil, err
		}
	}
	name := v.names(ctx, tx)
	out := make([]wire.Version, 0, len(rows))
	for _, row := range rows {
		w := wire.Version{Version: row.Version, Count: row.Shards.Len(), Shards: row.Shards,
			Size: row.PlainSize, Sealed: row.SealedSize, Completed: row.CompletedAt}
		if all {
			w.By = name(row.CompletedBy)
		} else {
			w.Shards = row.Shards.Only(mine)
		}
		out = append(out, w)
	}
	return out, nil
}

// listable finds a dataset whose shards the caller may list: all of them, or
// an annotator's own.
func (v *Vault) listable(ctx context.Context, c identity.Caller, scope dataset.Scope) (d storage.Dataset, uploader, all bool, err error) {
	t, err := v.target(ctx, scope)
	if err != nil {
		return d, false, false, err
	}
	if uploader, err = v.allowed(ctx, v.intent(c, audit.KindUpload, t, rbac.Upload, rbac.Dataset).Query); err != nil {
		return d, false, false, err
	}
	if uploader = uploader && t.known; uploader {
		d, err = v.uploadable(ctx, c, scope)
	} else {
		d, err = v.readable(ctx, c, scope)
	}
	if err != nil || uploader {
		return d, uploader, uploader, err
	}
	all, err = v.mayListShards(ctx, c, t)
	return d, false, all, err
}
