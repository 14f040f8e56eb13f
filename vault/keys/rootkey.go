package keys

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dsvault/storage/catalog"
	"dsvault/vault/fault"
	"dsvault/vault/seal"
)

// A rotation of the root key makes, in the folder next, all files anew that are
// sealed to the root key, and the new root key last. Up to here the old one is in
// force, and next may be thrown away. Then the old root key gets a second name,
//
//	next/root.old    the old root key, until the end
//	next/retired     the hash of its recipient
//
// and the files of next take the places of the old ones. While there is a
// root.old nothing opens the key folder but a rotation, which goes on. At the end
// root.old is destroyed.
const (
	nextFolder  = "next"
	oldRootFile = nextFolder + "/root.old"
	retiredFile = nextFolder + "/retired"
)

// RootHash is the SHA-256 of the root key's recipient.
func (r *Ring) RootHash() [32]byte { return rootHash(r.root) }

func rootHash(root *seal.Identity) [32]byte { return sha256.Sum256([]byte(root.Recipient().String())) }

// Rotating reports whether a rotation of the root key was broken off half-way:
// then RotateRoot has to end it before anything else opens the folder.
func Rotating(dir string) (bool, error) {
	_, err := os.Lstat(filepath.Join(dir, oldRootFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fault.Wrap(fault.Unavailable, "keys.Rotating", "cannot look at the key folder", err)
	}
	return true, nil
}

func notRotating(dir string) error {
	if half, err := Rotating(dir); err != nil || !half {
		return err
	}
	return fault.New(fault.Conflict, "keys.Open", "a rotation of the root key was interrupted").
		WithHint("run `dsvault root-key rotate` again, with the same flags: it goes on where it was")
}

// RotateRoot gives the vault in dir another root key, protected by next, in place
// of the one that pass opens, and destroys the old one. Nothing else changes: not
// the keys that the root key wraps, and nothing in the catalog. record has to note
// the rotation durably, before the old key is destroyed; it may be called again.
//
// Whatever ends it in the middle, a call with the same next goes on; pass is not
// needed any more once the old key is out of force. A wrong passphrase is
// fault.Unauthenticated, and nothing was changed. No server may run.
func RotateRoot(dir string, pass, next Passphrase, db *catalog.DB, record func(ring *Ring, retired [32]byte) error) (*Ring, error) {
	return rotation{dir: dir, pass: pass, next: next, db: db, record: record, step: func() {}}.run()
}

type rotation struct {
	dir        string
	pass, next Passphrase
	db         *catalog.DB
	record     func(ring *Ring, retired [32]byte) error
	step       func() // called before each change of the folder
}

func (r rotation) run() (*Ring, error) {
	half, err := Rotating(r.dir)
	if err != nil {
		return nil, err
	}
	if !half {
		if err := r.prepare(); err != nil {
			return nil, err
		}
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	if err := r.swap(); err != nil {
		return nil, r.failed("cannot put the new root key in place", err)
	}
	ring, err := open(r.dir, r.next, r.db, rand.Reader)
	if err != nil {
		return nil, err
	}
	retired, err := r.retired()
	if err != nil {
		return nil, err
	}
	if err := r.record(ring, retired); err != nil {
		return nil, err
	}
	if err := r.destroy(); err != nil {
		return nil, r.failed("cannot destroy the old root key", err)
	}
	return ring, nil
}

func (r rotation) failed(message string, err error) error {
	if fault.CodeOf(err) != fault.Internal {
		return err
	}
	return fault.Wrap(fault.Unavailable, "keys.RotateRoot", message, err).
		WithHint("this needs to write to the keys folder; run it again with the same flags: it goes on where it was")
}

// prepare makes the folder next, whole.
func (r rotation) prepare() error {
	const op = "keys.RotateRoot"
	ring, err := open(r.dir, r.pass, nil, rand.Reader)
	if err != nil {
		return err
	}
	if err := r.discard(); err != nil {
		return r.failed("cannot remove what an interrupted rotation has left", err)
	}
	root, err := seal.GenerateIdentity()
	if err != nil {
		return fault.Wrap(fault.Internal, op, "cannot make a root key", err)
	}
	text, err := encodeRoot(root, r.next)
	if err != nil {
		return err
	}
	sealed, err := sealedFiles(r.dir)
	if err != nil {
		return err
	}
	files := map[string][]byte{}
	for _, name := range sealed {
		if files[name], err = openFile(r.dir, name, ring.root); err != nil {
			return err
		}
	}
	files[ownFile] = ring.own.secret
	r.step()
	if err := os.Mkdir(filepath.Join(r.dir, nextFolder), 0o700); err != nil {
		return r.failed("cannot write to the keys folder", err)
	}
	folder := filepath.Join(r.dir, nextFolder)
	for name, plain := range files {
		data, err := seal.SealBytes(plain, root.Recipient())
		if err != nil {
			return fault.Wrap(fault.Internal, op, "cannot seal "+name, err)
		}
		r.step()
		if err := writeFile(folder, name, data); err != nil {
			return r.failed("cannot write "+name, err)
		}
	}
	old := ring.RootHash()
	for _, f := range []struct {
		name string
		data []byte
	}{{filepath.Base(retiredFile), []byte(hex.EncodeToString(old[:]))}, {rootFile, text}} { // the root key last
		r.step()
		if err := writeFile(folder, f.name, f.data); err != nil {
			return r.failed("cannot write "+f.name, err)
		}
	}
	if err := syncDir(r.dir); err != nil {
		return r.failed("cannot write to the keys folder", err)
	}
	return nil
}

// sealedFiles lists the files of a key folder that are sealed to its root key.
func sealedFiles(dir string) (list []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, "keys.RotateRoot", "cannot read the key folder", err)
	}
	for _, e := range entries {
		name := e.Name()
		if e.Type().IsRegular() && strings.HasSuffix(name, ".age") && name != ownFile &&
			(strings.HasPrefix(name, "epoch-") && !isWiped(dir, name) || name == logFile || strings.HasPrefix(name, "log-")) {
			list = append(list, name)
		}
	}
	return list, nil
}

// discard removes a folder next that was not put in force.
func (r rotation) discard() error {
	folder := filepath.Join(r.dir, nextFolder)
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		r.step()
		err = errors.Join(err, wipe(folder, e.Name()))
	}
	if err != nil {
		return err
	}
	r.step()
	return removeFile(r.dir, nextFolder)
}

// check makes sure that the new root key opens all there is, before the old one
// goes out of force.
func (r rotation) check() error {
	const op = "keys.RotateRoot"
	folder := filepath.Join(r.dir, nextFolder)
	at := folder
	if _, err := os.Lstat(filepath.Join(folder, rootFile)); errors.Is(err, fs.ErrNotExist) {
		at = r.dir // it is in its place already
	}
	root, err := openRoot(at, r.next)
	if err != nil {
		return err
	}
	sealed, err := sealedFiles(r.dir)
	if err != nil {
		return err
	}
	for _, name := range append(sealed, ownFile) {
		in := folder
		if _, err := os.Lstat(filepath.Join(folder, name)); errors.Is(err, fs.ErrNotExist) {
			in = r.dir
		}
		if _, err := openFile(in, name, root); err != nil {
			return fault.Wrap(fault.Corrupt, op, "the new root key does not open "+name, err).
				WithHint("restore the whole keys folder from its newest backup, and begin again")
		}
	}
	return nil
}

// swap puts the files of next into their places, the root key first.
func (r rotation) swap() error {
	r.step()
	err := os.Link(filepath.Join(r.dir, rootFile), filepath.Join(r.dir, oldRootFile))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	folder := filepath.Join(r.dir, nextFolder)
	if err := errors.Join(syncDir(folder), syncDir(r.dir)); err != nil {
		return err
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { // the root key is the first
		return bytes.Compare(rank(a.Name()), rank(b.Name()))
	})
	for _, e := range entries {
		name := e.Name()
		if name == filepath.Base(oldRootFile) || name == filepath.Base(retiredFile) {
			continue
		}
		r.step()
		if err := os.Rename(filepath.Join(folder, name), filepath.Join(r.dir, name)); err != nil {
			return err
		}
	}
	return errors.Join(syncDir(folder), syncDir(r.dir))
}

func rank(name string) []byte {
	if name == rootFile {
		return nil
	}
	return []byte(name)
}

func (r rotation) retired() (hash [32]byte, err error) {
	text, err := readFile(r.dir, retiredFile)
	var raw []byte
	if err == nil {
		raw, err = hex.DecodeString(string(text))
	}
	if err == nil && len(raw) != len(hash) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return hash, fault.Wrap(fault.Corrupt, "keys.RotateRoot", "the note of the old root key is damaged", err).
			WithHint("restore the whole keys folder from its newest backup, and begin again")
	}
	return [32]byte(raw), nil
}

// destroy ends a rotation: root.old goes last.
func (r rotation) destroy() error {
	folder := filepath.Join(r.dir, nextFolder)
	r.step()
	if err := wipe(folder, filepath.Base(oldRootFile)); err != nil {
		return err
	}
	r.step()
	if err := removeFile(folder, filepath.Base(retiredFile)); err != nil {
		return err
	}
	r.step()
	return removeFile(r.dir, nextFolder)
}

// isWiped reports whether a file was written over by a wipe that ended before it
// had removed it.
func isWiped(dir, name string) bool {
	data, err := readFile(dir, name)
	return err == nil && len(data) > 0 && data[0] == 0
}

// wipe writes over a file, and removes it durably: on many file systems its bytes
// are gone then.
func wipe(dir, name string) error {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		var info fs.FileInfo
		if info, err = f.Stat(); err == nil {
			if _, err = f.Write(make([]byte, info.Size())); err == nil {
				err = f.Sync()
			}
		}
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return err
	}
	return removeFile(dir, name)
}
