package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"dsvault/vault/dataset"
	"dsvault/vault/keys"
)

// initialised is the document of `init --json`.
type initialised struct {
	Data   string   `json:"data"`
	Admin  string   `json:"admin"`
	Token  string   `json:"token"` // shown once
	Backup []string `json:"backup"`
}

// storeFlags are the places that init and serve have in common.
func (a *app) storeFlags(cmd *cobra.Command, cfg *nodeConfig) {
	f := cmd.Flags()
	f.StringVar(&cfg.Catalog, "catalog", "", "sqlite:PATH or postgres://… (default: sqlite in the data folder)")
	f.StringVar(&cfg.Objects, "objects", "", "dir:PATH or s3://BUCKET?endpoint=… (default: a folder in the data folder); S3 credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
}

func (a *app) initCmd() *cobra.Command {
	var cfg nodeConfig
	var admin, passphraseFile string
	var withPassphrase bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a new vault in the data folder",
		Long: `Makes a vault: its data folder, root key and log signing key, database, and the
first admin, whose token is printed once. It refuses to run twice.

With --passphrase the root key is encrypted. The passphrase is asked for twice,
or taken from DSVAULT_PASSPHRASE or --passphrase-file; serve needs it too.`,
		Example: `  dsvault init
  dsvault init --data /srv/vault --passphrase --admin ada
  dsvault init --catalog postgres://vault@db/vault --objects 's3://vault?endpoint=https://s3.example.org'`,
		Args: args(0, 0),
	}
	a.storeFlags(cmd, &cfg)
	cmd.Flags().BoolVar(&withPassphrase, "passphrase", false, "encrypt the root key with a passphrase")
	cmd.Flags().StringVar(&passphraseFile, "passphrase-file", "", "file whose first line is the passphrase")
	cmd.Flags().StringVar(&admin, "admin", "admin", "handle of the first admin")
	cmd.Flags().StringVar(&cfg.Origin, "log-origin", "", "name of the log in its checkpoints, such as vault.example.org/log (default: a random one)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if cfg.Data, err = a.dataDir(); err != nil {
			return err
		}
		if _, err := dataset.ParseName(admin); err != nil {
			return err
		}
		if withPassphrase || passphraseFile != "" || a.env("DSVAULT_PASSPHRASE") != "" {
			if cfg.Passphrase, err = a.newPassphrase(passphraseFile); err != nil {
				return err
			}
		}
		cfg.Logger = slog.New(slog.DiscardHandler)
		token, err := initNode(cmd.Context(), cfg, admin)
		if err != nil {
			return err
		}
		serve := "`dsvault serve`"
		for _, name := range []string{"data", "catalog", "objects"} {
			if f := cmd.Flag(name); f != nil && f.Changed {
				serve = "`dsvault serve` with the same --data, --catalog and --objects"
			}
		}
		return a.printInit(initialised{Data: cfg.Data, Admin: admin, Token: token.Expose(), Backup: cfg.backup()}, serve)
	}
	return cmd
}

// backup says what has to be kept together to restore this vault.
func (c nodeConfig) backup() []string {
	objects := c.Objects
	if objects == "" {
		objects = "dir:" + c.Data + "/objects"
	}
	catalog, _, _ := strings.Cut(c.catalogURL(), "?")
	if strings.HasPrefix(catalog, "postgres") {
		catalog = "the PostgreSQL database" // its URL may hold a password
	}
	return []string{
		c.keyFolder() + ": the root key and the log's signing key. Without them nothing opens; whoever has them and the rest can read everything. Keep a copy apart from the others",
		catalog + ": who may do what, and the log",
		objects + ": the sealed data",
	}
}

func (a *app) printInit(doc initialised, serve string) error {
	if a.json {
		return writeJSON(a.out, doc)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "made a vault in %s\n\nBack up, all of:\n", clean(doc.Data))
	for _, line := range doc.Backup {
		fmt.Fprintf(&b, "  %s\n", clean(line))
	}
	fmt.Fprintf(&b, "\nNext: %s, then `dsvault login http://127.0.0.1:8200` with this token\n", serve)
	fmt.Fprintf(&b, "token of %s, shown only now:\n%s\n", doc.Admin, doc.Token)
	_, err := io.WriteString(a.out, b.String())
	return err
}

// newPassphrase takes a passphrase that is to be set; at a terminal it is asked
// for twice.
func (a *app) newPassphrase(file string) (keys.Passphrase, error) {
	text, err := a.passphrase(file, "New passphrase: ")
	if err != nil {
		return keys.Passphrase{}, err
	}
	if file == "" && a.env("DSVAULT_PASSPHRASE") == "" && isTerminal(a.in) {
		again, err := a.readSecret("Again: ")
		if err != nil {
			return keys.Passphrase{}, err
		}
		if again != text {
			return keys.Passphrase{}, usage("the two passphrases differ", "run it again")
		}
	}
	return keys.NewPassphrase(text), nil
}

// passphrase reads a passphrase from a file, the environment, a prompt or
// stdin, in this order.
func (a *app) passphrase(file, prompt string) (text string, err error) {
	switch {
	case file != "":
		text, err = firstLine(file)
	case a.env("DSVAULT_PASSPHRASE") != "":
		text = a.env("DSVAULT_PASSPHRASE")
	default:
		text, err = a.readSecret(prompt)
	}
	if err == nil && text == "" {
		err = usage("the passphrase is empty", "give one at the prompt, in DSVAULT_PASSPHRASE or with --passphrase-file")
	}
	return text, err
}

func firstLine(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", unreadable("dsvault.firstLine", path, err)
	}
	defer f.Close()
	return (&app{in: f}).readLine()
}
