package vault

import (
	"context"
	"maps"
	"slices"
	"time"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/identity"
	"dsvault/vault/wire"
)

// signaturePage is how many people one page of Signatures is about at the most.
const signaturePage = 100

// Signatures says how people stand to the agreements that they have to sign, or
// did: everybody to those who may read all grants, otherwise the caller. A
// page continues after a person's handle.
func (v *Vault) Signatures(ctx context.Context, c identity.Caller, person, after string, limit int) (wire.Page[wire.SignatureStatus], error) {
	page := wire.Page[wire.SignatureStatus]{Items: []wire.SignatureStatus{}}
	root, err := v.root(ctx)
	if err != nil {
		return page, err
	}
	in := v.intent(c, audit.KindList, root, rbac.Read, rbac.GrantObj)
	all, err := v.allowed(ctx, in.Query)
	if err != nil {
		return page, err
	}
	var one *storage.Principal
	switch {
	case person == "me" || person == c.Handle || person == "" && !all:
		one = &storage.Principal{ID: c.Principal, Handle: c.Handle}
	case person != "":
		p, err := v.principal(ctx, c, person, in)
		if err != nil {
			return page, err
		}
		if _, err := v.ledger.Check(ctx, in); err != nil {
			return page, err
		}
		one = &p
	}
	now := v.now()
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		people := []storage.Principal{}
		if one != nil {
			people = append(people, *one)
		} else if people, err = tx.Principals(ctx, after, min(clip(limit, wire.MaxPage), signaturePage)); err != nil {
			return err
		}
		s, err := newStanding(ctx, tx, now)
		if err != nil {
			return err
		}
		for _, p := range people {
			rows, err := s.of(ctx, tx, p)
			if err != nil {
				return err
			}
			page.Items = append(page.Items, rows...)
		}
		if one == nil && len(people) == min(clip(limit, wire.MaxPage), signaturePage) {
			page.Next = people[len(people)-1].Handle
		}
		return nil
	})
	return page, err
}

// standing is what the state of signatures follows from.
type standing struct {
	now        time.Time
	versions   map[string][]dataset.Agreement // of each agreement, in order
	conditions []storage.Conditions
}

func newStanding(ctx context.Context, tx *catalog.Tx, now time.Time) (*standing, error) {
	s := &standing{now: now, versions: map[string][]dataset.Agreement{}}
	list, err := tx.Agreements(ctx)
	if err != nil {
		return nil, err
	}
	for _, a := range list {
		s.versions[a.Name] = append(s.versions[a.Name], a)
	}
	s.conditions, err = tx.ConditionsUnder(ctx, dataset.Root)
	return s, err
}

// of gives a person's rows, by agreement.
func (s *standing) of(ctx context.Context, tx *catalog.Tx, p storage.Principal) ([]wire.SignatureStatus, error) {
	signed, err := tx.Signatures(ctx, p.ID)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{} // whether it is required
	for _, g := range signed {
		names[g.Agreement] = false
	}
	for after := (dataset.GrantID{}); ; {
		grants, err := tx.Grants(ctx, storage.GrantQuery{Principal: p.ID, After: after, Limit: wire.MaxPage})
		if err != nil {
			return nil, err
		}
		for _, g := range grants {
			if g.InForce(s.now) {
				for _, name := range requiredOf(s.conditions, g) {
					names[name] = true
				}
			}
		}
		if len(grants) < wire.MaxPage {
			break
		}
		after = grants[len(grants)-1].ID
	}
	var rows []wire.SignatureStatus
	for _, name := range slices.Sorted(maps.Keys(names)) {
		row := s.status(name, signed)
		row.Person, row.Required = p.Handle, names[name]
		rows = append(rows, row)
	}
	return rows, nil
}

// status says how a person with these signatures stands to an agreement: by the
// signature that counts the longest, or else the one on the newest version.
func (s *standing) status(name string, signed []dataset.Signature) wire.SignatureStatus {
	versions := s.versions[name]
	row := wire.SignatureStatus{Agreement: name, Newest: len(versions), State: wire.SignatureNone}
	if len(versions) == 0 {
		row.State = wire.AgreementUnpublished
	}
	for _, sig := range signed { // by version
		if sig.Agreement != name {
			continue
		}
		state, counts := s.judge(sig, versions)
		if old := row; old.InForce() && state != wire.SignatureInForce && (state != wire.SignatureGrace || !later(counts, old.Counts)) {
			continue
		}
		row.State, row.Version, row.SHA256, row.At = state, sig.Version, sig.Hash[:], timePtr(sig.At)
		row.Until, row.Counts = timePtr(sig.Until), counts
	}
	return row
}

// later reports whether a is after b; nil is never.
func later(a, b *time.Time) bool { return b != nil && (a == nil || a.After(*b)) }

// judge says what a signature is worth, and until when it counts.
func (s *standing) judge(sig dataset.Signature, versions []dataset.Agreement) (wire.SignatureState, *time.Time) {
	if !sig.Withdrawn.IsZero() {
		return wire.SignatureWithdrawn, nil
	}
	if !sig.InForce(s.now) {
		return wire.SignatureExpired, nil
	}
	counts, state := sig.Until, wire.SignatureInForce
	for _, newer := range versions[min(sig.Version, len(versions)):] {
		state = wire.SignatureGrace
		if !s.now.Before(newer.Grace) {
			return wire.SignatureOutdated, nil
		}
		if counts.IsZero() || newer.Grace.Before(counts) {
			counts = newer.Grace
		}
	}
	return state, timePtr(counts)
}

// requiredOf names the agreements that a grant's holder has to have signed, at
// its scope or somewhere below: those of the scopes around it and inside it, and
// of a contractor "nda" where nothing is required.
func requiredOf(all []storage.Conditions, g dataset.Grant) []string {
	switch g.Role {
	case dataset.Contractor, dataset.Labeler, dataset.Reviewer:
	default:
		return nil
	}
	var names []string
	around := false
	for _, c := range all {
		if c.Scope.Contains(g.Scope) {
			around = around || len(c.Requires) > 0
		} else if !g.Scope.Contains(c.Scope) {
			continue
		}
		names = append(names, c.Requires...)
	}
	if g.Role == dataset.Contractor && !around {
		names = append(names, rbac.DefaultAgreement)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
