package vault

import (
	"context"
	"errors"
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

const (
	defaultLease = 4 * time.Hour
	claimTries   = 4  // as others may be faster
	claimAhead   = 64 // free shards that are looked up at once
)

// errTaken: all shards that seemed to be free were taken meanwhile.
var errTaken = errors.New("taken meanwhile")

func leaseOf(seconds int) (time.Duration, error) {
	switch {
	case seconds == 0:
		return defaultLease, nil
	case seconds < wire.MinLease || seconds > wire.MaxLease:
		return 0, fault.New(fault.Invalid, "vault.Claim", "a claim lasts from a minute to seven days").WithHint("give --for, for example --for 4h")
	}
	return time.Duration(seconds) * time.Second, nil
}

// Claim gives the caller a shard of the dataset's newest version that nobody
// works on, under a lease: an assignment that ends by itself. Two callers never
// get the same one.
func (v *Vault) Claim(ctx context.Context, c identity.Caller, scope dataset.Scope, req wire.NewClaim) (wire.Claim, error) {
	const op = "vault.Claim"
	t, err := v.target(ctx, scope)
	if err != nil {
		return wire.Claim{}, err
	}
	in := v.intent(c, audit.KindClaim, t, rbac.Claim, rbac.Annotation)
	if !t.known || scope.Depth() != 3 {
		return wire.Claim{}, v.absent(ctx, t, in)
	}
	if req.Shard != nil {
		in.Query.Object.Shard = *req.Shard
	}
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return wire.Claim{}, err
	}
	lease, err := leaseOf(req.Seconds)
	if err != nil {
		return wire.Claim{}, err
	}
	for range claimTries {
		free, err := v.freeShards(ctx, scope, req.Shard)
		if err != nil {
			return wire.Claim{}, err
		}
		if len(free) == 0 {
			return wire.Claim{}, fault.New(fault.Conflict, op, "no shard is free").
				WithHint("`dsvault work " + scope.Parent().String() + "` shows who has what; ask again later")
		}
		out, err := v.takeShard(ctx, c, t, in, free, lease)
		if !errors.Is(err, errTaken) {
			return out, err
		}
	}
	return wire.Claim{}, fault.New(fault.Busy, op, "others were faster each time").WithHint("ask again").WithRetry(time.Second)
}

// freeShards looks, outside of the log's lock, for shards that seem to be free.
func (v *Vault) freeShards(ctx context.Context, scope dataset.Scope, only *int) (free []int, err error) {
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		d, err := tx.Dataset(ctx, scope)
		if err != nil {
			return missingRow("dataset", err)
		}
		if !d.Complete {
			return nil
		}
		newest, err := tx.Version(ctx, d.ID, d.Version)
		if err != nil {
			return missingRow("version", err)
		}
		has := newest.Shards.Set()
		taken, _, err := takenShards(ctx, tx, d.ID, v.now(), dataset.PrincipalID{})
		if err != nil {
			return err
		}
		for after := -1; len(free) < claimAhead; {
			if only != nil {
				after = *only - 1
			}
			list, err := tx.UnclaimedShards(ctx, d.ID, after, rowPage)
			if err != nil {
				return err
			}
			for _, n := range list {
				after = n
				if has.Has(n) && !taken.Has(n) && (only == nil || n == *only) && len(free) < claimAhead {
					free = append(free, n)
				}
			}
			if len(list) < rowPage || only != nil {
				break
			}
		}
		return nil
	})
	return free, err
}

// takenShards joins the shards that are assigned or claimed now, and counts the
// claims of one person among them.
func takenShards(ctx context.Context, tx *catalog.Tx, id dataset.DatasetID, now time.Time, who dataset.PrincipalID) (taken dataset.ShardSet, claims int, err error) {
	var ranges []dataset.ShardRange
	err = tx.AssignmentsInForce(ctx, id, now, func(a dataset.Assignment) error {
		ranges = append(ranges, a.Shards...)
		if a.Claim && a.Principal == who {
			claims++
		}
		return nil
	})
	return dataset.ShardList(ranges).Set(), claims, err
}

// takeShard takes the first of free that still is, in the record's transaction:
// the log's lock makes claims come one after the other.
func (v *Vault) takeShard(ctx context.Context, c identity.Caller, t target, in ledger.Intent, free []int, lease time.Duration) (wire.Claim, error) {
	a := dataset.Assignment{
		ID: dataset.NewID[dataset.AssignmentID](v.random), Principal: c.Principal, Dataset: t.row.Tag, Scope: t.scope, Claim: true,
	}
	out := wire.Claim{Dataset: t.scope}
	in.PolicyChange, in.Gives = true, true
	in.Apply = func(ctx context.Context, tx *ledger.Tx, in *ledger.Intent) error {
		taken, mine, err := takenShards(ctx, tx.Tx, a.Dataset, tx.Now, c.Principal)
		if err != nil {
			return err
		}
		if mine >= wire.MaxClaims {
			return fault.New(fault.Conflict, "vault.Claim", "you have as many claims as one may have").
				WithHint("submit, or give one back: `dsvault claim release DATASET/NUMBER`")
		}
		for _, n := range free {
			ok, err := stillFree(ctx, tx.Tx, a.Dataset, n, taken)
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			if err := tx.EndLapsedClaims(ctx, a.Dataset, tx.Now, tx.Revision); err != nil {
				return err
			}
			a.Shards, a.At, a.Until = dataset.ShardSet{{First: n, Last: n}}, tx.Now, tx.Now.Add(lease).Truncate(time.Microsecond)
			out.Shard, out.Until = n, a.Until.UTC()
			in.Object = shardObject(a.Dataset, n)
			in.Fields = []audit.Field{audit.BytesField(audit.FieldAssignmentID, a.ID[:]), audit.Uint64Field(audit.FieldUntil, uint64(a.Until.UnixMicro()))}
			return tx.AddAssignment(ctx, a, tx.Revision)
		}
		return errTaken
	}
	_, err := v.ledger.Record(ctx, in)
	return out, err
}

// stillFree reports whether nobody has a shard or has returned work on it that
// stands.
func stillFree(ctx context.Context, tx *catalog.Tx, id dataset.DatasetID, n int, taken dataset.ShardSet) (bool, error) {
	if taken.Has(n) {
		return false, nil
	}
	list, err := tx.UnclaimedShards(ctx, id, n-1, 1)
	return len(list) == 1 && list[0] == n, err
}

// claimOf finds the caller's claim of a shard, also one that has lapsed.
func claimOf(ctx context.Context, tx *catalog.Tx, ref dataset.ShardRef, who dataset.PrincipalID) (found dataset.Assignment, ok bool, err error) {
	q := storage.AssignmentQuery{Principal: who, Under: ref.Dataset}
	for {
		rows, err := tx.Assignments(ctx, q)
		for _, a := range rows {
			if a.Claim && a.Shards.Has(ref.Number) {
				found, ok = a, true
			}
		}
		if err != nil || len(rows) < catalog.MaxPage {
			return found, ok, err
		}
		q.After = rows[len(rows)-1].ID
	}
}

// ownClaim is the claim that an operation is on, and the place of its record.
func (v *Vault) ownClaim(ctx context.Context, c identity.Caller, ref dataset.ShardRef) (target, dataset.Assignment, error) {
	t, err := v.target(ctx, ref.Dataset)
	if err != nil {
		return t, dataset.Assignment{}, err
	}
	var a dataset.Assignment
	ok := false
	if t.known {
		err = v.db.View(ctx, func(tx *catalog.Tx) (err error) {
			a, ok, err = claimOf(ctx, tx, ref, c.Principal)
			return err
		})
	}
	if err == nil && !ok {
		err = ledger.Absent()
	}
	return t, a, err
}

func lapsed(err error, ref dataset.ShardRef) error {
	if errors.Is(err, storage.ErrNoRow) {
		return fault.Wrap(fault.Conflict, "vault.Claim", "the claim has lapsed", err).
			WithHint("claim the shard again, if nobody else has: `dsvault claim " + ref.String() + "`")
	}
	return err
}

// RenewClaim lets a claim that has not lapsed last so long from now.
func (v *Vault) RenewClaim(ctx context.Context, c identity.Caller, ref dataset.ShardRef, seconds int) (wire.Claim, error) {
	lease, err := leaseOf(seconds)
	if err != nil {
		return wire.Claim{}, err
	}
	t, a, err := v.ownClaim(ctx, c, ref)
	if err != nil {
		return wire.Claim{}, err
	}
	in := v.intent(c, audit.KindClaimRenew, t, rbac.Claim, rbac.Annotation)
	in.Query.Object.Shard, in.Object = ref.Number, shardObject(a.Dataset, ref.Number)
	in.PolicyChange = true
	out := wire.Claim{Dataset: ref.Dataset, Shard: ref.Number}
	in.Apply = func(ctx context.Context, tx *ledger.Tx, in *ledger.Intent) error {
		until := tx.Now.Add(lease).Truncate(time.Microsecond)
		in.Gives, out.Until = !until.Before(a.Until), until.UTC()
		in.Fields = []audit.Field{audit.BytesField(audit.FieldAssignmentID, a.ID[:]), audit.Uint64Field(audit.FieldUntil, uint64(until.UnixMicro()))}
		return lapsed(tx.RenewClaim(ctx, a.ID, tx.Now, until, tx.Revision), ref)
	}
	_, err = v.ledger.Record(ctx, in)
	return out, err
}

// ReleaseClaim gives a claimed shard back.
func (v *Vault) ReleaseClaim(ctx context.Context, c identity.Caller, ref dataset.ShardRef) (wire.Revoked, error) {
	var out wire.Revoked
	t, a, err := v.ownClaim(ctx, c, ref)
	if err != nil {
		return out, err
	}
	in := v.own(c, audit.KindClaimEnd, t)
	in.Object = shardObject(a.Dataset, ref.Number)
	in.Fields = []audit.Field{audit.BytesField(audit.FieldAssignmentID, a.ID[:])}
	in.PolicyChange = true
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		if !a.InForce(tx.Now) {
			return lapsed(storage.ErrNoRow, ref)
		}
		out = wire.Revoked{Ended: 1, Revision: tx.Revision}
		return lapsed(tx.EndAssignment(ctx, a.ID, tx.Now, tx.Revision), ref)
	}
	_, err = v.ledger.Record(ctx, in)
	return out, err
}
