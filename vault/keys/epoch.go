package keys

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dsvault/storage"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/seal"
)

// erasedFile lists the datasets that were erased, one ID a line. It lies beside
// the keys and not in the catalog, so that no restored catalog brings one back.
const erasedFile = "erased"

// maxErased bounds it, in bytes: about a million datasets.
const maxErased = 32 << 20

// retireFile says from when on an epoch's key is to be destroyed.
func retireFile(n uint32) string { return fmt.Sprintf("epoch-%04d.retires", n) }

// Epoch is the newest epoch, which new keys are sealed to.
func (r *Ring) Epoch() uint32 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.epoch
}

// Refresh reads from the key folder what another node, or another process, has
// changed there: epochs that have begun or were destroyed, and erased datasets.
func (r *Ring) Refresh() error {
	r.folder.Lock()
	defer r.folder.Unlock()
	fresh := &Ring{epochs: map[uint32]*seal.Identity{}}
	r.mu.RLock()
	known := r.epochs
	r.mu.RUnlock()
	if err := fresh.openEpochs(r.dir, r.root, known); err != nil {
		return err
	}
	erased, err := readErased(r.dir)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.epochs, r.epoch, r.erased = fresh.epochs, fresh.epoch, erased
	return nil
}

// NewEpoch begins the epoch after the given one, unless it has begun. It gives
// the newest.
func (r *Ring) NewEpoch(after uint32) (uint32, error) {
	const op = "keys.NewEpoch"
	if err := r.Refresh(); err != nil {
		return 0, err
	}
	if n := r.Epoch(); n > after {
		return n, nil
	}
	id, err := seal.GenerateIdentity()
	if err != nil {
		return 0, fault.Wrap(fault.Internal, op, "cannot make an epoch key", err)
	}
	sealed, err := seal.SealBytes(id.Expose(), r.root.Recipient())
	if err != nil {
		return 0, fault.Wrap(fault.Internal, op, "cannot seal an epoch key", err)
	}
	if err := writeFile(r.dir, epochFile(after+1), sealed); err != nil && !errors.Is(err, fs.ErrExist) {
		return 0, fault.Wrap(fault.Unavailable, op, "cannot write an epoch key", err).
			WithHint("the server has to be able to write to its keys folder")
	}
	if err := r.Refresh(); err != nil {
		return 0, err
	}
	return r.Epoch(), nil
}

// Retire notes from when on the key of an epoch that is not the newest is to be
// destroyed. A moment that was noted before stays.
func (r *Ring) Retire(n uint32, at time.Time) error {
	err := writeFile(r.dir, retireFile(n), []byte(at.UTC().Format(time.RFC3339Nano)+"\n"))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fault.Wrap(fault.Unavailable, "keys.Retire", "cannot note when an epoch's key retires", err).
			WithHint("the server has to be able to write to its keys folder")
	}
	return nil
}

// Retires gives the epochs before the newest, ascending, with the moments noted
// by Retire; the zero time for one of which none is noted.
func (r *Ring) Retires() ([]Retiring, error) {
	const op = "keys.Retires"
	r.mu.RLock()
	var list []Retiring
	for n := range r.epochs {
		if n < r.epoch {
			list = append(list, Retiring{Epoch: n})
		}
	}
	r.mu.RUnlock()
	slices.SortFunc(list, func(a, b Retiring) int { return int(a.Epoch) - int(b.Epoch) })
	for i := range list {
		text, err := readFile(r.dir, retireFile(list[i].Epoch))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if list[i].At, err = time.Parse(time.RFC3339Nano, strings.TrimSpace(string(text))); err != nil {
			return nil, fault.Wrap(fault.Corrupt, op, retireFile(list[i].Epoch)+" cannot be read", err).WithHint("restore the keys folder from its backup")
		}
	}
	return list, nil
}

// Retiring is an epoch that is not the newest any more.
type Retiring struct {
	Epoch uint32
	At    time.Time // from when on its key is to be destroyed; zero: not noted
}

// DestroyEpoch destroys the key of an epoch before the newest. What is still
// sealed to it can never be opened again.
func (r *Ring) DestroyEpoch(n uint32) error {
	const op = "keys.DestroyEpoch"
	if n >= r.Epoch() {
		return fault.New(fault.Internal, op, "the newest epoch is in use")
	}
	err := wipe(r.dir, epochFile(n))
	if err == nil {
		err = removeFile(r.dir, retireFile(n))
	}
	if err != nil {
		return fault.Wrap(fault.Unavailable, op, "cannot destroy "+epochFile(n), err).WithHint("the server has to be able to write to its keys folder")
	}
	return r.Refresh()
}

// removeFile removes name durably; that it is not there is no error.
func removeFile(dir, name string) error {
	if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Rewrap seals a key of an older epoch to the newest.
func (r *Ring) Rewrap(key storage.WrappedKey) (storage.WrappedKey, error) {
	secret, err := r.unwrap(key)
	if err != nil {
		return storage.WrappedKey{}, err
	}
	return r.wrap(secret)
}

// ForgetDataset implements ledger.DatasetForgetter.
func (r *Ring) ForgetDataset(id dataset.DatasetID) { r.datasets.forget(id) }

// Bury notes durably, outside the catalog, that datasets were erased. From then
// on their keys are not opened, whatever a catalog holds.
func (r *Ring) Bury(ids ...dataset.DatasetID) error {
	const op = "keys.Bury"
	r.folder.Lock()
	defer r.folder.Unlock()
	erased, err := readErased(r.dir)
	if err != nil {
		return err
	}
	for _, id := range ids {
		r.datasets.forget(id)
		erased[id] = struct{}{}
	}
	list := make([]dataset.DatasetID, 0, len(erased))
	for id := range erased {
		list = append(list, id)
	}
	slices.SortFunc(list, func(a, b dataset.DatasetID) int { return bytes.Compare(a[:], b[:]) })
	var text bytes.Buffer
	for _, id := range list {
		fmt.Fprintf(&text, "%x\n", id[:])
	}
	if err := replaceFile(r.dir, erasedFile, text.Bytes()); err != nil {
		return fault.Wrap(fault.Unavailable, op, "cannot note an erased dataset", err).WithHint("the server has to be able to write to its keys folder")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.erased = erased
	return nil
}

// Buried lists the datasets that were erased.
func (r *Ring) Buried() []dataset.DatasetID {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := make([]dataset.DatasetID, 0, len(r.erased))
	for id := range r.erased {
		list = append(list, id)
	}
	return list
}

// IsBuried reports whether a dataset was erased.
func (r *Ring) IsBuried(id dataset.DatasetID) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, buried := r.erased[id]
	return buried
}

func readErased(dir string) (map[dataset.DatasetID]struct{}, error) {
	const op = "keys.Open"
	erased := map[dataset.DatasetID]struct{}{}
	f, err := os.Open(filepath.Join(dir, erasedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return erased, nil
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, op, "cannot read "+erasedFile, err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 0; lines.Scan() && err == nil; n++ {
		var raw []byte
		if raw, err = hex.DecodeString(lines.Text()); err == nil && (len(raw) != 16 || n > maxErased/33) {
			err = errors.New("not a list of IDs")
		}
		if err == nil {
			erased[dataset.DatasetID(raw)] = struct{}{}
		}
	}
	if err = errors.Join(err, lines.Err()); err != nil {
		return nil, fault.Wrap(fault.Corrupt, op, "the list of erased datasets is damaged", err).
			WithHint("restore the file " + erasedFile + " of the keys folder from its newest backup")
	}
	return erased, nil
}

// HasEpoch reports whether the key of an epoch is there.
func (r *Ring) HasEpoch(n uint32) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.epochs[n] != nil
}
