// Package vault is every operation of dsvault, in one shape: authorise, record,
// act. It joins the other packages and is the only one that does; it speaks
// wire's types, so that the HTTP layer only decodes and encodes.
package vault

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/courier"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/keys"
	"dsvault/vault/ledger"
	"dsvault/vault/notary"
)

// Config is what a Vault is made of. Every field is required, but for Exclusive
// and what follows it.
type Config struct {
	Catalog *catalog.DB
	Objects storage.Objects
	Keys    *keys.Ring
	Policy  *rbac.Policy
	Logger  *slog.Logger
	Now     func() time.Time
	Random  io.Reader

	// Clock is the machine's own, if Now is put right by another's: leases are
	// measured by it. nil: Now.
	Clock func() time.Time

	Queue int   // entries that may wait for the audit log; 0 leaves it to the ledger
	Meter Meter // nil: nobody counts

	// Exclusive says that no other process serves this catalog, so that
	// whatever a former process left unfinished can be swept at once.
	Exclusive bool

	// Log says how the log is signed, witnessed and anchored.
	Log LogConfig

	// CheckEvery is how often storage is compared with the catalog, and
	// CheckDataEvery how often every object is read whole for it; 0 is never.
	CheckEvery, CheckDataEvery time.Duration

	// Mailer sends mails, which tell people to log in at PublicURL; nil: this
	// vault sends none. Hooks calls webhooks; nil: those at public addresses.
	Mailer    *courier.Mailer
	PublicURL string
	Hooks     *courier.Hooks
	// BackupWindow is how old a backup may be that is still restored. So long
	// after an erasure the keys from before it are kept; then they are
	// destroyed, and older backups open nothing.
	BackupWindow time.Duration
	Reviews      ReviewConfig
}

// LogConfig is what the notary needs. The zero value is good.
type LogConfig struct {
	// State is the file that keeps the last checkpoint that this node has
	// signed; LogStateFile in the key folder if it is empty.
	State     string
	Witnesses []notary.Witness
	// Anchor is where checkpoints are left every five minutes, each for AnchorKeep.
	Anchor     notary.Anchor
	AnchorKeep time.Duration
}

// LogStateFile is the name, in the key folder, of what LogConfig.State names.
const LogStateFile = "log.checkpoint"

// Vault is a running vault. It is safe for concurrent use; Close ends it.
type Vault struct {
	db         *catalog.DB
	objects    storage.Objects
	keys       *keys.Ring
	world      *rbac.Partial
	ledger     *ledger.Ledger
	notary     *notary.Notary
	statements *notary.Statements
	bundles    chan struct{} // one for each on its way; holds maxBundles
	log        *slog.Logger
	now        func() time.Time
	random     io.Reader
	origin     string
	started    time.Time
	node       string // this process, among those that serve the catalog
	alone      bool   // there is no other

	meter   Meter
	lookNow chan struct{} // has the running reads looked at
	// unwatched is closed when nobody looks at them any more.
	unwatched chan struct{}

	places  sync.Map // dataset.Scope -> storage.ScopeRow; scopes are permanent
	streams streams
	members places // of opened delivery
	checks  checkers
	writes  writes
	chores  chores

	backupWindow time.Duration
	// Guarded by chores.mu.
	restored                           bool // what a restored catalog brought back is erased again
	lastDetails, lastPeople, lastScrub time.Time

	checkEvery, checkDataEvery time.Duration

	mailer    *courier.Mailer // nil: no mail
	hooks     *courier.Hooks
	publicURL string
	resets    chan resetAsk // taken by keepResets
	outbox    chan struct{} // wakes keepOutbox
	purposes  sync.Map      // purposeAt that the catalog knows
	reviews   ReviewConfig
	reviewed  string // the quarter whose reviews have been started; guarded by chores.mu

	stop    context.CancelFunc
	workers sync.WaitGroup // owned by Open, awaited by Close
}

// Meta keys of the catalog.
const (
	metaOrigin = "log-origin" // the log's name; also says that the vault is initialised
)

// Open starts a vault on an initialised catalog. A catalog that was never
// initialised is fault.NotFound; one that belongs to another key folder is
// fault.Conflict.
func Open(ctx context.Context, cfg Config) (*Vault, error) {
	v := &Vault{
		db: cfg.Catalog, objects: cfg.Objects, keys: cfg.Keys, world: rbac.NewPartial(cfg.Policy),
		log: cfg.Logger, now: cfg.Now, random: cfg.Random, started: cfg.Now(),
		node: dataset.NewID[dataset.RequestID](cfg.Random).String(), alone: cfg.Exclusive,
		checkEvery: cfg.CheckEvery, checkDataEvery: cfg.CheckDataEvery, reviews: cfg.Reviews,
		bundles: make(chan struct{}, maxBundles), backupWindow: cfg.BackupWindow,
		mailer: cfg.Mailer, hooks: cfg.Hooks, publicURL: cfg.PublicURL,
		resets: make(chan resetAsk, maxAskers), outbox: make(chan struct{}, 1),
	}
	v.meter, v.lookNow, v.unwatched = cfg.Meter, make(chan struct{}, 1), make(chan struct{})
	if v.meter == nil {
		v.meter = noMeter{}
	}
	if v.hooks == nil {
		v.hooks = courier.NewHooks(false)
	}
	v.chores.wake, v.chores.swept = make(chan struct{}, 1), make(chan struct{})
	v.checks.wake, v.checks.running = make(chan struct{}, 1), map[dataset.CheckID]context.CancelFunc{}
	if err := ownCatalog(ctx, v.db, v.keys); err != nil {
		return nil, err
	}
	v.origin = v.keys.LogName()
	// First of all, and before anything is written: is this the log that was signed?
	if err := v.openNotary(ctx, cfg.Log); err != nil {
		return nil, err
	}
	if err := v.claimStores(ctx); err != nil {
		return nil, err
	}
	var err error
	v.ledger, err = ledger.Open(ctx, ledger.Config{
		Catalog: v.db, World: v.world, Sealer: v.keys, Now: v.now, Random: v.random, Logger: v.log,
		Clock: cfg.Clock, Queue: cfg.Queue, Meter: v.meter, Shared: !cfg.Exclusive, Lost: v.notary.Halt, Settle: v.settle,
	})
	if err != nil {
		return nil, err
	}
	if err := v.checkHead(ctx); err != nil {
		v.ledger.Close()
		return nil, err
	}
	err = v.recordPolicy(ctx, audit.KindNodeStart, cfg.Policy)
	if err == nil {
		err = v.openStatements(ctx)
	}
	if err != nil {
		v.ledger.Close()
		return nil, err
	}
	if cfg.Exclusive {
		v.clearForgotten(ctx, true) // nobody waits yet
	}
	running, stop := context.WithCancel(context.Background())
	v.stop = stop
	v.workers.Go(func() { v.notary.Run(running) })
	v.workers.Go(func() { v.watchStreams(running) })
	v.workers.Go(func() { v.sweepForever(running, cfg.Exclusive) })
	v.workers.Go(func() { v.holdChecks(running) })
	v.workers.Go(func() { v.keepResets(running) })
	v.workers.Go(func() { v.elected(running, electOutbox, v.keepOutbox) })
	v.workers.Go(func() {
		if err := v.indexAddresses(running); err != nil && running.Err() == nil {
			v.log.WarnContext(ctx, "addresses of people are not found until the next start", "err", err)
		}
	})
	v.workers.Go(func() { v.holdChores(running) })
	return v, nil
}

// checkHead recomputes that the last leaf is what the head says; the whole log
// is verified by `dsvault log --verify`.
func (v *Vault) checkHead(ctx context.Context) error {
	return v.db.View(ctx, func(tx *catalog.Tx) error {
		head, err := tx.Head(ctx)
		if err != nil || head.Size == 0 {
			return err
		}
		var last struct {
			index, slot uint64
			hash        audit.Hash
		}
		err = tx.LeafData(ctx, head.Size-1, head.Size+1, func(index, slot uint64, data []byte) error {
			last.index, last.slot, last.hash = index, slot, audit.LeafHash(data)
			return nil
		})
		if err != nil {
			return err
		}
		chains, err := tx.Chains(ctx, []uint64{last.slot})
		end := chains[last.slot]
		found := last.index == head.Size-1 && end.LastIndex == last.index && end.LastHash == last.hash
		if err == nil && !found {
			err = fault.New(fault.Corrupt, "vault.Open", "the audit log does not end where its head says").
				WithHint("restore the catalog from a backup; nothing is served meanwhile")
		}
		return err
	})
}

// Close cuts the running reads, ends the workers, waits for the reads to be
// recorded, and ends the ledger. The catalog stays open: it is the caller's.
func (v *Vault) Close() error {
	v.stop()
	v.workers.Wait()
	v.streams.wait()
	v.ledger.Close()
	return nil
}

// LoadPolicy puts another checked policy in force and records it. Decisions
// that were made on the old one and are not yet in the log are made again. If it
// cannot be recorded the old one is in force again.
func (v *Vault) LoadPolicy(ctx context.Context, p *rbac.Policy) error {
	old := v.world.SetPolicy(p)
	err := v.recordPolicy(ctx, audit.KindPolicyLoad, p)
	if err != nil {
		v.world.SetPolicy(old)
	}
	return err
}

// recordPolicy writes the node's own record that names the policy in force.
func (v *Vault) recordPolicy(ctx context.Context, kind audit.Kind, p *rbac.Policy) error {
	root, err := v.root(ctx)
	if err != nil {
		return err
	}
	hash := p.Hash()
	_, err = v.ledger.Record(ctx, ledger.Intent{
		Kind: kind, Own: true, Place: root.place(), Object: audit.Object{Kind: audit.ObjectPolicy},
		Fields: []audit.Field{audit.BytesField(audit.FieldPolicyHash, hash[:])}, PolicyChange: kind == audit.KindPolicyLoad,
	})
	return err
}

// Waiting is how many requests wait for the audit log.
func (v *Vault) Waiting() int { return v.ledger.Waiting() }

// Halted reports whether nothing is served any more, since the catalog's log is
// not the one that was signed.
func (v *Vault) Halted() bool { return v.notary.Halted() != nil }

// askObjects is how long Ready waits for the object stores.
const askObjects = time.Second

// Ready reports whether the log is sound and the catalog answers: err is nil
// then. objects is what the object stores lack; without them grants, revocations
// and the log go on, so a node is ready all the same.
func (v *Vault) Ready(ctx context.Context) (objects, err error) {
	if err := v.notary.Halted(); err != nil {
		return nil, err
	}
	if err := v.db.Ping(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askObjects) // a store that hangs must not hang whoever asks
	defer cancel()
	for _, region := range append([]string{""}, storage.RegionsOf(v.objects)...) {
		_, err := v.objects.Stat(ctx, storage.RegionKey(region, "ready"))
		objects = errors.Join(objects, noObject(err))
	}
	return objects, nil
}

// noObject accepts that an object is not there.
func noObject(err error) error {
	if errors.Is(err, storage.ErrNoObject) {
		return nil
	}
	return err
}

// Authenticate turns a bearer token into a caller. An invitation and the token
// of a reset mail are good for nothing but Login, which passes allowInvite.
func (v *Vault) Authenticate(ctx context.Context, bearer string, allowInvite bool, actor ledger.Actor) (identity.Caller, error) {
	if err := v.notary.Halted(); err != nil { // nothing is served from a catalog that was rolled back
		return identity.Caller{}, err
	}
	token, err := identity.ParseSecret(bearer)
	if err != nil {
		return identity.Caller{}, err
	}
	seen := v.world.Revision()
	c, err := identity.Authenticate(ctx, v.db, token, v.now(), actor)
	c.Seen = seen
	if err == nil && once(c.Kind) && !allowInvite {
		return identity.Caller{}, fault.New(fault.Unauthenticated, "vault.Authenticate", "a token for one login only serves to log in").
			WithHint("run `dsvault login URL` with it first")
	}
	return c, err
}

// target is a scope that an operation names, looked up. known is false for one
// that does not exist; row is then the nearest scope above it that does.
type target struct {
	scope dataset.Scope
	row   storage.ScopeRow
	known bool
}

func (v *Vault) target(ctx context.Context, scope dataset.Scope) (target, error) {
	t := target{scope: scope}
	if scope.IsZero() {
		t.scope = dataset.Root
	}
	for at := t.scope; ; at = at.Parent() {
		row, err := v.scopeRow(ctx, at)
		if err == nil {
			t.row, t.known = row, at == t.scope
			return t, nil
		}
		if !errors.Is(err, storage.ErrNoRow) {
			return t, err
		}
		if at == dataset.Root {
			return t, fault.Wrap(fault.Corrupt, "vault.target", "the vault's own scope is missing", err)
		}
	}
}

func (v *Vault) scopeRow(ctx context.Context, scope dataset.Scope) (storage.ScopeRow, error) {
	if row, ok := v.places.Load(scope); ok {
		return row.(storage.ScopeRow), nil
	}
	var row storage.ScopeRow
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		row, err = tx.Scope(ctx, scope)
		return err
	})
	if err == nil {
		v.places.Store(scope, row)
	}
	return row, err
}

func (t target) place() ledger.Place { return ledger.Place{Slot: t.row.Slot, Tag: t.row.Tag} }

// object describes the scope itself in a leaf; its tag stands for its name.
func (t target) object() audit.Object {
	if !t.known {
		return audit.Object{Kind: audit.ObjectUnknown}
	}
	kinds := [...]audit.ObjectKind{audit.ObjectVault, audit.ObjectClient, audit.ObjectProject, audit.ObjectDataset}
	return audit.Object{Kind: kinds[t.scope.Depth()], ID: t.row.Tag}
}

// recordKind is the kind of record that a scope is, for asking whether one may
// read it.
func recordKind(scope dataset.Scope) rbac.Kind {
	kinds := [...]rbac.Kind{rbac.Org, rbac.Org, rbac.Project, rbac.Dataset}
	return kinds[scope.Depth()]
}

// intent is the common part of every recorded operation. What the caller wrote
// is kept in the sealed note where the leaf cannot name it.
func (v *Vault) intent(c identity.Caller, kind audit.Kind, t target, act rbac.Action, obj rbac.Kind) ledger.Intent {
	in := ledger.Intent{
		Kind: kind, Actor: c.Actor, Place: t.place(), Object: t.object(),
		Query: rbac.Query{Actor: c.Principal, Action: act, Object: rbac.Object{Kind: obj, Scope: t.scope, Shard: -1}, Address: addressOf(c)},
	}
	if !t.known {
		in.Note = map[string]string{"object": t.scope.String()}
	}
	return in
}

// addressOf is where a request comes from; the zero Addr if that is not known.
func addressOf(c identity.Caller) netip.Addr {
	a, err := netip.ParseAddr(c.Actor.Address)
	if err != nil {
		return netip.Addr{}
	}
	return a
}

// own is an Intent for what every active principal may do for itself.
func (v *Vault) own(c identity.Caller, kind audit.Kind, t target) ledger.Intent {
	return ledger.Intent{Kind: kind, Actor: c.Actor, Place: t.place(), Own: true}
}

// root is the vault's own scope as a target.
func (v *Vault) root(ctx context.Context) (target, error) { return v.target(ctx, dataset.Root) }

// absent is the answer for a thing that does not exist: the same "not found"
// that a stranger gets for one that is hidden. Whoever may read the scope above
// is told plainly; whoever may not do this at all is refused, on record.
func (v *Vault) absent(ctx context.Context, t target, in ledger.Intent) error {
	d, err := v.ledger.Check(ctx, in)
	switch {
	case err == nil:
		return ledger.Absent()
	case !t.known && d.Visible && fault.Is(err, fault.Forbidden):
		return fault.New(fault.NotFound, "vault.absent", "there is no "+t.scope.String()).
			WithHint("`dsvault ls " + t.row.Scope.String() + "` shows what there is")
	}
	return err
}

// clip bounds a page.
func clip(limit, most int) int {
	if limit <= 0 || limit > most {
		return most
	}
	return limit
}

func timePtr(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// until checks an end that a caller has set; nil is none.
func (v *Vault) until(t *time.Time) (time.Time, error) {
	if t == nil {
		return time.Time{}, nil
	}
	if !t.After(v.now()) {
		return time.Time{}, fault.New(fault.Invalid, "vault.until", "the end is in the past").
			WithHint("give a later --until, for example 30d")
	}
	return t.UTC(), nil
}

func checkText(field, s string, most int) error {
	if len(s) > most {
		return fault.New(fault.TooLarge, "vault.checkText", field+" is too long")
	}
	for _, r := range s {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == utf8.RuneError {
			return fault.New(fault.Invalid, "vault.checkText", field+" holds control, invisible or broken characters")
		}
	}
	return nil
}
