package vault

import (
	"context"
	"crypto/sha256"
	"encoding/json"
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
	requestLife  = 7 * 24 * time.Hour // how long a request waits for a second person
	approvalLife = 3 * 24 * time.Hour // how long an approval may wait to be used
	maxRequests  = 100                // open ones of one person
)

// second is what came of asking for a second person.
type second struct {
	// Pending: nobody has approved yet. Do nothing, and give it to the caller.
	Pending *wire.Approval
	// By is who has approved; zero: nobody had to.
	By dataset.PrincipalID
}

// twoPeople is for an operation that the policy makes depend on the fact dual.
// Call it after everything else was checked, and right before
// v.ledger.Record(ctx, in), like this:
//
//	second, err := v.twoPeople(ctx, c, &in, map[string]string{"reason": req.Reason})
//	if err != nil || second.Pending != nil {
//		return wire.Released{Pending: second.Pending}, err
//	}
//	_, err = v.ledger.Record(ctx, in)
//
// terms are what in.Query does not say of what is asked for: an approval is good
// for exactly these, for in.Query's actor, action, object and target, and once:
// it is used up in in's own transaction, where the record gets its ID and who
// has approved. Where the policy allows the operation without an approval it
// does nothing. Where that is all that is missing it asks for one, on record, and
// gives it as Pending, the same one however often it is called. Otherwise it
// gives the refusal. in.Apply must be set before.
//
// Approve does what was asked for at once if carryOut knows how; otherwise
// whoever asked repeats the operation while the approval holds.
func (v *Vault) twoPeople(ctx context.Context, c identity.Caller, in *ledger.Intent, terms map[string]string) (second, error) {
	return v.twoPeopleWithheld(ctx, c, in, terms, time.Time{})
}

// twoPeopleWithheld is twoPeople for what a client is not told of until a time;
// then in.Place has to be the vault's own.
func (v *Vault) twoPeopleWithheld(ctx context.Context, c identity.Caller, in *ledger.Intent, terms map[string]string, withheld time.Time) (second, error) {
	encoded, err := json.Marshal(terms) // its keys are in order
	if err != nil {
		return second{}, fault.Wrap(fault.Internal, "vault.twoPeople", "cannot encode terms", err)
	}
	in.Query.Terms = sha256.Sum256(append([]byte("dsvault/terms/v1\n"), encoded...))
	if err := v.mayAsk(ctx, *in); err != nil {
		return second{}, err
	}
	needs, err := v.needsDual(ctx, in.Query)
	if err != nil {
		return second{}, err
	}
	if needs {
		pending, err := v.request(ctx, c, *in, terms, withheld)
		return second{Pending: &pending}, err
	}
	a, err := v.askedApproval(ctx, in.Query)
	if errors.Is(err, storage.ErrNoRow) || err == nil && a.State != storage.ApprovalGiven {
		return second{}, nil // it takes no second person here
	}
	if err != nil {
		return second{}, err
	}
	tag, err := v.tagOf(ctx, a.DecidedBy, in.Place.Tag)
	if err != nil {
		return second{}, err
	}
	in.Fields = append(in.Fields, audit.BytesField(audit.FieldApprovalID, a.ID[:]), audit.BytesField(audit.FieldApproverTag, tag[:]))
	in.PolicyChange = true
	apply := in.Apply
	in.Apply = func(ctx context.Context, tx *ledger.Tx, in *ledger.Intent) error {
		if err := tx.UseApproval(ctx, a.ID, tx.Now, tx.Revision); err != nil {
			if errors.Is(err, storage.ErrNoRow) {
				err = fault.Wrap(fault.Conflict, "vault.twoPeople", "the approval was used just now", err)
			}
			return err
		}
		if apply == nil {
			return nil
		}
		return apply(ctx, tx, in)
	}
	return second{By: a.DecidedBy}, nil
}

// tagOf is somebody's pseudonym at a slot's tag; of who was anonymised, none.
func (v *Vault) tagOf(ctx context.Context, who dataset.PrincipalID, tag [16]byte) ([16]byte, error) {
	t, err := v.keys.Tag(ctx, who, tag)
	if errors.Is(err, ledger.ErrForgotten) {
		return [16]byte{}, nil
	}
	return t, err
}

// mayAsk is Check for an operation that may need a second person: it lets pass
// whom nothing else is missing.
func (v *Vault) mayAsk(ctx context.Context, in ledger.Intent) error {
	if err := v.ledger.CatchUp(ctx); err != nil {
		return err
	}
	needs, err := v.needsDual(ctx, in.Query)
	if needs || err != nil {
		return err
	}
	_, err = v.ledger.Check(ctx, in)
	return err
}

// needsDual reports whether q is refused for want of a second person's approval and
// of nothing else. An error is no answer.
func (v *Vault) needsDual(ctx context.Context, q rbac.Query) (bool, error) {
	q.Now = v.now()
	return v.ledger.NeedsDual(ctx, q)
}

func askedOf(q rbac.Query) storage.Asked {
	return storage.Asked{Requester: q.Actor, Action: string(q.Action), Kind: string(q.Object.Kind), Scope: q.Object.Scope,
		Target: q.Target, TermsHash: q.Terms}
}

// askedApproval finds the approval of a question that is open or given.
func (v *Vault) askedApproval(ctx context.Context, q rbac.Query) (a storage.Approval, err error) {
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		a, err = tx.AskedApproval(ctx, askedOf(q), v.now())
		return err
	})
	return a, err
}

// sealedTerms are what a request is about, as they are kept: the requester's and
// the client's words.
type sealedTerms struct {
	Approval dataset.ApprovalID `json:"approval"` // so that no other's can stand in for them
	Terms    map[string]string  `json:"terms"`
}

// request asks for a second person's approval of in, or gives the request that
// is open already.
func (v *Vault) request(ctx context.Context, c identity.Caller, of ledger.Intent, terms map[string]string, withheld time.Time) (wire.Approval, error) {
	a, err := v.askedApproval(ctx, of.Query)
	if err == nil || !errors.Is(err, storage.ErrNoRow) {
		if err != nil {
			return wire.Approval{}, err
		}
		return v.wireApproval(ctx, a)
	}
	q := of.Query
	a = storage.Approval{
		ID: dataset.NewID[dataset.ApprovalID](v.random), Requester: c.Principal, Action: string(q.Action), Kind: string(q.Object.Kind),
		Scope: q.Object.Scope, Target: q.Target, TermsHash: q.Terms, State: storage.ApprovalOpen, Withheld: withheld,
	}
	data, err := json.Marshal(sealedTerms{a.ID, terms})
	if err == nil {
		a.Terms, err = v.keys.SealProfile(ctx, c.Principal, data)
	}
	if err != nil {
		return wire.Approval{}, err
	}
	in := ledger.Intent{
		Kind: audit.KindApprovalRequest, Actor: c.Actor, Place: of.Place, Own: true,
		Object: audit.Object{Kind: audit.ObjectApproval, ID: a.ID},
		Fields: []audit.Field{audit.StringField(audit.FieldAction, a.Action+" "+a.Kind)}, Note: map[string]string{},
	}
	for name, term := range terms {
		in.Note[name] = term
	}
	if !q.Target.IsZero() {
		tag, err := v.tagOf(ctx, q.Target, of.Place.Tag)
		if err != nil {
			return wire.Approval{}, err
		}
		in.Fields = append(in.Fields, audit.BytesField(audit.FieldSubjectTag, tag[:]))
	}
	in.Apply = func(ctx context.Context, tx *ledger.Tx, in *ledger.Intent) error {
		open, err := tx.Approvals(ctx, storage.ApprovalQuery{State: storage.ApprovalOpen, Requester: c.Principal, Now: tx.Now, Limit: maxRequests})
		if err != nil {
			return err
		}
		if len(open) >= maxRequests {
			return fault.New(fault.Conflict, "vault.request", "too many requests of yours are open").
				WithHint("take some back: `dsvault approvals`, `dsvault refuse ID`")
		}
		a.RequestedAt, a.Expires = tx.Now, tx.Now.Add(requestLife)
		in.Fields = append(in.Fields, audit.Uint64Field(audit.FieldUntil, uint64(a.Expires.UnixMicro())))
		return tx.AddApproval(ctx, a)
	}
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return wire.Approval{}, err
	}
	return v.wireApproval(ctx, a)
}

// terms opens what a request is about; of somebody who was anonymised nothing
// is left.
func (v *Vault) terms(ctx context.Context, a storage.Approval) (map[string]string, error) {
	if len(a.Terms) == 0 {
		return nil, nil
	}
	data, err := v.keys.OpenProfile(ctx, a.Requester, a.Terms)
	if errors.Is(err, ledger.ErrForgotten) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var kept sealedTerms
	if err := json.Unmarshal(data, &kept); err != nil || kept.Approval != a.ID {
		return nil, fault.Wrap(fault.Corrupt, "vault.terms", "the terms of a request are damaged", err)
	}
	return kept.Terms, nil
}

func (v *Vault) wireApproval(ctx context.Context, a storage.Approval) (wire.Approval, error) {
	out := wire.Approval{ID: a.ID, State: string(a.State), Action: a.Action, Kind: a.Kind, Scope: a.Scope,
		Asked: a.RequestedAt.UTC(), Decided: timePtr(a.DecidedAt), Used: timePtr(a.UsedAt)}
	var lapses time.Time
	switch a.State {
	case storage.ApprovalOpen:
		lapses = a.Expires
	case storage.ApprovalGiven:
		lapses = a.Until
	}
	if out.Expires = timePtr(lapses); out.Expires != nil && !v.now().Before(lapses) {
		out.State = "expired"
	}
	var err error
	if out.Terms, err = v.terms(ctx, a); err != nil {
		return out, err
	}
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		names := v.names(ctx, tx)
		out.By, out.Person, out.Second = names(a.Requester), names(a.Target), names(a.DecidedBy)
		return nil
	})
	return out, err
}

// deciding is what it takes to decide about a request.
func (v *Vault) deciding(ctx context.Context, c identity.Caller, id dataset.ApprovalID, kind audit.Kind) (ledger.Intent, storage.Approval, error) {
	var a storage.Approval
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		a, err = tx.Approval(ctx, id)
		return err
	})
	if errors.Is(err, storage.ErrNoRow) {
		return ledger.Intent{}, a, ledger.Absent()
	}
	if err != nil {
		return ledger.Intent{}, a, err
	}
	t, err := v.target(ctx, a.Scope)
	if err != nil {
		return ledger.Intent{}, a, err
	}
	in := v.intent(c, kind, t, rbac.Approve, rbac.Approval)
	in.Query.Object.Owner, in.Query.Target, in.Query.Asked = a.Requester, a.Target, rbac.Action(a.Action)
	in.Object = audit.Object{Kind: audit.ObjectApproval, ID: a.ID}
	in.Fields = []audit.Field{audit.StringField(audit.FieldAction, a.Action+" "+a.Kind)}
	if !a.Withheld.IsZero() { // it is recorded where the client does not look
		root, err := v.root(ctx)
		if err != nil {
			return in, a, err
		}
		hidden, err := v.hides(ctx, c, a)
		if hidden {
			err = ledger.Absent()
		}
		if err != nil {
			return in, a, err
		}
		in.Place = root.place()
	}
	tag, err := v.tagOf(ctx, a.Requester, in.Place.Tag)
	if err == nil {
		in.Fields = append(in.Fields, audit.BytesField(audit.FieldSubjectTag, tag[:]))
	}
	return in, a, err
}

// hides reports whether somebody is not to know of a request, yet.
func (v *Vault) hides(ctx context.Context, c identity.Caller, a storage.Approval) (bool, error) {
	if !v.now().Before(a.Withheld) {
		return false, nil
	}
	return v.withholds(ctx, c, a.Scope)
}

// Approve is the word of the second person on exactly what was asked for. What
// can be done at once is done, in the name of whoever asked.
func (v *Vault) Approve(ctx context.Context, c identity.Caller, id dataset.ApprovalID) (wire.Approval, error) {
	in, a, err := v.deciding(ctx, c, id, audit.KindApprove)
	if err != nil {
		return wire.Approval{}, err
	}
	if a.State == storage.ApprovalGiven { // approved before, and not carried out: it may be now
		if _, err := v.ledger.Check(ctx, in); err != nil {
			return wire.Approval{}, err
		}
		return v.carry(ctx, c, a)
	}
	in.PolicyChange, in.Gives = true, true
	in.Apply = func(ctx context.Context, tx *ledger.Tx, in *ledger.Intent) error {
		if a, err = tx.Approval(ctx, id); err != nil {
			return missingRow("approval", err)
		}
		if err := stillOpen(a, tx.Now); err != nil {
			return err
		}
		a.State, a.DecidedAt, a.DecidedBy = storage.ApprovalGiven, tx.Now, c.Principal
		a.Until, a.Revision = tx.Now.Add(approvalLife), tx.Revision
		in.Fields = append(in.Fields, audit.Uint64Field(audit.FieldUntil, uint64(a.Until.UnixMicro())))
		return tx.DecideApproval(ctx, a)
	}
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return wire.Approval{}, err
	}
	return v.carry(ctx, c, a)
}

func stillOpen(a storage.Approval, now time.Time) error {
	state := string(a.State)
	if a.State == storage.ApprovalOpen {
		if now.Before(a.Expires) {
			return nil
		}
		state = "expired"
	}
	return fault.New(fault.Conflict, "vault.stillOpen", "this request is not open any more: "+state).
		WithHint("`dsvault approvals --state all` shows what became of it; who wants it asks again")
}

// carry does what was approved, where it can be done without who has asked.
func (v *Vault) carry(ctx context.Context, c identity.Caller, a storage.Approval) (wire.Approval, error) {
	terms, err := v.terms(ctx, a)
	if err != nil {
		return wire.Approval{}, err
	}
	var requester, person storage.Principal
	err = v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		if requester, err = tx.Principal(ctx, a.Requester); err != nil || a.Target.IsZero() {
			return err
		}
		person, err = tx.Principal(ctx, a.Target)
		return err
	})
	if err != nil {
		return wire.Approval{}, missingRow("request", err)
	}
	asker := identity.Caller{Actor: ledger.Actor{Principal: requester.ID, Handle: requester.Handle, Request: c.Request}, Service: requester.Service}
	if err := v.carryOut(ctx, asker, a, person.Handle, terms); err != nil {
		var why *fault.Error
		if !errors.As(err, &why) || why.Code == fault.Internal {
			return wire.Approval{}, err
		}
		failed := fault.Wrap(why.Code, "vault.carry", "approved, but it could not be carried out: "+why.Message, err).
			WithHint("once that is mended, `dsvault approve " + a.ID.String() + "` again carries it out")
		failed.Reasons = why.Reasons
		return wire.Approval{}, failed
	}
	err = v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		a, err = tx.Approval(ctx, a.ID)
		return err
	})
	if err != nil {
		return wire.Approval{}, err
	}
	return v.wireApproval(ctx, a)
}

// carryOut does in asker's name what was asked for, with its own decision and
// record. What is not here is repeated by who has asked.
func (v *Vault) carryOut(ctx context.Context, asker identity.Caller, a storage.Approval, person string, terms map[string]string) error {
	switch (asks{rbac.Action(a.Action), rbac.Kind(a.Kind)}) {
	case asks{rbac.Grant, rbac.GrantObj}:
		return v.grantAsAsked(ctx, asker, a.Scope, person, terms)
	case asks{rbac.Assign, rbac.AssignmentObj}:
		return v.assignAsAsked(ctx, asker, a.Scope, person, terms)
	case asks{rbac.Disclose, rbac.Dataset}:
		return v.discloseAsAsked(ctx, asker, a.Scope, terms)
	case asks{rbac.Update, rbac.Project}:
		return v.updateAsAsked(ctx, asker, a.Scope, terms)
	case asks{rbac.Destroy, rbac.Key}, asks{rbac.Delete, rbac.Dataset}:
		return v.eraseAsAsked(ctx, asker, a.Scope, terms)
	case asks{rbac.Release, rbac.Dataset}:
		return v.releaseAsAsked(ctx, asker, terms)
	}
	return nil
}

// asks is what a request wants done to what.
type asks struct {
	action rbac.Action
	kind   rbac.Kind
}

// Refuse is the second person's no; who has asked takes the request back.
func (v *Vault) Refuse(ctx context.Context, c identity.Caller, id dataset.ApprovalID, req wire.Refusal) (wire.Approval, error) {
	in, a, err := v.deciding(ctx, c, id, audit.KindApprovalRefuse)
	if err != nil {
		return wire.Approval{}, err
	}
	state := storage.ApprovalRefused
	if a.Requester == c.Principal {
		state, in.Own, in.Query = storage.ApprovalWithdrawn, true, rbac.Query{}
	} else if _, err := v.ledger.Check(ctx, in); err != nil {
		return wire.Approval{}, err
	}
	if err := checkText("reason", req.Reason, wire.MaxReason); err != nil {
		return wire.Approval{}, err
	}
	in.Fields = append(in.Fields, audit.StringField(audit.FieldCause, string(state)))
	in.Note = map[string]string{"reason": req.Reason}
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		if a, err = tx.Approval(ctx, id); err != nil {
			return missingRow("approval", err)
		}
		if err := stillOpen(a, tx.Now); err != nil {
			return err
		}
		a.State, a.DecidedAt, a.DecidedBy = state, tx.Now, c.Principal
		return tx.DecideApproval(ctx, a)
	}
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return wire.Approval{}, err
	}
	return v.wireApproval(ctx, a)
}

// whoseApprovals says whose approvals, and what goes with them, somebody sees at
// a scope: the zero ID for everybody's. Their own are listed for the whole vault.
func (v *Vault) whoseApprovals(ctx context.Context, c identity.Caller, t target) (dataset.PrincipalID, error) {
	in := v.intent(c, audit.KindList, t, rbac.Read, rbac.Approval)
	all, err := v.allowed(ctx, in.Query)
	if err != nil {
		return dataset.PrincipalID{}, err
	}
	if t.scope == dataset.Root && !all {
		return c.Principal, nil
	}
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return dataset.PrincipalID{}, err
	}
	if !t.known {
		return dataset.PrincipalID{}, ledger.Absent()
	}
	return dataset.PrincipalID{}, nil
}

// Approvals lists requests at a scope and below it, the newest first: everybody's
// for those who may read them there; asked about the whole vault, everybody else
// gets their own.
func (v *Vault) Approvals(ctx context.Context, c identity.Caller, scope dataset.Scope, state, before string, limit int) (wire.Page[wire.Approval], error) {
	page := wire.Page[wire.Approval]{Items: []wire.Approval{}}
	t, err := v.target(ctx, scope)
	if err != nil {
		return page, err
	}
	q := storage.ApprovalQuery{Under: t.scope, State: storage.ApprovalState(state), Now: v.now(), Limit: clip(limit, wire.MaxPage)}
	if before != "" {
		if q.Before, err = dataset.ParseID[dataset.ApprovalID](before); err != nil {
			return page, err
		}
	}
	if q.Requester, err = v.whoseApprovals(ctx, c, t); err != nil {
		return page, err
	}
	var rows []storage.Approval
	err = v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		rows, err = tx.Approvals(ctx, q)
		return err
	})
	if err != nil {
		return page, err
	}
	for _, a := range rows {
		hidden, err := v.hides(ctx, c, a)
		if err != nil {
			return page, err
		}
		if hidden {
			continue
		}
		out, err := v.wireApproval(ctx, a)
		if err != nil {
			return page, err
		}
		page.Items = append(page.Items, out)
	}
	if len(rows) == q.Limit {
		page.Next = rows[len(rows)-1].ID.String()
	}
	return page, nil
}

// Approval gives one request, to who asked and to those who may read it.
func (v *Vault) Approval(ctx context.Context, c identity.Caller, id dataset.ApprovalID) (wire.Approval, error) {
	in, a, err := v.deciding(ctx, c, id, audit.KindList)
	if err != nil {
		return wire.Approval{}, err
	}
	if a.Requester != c.Principal {
		in.Query.Action = rbac.Read
		if _, err := v.ledger.Check(ctx, in); err != nil {
			return wire.Approval{}, err
		}
	}
	return v.wireApproval(ctx, a)
}
