package notary

import (
	"bytes"
	"context"
	"strconv"

	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
)

// Loss is what a catalog lacks of what was signed.
type Loss struct {
	Why   error            // what Open says
	Epoch uint64           // of the log so far
	Lost  audit.Checkpoint // the largest that is known to have been signed; zero: none is known
	Head  audit.Checkpoint // of the catalog
}

// Assess finds out what a catalog lacks that Open refuses. One that Open does
// not refuse is fault.Conflict.
func Assess(ctx context.Context, cfg Config) (Loss, error) {
	const op = "notary.Assess"
	_, why := Open(ctx, cfg)
	if why == nil {
		return Loss{}, fault.New(fault.Conflict, op, "nothing is lost: the catalog holds all that was signed").WithHint("start it with `dsvault serve`")
	}
	if !fault.Is(why, fault.Corrupt) {
		return Loss{}, why
	}
	n, err := open(cfg)
	if err != nil {
		return Loss{}, err
	}
	l := Loss{Why: why, Epoch: 1}
	know := func(cp audit.Checkpoint) {
		_, epoch := audit.SplitOrigin(cp.Origin)
		if epoch > l.Epoch || epoch == l.Epoch && cp.Size > l.Lost.Size {
			l.Epoch, l.Lost = epoch, cp
		}
	}
	err = cfg.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		if l.Head, err = headOf(ctx, tx); err != nil {
			return err
		}
		if l.Epoch, err = epochIn(ctx, tx); err != nil {
			return err
		}
		if stored, err := tx.Checkpoint(ctx); err == nil {
			if cp, err := n.open(stored.Note); err == nil {
				know(cp)
			}
		}
		return nil
	})
	if err != nil {
		return l, err
	}
	if cp, found, err := n.readState(); err == nil && found {
		know(cp)
	}
	if cfg.Anchor == nil {
		return l, nil
	}
	for epoch := l.Epoch; ; epoch++ {
		cp, found, err := n.anchored(ctx, epoch)
		if err != nil || !found {
			return l, err
		}
		know(cp)
	}
}

// Recover begins the next epoch of the log. record writes its first leaf, and
// calls apply in the same transaction, which holds nothing else. Then the log is signed, so that every
// node knows that it was no stranger who began the epoch.
func Recover(ctx context.Context, cfg Config, l Loss, record func(epoch uint64, apply func(context.Context, *catalog.Tx) error) error) (audit.Checkpoint, error) {
	n, err := open(cfg)
	if err != nil {
		return audit.Checkpoint{}, err
	}
	n.epoch = l.Epoch + 1
	n.signed = audit.Checkpoint{Origin: n.Origin(), Root: audit.EmptyRoot()}
	err = record(n.epoch, func(ctx context.Context, tx *catalog.Tx) error {
		head, err := tx.Head(ctx)
		if err != nil {
			return err
		}
		// The epochs that the lost records had begun count too.
		epochs, err := numbers(ctx, tx, metaEpochs)
		if err != nil {
			return err
		}
		var text []byte
		for i := range n.epoch - 1 {
			first := head.Size
			if i < uint64(len(epochs)) {
				first = epochs[i]
			}
			text = append(strconv.AppendUint(text, first, 10), ' ')
		}
		if err := tx.SetMeta(ctx, metaEpochs, bytes.TrimSpace(text)); err != nil {
			return err
		}
		if err := tx.DropTiles(ctx); err != nil {
			return err
		}
		return tx.DropCheckpoint(ctx)
	})
	if err != nil {
		return audit.Checkpoint{}, err
	}
	if err := n.recordKeys(ctx); err != nil {
		return audit.Checkpoint{}, err
	}
	err = n.sign(ctx)
	return n.signed, err
}

// EpochLeaf gives the index of the leaf that began the log's present epoch;
// later is false in the first epoch, which began with the log.
func (n *Notary) EpochLeaf(ctx context.Context) (index uint64, later bool, err error) {
	err = n.cfg.Catalog.View(ctx, func(tx *catalog.Tx) error {
		list, err := numbers(ctx, tx, metaEpochs)
		if err == nil && len(list) > 0 {
			index, later = list[len(list)-1], true
		}
		return err
	})
	return index, later, err
}
