package ledger

import (
	"context"
	"time"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
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
	return l.catchUpNow(ctx)
}

// catchUpNow is CatchUp for who is behind, and holds the log's lock: it needs none of
// the connections that requests may keep busy.
func (l *Ledger) catchUpNow(ctx context.Context) error {
	if err := l.catchUp.take(ctx); err != nil {
		return err
	}
	defer l.catchUp.give()
	return l.follow(ctx, nil)
}

// turn is a lock for which nobody waits longer than a context says.
type turn chan struct{}

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fault.Wrap(fault.CodeOf(ctx.Err()), "ledger.CatchUp", "the policy could not be followed in time", ctx.Err()).
			WithHint("try again in a moment").WithRetry(time.Second)
	}
}

func (t turn) give() { <-t }

// follow brings the node's policy state to the revision in the catalog, and has it
// hold some people more from then on; all of that is of one snapshot. The caller
// holds catchUp, for which others wait.
func (l *Ledger) follow(ctx context.Context, people []dataset.PrincipalID) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	return l.db.Follow(ctx, func(tx *txView) error {
		head, err := tx.Head(ctx)
		if err != nil {
			return err
		}
		known := l.world.Revision()
		if head.Revision < known { // nothing is admitted to such a catalog: see goesOn
			if len(people) == 0 {
				return nil
			}
			return unavailable("the catalog is behind what this node has seen of it", nil)
		}
		var changes []rbac.Change
		add := func(c rbac.Change) error {
			changes = append(changes, c)
			return nil
		}
		if head.Revision > known {
			if err := l.collect(ctx, tx, known, add); err != nil {
				return err
			}
		}
		if err := collectOf(ctx, tx, people, add); err != nil {
			return err
		}
		l.world.Hold(head.Revision, people, changes...)
		l.nextSlot = head.NextSlot
		return nil
	})
}

// collect turns every row that changed after a revision, and that decisions of this
// node rest on, into a change.
func (l *Ledger) collect(ctx context.Context, tx *txView, after uint64, add func(rbac.Change) error) error {
	// Scopes are permanent and numbered, so the slots from nextSlot on are the new ones.
	err := tx.ClientsFrom(ctx, l.nextSlot, func(s storage.ScopeRow) error { return add(rbac.ClientChange{Scope: s.Scope}) })
	if err != nil {
		return err
	}
	if err := collectShared(ctx, tx, after, l.sealer, add); err != nil {
		return err
	}
	if after == 0 && l.world.People() == 0 { // a node that starts does not read everybody's rows
		return nil
	}
	return collectPeople(ctx, tx, after, l.sealer, add)
}

// collectShared collects what decisions about everybody rest on.
func collectShared(ctx context.Context, tx *txView, after uint64, sealer Sealer, add func(rbac.Change) error) error {
	return inTurn(
		func() error { return collectKeeping(ctx, tx, after, add) },
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
			return tx.AgreementsSince(ctx, after, func(a dataset.Agreement, _ uint64) error {
				return add(rbac.AgreementChange{Name: a.Name, Version: a.Version, Grace: a.Grace})
			})
		},
	)
}

// collectPeople collects what people were given, have done or have decided since.
func collectPeople(ctx context.Context, tx *txView, after uint64, sealer Sealer, add func(rbac.Change) error) error {
	return inTurn(
		func() error {
			return tx.PrincipalsSince(ctx, after, func(p storage.Principal, _ uint64) error {
				if len(p.Key.Sealed) == 0 {
					sealer.Forget(p.ID)
				}
				return add(principalChange(p))
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
			return tx.SignaturesSince(ctx, after, func(s dataset.Signature, _ uint64) error {
				return add(rbac.SignatureChange{Signature: s})
			})
		},
		func() error {
			return tx.ApprovalsSince(ctx, after, func(a storage.Approval, _ uint64) error { return add(approvalChange(a)) })
		},
		func() error {
			return tx.BreakGlassesSince(ctx, after, func(b storage.BreakGlass, _ uint64) error { return add(breakGlassChange(b)) })
		},
		func() error {
			return tx.DisclosuresSince(ctx, after, func(d storage.Disclosure, _ uint64) error { return add(disclosureChange(d)) })
		},
		func() error {
			return tx.ChoicesSince(ctx, after, func(c dataset.Choice, _ uint64) error { return add(rbac.ChoiceChange{Choice: c}) })
		},
	)
}

func inTurn(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func principalChange(p storage.Principal) rbac.Change {
	return rbac.PrincipalChange{ID: p.ID, Service: p.Service, Disabled: !p.Disabled.IsZero(), Region: p.Region,
		Restricted: !p.Restricted.IsZero()}
}

func breakGlassChange(b storage.BreakGlass) rbac.Change {
	return rbac.BreakGlassChange{ID: b.ID, Principal: b.Principal, Scope: b.Scope, Until: b.Until, Ended: !b.Ended.IsZero()}
}

func disclosureChange(d storage.Disclosure) rbac.Change {
	return rbac.DisclosureChange{ID: d.ID, Principal: d.Principal, Dataset: d.Dataset, Shards: d.Shards, By: d.ApprovedBy,
		Until: d.Until, Ended: !d.Ended.IsZero()}
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
