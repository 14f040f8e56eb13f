package vault_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"dsvault/rbac"
	"dsvault/storage/catalog"
	"dsvault/storage/storagetest"
	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/keys"
	"dsvault/vault/ledger"
	"dsvault/vault/wire"
)

// counts is a meter that remembers how changes were settled, and why reads were
// cut.
type counts struct {
	mu      sync.Mutex
	settled []string        // guarded by mu
	cut     map[string]int  // guarded by mu
	longest time.Duration   // guarded by mu; that a change took
	unsure  []time.Duration // guarded by mu
}

func (c *counts) Settled(how string, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settled, c.longest = append(c.settled, how), max(c.longest, took)
}

func (c *counts) Cut(cause string, unsure time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut == nil {
		c.cut = map[string]int{}
	}
	c.cut[cause]++
	c.unsure = append(c.unsure, unsure)
}

func (*counts) Recorded(string, string)            {}
func (*counts) Failed(string)                      {}
func (*counts) Committed(int, time.Duration, bool) {}

// take gives how changes were settled since it was asked last.
func (c *counts) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.settled
	c.settled = nil
	return was
}

func (c *counts) cuts() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.cut)
}

// pair is two nodes on one catalog. The way of the second one to it can be cut.
type pair struct {
	*world
	a, b *vault.Vault
	wire *storagetest.Wire
	counts
	atB counts
}

func newPair(t *testing.T) *pair {
	t.Helper()
	dsn := storagetest.Postgres(t)
	p := &pair{world: newWorldOn(t, dsn, catalog.Options{})}
	p.setUp()
	p.assign("lee", "0-1")
	p.world.v.Close()
	ctx := context.Background()
	var far string
	p.wire, far = storagetest.NewWire(t, dsn)
	signed := must[[]byte](t)(os.ReadFile(p.state))
	open := func(url, name string, meter vault.Meter) *vault.Vault {
		t.Helper()
		state := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(state, signed, 0o600); err != nil {
			t.Fatal(err)
		}
		db := must[*catalog.DB](t)(catalog.Open(ctx, url, catalog.Options{}))
		t.Cleanup(func() { db.Close() })
		ring := must[*keys.Ring](t)(keys.Open(p.keyDir, keys.NewPassphrase(""), db, rand.Reader))
		v := must[*vault.Vault](t)(vault.Open(ctx, vault.Config{Catalog: db, Objects: p.objects, Keys: ring, Policy: rbac.Default(),
			Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Now: time.Now, Random: rand.Reader, Meter: meter,
			BackupWindow: p.backupWindow, Log: vault.LogConfig{State: state}}))
		t.Cleanup(func() { v.Close() })
		return v
	}
	p.a, p.b = open(dsn, "a", &p.counts), open(far, "b", &p.atB)
	p.world.v = p.a
	return p
}

// at makes v the node that is asked.
func (p *pair) at(v *vault.Vault) *pair {
	p.world.v = v
	return p
}

func (p *pair) admitAt(v *vault.Vault, who string) *vault.ShardStream {
	p.t.Helper()
	ref := dataset.ShardRef{Dataset: p.scope("acme/signs/batch-1")}
	return must[*vault.ShardStream](p.t)(v.ReadShard(context.Background(), p.at(v).as(who), ref, p.ids[who], ""))
}

// streamAt starts a read at a node whose reader takes nothing, and gives how it ends.
func (p *pair) streamAt(v *vault.Vault, who string) <-chan error {
	p.t.Helper()
	s := p.admitAt(v, who)
	b := &blockingWriter{started: make(chan struct{}), cut: make(chan struct{})}
	sent := make(chan error, 1)
	go func() { sent <- s.Send(b, func() { close(b.cut) }) }()
	<-b.started
	return sent
}

func (p *pair) revokeAt(v *vault.Vault, who string) {
	p.t.Helper()
	must[wire.Revoked](p.t)(v.Revoke(context.Background(), p.at(v).as("root"), dataset.Labeler, who, p.scope("acme/signs")))
}

func ended(t *testing.T, end <-chan error) error {
	t.Helper()
	select {
	case err := <-end:
		return err
	case <-time.After(time.Minute):
		t.Fatal("the read goes on")
		return nil
	}
}

// TestSettled: whatever takes something away returns when the other node, which
// has a read open, follows it; and at once if it has none. What gives does not
// wait at all.
func TestSettled(t *testing.T) {
	p := newPair(t)
	ctx := context.Background()
	lee := func(v *vault.Vault) identity.Caller { return p.at(v).as("lee") }
	settledBy := func(what string, want ...string) {
		t.Helper()
		if got := p.take(); !slices.Equal(got, want) {
			t.Errorf("%s was settled as %v, want %v", what, got, want)
		}
	}
	p.at(p.a).grant(dataset.Labeler, "lee", "acme/signs", nil)
	p.take()
	runs := map[string]func(){
		"a revoke": func() { p.revokeAt(p.a, "lee") },
		"an assignment that ends": func() {
			must[wire.Revoked](t)(p.a.Unassign(ctx, p.at(p.a).as("root"), p.scope("acme/signs/batch-1"), "lee", nil))
		},
		"a token that is replaced": func() {
			out := must[wire.NewToken](t)(p.a.RotateToken(ctx, lee(p.a), "me"))
			p.tokens["lee"] = out.Token
		},
	}
	for _, what := range slices.Sorted(maps.Keys(runs)) {
		here, there := p.streamAt(p.a, "lee"), p.streamAt(p.b, "lee")
		late := p.admitAt(p.b, "lee") // and has not begun
		var got bytes.Buffer
		runs[what]()
		err := late.Send(&got, func() {})
		if got.Len() > 0 || !fault.Is(err, fault.Forbidden) {
			t.Errorf("%s has returned; the other node sends %d bytes: %v", what, got.Len(), err)
		}
		wantCode(t, ended(t, here), fault.Forbidden)
		wantCode(t, ended(t, there), fault.Forbidden)
		settledBy(what, vault.SettledFollowed)
		if end := p.lastEnd(); end["cause"] != "revoked" {
			t.Errorf("%s: the read ends as %s", what, end["cause"])
		}
		switch what { // as it was
		case "a revoke":
			p.at(p.a).grant(dataset.Labeler, "lee", "acme/signs", nil)
		case "an assignment that ends":
			p.at(p.a).assign("lee", "0-1")
		}
		if got := p.take(); len(got) > 0 {
			t.Errorf("what gives was waited for: %v", got)
		}
	}
	p.revokeAt(p.a, "lee")
	settledBy("a revoke with no read open", vault.SettledFollowed)
	if cuts := p.atB.cuts(); cuts["revoked"] != 6 || cuts["blind"] != 0 {
		t.Errorf("the other node has cut %v", cuts)
	}
}

// lastEnd is the newest read-end record.
func (p *pair) lastEnd() map[string]string {
	p.t.Helper()
	records, _ := p.at(p.a).pages(vault.LogQuery{Kinds: []audit.Kind{audit.KindReadEnd}})
	if len(records) == 0 {
		return nil
	}
	return records[len(records)-1].Detail
}

// TestBlindNode: a node that does not see the catalog sends nothing once its leases
// are over, and a revoke waits for no longer than that. What it had admitted and
// not begun it does not begin.
func TestBlindNode(t *testing.T) {
	p := newPair(t)
	running, late := p.streamAt(p.b, "lee"), p.admitAt(p.b, "lee")
	p.wire.Break(storagetest.Cut)
	p.revokeAt(p.a, "lee")
	if got := p.take(); !slices.Equal(got, []string{vault.SettledLapsed}) {
		t.Errorf("the revoke was settled as %v", got)
	}
	if p.longest < ledger.Lease {
		t.Errorf("the revoke has waited %s for leases of %s", p.longest, ledger.Lease)
	}
	var got bytes.Buffer
	err := late.Send(&got, func() {})
	var f *fault.Error
	if got.Len() > 0 || !errors.As(err, &f) || f.Code != fault.Unavailable || f.Retry == 0 {
		t.Errorf("the revoke has returned; a blind node sends %d bytes: %v", got.Len(), err)
	}
	wantCode(t, ended(t, running), fault.Unavailable)
	if cuts := p.atB.cuts(); cuts["blind"] != 2 {
		t.Errorf("the node has cut %v", cuts)
	}
	p.wire.Set(storagetest.Works)
	for until := time.Now().Add(time.Minute); p.lastEnd()["cause"] != "blind"; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("the log says of the read: %v", p.lastEnd())
		}
	}
}
