package keys

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"

	"dsvault/vault/fault"
	"dsvault/vault/seal"
)

// ownFile holds the vault's own key, sealed to the root recipient, once the root
// key was rotated; before that it follows from the root key.
const ownFile = "own.age"

// ownKey is the vault's own, for what belongs to no person and no dataset: the
// hashes by which addresses are found, and settings. It is in no database. The
// pointer is there as in personKey.
type ownKey struct{ *ownSecret }

type ownSecret struct {
	secret  []byte // of address and aead, one after the other
	address *[32]byte
	aead    cipher.AEAD
}

// Format prints a placeholder whatever the verb.
func (ownKey) Format(s fmt.State, _ rune) { io.WriteString(s, "[redacted]") }

const ownSize = 32 + chacha20poly1305.KeySize

// openOwnKey reads the vault's own key, or derives it from the root key.
func openOwnKey(dir string, root *seal.Identity) (ownKey, error) {
	const op = "keys.Open"
	if _, err := os.Lstat(filepath.Join(dir, ownFile)); errors.Is(err, fs.ErrNotExist) {
		key, err := newOwnKey(root)
		if err != nil {
			return ownKey{}, fault.Wrap(fault.Internal, op, "cannot derive the vault's own key", err)
		}
		return key, nil
	}
	secret, err := openFile(dir, ownFile, root)
	if err != nil {
		return ownKey{}, err
	}
	key, err := ownKeyOf(secret)
	if err != nil {
		return ownKey{}, fault.Wrap(fault.Corrupt, op, ownFile+" is damaged", err).WithHint("restore the whole keys folder from its backup")
	}
	return key, nil
}

func newOwnKey(root *seal.Identity) (ownKey, error) {
	secret := root.Expose()
	address, err := hkdf.Key(sha256.New, secret, nil, "dsvault/own/address/v1", 32)
	if err != nil {
		return ownKey{}, err
	}
	sealing, err := hkdf.Key(sha256.New, secret, nil, "dsvault/own/seal/v1", chacha20poly1305.KeySize)
	if err != nil {
		return ownKey{}, err
	}
	return ownKeyOf(append(address, sealing...))
}

func ownKeyOf(secret []byte) (ownKey, error) {
	if len(secret) != ownSize {
		return ownKey{}, errors.New("not of its size")
	}
	aead, err := chacha20poly1305.NewX(secret[32:])
	return ownKey{&ownSecret{secret: secret, address: (*[32]byte)(secret), aead: aead}}, err
}

// AddressHash is the keyed hash by which an e-mail address is found. Letters
// count alike in both cases.
func (r *Ring) AddressHash(address string) [32]byte {
	return r.addressMAC("address\n" + strings.ToLower(address))
}

// AddressHashes names the key of all AddressHash gives: it changes with it.
func (r *Ring) AddressHashes() [32]byte { return r.addressMAC("name of this key\n") }

func (r *Ring) addressMAC(text string) [32]byte {
	mac := hmac.New(sha256.New, r.own.address[:])
	io.WriteString(mac, text)
	return [32]byte(mac.Sum(nil))
}

// SealOwn seals what is the vault's own: a 24-byte nonce, then the AEAD, bound
// to what says what it is.
func (r *Ring) SealOwn(what string, plain []byte) ([]byte, error) {
	nonce := make([]byte, chacha20poly1305.NonceSizeX, chacha20poly1305.NonceSizeX+len(plain)+chacha20poly1305.Overhead)
	if _, err := io.ReadFull(r.random, nonce); err != nil {
		return nil, fault.Wrap(fault.Internal, "keys.SealOwn", "no randomness", err)
	}
	return r.own.aead.Seal(nonce, nonce, plain, []byte(what)), nil
}

// OpenOwn opens what SealOwn sealed, as the same what.
func (r *Ring) OpenOwn(what string, sealed []byte) ([]byte, error) {
	const n = chacha20poly1305.NonceSizeX
	if len(sealed) < n {
		return nil, fault.New(fault.Corrupt, "keys.OpenOwn", "sealed data is too short")
	}
	plain, err := r.own.aead.Open(nil, sealed[:n], sealed[n:], []byte(what))
	if err != nil {
		return nil, fault.Wrap(fault.Corrupt, "keys.OpenOwn", "sealed data does not open", err).
			WithHint("the keys folder and the catalog belong together; restore both from one backup")
	}
	return plain, nil
}
