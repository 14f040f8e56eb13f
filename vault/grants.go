package vault

import (
	"context"
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

// Grant gives a role at a scope. It holds from the moment that this returns; in a
// project with sensitive data, once another admin has approved.
func (v *Vault) Grant(ctx context.Context, c identity.Caller, req wire.Grant) (wire.Grant, error) {
	if err := scopeGiven("vault.Grant", req.Scope); err != nil {
		return wire.Grant{}, err
	}
	t, err := v.target(ctx, req.Scope)
	if err != nil {
		return wire.Grant{}, err
	}
	in := v.intent(c, audit.KindGrant, t, rbac.Grant, rbac.GrantObj)
	p, err := v.principal(ctx, c, req.Person, in)
	if err != nil {
		return wire.Grant{}, err
	}
	in.Query.Target = p.ID
	if !t.known {
		return wire.Grant{}, v.absent(ctx, t, in)
	}
	if err := v.mayAsk(ctx, in); err != nil {
		return wire.Grant{}, err
	}
	g, err := v.checkGrant(req, p)
	if err != nil {
		return wire.Grant{}, err
	}
	if err := v.boundContractor(ctx, &g); err != nil {
		return wire.Grant{}, err
	}
	g.By = c.Principal
	if in.Fields, err = v.about(ctx, t, p.ID, g.Until); err != nil {
		return wire.Grant{}, err
	}
	in.Fields = append(in.Fields, audit.StringField(audit.FieldRole, string(g.Role)), audit.BytesField(audit.FieldGrantID, g.ID[:]))
	in.Note = map[string]string{"person": p.Handle, "reason": g.Reason}
	in.PolicyChange = true
	in.Apply = func(ctx context.Context, tx *ledger.Tx, in *ledger.Intent) error {
		// A role takes something away only from somebody who has another one: they
		// may not go together, and a contractor may do less.
		others, err := tx.Grants(ctx, storage.GrantQuery{Principal: p.ID, Limit: 1})
		if err != nil {
			return err
		}
		in.Gives, g.At = len(others) == 0, tx.Now
		if err := tx.AddGrant(ctx, g, tx.Revision); err != nil {
			return err
		}
		return v.notify(ctx, tx, wire.NoticeGrant, g.Scope, wire.NoticeData{Role: g.Role, Until: timePtr(g.Until)})
	}
	second, err := v.twoPeople(ctx, c, &in, map[string]string{
		"role": string(g.Role), "person": p.Handle, "until": timeTerm(g.Until), "reason": g.Reason,
	})
	if err != nil {
		return wire.Grant{}, err
	}
	out := wireGrant(g, v.naming(p.ID, p.Handle, c))
	if out.Pending = second.Pending; out.Pending != nil {
		return out, nil
	}
	g.ApprovedBy = second.By
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return wire.Grant{}, err
	}
	out.At = timePtr(g.At)
	return out, nil
}

// scopeGiven refuses a change at a scope that was left out: it must not become one of
// the whole vault.
func scopeGiven(op string, scope dataset.Scope) error {
	if scope.IsZero() {
		return fault.New(fault.Invalid, op, "where? The scope is missing").WithHint("name it; the whole vault is /")
	}
	return nil
}

// grantAsAsked is Grant for what an approval was given for.
func (v *Vault) grantAsAsked(ctx context.Context, asker identity.Caller, scope dataset.Scope, person string, terms map[string]string) error {
	until, err := termTime(terms["until"])
	if err != nil {
		return err
	}
	_, err = v.Grant(ctx, asker, wire.Grant{Role: dataset.Role(terms["role"]), Person: person, Scope: scope, Until: until, Reason: terms["reason"]})
	return err
}

// timeTerm writes a time into the terms of a request, to the microsecond; the
// zero time is the empty text.
func timeTerm(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// termTime reads what timeTerm wrote.
func termTime(s string) (*time.Time, error) {
	if s == "" {
		return nil, nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return nil, fault.Wrap(fault.Corrupt, "vault.termTime", "a request has a damaged time", err)
	}
	return &t, nil
}

// checkGrant holds the rules about grants that need no table.
func (v *Vault) checkGrant(req wire.Grant, p storage.Principal) (dataset.Grant, error) {
	const op = "vault.Grant"
	role, err := dataset.ParseRole(string(req.Role))
	if err != nil {
		return dataset.Grant{}, err
	}
	until, err := v.until(req.Until)
	if err != nil {
		return dataset.Grant{}, err
	}
	if err := checkText("reason", req.Reason, wire.MaxReason); err != nil {
		return dataset.Grant{}, err
	}
	switch {
	case !p.Disabled.IsZero():
		return dataset.Grant{}, fault.New(fault.Conflict, op, p.Handle+" is disabled")
	case role == dataset.Contractor && until.IsZero():
		return dataset.Grant{}, fault.New(fault.Invalid, op, "a contractor's grant must have an end").WithHint("add --until, for example --until 30d")
	case role == dataset.ClientUser && req.Scope.Depth() == 0:
		return dataset.Grant{}, fault.New(fault.Invalid, op, "nobody is the client of the whole vault").WithHint("grant client at a client's scope, for example acme")
	case (role == dataset.Service) != p.Service:
		return dataset.Grant{}, fault.New(fault.Invalid, op, "the role service is for machine accounts, and the only one for them").
			WithHint("make a machine account with `dsvault person invite NAME --service`")
	}
	return dataset.Grant{
		ID: dataset.NewID[dataset.GrantID](v.random), Principal: p.ID, Role: role, Scope: req.Scope, Until: until, Reason: req.Reason,
	}, nil
}

// about gives the fields of a record about somebody: a pseudonym, and an end.
func (v *Vault) about(ctx context.Context, t target, who dataset.PrincipalID, until time.Time) ([]audit.Field, error) {
	tag, err := v.keys.Tag(ctx, who, t.row.Tag)
	if err != nil {
		return nil, err
	}
	fields := []audit.Field{audit.BytesField(audit.FieldSubjectTag, tag[:])}
	if !until.IsZero() {
		fields = append(fields, audit.Uint64Field(audit.FieldUntil, uint64(until.UnixMicro())))
	}
	return fields, nil
}

// Revoke ends a role at exactly this scope. After it has returned, no read that
// rests on it starts.
func (v *Vault) Revoke(ctx context.Context, c identity.Caller, role dataset.Role, person string, scope dataset.Scope) (wire.Revoked, error) {
	const op = "vault.Revoke"
	var out wire.Revoked
	t, err := v.target(ctx, scope)
	if err != nil {
		return out, err
	}
	in := v.intent(c, audit.KindRevoke, t, rbac.Revoke, rbac.GrantObj)
	p, err := v.principal(ctx, c, person, in)
	if err != nil {
		return out, err
	}
	in.Query.Target = p.ID
	if !t.known {
		return out, v.absent(ctx, t, in)
	}
	if in.Fields, err = v.about(ctx, t, p.ID, time.Time{}); err != nil {
		return out, v.unlessRefused(ctx, in, err)
	}
	in.Fields = append(in.Fields, audit.StringField(audit.FieldRole, string(role)))
	in.Note = map[string]string{"person": p.Handle}
	in.PolicyChange = true
	in.Apply = func(ctx context.Context, tx *ledger.Tx, in *ledger.Intent) error {
		ended, err := tx.EndGrants(ctx, p.ID, role, scope, tx.Now, tx.Revision)
		if err != nil {
			return err
		}
		if len(ended) == 0 {
			return fault.New(fault.NotFound, op, p.Handle+" has no such role at "+scope.String()).
				WithHint("a role is revoked where it was granted: see `dsvault roles`")
		}
		if role == dataset.Admin && scope == dataset.Root {
			if err := v.keepAdmin(ctx, tx, p.ID); err != nil {
				return err
			}
		}
		in.Fields = append(in.Fields, audit.Uint64Field(audit.FieldCount, uint64(len(ended))))
		out = wire.Revoked{Ended: len(ended), Revision: tx.Revision}
		return nil
	}
	_, err = v.ledger.Record(ctx, in)
	return out, err
}

// Grants lists the grants in force at a scope and below it, for those who may
// read them there. Asked about the whole vault, everybody else gets their own.
func (v *Vault) Grants(ctx context.Context, c identity.Caller, scope dataset.Scope, after string, limit int) (wire.Page[wire.Grant], error) {
	page := wire.Page[wire.Grant]{Items: []wire.Grant{}}
	t, err := v.target(ctx, scope)
	if err != nil {
		return page, err
	}
	q := storage.GrantQuery{Under: t.scope, Limit: clip(limit, wire.MaxPage)}
	if after != "" {
		if q.After, err = dataset.ParseID[dataset.GrantID](after); err != nil {
			return page, err
		}
	}
	in := v.intent(c, audit.KindList, t, rbac.Read, rbac.GrantObj)
	all, err := v.allowed(ctx, in.Query)
	if err != nil {
		return page, err
	}
	if t.scope == dataset.Root && !all {
		q.Principal = c.Principal
	} else if _, err := v.ledger.Check(ctx, in); err != nil {
		return page, err
	} else if !t.known {
		return page, ledger.Absent()
	}
	now := v.now()
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		rows, err := tx.Grants(ctx, q)
		if err != nil {
			return err
		}
		people := make([]dataset.PrincipalID, 0, 2*len(rows))
		for _, g := range rows {
			people = append(people, g.Principal, g.By)
		}
		names, err := v.namesOf(ctx, tx, people)
		if err != nil {
			return err
		}
		for _, g := range rows {
			if g.InForce(now) {
				page.Items = append(page.Items, wireGrant(g, names))
			}
		}
		if len(rows) == q.Limit {
			page.Next = rows[len(rows)-1].ID.String()
		}
		return err
	})
	return page, err
}

// allowed asks without recording anything. An error is no answer.
func (v *Vault) allowed(ctx context.Context, q rbac.Query) (bool, error) {
	d, err := v.decide(ctx, q)
	return d.Allowed, err
}

// Assign gives shards of a dataset to a person, of whichever version. As with
// Grant, sensitive data takes another admin's approval.
func (v *Vault) Assign(ctx context.Context, c identity.Caller, req wire.Assignment) (wire.Assignment, error) {
	t, err := v.target(ctx, req.Dataset)
	if err != nil {
		return wire.Assignment{}, err
	}
	in := v.intent(c, audit.KindAssign, t, rbac.Assign, rbac.AssignmentObj)
	p, err := v.principal(ctx, c, req.Person, in)
	if err != nil {
		return wire.Assignment{}, err
	}
	in.Query.Target = p.ID
	if !t.known || t.scope.Depth() != 3 {
		return wire.Assignment{}, v.absent(ctx, t, in)
	}
	if err := v.mayAsk(ctx, in); err != nil {
		return wire.Assignment{}, err
	}
	until, err := v.until(req.Until)
	if err != nil {
		return wire.Assignment{}, err
	}
	a := dataset.Assignment{
		ID: dataset.NewID[dataset.AssignmentID](v.random), Principal: p.ID, Dataset: t.row.Tag, Scope: t.scope,
		Shards: req.Shards, Until: until, By: c.Principal,
	}
	if in.Fields, err = v.about(ctx, t, p.ID, until); err != nil {
		return wire.Assignment{}, err
	}
	in.Fields = append(in.Fields, shardSetField(a.Shards), audit.BytesField(audit.FieldAssignmentID, a.ID[:]))
	in.Note = map[string]string{"person": p.Handle}
	in.PolicyChange, in.Gives = true, true
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		if err := checkAssignable(ctx, tx.Tx, a, p); err != nil {
			return err
		}
		a.At = tx.Now
		return tx.AddAssignment(ctx, a, tx.Revision)
	}
	// Nobody is to approve what cannot be done.
	err = v.db.View(ctx, func(tx *catalog.Tx) error { return checkAssignable(ctx, tx, a, p) })
	if err != nil {
		return wire.Assignment{}, err
	}
	second, err := v.twoPeople(ctx, c, &in, map[string]string{"person": p.Handle, "shards": a.Shards.String(), "until": timeTerm(a.Until)})
	if err != nil {
		return wire.Assignment{}, err
	}
	out := wireAssignment(a, v.naming(p.ID, p.Handle, c))
	if out.Pending = second.Pending; out.Pending != nil {
		return out, nil
	}
	a.ApprovedBy = second.By
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return wire.Assignment{}, err
	}
	out.At = timePtr(a.At)
	return out, nil
}

// assignAsAsked is Assign for what an approval was given for.
func (v *Vault) assignAsAsked(ctx context.Context, asker identity.Caller, scope dataset.Scope, person string, terms map[string]string) error {
	until, err := termTime(terms["until"])
	if err != nil {
		return err
	}
	shards, err := dataset.ParseShardSet(terms["shards"])
	if err != nil {
		return err
	}
	_, err = v.Assign(ctx, asker, wire.Assignment{Dataset: scope, Person: person, Shards: shards, Until: until})
	return err
}

func checkAssignable(ctx context.Context, tx *catalog.Tx, a dataset.Assignment, p storage.Principal) error {
	const op = "vault.Assign"
	d, err := tx.Dataset(ctx, a.Scope)
	if err != nil {
		return missingRow("dataset", err)
	}
	switch {
	case !p.Disabled.IsZero():
		return fault.New(fault.Conflict, op, p.Handle+" is disabled")
	case p.Service:
		return fault.New(fault.Invalid, op, "shards are assigned to people, not to machine accounts")
	case len(a.Shards) == 0:
		return fault.New(fault.Invalid, op, "no shards named").WithHint("name them with --shards, for example 0-3,7")
	case !d.Complete:
		return fault.New(fault.Conflict, op, "the upload of this dataset is not complete").WithHint("finish it with `dsvault push` first")
	}
	_, have, _, _, err := tx.ShardSum(ctx, d.ID, a.Shards)
	if err == nil && have != a.Shards.Len() {
		err = fault.New(fault.Invalid, op, "the dataset has no such shard").WithHint("`dsvault ls " + a.Scope.String() + "` shows which it has")
	}
	return err
}

// shardSetField names the shards in a leaf. A set that is too long to fit ends
// in an ellipsis, between two ranges; the whole of it stands in the catalog.
func shardSetField(s dataset.ShardSet) audit.Field {
	const most = 1024
	text := s.String()
	if len(text) > most {
		text = text[:strings.LastIndexByte(text[:most], ',')+1] + "…"
	}
	return audit.StringField(audit.FieldShardSet, text)
}

// Unassign takes shards away; nil means all of the dataset.
func (v *Vault) Unassign(ctx context.Context, c identity.Caller, ds dataset.Scope, person string, shards dataset.ShardSet) (wire.Revoked, error) {
	var out wire.Revoked
	t, err := v.target(ctx, ds)
	if err != nil {
		return out, err
	}
	in := v.intent(c, audit.KindUnassign, t, rbac.Revoke, rbac.AssignmentObj)
	p, err := v.principal(ctx, c, person, in)
	if err != nil {
		return out, err
	}
	in.Query.Target = p.ID
	if !t.known || t.scope.Depth() != 3 {
		return out, v.absent(ctx, t, in)
	}
	if in.Fields, err = v.about(ctx, t, p.ID, time.Time{}); err != nil {
		return out, v.unlessRefused(ctx, in, err)
	}
	if shards != nil {
		in.Fields = append(in.Fields, shardSetField(shards))
	}
	in.Note = map[string]string{"person": p.Handle}
	in.PolicyChange = true
	in.Apply = func(ctx context.Context, tx *ledger.Tx, in *ledger.Intent) error {
		ended, _, err := tx.EndAssignments(ctx, t.row.Tag, p.ID, shards, tx.Now, tx.Revision,
			func() dataset.AssignmentID { return dataset.NewID[dataset.AssignmentID](v.random) })
		if err != nil {
			return err
		}
		if len(ended) == 0 {
			return fault.New(fault.NotFound, "vault.Unassign", p.Handle+" has no such shards of this dataset").
				WithHint("`dsvault assignments` shows who has what")
		}
		in.Fields = append(in.Fields, audit.Uint64Field(audit.FieldCount, uint64(len(ended))))
		out = wire.Revoked{Ended: len(ended), Revision: tx.Revision}
		return nil
	}
	_, err = v.ledger.Record(ctx, in)
	return out, err
}

// Assignments lists the assignments in force below a scope: everybody's for
// those who may read them there, otherwise the caller's own.
func (v *Vault) Assignments(ctx context.Context, c identity.Caller, scope dataset.Scope, person, after string, limit int) (wire.Page[wire.Assignment], error) {
	page := wire.Page[wire.Assignment]{Items: []wire.Assignment{}}
	t, err := v.target(ctx, scope)
	if err != nil {
		return page, err
	}
	q := storage.AssignmentQuery{Under: t.scope, Limit: clip(limit, wire.MaxPage)}
	if after != "" {
		if q.After, err = dataset.ParseID[dataset.AssignmentID](after); err != nil {
			return page, err
		}
	}
	in := v.intent(c, audit.KindList, t, rbac.Read, rbac.AssignmentObj)
	all, err := v.allowed(ctx, in.Query)
	if err != nil {
		return page, err
	}
	switch {
	case person == "me" || person == c.Handle || person == "" && !all:
		q.Principal = c.Principal
	case person != "":
		p, err := v.principal(ctx, c, person, in)
		if err != nil {
			return page, err
		}
		if _, err := v.ledger.Check(ctx, in); err != nil {
			return page, err
		}
		q.Principal = p.ID
	}
	now := v.now()
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		rows, err := tx.Assignments(ctx, q)
		if err != nil {
			return err
		}
		people := make([]dataset.PrincipalID, 0, 2*len(rows))
		for _, a := range rows {
			people = append(people, a.Principal, a.By)
		}
		names, err := v.namesOf(ctx, tx, people)
		if err != nil {
			return err
		}
		for _, a := range rows {
			shown := a.InForce(now)
			if shown && !all {
				if shown, err = v.ownAssignment(ctx, c, a); err != nil {
					return err
				}
			}
			if shown {
				page.Items = append(page.Items, wireAssignment(a, names))
			}
		}
		if len(rows) == q.Limit {
			page.Next = rows[len(rows)-1].ID.String()
		}
		return err
	})
	if err == nil && len(page.Items) == 0 && page.Next == "" && !all && t.scope != dataset.Root {
		_, err = v.ledger.Check(ctx, in) // the caller has nothing here: absent and hidden look the same
		if err == nil {
			err = ledger.Absent()
		}
	}
	return page, err
}

func (v *Vault) ownAssignment(ctx context.Context, c identity.Caller, a dataset.Assignment) (bool, error) {
	return v.allowed(ctx, rbac.Query{Actor: c.Principal, Action: rbac.Read,
		Object: rbac.Object{Kind: rbac.AssignmentObj, Scope: a.Scope, Shard: -1, Owner: a.Principal}})
}

// naming resolves just the people that an operation knows already.
func (v *Vault) naming(id dataset.PrincipalID, handle string, c identity.Caller) func(dataset.PrincipalID) string {
	return func(who dataset.PrincipalID) string {
		switch who {
		case id:
			return handle
		case c.Principal:
			return c.Handle
		}
		return ""
	}
}

func wireGrant(g dataset.Grant, name func(dataset.PrincipalID) string) wire.Grant {
	return wire.Grant{Role: g.Role, Person: name(g.Principal), Scope: g.Scope, Until: timePtr(g.Until),
		Reason: g.Reason, By: name(g.By), At: timePtr(g.At)}
}

func wireAssignment(a dataset.Assignment, name func(dataset.PrincipalID) string) wire.Assignment {
	return wire.Assignment{Dataset: a.Scope, Person: name(a.Principal), Shards: a.Shards, Until: timePtr(a.Until),
		By: name(a.By), At: timePtr(a.At), Claim: a.Claim}
}
