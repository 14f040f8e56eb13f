package notary

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
)

// Key is a key of the log.
type Key struct {
	Signer     note.Signer
	Verifier   string // its public half, a note verifier key under the log's name
	Succession []byte // the note by which the key before it named this one; the first key has none
}

// Meta keys of the catalog.
const (
	metaEpochs = "log-epochs" // the index of the first leaf of each epoch but the first, in decimal
	metaKeys   = "log-keys"   // how many of the log's keys have a leaf, in decimal; absent: the first
)

// errOldKey: the log has been given a key that this node does not have.
var errOldKey = fault.New(fault.Conflict, "notary.keys", "the log has a newer key than the key folder").
	WithHint("copy the newest log-*.age and log-*.note from the key folder of the node where `dsvault log-key rotate` was run, and restart")

// checkKeys checks that each key was named by the one before it.
func checkKeys(name string, keys []Key) error {
	const op = "notary.Open"
	for i, key := range keys {
		if key.Signer.Name() != name {
			return fault.New(fault.Conflict, op, "the log's key is of another log")
		}
		if i == 0 {
			continue
		}
		next, _, err := audit.OpenSuccession(key.Succession, name, keys[i-1].Verifier)
		if err == nil && next != key.Verifier {
			err = errors.New("it names another key")
		}
		if err != nil {
			return fault.Wrap(fault.Corrupt, op, "the note that names the log's key number "+strconv.Itoa(i+1)+" is damaged", err).
				WithHint("restore the whole keys folder from its backup")
		}
	}
	return nil
}

// Verifier is the public key that new clients are told, under the name of the
// log's present epoch.
func (n *Notary) Verifier() string { return n.verifier }

// Successions are the notes by which each key of the log named the next, the
// oldest first: whoever has pinned an old key finds the new one by them.
func (n *Notary) Successions() [][]byte {
	notes := [][]byte{}
	for _, key := range n.cfg.Keys[1:] {
		notes = append(notes, key.Succession)
	}
	return notes
}

// signers gives the keys that sign now: the newest, and each older one until it
// retires. They sign under the name of the log's epoch.
func (n *Notary) signers() ([]note.Signer, error) {
	var list []note.Signer
	for i, key := range n.cfg.Keys {
		if i+1 < len(n.cfg.Keys) {
			_, retires, err := audit.OpenSuccession(n.cfg.Keys[i+1].Succession, n.cfg.Origin, key.Verifier)
			if err != nil {
				return nil, err
			}
			if !n.cfg.Now().Before(retires) {
				continue
			}
		}
		s, err := underEpoch(key, n.epoch)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// epochSigner is a key under the name of an epoch.
type epochSigner struct {
	note.Signer
	verifier note.Verifier
}

func (s epochSigner) Name() string    { return s.verifier.Name() }
func (s epochSigner) KeyHash() uint32 { return s.verifier.KeyHash() }

func underEpoch(key Key, epoch uint64) (epochSigner, error) {
	v, err := verifierOf(key, epoch)
	return epochSigner{key.Signer, v}, err
}

func verifierOf(key Key, epoch uint64) (note.Verifier, error) {
	text, err := audit.EpochKey(key.Verifier, epoch)
	if err != nil {
		return nil, err
	}
	return note.NewVerifier(text)
}

// recordKeys sees to it that every key of this node has its leaf before it
// signs anything.
func (n *Notary) recordKeys(ctx context.Context) error {
	for {
		known, err := n.recorded(ctx)
		if err != nil || known >= len(n.cfg.Keys) {
			return err
		}
		err = n.cfg.RecordKey(ctx, n.cfg.Keys[known], func(ctx context.Context, tx *catalog.Tx) error {
			again, err := keysIn(ctx, tx)
			if err == nil && again != known {
				err = fault.New(fault.Conflict, "notary.recordKeys", "another node has recorded the key")
			}
			if err != nil {
				return err
			}
			return tx.SetMeta(ctx, metaKeys, strconv.AppendInt(nil, int64(known+1), 10))
		})
		if err != nil && !fault.Is(err, fault.Conflict) {
			return err
		}
	}
}

func (n *Notary) recorded(ctx context.Context) (count int, err error) {
	err = n.cfg.Catalog.View(ctx, func(tx *catalog.Tx) error {
		count, err = keysIn(ctx, tx)
		return err
	})
	return count, err
}

func keysIn(ctx context.Context, tx *catalog.Tx) (int, error) {
	list, err := numbers(ctx, tx, metaKeys)
	if err != nil || len(list) == 0 {
		return 1, err
	}
	return int(list[0]), nil
}

// epochIn gives the log's epoch.
func epochIn(ctx context.Context, tx *catalog.Tx) (uint64, error) {
	list, err := numbers(ctx, tx, metaEpochs)
	return uint64(len(list)) + 1, err
}

// numbers reads a list of numbers of the catalog.
func numbers(ctx context.Context, tx *catalog.Tx, key string) ([]uint64, error) {
	text, err := tx.Meta(ctx, key)
	if errors.Is(err, storage.ErrNoRow) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []uint64
	for field := range strings.FieldsSeq(string(text)) {
		v, err := strconv.ParseUint(field, 10, 63)
		if err != nil {
			return nil, fault.Wrap(fault.Corrupt, "notary.numbers", "the catalog's "+key+" is damaged", err).
				WithHint("restore the catalog from a backup")
		}
		list = append(list, v)
	}
	return list, nil
}
