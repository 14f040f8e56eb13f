//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"dsvault/vault/wire"
)

// pair is what a register is about: a person, and what they read or not.
type pair struct {
	who    account
	read   string // path
	change string // path of what gives
	give   string // body
	take   string // path of what takes
	theirs bool   // they give and take it themselves, rather than an admin
	ends   ends
	kinds  [2]string
}

// workload is who uses the cluster, and what came of it.
type workload struct {
	*cluster
	seed    uint64
	admins  []account
	pairs   chan pair // no one has used them yet
	streams chan pair // likewise, of a large shard
	begun   time.Time

	stop    atomic.Bool
	groups  sync.WaitGroup
	checks  sync.WaitGroup
	judged  chan *register
	broken  atomic.Int64              // violations
	checked atomic.Int64              // registers
	events  [3][3]atomic.Int64        // by deed and seen
	cut     atomic.Int64              // reads that ran when access to them was taken
	failed  atomic.Int64              // reads that say nothing
	ended   [3]atomic.Int64           // by ends
	byNode  [linearNodes]atomic.Int64 // reads delivered

	mu    sync.Mutex
	reads map[uint64]string // guarded by mu; hash by index, of reads delivered
	acked map[string]int    // guarded by mu; changes acknowledged, as the log has them
}

// note counts an event and adds it to its register.
func (w *workload) note(r *register, client int, e event, asked, done time.Duration) {
	w.events[e.deed][e.seen].Add(1)
	r.note(client, e, asked, done)
}

// operations counts the events that say something, or may have done something.
func (w *workload) operations() (n int64) {
	for d := range w.events {
		for i := range w.events[d] {
			n += w.events[d][i].Load()
		}
	}
	return n
}

func (w *workload) over(m *nemesis) bool {
	switch {
	case w.t.Failed() || w.broken.Load() > 0 || *linearTime > 0 && time.Since(w.begun) > *linearTime:
		return true
	case len(w.pairs) == 0:
		w.t.Errorf("all people and shards are used up after %d operations", w.operations())
		return true
	default:
		return w.operations() >= *linearOps && !m.busy()
	}
}

func (w *workload) String() string {
	took := time.Since(w.begun).Seconds()
	n := w.operations()
	of := func(d deed, s seen) int64 { return w.events[d][s].Load() }
	return fmt.Sprintf("%d operations, %.0f/s: %d reads delivered, %d refused, %d given, %d taken, %d not there, %d unknown; %d reads failed; %d running reads cut; %d people disabled, %d assignments lapsed; %d histories checked, %d wrong",
		n, float64(n)/took, of(deedRead, yes), of(deedRead, no), of(deedGive, yes), of(deedTake, yes), of(deedTake, no),
		of(deedGive, unknown)+of(deedTake, unknown), w.failed.Load(), w.cut.Load(),
		w.ended[byDisabling].Load(), w.ended[byTime].Load(), w.checked.Load(), w.broken.Load())
}

// start has groups of people work, and a checker check what they leave.
func (w *workload) start() {
	const groups = 24
	w.begun = time.Now()
	for n := range groups {
		w.groups.Go(func() { w.group(n) })
	}
	for n := range 2 {
		w.groups.Go(func() { w.streamer(n) })
	}
	w.checks.Go(func() {
		for r := range w.judged {
			w.judge(r)
		}
	})
}

// finish ends the work, and waits for the last check.
func (w *workload) finish() {
	w.stop.Store(true)
	w.groups.Wait()
	close(w.judged)
	w.checks.Wait()
}

// recovered waits until every node delivers reads again.
func (w *workload) recovered() {
	w.t.Helper()
	var before [linearNodes]int64
	for n := range before {
		before[n] = w.byNode[n].Load()
	}
	await(w.t, "every node delivers reads again", func() bool {
		for n := range before {
			if w.byNode[n].Load() < before[n]+5 {
				return w.broken.Load() > 0
			}
		}
		return true
	})
}

func (w *workload) judge(r *register) {
	wrong := r.check()
	w.checked.Add(1)
	for _, v := range wrong {
		w.broken.Add(1)
		place := "-linearizable-keep keeps the history"
		if *linearKeep != "" {
			page, err := v.keep(*linearKeep, r.name)
			if place = page; err != nil {
				place = err.Error()
			}
			w.keepLogs()
		}
		w.t.Errorf("%s: the %s are %s of %d events; seed %d; %s", r.name, v.view, v.result, len(v.ops), w.seed, place)
	}
}

// keepLogs puts what the nodes have logged beside the histories.
func (w *workload) keepLogs() {
	for _, n := range w.nodes {
		data, err := os.ReadFile(n.log.Name())
		if err == nil {
			err = os.WriteFile(filepath.Join(*linearKeep, filepath.Base(n.log.Name())), data, 0o644)
		}
		if err != nil {
			w.t.Error(err)
		}
	}
}

// What one register is used for. Its history stays short, and few of its events
// have an unknown outcome, so that its check stays fast.
const (
	maxEvents = 1000
	maxUnsure = 4
	readers   = 3
)

// group uses one pair after the other: readers, each at a node of its own, and
// one who gives and one who takes, each anywhere.
func (w *workload) group(n int) {
	random := rand.New(rand.NewPCG(w.seed, uint64(100+n)))
	hands := make([]*hand, readers+2)
	for i := range hands {
		hands[i] = w.hand(i, random.Uint64())
		defer hands[i].close()
	}
	for !w.stop.Load() && !w.t.Failed() {
		p, ok := take(w.pairs)
		if !ok {
			return
		}
		r := &register{name: p.who.handle + " " + p.read}
		admin := w.admins[n%len(w.admins)]
		if p.theirs {
			admin = p.who
		}
		var over atomic.Bool
		var round sync.WaitGroup
		turn := func(f func()) {
			round.Go(func() {
				for !over.Load() {
					f()
					events, unsure := r.size()
					if w.stop.Load() || events >= maxEvents || unsure >= maxUnsure || w.t.Failed() {
						over.Store(true)
					}
				}
			})
		}
		giver, taker := hands[readers], hands[readers+1]
		for i, h := range hands[:readers] {
			turn(func() {
				if h.read(p, r, i%linearNodes) {
					giver.tick()
					taker.tick()
				}
			})
		}
		if p.ends != never {
			round.Go(func() {
				taker.once(p, r, admin, &over)
				over.Store(true)
			})
		} else {
			turn(func() { giver.change(p, r, admin, deedGive, &over) })
			turn(func() { taker.change(p, r, admin, deedTake, &over) })
		}
		round.Wait()
		w.judged <- r
	}
}

// take gives a pair that nobody has used yet, if there is one.
func take(pairs chan pair) (p pair, ok bool) {
	select {
	case p = <-pairs:
		return p, true
	default:
		return p, false
	}
}

// hand is one goroutine's way to the nodes.
type hand struct {
	w      *workload
	client int
	random *rand.Rand
	askers []*asker // by node
	ticks  chan struct{}
}

func (w *workload) hand(client int, seed uint64) *hand {
	h := &hand{w: w, client: client, random: rand.New(rand.NewPCG(seed, 0)), ticks: make(chan struct{}, 1000)}
	for _, node := range w.nodes {
		h.askers = append(h.askers, &asker{host: node.host, since: w.begun})
	}
	return h
}

func (h *hand) close() {
	for _, a := range h.askers {
		a.close()
	}
}

// tick tells a hand that makes changes that a read was done.
func (h *hand) tick() {
	select {
	case h.ticks <- struct{}{}:
	default:
	}
}

// pause is for a node that is not there, or is overloaded.
func (h *hand) pause() { time.Sleep(time.Duration(10+h.random.IntN(40)) * time.Millisecond) }

// ways in which a shard is read.
func (h *hand) way(p pair) (path, header string) {
	switch h.random.IntN(8) {
	case 0:
		return p.read + "sealed", wire.HeaderDevice + ": " + p.who.device + "\r\n"
	case 1, 2:
		return p.read + "open", ""
	default:
		return p.read + "open", fmt.Sprintf("Range: bytes=0-%d\r\n", h.random.IntN(2000))
	}
}

// read reads, or is refused; it reports whether that told anything.
func (h *hand) read(p pair, r *register, node int) bool {
	path, header := h.way(p)
	ans, err := h.askers[node].ask(http.MethodGet, path, p.who.token, header, "")
	e := event{deed: deedRead, node: node, empty: ans.empty, first: ans.first}
	switch ans.status {
	case http.StatusOK, http.StatusPartialContent:
		e.seen = yes
		e.leaf = h.w.delivered(ans)
		h.w.byNode[node].Add(1)
	case http.StatusForbidden, http.StatusNotFound, http.StatusUnauthorized:
		if ans.status == http.StatusUnauthorized && p.ends != byDisabling {
			h.w.t.Errorf("%s is not known: %s", p.who.handle, ans.body)
		}
		if e.seen, e.said = no, strings.TrimSpace(string(ans.body)); err != nil { // it is not known who says so
			h.w.failed.Add(1)
			return false
		}
	default:
		h.w.failed.Add(1)
		h.outage(ans, err)
		return false
	}
	h.w.note(r, h.client, e, ans.asked, ans.done)
	return true
}

// delivered keeps what the log has to hold of a read.
func (w *workload) delivered(ans reply) (leaf uint64) {
	hash := ""
	if _, err := fmt.Sscanf(ans.header.Get(wire.HeaderLeaf), "%d:%s", &leaf, &hash); err != nil {
		w.t.Errorf("a read without its leaf: %q", ans.header)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads[leaf] = hash
	return leaf
}

// outage waits a little after what says nothing; what is no outage is a bug.
func (h *hand) outage(ans reply, err error) {
	switch ans.status {
	case 0, http.StatusServiceUnavailable, http.StatusTooManyRequests:
	default:
		h.w.t.Errorf("the answer is %d: %s (%v)", ans.status, ans.body, err)
	}
	h.pause()
}

// change gives or takes, once some reads were done.
func (h *hand) change(p pair, r *register, admin account, d deed, over *atomic.Bool) {
	each := 120 // reads of the register between two changes, at the most
	if d == deedGive {
		each = 60 // so that most reads are allowed
	}
	if h.lets(1+h.random.IntN(each), over) {
		h.alter(p, r, admin, d)
	}
}

// lets waits for so many reads; it reports false if everything is over before.
func (h *hand) lets(reads int, over *atomic.Bool) bool {
	for range reads {
		for waiting := true; waiting; {
			select {
			case <-h.ticks:
				waiting = false
			case <-time.After(20 * time.Millisecond):
			}
			if over.Load() {
				return false
			}
		}
	}
	return true
}

// alter gives or takes at any node, and says what came of it and when the answer
// was there.
func (h *hand) alter(p pair, r *register, admin account, d deed) (seen, time.Duration) {
	method, path, body := http.MethodPost, p.change, p.give
	if d == deedTake {
		method, path, body = http.MethodDelete, p.take, ""
	}
	node := h.random.IntN(linearNodes)
	ans, err := h.askers[node].ask(method, path, admin.token, "", body)
	e := event{deed: d, node: node, anyway: p.ends == byDisabling}
	switch {
	case errors.Is(err, errNotSent) || ans.status == http.StatusTooManyRequests:
		h.pause()
		return unknown, ans.done
	case err == nil && ans.status == http.StatusOK:
		e.seen = yes
		h.acknowledged(p, d, ans)
	case err == nil && ans.status == http.StatusBadRequest && p.ends == byTime:
		return no, ans.done // it came after the time that it names
	case err == nil && ans.status == http.StatusNotFound && d == deedTake:
		e.seen = no
	default:
		e.seen = unknown
		h.outage(ans, err)
	}
	if e.seen != yes {
		e.said = strings.TrimSpace(string(ans.body))
	}
	h.w.note(r, h.client, e, ans.asked, ans.done)
	return e.seen, ans.done
}

// acknowledged keeps what the log has to hold of a change: its kind, and its
// time or revision.
func (h *hand) acknowledged(p pair, d deed, ans reply) {
	var given struct{ At time.Time }
	var taken wire.Revoked
	key, err := "", error(nil)
	if d == deedGive {
		err = json.Unmarshal(ans.body, &given)
		key = fmt.Sprint(p.kinds[0], " ", given.At.UnixMicro())
	} else {
		err = json.Unmarshal(ans.body, &taken)
		key = fmt.Sprint(p.kinds[1], " ", taken.Revision)
	}
	if err != nil {
		h.w.t.Errorf("%s: %v", ans.body, err)
		return
	}
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.w.acked[key]++
}
