package vault

import (
	"context"
	"errors"
	"slices"
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

// subject is the intent to do something to what is held about a person, who is
// found by handle; "" and "me" are oneself. The person's name is in the sealed
// note, for as long as they are not forgotten.
func (v *Vault) subject(ctx context.Context, c identity.Caller, handle string, kind audit.Kind, act rbac.Action, obj rbac.Kind) (ledger.Intent, storage.Principal, error) {
	root, err := v.root(ctx)
	if err != nil {
		return ledger.Intent{}, storage.Principal{}, err
	}
	in := v.intent(c, kind, root, act, obj)
	if handle == "" {
		handle = "me"
	}
	p, err := v.principal(ctx, c, handle, in)
	if err != nil {
		return in, p, err
	}
	in.Query.Target = p.ID
	in.Object = audit.Object{Kind: audit.ObjectPerson, ID: p.ID}
	if p.ID != c.Principal {
		in.Note = map[string]string{"person": p.Handle}
	}
	in.Fields, err = v.about(ctx, root, p.ID, time.Time{})
	if errors.Is(err, ledger.ErrForgotten) { // nothing of theirs is left to be changed
		err = v.unlessRefused(ctx, in, err)
	}
	return in, p, err
}

// Subject says what somebody has decided about their own data, and what holds for
// it.
func (v *Vault) Subject(ctx context.Context, c identity.Caller, handle string) (wire.Subject, error) {
	in, p, err := v.subject(ctx, c, handle, audit.KindList, rbac.Read, rbac.Subject)
	if err == nil {
		_, err = v.ledger.Check(ctx, in)
	}
	if err != nil {
		return wire.Subject{}, err
	}
	return v.subjectNow(ctx, c, p.ID)
}

func (v *Vault) subjectNow(ctx context.Context, c identity.Caller, who dataset.PrincipalID) (wire.Subject, error) {
	out := wire.Subject{Choices: []wire.SubjectChoice{}}
	var p storage.Principal
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		if p, err = tx.Principal(ctx, who); err != nil {
			return err
		}
		list, err := tx.Choices(ctx, who)
		for _, choice := range list {
			out.Choices = append(out.Choices, wire.SubjectChoice{
				Kind: choice.Kind, Purpose: choice.Purpose, At: choice.At, Ended: timePtr(choice.Ended),
			})
		}
		return err
	})
	if err != nil {
		return out, err
	}
	out.Person, out.Restricted = p.Handle, timePtr(p.Restricted)
	if p.Restricted.IsZero() || p.ID == c.Principal {
		profile, err := v.profile(ctx, p)
		if err != nil {
			return out, err
		}
		out.Name, out.Email = profile.Name, profile.Email
	}
	return out, nil
}

// CorrectSubject changes what is kept of somebody. What it was before is not
// kept.
func (v *Vault) CorrectSubject(ctx context.Context, c identity.Caller, handle string, req wire.PersonUpdate) (wire.Person, error) {
	in, p, err := v.subject(ctx, c, handle, audit.KindSubjectCorrect, rbac.Update, rbac.Subject)
	if err != nil {
		return wire.Person{}, err
	}
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return wire.Person{}, err
	}
	if req == (wire.PersonUpdate{}) {
		return wire.Person{}, fault.New(fault.Invalid, "vault.CorrectSubject", "nothing to correct").WithHint("name at least one field")
	}
	return v.updateProfile(ctx, in, p, req)
}

// RestrictSubject restricts the processing of somebody's data: it is kept, and
// not worked with, until LiftRestriction. Reads of theirs that run are cut.
func (v *Vault) RestrictSubject(ctx context.Context, c identity.Caller, handle string, req wire.Restriction) (wire.Subject, error) {
	return v.setRestricted(ctx, c, handle, req, audit.KindRestrict, rbac.Restrict)
}

// LiftRestriction ends the restriction of somebody's data.
func (v *Vault) LiftRestriction(ctx context.Context, c identity.Caller, handle string, req wire.Restriction) (wire.Subject, error) {
	return v.setRestricted(ctx, c, handle, req, audit.KindLift, rbac.Release)
}

func (v *Vault) setRestricted(ctx context.Context, c identity.Caller, handle string, req wire.Restriction, kind audit.Kind, act rbac.Action) (wire.Subject, error) {
	const op = "vault.setRestricted"
	in, p, err := v.subject(ctx, c, handle, kind, act, rbac.Subject)
	if err != nil {
		return wire.Subject{}, err
	}
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return wire.Subject{}, err
	}
	if err := checkText("reason", req.Reason, wire.MaxReason); err != nil {
		return wire.Subject{}, err
	}
	in.Note = withReason(in.Note, req.Reason)
	in.PolicyChange = true
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		row, err := tx.Principal(ctx, p.ID)
		if err != nil {
			return err
		}
		at := tx.Now
		if act == rbac.Release {
			at = time.Time{}
		}
		if row.Restricted.IsZero() == at.IsZero() {
			if at.IsZero() {
				return fault.New(fault.Conflict, op, "the processing of this data is not restricted")
			}
			return fault.New(fault.Conflict, op, "the processing of this data is restricted already")
		}
		return tx.SetRestricted(ctx, p.ID, at, tx.Revision)
	}
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return wire.Subject{}, err
	}
	return v.subjectNow(ctx, c, p.ID)
}

func withReason(note map[string]string, reason string) map[string]string {
	if reason == "" {
		return note
	}
	if note == nil {
		note = map[string]string{}
	}
	note["reason"] = reason
	return note
}

// ObjectTo notes that somebody objects to the processing of their data for a
// purpose, or takes that back. Reads of theirs for it that run are cut.
func (v *Vault) ObjectTo(ctx context.Context, c identity.Caller, handle string, req wire.PurposeChoice) (wire.Subject, error) {
	kind := audit.KindObject
	if req.End {
		kind = audit.KindObjectEnd
	}
	return v.choose(ctx, c, handle, req, dataset.Objection, kind, rbac.ObjectTo)
}

// Consent gives one's consent to a purpose, or withdraws it. Reads that rest on it
// end at once.
func (v *Vault) Consent(ctx context.Context, c identity.Caller, handle string, req wire.PurposeChoice) (wire.Subject, error) {
	kind, act := audit.KindConsentGive, rbac.Consent
	if req.End {
		kind, act = audit.KindConsentWithdraw, rbac.Revoke
	}
	return v.choose(ctx, c, handle, req, dataset.Consent, kind, act)
}

func (v *Vault) choose(ctx context.Context, c identity.Caller, handle string, req wire.PurposeChoice, what dataset.ChoiceKind,
	kind audit.Kind, act rbac.Action) (wire.Subject, error) {
	const op = "vault.choose"
	in, p, err := v.subject(ctx, c, handle, kind, act, rbac.Subject)
	if err != nil {
		return wire.Subject{}, err
	}
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return wire.Subject{}, err
	}
	if _, err := dataset.ParseName(req.Purpose); err != nil {
		return wire.Subject{}, err
	}
	if err := checkText("reason", req.Reason, wire.MaxReason); err != nil {
		return wire.Subject{}, err
	}
	if p.Service {
		return wire.Subject{}, fault.New(fault.Invalid, op, "a machine account has no data of its own").WithHint("people decide about theirs")
	}
	in.Note = withReason(in.Note, req.Reason)
	if in.Note == nil {
		in.Note = map[string]string{}
	}
	in.Note["purpose"] = req.Purpose
	in.PolicyChange = true
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		choice, err := tx.Choice(ctx, p.ID, what, req.Purpose)
		switch {
		case errors.Is(err, storage.ErrNoRow):
			choice = dataset.Choice{Principal: p.ID, Kind: what, Purpose: req.Purpose}
		case err != nil:
			return err
		}
		switch {
		case req.End && !choice.InForce():
			return fault.New(fault.Conflict, op, "there is no "+string(what)+" to that purpose to end").
				WithHint("`dsvault subject show` shows what there is")
		case req.End:
			choice.Ended = tx.Now
		case choice.InForce():
			return fault.New(fault.Conflict, op, "the "+string(what)+" to that purpose is in force already")
		default:
			if err := v.checkPurpose(ctx, tx, p.ID, req.Purpose, what == dataset.Consent); err != nil {
				return err
			}
			choice.At, choice.Ended = tx.Now, time.Time{}
		}
		return tx.PutChoice(ctx, choice, tx.Revision)
	}
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return wire.Subject{}, err
	}
	return v.subjectNow(ctx, c, p.ID)
}

// checkPurpose refuses a purpose that none of a person's projects has, or that
// rests on nobody's consent there: a slip of the pen would look like a decision.
func (v *Vault) checkPurpose(ctx context.Context, tx *ledger.Tx, who dataset.PrincipalID, purpose string, consent bool) error {
	const op = "vault.checkPurpose"
	grants, err := tx.Grants(ctx, storage.GrantQuery{Principal: who, IncludeEnded: true})
	if err != nil {
		return err
	}
	found := errors.New("found")
	err = tx.ProjectsSince(ctx, 0, func(p storage.Project, _ uint64) error {
		list := p.Purposes
		if consent {
			list = p.Consent
		}
		theirs := slices.ContainsFunc(grants, func(g dataset.Grant) bool { return g.Scope.Contains(p.Scope) || p.Scope.Contains(g.Scope) })
		if theirs && slices.Contains(list, purpose) {
			return found
		}
		return nil
	})
	switch {
	case err == found:
		return nil
	case err != nil:
		return err
	case consent:
		return fault.New(fault.NotFound, op, "no project of yours has a purpose of that name that rests on consent").
			WithHint("check the name; a project is given such a purpose with --consent")
	}
	return fault.New(fault.NotFound, op, "no project of yours has a purpose of that name").WithHint("check the name")
}

// DeleteSubject anonymises somebody, as Anonymize does, closes their requests for
// erasure, and says what is kept and why. Asked for oneself it enters a request
// for erasure: whether a duty or a claim stands against it is for others to say.
func (v *Vault) DeleteSubject(ctx context.Context, c identity.Caller, handle string) (wire.Deleted, error) {
	if handle == "me" || handle == c.Handle {
		r, err := v.OpenRequest(ctx, c, wire.NewRequest{Kind: dataset.ErasureRequest})
		if err != nil {
			return wire.Deleted{}, err
		}
		return wire.Deleted{Request: &r, Kept: []wire.Kept{}}, nil
	}
	done, kept, err := v.forget(ctx, c, handle)
	if err != nil {
		return wire.Deleted{}, err
	}
	return wire.Deleted{Anonymized: &done, Kept: kept}, nil
}

// keptOf says what stays of somebody who is anonymised, and why.
func (v *Vault) keptOf(ctx context.Context, tx *catalog.Tx, who dataset.PrincipalID) ([]wire.Kept, error) {
	counts, err := tx.KeptOf(ctx, who)
	if err != nil {
		return nil, err
	}
	kept := []wire.Kept{{What: "records of the audit log under pseudonyms",
		Why: "clients have to be able to see and prove who had access to their data (accountability; legal claims); they hold no name and no address"}}
	for _, k := range []struct {
		what  string
		count int
		why   string
	}{
		{"signatures under agreements, by a random number", counts.Signatures,
			"evidence that confidentiality was promised (legal claims)"},
		{"grants and assignments, ended, by a random number", counts.Grants + counts.Assignments,
			"who gave access to data, and when (accountability)"},
		{"consents and objections, by a random number", counts.Choices,
			"it has to be shown that they were heeded"},
		{"requests in the register, without their words", counts.Requests,
			"it has to be shown that requests were answered in time"},
	} {
		if k.count > 0 {
			kept = append(kept, wire.Kept{What: k.what, Count: k.count, Why: k.why})
		}
	}
	return kept, nil
}
