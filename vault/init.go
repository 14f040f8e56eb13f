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
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/keys"
	"dsvault/vault/ledger"
	"dsvault/vault/notary"
)

// InitConfig is what Init needs. Every field is required.
type InitConfig struct {
	Catalog *catalog.DB
	Keys    *keys.Ring
	Admin   string // handle of the first admin
	Logger  *slog.Logger
	Now     func() time.Time
	Random  io.Reader
}

// Init makes an empty catalog a vault: its scope, the first admin with a grant
// at "/" and a standing token, all in the log's first record. It gives the
// token. A catalog that is a vault already is fault.Conflict.
func Init(ctx context.Context, cfg InitConfig) (identity.Secret, error) {
	const op = "vault.Init"
	handle, err := dataset.ParseName(cfg.Admin)
	if err != nil {
		return identity.Secret{}, err
	}
	token, err := identity.NewSecret(cfg.Random)
	if err != nil {
		return identity.Secret{}, err
	}
	admin := dataset.NewID[dataset.PrincipalID](cfg.Random)
	wrapped, err := cfg.Keys.NewPerson(admin)
	if err != nil {
		return identity.Secret{}, err
	}
	profile, err := sealProfile(ctx, cfg.Keys, admin, Profile{})
	if err != nil {
		return identity.Secret{}, err
	}
	led, err := ledger.Open(ctx, ledger.Config{
		Catalog: cfg.Catalog, World: rbac.NewPartial(rbac.Default()), Sealer: cfg.Keys,
		Now: cfg.Now, Random: cfg.Random, Logger: cfg.Logger,
	})
	if err != nil {
		return identity.Secret{}, err
	}
	defer led.Close()
	tag := [16]byte(dataset.NewID[dataset.RequestID](cfg.Random))
	in := ledger.Intent{
		Kind: audit.KindVaultInit, Own: true, PolicyChange: true,
		Actor:  ledger.Actor{Principal: admin, Handle: handle},
		Place:  ledger.Place{Tag: tag},
		Object: audit.Object{Kind: audit.ObjectVault, ID: tag},
	}
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		if err := wholeCatalog(ctx, tx.Tx); err != nil {
			return err
		}
		if _, err := tx.Meta(ctx, metaOrigin); !errors.Is(err, storage.ErrNoRow) {
			return fault.Wrap(fault.Conflict, op, "this catalog is a vault already", err).
				WithHint("serve it with its own data folder; if an init was interrupted, empty the database first")
		}
		if err := tx.SetMeta(ctx, metaOrigin, []byte(cfg.Keys.LogName())); err != nil {
			return err
		}
		hashes := cfg.Keys.AddressHashes()
		if err := tx.SetMeta(ctx, metaAddresses, hashes[:]); err != nil {
			return err
		}
		err := tx.AddScope(ctx, storage.ScopeRow{Scope: dataset.Root, Tag: tag, CreatedAt: tx.Now, CreatedBy: admin})
		if err != nil {
			return err
		}
		err = tx.AddPrincipal(ctx, storage.Principal{
			ID: admin, Handle: handle, Key: wrapped, Profile: profile, Revision: tx.Revision, CreatedAt: tx.Now, CreatedBy: admin,
		})
		if err != nil {
			return err
		}
		err = tx.AddGrant(ctx, dataset.Grant{
			ID: dataset.NewID[dataset.GrantID](cfg.Random), Principal: admin, Role: dataset.Admin, Scope: dataset.Root,
			Reason: "first admin", By: admin, At: tx.Now,
		}, tx.Revision)
		if err != nil {
			return err
		}
		return tx.AddToken(ctx, storage.Token{
			ID: dataset.NewID[dataset.TokenID](cfg.Random), Hash: token.Hash(), Principal: admin,
			Kind: storage.AccessToken, CreatedAt: tx.Now,
		})
	}
	if _, err = led.Record(ctx, in); err != nil {
		return token, err
	}
	return token, notary.InitState(logState(cfg.Keys, ""), logKeys(cfg.Keys)[0])
}
