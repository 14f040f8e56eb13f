package main

import (
	"context"
	"crypto/rand"
	"log/slog"
	"path/filepath"

	"github.com/spf13/cobra"

	"dsvault/storage/catalog"
	"dsvault/vault"
	"dsvault/vault/dataset"
	"dsvault/vault/keys"
)

func (a *app) rootKeyCmd() *cobra.Command {
	return group("root-key", "The key that all other keys hang from", a.rootKeyRotateCmd())
}

// rootKeyFlags say how the new root key is protected.
type rootKeyFlags struct {
	passphraseFile    string
	newPassphraseFile string
	newPassphrase     bool
	noPassphrase      bool
}

// rootRotated is the document of `root-key rotate --json`.
type rootRotated struct {
	KeyHash   dataset.HexBytes `json:"key_hash"`  // SHA-256 of the new recipient, as in the log
	Protected bool             `json:"protected"` // by a passphrase
}

func (a *app) rootKeyRotateCmd() *cobra.Command {
	var cfg nodeConfig
	var flags rootKeyFlags
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Give the vault another root key, and set or change its passphrase",
		Long: `Makes a new root key, seals every key to it that was sealed to the old one
(epochs, the log's keys, the vault's own), tries that it opens them all, puts it
in place, and destroys the old one. A record of the log names the new key. Data,
catalog and the keys of datasets stay as they are, so it takes a second.

The passphrase stays the same, unless a new one is given or --no-passphrase.
--new-passphrase asks for it twice, or takes it from DSVAULT_NEW_PASSPHRASE.

Stop every server of this vault first. If it is interrupted, run it again with the
same flags: it goes on where it was. Servers refuse the folder only if the new
key was about to be put in place.

Nodes that have a keys folder of their own need root.key and all *.age files from
this one before they start; with the old ones they refuse to.

Take a backup then. Backups from before hold the old root key, and open with it:
destroy them if it became known. Whoever has the old root key and an old copy of
the keys folder can open what was sealed until now; an erasure begins a new epoch
of keys, which ends that once the backup window has passed.`,
		Example: `  dsvault root-key rotate
  dsvault root-key rotate --new-passphrase
  dsvault root-key rotate --passphrase-file old.txt --new-passphrase-file new.txt`,
		Args: args(0, 0),
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Catalog, "catalog", "", "sqlite:PATH or postgres://… (default: sqlite in the data folder)")
	f.StringVar(&flags.passphraseFile, "passphrase-file", "", "file whose first line is the root key's passphrase")
	f.StringVar(&flags.newPassphraseFile, "new-passphrase-file", "", "file whose first line is the new root key's passphrase")
	f.BoolVar(&flags.newPassphrase, "new-passphrase", false, "protect the new root key with a new passphrase")
	f.BoolVar(&flags.noPassphrase, "no-passphrase", false, "do not protect the new root key")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if cfg.Data, err = a.dataDir(); err != nil {
			return err
		}
		if err := cfg.exists(); err != nil {
			return err
		}
		if flags.noPassphrase && (flags.newPassphrase || flags.newPassphraseFile != "") {
			return usage("a new passphrase, or none?", "leave out --no-passphrase, or the others")
		}
		next, err := a.rootPassphrases(&cfg, flags)
		if err != nil {
			return err
		}
		hash, err := rotateRoot(cmd.Context(), cfg, next)
		if err != nil {
			return err
		}
		protected, err := keys.Protected(cfg.keyFolder())
		if err != nil {
			return err
		}
		return a.result(rootRotated{hash[:], protected}, "the root key is another one, and the old one is destroyed\n"+
			"nodes with a keys folder of their own need root.key and *.age from this one; take a backup now")
	}
	return cmd
}

// rootPassphrases reads the passphrase of the root key into cfg, and gives that of
// the new one.
func (a *app) rootPassphrases(cfg *nodeConfig, flags rootKeyFlags) (next keys.Passphrase, err error) {
	half, err := keys.Rotating(cfg.keyFolder())
	if err != nil {
		return next, err
	}
	fresh := flags.noPassphrase || flags.newPassphrase || flags.newPassphraseFile != ""
	if !half || !fresh { // of an interrupted rotation the new key is all that matters
		if half {
			if protected, _ := keys.Protected(filepath.Join(cfg.keyFolder(), "next")); protected {
				text, err := a.passphrase(flags.passphraseFile, "Passphrase of the root key: ")
				return keys.NewPassphrase(text), err
			}
		}
		if err := a.rootPassphrase(cfg, flags.passphraseFile); err != nil {
			return next, err
		}
	}
	switch {
	case flags.noPassphrase:
		return keys.NewPassphrase(""), nil
	case fresh:
		return a.newRootPassphrase(flags.newPassphraseFile)
	}
	return cfg.Passphrase, nil
}

func (a *app) newRootPassphrase(file string) (keys.Passphrase, error) {
	var text string
	var err error
	switch {
	case file != "":
		text, err = firstLine(file)
	case a.env("DSVAULT_NEW_PASSPHRASE") != "":
		text = a.env("DSVAULT_NEW_PASSPHRASE")
	default:
		if text, err = a.readSecret("New passphrase: "); err == nil && isTerminal(a.in) {
			var again string
			if again, err = a.readSecret("Again: "); err == nil && again != text {
				err = usage("the two passphrases differ", "run it again")
			}
		}
	}
	if err == nil && text == "" {
		err = usage("the new passphrase is empty", "give one, or say --no-passphrase")
	}
	return keys.NewPassphrase(text), err
}

func rotateRoot(ctx context.Context, cfg nodeConfig, next keys.Passphrase) (hash [32]byte, err error) {
	if cfg.embedded() {
		unlock, err := lockFolder(cfg.Data)
		if err != nil {
			return hash, err
		}
		defer unlock()
	}
	db, err := cfg.openCatalog(ctx, catalog.Options{})
	if err != nil {
		return hash, err
	}
	defer db.Close()
	return vault.RotateRootKey(ctx, vault.RootKeyConfig{
		Catalog: db, Dir: cfg.keyFolder(), Pass: cfg.Passphrase, Next: next,
		Logger: slog.New(slog.DiscardHandler), Now: now, Random: rand.Reader,
	})
}
