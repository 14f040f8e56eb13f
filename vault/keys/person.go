package keys

import (
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"golang.org/x/crypto/chacha20poly1305"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/ledger"
)

const (
	personKeySize = 32
	saltSize      = 32 // of details
)

// personKey is a person's key, split by use: pseudonyms in leaves, and sealing
// (XChaCha20-Poly1305) of what is personal. Destroying the wrapped key forgets
// both. They are two pointers away because fmt follows one for a verb that does
// not fit, even in a hidden field, where it cannot call Format.
type personKey struct{ *personSecret }

type personSecret struct {
	tag  *[32]byte
	aead cipher.AEAD
	last atomic.Pointer[pseudonym] // people read from one dataset for a while
}

// pseudonym is who somebody is at a slot's tag.
type pseudonym struct{ tag, actor [16]byte }

// Format prints a placeholder whatever the verb.
func (personKey) Format(s fmt.State, _ rune) { io.WriteString(s, "[redacted]") }

func newPersonKey(secret []byte) (personKey, error) {
	tag, err := hkdf.Key(sha256.New, secret, nil, "dsvault/person/tag/v1", 32)
	if err != nil {
		return personKey{}, err
	}
	sealing, err := hkdf.Key(sha256.New, secret, nil, "dsvault/person/seal/v1", chacha20poly1305.KeySize)
	if err != nil {
		return personKey{}, err
	}
	aead, err := chacha20poly1305.NewX(sealing)
	return personKey{&personSecret{tag: (*[32]byte)(tag), aead: aead}}, err
}

// NewPerson makes the key of a new principal and remembers it.
func (r *Ring) NewPerson(id dataset.PrincipalID) (storage.WrappedKey, error) {
	secret := make([]byte, personKeySize)
	if _, err := io.ReadFull(r.random, secret); err != nil {
		return storage.WrappedKey{}, fault.Wrap(fault.Internal, "keys.NewPerson", "no randomness", err)
	}
	wrapped, err := r.wrap(secret)
	if err != nil {
		return storage.WrappedKey{}, err
	}
	key, err := newPersonKey(secret)
	if err != nil {
		return storage.WrappedKey{}, err
	}
	r.people.put(id, key)
	return wrapped, nil
}

func (r *Ring) person(ctx context.Context, id dataset.PrincipalID) (personKey, error) {
	k, ok, gone := r.people.get(id)
	switch {
	case ok:
		return k, nil
	case gone:
		return personKey{}, forgotten()
	}
	var p storage.Principal
	// Who asks may be in a View: as many of those as there are readers would wait
	// for ever for one more.
	err := r.db.Follow(ctx, func(tx *catalog.Tx) (err error) {
		p, err = tx.Principal(ctx, id)
		return err
	})
	if errors.Is(err, storage.ErrNoRow) {
		return personKey{}, fault.Wrap(fault.Unauthenticated, "keys.person", "unknown principal", err)
	}
	if err != nil {
		return personKey{}, err
	}
	if len(p.Key.Sealed) == 0 {
		r.Forget(id)
		return personKey{}, forgotten()
	}
	secret, err := r.unwrap(p.Key)
	if err != nil {
		return personKey{}, err
	}
	if k, err = newPersonKey(secret); err == nil {
		r.people.put(id, k)
	}
	return k, err
}

func forgotten() error {
	return fault.Wrap(fault.Conflict, "keys.person", "this person was anonymised", ledger.ErrForgotten)
}

// Forget implements ledger.Sealer: the key of somebody whose wrapped key was
// destroyed is not kept any longer.
func (r *Ring) Forget(who dataset.PrincipalID) { r.people.forget(who) }

// Tag is a person's pseudonym at a slot's tag.
func (r *Ring) Tag(ctx context.Context, who dataset.PrincipalID, tag [16]byte) ([16]byte, error) {
	k, err := r.person(ctx, who)
	if err != nil {
		return [16]byte{}, err
	}
	return k.actor(tag), nil
}

// actor is the person's pseudonym at a slot's tag.
func (k personKey) actor(tag [16]byte) [16]byte {
	if last := k.last.Load(); last != nil && last.tag == tag {
		return last.actor
	}
	actor := audit.ActorTag(*k.tag, tag)
	k.last.Store(&pseudonym{tag, actor})
	return actor
}

// Seal implements ledger.Sealer. The sealed form is a 24-byte nonce, then the
// AEAD of a 32-byte salt and the details, bound to the person's ID.
func (r *Ring) Seal(ctx context.Context, who dataset.PrincipalID, tag [16]byte, details []byte) (ledger.Sealed, error) {
	k, err := r.person(ctx, who)
	if err != nil {
		return ledger.Sealed{}, err
	}
	const before = chacha20poly1305.NonceSizeX + saltSize
	sealed := make([]byte, before, before+len(details)+chacha20poly1305.Overhead)
	if _, err := io.ReadFull(r.random, sealed); err != nil {
		return ledger.Sealed{}, fault.Wrap(fault.Internal, "keys.Seal", "no randomness", err)
	}
	nonce, plain := sealed[:chacha20poly1305.NonceSizeX], append(sealed, details...)[chacha20poly1305.NonceSizeX:]
	out := ledger.Sealed{Actor: k.actor(tag), Commitment: audit.Commit([saltSize]byte(plain), details)}
	out.Details = k.aead.Seal(nonce, nonce, plain, who[:]) // in place
	return out, nil
}

// OpenDetails gives the salt and the details that Seal sealed.
func (r *Ring) OpenDetails(ctx context.Context, who dataset.PrincipalID, sealed []byte) (salt [saltSize]byte, details []byte, err error) {
	plain, err := r.openFor(ctx, who, sealed)
	if err != nil {
		return salt, nil, err
	}
	if len(plain) < len(salt) {
		return salt, nil, fault.New(fault.Corrupt, "keys.OpenDetails", "sealed details are too short")
	}
	copy(salt[:], plain)
	return salt, plain[len(salt):], nil
}

// SealProfile seals a person's profile under their key.
func (r *Ring) SealProfile(ctx context.Context, who dataset.PrincipalID, profile []byte) ([]byte, error) {
	k, err := r.person(ctx, who)
	if err != nil {
		return nil, err
	}
	return r.sealFor(k, who, profile)
}

// OpenProfile opens what SealProfile sealed.
func (r *Ring) OpenProfile(ctx context.Context, who dataset.PrincipalID, sealed []byte) ([]byte, error) {
	return r.openFor(ctx, who, sealed)
}

func (r *Ring) sealFor(k personKey, who dataset.PrincipalID, plain []byte) ([]byte, error) {
	nonce := make([]byte, chacha20poly1305.NonceSizeX, chacha20poly1305.NonceSizeX+len(plain)+chacha20poly1305.Overhead)
	if _, err := io.ReadFull(r.random, nonce); err != nil {
		return nil, fault.Wrap(fault.Internal, "keys.seal", "no randomness", err)
	}
	return k.aead.Seal(nonce, nonce, plain, who[:]), nil
}

func (r *Ring) openFor(ctx context.Context, who dataset.PrincipalID, sealed []byte) ([]byte, error) {
	k, err := r.person(ctx, who)
	if err != nil {
		return nil, err
	}
	if len(sealed) < chacha20poly1305.NonceSizeX {
		return nil, fault.New(fault.Corrupt, "keys.open", "sealed data is too short")
	}
	plain, err := k.aead.Open(nil, sealed[:chacha20poly1305.NonceSizeX], sealed[chacha20poly1305.NonceSizeX:], who[:])
	if err != nil {
		return nil, fault.Wrap(fault.Corrupt, "keys.open", "sealed personal data does not open", err)
	}
	return plain, nil
}
