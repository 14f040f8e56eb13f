package ledger_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/storage/storagetest"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/keys"
	"dsvault/vault/ledger"
	"dsvault/vault/seal"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		runChild()
		os.Exit(0)
	}
	storagetest.Main(m)
}

var counter atomic.Int64

// engines make new, empty catalogs and return their URLs.
var engines = []struct {
	name string
	url  func(t testing.TB) string
}{
	{"sqlite", func(t testing.TB) string {
		return "sqlite:" + filepath.Join(t.TempDir(), fmt.Sprint(counter.Add(1), ".db"))
	}},
	{"postgres", func(t testing.TB) string { return storagetest.Postgres(t) }},
}

func onEngines(t *testing.T, test func(t *testing.T, url string)) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) { test(t, e.url(t)) })
	}
}

// clock is a time that tests move.
type clock struct{ us atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.us.Store(time.Date(2027, 2, 28, 12, 0, 0, 0, time.UTC).UnixMicro())
	return c
}

func (c *clock) Now() time.Time      { return time.UnixMicro(c.us.Load()).UTC() }
func (c *clock) Add(d time.Duration) { c.us.Add(d.Microseconds()) }

// node is one process of the vault, as far as the ledger is concerned.
type node struct {
	*ledger.Ledger
	db    *catalog.DB
	ring  *keys.Ring
	clock *clock
}

// vault is what nodes share: a catalog with a dataset in it, and people.
type vault struct {
	t     testing.TB
	url   string
	keys  string // folder
	clock *clock

	root, dataset ledger.Place
	scope         dataset.Scope
	id            dataset.DatasetID
	admin, lee    dataset.PrincipalID // an admin; a labeler with every shard assigned
	stranger      dataset.PrincipalID // without any role
	header        []byte              // of a file sealed to the dataset
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatalf("unexpected error: %v", err)
		}
		return v
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("unexpected error: %v", err)
	}
}

func wantCode(t testing.TB, err error, code fault.Code) {
	t.Helper()
	if fault.CodeOf(err) != code {
		t.Errorf("got error %v, want code %q", err, code)
	}
}

func newID[T ~[16]byte]() T { return dataset.NewID[T](rand.Reader) }

func scopeOf(t testing.TB, s string) dataset.Scope {
	return must[dataset.Scope](t)(dataset.ParseScope(s))
}

func shardSet(t testing.TB, s string) dataset.ShardSet {
	return must[dataset.ShardSet](t)(dataset.ParseShardSet(s))
}

// newVault makes a vault at url and its first node.
func newVault(t testing.TB, url string) (*vault, *node) {
	t.Helper()
	v := &vault{t: t, url: url, keys: filepath.Join(t.TempDir(), "keys"), clock: newClock()}
	check(t, keys.Init(v.keys, "dsvault-test", keys.NewPassphrase(""), rand.Reader))
	n := v.node()
	v.fill(n)
	return v, n
}

// node opens the vault's catalog with handles of its own, and a ledger on it.
func (v *vault) node() *node {
	v.t.Helper()
	return v.nodeAt(v.url, v.clock)
}

func (v *vault) nodeAt(url string, c *clock) *node {
	v.t.Helper()
	n := &node{clock: c}
	n.db = must[*catalog.DB](v.t)(catalog.Open(context.Background(), url, catalog.Options{}))
	v.t.Cleanup(func() { n.db.Close() })
	n.ring = must[*keys.Ring](v.t)(keys.Open(v.keys, keys.NewPassphrase(""), n.db, rand.Reader))
	v.open(n)
	return n
}

// open starts the node's ledger; a second time, it is a restart.
func (v *vault) open(n *node) {
	v.t.Helper()
	l, err := ledger.Open(context.Background(), v.config(n))
	check(v.t, err)
	n.Ledger = l
	v.t.Cleanup(l.Close)
}

func (v *vault) config(n *node) ledger.Config {
	var log *slog.Logger
	if t, ok := v.t.(*testing.T); ok {
		log = slog.New(slog.NewTextHandler(t.Output(), nil))
	} else {
		log = slog.New(slog.DiscardHandler)
	}
	return ledger.Config{Catalog: n.db, World: rbac.NewPartial(rbac.Default()), Sealer: n.ring,
		Now: n.clock.Now, Random: rand.Reader, Logger: log}
}

// fill writes what reads need: scopes, people, roles, the dataset's key.
func (v *vault) fill(n *node) {
	t := v.t
	ctx := context.Background()
	v.root = ledger.Place{Tag: newID[[16]byte]()}
	v.scope = scopeOf(t, "acme/signs/batch-1")
	v.admin, v.lee, v.stranger = newID[dataset.PrincipalID](), newID[dataset.PrincipalID](), newID[dataset.PrincipalID]()
	recipient, wrapped, err := n.ring.NewDatasetKey()
	check(t, err)
	sealed := must[[]byte](t)(seal.SealBytes([]byte("plain"), must[seal.Recipient](t)(seal.ParseRecipient(recipient))))
	v.header, _, err = seal.ReadHeader(bytes.NewReader(sealed))
	check(t, err)
	people := map[string]dataset.PrincipalID{"root": v.admin, "lee": v.lee, "stranger": v.stranger}
	wrappedKeys := map[string]storage.WrappedKey{}
	for name, id := range people {
		wrappedKeys[name] = must[storage.WrappedKey](t)(n.ring.NewPerson(id))
	}
	in := ledger.Intent{Kind: audit.KindVaultInit, Own: true, PolicyChange: true, Place: v.root,
		Object: audit.Object{Kind: audit.ObjectVault, ID: v.root.Tag}}
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		if err := tx.AddScope(ctx, storage.ScopeRow{Scope: dataset.Root, Tag: v.root.Tag, CreatedAt: tx.Now}); err != nil {
			return err
		}
		for name, id := range people {
			if err := tx.AddPrincipal(ctx, storage.Principal{ID: id, Handle: name, Key: wrappedKeys[name], Revision: tx.Revision, CreatedAt: tx.Now}); err != nil {
				return err
			}
		}
		for _, path := range []string{"acme", "acme/signs", "acme/signs/batch-1"} {
			row := storage.ScopeRow{Slot: tx.NewSlot(), Scope: scopeOf(t, path), Tag: newID[[16]byte](), CreatedAt: tx.Now}
			if err := tx.AddScope(ctx, row); err != nil {
				return err
			}
			v.dataset, v.id = ledger.Place{Slot: row.Slot, Tag: row.Tag}, row.Tag
		}
		if err := tx.PutProject(ctx, storage.Project{Slot: v.dataset.Slot - 1, Scope: v.scope.Parent(), Revision: tx.Revision}); err != nil {
			return err
		}
		d := storage.Dataset{ID: v.id, Slot: v.dataset.Slot, Scope: v.scope, Tag: v.id, State: dataset.Active,
			Recipient: recipient, Revision: tx.Revision, CreatedAt: tx.Now}
		if err := tx.AddDataset(ctx, d); err != nil {
			return err
		}
		return tx.PutDatasetKey(ctx, d.ID, wrapped)
	}
	must[ledger.Receipt](t)(n.Record(ctx, in))
	v.grant(n, v.admin, dataset.Admin, dataset.Root)
	v.grant(n, v.lee, dataset.Labeler, v.scope.Parent())
	v.assign(n, v.lee, time.Time{})
}

// ownChange is a change of the policy that the node itself makes.
func (v *vault) ownChange(kind audit.Kind, apply func(context.Context, *ledger.Tx) error) ledger.Intent {
	return ledger.Intent{Kind: kind, Own: true, PolicyChange: true, Place: v.root, Object: audit.Object{Kind: audit.ObjectVault, ID: v.root.Tag},
		Apply: func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error { return apply(ctx, tx) }}
}

func (v *vault) grant(n *node, who dataset.PrincipalID, role dataset.Role, scope dataset.Scope) ledger.Receipt {
	v.t.Helper()
	return must[ledger.Receipt](v.t)(n.Record(context.Background(), v.ownChange(audit.KindGrant, func(ctx context.Context, tx *ledger.Tx) error {
		return tx.AddGrant(ctx, dataset.Grant{ID: newID[dataset.GrantID](), Principal: who, Role: role, Scope: scope, By: v.admin, At: tx.Now}, tx.Revision)
	})))
}

func (v *vault) revoke(n *node, who dataset.PrincipalID, role dataset.Role, scope dataset.Scope) ledger.Receipt {
	v.t.Helper()
	return must[ledger.Receipt](v.t)(n.Record(context.Background(), v.ownChange(audit.KindRevoke, func(ctx context.Context, tx *ledger.Tx) error {
		_, err := tx.EndGrants(ctx, who, role, scope, tx.Now, tx.Revision)
		return err
	})))
}

// assign gives shards 0 to 99 until a time, replacing what was assigned.
func (v *vault) assign(n *node, who dataset.PrincipalID, until time.Time) {
	v.t.Helper()
	must[ledger.Receipt](v.t)(n.Record(context.Background(), v.ownChange(audit.KindAssign, func(ctx context.Context, tx *ledger.Tx) error {
		if _, _, err := tx.EndAssignments(ctx, v.id, who, nil, tx.Now, tx.Revision, newID[dataset.AssignmentID]); err != nil {
			return err
		}
		return tx.AddAssignment(ctx, dataset.Assignment{ID: newID[dataset.AssignmentID](), Principal: who, Dataset: v.id, Scope: v.scope,
			Shards: shardSet(v.t, "0-99"), Until: until, By: v.admin, At: tx.Now}, tx.Revision)
	})))
}

const (
	handle  = "lee-the-labeler"
	address = "192.0.2.77"
)

// read is the intent to read a shard.
func (v *vault) read(who dataset.PrincipalID, shard int) ledger.Intent {
	return ledger.Intent{
		Kind: audit.KindRead, Place: v.dataset, Object: audit.Object{Kind: audit.ObjectShard, ID: v.id, Number: uint32(shard)},
		Actor:  ledger.Actor{Principal: who, Handle: handle, Address: address, Agent: "test", Request: newID[dataset.RequestID]()},
		Query:  rbac.Query{Actor: who, Action: rbac.Read, Object: rbac.Object{Kind: rbac.Shard, Scope: v.scope, Shard: shard}},
		Note:   map[string]string{"object": fmt.Sprint(v.scope, "/", shard)},
		Access: &ledger.Access{Dataset: v.id, Shard: shard, MaxBytes: 1000},
		Fields: []audit.Field{audit.Uint64Field(audit.FieldMaxBytes, 1000), audit.StringField(audit.FieldDelivery, "sealed")},
	}
}

// entry is one record of the log.
type entry struct {
	audit.Leaf
	index     uint64
	data      []byte
	principal dataset.PrincipalID
	details   []byte
}

// log reads and verifies the whole log: order, chains, commitments, and the
// root against the head's.
func (v *vault) log(n *node) ([]entry, audit.Report) {
	v.t.Helper()
	t := v.t
	ctx := context.Background()
	verifier := audit.NewVerifier()
	var log []entry
	var head storage.Head
	var stored []storage.Leaf
	check(t, n.db.View(ctx, func(tx *catalog.Tx) (err error) {
		if head, err = tx.Head(ctx); err != nil {
			return err
		}
		return tx.Leaves(ctx, storage.LeafQuery{}, func(l storage.Leaf) error {
			stored = append(stored, l)
			return nil
		})
	}))
	for _, l := range stored {
		if err := verifier.AddLeaf(l.Index, l.Data); err != nil {
			t.Fatal(err)
		}
		leaf := must[audit.Leaf](t)(audit.ParseLeaf(l.Data))
		if len(l.Details) > 0 {
			salt, details, err := n.ring.OpenDetails(ctx, l.Principal, l.Details)
			if errors.Is(err, ledger.ErrForgotten) {
				log = append(log, entry{leaf, l.Index, l.Data, l.Principal, l.Details})
				continue
			}
			check(t, err)
			check(t, verifier.CheckDetails(l.Index, salt, details))
		} else if leaf.Commitment != [32]byte{} {
			t.Errorf("leaf %d commits to details that are not there", l.Index)
		}
		log = append(log, entry{leaf, l.Index, l.Data, l.Principal, l.Details})
	}
	tree := must[*audit.Tree](t)(audit.NewTree(head.Size, head.Frontier))
	report, err := verifier.Finish(audit.Checkpoint{Origin: "dsvault-test", Size: head.Size, Root: tree.Root()})
	check(t, err)
	v.checkRevisions(log, head)
	return log, report
}

// checkRevisions: the revision counts the changes of the policy, none skipped.
func (v *vault) checkRevisions(log []entry, head storage.Head) {
	v.t.Helper()
	revision := uint64(0)
	for _, e := range log {
		switch e.Kind {
		case audit.KindVaultInit, audit.KindGrant, audit.KindRevoke, audit.KindAssign, audit.KindUnassign, audit.KindAnonymize:
			revision++
		}
		if e.Revision != revision {
			v.t.Fatalf("leaf %d (%v) has revision %d, want %d", e.index, e.Kind, e.Revision, revision)
		}
	}
	if head.Revision != revision {
		v.t.Fatalf("the head has revision %d, want %d", head.Revision, revision)
	}
}

// hold keeps the head locked, so that admissions queue, until release.
func (v *vault) hold(n *node) (release func()) {
	v.t.Helper()
	ctx := context.Background()
	tx := must[*catalog.Tx](v.t)(n.db.Begin(ctx))
	must[storage.Head](v.t)(tx.LockHead(ctx))
	once := sync.OnceFunc(tx.Rollback)
	v.t.Cleanup(once)
	return once
}

// queued waits until as many entries wait in the node's queue.
func queued(n *node, entries int) {
	for n.Waiting() != entries {
		runtime.Gosched()
	}
}

// together runs f n times at once and waits for all.
func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}
