package vault

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
	"dsvault/vault/keys"
	"dsvault/vault/ledger"
	"dsvault/vault/notary"
)

// RecoverConfig is what Recover needs. Every field is required, but for those
// of Log.
type RecoverConfig struct {
	Catalog *catalog.DB
	Keys    *keys.Ring
	Log     LogConfig
	Logger  *slog.Logger
	Now     func() time.Time
	Random  io.Reader
}

// Recover goes on with a catalog that lacks records which were signed, or
// contradicts them. It begins a new epoch of the log, whose first leaf names
// the loss: who verified the log before is told by it. confirm hears first what
// is lost; its error ends Recover.
//
// A catalog that lacks nothing, or on which a server runs, is fault.Conflict;
// one whose log is itself damaged is fault.Corrupt. Nothing is changed then.
func Recover(ctx context.Context, cfg RecoverConfig, confirm func(notary.Loss) error) (notary.Loss, audit.Checkpoint, error) {
	none := audit.Checkpoint{}
	if err := ownCatalog(ctx, cfg.Catalog, cfg.Keys); err != nil {
		return notary.Loss{}, none, err
	}
	nc := notaryConfig(cfg.Keys, cfg.Catalog, cfg.Log)
	nc.Logger, nc.Now = cfg.Logger, cfg.Now
	loss, err := notary.Assess(ctx, nc)
	if err != nil {
		return loss, none, err
	}
	if err := checkLeaves(ctx, cfg.Catalog, loss.Head); err != nil {
		return loss, none, err
	}
	if err := confirm(loss); err != nil {
		return loss, none, err
	}
	ctx, release, err := standAlone(ctx, cfg.Catalog, cfg.Logger, cfg.Random)
	if err != nil {
		return loss, none, err
	}
	defer release()
	led, err := ledger.Open(ctx, ledger.Config{
		Catalog: cfg.Catalog, World: rbac.NewPartial(rbac.Default()), Sealer: cfg.Keys,
		Now: cfg.Now, Random: cfg.Random, Logger: cfg.Logger, LeaveOpen: true,
	})
	if err != nil {
		return loss, none, err
	}
	defer led.Close()
	nc.RecordKey = func(ctx context.Context, key notary.Key, apply func(context.Context, *catalog.Tx) error) error {
		return recordLogKey(ctx, led, cfg.Catalog, key, apply)
	}
	cp, err := notary.Recover(ctx, nc, loss, func(epoch uint64, apply func(context.Context, *catalog.Tx) error) error {
		fields := []audit.Field{audit.Uint64Field(audit.FieldLogEpoch, epoch)}
		if loss.Lost.Origin != "" {
			fields = append(fields, audit.Uint64Field(audit.FieldLostSize, loss.Lost.Size), audit.BytesField(audit.FieldLostRoot, loss.Lost.Root[:]))
		}
		return recordOwn(ctx, led, cfg.Catalog, ledger.Intent{
			Kind: audit.KindLogRecover, Object: audit.Object{Kind: audit.ObjectLog}, Fields: fields,
		}, apply)
	})
	return loss, cp, err
}

func noVault(op string, err error) error {
	return fault.Wrap(fault.NotFound, op, "this catalog holds no vault", err).
		WithHint("name the catalog of the vault with --catalog, or make a vault with `dsvault init`")
}

// wholeCatalog refuses half a copy.
func wholeCatalog(ctx context.Context, tx *catalog.Tx) error {
	half, err := tx.HalfCopied(ctx)
	if err == nil && half {
		err = fault.New(fault.Conflict, "vault.wholeCatalog", "this catalog is a copy that is not whole").
			WithHint("run `dsvault migrate` again, as before: it goes on where it was; or name the catalog that it is a copy of")
	}
	return err
}

// ownCatalog checks that the catalog is that of these keys.
func ownCatalog(ctx context.Context, db *catalog.DB, ring *keys.Ring) error {
	const op = "vault.Open"
	var origin []byte
	err := db.View(ctx, func(tx *catalog.Tx) (err error) {
		if err := wholeCatalog(ctx, tx); err != nil {
			return err
		}
		if origin, err = tx.Meta(ctx, metaOrigin); err != nil {
			return err
		}
		return rootInForce(ctx, tx, ring)
	})
	switch {
	case errors.Is(err, storage.ErrNoRow):
		return noVault(op, err)
	case err != nil:
		return err
	case string(origin) != ring.LogName():
		return fault.New(fault.Conflict, op, "the key folder belongs to another vault").
			WithHint("use the keys folder and the catalog of one vault, or restore both from one backup")
	}
	return nil
}

// checkLeaves verifies the log of a catalog by itself: every leaf, every chain,
// and the root of its head.
func checkLeaves(ctx context.Context, db *catalog.DB, head audit.Checkpoint) error {
	const pageSize = 10_000
	verifier := audit.NewVerifier()
	damaged := func(err error) error {
		var found *audit.VerifyError
		if !errors.As(err, &found) {
			return err
		}
		return fault.Wrap(fault.Corrupt, "vault.checkLeaves", "the log of this catalog is itself damaged: "+err.Error(), err).
			WithHint("restore another backup of the catalog")
	}
	for from := uint64(0); from < head.Size; from += pageSize {
		err := db.View(ctx, func(tx *catalog.Tx) error {
			return tx.LeafData(ctx, from, min(from+pageSize, head.Size), func(index, _ uint64, data []byte) error {
				return verifier.AddLeaf(index, data)
			})
		})
		if err != nil {
			return damaged(err)
		}
	}
	_, err := verifier.Finish(head)
	if err != nil {
		return damaged(err)
	}
	return nil
}

// recovered gives the leaf that began the log's present epoch, with the proof
// that it is in the log of cp; nil in the first epoch.
func (v *Vault) recovered(ctx context.Context, cp audit.Checkpoint) (*audit.Recovered, error) {
	index, later, err := v.notary.EpochLeaf(ctx)
	if err != nil || !later {
		return nil, err
	}
	proof, err := v.notary.Inclusion(ctx, cp, index)
	if err != nil {
		return nil, err
	}
	r := &audit.Recovered{Index: index}
	for _, h := range proof {
		r.Proof = append(r.Proof, h[:])
	}
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		return tx.LeafData(ctx, index, index+1, func(_, _ uint64, data []byte) error {
			r.Leaf = data
			return nil
		})
	})
	return r, err
}

// CheckSigned makes sure, without changing anything, that the catalog is of
// these keys and holds all that its log has signed, as far as the log's state,
// anchor and witnesses know.
func CheckSigned(ctx context.Context, cfg RecoverConfig) error {
	if err := ownCatalog(ctx, cfg.Catalog, cfg.Keys); err != nil {
		return err
	}
	nc := notaryConfig(cfg.Keys, cfg.Catalog, cfg.Log)
	nc.Logger, nc.Now = cfg.Logger, cfg.Now
	loss, err := notary.Assess(ctx, nc)
	switch {
	case fault.Is(err, fault.Conflict):
		return nil // nothing is lost
	case err != nil:
		return err
	}
	return loss.Why
}
