// Package keys holds the key hierarchy: a root key that never touches the
// database, epoch keys beside it, and dataset and person keys in the catalog,
// sealed to an epoch. It opens a shard's file key for a ledger.Permit and for
// nothing else.
//
// Every wrapping is an age file to a hybrid recipient. The key folder is
//
//	root.key         the root identity, as an age key file, or the same file
//	                 encrypted with a passphrase (age, scrypt)
//	epoch-0001.age   an epoch's identity, sealed to the root recipient; all but
//	                 the newest are destroyed some time after an erasure
//	epoch-0001.retires   from when on
//	erased           the datasets that were erased, one ID a line
//	log.age          the log's signing key (a C2SP note key), sealed to the root recipient
//	log-0002.age     its next one, after a rotation, and
//	log-0002.note    the note by which the one before it named it
//	own.age          the vault's own key, sealed to the root recipient; before a
//	                 rotation of the root key it follows from that
//	next/            a rotation of the root key that is not over
package keys

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"filippo.io/age"
	"golang.org/x/mod/sumdb/note"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/ledger"
	"dsvault/vault/seal"
	"dsvault/vault/trace"
)

const (
	rootFile   = "root.key"
	logFile    = "log.age"
	maxKeyFile = 64 << 10
)

// scryptWork is age's default work factor (2^18), about a second. Tests take less.
var scryptWork = 18

// Passphrase protects the root key file. It cannot be printed: not even, behind
// its pointer, as a hidden field of what is printed.
type Passphrase struct{ text *string }

// NewPassphrase wraps text; an empty one means "no passphrase".
func NewPassphrase(text string) Passphrase { return Passphrase{&text} }

func (p Passphrase) expose() string {
	if p.text == nil {
		return ""
	}
	return *p.text
}

// Format prints a placeholder whatever the verb.
func (Passphrase) Format(s fmt.State, _ rune) { io.WriteString(s, "[redacted]") }

// MarshalText gives a placeholder.
func (Passphrase) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// Ring is the opened key folder. It is safe for concurrent use.
type Ring struct {
	dir     string
	root    *seal.Identity // to read the epochs that begin later
	logKeys []LogKey
	own     ownKey

	mu     *sync.RWMutex
	epoch  uint32                         // guarded by mu; the newest, which new keys are sealed to
	epochs map[uint32]*seal.Identity      // guarded by mu; replaced, never changed
	erased map[dataset.DatasetID]struct{} // likewise

	folder *sync.Mutex // one look at the folder, or change of it, at a time
	random io.Reader

	db       *catalog.DB
	datasets cache[dataset.DatasetID, *seal.Identity]
	people   cache[dataset.PrincipalID, personKey]
}

// Format prints a placeholder whatever the verb.
func (Ring) Format(s fmt.State, _ rune) { io.WriteString(s, "[key ring]") }

// Init makes the key folder dir: a root key, the first epoch and the log's
// signing key, whose name is origin. It refuses a folder that holds any of them.
func Init(dir, origin string, pass Passphrase, random io.Reader) error {
	const op = "keys.Init"
	if _, err := os.Lstat(filepath.Join(dir, rootFile)); !errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Conflict, op, "there is a root key already in "+dir).
			WithHint("a vault is initialised once; choose another --data folder for a second one")
	}
	for _, name := range []string{epochFile(1), logFile} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return fault.New(fault.Conflict, op, "there is "+name+" without a root key in "+dir).
				WithHint("if root.key was lost, restore it; if an earlier init was interrupted, move the folder away")
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fault.Wrap(fault.Unavailable, op, "cannot make the key folder", err)
	}
	root, err := seal.GenerateIdentity()
	if err != nil {
		return fault.Wrap(fault.Internal, op, "cannot make the root key", err)
	}
	epoch, err := seal.GenerateIdentity()
	if err != nil {
		return fault.Wrap(fault.Internal, op, "cannot make an epoch key", err)
	}
	logKey, _, err := note.GenerateKey(random, origin)
	if err != nil {
		return fault.Wrap(fault.Internal, op, "cannot make the log's key", err)
	}
	text, err := encodeRoot(root, pass)
	if err != nil {
		return err
	}
	// The root key goes last: a folder without one is not yet a key folder.
	for _, f := range []struct {
		name string
		data []byte
		to   *seal.Identity
	}{
		{epochFile(1), epoch.Expose(), root},
		{logFile, []byte(logKey), root},
		{rootFile, text, nil},
	} {
		if f.to != nil {
			if f.data, err = seal.SealBytes(f.data, f.to.Recipient()); err != nil {
				return fault.Wrap(fault.Internal, op, "cannot seal "+f.name, err)
			}
		}
		if err := writeFile(dir, f.name, f.data); err != nil {
			return fault.Wrap(fault.Unavailable, op, "cannot write "+f.name, err)
		}
	}
	return nil
}

func epochFile(n uint32) string { return fmt.Sprintf("epoch-%04d.age", n) }

func encodeRoot(root *seal.Identity, pass Passphrase) ([]byte, error) {
	const op = "keys.Init"
	text := []byte("# dsvault root key. Whoever has it and the database reads every dataset; without it nobody does.\n" +
		"# recipient: " + root.Recipient().String() + "\n" + string(root.Expose()) + "\n")
	if pass.expose() == "" {
		return text, nil
	}
	recipient, err := age.NewScryptRecipient(pass.expose())
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, op, "unusable passphrase", err)
	}
	recipient.SetWorkFactor(scryptWork)
	var out bytes.Buffer
	w, err := age.Encrypt(&out, recipient)
	if err == nil {
		if _, err = w.Write(text); err == nil {
			err = w.Close()
		}
	}
	if err != nil {
		return nil, fault.Wrap(fault.Internal, op, "cannot encrypt the root key", err)
	}
	return out.Bytes(), nil
}

// Protected reports whether the root key in dir needs a passphrase.
func Protected(dir string) (bool, error) {
	data, err := readFile(dir, rootFile)
	return bytes.HasPrefix(data, []byte("age-encryption.org/")), err
}

// Open reads the key folder. A wrong passphrase is fault.Unauthenticated; a key
// file that others may read is refused.
func Open(dir string, pass Passphrase, db *catalog.DB, random io.Reader) (*Ring, error) {
	if err := notRotating(dir); err != nil {
		return nil, err
	}
	return open(dir, pass, db, random)
}

// open is Open, also in the middle of a rotation.
func open(dir string, pass Passphrase, db *catalog.DB, random io.Reader) (*Ring, error) {
	root, err := openRoot(dir, pass)
	if err != nil {
		return nil, err
	}
	r := &Ring{dir: dir, root: root, epochs: map[uint32]*seal.Identity{}, db: db, random: random,
		mu: new(sync.RWMutex), folder: new(sync.Mutex),
		datasets: newCache[dataset.DatasetID, *seal.Identity](4096), people: newCache[dataset.PrincipalID, personKey](1 << 16)}
	if err := r.openEpochs(dir, root, nil); err != nil {
		return nil, err
	}
	if r.erased, err = readErased(dir); err != nil {
		return nil, err
	}
	if r.own, err = openOwnKey(dir, root); err != nil {
		return nil, err
	}
	r.logKeys, err = openLogKeys(dir, root)
	return r, err
}

// openEpochs reads the epochs that known does not have. Nobody else has r yet.
func (r *Ring) openEpochs(dir string, root *seal.Identity, known map[uint32]*seal.Identity) error {
	const op = "keys.Open"
	files, err := os.ReadDir(dir)
	if err != nil {
		return fault.Wrap(fault.Unavailable, op, "cannot read the key folder", err)
	}
	for _, f := range files {
		name := f.Name()
		if !strings.HasPrefix(name, "epoch-") || strings.HasSuffix(name, ".retires") {
			continue
		}
		var n uint32
		if _, err := fmt.Sscanf(name, "epoch-%d.age", &n); err != nil || name != epochFile(n) {
			return fault.New(fault.Corrupt, op, "strange file "+name+" among the keys").WithHint("move it out of " + dir)
		}
		r.epoch = max(r.epoch, n)
		if r.epochs[n] = known[n]; r.epochs[n] != nil || isWiped(dir, name) {
			continue
		}
		secret, err := openFile(dir, name, root)
		if err != nil {
			return err
		}
		if r.epochs[n], err = seal.ParseIdentity(secret); err != nil {
			return fault.Wrap(fault.Corrupt, op, name+" is damaged", err)
		}
	}
	if r.epochs[r.epoch] == nil {
		return fault.New(fault.Corrupt, op, "no epoch key beside the root key, or the newest was destroyed").
			WithHint("restore the whole keys folder from its backup")
	}
	return nil
}

func openRoot(dir string, pass Passphrase) (*seal.Identity, error) {
	const op = "keys.Open"
	data, err := readFile(dir, rootFile)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(data, []byte("age-encryption.org/")) {
		if pass.expose() == "" {
			return nil, fault.New(fault.Unauthenticated, op, "the root key needs a passphrase").
				WithHint("set DSVAULT_PASSPHRASE, or start from a terminal to be asked")
		}
		identity, err := age.NewScryptIdentity(pass.expose())
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, op, "unusable passphrase", err)
		}
		identity.SetMaxWorkFactor(scryptWork + 4)
		plain, err := age.Decrypt(bytes.NewReader(data), identity)
		if errors.As(err, new(*age.NoIdentityMatchError)) {
			return nil, fault.Wrap(fault.Unauthenticated, op, "the root key does not open", err).WithHint("check the passphrase")
		}
		if err != nil {
			return nil, damagedRoot(err)
		}
		if data, err = io.ReadAll(io.LimitReader(plain, maxKeyFile)); err != nil {
			return nil, damagedRoot(err)
		}
	}
	root, err := seal.ParseIdentity(data)
	if err != nil {
		return nil, damagedRoot(err)
	}
	return root, nil
}

func damagedRoot(err error) error {
	return fault.Wrap(fault.Corrupt, "keys.Open", "the root key is damaged", err).
		WithHint("restore root.key from its backup; without it no dataset can be read")
}

func openFile(dir, name string, root *seal.Identity) ([]byte, error) {
	data, err := readFile(dir, name)
	if err != nil {
		return nil, err
	}
	plain, err := seal.OpenBytes(data, root, maxKeyFile)
	if err != nil {
		return nil, fault.Wrap(fault.Corrupt, "keys.Open", name+" does not open with this root key", err).
			WithHint("the files of the keys folder belong together; restore them from one backup")
	}
	return plain, nil
}

func readFile(dir, name string) ([]byte, error) {
	const op = "keys.Open"
	f, err := os.Open(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(fault.NotFound, op, "no "+name+" in "+dir, err).
			WithHint("make a vault with `dsvault init`, or name its folder with --data")
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, op, "cannot read "+name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, op, "cannot read "+name, err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fault.New(fault.Forbidden, op, name+" may be read by others").
			WithHint("chmod 600 " + filepath.Join(dir, name))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, op, "cannot read "+name, err)
	}
	if len(data) > maxKeyFile {
		return nil, fault.New(fault.Corrupt, op, name+" is too large")
	}
	return data, nil
}

// writeFile makes name durable in dir, whole or not at all. It fails rather than
// replaces.
func writeFile(dir, name string, data []byte) error { return placeFile(dir, name, data, os.Link) }

// replaceFile makes name durable in dir, in place of one that is there.
func replaceFile(dir, name string, data []byte) error { return placeFile(dir, name, data, os.Rename) }

func placeFile(dir, name string, data []byte, place func(from, to string) error) error {
	f, err := os.CreateTemp(dir, ".new-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = place(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

// verifierFor derives the public text of a note signing key.
func verifierFor(skey string) (string, error) {
	parts := strings.SplitN(skey, "+", 5) // PRIVATE+KEY+NAME+HASH+DATA
	if len(parts) != 5 {
		return "", fault.New(fault.Corrupt, "keys.Open", "the log's key is damaged")
	}
	return noteVerifier(parts[2], parts[4])
}

// Dir is the key folder.
func (r *Ring) Dir() string { return r.dir }

// LogName is the log's name.
func (r *Ring) LogName() string { return r.logKeys[0].Signer.Name() }

// NewDatasetKey makes a dataset's identity and gives its recipient and the
// identity sealed to the current epoch. The identity itself is not kept.
func (r *Ring) NewDatasetKey() (string, storage.WrappedKey, error) {
	id, err := seal.GenerateIdentity()
	if err != nil {
		return "", storage.WrappedKey{}, fault.Wrap(fault.Internal, "keys.NewDatasetKey", "cannot make a key", err)
	}
	wrapped, err := r.wrap(id.Expose())
	return id.Recipient().String(), wrapped, err
}

func (r *Ring) wrap(secret []byte) (storage.WrappedKey, error) {
	if err := r.Refresh(); err != nil { // another node may have begun a new epoch
		return storage.WrappedKey{}, err
	}
	r.mu.RLock()
	n, epoch := r.epoch, r.epochs[r.epoch]
	r.mu.RUnlock()
	sealed, err := seal.SealBytes(secret, epoch.Recipient())
	return storage.WrappedKey{Epoch: n, Sealed: sealed}, err
}

// identityOf gives the key of an epoch; nil if it is gone.
func (r *Ring) identityOf(n uint32) (*seal.Identity, error) {
	r.mu.RLock()
	epoch, newest := r.epochs[n], r.epoch
	r.mu.RUnlock()
	if epoch != nil || n <= newest {
		return epoch, nil
	}
	if err := r.Refresh(); err != nil {
		return nil, err
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.epochs[n], nil
}

func (r *Ring) unwrap(key storage.WrappedKey) ([]byte, error) {
	epoch, err := r.identityOf(key.Epoch)
	if err != nil {
		return nil, err
	}
	if epoch == nil {
		return nil, fault.New(fault.Corrupt, "keys.unwrap", "the epoch of this key is gone").
			WithHint("if the catalog is a backup from before an erasure, and older than the backup window, it cannot be opened any more; otherwise restore the keys folder, which all nodes share")
	}
	secret, err := seal.OpenBytes(key.Sealed, epoch, maxKeyFile)
	if err != nil {
		return nil, fault.Wrap(fault.Corrupt, "keys.unwrap", "a key in the catalog does not open with its epoch", err).
			WithHint("the keys folder and the catalog belong together; restore both from one backup")
	}
	return secret, nil
}

// FileKey opens the file key in header, which has to be sealed to the dataset
// of the permit; shard has to be the permit's shard. It refuses without a
// permit that covers exactly that.
func (r *Ring) FileKey(ctx context.Context, p *ledger.Permit, shard int, header []byte) (key seal.FileKey, err error) {
	ctx, span := trace.Start(ctx, "open key")
	defer func() { span.End(err) }()
	if err := p.Covers(p.Dataset(), shard); err != nil {
		return seal.FileKey{}, err
	}
	id, err := r.datasetIdentity(ctx, p.Dataset())
	if err != nil {
		return seal.FileKey{}, err
	}
	return seal.OpenHeader(header, id)
}

func (r *Ring) datasetIdentity(ctx context.Context, id dataset.DatasetID) (*seal.Identity, error) {
	if r.IsBuried(id) {
		return nil, fault.New(fault.Gone, "keys.datasetIdentity", "the data was erased").
			WithHint("a restored catalog does not bring it back; the erasure goes on by itself")
	}
	if identity, ok, _ := r.datasets.get(id); ok {
		return identity, nil
	}
	var wrapped storage.WrappedKey
	err := r.db.View(ctx, func(tx *catalog.Tx) (err error) {
		wrapped, err = tx.DatasetKey(ctx, id)
		return err
	})
	if errors.Is(err, storage.ErrNoRow) {
		return nil, fault.Wrap(fault.Corrupt, "keys.datasetIdentity", "the dataset has no key", err).
			WithHint("restore the catalog; without this key the dataset cannot be read")
	}
	if err != nil {
		return nil, err
	}
	secret, err := r.unwrap(wrapped)
	if err != nil {
		return nil, err
	}
	identity, err := seal.ParseIdentity(secret)
	if err == nil {
		r.datasets.put(id, identity)
	}
	return identity, err
}
