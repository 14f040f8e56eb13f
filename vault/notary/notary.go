// Package notary is the only user of the log's private key. It signs checkpoints
// of the audit log, a second apart at most while the log grows, and makes the
// tiles of its tree and proofs from them.
//
// Every node has a Notary; one of them at a time, elected by a lease in the
// catalog, signs. Each keeps, outside the database, the newest checkpoint that it
// has signed or seen signed, and signs nothing that does not extend it: a database
// that was rolled back or rewritten gets no signature. While it runs, each compares
// the database with it, elected or not.
package notary

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
)

const (
	signEvery  = time.Second            // the longest time between a commit and its checkpoint
	lookEvery  = 100 * time.Millisecond // how often a node looks for the checkpoint of another
	awaitLimit = 5 * time.Second        // how long Await waits
)

// Config is what a Notary is made of. Every field is required up to Elect.
type Config struct {
	Catalog *catalog.DB
	Origin  string // the log's name: the origin of its checkpoints in its first epoch
	Keys    []Key  // the oldest first
	State   string // file that keeps the last signed checkpoint, outside the database
	Logger  *slog.Logger
	Now     func() time.Time

	// RecordKey writes the leaf that names a key which is new to the log, once
	// apply has said so in the same transaction.
	RecordKey func(ctx context.Context, key Key, apply func(context.Context, *catalog.Tx) error) error

	// Elect runs f while this node is the elected one, again and again, until
	// ctx ends.
	Elect func(ctx context.Context, f func(context.Context))

	// Witnesses are asked to cosign each checkpoint before it is published. It
	// is published with the cosignatures that came in time: how many are enough
	// is for those to say who read it.
	Witnesses []Witness

	// Anchor, if set, is where the elected node leaves the checkpoint every five
	// minutes, for AnchorKeep, where nobody can remove it meanwhile; and beside it
	// what Bundle makes for a log of size leaves that continues the one of known
	// leaves (0: none): a signed checkpoint, and a bundle of what proves it.
	Anchor     Anchor
	AnchorKeep time.Duration
	Bundle     func(ctx context.Context, size, known uint64) (signed, bundle []byte, err error)

	// Tasks are what the elected node does besides, each in a goroutine of its
	// own. To have the owner write a statement of the log every minute, add one
	// here: see Task.
	Tasks []Task
}

// Task is something that the elected node does while the log grows.
type Task struct {
	Name  string
	Every time.Duration // between two runs that succeeded

	// Run does it for a log that has now size leaves. It is called only while
	// size is larger than what an earlier Run said to have covered, at first
	// whatever size is. It returns how many leaves it has covered: a task that
	// itself appends a leaf counts that one in if it covers all before it, so
	// that a log that does not grow otherwise comes to rest. Errors are logged,
	// and Run is called again after Every.
	Run func(ctx context.Context, size uint64) (covered uint64, err error)
}

// Notary is safe for concurrent use. Run is its loop.
type Notary struct {
	cfg       Config
	epoch     uint64 // of the log
	verifier  string // see Verifier
	log       *slog.Logger
	witnesses []*witness

	wake   chan struct{}         // asks the loop for a checkpoint now
	halted atomic.Pointer[error] // why nothing is signed any more

	left uint64 // the anchor task's own: size of the last checkpoint left there

	mu   sync.Mutex
	news chan struct{} // guarded by mu; closed at the next publication

	own    sync.Mutex       // held by whoever signs or follows; guards what is below
	signed audit.Checkpoint // the newest that this node has signed, or seen signed, as in the state file
	note   []byte           // of it, with cosignatures; nil if another node may have signed since
	build  *builder         // the tree of the leaves read so far; nil: begin at the tiles
	head   audit.Checkpoint // the log's, without an origin, when it was last looked at
	shown  []byte           // the published checkpoint that was last compared with signed
}

// Open compares the catalog with the last checkpoint that this node has signed,
// with the newest anchor and with what the witnesses have cosigned. It refuses
// one that is behind any of them or does not begin with it: fault.Corrupt. It
// writes nothing to the catalog.
func Open(ctx context.Context, cfg Config) (*Notary, error) {
	n, err := open(cfg)
	if err != nil {
		return nil, err
	}
	if err := n.check(ctx); err != nil {
		return nil, err
	}
	if n.verifier, err = audit.EpochKey(cfg.Keys[len(cfg.Keys)-1].Verifier, n.epoch); err != nil {
		return nil, fault.Wrap(fault.Internal, "notary.Open", "the log's key is damaged", err)
	}
	if err := n.askWitnesses(ctx); err != nil {
		return nil, err
	}
	if cfg.Anchor != nil {
		n.cfg.Tasks = append(slices.Clip(cfg.Tasks), Task{Name: "anchor", Every: anchorEvery, Run: n.anchor})
	}
	return n, nil
}

// open is a Notary that has looked at nothing but its configuration.
func open(cfg Config) (*Notary, error) {
	n := &Notary{cfg: cfg, epoch: 1, log: cfg.Logger, wake: make(chan struct{}, 1), news: make(chan struct{})}
	for _, w := range cfg.Witnesses {
		ready, err := newWitness(w)
		if err != nil {
			return nil, err
		}
		n.witnesses = append(n.witnesses, ready)
	}
	return n, checkKeys(cfg.Origin, cfg.Keys)
}

// Run follows the log, and signs and does the tasks whenever this node is elected,
// until ctx ends.
func (n *Notary) Run(ctx context.Context) {
	var following sync.WaitGroup
	following.Go(func() { n.keepFollowing(ctx) })
	n.cfg.Elect(ctx, n.term)
	following.Wait()
}

// term is the work of the elected node.
func (n *Notary) term(ctx context.Context) {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	n.own.Lock()
	n.build, n.note = nil, nil // another node may have worked meanwhile
	n.own.Unlock()
	if err := n.recordKeys(ctx); err != nil {
		if ctx.Err() == nil {
			n.log.Error("the log's new key cannot be recorded", "err", err)
		}
		return
	}
	for _, t := range n.cfg.Tasks {
		tasks.Go(func() { n.repeat(ctx, t) })
	}
	tick := time.NewTicker(signEvery)
	defer tick.Stop()
	for n.Halted() == nil {
		if err := n.sign(ctx); err != nil && ctx.Err() == nil {
			n.log.Error("the log could not be signed", "err", err)
			if errors.Is(err, errOldKey) {
				return // another node may have the new one
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-n.wake:
		}
	}
	<-ctx.Done()
}

// repeat runs one task.
func (n *Notary) repeat(ctx context.Context, t Task) {
	tick := time.NewTicker(t.Every)
	defer tick.Stop()
	for covered, first := uint64(0), true; ; {
		size, err := n.size(ctx)
		if err == nil && (first || size > covered) && n.Halted() == nil {
			if covered, err = t.Run(ctx, size); err == nil {
				first = false
			}
		}
		if err != nil && ctx.Err() == nil {
			n.log.Error("a task of the log's owner failed", "task", t.Name, "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (n *Notary) size(ctx context.Context) (uint64, error) {
	var head storage.Head
	err := n.cfg.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		head, err = tx.Head(ctx)
		return err
	})
	return head.Size, err
}

// Halted is nil, or says why nothing is signed any more: the catalog is behind
// what was signed, or contradicts it. Nothing must be served then.
func (n *Notary) Halted() error {
	if err := n.halted.Load(); err != nil {
		return *err
	}
	return nil
}

// Origin is the origin of the log's checkpoints, in its present epoch.
func (n *Notary) Origin() string { return audit.EpochOrigin(n.cfg.Origin, n.epoch) }

// Await gives the newest signed checkpoint that covers the first size leaves of
// the log; it waits for it if it has to, for some seconds at the most. The note
// is as C2SP tlog-checkpoint has it, with the cosignatures of the witnesses.
// After that it is fault.Unavailable: try again.
func (n *Notary) Await(ctx context.Context, size uint64) (storage.Checkpoint, error) {
	const op = "notary.Await"
	late := time.NewTimer(awaitLimit)
	defer late.Stop()
	for {
		if err := n.Halted(); err != nil {
			return storage.Checkpoint{}, err
		}
		n.mu.Lock()
		news := n.news
		n.mu.Unlock()
		var cp storage.Checkpoint
		err := n.cfg.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
			cp, err = tx.Checkpoint(ctx)
			return err
		})
		if err == nil && cp.Size >= size {
			return cp, nil
		}
		if err != nil && !errors.Is(err, storage.ErrNoRow) {
			return storage.Checkpoint{}, err
		}
		select { // if it is this node that signs, it need not wait for its second
		case n.wake <- struct{}{}:
		default:
		}
		select {
		case <-ctx.Done():
			return storage.Checkpoint{}, ctx.Err()
		case <-late.C:
			return storage.Checkpoint{}, fault.New(fault.Unavailable, op, "the log's checkpoint is not signed yet").
				WithHint("try again in a moment; if it goes on, the operator should look at the server's messages").WithRetry(time.Second)
		case <-news:
		case <-time.After(lookEvery):
		}
	}
}
