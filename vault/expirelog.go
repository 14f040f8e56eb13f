package vault

import (
	"context"
	"errors"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/ledger"
)

const (
	slowChores  = time.Hour // how often the log and the people are looked at
	detailLooks = 2000      // records that are looked at in one step
	detailDrops = 200       // of which the details are dropped in one transaction
	scrubAfter  = 24 * time.Hour
)

// due reports whether slow work is due again, and notes that it was done.
func (v *Vault) due(last *time.Time) bool {
	now := v.now()
	if !last.IsZero() && now.Sub(*last) < slowChores && !now.Before(*last) {
		return false
	}
	*last = now
	return true
}

// expireDetails drops the sealed details of records that are older than their
// scope's retention of the log: who it was, from where, and the words that were
// said. The records themselves stay, and so does every proof.
func (v *Vault) expireDetails(ctx context.Context) error {
	all, err := v.allRetentions(ctx)
	if err != nil {
		return err
	}
	set := false
	for _, r := range all {
		set = set || r.What == storage.KeepLog
	}
	if !set || !v.due(&v.lastDetails) {
		return nil
	}
	dropped := false
	for _, r := range all {
		for r.What == storage.KeepLog {
			n, more, err := v.dropDetails(ctx, &r, all)
			if err != nil {
				v.lastDetails = time.Time{} // try again soon
				return err
			}
			if dropped = dropped || n > 0; !more {
				break
			}
		}
	}
	if dropped && v.now().Sub(v.lastScrub) >= scrubAfter {
		v.lastScrub = v.now()
		if _, err := v.db.Scrub(ctx, false); err != nil {
			v.log.WarnContext(ctx, "what was dropped is left in the database's free space until it is used again", "err", err)
		}
	}
	return nil
}

// dropDetails looks at the next records that a retention is about, and drops the
// details of those that are old enough. more says that there may be others.
func (v *Vault) dropDetails(ctx context.Context, r *storage.Retention, all []storage.Retention) (dropped int, more bool, err error) {
	type old struct {
		index, slot uint64
	}
	var found []old
	var list []uint64
	scopes := map[uint64]dataset.Scope{}
	next, now := r.Done, v.now()
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		looked := 0
		full := errors.New("enough")
		err := tx.Leaves(ctx, storage.LeafQuery{From: r.Done, Under: r.Scope, Limit: detailLooks}, func(l storage.Leaf) error {
			if r.Period.After(time.UnixMicro(l.Time)).After(now) || len(found) == detailDrops {
				return full
			}
			looked++
			next = l.Index + 1
			if l.Principal.IsZero() || names(audit.Kind(l.Kind)) {
				return nil
			}
			scopes[l.Slot] = dataset.Scope{}
			found = append(found, old{l.Index, l.Slot})
			return nil
		})
		more = err == nil && looked == detailLooks
		if errors.Is(err, full) {
			more, err = len(found) == detailDrops, nil
		}
		if err != nil {
			return err
		}
		for slot := range scopes {
			row, err := tx.ScopeBySlot(ctx, slot)
			if err != nil {
				return missingRow("scope", err)
			}
			scopes[slot] = row.Scope
		}
		for _, o := range found {
			scope := scopes[o.slot]
			if near, _ := retentionOf(all, storage.KeepLog, scope); near.Scope == r.Scope && !v.world.Held(scope) {
				list = append(list, o.index)
			} else {
				delete(scopes, o.slot)
			}
		}
		return nil
	})
	if err != nil || next == r.Done {
		return 0, false, err
	}
	r.Done = next
	if len(list) == 0 {
		return 0, more, v.db.Update(ctx, func(tx *catalog.Tx) error { return tx.SetRetentionDone(ctx, *r) })
	}
	t, err := v.target(ctx, r.Scope)
	if err != nil {
		return 0, false, err
	}
	in := ledger.Intent{
		Kind: audit.KindLogExpire, Own: true, Place: t.place(), Object: t.object(),
		Fields: []audit.Field{audit.Uint64Field(audit.FieldCount, uint64(len(list))), audit.StringField(audit.FieldPeriod, r.Period.String())},
	}
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		holds, err := tx.Holds(ctx, r.Scope, false, dataset.HoldID{}, 0)
		if err != nil {
			return err
		}
		for _, h := range holds { // one that came since: look again
			for _, scope := range scopes {
				if h.Scope.Contains(scope) {
					return errHeld("vault.dropDetails", scope)
				}
			}
		}
		if err := tx.DropDetailsOf(ctx, list); err != nil {
			return err
		}
		return tx.SetRetentionDone(ctx, *r)
	}
	_, err = v.ledger.Record(ctx, in)
	return len(list), more, err
}

// names reports whether records of a kind say what a scope is called: whoever
// verifies the log for the first time learns it there.
func names(k audit.Kind) bool {
	return k == audit.KindClientCreate || k == audit.KindProjectCreate || k == audit.KindDatasetCreate
}

// expirePeople anonymises the people of whom there was no record for as long as
// personal data is kept. A hold on the whole vault stops it.
func (v *Vault) expirePeople(ctx context.Context) error {
	all, err := v.allRetentions(ctx)
	if err != nil {
		return err
	}
	r, found := retentionOf(all, storage.KeepPersonal, dataset.Root)
	if !found || v.world.Held(dataset.Root) || !v.due(&v.lastPeople) {
		return nil
	}
	for after := ""; ; {
		var list []storage.Principal
		inactive := map[dataset.PrincipalID]bool{}
		err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
			list, err = tx.Principals(ctx, after, catalog.MaxPage)
			for _, p := range list {
				last, err := tx.LastRecord(ctx, p.ID)
				if err != nil {
					return err
				}
				if last.Before(p.CreatedAt) {
					last = p.CreatedAt
				}
				inactive[p.ID] = !p.Service && p.Restricted.IsZero() && len(p.Key.Sealed) > 0 && !r.Period.After(last).After(v.now())
			}
			return err
		})
		if err != nil {
			return err
		}
		for _, p := range list {
			after = p.Handle
			if inactive[p.ID] {
				if err := v.expirePerson(ctx, p, r); err != nil {
					return err
				}
			}
		}
		if len(list) < catalog.MaxPage {
			break
		}
	}
	v.clearForgotten(ctx, false)
	return nil
}

// expirePerson anonymises one person, as Anonymize does.
func (v *Vault) expirePerson(ctx context.Context, p storage.Principal, r storage.Retention) error {
	root, err := v.root(ctx)
	if err != nil {
		return err
	}
	profile, err := v.profile(ctx, p)
	if err != nil {
		return err
	}
	a := anonymizing{v: v, who: p.ID, words: []string{p.Handle, profile.Name, profile.Email}}
	if err := a.look(ctx); err != nil {
		return err
	}
	name, err := pseudonym(v.random)
	if err != nil {
		return err
	}
	in := ledger.Intent{
		Kind: audit.KindAnonymize, Own: true, Place: root.place(), Object: audit.Object{Kind: audit.ObjectPerson, ID: p.ID},
		Fields: []audit.Field{audit.StringField(audit.FieldPeriod, r.Period.String())}, PolicyChange: true,
	}
	in.Apply = func(ctx context.Context, tx *ledger.Tx, in *ledger.Intent) error {
		if err := unheldVault(ctx, tx.Tx); err != nil {
			return err
		}
		if err := v.keepAdmin(ctx, tx, p.ID); err != nil {
			return err
		}
		_, err := a.apply(ctx, tx, name)
		in.Fields = append(in.Fields, audit.Uint64Field(audit.FieldCount, uint64(len(a.about))))
		return err
	}
	_, err = v.ledger.Record(ctx, in)
	if fault.Is(err, fault.Conflict) { // the last admin stays, and so does who has just come back
		return nil
	}
	if err == nil {
		v.keys.Forget(p.ID)
	}
	return err
}

// unheldVault refuses while a hold is in force on the whole vault.
func unheldVault(ctx context.Context, tx *catalog.Tx) error {
	holds, err := tx.Holds(ctx, dataset.Root, false, dataset.HoldID{}, 0)
	for _, h := range holds {
		if h.Scope == dataset.Root {
			return errHeld("vault.expire", dataset.Root)
		}
	}
	return err
}
