package vault

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"
	"unicode/utf8"

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

// Publish makes a new version of an agreement. Whoever has not signed the
// newest version does not meet the fact "nda" any more, once its grace is over.
func (v *Vault) Publish(ctx context.Context, c identity.Caller, req wire.Publish) (wire.Agreement, error) {
	const op = "vault.Publish"
	root, err := v.root(ctx)
	if err != nil {
		return wire.Agreement{}, err
	}
	in := v.intent(c, audit.KindAgreementPublish, root, rbac.Publish, rbac.AgreementObj)
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return wire.Agreement{}, err
	}
	name, err := dataset.ParseName(req.Name)
	if err != nil {
		return wire.Agreement{}, err
	}
	switch {
	case req.Text == "":
		return wire.Agreement{}, fault.New(fault.Invalid, op, "the agreement is empty").WithHint("give the file that holds its text")
	case len(req.Text) > wire.MaxAgreement:
		return wire.Agreement{}, fault.New(fault.TooLarge, op, "the agreement is over 512 KiB")
	case !utf8.ValidString(req.Text):
		return wire.Agreement{}, fault.New(fault.Invalid, op, "the agreement is not UTF-8 text").WithHint("publish it as plain text or Markdown")
	}
	grace := time.Duration(req.Grace) * time.Second
	if req.Grace < 0 || req.Grace > int64(wire.MaxGrace/time.Second) {
		return wire.Agreement{}, fault.New(fault.Invalid, op, "the grace is at most a year").WithHint("give for example --grace 14d")
	}
	a := dataset.Agreement{Name: name, Hash: sha256.Sum256([]byte(req.Text)), Text: []byte(req.Text), By: c.Principal}
	in.PolicyChange = true
	in.Note = map[string]string{"agreement": name}
	in.Fields = []audit.Field{audit.BytesField(audit.FieldAgreementHash, a.Hash[:])}
	in.Apply = func(ctx context.Context, tx *ledger.Tx, in *ledger.Intent) error {
		newest, err := tx.Agreement(ctx, name, 0)
		if err != nil && !errors.Is(err, storage.ErrNoRow) {
			return err
		}
		if err == nil && newest.Hash == a.Hash {
			return fault.New(fault.Conflict, op, "this text is the newest version already")
		}
		a.Version, a.At = newest.Version+1, tx.Now
		if grace > 0 && newest.Version > 0 {
			a.Grace = tx.Now.Add(grace)
			in.Fields = append(in.Fields, audit.Uint64Field(audit.FieldUntil, uint64(a.Grace.UnixMicro())))
		}
		in.Object = audit.Object{Kind: audit.ObjectAgreement, Number: uint32(a.Version)}
		return tx.AddAgreement(ctx, a, tx.Revision)
	}
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return wire.Agreement{}, err
	}
	return wireAgreement(a, false), nil
}

// Agreements lists the newest version of each agreement, without texts.
func (v *Vault) Agreements(ctx context.Context, c identity.Caller) (wire.Page[wire.Agreement], error) {
	page := wire.Page[wire.Agreement]{Items: []wire.Agreement{}}
	if err := v.readAgreements(ctx, c); err != nil {
		return page, err
	}
	var rows []dataset.Agreement
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		rows, err = tx.Agreements(ctx)
		return err
	})
	for _, a := range rows {
		page.Items = append(page.Items, wireAgreement(a, false))
	}
	return page, err
}

// Agreement gives the newest version of one, with its text.
func (v *Vault) Agreement(ctx context.Context, c identity.Caller, name string) (wire.Agreement, error) {
	if err := v.readAgreements(ctx, c); err != nil {
		return wire.Agreement{}, err
	}
	a, err := v.newest(ctx, name)
	return wireAgreement(a, true), err
}

func (v *Vault) readAgreements(ctx context.Context, c identity.Caller) error {
	root, err := v.root(ctx)
	if err == nil {
		_, err = v.ledger.Check(ctx, v.intent(c, audit.KindList, root, rbac.Read, rbac.AgreementObj))
	}
	return err
}

func (v *Vault) newest(ctx context.Context, name string) (dataset.Agreement, error) {
	var a dataset.Agreement
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		a, err = tx.Agreement(ctx, name, 0)
		return err
	})
	if errors.Is(err, storage.ErrNoRow) {
		err = fault.Wrap(fault.NotFound, "vault.newest", "no such agreement", err).WithHint("`dsvault agreement list` shows what there is")
	}
	return a, err
}

// Sign records the caller's acceptance of the newest version. The hash says
// which text was shown; if another one is in force by now it is refused.
func (v *Vault) Sign(ctx context.Context, c identity.Caller, name string, req wire.Sign) (wire.Signature, error) {
	const op = "vault.Sign"
	if err := v.readAgreements(ctx, c); err != nil {
		return wire.Signature{}, err
	}
	until, err := v.until(req.Until)
	if err != nil {
		return wire.Signature{}, err
	}
	root, err := v.root(ctx)
	if err != nil {
		return wire.Signature{}, err
	}
	if c.Service {
		return wire.Signature{}, fault.New(fault.Invalid, op, "a service cannot sign").WithHint("agreements are signed by people")
	}
	var s dataset.Signature
	in := v.own(c, audit.KindAgreementSign, root)
	in.PolicyChange, in.Gives = true, until.IsZero() // it replaces a signature that may last longer
	in.Note = map[string]string{"agreement": name}
	in.Apply = func(ctx context.Context, tx *ledger.Tx, in *ledger.Intent) error {
		a, err := tx.Agreement(ctx, name, 0)
		if errors.Is(err, storage.ErrNoRow) {
			return fault.Wrap(fault.NotFound, op, "no such agreement", err)
		}
		if err != nil {
			return err
		}
		if a.Version != req.Version || string(a.Hash[:]) != string(req.SHA256) {
			return fault.New(fault.Conflict, op, "that is not the newest version of the agreement").
				WithHint("read and sign the newest one: `dsvault agreement sign " + name + "`")
		}
		s = dataset.Signature{Principal: c.Principal, Agreement: name, Version: a.Version, Hash: a.Hash, At: tx.Now, Until: until}
		in.Object = audit.Object{Kind: audit.ObjectAgreement, Number: uint32(a.Version)}
		in.Fields = []audit.Field{audit.BytesField(audit.FieldAgreementHash, a.Hash[:])}
		if !until.IsZero() {
			in.Fields = append(in.Fields, audit.Uint64Field(audit.FieldUntil, uint64(until.UnixMicro())))
		}
		return tx.PutSignature(ctx, s, tx.Revision)
	}
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return wire.Signature{}, err
	}
	return wireSignature(s, c.Handle), nil
}

// WithdrawSignature ends somebody's signatures under an agreement, under whichever
// version: the caller's own ("me"), or for admins anybody's, who has withdrawn it in
// another way. Reads that rest on it are cut. fault.NotFound if none is in force.
func (v *Vault) WithdrawSignature(ctx context.Context, c identity.Caller, name, handle string) (wire.Revoked, error) {
	const op = "vault.WithdrawSignature"
	var out wire.Revoked
	root, err := v.root(ctx)
	if err != nil {
		return out, err
	}
	in, who := v.own(c, audit.KindAgreementWithdraw, root), c.Principal
	in.Object = audit.Object{Kind: audit.ObjectAgreement}
	in.Note = map[string]string{"agreement": name}
	if handle != "me" && handle != c.Handle {
		in = v.intent(c, audit.KindAgreementWithdraw, root, rbac.Revoke, rbac.AgreementObj)
		p, err := v.principal(ctx, c, handle, in)
		if err != nil {
			return out, err
		}
		who = p.ID
		in.Query.Target = who
		in.Object = audit.Object{Kind: audit.ObjectPerson, ID: who}
		in.Note = map[string]string{"agreement": name, "person": p.Handle}
	}
	in.PolicyChange = true
	in.Apply = func(ctx context.Context, tx *ledger.Tx, in *ledger.Intent) error {
		out = wire.Revoked{Revision: tx.Revision}
		signed, err := tx.Signatures(ctx, who)
		if err != nil {
			return err
		}
		for _, s := range signed { // by version
			if s.Agreement != name || !s.InForce(tx.Now) {
				continue
			}
			out.Ended++
			s.Withdrawn = tx.Now
			if err := tx.PutSignature(ctx, s, tx.Revision); err != nil {
				return err
			}
			in.Fields = []audit.Field{audit.BytesField(audit.FieldAgreementHash, s.Hash[:])}
			if in.Object.Kind == audit.ObjectAgreement {
				in.Object.Number = uint32(s.Version)
			}
		}
		if out.Ended == 0 {
			return fault.New(fault.NotFound, op, "no signature under "+name+" is in force").WithHint("`dsvault agreement status` shows what was signed")
		}
		return nil
	}
	_, err = v.ledger.Record(ctx, in)
	return out, err
}

func wireAgreement(a dataset.Agreement, text bool) wire.Agreement {
	w := wire.Agreement{Name: a.Name, Version: a.Version, SHA256: a.Hash[:], At: a.At, Grace: timePtr(a.Grace)}
	if text {
		w.Text = string(a.Text)
	}
	return w
}

func wireSignature(s dataset.Signature, person string) wire.Signature {
	return wire.Signature{Agreement: s.Agreement, Version: s.Version, SHA256: s.Hash[:], Person: person, At: s.At, Until: timePtr(s.Until)}
}
