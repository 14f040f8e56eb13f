package notary

import (
	"context"

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
		list, err := tlog.ProveRecord(int64(cp.Size), int64(index), hashes(ctx, tx, cp))
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
		proof, err = proveConsistency(ctx, tx, size, cp)
		return err
	})
	return proof, err
}

func proveConsistency(ctx context.Context, tx *catalog.Tx, size uint64, next audit.Checkpoint) ([]audit.Hash, error) {
	if size == 0 || size == next.Size {
		return nil, nil // nothing to show
	}
	proof, err := tlog.ProveTree(int64(next.Size), int64(size), hashes(ctx, tx, next))
	return fromTlog(proof), unproven("notary.Consistency", err)
}

// hashes reads the tree of cp from tiles, and checks each against cp's root.
func hashes(ctx context.Context, tx *catalog.Tx, cp audit.Checkpoint) tlog.HashReader {
	return tlog.TileHashReader(tlog.Tree{N: int64(cp.Size), Hash: tlog.Hash(cp.Root)}, tiles{ctx, tx})
}

// unproven words an error of package tlog: the only one that is not of the
// catalog is that the tiles do not lead to the root.
func unproven(op string, err error) error {
	if err == nil || fault.CodeOf(err) != fault.Internal {
		return err
	}
	return fault.Wrap(fault.Corrupt, op, "the tiles of the log contradict its root", err).
		WithHint("restore the catalog from a backup")
}

func fromTlog(proof []tlog.Hash) []audit.Hash {
	out := make([]audit.Hash, len(proof))
	for i, h := range proof {
		out[i] = audit.Hash(h)
	}
	return out
}
