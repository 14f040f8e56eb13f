//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dsvault/vault/audit"
	"dsvault/vault/client"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// traffic is a transport that counts what happens on the wire, so that a kill
// comes at a random event and not at a random time, and that remembers the
// leaf of each read of which at least a byte arrived.
type traffic struct {
	http.RoundTripper
	events atomic.Int64

	mu   sync.Mutex
	seen map[string]bool // guarded by mu; leaves as INDEX:HASH
}

func newTraffic() *traffic {
	// No kept connections: those to a killed server would fail the next one's
	// first requests.
	return &traffic{RoundTripper: &http.Transport{DisableKeepAlives: true}, seen: make(map[string]bool)}
}

func (w *traffic) RoundTrip(r *http.Request) (*http.Response, error) {
	w.events.Add(1)
	if r.Body != nil {
		r = r.Clone(r.Context())
		r.Body = &countedBody{ReadCloser: r.Body, w: w}
	}
	resp, err := w.RoundTripper.RoundTrip(r)
	w.events.Add(1)
	if err == nil {
		body := &countedBody{ReadCloser: resp.Body, w: w}
		if resp.StatusCode == http.StatusOK {
			body.leaf = resp.Header.Get(wire.HeaderLeaf)
		}
		resp.Body = body
	}
	return resp, err
}

func (w *traffic) delivered() map[string]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make(map[string]bool, len(w.seen))
	for leaf := range w.seen {
		all[leaf] = true
	}
	return all
}

type countedBody struct {
	io.ReadCloser
	w    *traffic
	leaf string
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), 16<<10)])
	b.w.events.Add(1)
	if n > 0 && b.leaf != "" {
		b.w.mu.Lock()
		b.w.seen[b.leaf] = true
		b.w.mu.Unlock()
	}
	return n, err
}

// promise is what the server has acknowledged about one dataset. What was asked
// for and not acknowledged may be so or not.
type promise struct {
	scope    dataset.Scope
	source   string
	pushed   bool
	assigned bool
	granted  bool // the helper is labeler at the dataset
	revoked  bool // not any more
	taken    bool // the labeler's assignment
	unsure   bool // the answer to the last change got lost
}

// worker is a client and a labeler who use the vault in parallel to others.
type worker struct {
	s                    *site
	n                    int
	admin, owner, reader *client.Client
	random               *rand.Rand
	promises             []*promise // owned by the worker's goroutine during a round
}

func (w *worker) labeler() string { return fmt.Sprint("lee-", w.n) }
func (w *worker) helper() string  { return fmt.Sprint("hal-", w.n) }

// step makes one dataset and does to it all that there is to do, until the
// server does not answer. An answer that is not an outage is a bug.
func (w *worker) step(ctx context.Context) error {
	k := len(w.promises)
	p := &promise{scope: scope(w.s.t, fmt.Sprintf("acme/signs/w%d-%d", w.n, k)), source: filepath.Join(w.s.dir, "in", fmt.Sprintf("%d-%d", w.n, k))}
	w.promises = append(w.promises, p)
	if err := os.MkdirAll(p.source, 0o755); err != nil {
		return err
	}
	for i := range 1 + w.random.IntN(3) {
		data := make([]byte, w.random.IntN(63<<10))
		for j := range data {
			data[j] = byte(w.random.Uint32())
		}
		if err := os.WriteFile(filepath.Join(p.source, fmt.Sprint("file", i)), data, 0o644); err != nil {
			return err
		}
	}
	if _, err := w.owner.Push(ctx, p.source, p.scope, oneByOne); err != nil {
		return err
	}
	p.pushed = true
	change := func(done *bool, f func() error) error {
		p.unsure = true
		if err := f(); err != nil {
			return err
		}
		p.unsure, *done = false, true
		return nil
	}
	all := dataset.ShardSet{}
	for shard, err := range w.owner.Shards(ctx, p.scope) {
		if err != nil {
			return err
		}
		all = all.Union(mustShards(w.s.t, fmt.Sprint(shard.Number)))
	}
	steps := []func() error{
		func() error {
			return change(&p.assigned, func() error {
				_, err := w.admin.Assign(ctx, wire.Assignment{Dataset: p.scope, Person: w.labeler(), Shards: all})
				return err
			})
		},
		func() error { return w.pull(ctx, p) },
		func() error {
			return change(&p.granted, func() error {
				_, err := w.admin.Grant(ctx, wire.Grant{Role: dataset.Labeler, Person: w.helper(), Scope: p.scope})
				return err
			})
		},
		func() error {
			if k%2 == 0 {
				return nil
			}
			return change(&p.revoked, func() error {
				_, err := w.admin.Revoke(ctx, dataset.Labeler, w.helper(), p.scope)
				return err
			})
		},
		func() error {
			if k%3 != 0 {
				return nil
			}
			return change(&p.taken, func() error {
				_, err := w.admin.Unassign(ctx, p.scope, w.labeler(), nil)
				return err
			})
		},
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func mustShards(t *testing.T, text string) dataset.ShardSet {
	t.Helper()
	set, err := dataset.ParseShardSet(text)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func (w *worker) pull(ctx context.Context, p *promise) error {
	dir := filepath.Join(w.s.dir, "got", p.scope.Base())
	defer os.RemoveAll(dir)
	if _, err := w.reader.Pull(ctx, p.scope, client.PullOptions{Dir: dir}); err != nil {
		return err
	}
	sameFiles(w.s.t, p.source, dir)
	return nil
}

// holds checks that everything acknowledged about a dataset is so.
func (w *worker) holds(p *promise, roles map[string]bool) {
	t, ctx := w.s.t, w.s.t.Context()
	t.Helper()
	if p.pushed {
		dir := filepath.Join(w.s.dir, "check", p.scope.Base())
		if _, err := w.owner.Pull(ctx, p.scope, client.PullOptions{Dir: dir}); err != nil {
			t.Errorf("%s was acknowledged and is lost: %v", p.scope, err)
			return
		}
		sameFiles(t, p.source, dir)
		os.RemoveAll(dir)
	}
	if p.unsure {
		return
	}
	if p.assigned {
		d, err := w.reader.Can(ctx, "", "read", p.scope.String()+"/0", "", "")
		if err != nil && !(p.taken && fault.Is(err, fault.NotFound)) || d.Allowed == p.taken {
			t.Errorf("%s: assigned, taken back %v, allowed %v: %v", p.scope, p.taken, d.Allowed, err)
		}
	}
	if p.granted && roles[w.helper()+" "+p.scope.String()] == p.revoked {
		t.Errorf("%s: granted, revoked %v, and the roles say otherwise", p.scope, p.revoked)
	}
}

// TestKilledServer kills the server under load, again and again, and looks each
// time whether it has lost anything.
func TestKilledServer(t *testing.T) {
	t.Parallel()
	rounds, seed := 6, uint64(time.Now().UnixNano())
	if full() {
		rounds = 100
	}
	t.Logf("%d rounds, seed %d", rounds, seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := newSite(t)
	s.project()
	s.join("ann", "auditor", "/")
	wires := newTraffic()
	workers := make([]*worker, 4)
	for n := range workers {
		w := &worker{s: s, n: n, random: rand.New(rand.NewPCG(seed, uint64(n)+1))}
		s.join(w.labeler(), "labeler", "acme/signs")
		s.join(w.helper(), "", "")
		w.admin, _ = s.client("admin", wires)
		w.owner, _ = s.client("cleo", wires)
		w.reader, _ = s.client(w.labeler(), wires)
		workers[n] = w
	}
	hostage := s.bigDataset(workers[0].owner)
	steps := 0
	for round := range rounds {
		steps += s.load(workers, wires, 1+random.Int64N(600), hostage)
		s.start()
		s.swept()
		closed := func() bool { return s.count("SELECT count(*) FROM open_reads") == 0 }
		await(t, "no read is open", closed)
		s.checkPromises(workers, round == rounds-1, random)
		await(t, "the end of the last read that was checked", closed)
		if unknown := s.checkReads(wires); unknown <= round {
			t.Errorf("%d reads ended as unknown after %d kills, each in the middle of one", unknown, round+1)
		}
		if t.Failed() {
			t.Fatalf("after round %d", round)
		}
	}
	t.Logf("%d datasets begun, %d reads delivered", steps, len(wires.delivered()))
	s.stop()
}

// bigDataset pushes a shard that is larger than what fits between server and
// reader, so that a reader who waits has the server wait.
func (s *site) bigDataset(owner *client.Client) dataset.Scope {
	s.t.Helper()
	at := scope(s.t, "acme/signs/big")
	path := filepath.Join(s.dir, "big")
	if err := os.WriteFile(path, make([]byte, 32<<20), 0o644); err != nil {
		s.t.Fatal(err)
	}
	if _, err := owner.Push(s.t.Context(), path, at, client.PushOptions{}); err != nil {
		s.t.Fatal(err)
	}
	return at
}

// load has the workers work, and somebody be in the middle of a big read, until
// the server is killed after so many events and all have noticed.
func (s *site) load(workers []*worker, wires *traffic, events int64, big dataset.Scope) (steps int) {
	s.t.Helper()
	var dead atomic.Bool
	var wg sync.WaitGroup
	var begun atomic.Int64
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	begin := wires.events.Load()
	for _, w := range workers {
		wg.Go(func() {
			for !dead.Load() {
				begun.Add(1)
				if err := w.step(ctx); err != nil && !dead.Load() && !fault.Is(err, fault.Unavailable) {
					s.t.Errorf("worker %d: %v", w.n, err)
					return
				}
			}
		})
	}
	reading := make(chan struct{})
	wg.Go(func() {
		var once sync.Once
		slow, _ := s.client("cleo", stalling{wires, func() {
			once.Do(func() { close(reading) })
			<-ctx.Done()
		}})
		_, err := slow.Pull(ctx, big, client.PullOptions{Dir: filepath.Join(s.dir, "hostage")})
		if err == nil {
			s.t.Error("a read went on after the server was killed")
		}
	})
	await(s.t, "a read is on its way", func() bool {
		select {
		case <-reading:
			return true
		default:
			return s.t.Failed()
		}
	})
	await(s.t, "the event of the kill", func() bool { return wires.events.Load() >= begin+events || s.t.Failed() })
	s.kill()
	dead.Store(true)
	cancel() // nobody waits for the next server
	wg.Wait()
	return int(begun.Load())
}

// stalling stops after the first bytes of a shard.
type stalling struct {
	http.RoundTripper
	wait func()
}

func (s stalling) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := s.RoundTripper.RoundTrip(r)
	if err == nil && isRead(r) && resp.StatusCode == http.StatusOK {
		resp.Body = &stalledBody{resp.Body, s.wait}
	}
	return resp, err
}

type stalledBody struct {
	io.ReadCloser
	wait func()
}

func (b *stalledBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.wait()
	return n, err
}

// checkPromises checks what the workers were promised: everything of late, and
// a sample of what is older, or all.
func (s *site) checkPromises(workers []*worker, all bool, random *rand.Rand) {
	s.t.Helper()
	roles := make(map[string]bool)
	for g, err := range workers[0].admin.Grants(s.t.Context(), scope(s.t, "/")) {
		if err != nil {
			s.t.Fatal(err)
		}
		roles[g.Person+" "+g.Scope.String()] = true
	}
	for _, w := range workers {
		for i, p := range w.promises {
			if all || i >= len(w.promises)-8 || random.IntN(len(w.promises)) < 4 {
				w.holds(p, roles)
			}
		}
	}
}

// checkReads verifies the log and checks that every delivered read is in it,
// and that every read has its end. It gives how many ended as unknown.
func (s *site) checkReads(wires *traffic) (unknown int) {
	s.t.Helper()
	records, _ := s.ended("ann")
	leaves := make(map[string]bool)
	reads, ends := 0, 0
	for _, r := range records {
		switch r.Kind {
		case audit.KindRead.String():
			reads++
			leaves[fmt.Sprintf("%d:%x", r.Index, []byte(r.Hash))] = true
		case audit.KindReadEnd.String():
			ends++
			if strings.Contains(fmt.Sprint(r.Reason, r.Detail), "unknown") {
				unknown++
			}
		}
	}
	delivered := wires.delivered()
	for leaf := range delivered {
		if !leaves[leaf] {
			s.t.Errorf("bytes of the read %s arrived, and it is not in the log", leaf)
		}
	}
	if reads != ends {
		s.t.Errorf("%d reads, %d ends", reads, ends)
	}
	s.t.Logf("%d records, %d reads (%d delivered), of which %d ended as unknown", len(records), reads, len(delivered), unknown)
	return unknown
}
