// Package identity turns a credential into a principal. A credential is a
// bearer token of 32 random bytes; the catalog keeps only its SHA-256.
package identity

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/ledger"
)

// How long tokens last.
const (
	InviteLife  = 7 * 24 * time.Hour
	SessionLife = 90 * 24 * time.Hour
)

const tokenPrefix = "dsv_"

var tokenEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Secret is a bearer token. It cannot be printed, not even, behind its pointer,
// as a hidden field of what is printed; Expose gives it away.
type Secret struct{ text *string }

// NewSecret draws a token from random.
func NewSecret(random io.Reader) (Secret, error) { return newSecret(tokenPrefix, random) }

func newSecret(prefix string, random io.Reader) (Secret, error) {
	var raw [32]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return Secret{}, fault.Wrap(fault.Internal, "identity.NewSecret", "no randomness", err)
	}
	text := prefix + tokenEncoding.EncodeToString(raw[:])
	return Secret{&text}, nil
}

// ParseSecret checks the form of a token.
func ParseSecret(s string) (Secret, error) {
	if secret, ok := parseSecret(tokenPrefix, s); ok {
		return secret, nil
	}
	return Secret{}, fault.New(fault.Unauthenticated, "identity.ParseSecret", "not a dsvault token").
		WithHint("a token looks like dsv_… and is printed once by `dsvault init` or `dsvault person invite`")
}

func parseSecret(prefix, s string) (Secret, bool) {
	rest, ok := strings.CutPrefix(s, prefix)
	if !ok || len(rest) != 52 {
		return Secret{}, false
	}
	raw, err := tokenEncoding.DecodeString(rest)
	return Secret{&s}, err == nil && len(raw) == 32
}

// Expose gives the token's text, to hand to its owner once; the zero Secret has
// none.
func (s Secret) Expose() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Hash is what the catalog keeps. A fast hash is enough: the token has 256
// random bits.
func (s Secret) Hash() [32]byte { return sha256.Sum256([]byte(s.Expose())) }

// Format prints a placeholder whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, "[redacted]") }

// MarshalText gives a placeholder.
func (Secret) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// Caller is an authenticated principal in one request.
type Caller struct {
	ledger.Actor
	Service bool
	Token   dataset.TokenID
	Kind    storage.TokenKind
	Link    dataset.LinkID // that was used in place of the token; zero: none
	// Seen is the policy's revision that the node knew when it looked whether the
	// credential holds. Whoever ends one counts the revision on.
	Seen uint64
}

// Authenticate finds whose token it is. actor brings the request's ID and
// where it came from. Every reason why a token does not hold (unknown, used,
// rotated, expired, its owner disabled) gives the same fault.Unauthenticated;
// a catalog that does not answer gives fault.Unavailable.
func Authenticate(ctx context.Context, db *catalog.DB, token Secret, now time.Time, actor ledger.Actor) (Caller, error) {
	var t storage.Token
	var p storage.Principal
	err := db.View(ctx, func(tx *catalog.Tx) (err error) {
		if t, err = tx.TokenByHash(ctx, token.Hash()); err != nil {
			return err
		}
		p, err = tx.Principal(ctx, t.Principal)
		return err
	})
	switch {
	case errors.Is(err, storage.ErrNoRow):
		return Caller{}, rejected()
	case err != nil:
		return Caller{}, err
	case !holds(t, p, now):
		return Caller{}, rejected()
	}
	actor.Principal, actor.Handle = p.ID, p.Handle
	return Caller{Actor: actor, Service: p.Service, Token: t.ID, Kind: t.Kind}, nil
}

// holds reports whether a token is good, and its owner too.
func holds(t storage.Token, p storage.Principal, now time.Time) bool {
	return t.Ended.IsZero() && (t.Expires.IsZero() || now.Before(t.Expires)) && p.Disabled.IsZero()
}

func rejected() error {
	return fault.New(fault.Unauthenticated, "identity.Authenticate", "this token does not hold").
		WithHint("log in again; if the token was used, rotated or has expired, ask an admin for `dsvault token rotate YOU`")
}
