package main

import (
	"context"
	"crypto/rand"
	"log/slog"

	"github.com/spf13/cobra"

	"dsvault/storage/catalog"
	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
)

func (a *app) migrateCmd() *cobra.Command {
	var cfg nodeConfig
	var from, to string
	cmd := &cobra.Command{
		Use:   "migrate --to URL",
		Short: "Copy the catalog to another database",
		Long: `Copies the catalog with the audit log to an empty database, on SQLite or
PostgreSQL, compares the two row by row, and verifies the log in the copy: its
root is the same as before. Stop every server of this vault first. The catalog
that is copied stays as it is.

After an interruption, run it again: it goes on where it was, and says so if the
copy is whole already. A copy that is not whole is not a vault: serve refuses it.

Then start the servers with --catalog URL. Keys and objects stay where they are.`,
		Example: `  dsvault migrate --to postgres://vault@db.example.org/vault
  dsvault migrate --data /srv/vault --from postgres://vault@db.example.org/vault --to sqlite:/srv/vault/catalog.db`,
		Args: args(0, 0),
	}
	cmd.Flags().StringVar(&from, "from", "", "catalog to copy: sqlite:PATH or postgres://… (default: sqlite in the data folder)")
	cmd.Flags().StringVar(&to, "to", "", "empty database to copy it to: sqlite:PATH or postgres://…")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if cfg.Data, err = a.dataDir(); err != nil {
			return err
		}
		if to == "" {
			return usage("where to?", "name an empty database with --to")
		}
		if err := cfg.exists(); err != nil {
			return err
		}
		cfg.Catalog = from
		if cfg.catalogURL() == to {
			return usage("--from and --to are the same", "name another, empty database with --to")
		}
		bar := a.progressOf("copying", false)
		defer bar.finish()
		copied, cp, err := migrateCatalog(cmd.Context(), cfg, to, bar.Done)
		bar.finish()
		if err != nil {
			return err
		}
		did := "copied"
		if copied.New == 0 {
			did = "the copy there is whole already:"
		}
		return a.result(migrated{Rows: copied.Rows, New: copied.New, Size: cp.Size, Root: cp.Root[:]},
			"%s %d rows; the log has %d records, root %x", did, copied.Rows, cp.Size, cp.Root[:])
	}
	return cmd
}

// migrated is the document of `migrate --json`.
type migrated struct {
	Rows int64            `json:"rows"`
	New  int64            `json:"new"`  // of these, that this run has copied
	Size uint64           `json:"size"` // records of the log
	Root dataset.HexBytes `json:"root"`
}

// migrateCatalog copies the catalog of cfg, on which no server may run.
func migrateCatalog(ctx context.Context, cfg nodeConfig, to string, progress func(int64)) (catalog.Copied, audit.Checkpoint, error) {
	if cfg.embedded() {
		unlock, err := lockFolder(cfg.Data)
		if err != nil {
			return catalog.Copied{}, audit.Checkpoint{}, err
		}
		defer unlock()
	}
	source, err := cfg.openCatalog(ctx, catalog.Options{})
	if err != nil {
		return catalog.Copied{}, audit.Checkpoint{}, err
	}
	defer source.Close()
	target, err := catalog.Open(ctx, to, catalog.Options{})
	if err != nil {
		return catalog.Copied{}, audit.Checkpoint{}, err
	}
	defer target.Close()
	return vault.CopyCatalog(ctx, vault.CopyConfig{
		From: source, To: target, Logger: slog.New(slog.DiscardHandler), Random: rand.Reader, Progress: progress,
	})
}
