package vault

import (
	"context"
	"errors"
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

const (
	maxChecks = 8                    // that run at once, in the whole vault
	keepCheck = 400 * 24 * time.Hour // how long the result of a check is kept
)

// errJoined says that the check which was asked for is running already.
var errJoined = errors.New("such a check is running")

// StartCheck begins to compare the catalog with the object store at a scope and
// below. It goes on by itself, on whichever node, until it ends or is canceled.
// If one like it is running, that one is given.
func (v *Vault) StartCheck(ctx context.Context, c identity.Caller, req wire.NewCheck) (wire.Check, error) {
	t, err := v.target(ctx, req.Scope)
	if err != nil {
		return wire.Check{}, err
	}
	in := v.intent(c, audit.KindCheckStart, t, rbac.Check, recordKind(t.scope))
	if !t.known {
		return wire.Check{}, v.absent(ctx, t, in)
	}
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return wire.Check{}, err
	}
	if req.Rate != 0 && req.Rate < wire.MinCheckRate {
		return wire.Check{}, fault.New(fault.Invalid, "vault.StartCheck", "the rate is below 64 KiB a second").WithHint("0 is no limit")
	}
	check := v.newCheck(t, storage.Check{Data: req.Data, Repair: req.Repair, Rate: req.Rate, StartedBy: c.Principal})
	check, err = v.addCheck(ctx, in, check, joins(check))
	if err != nil && !errors.Is(err, errJoined) {
		return wire.Check{}, err
	}
	return v.wireCheck(ctx, check)
}

func (v *Vault) newCheck(t target, c storage.Check) storage.Check {
	now := v.now()
	c.ID, c.Slot, c.Scope = dataset.NewID[dataset.CheckID](v.random), t.row.Slot, t.scope
	c.State, c.StartedAt, c.MovedAt = storage.CheckRunning, now, now
	return c
}

// joins finds a running check that does what another one is to do.
func joins(c storage.Check) func(context.Context, *catalog.Tx) (storage.Check, error) {
	return func(ctx context.Context, tx *catalog.Tx) (storage.Check, error) {
		running, err := tx.RunningChecks(ctx)
		if err != nil {
			return c, err
		}
		for _, r := range running {
			if r.Scope == c.Scope && r.Data == c.Data && r.Repair == c.Repair && r.Scheduled == c.Scheduled {
				return r, errJoined
			}
		}
		if len(running) >= maxChecks {
			return c, fault.New(fault.Conflict, "vault.StartCheck", "too many checks are running").
				WithHint("wait for one to end, or cancel one: `dsvault check --list`")
		}
		return c, nil
	}
}

// addCheck records the start of a check, unless instead gives another one.
func (v *Vault) addCheck(ctx context.Context, in ledger.Intent, c storage.Check,
	instead func(context.Context, *catalog.Tx) (storage.Check, error)) (storage.Check, error) {
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		c.Objects, c.Bytes, err = tx.StoredTotals(ctx, c.Scope)
		return err
	})
	if err != nil {
		return c, err
	}
	out := c
	in.Fields = []audit.Field{audit.StringField(audit.FieldExtent, extent(c))}
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) (err error) {
		if out, err = instead(ctx, tx.Tx); err != nil {
			return err
		}
		out = c
		if err := tx.DropChecks(ctx, tx.Now.Add(-keepCheck)); err != nil {
			return err
		}
		return tx.AddCheck(ctx, c)
	}
	_, err = v.ledger.Record(ctx, in)
	if err == nil {
		v.checks.wakeUp()
	}
	return out, err
}

func extent(c storage.Check) string {
	text := "objects"
	if c.Data {
		text = "data"
	}
	if c.Repair {
		text += ", repair"
	}
	return text
}

// Checks lists the checks at a scope and below it, the newest first, to those
// who may run them or read the log there.
func (v *Vault) Checks(ctx context.Context, c identity.Caller, scope dataset.Scope, after string, limit int) (wire.Page[wire.Check], error) {
	page := wire.Page[wire.Check]{Items: []wire.Check{}}
	t, err := v.target(ctx, scope)
	if err != nil {
		return page, err
	}
	var before dataset.CheckID
	if after != "" {
		if before, err = dataset.ParseID[dataset.CheckID](after); err != nil {
			return page, err
		}
	}
	if err := v.mayFollow(ctx, c, t); err != nil {
		return page, err
	}
	limit = clip(limit, wire.MaxPage)
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		rows, err := tx.Checks(ctx, t.scope, before, limit)
		names := v.names(ctx, tx)
		for _, row := range rows {
			page.Items = append(page.Items, wireCheck(row, names(row.StartedBy)))
		}
		if len(rows) == limit {
			page.Next = rows[len(rows)-1].ID.String()
		}
		return err
	})
	return page, err
}

// mayFollow lets those see results who may run checks there or read the log.
func (v *Vault) mayFollow(ctx context.Context, c identity.Caller, t target) error {
	if t.known {
		may, err := v.allowed(ctx, v.intent(c, audit.KindList, t, rbac.Check, recordKind(t.scope)).Query)
		if may || err != nil {
			return err
		}
	}
	in := v.intent(c, audit.KindList, t, rbac.Read, rbac.Log)
	if !t.known {
		return v.absent(ctx, t, in)
	}
	_, err := v.ledger.Check(ctx, in)
	return err
}

// Check tells how far a check is, and what it has found.
func (v *Vault) Check(ctx context.Context, c identity.Caller, id dataset.CheckID) (wire.Check, error) {
	check, err := v.followed(ctx, c, id)
	if err != nil {
		return wire.Check{}, err
	}
	return v.wireCheck(ctx, check)
}

// followed finds a check that the caller may see.
func (v *Vault) followed(ctx context.Context, c identity.Caller, id dataset.CheckID) (storage.Check, error) {
	check, t, err := v.findCheck(ctx, id)
	if err != nil {
		return check, err
	}
	err = v.mayFollow(ctx, c, t)
	if check.ID != id {
		err = noCheck(err)
	}
	return check, err
}

// noCheck is the answer for an ID that no check has: whoever asks may not tell
// it from one that is hidden.
func noCheck(err error) error {
	if err == nil || fault.Is(err, fault.Forbidden) {
		return ledger.Absent()
	}
	return err
}

// findCheck finds a check with its scope; for one that is not there it gives
// the zero Check and the whole vault.
func (v *Vault) findCheck(ctx context.Context, id dataset.CheckID) (storage.Check, target, error) {
	check := storage.Check{Scope: dataset.Root}
	err := v.db.View(ctx, func(tx *catalog.Tx) error {
		found, err := tx.Check(ctx, id)
		if err == nil {
			check = found
		}
		return none(err)
	})
	if err != nil {
		return check, target{}, err
	}
	t, err := v.target(ctx, check.Scope)
	return check, t, err
}

// Findings lists what a check has found so far, in the order of finding, from
// the one behind number after (-1: the first).
func (v *Vault) Findings(ctx context.Context, c identity.Caller, id dataset.CheckID, after, limit int) (wire.Page[wire.Finding], error) {
	page := wire.Page[wire.Finding]{Items: []wire.Finding{}}
	if _, err := v.followed(ctx, c, id); err != nil {
		return page, err
	}
	limit = clip(limit, wire.MaxPage)
	err := v.db.View(ctx, func(tx *catalog.Tx) error {
		rows, err := tx.Findings(ctx, id, after, limit)
		for _, f := range rows {
			w := wire.Finding{Number: f.Number, Kind: string(f.Kind), Key: f.Key, Repaired: f.Repaired, Detail: f.Detail}
			if !f.Scope.IsZero() {
				w.Shard = dataset.ShardRef{Dataset: f.Scope, Number: f.Shard}.String()
			}
			page.Items = append(page.Items, w)
		}
		if len(rows) == limit {
			page.Next = strconv.Itoa(rows[len(rows)-1].Number)
		}
		return err
	})
	return page, err
}

// CancelCheck ends a check where it is.
func (v *Vault) CancelCheck(ctx context.Context, c identity.Caller, id dataset.CheckID) (wire.Check, error) {
	check, t, err := v.findCheck(ctx, id)
	if err != nil {
		return wire.Check{}, err
	}
	in := v.intent(c, audit.KindCheckEnd, t, rbac.Check, recordKind(t.scope))
	if check.ID != id {
		return wire.Check{}, noCheck(v.absent(ctx, t, in))
	}
	in.Apply = func(ctx context.Context, tx *ledger.Tx, in *ledger.Intent) error {
		if check, err = tx.Check(ctx, id); err != nil {
			return missingRow("check", err)
		}
		check.State, check.EndedAt = storage.CheckCanceled, tx.Now
		in.Fields = tally(check)
		err := tx.EndCheck(ctx, id, check.State, tx.Now)
		if errors.Is(err, storage.ErrNoRow) {
			return fault.Wrap(fault.Conflict, "vault.CancelCheck", "the check has ended already", err).
				WithHint("`dsvault check --list` shows how checks have ended")
		}
		return err
	}
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return wire.Check{}, err
	}
	v.checks.cancel(id)
	return v.wireCheck(ctx, check)
}

// tally is what the log keeps of a check that has ended.
func tally(c storage.Check) []audit.Field {
	return []audit.Field{
		audit.StringField(audit.FieldCause, string(c.State)),
		audit.Uint64Field(audit.FieldSealedSize, uint64(c.Read)),
		audit.Uint64Field(audit.FieldCount, uint64(c.Checked)),
		audit.Uint64Field(audit.FieldMissing, uint64(c.Missing)),
		audit.Uint64Field(audit.FieldChanged, uint64(c.Changed)),
		audit.Uint64Field(audit.FieldExtra, uint64(c.Extra)),
		audit.Uint64Field(audit.FieldRepaired, uint64(c.Repaired)),
		audit.StringField(audit.FieldExtent, extent(c)),
	}
}

func (v *Vault) wireCheck(ctx context.Context, c storage.Check) (out wire.Check, err error) {
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		out = wireCheck(c, v.names(ctx, tx)(c.StartedBy))
		return nil
	})
	return out, err
}

func wireCheck(c storage.Check, by string) wire.Check {
	return wire.Check{
		ID: c.ID, Scope: c.Scope, State: string(c.State), Problem: c.Problem, Data: c.Data, Repair: c.Repair, Rate: c.Rate,
		Scheduled: c.Scheduled, By: by, Started: c.StartedAt.UTC(), Ended: timePtr(c.EndedAt), Objects: c.Objects, Bytes: c.Bytes,
		Checked: c.Checked, Read: c.Read + c.Ahead,
		Missing: c.Missing, Changed: c.Changed, Extra: c.Extra, Leftovers: c.Leftovers, Repaired: c.Repaired,
	}
}
