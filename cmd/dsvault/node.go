package main

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/storage/dir"
	"dsvault/storage/s3"
	"dsvault/vault"
	"dsvault/vault/courier"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/keys"
	"dsvault/vault/metrics"
)

// nodeConfig says where a vault keeps its things. Data holds the keys, and
// also the catalog and the objects unless they are named.
type nodeConfig struct {
	Data       string
	Catalog    string   // sqlite:PATH or postgres://…; default sqlite:DATA/catalog.db
	Objects    string   // dir:PATH or s3://…; default dir:DATA/objects
	Stores     []string // REGION=dir:PATH or REGION=s3://…, one for each region that has a store of its own
	Policies   string   // folder with model.conf, policy.csv and truth.csv; default the built-in policy
	Passphrase keys.Passphrase
	Origin     string      // of the log of a new vault; default a random one
	Log        logSettings // of a vault that is there
	Logger     *slog.Logger
	Counts     *metrics.Metrics // nil: nobody counts

	CheckEvery, CheckDataEvery, BackupWindow time.Duration // see vault.Config

	Mailer    *courier.Mailer // likewise
	PublicURL string
	Hooks     *courier.Hooks
	Reviews   vault.ReviewConfig
}

func (c nodeConfig) keyFolder() string { return filepath.Join(c.Data, "keys") }

// exists refuses a data folder that holds no vault, before anything is made in it.
func (c nodeConfig) exists() error {
	if _, err := os.Stat(c.keyFolder()); errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(fault.NotFound, "dsvault.node", "there is no vault in "+c.Data, err).
			WithHint("make one with `dsvault init`, or name its folder with --data")
	}
	return nil
}

func (c nodeConfig) catalogURL() string {
	if c.Catalog != "" {
		return c.Catalog
	}
	return "sqlite:" + filepath.Join(c.Data, "catalog.db")
}

// openCatalog opens the catalog of a vault that is there. A SQLite file that is
// missing is not made: an empty one would hide that another path was meant.
func (c nodeConfig) openCatalog(ctx context.Context, options catalog.Options) (*catalog.DB, error) {
	if path, ok := strings.CutPrefix(c.catalogURL(), "sqlite:"); ok {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, fault.Wrap(fault.NotFound, "dsvault.openCatalog", "there is no catalog "+path, err).
				WithHint("name the vault's catalog, with --catalog or DSVAULT_CATALOG, as at `dsvault init`; if it is lost, restore a backup")
		}
	}
	return catalog.Open(ctx, c.catalogURL(), options)
}

// embedded reports whether this process has the catalog to itself.
func (c nodeConfig) embedded() bool { return strings.HasPrefix(c.catalogURL(), "sqlite:") }

// openObjects opens the object store, or all of them as one.
func (c nodeConfig) openObjects(ctx context.Context) (storage.Objects, error) {
	home := c.Objects
	if home == "" {
		home = "dir:" + filepath.Join(c.Data, "objects")
	}
	objects, err := c.openStore(ctx, "", home)
	if err != nil || len(c.Stores) == 0 {
		return objects, err
	}
	named := map[string]storage.Objects{}
	for _, text := range c.Stores {
		region, url, ok := strings.Cut(text, "=")
		if !ok {
			return nil, usage("bad --store "+clip(text), "give REGION=dir:PATH or 'REGION=s3://BUCKET?endpoint=…'")
		}
		if _, err := dataset.ParseName(region); err != nil {
			return nil, err
		}
		if _, twice := named[region]; twice {
			return nil, usage("the region "+region+" has two stores", "name one")
		}
		if named[region], err = c.openStore(ctx, region, url); err != nil {
			return nil, err
		}
	}
	return storage.NewRegions(objects, named), nil
}

// openStore opens the store of a region, or the one without a name.
func (c nodeConfig) openStore(ctx context.Context, region, url string) (storage.Objects, error) {
	flag := "--objects "
	if region != "" {
		flag = "--store " + region + "="
	}
	return c.openStoreAs(ctx, flag, url, region)
}

// openStoreAs opens a store that a flag names, with the first S3 credentials that
// there are: those in the variables of the given suffixes, or those without one.
func (c nodeConfig) openStoreAs(ctx context.Context, flag, url string, suffixes ...string) (objects storage.Objects, err error) {
	path, folder := strings.CutPrefix(url, "dir:")
	switch {
	case folder:
		objects, err = dir.Open(path)
	case strings.HasPrefix(url, "s3:"):
		var config s3.Config
		if config, err = s3.ParseURL(url); err == nil {
			for _, suffix := range suffixes {
				if suffix != "" && config.Creds == nil {
					config.Creds = s3.EnvCredentials(suffix)
				}
			}
			objects, err = s3.Open(ctx, config)
		}
	default:
		err = fault.New(fault.Invalid, "dsvault.objects", "unknown kind of object store").
			WithHint("use " + flag + "dir:PATH or '" + flag + "s3://BUCKET?endpoint=…'")
	}
	if err != nil {
		return nil, err
	}
	return count(c.Counts, objects), nil
}

func (c nodeConfig) policy() (*rbac.Policy, error) {
	if c.Policies == "" {
		return rbac.Default(), nil
	}
	return rbac.LoadPolicy(os.DirFS(c.Policies))
}

// meter is Counts as the vault wants it.
func (c nodeConfig) meter() vault.Meter {
	if c.Counts == nil {
		return nil
	}
	return c.Counts
}

// initNode makes a vault and gives the first admin's token.
func initNode(ctx context.Context, cfg nodeConfig, admin string) (identity.Secret, error) {
	stage, publish, discard, err := stageData(cfg.Data, "dsvault.init")
	if err != nil {
		return identity.Secret{}, err
	}
	defer discard()
	cfg.Data = stage
	token, err := initStage(ctx, cfg, admin)
	if err != nil {
		return identity.Secret{}, err
	}
	return token, publish()
}

// stageData gives a folder beside data in which a vault is made, and which
// publish renames to data at the end: so data is a whole vault or is not there.
func stageData(data, op string) (stage string, publish func() error, discard func(), err error) {
	if _, err := os.ReadDir(data); err == nil {
		if err := os.Remove(data); err != nil { // only an empty folder goes
			return "", nil, nil, fault.Wrap(fault.Conflict, op, data+" is there already and is not empty", err).
				WithHint("a vault is made once: start it with `dsvault serve`, or name another folder with --data")
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", nil, nil, fault.Wrap(fault.Invalid, op, "cannot use "+data, err).WithHint("name a folder with --data")
	}
	parent := filepath.Dir(filepath.Clean(data))
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return "", nil, nil, fault.Wrap(fault.Unavailable, op, "cannot make "+parent, err)
	}
	sweepStages(parent)
	if stage, err = os.MkdirTemp(parent, stagePrefix+"*"); err != nil { // 0700
		return "", nil, nil, fault.Wrap(fault.Unavailable, op, "cannot write to "+parent, err).
			WithHint("name a folder below one that you may write to with --data")
	}
	unlock, err := lockFolder(stage)
	if err != nil {
		os.RemoveAll(stage)
		return "", nil, nil, err
	}
	discard = func() {
		os.RemoveAll(stage) // does nothing once it is renamed
		unlock()
	}
	publish = func() error {
		if err := os.Rename(stage, data); err != nil {
			return fault.Wrap(fault.Conflict, op, "cannot put the vault at "+data, err).
				WithHint("name a folder that does not exist with --data")
		}
		return syncFolder(parent)
	}
	return stage, publish, discard, nil
}

const stagePrefix = ".dsvault-init-"

// sweepStages removes what killed runs of init have left: keys that no vault
// was made with. A run that goes on holds the lock on its folder.
func sweepStages(parent string) {
	entries, _ := os.ReadDir(parent) // what cannot be read is not swept
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), stagePrefix) {
			continue
		}
		dir := filepath.Join(parent, e.Name())
		if unlock, err := lockFolder(dir); err == nil {
			os.RemoveAll(dir)
			unlock()
		}
	}
}

func initStage(ctx context.Context, cfg nodeConfig, admin string) (identity.Secret, error) {
	origin, err := newOrigin(cfg.Origin)
	if err != nil {
		return identity.Secret{}, err
	}
	if err := keys.Init(cfg.keyFolder(), origin, cfg.Passphrase, rand.Reader); err != nil {
		return identity.Secret{}, err
	}
	db, err := catalog.Open(ctx, cfg.catalogURL(), catalog.Options{})
	if err != nil {
		return identity.Secret{}, err
	}
	defer db.Close()
	ring, err := keys.Open(cfg.keyFolder(), cfg.Passphrase, db, rand.Reader)
	if err != nil {
		return identity.Secret{}, err
	}
	if _, err := cfg.openObjects(ctx); err != nil {
		return identity.Secret{}, err
	}
	return vault.Init(ctx, vault.InitConfig{
		Catalog: db, Keys: ring, Admin: admin, Logger: cfg.Logger, Now: time.Now, Random: rand.Reader,
	})
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// node is a running vault with what it stands on.
type node struct {
	*vault.Vault
	db     *catalog.DB
	clock  *catalog.Clock // nil: the machine's own
	unlock func()
}

// openNode starts the vault in cfg.Data. It holds the folder: a second server
// on the same embedded catalog is refused.
func openNode(ctx context.Context, cfg nodeConfig) (*node, error) {
	if err := cfg.exists(); err != nil {
		return nil, err
	}
	policy, err := cfg.policy()
	if err != nil {
		return nil, err
	}
	n := &node{unlock: func() {}}
	if cfg.embedded() {
		if n.unlock, err = lockFolder(cfg.Data); err != nil {
			return nil, err
		}
	}
	if err := n.open(ctx, cfg, policy); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

func (n *node) open(ctx context.Context, cfg nodeConfig, policy *rbac.Policy) error {
	var err error
	if n.db, err = cfg.openCatalog(ctx, catalogOptions(cfg.Counts)); err != nil {
		return err
	}
	objects, err := cfg.openObjects(ctx)
	if err != nil {
		return err
	}
	ring, err := keys.Open(cfg.keyFolder(), cfg.Passphrase, n.db, rand.Reader)
	if err != nil {
		return err
	}
	log, err := cfg.Log.open(ctx, now())
	if err != nil {
		return err
	}
	clock, apart := now, func() time.Duration { return 0 }
	if !cfg.embedded() { // the nodes agree on the time
		if n.clock, err = n.db.FollowClock(ctx, clock, cfg.Logger); err != nil {
			return err
		}
		clock, apart = n.clock.Now, n.clock.Apart
	}
	n.Vault, err = vault.Open(ctx, vault.Config{
		Catalog: n.db, Objects: objects, Keys: ring, Policy: policy, Logger: cfg.Logger,
		Now: clock, Clock: now, Random: rand.Reader, Exclusive: cfg.embedded(), Log: log, Meter: cfg.meter(),
		CheckEvery: cfg.CheckEvery, CheckDataEvery: cfg.CheckDataEvery, BackupWindow: cfg.BackupWindow, Reviews: cfg.Reviews,
		Mailer: cfg.Mailer, PublicURL: cfg.PublicURL, Hooks: cfg.Hooks,
	})
	if err == nil && cfg.Counts != nil {
		cfg.Counts.Watch(metrics.Gauges{Waiting: n.Waiting, Halted: n.Halted, CheckpointLag: n.CheckpointLag, Requests: n.CountRequests, ClockApart: apart})
	}
	return err
}

// Close ends the vault, then what it stands on.
func (n *node) Close() error {
	var err error
	if n.Vault != nil {
		err = n.Vault.Close()
	}
	if n.clock != nil {
		n.clock.Close()
	}
	if n.db != nil {
		err = errors.Join(err, n.db.Close())
	}
	n.unlock()
	return err
}
