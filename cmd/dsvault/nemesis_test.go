//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// The kinds of faults.
const (
	faultStall     = "stalls"             // SIGSTOP for 0.1 to 5 s, then SIGCONT
	faultKill      = "kills"              // SIGKILL, and a start after up to 2 s
	faultDrop      = "dropped lines"      // all of a node's database connections break
	faultHold      = "held lines"         // no byte between a node and the database, for 0.2 to 2.5 s
	faultFast      = "fast restarts"      // PostgreSQL ends its sessions and starts again after up to 1.5 s
	faultImmediate = "immediate restarts" // PostgreSQL crashes, likewise
)

// often says in which proportion the faults come.
var often = []string{
	faultStall, faultStall, faultStall, faultStall, faultKill, faultKill, faultDrop, faultDrop, faultHold, faultHold, faultFast, faultImmediate,
}

// nemesis injects faults into a cluster by a random plan. Several go on at a
// time, but never two of a kind on one node.
type nemesis struct {
	*cluster
	random *rand.Rand
	first  []string // are injected before any other
	pause  time.Duration
	next   time.Time // of the next fault
	ends   []ending  // of those that go on, by time
	counts map[string]int
}

type ending struct {
	at time.Time
	do func()
}

func newNemesis(c *cluster, seed uint64, pause time.Duration) *nemesis {
	m := &nemesis{cluster: c, random: rand.New(rand.NewPCG(seed, 1)), pause: pause, counts: make(map[string]int)}
	m.first = slices.Compact(slices.Sorted(slices.Values(often)))
	m.random.Shuffle(len(m.first), func(i, j int) { m.first[i], m.first[j] = m.first[j], m.first[i] })
	m.next = time.Now().Add(time.Second)
	return m
}

// tick does what is due.
func (m *nemesis) tick() {
	now := time.Now()
	for len(m.ends) > 0 && !now.Before(m.ends[0].at) {
		do := m.ends[0].do
		m.ends = m.ends[1:]
		do()
	}
	m.supervise()
	if now.Before(m.next) {
		return
	}
	kind := often[m.random.IntN(len(often))]
	if len(m.first) > 0 {
		kind = m.first[0]
	}
	if m.inject(kind) {
		m.counts[kind]++
		if len(m.first) > 0 {
			m.first = m.first[1:]
		}
	}
	pause := m.pause
	if len(m.first) > 0 {
		pause = min(pause, 700*time.Millisecond)
	}
	m.next = time.Now().Add(m.between(0, 2*pause))
}

// busy reports whether a fault of the first plan is still to come or going on.
func (m *nemesis) busy() bool { return len(m.first) > 0 || len(m.ends) > 0 }

func (m *nemesis) between(from, to time.Duration) time.Duration {
	return from + time.Duration(m.random.Int64N(int64(to-from)))
}

// after plans the end of a fault.
func (m *nemesis) after(d time.Duration, do func()) {
	m.ends = append(m.ends, ending{time.Now().Add(d), do})
	slices.SortStableFunc(m.ends, func(a, b ending) int { return a.at.Compare(b.at) })
}

// inject does one fault, and reports whether it could.
func (m *nemesis) inject(kind string) bool {
	n := m.nodes[m.random.IntN(len(m.nodes))]
	switch kind {
	case faultStall:
		if n.gone || n.stalled || !n.isReady() {
			return false
		}
		m.stall(n, true)
		m.after(m.between(100*time.Millisecond, 5*time.Second), func() { m.stall(n, false) })
	case faultKill:
		if n.gone || n.stalled || !n.isReady() {
			return false
		}
		m.killNode(n)
		m.after(m.between(0, 2*time.Second), func() { m.launchNode(n) })
	case faultDrop:
		n.line.drop()
	case faultHold:
		if n.held {
			return false
		}
		n.hold(true)
		m.after(m.between(200*time.Millisecond, 2500*time.Millisecond), func() { n.hold(false) })
	case faultFast, faultImmediate:
		if m.down {
			return false
		}
		if kind == faultFast {
			m.pg.Shut()
		} else {
			m.pg.Stop()
		}
		m.down = true
		m.after(m.between(0, 1500*time.Millisecond), func() {
			m.pg.Start()
			m.down = false
		})
	}
	return true
}

func (m *nemesis) String() string {
	var parts []string
	for _, kind := range slices.Compact(slices.Sorted(slices.Values(often))) {
		parts = append(parts, fmt.Sprintf("%d %s", m.counts[kind], kind))
	}
	return strings.Join(parts, ", ")
}
