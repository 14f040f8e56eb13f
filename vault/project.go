package vault

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/ledger"
	"dsvault/vault/wire"
)

// checkTerms looks at a project's terms, and puts its ways of delivery into
// their one order.
func checkTerms(p *storage.Project) error {
	const op = "vault.checkTerms"
	if len(p.Purposes) > maxPurposes || len(p.Consent) > maxPurposes || len(p.Delivery) > maxPurposes {
		return fault.New(fault.TooLarge, op, "too many purposes or ways of delivery")
	}
	for _, purpose := range p.Consent {
		if len(p.Purposes) > 0 && !slices.Contains(p.Purposes, purpose) {
			return fault.New(fault.Invalid, op, purpose+" rests on consent, but is no purpose of the project").
				WithHint("name it with --purpose too")
		}
	}
	names := slices.Concat(p.Purposes, p.Consent)
	if p.Region != "" { // it may stand in leaves
		names = append(names, p.Region)
	}
	for _, name := range names {
		if _, err := dataset.ParseName(name); err != nil {
			return err
		}
	}
	for _, d := range p.Delivery {
		if _, err := dataset.ParseDelivery(string(d)); err != nil {
			return err
		}
	}
	p.Delivery = besidesSealed(p.Delivery)
	return checkText("contract", p.Contract, wire.MaxProfile)
}

// allowedDelivery is what a leaf says of the ways that a project allows.
func allowedDelivery(p storage.Project) audit.Field {
	words := append([]string{string(dataset.Sealed)}, textsOf(p.Delivery)...)
	return audit.StringField(audit.FieldDelivery, strings.Join(words, ","))
}

// UpdateProject changes a project's terms. They hold from the moment that this
// returns; reads that the new terms forbid are cut.
func (v *Vault) UpdateProject(ctx context.Context, c identity.Caller, scope dataset.Scope, req wire.ProjectUpdate) (wire.Entry, error) {
	const op = "vault.UpdateProject"
	if scope.Depth() != 2 {
		return wire.Entry{}, fault.New(fault.Invalid, op, "that is not the name of a project").WithHint("projects are CLIENT/PROJECT")
	}
	t, err := v.target(ctx, scope)
	if err != nil {
		return wire.Entry{}, err
	}
	in := v.intent(c, audit.KindProjectUpdate, t, rbac.Update, rbac.Project)
	if !t.known {
		return wire.Entry{}, v.absent(ctx, t, in)
	}
	if err := v.mayAsk(ctx, in); err != nil {
		return wire.Entry{}, err
	}
	asked := storage.Project{} // as far as req goes, to be checked before anything is recorded
	if in.Note, err = checkConditions(scope, &req.Conditions); err != nil {
		return wire.Entry{}, err
	}
	conditions := len(in.Note) > 0
	maps.Copy(in.Note, changeTerms(&asked, req))
	if len(in.Note) == 0 {
		return wire.Entry{}, fault.New(fault.Invalid, op, "no term to change").WithHint("name at least one")
	}
	if err := checkTerms(&asked); err != nil {
		return wire.Entry{}, err
	}
	in.Note["scope"] = scope.String()
	if req.Delivery != nil {
		in.Fields = append(in.Fields, allowedDelivery(asked))
	}
	if asked.Region != "" {
		in.Fields = append(in.Fields, audit.StringField(audit.FieldRegion, asked.Region))
	}
	in.PolicyChange = true
	var p storage.Project
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) (err error) {
		if p, err = tx.Project(ctx, scope); err != nil {
			return missingRow("project", err)
		}
		if req.Region != nil && *req.Region != p.Region {
			if err := v.stays(ctx, tx, scope, *req.Region); err != nil {
				return err
			}
		}
		changeTerms(&p, req)
		p.Revision = tx.Revision
		if err := checkTerms(&p); err != nil {
			return err
		}
		if err := checkWhole(p); err != nil {
			return err
		}
		if conditions {
			if err := putConditions(ctx, tx, p.Slot, scope, req.Conditions); err != nil {
				return err
			}
		}
		return tx.PutProject(ctx, p)
	}
	terms, err := json.Marshal(req)
	if err != nil {
		return wire.Entry{}, fault.Wrap(fault.Internal, op, "cannot encode terms", err)
	}
	second, err := v.twoPeople(ctx, c, &in, map[string]string{"terms": string(terms)})
	if err != nil || second.Pending != nil {
		return wire.Entry{Scope: scope, Kind: "project", Created: t.row.CreatedAt, Pending: second.Pending}, err
	}
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return wire.Entry{}, err
	}
	return projectEntry(p, t.row), nil
}

// updateAsAsked is UpdateProject for what an approval was given for.
func (v *Vault) updateAsAsked(ctx context.Context, asker identity.Caller, scope dataset.Scope, terms map[string]string) error {
	var req wire.ProjectUpdate
	if err := json.Unmarshal([]byte(terms["terms"]), &req); err != nil {
		return fault.Wrap(fault.Corrupt, "vault.updateAsAsked", "the terms of a request are damaged", err)
	}
	_, err := v.UpdateProject(ctx, asker, scope, req)
	return err
}

// checkWhole wants what terms have to have together: a purpose, since each read
// states one, and for sensitive data the contract that it is processed under.
func checkWhole(p storage.Project) error {
	const op = "vault.checkWhole"
	if len(p.Purposes) == 0 {
		return fault.New(fault.Invalid, op, "a project has at least one purpose").WithHint("name it: --purpose labeling")
	}
	if p.Sensitive && strings.TrimSpace(p.Contract) == "" {
		return fault.New(fault.Invalid, op, "a project with sensitive data needs the reference of its contract").
			WithHint("give it: --contract REF")
	}
	return nil
}

// changeTerms gives what it has changed, in words for the sealed details.
func changeTerms(p *storage.Project, req wire.ProjectUpdate) map[string]string {
	note := map[string]string{}
	if req.Purposes != nil {
		p.Purposes = *req.Purposes
		note["purposes"] = strings.Join(p.Purposes, ",")
	}
	if req.Delivery != nil {
		p.Delivery = *req.Delivery
		note["delivery"] = strings.Join(textsOf(p.Delivery), ",")
	}
	if req.Consent != nil {
		p.Consent = *req.Consent
		note["consent"] = strings.Join(p.Consent, ",")
	}
	for _, text := range []struct {
		name string
		from *string
		to   *string
	}{
		{"region", req.Region, &p.Region}, {"contract", req.Contract, &p.Contract},
	} {
		if text.from != nil {
			*text.to = *text.from
			note[text.name] = *text.from
		}
	}
	if req.Claims != nil {
		p.Claims = *req.Claims
		note["claims"] = strconv.FormatBool(p.Claims)
	}
	if req.Sensitive != nil {
		p.Sensitive = *req.Sensitive
		note["sensitive"] = strconv.FormatBool(p.Sensitive)
	}
	return note
}

func textsOf[T ~string](list []T) []string {
	texts := make([]string, len(list))
	for i, t := range list {
		texts[i] = string(t)
	}
	return texts
}

// projectEntry is a project as listings show it.
func projectEntry(p storage.Project, row storage.ScopeRow) wire.Entry {
	return wire.Entry{
		Scope: p.Scope, Kind: "project", Created: row.CreatedAt, Purposes: p.Purposes, Consent: p.Consent, Region: p.Region,
		Delivery: p.Delivery, Sensitive: p.Sensitive, Claims: p.Claims,
	}
}
