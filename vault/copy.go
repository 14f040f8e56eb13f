package vault

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
	"dsvault/vault/notary"
)

// CopyConfig is what CopyCatalog needs.
type CopyConfig struct {
	From, To *catalog.DB
	Logger   *slog.Logger
	Random   io.Reader
	Progress func(rows int64) // hears of the rows that were added, now and then
}

// CopyCatalog makes an empty catalog a copy of a vault's, on the same engine or
// another, and gives the log's size and root, which are the same in both: every
// leaf of the copy was verified. After an interruption it goes on where it was.
//
// A catalog on which a server runs is fault.Conflict.
func CopyCatalog(ctx context.Context, cfg CopyConfig) (catalog.Copied, audit.Checkpoint, error) {
	const op = "vault.CopyCatalog"
	none := audit.Checkpoint{}
	ctx, release, err := standAlone(ctx, cfg.From, cfg.Logger, cfg.Random)
	if err != nil {
		return catalog.Copied{}, none, err
	}
	defer release()
	before, err := notary.Head(ctx, cfg.From)
	if err != nil {
		return catalog.Copied{}, none, err
	}
	copied, err := catalog.Copy(ctx, cfg.From, cfg.To, cfg.Progress)
	if err != nil {
		return copied, none, err
	}
	after, err := notary.Head(ctx, cfg.From)
	if err != nil {
		return copied, none, err
	}
	there, err := notary.Head(ctx, cfg.To)
	if err != nil {
		return copied, none, err
	}
	if after != before || there != before {
		return copied, none, fault.New(fault.Conflict, op, "the log went on while the catalog was copied").
			WithHint("stop every server of this vault, empty the database that it is copied to, and begin again")
	}
	cp, err := VerifyCatalog(ctx, cfg.To)
	return copied, cp, err
}

// SnapshotCatalog is CopyCatalog for a catalog that servers may be running on:
// the copy is of one moment, and says so itself by its head.
func SnapshotCatalog(ctx context.Context, from, to *catalog.DB, progress func(rows int64)) (audit.Checkpoint, error) {
	if _, err := catalog.Copy(ctx, from, to, progress); err != nil {
		return audit.Checkpoint{}, err
	}
	return VerifyCatalog(ctx, to)
}

// VerifyCatalog checks every leaf of a catalog's log, every chain and the root,
// and gives its size and root, and the name that the vault gave it.
func VerifyCatalog(ctx context.Context, db *catalog.DB) (audit.Checkpoint, error) {
	var origin []byte
	err := db.View(ctx, func(tx *catalog.Tx) (err error) {
		origin, err = tx.Meta(ctx, metaOrigin)
		return err
	})
	if errors.Is(err, storage.ErrNoRow) {
		err = fault.Wrap(fault.NotFound, "vault.VerifyCatalog", "this catalog holds no vault", err).
			WithHint("name the catalog of a vault")
	}
	if err != nil {
		return audit.Checkpoint{}, err
	}
	head, err := notary.Head(ctx, db)
	if err != nil {
		return audit.Checkpoint{}, err
	}
	if err := checkLeaves(ctx, db, head); err != nil {
		return audit.Checkpoint{}, err
	}
	head.Origin = string(origin)
	return head, nil
}
