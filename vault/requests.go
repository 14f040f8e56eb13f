package vault

import (
	"context"
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

// oldestRequest is how long ago a request may have been received that is entered
// now.
const oldestRequest = 10 * 366 * 24 * time.Hour

// requestWords is what people wrote about a request, sealed under the key of the
// person whose it is, so that it is forgotten with them.
type requestWords struct {
	Request   dataset.RightsID `json:"request"` // so that no other request's can stand in for it
	Reason    string           `json:"reason,omitempty"`
	Extension string           `json:"extension,omitempty"`
	Answer    string           `json:"answer,omitempty"`
}

func (v *Vault) sealRequestWords(ctx context.Context, who dataset.PrincipalID, w requestWords) ([]byte, error) {
	data, err := json.Marshal(w)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "vault.sealRequestWords", "cannot encode a request", err)
	}
	return v.keys.SealProfile(ctx, who, data)
}

// openRequestWords gives no words for somebody who was anonymised.
func (v *Vault) openRequestWords(ctx context.Context, r storage.RightsRequest) (requestWords, error) {
	var w requestWords
	if len(r.Words) == 0 {
		return w, nil
	}
	data, err := v.keys.OpenProfile(ctx, r.Principal, r.Words)
	if errors.Is(err, ledger.ErrForgotten) {
		return w, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &w)
	}
	if err == nil && w.Request != r.ID {
		err = fault.New(fault.Corrupt, "vault.openRequestWords", "the words of a request are those of another one")
	}
	return w, err
}

// OpenRequest enters a request into the register. It is due within a month of the
// calendar from the day on which it was received.
func (v *Vault) OpenRequest(ctx context.Context, c identity.Caller, req wire.NewRequest) (wire.RightsRequest, error) {
	in, p, err := v.subject(ctx, c, req.Person, audit.KindRequestOpen, rbac.Create, rbac.RequestObj)
	if err != nil {
		return wire.RightsRequest{}, err
	}
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return wire.RightsRequest{}, err
	}
	r, err := v.newRequest(c, p, req)
	if err != nil {
		return wire.RightsRequest{}, err
	}
	return v.addRequest(ctx, c, in, p, r, req.Reason)
}

func (v *Vault) addRequest(ctx context.Context, c identity.Caller, in ledger.Intent, p storage.Principal, r storage.RightsRequest, reason string) (wire.RightsRequest, error) {
	words := requestWords{Request: r.ID, Reason: reason}
	var err error
	if r.Words, err = v.sealRequestWords(ctx, p.ID, words); err != nil {
		return wire.RightsRequest{}, err
	}
	in.Object = requestObject(r.ID)
	in.Fields = append(in.Fields, requestFields(r)...)
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		r.OpenedAt = tx.Now
		return tx.PutRightsRequest(ctx, r)
	}
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return wire.RightsRequest{}, err
	}
	return v.wireRequest(r, words, v.naming(p.ID, p.Handle, c)), nil
}

// newRequest checks what was written of a request.
func (v *Vault) newRequest(c identity.Caller, p storage.Principal, req wire.NewRequest) (storage.RightsRequest, error) {
	const op = "vault.OpenRequest"
	r := storage.RightsRequest{
		ID: dataset.NewID[dataset.RightsID](v.random), Principal: p.ID, Identity: dataset.NotChecked, OpenedBy: c.Principal,
	}
	var err error
	if r.Kind, err = dataset.ParseRequestKind(string(req.Kind)); err != nil {
		return r, err
	}
	if err := checkText("reason", req.Reason, wire.MaxReason); err != nil {
		return r, err
	}
	now := v.now().UTC()
	r.Received = now.Truncate(24 * time.Hour)
	if p.ID == c.Principal {
		if req.Received != "" || req.Identity != "" {
			return r, fault.New(fault.Invalid, op, "what one asks for oneself is received now, by one's login").
				WithHint("leave out --received and --identity")
		}
		r.Identity = dataset.ByLogin
	}
	if req.Identity != "" {
		if r.Identity, err = dataset.ParseIdentityCheck(string(req.Identity)); err != nil {
			return r, err
		}
	}
	if req.Received != "" {
		if r.Received, err = time.Parse(time.DateOnly, req.Received); err != nil {
			return r, fault.Wrap(fault.Invalid, op, "the day of receipt is not a date", err).WithHint("write it as 2027-01-31")
		}
	}
	if r.Received.After(now) || now.Sub(r.Received) > oldestRequest {
		return r, fault.New(fault.Invalid, op, "the day of receipt is in the future, or long ago").WithHint("give the day on which it came in")
	}
	r.Due = dataset.Deadline(r.Received, dataset.RequestMonths)
	return r, nil
}

func requestObject(id dataset.RightsID) audit.Object {
	return audit.Object{Kind: audit.ObjectRequest, ID: id}
}

func requestFields(r storage.RightsRequest) []audit.Field {
	fields := []audit.Field{
		audit.StringField(audit.FieldRequestKind, string(r.Kind)),
		audit.Uint64Field(audit.FieldDue, uint64(r.Due.UnixMicro())),
		audit.StringField(audit.FieldIdentity, string(r.Identity)),
	}
	if r.Outcome != "" {
		fields = append(fields, audit.StringField(audit.FieldOutcome, string(r.Outcome)))
	}
	return fields
}

// Requests lists the register: everybody's to those who keep it, to others their
// own. The words of a request are in Request.
func (v *Vault) Requests(ctx context.Context, c identity.Caller, person string, open bool, after dataset.RightsID, limit int) (wire.Page[wire.RightsRequest], error) {
	page := wire.Page[wire.RightsRequest]{Items: []wire.RightsRequest{}}
	root, err := v.root(ctx)
	if err != nil {
		return page, err
	}
	q := storage.RightsQuery{Open: open, After: after, Limit: clip(limit, wire.MaxPage)}
	all, err := v.allowed(ctx, v.intent(c, audit.KindList, root, rbac.Read, rbac.RequestObj).Query)
	if err != nil {
		return page, err
	}
	if person != "" || !all {
		in, p, err := v.subject(ctx, c, person, audit.KindList, rbac.Read, rbac.RequestObj)
		if err != nil {
			return page, err
		}
		if _, err := v.ledger.Check(ctx, in); err != nil {
			return page, err
		}
		q.Principal = p.ID
	}
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		rows, err := tx.RightsRequests(ctx, q)
		names := v.names(ctx, tx)
		for _, r := range rows {
			page.Items = append(page.Items, v.wireRequest(r, requestWords{}, names))
		}
		if len(rows) == q.Limit {
			page.Next = rows[len(rows)-1].ID.String()
		}
		return err
	})
	return page, err
}

// Request gives one request with its words, to those who keep the register and
// to whoever it is of.
func (v *Vault) Request(ctx context.Context, c identity.Caller, id dataset.RightsID) (wire.RightsRequest, error) {
	_, r, err := v.rightsRequest(ctx, c, id, audit.KindList, rbac.Read)
	if err != nil {
		return wire.RightsRequest{}, err
	}
	words, err := v.openRequestWords(ctx, r)
	if err != nil {
		return wire.RightsRequest{}, err
	}
	var out wire.RightsRequest
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		out = v.wireRequest(r, words, v.names(ctx, tx))
		return nil
	})
	return out, err
}

// rightsRequest finds a request for an operation that the caller may do to it. An
// absent one looks as one that is not for the caller.
func (v *Vault) rightsRequest(ctx context.Context, c identity.Caller, id dataset.RightsID, kind audit.Kind, act rbac.Action) (ledger.Intent, storage.RightsRequest, error) {
	root, err := v.root(ctx)
	if err != nil {
		return ledger.Intent{}, storage.RightsRequest{}, err
	}
	in := v.intent(c, kind, root, act, rbac.RequestObj)
	in.Object = requestObject(id)
	var r storage.RightsRequest
	err = v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		r, err = tx.RightsRequest(ctx, id)
		return err
	})
	if err != nil && !errors.Is(err, storage.ErrNoRow) {
		return in, r, err
	}
	absent := err != nil
	in.Query.Target = r.Principal
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return in, r, err
	}
	if absent {
		return in, r, fault.New(fault.NotFound, "vault.rightsRequest", "there is no such request").WithHint("`dsvault request list` shows what there is")
	}
	in.Fields, err = v.about(ctx, root, r.Principal, time.Time{})
	if errors.Is(err, ledger.ErrForgotten) { // the request has no name any more either
		in.Fields, err = nil, nil
	}
	return in, r, err
}

// ExtendRequest puts the deadline of a request off, once, to three months from
// the day of receipt.
func (v *Vault) ExtendRequest(ctx context.Context, c identity.Caller, id dataset.RightsID, req wire.ExtendRequest) (wire.RightsRequest, error) {
	const op = "vault.ExtendRequest"
	return v.changeRequest(ctx, c, id, audit.KindRequestExtend, rbac.Update, func() error {
		if req.Reason == "" {
			return fault.New(fault.Invalid, op, "why is the deadline put off?").WithHint("give --reason; the person is told of it")
		}
		return checkText("reason", req.Reason, wire.MaxReason)
	}, func(tx *ledger.Tx, r *storage.RightsRequest, w *requestWords) error {
		switch {
		case !r.Extended.IsZero():
			return fault.New(fault.Conflict, op, "the deadline was put off already").WithHint("that can be done once")
		case !tx.Now.Before(r.Due):
			return fault.New(fault.Conflict, op, "the deadline has passed").WithHint("it can only be put off before; answer the request now")
		}
		r.Extended, r.Due = tx.Now, dataset.Deadline(r.Received, dataset.ExtendedMonths)
		w.Extension = req.Reason
		return nil
	})
}

// CloseRequest ends a request with its outcome. Whoever it is of may withdraw it;
// the others are for those who keep the register.
func (v *Vault) CloseRequest(ctx context.Context, c identity.Caller, id dataset.RightsID, req wire.CloseRequest) (wire.RightsRequest, error) {
	const op = "vault.CloseRequest"
	act := rbac.Update
	if req.Outcome == dataset.TakenBack {
		act = rbac.Revoke
	}
	return v.changeRequest(ctx, c, id, audit.KindRequestClose, act, func() error {
		if _, err := dataset.ParseOutcome(string(req.Outcome)); err != nil {
			return err
		}
		if req.Identity != "" {
			if _, err := dataset.ParseIdentityCheck(string(req.Identity)); err != nil {
				return err
			}
		}
		return checkText("answer", req.Answer, wire.MaxReason)
	}, func(tx *ledger.Tx, r *storage.RightsRequest, w *requestWords) error {
		if req.Identity != "" {
			r.Identity = req.Identity
		}
		if r.Identity == dataset.NotChecked && (req.Outcome == dataset.Done || req.Outcome == dataset.Partly) {
			return fault.New(fault.Conflict, op, "nobody has made sure who asks").
				WithHint("say how it was: --identity document, or person")
		}
		r.ClosedAt, r.ClosedBy, r.Outcome = tx.Now, c.Principal, req.Outcome
		w.Answer = req.Answer
		return nil
	})
}

// changeRequest changes a request that is open, in the transaction of its record.
func (v *Vault) changeRequest(ctx context.Context, c identity.Caller, id dataset.RightsID, kind audit.Kind, act rbac.Action,
	check func() error, change func(*ledger.Tx, *storage.RightsRequest, *requestWords) error) (wire.RightsRequest, error) {
	in, r, err := v.rightsRequest(ctx, c, id, kind, act)
	if err != nil {
		return wire.RightsRequest{}, err
	}
	if err := check(); err != nil {
		return wire.RightsRequest{}, err
	}
	fields := in.Fields
	var words requestWords
	var out wire.RightsRequest
	in.Apply = func(ctx context.Context, tx *ledger.Tx, in *ledger.Intent) error {
		if r, err = tx.RightsRequest(ctx, id); err != nil {
			return err
		}
		if !r.ClosedAt.IsZero() {
			return fault.New(fault.Conflict, "vault.changeRequest", "the request is closed").WithHint("open a new one if there is more to it")
		}
		if words, err = v.openRequestWords(ctx, r); err != nil {
			return err
		}
		words.Request = r.ID
		if err := change(tx, &r, &words); err != nil {
			return err
		}
		sealed, err := v.sealRequestWords(ctx, r.Principal, words)
		if errors.Is(err, ledger.ErrForgotten) {
			sealed, words, err = nil, requestWords{}, nil
		}
		if err != nil {
			return err
		}
		r.Words = sealed
		in.Fields = append(fields[:len(fields):len(fields)], requestFields(r)...)
		if err := tx.PutRightsRequest(ctx, r); err != nil {
			return err
		}
		out = v.wireRequest(r, words, v.names(ctx, tx.Tx))
		return nil
	}
	_, err = v.ledger.Record(ctx, in)
	return out, err
}

// CountRequests counts the requests in the register that are open, and those of
// them that are overdue.
func (v *Vault) CountRequests(ctx context.Context) (open, overdue int, err error) {
	err = v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		open, overdue, err = tx.CountRightsRequests(ctx, v.now())
		return err
	})
	return open, overdue, err
}

func (v *Vault) wireRequest(r storage.RightsRequest, w requestWords, name func(dataset.PrincipalID) string) wire.RightsRequest {
	out := wire.RightsRequest{
		ID: r.ID, Person: name(r.Principal), Kind: r.Kind, State: "open", Received: r.Received.UTC().Format(time.DateOnly),
		Deadline: r.Due.UTC().Add(-time.Microsecond).Format(time.DateOnly), Due: r.Due.UTC(), Extended: timePtr(r.Extended),
		Identity: r.Identity, Opened: r.OpenedAt, OpenedBy: name(r.OpenedBy), Closed: timePtr(r.ClosedAt), Outcome: r.Outcome,
		Handed: timePtr(r.HandedAt), Reason: w.Reason, Extension: w.Extension, Answer: w.Answer,
	}
	if r.ClosedAt.IsZero() {
		out.Overdue = !v.now().Before(r.Due)
	} else {
		out.State, out.ClosedBy = "closed", name(r.ClosedBy)
	}
	return out
}
