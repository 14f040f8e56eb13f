package vault

import (
	"bytes"
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
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// maxDevices is how many device keys a principal may have at a time.
const maxDevices = 20

// Login registers the caller's device key. An invitation is used up by it, in
// the same transaction that makes the session token which replaces it; so is the
// token of a reset mail, which ends all others of the person besides.
func (v *Vault) Login(ctx context.Context, c identity.Caller, req wire.Login) (wire.LoggedIn, error) {
	const op = "vault.Login"
	recipient, err := seal.ParseRecipient(req.Recipient)
	if err != nil {
		return wire.LoggedIn{}, err
	}
	if err := checkText("device name", req.DeviceName, wire.MaxProfile); err != nil {
		return wire.LoggedIn{}, err
	}
	root, err := v.root(ctx)
	if err != nil {
		return wire.LoggedIn{}, err
	}
	session, err := identity.NewSecret(v.random)
	if err != nil {
		return wire.LoggedIn{}, err
	}
	device := dataset.NewID[dataset.DeviceID](v.random)
	expires := v.now().Add(identity.SessionLife)
	invited, reset := once(c.Kind), c.Kind == storage.ResetToken
	ended := 0

	in := v.own(c, audit.KindLogin, root)
	if reset {
		in.Kind, in.PolicyChange = audit.KindResetUse, true // reads rest on the tokens that it ends
	}
	in.Object = audit.Object{Kind: audit.ObjectDevice, ID: device}
	in.Note = map[string]string{"device": req.DeviceName, "recipient": recipient.String()}
	in.Apply = func(ctx context.Context, tx *ledger.Tx, in *ledger.Intent) error {
		var err error
		if device, err = addDevice(ctx, tx, storage.Device{
			ID: device, Principal: c.Principal, Recipient: recipient.String(), Name: req.DeviceName, CreatedAt: tx.Now,
		}); err != nil {
			return err
		}
		in.Object.ID = device
		if !invited {
			return nil
		}
		if err := tx.EndToken(ctx, c.Token, tx.Now); err != nil {
			if errors.Is(err, storage.ErrNoRow) { // somebody was faster with the same invitation
				return fault.Wrap(fault.Unauthenticated, op, "this invitation has been used", err).
					WithHint("if it was not you, tell an admin at once: `dsvault token rotate YOU`")
			}
			return err
		}
		if reset {
			if ended, err = tx.EndTokens(ctx, c.Principal, c.Token, tx.Now); err != nil {
				return err
			}
			in.Fields = []audit.Field{audit.Uint64Field(audit.FieldCount, uint64(ended))}
		}
		return tx.AddToken(ctx, storage.Token{
			ID: dataset.NewID[dataset.TokenID](v.random), Hash: session.Hash(), Principal: c.Principal,
			Kind: storage.SessionToken, CreatedAt: tx.Now, Expires: expires,
		})
	}
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return wire.LoggedIn{}, err
	}
	out := wire.LoggedIn{Device: device, Ended: ended, LogOrigin: v.notary.Origin(), LogKey: v.notary.Verifier(), LogSuccessions: v.notary.Successions()}
	if invited {
		out.Token, out.Expires = session.Expose(), timePtr(expires)
	}
	out.Whoami, err = v.Whoami(ctx, c)
	return out, err
}

// addDevice adds a device key, unless the principal has it already, and gives the
// ID that it has.
func addDevice(ctx context.Context, tx *ledger.Tx, d storage.Device) (dataset.DeviceID, error) {
	devices, err := tx.Devices(ctx, d.Principal)
	if err != nil {
		return d.ID, err
	}
	inUse := 0
	for _, old := range devices {
		if !old.Removed.IsZero() {
			continue
		}
		inUse++
		if old.Recipient == d.Recipient {
			return old.ID, nil
		}
	}
	if inUse >= maxDevices {
		return d.ID, fault.New(fault.Conflict, "vault.Login", "too many device keys")
	}
	return d.ID, tx.AddDevice(ctx, d)
}

// once reports whether a token of this kind is for one login and nothing else.
func once(kind storage.TokenKind) bool {
	return kind == storage.InviteToken || kind == storage.ResetToken
}

// Whoami describes the caller to itself.
func (v *Vault) Whoami(ctx context.Context, c identity.Caller) (wire.Whoami, error) {
	out := wire.Whoami{Principal: c.Principal, Handle: c.Handle, Service: c.Service,
		Grants: []wire.Grant{}, Devices: []wire.Device{}, Signed: []wire.Signature{}}
	var p storage.Principal
	now := v.now()
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		if p, err = tx.Principal(ctx, c.Principal); err != nil {
			return err
		}
		names := v.names(ctx, tx)
		grants, err := tx.Grants(ctx, storage.GrantQuery{Principal: c.Principal})
		if err != nil {
			return err
		}
		for _, g := range grants {
			if g.InForce(now) {
				out.Grants = append(out.Grants, wireGrant(g, names))
			}
		}
		devices, err := tx.Devices(ctx, c.Principal)
		if err != nil {
			return err
		}
		for _, d := range devices {
			if d.Removed.IsZero() {
				out.Devices = append(out.Devices, wire.Device{ID: d.ID, Name: d.Name, Recipient: d.Recipient, Created: d.CreatedAt})
			}
		}
		signed, err := tx.Signatures(ctx, c.Principal)
		for _, s := range signed {
			if s.InForce(now) {
				out.Signed = append(out.Signed, wireSignature(s, c.Handle))
			}
		}
		return err
	})
	if err != nil {
		return out, err
	}
	if err := v.openGlass(ctx, c, &out); err != nil {
		return out, err
	}
	profile, err := v.profile(ctx, p)
	out.Name, out.Email, out.Region = profile.Name, profile.Email, p.Region
	out.Phone, out.Company, out.JobTitle = profile.Phone, profile.Company, profile.JobTitle
	return out, err
}

// Invite makes a person and a one-time token for them, or a service with a
// standing token. An invitation that is mailed is shown to nobody else.
func (v *Vault) Invite(ctx context.Context, c identity.Caller, req wire.NewPerson) (wire.NewToken, error) {
	const op = "vault.Invite"
	root, err := v.root(ctx)
	if err != nil {
		return wire.NewToken{}, err
	}
	in := v.intent(c, audit.KindPersonInvite, root, rbac.Create, rbac.Person)
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return wire.NewToken{}, err
	}
	handle, known, err := v.checkPerson(req)
	if err != nil {
		return wire.NewToken{}, err
	}
	id := dataset.NewID[dataset.PrincipalID](v.random)
	wrapped, err := v.keys.NewPerson(id)
	if err != nil {
		return wire.NewToken{}, err
	}
	profile, err := sealProfile(ctx, v.keys, id, known)
	if err != nil {
		return wire.NewToken{}, err
	}
	secret, token, err := v.newToken(id, req.Service)
	if err != nil {
		return wire.NewToken{}, err
	}
	var mails []storage.Message
	if req.Mail {
		m, err := v.mailTo(ctx, id, mailInvitation, v.invitation(req.Email, handle, secret, token.Expires))
		if err != nil {
			return wire.NewToken{}, err
		}
		m.Until = token.Expires
		mails = append(mails, m)
		in.Fields = []audit.Field{audit.BytesField(audit.FieldMessageID, m.ID[:])}
	}
	var created time.Time
	in.Object = audit.Object{Kind: audit.ObjectPerson, ID: id}
	in.Note = map[string]string{"person": req.Handle} // who the ID is, for as long as it is not forgotten
	in.PolicyChange, in.Gives = true, true
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		created = tx.Now
		err := tx.AddPrincipal(ctx, storage.Principal{
			ID: id, Handle: handle, Service: req.Service, Region: req.Region, Key: wrapped, Profile: profile,
			Revision: tx.Revision, CreatedAt: tx.Now, CreatedBy: c.Principal,
		})
		if errors.Is(err, storage.ErrExists) {
			return fault.Wrap(fault.Conflict, op, "there is somebody called "+handle+" already", err).
				WithHint("choose another name; for a new token use `dsvault token rotate " + handle + "`")
		}
		if err == nil {
			err = v.setAddress(ctx, tx.Tx, id, known.Email)
		}
		if err != nil {
			return err
		}
		token.CreatedAt = tx.Now
		if err := tx.AddToken(ctx, token); err != nil {
			return err
		}
		return tx.AddMessages(ctx, mails...)
	}
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return wire.NewToken{}, err
	}
	p := storage.Principal{ID: id, Handle: handle, Service: req.Service, Region: req.Region, CreatedAt: created}
	out := wire.NewToken{Person: wirePerson(p, known), Kind: string(token.Kind), Expires: timePtr(token.Expires), Mailed: req.Mail}
	if !req.Mail {
		out.Token = secret.Expose()
	}
	v.wakeOutbox()
	return out, nil
}

func (v *Vault) checkPerson(req wire.NewPerson) (string, Profile, error) {
	const op = "vault.Invite"
	known := Profile{Name: req.Name, Email: req.Email, Phone: req.Phone, Company: req.Company, JobTitle: req.JobTitle}
	handle, err := dataset.ParseName(req.Handle)
	if err == nil && req.Region != "" {
		_, err = dataset.ParseName(req.Region)
	}
	if err == nil {
		err = known.check()
	}
	switch {
	case err != nil:
	case handle == "me":
		err = fault.New(fault.Invalid, op, `"me" always means oneself`).WithHint("choose another name")
	case req.Mail && req.Service:
		err = fault.New(fault.Invalid, op, "machine accounts get no mail").WithHint("leave --mail out")
	case req.Mail && req.Email == "":
		err = fault.New(fault.Invalid, op, "there is no address to mail the invitation to").WithHint("give --email")
	case req.Mail && v.mailer == nil:
		err = fault.New(fault.Conflict, op, "this vault sends no mail").
			WithHint("leave --mail out and hand the token over, or have the operator set `serve --smtp`")
	}
	return handle, known, err
}

func (v *Vault) newToken(who dataset.PrincipalID, service bool) (identity.Secret, storage.Token, error) {
	secret, err := identity.NewSecret(v.random)
	t := storage.Token{ID: dataset.NewID[dataset.TokenID](v.random), Hash: secret.Hash(), Principal: who, Kind: storage.AccessToken}
	if !service {
		t.Kind, t.Expires = storage.InviteToken, v.now().Add(identity.InviteLife)
	}
	return secret, t, err
}

// People lists principals for those who may read them.
func (v *Vault) People(ctx context.Context, c identity.Caller, after string, limit int) (wire.Page[wire.Person], error) {
	page := wire.Page[wire.Person]{Items: []wire.Person{}}
	root, err := v.root(ctx)
	if err != nil {
		return page, err
	}
	if _, err := v.ledger.Check(ctx, v.intent(c, audit.KindList, root, rbac.Read, rbac.Person)); err != nil {
		return page, err
	}
	limit = clip(limit, wire.MaxPage)
	var rows []storage.Principal
	err = v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		rows, err = tx.Principals(ctx, after, limit)
		return err
	})
	if err != nil {
		return page, err
	}
	for _, p := range rows {
		var profile Profile
		if p.Restricted.IsZero() {
			if profile, err = v.profile(ctx, p); err != nil {
				return page, err
			}
		}
		page.Items = append(page.Items, wirePerson(p, profile))
	}
	if len(rows) == limit {
		page.Next = rows[len(rows)-1].Handle
	}
	return page, nil
}

// Disable ends everything that a principal may do, at once and everywhere. Its
// grants and assignments stay on record.
func (v *Vault) Disable(ctx context.Context, c identity.Caller, handle string) (wire.Revoked, error) {
	var out wire.Revoked
	root, err := v.root(ctx)
	if err != nil {
		return out, err
	}
	in := v.intent(c, audit.KindPersonDisable, root, rbac.Suspend, rbac.Person)
	p, err := v.principal(ctx, c, handle, in)
	if err != nil {
		return out, err
	}
	if p.ID == c.Principal {
		return out, fault.New(fault.Conflict, "vault.Disable", "one cannot disable oneself").WithHint("ask another admin")
	}
	in.Query.Target = p.ID
	in.Object = audit.Object{Kind: audit.ObjectPerson, ID: p.ID}
	in.Note = map[string]string{"person": p.Handle} // who the ID is, for as long as it is not forgotten
	in.PolicyChange = true
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		if err := v.keepAdmin(ctx, tx, p.ID); err != nil {
			return err
		}
		out.Revision = tx.Revision
		if err := tx.SetDisabled(ctx, p.ID, tx.Now, tx.Revision); err != nil {
			return err
		}
		var err error
		out.Ended, err = tx.EndTokens(ctx, p.ID, dataset.TokenID{}, tx.Now)
		return err
	}
	_, err = v.ledger.Record(ctx, in)
	return out, err
}

// keepAdmin refuses to leave the vault without an active admin at "/" whose
// grant has no end; leaving is the one who goes.
func (v *Vault) keepAdmin(ctx context.Context, tx *ledger.Tx, leaving dataset.PrincipalID) error {
	grants, err := tx.Grants(ctx, storage.GrantQuery{At: dataset.Root})
	if err != nil {
		return err
	}
	for _, g := range grants {
		if g.Role != dataset.Admin || g.Principal == leaving || !g.Until.IsZero() || !g.InForce(tx.Now) {
			continue
		}
		p, err := tx.Principal(ctx, g.Principal)
		if err != nil {
			return err
		}
		if p.Disabled.IsZero() {
			return nil
		}
	}
	return fault.New(fault.Conflict, "vault.keepAdmin", "the vault would be left without an admin").
		WithHint("grant admin at / to somebody else first")
}

// RotateToken ends a principal's tokens and makes a new one. For oneself ("me"
// or one's own handle) it replaces just the token in use; an admin does it for
// others, who then log in anew with a one-time token.
func (v *Vault) RotateToken(ctx context.Context, c identity.Caller, handle string) (wire.NewToken, error) {
	var out wire.NewToken
	root, err := v.root(ctx)
	if err != nil {
		return out, err
	}
	if handle == "me" || handle == c.Handle {
		return v.rotateOwn(ctx, c, root)
	}
	in := v.intent(c, audit.KindTokenRotate, root, rbac.Rotate, rbac.Person)
	p, err := v.principal(ctx, c, handle, in)
	if err != nil {
		return out, err
	}
	if !p.Disabled.IsZero() {
		return out, v.unlessRefused(ctx, in, fault.New(fault.Conflict, "vault.RotateToken", handle+" is disabled"))
	}
	secret, token, err := v.newToken(p.ID, p.Service)
	if err != nil {
		return out, err
	}
	in.Object = audit.Object{Kind: audit.ObjectPerson, ID: p.ID}
	in.Note = map[string]string{"person": p.Handle} // who the ID is, for as long as it is not forgotten
	in.PolicyChange = true                          // reads rest on tokens
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		if _, err := tx.EndTokens(ctx, p.ID, dataset.TokenID{}, tx.Now); err != nil {
			return err
		}
		token.CreatedAt = tx.Now
		return tx.AddToken(ctx, token)
	}
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return out, err
	}
	out.Person = wire.Person{ID: p.ID, Handle: p.Handle, Service: p.Service, Created: p.CreatedAt}
	out.Token, out.Kind, out.Expires = secret.Expose(), string(token.Kind), timePtr(token.Expires)
	return out, nil
}

func (v *Vault) rotateOwn(ctx context.Context, c identity.Caller, root target) (wire.NewToken, error) {
	secret, token, err := v.newToken(c.Principal, true)
	if err != nil {
		return wire.NewToken{}, err
	}
	if token.Kind = c.Kind; c.Kind == storage.SessionToken {
		token.Expires = v.now().Add(identity.SessionLife)
	}
	in := v.own(c, audit.KindTokenRotate, root)
	in.Object = audit.Object{Kind: audit.ObjectPerson, ID: c.Principal}
	in.Note = map[string]string{"person": c.Actor.Handle} // who the ID is, for as long as it is not forgotten
	in.PolicyChange = true                                // reads rest on tokens
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		err := tx.EndToken(ctx, c.Token, tx.Now)
		if errors.Is(err, storage.ErrNoRow) { // rotated by another request just now
			return fault.Wrap(fault.Unauthenticated, "vault.RotateToken", "this token does not hold any more", err).
				WithHint("use the one that replaced it, or ask an admin for a new one")
		}
		if err != nil {
			return err
		}
		token.CreatedAt = tx.Now
		return tx.AddToken(ctx, token)
	}
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return wire.NewToken{}, err
	}
	person := wire.Person{ID: c.Principal, Handle: c.Handle, Service: c.Service}
	return wire.NewToken{Person: person, Token: secret.Expose(), Kind: string(token.Kind), Expires: timePtr(token.Expires)}, nil
}

// principal finds somebody by handle, for the operation in. Whoever may not do
// that operation is refused before learning whether the handle exists.
func (v *Vault) principal(ctx context.Context, c identity.Caller, handle string, in ledger.Intent) (storage.Principal, error) {
	if handle == "me" {
		handle = c.Handle
	}
	var p storage.Principal
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		p, err = tx.PrincipalByHandle(ctx, handle)
		return err
	})
	if errors.Is(err, storage.ErrNoRow) {
		if _, err := v.ledger.Check(ctx, in); err != nil {
			return p, err
		}
		return p, fault.New(fault.NotFound, "vault.principal", "nobody is called that").
			WithHint("`dsvault person list` shows who there is; invite them with `dsvault person invite`")
	}
	return p, err
}

// unlessRefused is err for those who may do what in is about. Others are refused,
// and do not learn of it.
func (v *Vault) unlessRefused(ctx context.Context, in ledger.Intent, err error) error {
	if _, refused := v.ledger.Check(ctx, in); refused != nil {
		return refused
	}
	return err
}

// names gives handles for IDs, reading each once.
func (v *Vault) names(ctx context.Context, tx *catalog.Tx) func(dataset.PrincipalID) string {
	return namesFrom(ctx, tx, map[dataset.PrincipalID]string{{}: ""})
}

// namesOf is names that has looked these people up already, all at once.
func (v *Vault) namesOf(ctx context.Context, tx *catalog.Tx, people []dataset.PrincipalID) (func(dataset.PrincipalID) string, error) {
	slices.SortFunc(people, func(a, b dataset.PrincipalID) int { return bytes.Compare(a[:], b[:]) })
	known, err := tx.Handles(ctx, slices.Compact(people))
	if err != nil {
		return nil, err
	}
	known[dataset.PrincipalID{}] = ""
	return namesFrom(ctx, tx, known), nil
}

func namesFrom(ctx context.Context, tx *catalog.Tx, known map[dataset.PrincipalID]string) func(dataset.PrincipalID) string {
	return func(id dataset.PrincipalID) string {
		name, ok := known[id]
		if !ok {
			if p, err := tx.Principal(ctx, id); err == nil {
				name = p.Handle
			}
			known[id] = name
		}
		return name
	}
}
