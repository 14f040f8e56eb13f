package ledger

import (
	"context"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/dataset"
)

type txView = catalog.Tx

// CatchUp brings the node's policy state to the revision in the catalog. Rows
// are never deleted, only ended, so what is newer than the node's revision is
// all that it lacks.
func (l *Ledger) CatchUp(ctx context.Context) error {
	behind := false
	err := l.db.View(ctx, func(tx *txView) error {
		head, err := tx.Head(ctx)
		l.observe(head.Time)
		behind = head.Revision != l.world.Revision()
		return err
	})
	if err != nil || !behind {
		return err
	}
	l.catchUp.Lock()
	defer l.catchUp.Unlock()
	return l.db.View(ctx, func(tx *txView) error {
		head, err := tx.Head(ctx)
		if err != nil || head.Revision == l.world.Revision() {
			return err
		}
		var changes []rbac.Change
		add := func(c rbac.Change) error {
			changes = append(changes, c)
			return nil
		}
		next, err := clients(ctx, tx, l.nextSlot, add)
		if err != nil {
			return err
		}
		if err := collect(ctx, tx, l.world.Revision(), l.sealer, add); err != nil {
			return err
		}
		l.world.Apply(head.Revision, changes...)
		l.nextSlot = next
		return nil
	})
}

// clients adds the clients made since; scopes are permanent and numbered, so
// the slots from next on are the new ones.
func clients(ctx context.Context, tx *txView, next uint64, add func(rbac.Change) error) (uint64, error) {
	const page = 1000
	for {
		rows, err := tx.ScopesFrom(ctx, next, page)
		if err != nil {
			return next, err
		}
		for _, row := range rows {
			next = row.Slot + 1
			if row.Scope.Depth() == 1 {
				if err := add(rbac.ClientChange{Scope: row.Scope}); err != nil {
					return next, err
				}
			}
		}
		if len(rows) < page {
			return next, nil
		}
	}
}

// collect turns every row that changed after a revision into a change.
func collect(ctx context.Context, tx *txView, after uint64, sealer Sealer, add func(rbac.Change) error) error {
	steps := []func() error{
		func() error { return collectKeeping(ctx, tx, after, add) },
		func() error {
			return tx.PrincipalsSince(ctx, after, func(p storage.Principal, _ uint64) error {
				if len(p.Key.Sealed) == 0 {
					sealer.Forget(p.ID)
				}
				return add(rbac.PrincipalChange{ID: p.ID, Service: p.Service, Disabled: !p.Disabled.IsZero(), Region: p.Region,
					Restricted: !p.Restricted.IsZero()})
			})
		},
		func() error {
			return tx.ProjectsSince(ctx, after, func(p storage.Project, _ uint64) error {
				return add(rbac.ProjectChange{Scope: p.Scope, Purposes: p.Purposes, Region: p.Region,
					Sensitive: p.Sensitive, Delivery: p.Delivery, Consent: p.Consent, Claims: p.Claims})
			})
		},
		func() error {
			return tx.ConditionsSince(ctx, after, func(c storage.Conditions, _ uint64) error {
				return add(rbac.ConditionsChange{Scope: c.Scope, Requires: c.Requires, ContractorMax: c.ContractorMax,
					ContractorDelivery: c.ContractorDelivery, Hours: c.Hours, Networks: c.Networks, Transfers: c.Transfers})
			})
		},
		func() error {
			return tx.DatasetsSince(ctx, after, func(d storage.Dataset, _ uint64) error {
				if f, ok := sealer.(DatasetForgetter); ok && d.State == dataset.Erased {
					f.ForgetDataset(d.ID)
				}
				return add(rbac.DatasetChange{ID: d.ID, Scope: d.Scope, State: d.State, Since: d.Since()})
			})
		},
		func() error {
			return tx.GrantsSince(ctx, after, func(g dataset.Grant, _ uint64) error { return add(rbac.GrantChange{Grant: g}) })
		},
		func() error {
			return tx.AssignmentsSince(ctx, after, func(a dataset.Assignment, _ uint64) error {
				return add(rbac.AssignmentChange{Assignment: a})
			})
		},
		func() error {
			return tx.AgreementsSince(ctx, after, func(a dataset.Agreement, _ uint64) error {
				return add(rbac.AgreementChange{Name: a.Name, Version: a.Version, Grace: a.Grace})
			})
		},
		func() error {
			return tx.SignaturesSince(ctx, after, func(s dataset.Signature, _ uint64) error {
				return add(rbac.SignatureChange{Signature: s})
			})
		},
		func() error {
			return tx.ApprovalsSince(ctx, after, func(a storage.Approval, _ uint64) error { return add(approvalChange(a)) })
		},
		func() error {
			return tx.BreakGlassesSince(ctx, after, func(b storage.BreakGlass, _ uint64) error {
				return add(rbac.BreakGlassChange{ID: b.ID, Principal: b.Principal, Scope: b.Scope, Until: b.Until, Ended: !b.Ended.IsZero()})
			})
		},
		func() error {
			return tx.DisclosuresSince(ctx, after, func(d storage.Disclosure, _ uint64) error {
				return add(rbac.DisclosureChange{ID: d.ID, Principal: d.Principal, Dataset: d.Dataset, Shards: d.Shards, By: d.ApprovedBy,
					Until: d.Until, Ended: !d.Ended.IsZero()})
			})
		},
		func() error {
			return tx.ChoicesSince(ctx, after, func(c dataset.Choice, _ uint64) error { return add(rbac.ChoiceChange{Choice: c}) })
		},
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// approvalChange is an approval as decisions know it.
func approvalChange(a storage.Approval) rbac.Change {
	return rbac.ApprovalChange{
		ID: a.ID, Requester: a.Requester, Action: rbac.Action(a.Action),
		Object: rbac.Object{Kind: rbac.Kind(a.Kind), Scope: a.Scope, Shard: -1}, Target: a.Target, Terms: a.TermsHash,
		By: a.DecidedBy, Until: a.Until, Used: a.State == storage.ApprovalUsed,
		Ended: a.State != storage.ApprovalUsed && a.State != storage.ApprovalGiven,
	}
}
