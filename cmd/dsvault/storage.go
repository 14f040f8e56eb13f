package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/spf13/cobra"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault"
	"dsvault/vault/dataset"
	"dsvault/vault/keys"
	"dsvault/vault/wire"
)

func (a *app) storageCmd() *cobra.Command {
	return group("storage", "The store of the objects", a.storageMigrateCmd())
}

// storageMove is what `storage migrate` is told.
type storageMove struct {
	nodeConfig
	from, to, region string
}

func (a *app) storageMigrateCmd() *cobra.Command {
	var cfg storageMove
	var passphraseFile string
	cmd := &cobra.Command{
		Use:   "migrate --to URL",
		Short: "Move all objects to another store",
		Long: `Copies all objects of a store to another one, a folder or an S3 bucket, as they
are: sealed. Each is read back and compared with its SHA-256 in the catalog. Once
all are there the catalog is switched to the new store, and a record of the log
says so. Stop every server of this vault first. The old store stays as it is: remove
it yourself, once you have a backup of the new one.

If an object is damaged it is named, the others are copied, and nothing is
switched: the exit status is 7. Unfinished uploads stay behind; their pushes begin
those shards again.

After an interruption, run it again: it goes on where it was. What is in the new
store already, with the right bytes, is not copied: to be without servers for a
shorter time, copy the store with tools of its own first. In a folder objects lie
below objects/, in a bucket below its prefix; the keys are the same.

Then start the servers with --objects URL, or --store REGION=URL. They refuse the
old store, and the new one before it is whole.

Credentials of the new store are those of the old one, unless AWS_ACCESS_KEY_ID_TO
and AWS_SECRET_ACCESS_KEY_TO are set.`,
		Example: `  dsvault storage migrate --to 's3://vault?endpoint=https://s3.example.org'
  dsvault storage migrate --from 's3://vault?endpoint=https://s3.example.org' --to dir:/srv/objects
  dsvault storage migrate --region eu --from dir:/srv/eu --to 's3://vault-eu?endpoint=https://s3.example.org'`,
		Args: args(0, 0),
	}
	f := cmd.Flags()
	f.StringVar(&cfg.from, "from", "", "store to copy from: dir:PATH or s3://… (default: the folder in the data folder)")
	f.StringVar(&cfg.to, "to", "", "store to copy to: dir:PATH or s3://…")
	f.StringVar(&cfg.region, "region", "", "region whose store it is (default: the store without a name)")
	f.StringVar(&cfg.Catalog, "catalog", "", "sqlite:PATH or postgres://… (default: sqlite in the data folder)")
	f.StringVar(&passphraseFile, "passphrase-file", "", "file whose first line is the root key's passphrase")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if cfg.Data, err = a.dataDir(); err != nil {
			return err
		}
		if cfg.to == "" {
			return usage("where to?", "name the new store with --to")
		}
		if cfg.region != "" {
			if _, err := dataset.ParseName(cfg.region); err != nil {
				return err
			}
		} else if cfg.from == "" {
			cfg.from = "dir:" + filepath.Join(cfg.Data, "objects")
		}
		if cfg.from == "" {
			return usage("where from?", "name the store of that region with --from")
		}
		if err := cfg.exists(); err != nil {
			return err
		}
		if err := a.rootPassphrase(&cfg.nodeConfig, passphraseFile); err != nil {
			return err
		}
		bar := a.progress("moving")
		defer bar.finish()
		done, err := moveObjects(cmd.Context(), cfg, bar)
		bar.finish()
		if err != nil && done.Lost == 0 {
			return err
		}
		return a.showMoved(done, cfg.from == cfg.to, err)
	}
	return cmd
}

// movedDoc is the document of `storage migrate --json`.
type movedDoc struct {
	Objects  int64          `json:"objects"`
	Bytes    int64          `json:"bytes"`
	Copied   int64          `json:"copied"`   // of the objects, those that this run has copied
	Extra    int64          `json:"extra"`    // in the new store, unknown to the catalog
	Switched bool           `json:"switched"` // the vault is in the new store now
	Damaged  int64          `json:"damaged"`
	Findings []wire.Finding `json:"findings"` // the damaged ones, at most 1000
}

func (a *app) showMoved(done vault.MovedObjects, same bool, err error) error {
	doc := movedDoc{Objects: done.Objects, Bytes: done.Bytes, Copied: done.Copied, Extra: done.Extra, Switched: err == nil,
		Damaged: done.Lost, Findings: []wire.Finding{}}
	t := newTable(a.out, "KIND", "SHARD", "OBJECT", "DETAIL")
	for _, f := range done.Damaged {
		t.row(f.Kind, f.Shard, f.Key, f.Detail)
		doc.Findings = append(doc.Findings, f)
	}
	if err != nil {
		show := t.flush
		if a.json {
			show = func() error { return writeJSON(a.out, doc) }
		}
		return errors.Join(show(), err)
	}
	note := ""
	if done.Extra > 0 {
		note = fmt.Sprintf("; the store also has %s that the catalog does not know", plural(int(done.Extra), "object", "objects"))
	}
	if same {
		return a.result(doc, "verified %s, %s, and pinned them in this store%s", plural(int(done.Objects), "object", "objects"), size(done.Bytes), note)
	}
	return a.result(doc, "moved %s, %s, of which %d were copied now%s\nstart the servers on the new store; remove the old one once the new one is backed up",
		plural(int(done.Objects), "object", "objects"), size(done.Bytes), done.Copied, note)
}

// moveObjects moves the objects of cfg, on which no server may run.
func moveObjects(ctx context.Context, cfg storageMove, bar *progress) (vault.MovedObjects, error) {
	var none vault.MovedObjects
	if cfg.embedded() {
		unlock, err := lockFolder(cfg.Data)
		if err != nil {
			return none, err
		}
		defer unlock()
	}
	db, err := cfg.openCatalog(ctx, catalog.Options{})
	if err != nil {
		return none, err
	}
	defer db.Close()
	ring, err := keys.Open(cfg.keyFolder(), cfg.Passphrase, db, rand.Reader)
	if err != nil {
		return none, err
	}
	from, err := cfg.openStore(ctx, cfg.region, cfg.from)
	if err != nil {
		return none, err
	}
	to := from
	if cfg.to != cfg.from {
		if to, err = cfg.openTarget(ctx); err != nil {
			return none, err
		}
	}
	return vault.MoveObjects(ctx, vault.MoveConfig{
		Catalog: db, Keys: ring, From: from, To: to, Region: cfg.region, Logger: slog.New(slog.DiscardHandler),
		Now: now, Random: rand.Reader, Expect: bar.Expect, Progress: bar.Done,
	})
}

// openTarget opens the new store, with credentials of its own if there are any.
func (c storageMove) openTarget(ctx context.Context) (storage.Objects, error) {
	return c.openStoreAs(ctx, "--to ", c.to, "to", c.region)
}
