package notary

import (
	"context"
	"errors"

	"golang.org/x/mod/sumdb/tlog"

	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
)

// Inclusion proves that the leaf at index is in the log of cp, for
// audit.CheckInclusion. cp is a checkpoint of this log, as Await gives it.
func (n *Notary) Inclusion(ctx context.Context, cp audit.Checkpoint, index uint64) ([]audit.Hash, error) {
	const op = "notary.Inclusion"
	if index >= cp.Size {
		return nil, fault.New(fault.Invalid, op, "the log of that checkpoint does not have this leaf")
	}
	var proof []audit.Hash
	err := n.cfg.Catalog.View(ctx, func(tx *catalog.Tx) error {
		list, err := tlog.ProveRecord(int64(cp.Size), int64(index), tiles{ctx: ctx, tx: tx}.hashes(cp))
		proof = fromTlog(list)
		return unproven(op, err)
	})
	return proof, err
}

// Consistency proves that the log of cp begins with its first size leaves, for
// audit.CheckConsistency. cp is a checkpoint of this log, as Await gives it.
func (n *Notary) Consistency(ctx context.Context, cp audit.Checkpoint, size uint64) (proof []audit.Hash, err error) {
	if size > cp.Size {
		return nil, fault.New(fault.Invalid, "notary.Consistency", "the log of that checkpoint does not have so many leaves")
	}
	err = n.cfg.Catalog.View(ctx, func(tx *catalog.Tx) error {
		proof, err = tiles{ctx: ctx, tx: tx}.consistency(size, cp)
		return err
	})
	return proof, err
}

// consistency proves that the log of next begins with its first size leaves.
func (t tiles) consistency(size uint64, next audit.Checkpoint) ([]audit.Hash, error) {
	if size == 0 || size == next.Size {
		return nil, nil // nothing to show
	}
	proof, err := tlog.ProveTree(int64(next.Size), int64(size), t.hashes(next))
	return fromTlog(proof), unproven("notary.Consistency", err)
}

// hashes reads the tree of cp, and checks each tile against cp's root.
func (t tiles) hashes(cp audit.Checkpoint) tlog.HashReader {
	return tlog.TileHashReader(tlog.Tree{N: int64(cp.Size), Hash: tlog.Hash(cp.Root)}, t)
}

// errTiles: the stored tiles, or the leaves, do not lead to a root.
var errTiles = errors.New("the tiles of the log contradict its root")

// unproven words an error of package tlog: the only one that is not of the
// catalog, which has the catalog's words whatever it is, is that the tiles do not
// lead to the root.
func unproven(op string, err error) error {
	if err == nil || errors.As(err, new(*fault.Error)) || fault.CodeOf(err) != fault.Internal {
		return err
	}
	return fault.Wrap(fault.Corrupt, op, "the log contradicts its root", errors.Join(errTiles, err)).
		WithHint("restart the server, which then looks whether the tiles or the records are damaged")
}

func fromTlog(proof []tlog.Hash) []audit.Hash {
	out := make([]audit.Hash, len(proof))
	for i, h := range proof {
		out[i] = audit.Hash(h)
	}
	return out
}
