package vault

import (
	"context"
	"errors"
	"time"

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
	maxResets    = 5                // mails to one person in an hour
	maxAskers    = 64               // requests that wait to be looked at
	maxSharers   = 10               // people with one address who get a mail each
	resetTimeout = 30 * time.Second // for one request
)

// resetAsk is one request on its way: who asked is known by the address only.
type resetAsk struct {
	email string
	actor ledger.Actor
	at    time.Time
}

// AskReset takes a request for a reset mail. It does nothing else: whether
// anybody has the address is found out after the answer.
func (v *Vault) AskReset(actor ledger.Actor, email string) (wire.ResetAsked, error) {
	const op = "vault.AskReset"
	if v.mailer == nil {
		return wire.ResetAsked{}, fault.New(fault.Conflict, op, "this vault sends no mail").
			WithHint("ask an admin for `dsvault token rotate YOU`")
	}
	if err := checkEmail(email); err != nil {
		return wire.ResetAsked{}, err
	}
	select {
	case v.resets <- resetAsk{email, actor, v.now()}:
		return wire.ResetAsked{Asked: true}, nil
	default:
		return wire.ResetAsked{}, fault.New(fault.Busy, op, "too many such requests are waiting").
			WithHint("try again in a minute").WithRetry(time.Minute)
	}
}

// keepResets looks at the requests, one after the other.
func (v *Vault) keepResets(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case ask := <-v.resets:
			if err := v.reset(ctx, ask); err != nil && ctx.Err() == nil {
				v.log.WarnContext(ctx, "a request for a reset mail was lost", "request", ask.actor.Request, "err", err)
			}
		}
	}
}

func (v *Vault) reset(ctx context.Context, ask resetAsk) error {
	ctx, cancel := context.WithTimeout(ctx, resetTimeout)
	defer cancel()
	var people []storage.Principal
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		people, err = tx.PrincipalsByAddress(ctx, v.keys.AddressHash(ask.email), maxSharers)
		return err
	})
	for _, p := range people {
		if p.Service || !p.Disabled.IsZero() {
			continue
		}
		if e := v.resetOf(ctx, p, ask); !errors.Is(e, errEnoughMails) {
			err = errors.Join(err, e)
		}
	}
	return err
}

var errEnoughMails = errors.New("this person had enough reset mails for now")

// resetOf makes the token of one person and the mail with it, on record. The
// record stands under the person's name: nobody else is known. Who asked is told
// by the address in its details.
func (v *Vault) resetOf(ctx context.Context, p storage.Principal, ask resetAsk) error {
	profile, err := v.profile(ctx, p)
	if err != nil || profile.Email == "" {
		return err
	}
	root, err := v.root(ctx)
	if err != nil {
		return err
	}
	secret, err := identity.NewSecret(v.random)
	if err != nil {
		return err
	}
	token := storage.Token{
		ID: dataset.NewID[dataset.TokenID](v.random), Hash: secret.Hash(), Principal: p.ID, Kind: storage.ResetToken,
		Expires: ask.at.Add(wire.ResetLife),
	}
	m, err := v.mailTo(ctx, p.ID, mailReset, v.resetMail(profile.Email, p.Handle, ask, secret, token.Expires))
	if err != nil {
		return err
	}
	m.Until = token.Expires
	actor := ask.actor
	actor.Principal, actor.Handle = p.ID, p.Handle
	in := v.own(identity.Caller{Actor: actor}, audit.KindResetAsk, root)
	in.Object = audit.Object{Kind: audit.ObjectPerson, ID: p.ID}
	in.Fields = []audit.Field{
		audit.BytesField(audit.FieldMessageID, m.ID[:]), audit.Uint64Field(audit.FieldUntil, uint64(token.Expires.UnixMicro())),
	}
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		n, err := tx.CountTokens(ctx, p.ID, storage.ResetToken, tx.Now.Add(-time.Hour))
		if err != nil {
			return err
		}
		if n >= maxResets {
			return errEnoughMails
		}
		token.CreatedAt = tx.Now
		if err := tx.AddToken(ctx, token); err != nil {
			return err
		}
		return tx.AddMessages(ctx, m)
	}
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return err
	}
	v.wakeOutbox()
	return nil
}
