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

// fileSecret is shared by all copies of a FileKey. The key is one pointer
// further away because fmt follows one for a verb that does not fit, even in an
// unexported field, where it cannot call our Format.
type fileSecret struct {
	key *[fileKeySize]byte // nil once destroyed
}

// newFileKey takes the bytes over and clears them.
func newFileKey(key []byte) FileKey {
	own := new([fileKeySize]byte)
	copy(own[:], key)
	clear(key)
	return FileKey{secret: &fileSecret{own}}
}

// Destroy zeroes the key. Destroying again, or the zero FileKey, does nothing.
func (k FileKey) Destroy() {
	if k.secret != nil && k.secret.key != nil {
		clear(k.secret.key[:])
		k.secret.key = nil
	}
}

// bytes gives the key itself, not a copy. A key that was destroyed or never
// set is an error: 16 zero bytes must never be taken for a key.
func (k FileKey) bytes(op string) ([]byte, error) {
	if k.secret == nil || k.secret.key == nil {
		return nil, fault.New(fault.Internal, op, "the file key is unset or destroyed")
	}
	return k.secret.key[:], nil
}
