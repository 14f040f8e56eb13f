package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/mail"
	"slices"
	"strings"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/keys"
	"dsvault/vault/ledger"
	"dsvault/vault/wire"
)

// Profile is what is known of a person, sealed under the person's key.
type Profile struct {
	Name     string `json:"name,omitempty"`
	Email    string `json:"email,omitempty"`
	Phone    string `json:"phone,omitempty"`
	Company  string `json:"company,omitempty"`
	JobTitle string `json:"job_title,omitempty"`
}

func sealProfile(ctx context.Context, ring *keys.Ring, id dataset.PrincipalID, p Profile) ([]byte, error) {
	data, err := json.Marshal(p)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "vault.sealProfile", "cannot encode a profile", err)
	}
	return ring.SealProfile(ctx, id, data)
}

func (v *Vault) profile(ctx context.Context, p storage.Principal) (Profile, error) {
	var profile Profile
	if len(p.Key.Sealed) == 0 { // anonymised
		return profile, nil
	}
	data, err := v.keys.OpenProfile(ctx, p.ID, p.Profile)
	if err == nil {
		err = json.Unmarshal(data, &profile)
	}
	return profile, err
}

// profileFields are the fields of a profile, by their names in the log.
var profileFields = []struct {
	name string
	of   func(*Profile) *string
	to   func(*wire.PersonUpdate) *string
}{
	{"name", func(p *Profile) *string { return &p.Name }, func(u *wire.PersonUpdate) *string { return u.Name }},
	{"email", func(p *Profile) *string { return &p.Email }, func(u *wire.PersonUpdate) *string { return u.Email }},
	{"phone", func(p *Profile) *string { return &p.Phone }, func(u *wire.PersonUpdate) *string { return u.Phone }},
	{"company", func(p *Profile) *string { return &p.Company }, func(u *wire.PersonUpdate) *string { return u.Company }},
	{"job-title", func(p *Profile) *string { return &p.JobTitle }, func(u *wire.PersonUpdate) *string { return u.JobTitle }},
}

// update changes the profile and names the fields that are different now.
func (p *Profile) update(u wire.PersonUpdate) (changed []string, err error) {
	for _, f := range profileFields {
		to, at := f.to(&u), f.of(p)
		if to == nil || *to == *at {
			continue
		}
		*at = *to
		changed = append(changed, f.name)
	}
	return changed, p.check()
}

// check holds what a profile may be.
func (p *Profile) check() error {
	for _, f := range profileFields {
		if err := checkText(f.name, *f.of(p), wire.MaxProfile); err != nil {
			return err
		}
	}
	if p.Email == "" {
		return nil
	}
	return checkEmail(p.Email)
}

// checkEmail accepts a bare address.
func checkEmail(s string) error {
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s || len(s) > wire.MaxProfile {
		return fault.Wrap(fault.Invalid, "vault.checkEmail", "not an e-mail address", err).WithHint("give it as name@example.org")
	}
	return nil
}

func wirePerson(p storage.Principal, profile Profile) wire.Person {
	return wire.Person{
		ID: p.ID, Handle: p.Handle, Service: p.Service, Name: profile.Name, Email: profile.Email, Phone: profile.Phone,
		Company: profile.Company, JobTitle: profile.JobTitle, Region: p.Region, Disabled: timePtr(p.Disabled),
		Restricted: timePtr(p.Restricted), Created: p.CreatedAt,
	}
}

// Person describes somebody: oneself ("me"), or anybody to those who may read
// people.
func (v *Vault) Person(ctx context.Context, c identity.Caller, handle string) (wire.Person, error) {
	root, err := v.root(ctx)
	if err != nil {
		return wire.Person{}, err
	}
	in := v.intent(c, audit.KindList, root, rbac.Read, rbac.Person)
	p, err := v.principal(ctx, c, handle, in)
	if err != nil {
		return wire.Person{}, err
	}
	if p.ID != c.Principal {
		in.Query.Target = p.ID
		if _, err := v.ledger.Check(ctx, in); err != nil {
			return wire.Person{}, err
		}
	}
	var profile Profile
	if p.Restricted.IsZero() || p.ID == c.Principal {
		profile, err = v.profile(ctx, p)
	}
	return wirePerson(p, profile), err
}

// errMeanwhile: somebody else has changed the row since it was read.
var errMeanwhile = errors.New("the row was changed meanwhile")

// UpdatePerson changes fields of a profile: of one's own, or of anybody's for
// those who may update people. The record says which, and to what no more than
// the profile itself does.
func (v *Vault) UpdatePerson(ctx context.Context, c identity.Caller, handle string, req wire.PersonUpdate) (wire.Person, error) {
	root, err := v.root(ctx)
	if err != nil {
		return wire.Person{}, err
	}
	in := v.intent(c, audit.KindPersonUpdate, root, rbac.Update, rbac.Person)
	p, err := v.principal(ctx, c, handle, in)
	if err != nil {
		return wire.Person{}, err
	}
	if p.ID == c.Principal {
		in = v.own(c, audit.KindPersonUpdate, root)
	} else {
		in.Query.Target = p.ID
		if _, err := v.ledger.Check(ctx, in); err != nil {
			return wire.Person{}, err
		}
	}
	in.Object = audit.Object{Kind: audit.ObjectPerson, ID: p.ID}
	in.Note = map[string]string{"person": p.Handle} // who the ID is, for as long as it is not forgotten
	return v.updateProfile(ctx, in, p, req)
}

// updateProfile changes what is kept of somebody, on the intent in.
func (v *Vault) updateProfile(ctx context.Context, in ledger.Intent, p storage.Principal, req wire.PersonUpdate) (wire.Person, error) {
	const op = "vault.UpdatePerson"
	fields := in.Fields
	for range 3 {
		if len(p.Key.Sealed) == 0 {
			return wire.Person{}, fault.New(fault.Conflict, op, "this person was anonymised")
		}
		was, err := v.profile(ctx, p)
		if err != nil {
			return wire.Person{}, err
		}
		is := was
		changed, err := is.update(req)
		if err != nil || len(changed) == 0 {
			return wirePerson(p, is), err
		}
		in.Fields = append(slices.Clip(fields), audit.StringField(audit.FieldProfile, strings.Join(changed, " ")))
		if in.Apply, err = v.applyProfile(ctx, &p, was, is); err != nil {
			return wire.Person{}, err
		}
		_, err = v.ledger.Record(ctx, in)
		if errors.Is(err, errMeanwhile) {
			continue
		}
		v.wakeOutbox()
		return wirePerson(p, is), err
	}
	return wire.Person{}, fault.New(fault.Conflict, op, "others change this profile at the same time").WithHint("look at it and try again")
}

// applyProfile puts a profile in place of the one in p's row. If the row is
// another one by now, p becomes that. Whoever loses an address hears of it there.
func (v *Vault) applyProfile(ctx context.Context, p *storage.Principal, was, is Profile) (func(context.Context, *ledger.Tx, *ledger.Intent) error, error) {
	sealed, err := sealProfile(ctx, v.keys, p.ID, is)
	if err != nil {
		return nil, err
	}
	var mails []storage.Message
	if was.Email != "" && was.Email != is.Email && v.mailer != nil {
		m, err := v.mailTo(ctx, p.ID, mailAddressChanged, v.addressChanged(was.Email, p.Handle))
		if err != nil {
			return nil, err
		}
		mails = append(mails, m)
	}
	return func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		now, err := tx.Principal(ctx, p.ID)
		if err != nil {
			return missingRow("person", err)
		}
		if !bytes.Equal(now.Profile, p.Profile) {
			*p = now
			return errMeanwhile
		}
		if err := tx.SetProfile(ctx, p.ID, now.Key, sealed, tx.Revision); err != nil {
			return err
		}
		if err := v.setAddress(ctx, tx.Tx, p.ID, is.Email); err != nil {
			return err
		}
		return tx.AddMessages(ctx, mails...)
	}, nil
}

// setAddress says by which address somebody is found.
func (v *Vault) setAddress(ctx context.Context, tx *catalog.Tx, who dataset.PrincipalID, email string) error {
	if email == "" {
		return tx.DropAddress(ctx, who)
	}
	return tx.SetAddress(ctx, who, v.keys.AddressHash(email))
}

// metaAddresses names the key of the hashes that stand in the catalog.
const metaAddresses = "address-hashes"

// indexAddresses makes the hashes by which addresses are found, where there are
// none yet or those of another key.
func (v *Vault) indexAddresses(ctx context.Context) error {
	key := v.keys.AddressHashes()
	var have []byte
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		have, err = tx.Meta(ctx, metaAddresses)
		return none(err)
	})
	if err != nil || bytes.Equal(have, key[:]) {
		return err
	}
	const batch = 200
	for after := ""; ; {
		var rows []storage.Principal
		err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
			rows, err = tx.Principals(ctx, after, batch)
			return err
		})
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return v.db.Update(ctx, func(tx *catalog.Tx) error { return tx.SetMeta(ctx, metaAddresses, key[:]) })
		}
		after = rows[len(rows)-1].Handle
		if err := v.indexThese(ctx, rows); err != nil {
			return err
		}
	}
}

func (v *Vault) indexThese(ctx context.Context, rows []storage.Principal) error {
	emails := make(map[dataset.PrincipalID]string, len(rows))
	for _, p := range rows {
		profile, err := v.profile(ctx, p)
		if err != nil {
			v.log.WarnContext(ctx, "a profile cannot be read; its address is not found", "person", p.ID, "err", err)
			continue
		}
		emails[p.ID] = profile.Email
	}
	return v.db.Update(ctx, func(tx *catalog.Tx) error {
		for _, p := range rows {
			email, read := emails[p.ID]
			now, err := tx.Principal(ctx, p.ID)
			if err != nil {
				return err
			}
			if !read || !bytes.Equal(now.Profile, p.Profile) { // whoever changed it has done this, too
				continue
			}
			if err := v.setAddress(ctx, tx, p.ID, email); err != nil {
				return err
			}
		}
		return nil
	})
}
