package keys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/mod/sumdb/note"

	"dsvault/vault/audit"
	"dsvault/vault/fault"
	"dsvault/vault/seal"
)

// maxLogKeys bounds how often the log's key can be rotated.
const maxLogKeys = 1000

// LogKey is one of the log's keys.
type LogKey struct {
	Signer     note.Signer
	Verifier   string // its public half, a note verifier key
	Succession []byte // the note by which the key before it named this one; the first key has none
}

// logFiles gives the names of the log's key number n, from 1, and of its note.
func logFiles(n int) (key, succession string) {
	if n == 1 {
		return logFile, ""
	}
	return fmt.Sprintf("log-%04d.age", n), fmt.Sprintf("log-%04d.note", n)
}

// LogKeys are the log's keys, the oldest first, for package notary and nobody
// else.
func (r *Ring) LogKeys() []LogKey { return r.logKeys }

// openLogKeys reads the log's keys up to the first that is not there.
func openLogKeys(dir string, root *seal.Identity) ([]LogKey, error) {
	const op = "keys.Open"
	var list []LogKey
	for n := 1; n <= maxLogKeys; n++ {
		file, succession := logFiles(n)
		if n > 1 {
			if _, err := os.Lstat(filepath.Join(dir, file)); errors.Is(err, fs.ErrNotExist) {
				break
			}
		}
		secret, err := openFile(dir, file, root)
		if err != nil {
			return nil, err
		}
		var key LogKey
		if key.Signer, err = note.NewSigner(string(secret)); err != nil {
			return nil, fault.Wrap(fault.Corrupt, op, "the log's key in "+file+" is damaged", err)
		}
		if key.Verifier, err = verifierFor(string(secret)); err != nil {
			return nil, err
		}
		if n > 1 {
			if key.Succession, err = readFile(dir, succession); err != nil {
				return nil, err
			}
		}
		list = append(list, key)
	}
	return list, nil
}

// RotateLogKey makes the log's next key, with the note by which the present one
// names it. From the next start on both sign, until the old one retires. It
// gives the new public key. A key that was rotated and has not retired yet is
// fault.Conflict.
func RotateLogKey(dir string, pass Passphrase, now, retires time.Time, random io.Reader) (string, error) {
	const op = "keys.RotateLogKey"
	if err := notRotating(dir); err != nil {
		return "", err
	}
	root, err := openRoot(dir, pass)
	if err != nil {
		return "", err
	}
	list, err := openLogKeys(dir, root)
	if err != nil {
		return "", err
	}
	n := len(list)
	if n == maxLogKeys {
		return "", fault.New(fault.Conflict, op, "the log has had a thousand keys")
	}
	old := list[n-1]
	name := old.Signer.Name()
	if n > 1 {
		_, until, err := audit.OpenSuccession(old.Succession, name, list[n-2].Verifier)
		if err != nil {
			return "", fault.Wrap(fault.Corrupt, op, "the note of the last rotation is damaged", err).
				WithHint("restore the whole keys folder from its backup")
		}
		if now.Before(until) {
			return "", fault.New(fault.Conflict, op, "the last rotation is not over: the key before the present one signs until "+until.Format(time.DateOnly)).
				WithHint("rotate again after that")
		}
	}
	secret, public, err := note.GenerateKey(random, name)
	if err != nil {
		return "", fault.Wrap(fault.Internal, op, "cannot make the log's key", err)
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		return "", fault.Wrap(fault.Internal, op, "cannot use the log's key", err)
	}
	succession, err := audit.SignSuccession(name, public, retires, old.Signer, signer)
	if err != nil {
		return "", fault.Wrap(fault.Internal, op, "cannot sign the succession", err)
	}
	sealed, err := seal.SealBytes([]byte(secret), root.Recipient())
	if err != nil {
		return "", fault.Wrap(fault.Internal, op, "cannot seal the log's key", err)
	}
	// The key goes last: without it the note is nothing.
	keyFile, noteFile := logFiles(n + 1)
	if err := os.Remove(filepath.Join(dir, noteFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fault.Wrap(fault.Unavailable, op, "cannot replace "+noteFile, err)
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{noteFile, succession}, {keyFile, sealed}} {
		if err := writeFile(dir, f.name, f.data); err != nil {
			return "", fault.Wrap(fault.Unavailable, op, "cannot write "+f.name, err)
		}
	}
	return public, nil
}
