package seal

import "dsvault/vault/fault"

const fileKeySize = 16

// FileKey is the 16-byte key of one sealed file. It cannot be printed or
// stored. Copies share the same 16 bytes, so that Destroy reaches all of them;
// Destroy must not run at the same time as a function that is given the key.
// Readers that were already opened keep working after Destroy.
type FileKey struct {
	redacted
	secret *fileSecret
}

type fileSecret struct {
	key       [fileKeySize]byte
	destroyed bool
}

// newFileKey takes the bytes over and clears them.
func newFileKey(key []byte) FileKey {
	secret := new(fileSecret)
	copy(secret.key[:], key)
	clear(key)
	return FileKey{secret: secret}
}

// Destroy zeroes the key. Destroying again, or the zero FileKey, does nothing.
func (k FileKey) Destroy() {
	if k.secret != nil {
		clear(k.secret.key[:])
		k.secret.destroyed = true
	}
}

// bytes gives the key itself, not a copy. A key that was destroyed or never
// set is an error: 16 zero bytes must never be taken for a key.
func (k FileKey) bytes(op string) ([]byte, error) {
	if k.secret == nil || k.secret.destroyed {
		return nil, fault.New(fault.Internal, op, "the file key is unset or destroyed")
	}
	return k.secret.key[:], nil
}
