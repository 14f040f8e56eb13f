package identity

import (
	"context"
	"errors"
	"io"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/fault"
	"dsvault/vault/ledger"
)

// linkPrefix makes the secret of a link and a bearer token two things: neither
// is ever taken for the other.
const linkPrefix = "dsl_"

// NewLinkSecret draws the secret of a link from random.
func NewLinkSecret(random io.Reader) (Secret, error) { return newSecret(linkPrefix, random) }

// AuthenticateLink finds the link with this secret, and the caller who made it:
// whoever uses the link does so in that person's name. A link that does not
// hold, because it is unknown, ended or expired, because the token that made it
// ended, or because its owner is disabled, is fault.NotFound, always the same.
func AuthenticateLink(ctx context.Context, db *catalog.DB, secret string, now time.Time, actor ledger.Actor) (Caller, storage.ItemLink, error) {
	s, ok := parseSecret(linkPrefix, secret)
	if !ok {
		return Caller{}, storage.ItemLink{}, noLink(nil)
	}
	var l storage.ItemLink
	var t storage.Token
	var p storage.Principal
	err := db.View(ctx, func(tx *catalog.Tx) (err error) {
		if l, err = tx.LinkByHash(ctx, s.Hash()); err != nil {
			return err
		}
		if t, err = tx.Token(ctx, l.Token); err != nil {
			return err
		}
		p, err = tx.Principal(ctx, l.Principal)
		return err
	})
	switch {
	case errors.Is(err, storage.ErrNoRow):
		return Caller{}, storage.ItemLink{}, noLink(err)
	case err != nil:
		return Caller{}, storage.ItemLink{}, err
	case !l.Ended.IsZero(), !now.Before(l.Expires), !holds(t, p, now), t.Principal != l.Principal:
		return Caller{}, storage.ItemLink{}, noLink(nil)
	}
	actor.Principal, actor.Handle = p.ID, p.Handle
	return Caller{Actor: actor, Service: p.Service, Token: t.ID, Kind: t.Kind, Link: l.ID}, l, nil
}

func noLink(err error) error {
	return fault.Wrap(fault.NotFound, "identity.AuthenticateLink", "no such link", err)
}
