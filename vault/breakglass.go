package vault

import (
	"context"
	"errors"
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

const (
	minBreakGlass = time.Minute
	maxUnreviewed = 3 // of one person, before the next one
)

// BreakGlass lets an admin read at a scope in an emergency, for a short time and
// without a second person. It is in the log for everybody who may read it
// there, and another admin has to review it.
func (v *Vault) BreakGlass(ctx context.Context, c identity.Caller, req wire.NewBreakGlass) (wire.BreakGlass, error) {
	const op = "vault.BreakGlass"
	t, err := v.target(ctx, req.Scope)
	if err != nil {
		return wire.BreakGlass{}, err
	}
	in := v.intent(c, audit.KindBreakGlass, t, rbac.BreakGlass, rbac.GrantObj)
	if !t.known {
		return wire.BreakGlass{}, v.absent(ctx, t, in)
	}
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return wire.BreakGlass{}, err
	}
	life := time.Duration(req.Seconds) * time.Second
	if req.Seconds == 0 {
		life = wire.BreakGlassLife
	}
	switch err := checkText("reason", req.Reason, wire.MaxReason); {
	case err != nil:
		return wire.BreakGlass{}, err
	case t.scope.Depth() == 0:
		return wire.BreakGlass{}, fault.New(fault.Invalid, op, "the glass is not broken for the whole vault").WithHint("name a client, a project or a dataset")
	case strings.TrimSpace(req.Reason) == "":
		return wire.BreakGlass{}, fault.New(fault.Invalid, op, "an emergency has a reason").WithHint("say it: --reason")
	case req.Seconds < 0 || req.Seconds > int(wire.MaxBreakGlassLife/time.Second) || life < minBreakGlass:
		return wire.BreakGlass{}, fault.New(fault.Invalid, op, "it lasts from one minute to four hours").WithHint("give --for, for example 1h")
	}
	b := storage.BreakGlass{ID: dataset.NewID[dataset.BreakGlassID](v.random), Principal: c.Principal, Scope: t.scope}
	if b.Reason, err = v.sealWords(ctx, c.Principal, b.ID.String(), req.Reason); err != nil {
		return wire.BreakGlass{}, err
	}
	in.Object = audit.Object{Kind: audit.ObjectBreakGlass, ID: b.ID}
	in.Note = map[string]string{"reason": req.Reason}
	in.PolicyChange, in.Gives = true, true
	in.Apply = func(ctx context.Context, tx *ledger.Tx, in *ledger.Intent) error {
		open, err := tx.BreakGlasses(ctx, storage.BreakGlassQuery{Principal: c.Principal, Open: true, Limit: maxUnreviewed})
		if err != nil {
			return err
		}
		if len(open) >= maxUnreviewed {
			return fault.New(fault.Conflict, op, "several of your emergencies were not reviewed yet").
				WithHint("have another admin review them first: `dsvault break-glass list`")
		}
		b.At, b.Until, b.Revision = tx.Now, tx.Now.Add(life), tx.Revision
		in.Fields = append(in.Fields, audit.Uint64Field(audit.FieldUntil, uint64(b.Until.UnixMicro())))
		if err := tx.AddBreakGlass(ctx, b); err != nil {
			return err
		}
		return v.notify(ctx, tx, wire.NoticeGlass, b.Scope, wire.NoticeData{Until: timePtr(b.Until)})
	}
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return wire.BreakGlass{}, err
	}
	v.wakeOutbox()
	v.log.WarnContext(ctx, "an admin has broken the glass", "id", b.ID, "until", b.Until)
	return v.wireBreakGlass(ctx, b)
}

// sealWords seals what somebody wrote about the thing called id.
func (v *Vault) sealWords(ctx context.Context, who dataset.PrincipalID, id, words string) ([]byte, error) {
	return v.keys.SealProfile(ctx, who, []byte(id+"\n"+words))
}

// openWords opens what sealWords sealed; of somebody who was anonymised nothing
// is left.
func (v *Vault) openWords(ctx context.Context, who dataset.PrincipalID, id string, sealed []byte) (string, error) {
	if len(sealed) == 0 {
		return "", nil
	}
	plain, err := v.keys.OpenProfile(ctx, who, sealed)
	if errors.Is(err, ledger.ErrForgotten) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	words, ok := strings.CutPrefix(string(plain), id+"\n")
	if !ok {
		return "", fault.New(fault.Corrupt, "vault.openWords", "sealed words are in the wrong place")
	}
	return words, nil
}

func (v *Vault) wireBreakGlass(ctx context.Context, b storage.BreakGlass) (wire.BreakGlass, error) {
	out := wire.BreakGlass{ID: b.ID, Scope: b.Scope, At: b.At.UTC(), Until: b.Until.UTC(), InForce: b.InForce(v.now()),
		Reviewed: timePtr(b.ReviewedAt), Verdict: b.Verdict}
	if !b.Ended.IsZero() {
		out.Until = b.Ended.UTC()
	}
	var err error
	if out.Reason, err = v.openWords(ctx, b.Principal, b.ID.String(), b.Reason); err != nil {
		return out, err
	}
	if out.Comment, err = v.openWords(ctx, b.ReviewedBy, b.ID.String(), b.Comment); err != nil {
		return out, err
	}
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		names := v.names(ctx, tx)
		out.Person, out.Reviewer = names(b.Principal), names(b.ReviewedBy)
		return nil
	})
	return out, err
}

// glass finds one, for an action on it: whoever may not do that does not learn
// whether there is one.
func (v *Vault) glass(ctx context.Context, c identity.Caller, id dataset.BreakGlassID, kind audit.Kind, act rbac.Action, obj rbac.Kind) (ledger.Intent, storage.BreakGlass, error) {
	var b storage.BreakGlass
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		b, err = tx.BreakGlass(ctx, id)
		return err
	})
	if errors.Is(err, storage.ErrNoRow) {
		return ledger.Intent{}, b, ledger.Absent()
	}
	if err != nil {
		return ledger.Intent{}, b, err
	}
	t, err := v.target(ctx, b.Scope)
	if err != nil {
		return ledger.Intent{}, b, err
	}
	in := v.intent(c, kind, t, act, obj)
	in.Object = audit.Object{Kind: audit.ObjectBreakGlass, ID: b.ID}
	tag, err := v.tagOf(ctx, b.Principal, in.Place.Tag)
	in.Fields = []audit.Field{audit.BytesField(audit.FieldSubjectTag, tag[:])}
	return in, b, err
}

// EndBreakGlass ends one before its time: one's own, or as who may take access
// back.
func (v *Vault) EndBreakGlass(ctx context.Context, c identity.Caller, id dataset.BreakGlassID) (wire.BreakGlass, error) {
	in, b, err := v.glass(ctx, c, id, audit.KindBreakGlassEnd, rbac.Revoke, rbac.GrantObj)
	if err != nil {
		return wire.BreakGlass{}, err
	}
	if b.Principal == c.Principal {
		in.Own, in.Query = true, rbac.Query{}
	}
	in.PolicyChange = true
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		b.Ended = tx.Now
		return ended(tx.EndBreakGlass(ctx, id, tx.Now, tx.Revision))
	}
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return wire.BreakGlass{}, err
	}
	return v.wireBreakGlass(ctx, b)
}

func ended(err error) error {
	if errors.Is(err, storage.ErrNoRow) {
		return fault.Wrap(fault.Conflict, "vault.EndBreakGlass", "it has ended already", err)
	}
	return err
}

// ReviewBreakGlass records what another admin thinks of it. One that is not
// justified ends at once if it has not ended yet.
func (v *Vault) ReviewBreakGlass(ctx context.Context, c identity.Caller, id dataset.BreakGlassID, req wire.BreakGlassReview) (wire.BreakGlass, error) {
	const op = "vault.ReviewBreakGlass"
	in, b, err := v.glass(ctx, c, id, audit.KindBreakGlassReview, rbac.Review, rbac.GrantObj)
	if err != nil {
		return wire.BreakGlass{}, err
	}
	in.Query.Target = b.Principal
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return wire.BreakGlass{}, err
	}
	if req.Verdict != wire.Justified && req.Verdict != wire.Unjustified {
		return wire.BreakGlass{}, fault.New(fault.Invalid, op, "there is no such verdict").WithHint("it is justified or unjustified: --verdict")
	}
	if err := checkText("comment", req.Comment, wire.MaxReason); err != nil {
		return wire.BreakGlass{}, err
	}
	b.ReviewedBy, b.Verdict = c.Principal, req.Verdict
	if b.Comment, err = v.sealWords(ctx, c.Principal, b.ID.String(), req.Comment); err != nil {
		return wire.BreakGlass{}, err
	}
	in.Fields = append(in.Fields, audit.StringField(audit.FieldVerdict, req.Verdict))
	in.Note = map[string]string{"comment": req.Comment}
	in.PolicyChange = req.Verdict == wire.Unjustified
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		b.ReviewedAt = tx.Now
		if err := tx.ReviewBreakGlass(ctx, b); err != nil {
			if errors.Is(err, storage.ErrNoRow) {
				err = fault.Wrap(fault.Conflict, op, "it was reviewed already", err)
			}
			return err
		}
		if in.PolicyChange && b.InForce(tx.Now) {
			b.Ended = tx.Now
			return none(tx.EndBreakGlass(ctx, id, tx.Now, tx.Revision))
		}
		return nil
	}
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return wire.BreakGlass{}, err
	}
	return v.wireBreakGlass(ctx, b)
}

// BreakGlasses lists them at a scope and below it, the newest first, to those
// who may see approvals there; asked about the whole vault, everybody else gets
// their own.
func (v *Vault) BreakGlasses(ctx context.Context, c identity.Caller, scope dataset.Scope, open bool, before string, limit int) (wire.Page[wire.BreakGlass], error) {
	page := wire.Page[wire.BreakGlass]{Items: []wire.BreakGlass{}}
	t, err := v.target(ctx, scope)
	if err != nil {
		return page, err
	}
	q := storage.BreakGlassQuery{Under: t.scope, Open: open, Limit: clip(limit, wire.MaxPage)}
	if before != "" {
		if q.Before, err = dataset.ParseID[dataset.BreakGlassID](before); err != nil {
			return page, err
		}
	}
	if q.Principal, err = v.whoseApprovals(ctx, c, t); err != nil {
		return page, err
	}
	var rows []storage.BreakGlass
	err = v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		rows, err = tx.BreakGlasses(ctx, q)
		return err
	})
	if err != nil {
		return page, err
	}
	for _, b := range rows {
		out, err := v.wireBreakGlass(ctx, b)
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

// OneBreakGlass gives one, and how many reads its person made there in its time.
func (v *Vault) OneBreakGlass(ctx context.Context, c identity.Caller, id dataset.BreakGlassID) (wire.BreakGlass, error) {
	in, b, err := v.glass(ctx, c, id, audit.KindList, rbac.Read, rbac.Approval)
	if err != nil {
		return wire.BreakGlass{}, err
	}
	if b.Principal != c.Principal {
		if _, err := v.ledger.Check(ctx, in); err != nil {
			return wire.BreakGlass{}, err
		}
	}
	out, err := v.wireBreakGlass(ctx, b)
	if err != nil {
		return out, err
	}
	reads := 0
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		q := storage.LeafQuery{Under: b.Scope, Principal: b.Principal, Kinds: []uint16{uint16(audit.KindRead)},
			Decision: uint8(audit.Allowed), SinceUS: b.At.UnixMicro()}
		return tx.Leaves(ctx, q, func(l storage.Leaf) error {
			if l.Time >= out.Until.UnixMicro() {
				return errEnough
			}
			reads++
			return nil
		})
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	out.Reads = &reads
	return out, err
}

// emergencies are the scopes where the glass is broken now, with the latest end
// of each.
func (v *Vault) emergencies(ctx context.Context, tx *catalog.Tx) (map[dataset.Scope]time.Time, error) {
	rows, err := tx.BreakGlasses(ctx, storage.BreakGlassQuery{InForce: v.now()})
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	at := map[dataset.Scope]time.Time{}
	for _, b := range rows {
		if at[b.Scope].Before(b.Until) {
			at[b.Scope] = b.Until
		}
	}
	return at, nil
}

// openGlass tells the caller of those that are in force or wait for a review.
func (v *Vault) openGlass(ctx context.Context, c identity.Caller, out *wire.Whoami) error {
	var open, own []storage.BreakGlass
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		if open, err = tx.BreakGlasses(ctx, storage.BreakGlassQuery{Open: true}); err != nil {
			return err
		}
		own, err = tx.BreakGlasses(ctx, storage.BreakGlassQuery{Principal: c.Principal, InForce: v.now()})
		return err
	})
	if err != nil {
		return err
	}
	for _, b := range open {
		if b.Principal == c.Principal {
			if !b.InForce(v.now()) {
				own = append(own, b)
			}
			continue
		}
		reviews, err := v.allowed(ctx, rbac.Query{Actor: c.Principal, Action: rbac.Review, Target: b.Principal,
			Object: rbac.Object{Kind: rbac.GrantObj, Scope: b.Scope, Shard: -1}})
		if err != nil {
			return err
		}
		if reviews {
			out.ToReview++
		}
	}
	for _, b := range own {
		one, err := v.wireBreakGlass(ctx, b)
		if err != nil {
			return err
		}
		out.BreakGlass = append(out.BreakGlass, one)
	}
	return nil
}
