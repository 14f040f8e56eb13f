// Package notary is the only user of the log's private key. It signs checkpoints
// of the audit log, a second apart at most while the log grows, and makes the
// tiles of its tree and proofs from them.
//
// Every node has a Notary; one of them at a time, elected by a lease in the
// catalog, signs. Each keeps, outside the database, the last checkpoint that it
// has signed, and signs nothing that does not extend it: a database that was
// rolled back or rewritten gets no signature.
package notary

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

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

// Key is a key of the log.
type Key struct {
	Signer   note.Signer
	Verifier string // its public half, as a note verifier key
}

// Config is what a Notary is made of; every field is required, but for Tasks.
type Config struct {
	Catalog *catalog.DB
	Origin  string // the log's name
	Keys    []Key  // each signs every checkpoint; the first is the oldest
	State   string // file that keeps the last signed checkpoint, outside the database
	Logger  *slog.Logger

	// Elect runs f while this node is the elected one, again and again, until
	// ctx ends.
	Elect func(ctx context.Context, f func(context.Context))

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
	verifiers []note.Verifier
	log       *slog.Logger

	wake   chan struct{}         // asks the loop for a checkpoint now
	halted atomic.Pointer[error] // why nothing is signed any more

	mu   sync.Mutex
	news chan struct{} // guarded by mu; closed at the next publication

	// The loop's own.
	signed audit.Checkpoint // the last that this node has signed, as in the state file
	build  *builder         // the tree of the leaves read so far; nil: begin at the tiles
}

// Open compares the catalog with the last checkpoint that this node has signed,
// and refuses one that is behind it or does not begin with it: fault.Corrupt.
// It writes nothing.
func Open(ctx context.Context, cfg Config) (*Notary, error) {
	const op = "notary.Open"
	n := &Notary{cfg: cfg, log: cfg.Logger, wake: make(chan struct{}, 1), news: make(chan struct{})}
	for _, key := range cfg.Keys {
		v, err := note.NewVerifier(key.Verifier)
		if err != nil {
			return nil, fault.Wrap(fault.Internal, op, "the log's key is damaged", err)
		}
		n.verifiers = append(n.verifiers, v)
	}
	if err := n.check(ctx); err != nil {
		return nil, err
	}
	return n, nil
}

// Run signs and does the tasks whenever this node is elected, until ctx ends.
func (n *Notary) Run(ctx context.Context) { n.cfg.Elect(ctx, n.term) }

// term is the work of the elected node.
func (n *Notary) term(ctx context.Context) {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	n.build = nil // another node may have worked meanwhile
	for _, t := range n.cfg.Tasks {
		tasks.Go(func() { n.repeat(ctx, t) })
	}
	tick := time.NewTicker(signEvery)
	defer tick.Stop()
	for n.Halted() == nil {
		if err := n.sign(ctx); err != nil && ctx.Err() == nil {
			n.build = nil
			n.log.Error("the log could not be signed", "err", err)
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

// Origin is the log's name.
func (n *Notary) Origin() string { return n.cfg.Origin }

// Verifier is the public key that new clients are told.
func (n *Notary) Verifier() string { return n.cfg.Keys[len(n.cfg.Keys)-1].Verifier }

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
