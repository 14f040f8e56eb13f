package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dsvault/storage/catalog"
	"dsvault/storage/s3"
	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/keys"
	"dsvault/vault/notary"
)

// logSettings says where the log's state is kept outside the catalog.
type logSettings struct {
	State     string   // file; default log.checkpoint in the keys folder
	Witnesses []string // each "URL KEY"
	Anchor    string   // s3://…; empty: none
	Keep      string   // how long an anchor is locked
}

// logFlags are the settings of the log that serve and recover have in common.
func (a *app) logSettingFlags(cmd *cobra.Command, cfg *logSettings) {
	f := cmd.Flags()
	f.StringVar(&cfg.State, "log-state", "", "file that keeps the last signed checkpoint of the log (default: log.checkpoint in the keys folder)")
	f.StringArrayVar(&cfg.Witnesses, "witness", nil, "'URL KEY' of a witness that is asked to cosign the log; may be given again")
	f.StringVar(&cfg.Anchor, "anchor", "", "s3://BUCKET?endpoint=… with object lock, where the signed checkpoint is left every five minutes")
	f.StringVar(&cfg.Keep, "anchor-keep", "1y", "how long an anchor cannot be deleted: 90d, 1y")
}

// open makes the settings what the vault takes.
func (c logSettings) open(ctx context.Context, now time.Time) (vault.LogConfig, error) {
	cfg := vault.LogConfig{State: c.State}
	for _, text := range c.Witnesses {
		w, err := notary.ParseWitness(text)
		if err != nil {
			return cfg, err
		}
		cfg.Witnesses = append(cfg.Witnesses, w)
	}
	if c.Anchor == "" {
		return cfg, nil
	}
	until, ok := shift(now, c.Keep, +1)
	if !ok || until.Sub(now) < 24*time.Hour {
		return cfg, usage("bad --anchor-keep "+clip(c.Keep), "give 1d or more, for example 90d or 1y")
	}
	cfg.AnchorKeep = until.Sub(now)
	config, err := s3.ParseURL(c.Anchor)
	if err != nil {
		return cfg, err
	}
	store, err := s3.Open(ctx, config)
	if err != nil {
		return cfg, err
	}
	cfg.Anchor = store
	return cfg, store.Retained(ctx)
}

// originForm is what a log may be called: it names a key in C2SP notes, and
// should be the address where the log is published, without a scheme.
var originForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9._:/-]{0,198}[a-z0-9])?$`)

// newOrigin is the name of a new log; by default a random one.
func newOrigin(name string) (string, error) {
	if name == "" {
		random := make([]byte, 8)
		rand.Read(random) // never fails
		return "dsvault-log-" + hex.EncodeToString(random), nil
	}
	base, epoch := audit.SplitOrigin(name)
	if !originForm.MatchString(name) || epoch != 1 || base != name || strings.HasPrefix(name, "dsvault/") {
		return "", usage("bad --log-origin "+clip(name), "give a name such as vault.example.org/log: letters, digits and ._:/- only")
	}
	return name, nil
}

func (a *app) recoverCmd() *cobra.Command {
	var cfg nodeConfig
	var passphraseFile string
	var yes bool
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Go on with a catalog that lacks records which were signed, on record",
		Long: `For the case that serve refuses a catalog because it was rolled back or
rewritten, or because the record of what the log has signed is lost, and that
no newer catalog can be restored. Stop every server of this vault first.

It says what is lost, verifies the log that is left, and asks. Then it begins a
new epoch of the log, whose first record names the loss. Everybody who verified
the log before will be told by it, witnesses included: to them the new epoch is
another log.`,
		Example: `  dsvault recover
  dsvault recover --data /srv/vault --yes`,
		Args: args(0, 0),
	}
	a.storeFlags(cmd, &cfg)
	a.logSettingFlags(cmd, &cfg.Log)
	cmd.Flags().StringVar(&passphraseFile, "passphrase-file", "", "file whose first line is the root key's passphrase")
	cmd.Flags().BoolVar(&yes, "yes", false, "go on without being asked")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if cfg.Data, err = a.dataDir(); err != nil {
			return err
		}
		if err := cfg.exists(); err != nil {
			return err
		}
		if err := a.rootPassphrase(&cfg, passphraseFile); err != nil {
			return err
		}
		cfg.Logger = slog.New(slog.DiscardHandler)
		loss, cp, err := recoverNode(cmd.Context(), cfg, func(l notary.Loss) error {
			fmt.Fprint(a.err, describeLoss(l))
			if yes {
				return nil
			}
			return a.confirm("Go on with this catalog, on record? Type yes: ")
		})
		if err != nil {
			return err
		}
		return a.result(recovered{
			LostSize: loss.Lost.Size, LostRoot: loss.Lost.Root[:], Kept: loss.Head.Size, Origin: cp.Origin, Size: cp.Size, Root: cp.Root[:],
		}, "recovered: the log goes on as %s with %d records", cp.Origin, cp.Size)
	}
	return cmd
}

// recovered is the document of `recover --json`.
type recovered struct {
	LostSize uint64           `json:"lost_size"` // of the newest checkpoint that is known
	LostRoot dataset.HexBytes `json:"lost_root"`
	Kept     uint64           `json:"kept"`   // records that the catalog held
	Origin   string           `json:"origin"` // of the new epoch
	Size     uint64           `json:"size"`
	Root     dataset.HexBytes `json:"root"`
}

func describeLoss(l notary.Loss) string {
	var b strings.Builder
	var why *fault.Error
	if errors.As(l.Why, &why) {
		fmt.Fprintf(&b, "%s\n\n", clean(why.Message))
	}
	if l.Lost.Origin != "" {
		fmt.Fprintf(&b, "signed   %d records of %s, root %x\n", l.Lost.Size, l.Lost.Origin, l.Lost.Root)
	} else {
		fmt.Fprintf(&b, "signed   not known: nothing is left that says it\n")
	}
	fmt.Fprintf(&b, "here     %d records, root %x\n\n", l.Head.Size, l.Head.Root)
	return b.String()
}

// rootPassphrase asks for the passphrase of the root key if there is one.
func (a *app) rootPassphrase(cfg *nodeConfig, file string) error {
	protected, err := keys.Protected(cfg.keyFolder())
	if err != nil || !protected {
		return nil // whoever opens the keys says what is wrong with them
	}
	text, err := a.passphrase(file, "Passphrase of the root key: ")
	if err != nil {
		return err
	}
	cfg.Passphrase = keys.NewPassphrase(text)
	return nil
}

func recoverNode(ctx context.Context, cfg nodeConfig, confirm func(notary.Loss) error) (notary.Loss, audit.Checkpoint, error) {
	if cfg.embedded() {
		unlock, err := lockFolder(cfg.Data)
		if err != nil {
			return notary.Loss{}, audit.Checkpoint{}, err
		}
		defer unlock()
	}
	log, err := cfg.Log.open(ctx, now())
	if err != nil {
		return notary.Loss{}, audit.Checkpoint{}, err
	}
	db, err := cfg.openCatalog(ctx, catalog.Options{})
	if err != nil {
		return notary.Loss{}, audit.Checkpoint{}, err
	}
	defer db.Close()
	ring, err := keys.Open(cfg.keyFolder(), cfg.Passphrase, db, rand.Reader)
	if err != nil {
		return notary.Loss{}, audit.Checkpoint{}, err
	}
	return vault.Recover(ctx, vault.RecoverConfig{
		Catalog: db, Keys: ring, Log: log, Logger: cfg.Logger, Now: now, Random: rand.Reader,
	}, confirm)
}

func (a *app) logKeyCmd() *cobra.Command {
	return group("log-key", "The key that signs the log", a.logKeyRotateCmd())
}

func (a *app) logKeyRotateCmd() *cobra.Command {
	var cfg nodeConfig
	var overlap, passphraseFile string
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Make the log's next key",
		Long: `Makes the log's next signing key in the keys folder, and a note by which the
present key names it. From the next start of the server on both sign every
checkpoint; when the overlap is over, the new one alone. A record of the log
names the new key.

Clients that know the old key find the new one by the note. Witnesses have to
be told. Of several nodes, run it on one and copy log-*.age and log-*.note to
the keys folders of the others. When the overlap is over, keep the old files:
the notes lead clients from key to key.`,
		Example: `  dsvault log-key rotate
  dsvault log-key rotate --data /srv/vault --overlap 90d`,
		Args: args(0, 0),
	}
	cmd.Flags().StringVar(&overlap, "overlap", "30d", "how long the old key goes on signing: 30d, 1y, a date")
	cmd.Flags().StringVar(&passphraseFile, "passphrase-file", "", "file whose first line is the root key's passphrase")
	cmd.RunE = func(_ *cobra.Command, _ []string) (err error) {
		if cfg.Data, err = a.dataDir(); err != nil {
			return err
		}
		at := now()
		retires, err := parseUntil(overlap, at)
		if err != nil || retires == nil {
			return usage("bad --overlap "+clip(overlap), "give 30d, 1y or a date")
		}
		if err := a.rootPassphrase(&cfg, passphraseFile); err != nil {
			return err
		}
		key, err := keys.RotateLogKey(cfg.keyFolder(), cfg.Passphrase, at, *retires, rand.Reader)
		if err != nil {
			return err
		}
		return a.result(rotated{key, *retires}, "the log's next key is %s\nrestart the server to sign with it; the old key signs too until %s",
			key, retires.Format(time.DateOnly))
	}
	return cmd
}

// rotated is the document of `log-key rotate --json`.
type rotated struct {
	Key     string    `json:"key"` // note verifier key
	Retires time.Time `json:"old_key_retires"`
}
