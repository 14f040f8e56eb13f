//go:build linux

package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// A register is what one person may do with one shard: allowed, or not. give
// (assign, grant) sets it, take (unassign, revoke) clears it, and a read sees it.
// Every operation on it is an event with the times between which it took effect.
type deed int

const (
	deedRead deed = iota
	deedGive
	deedTake
)

// seen is what an operation told about the register.
type seen int

const (
	unknown seen = iota // it may have taken effect, or may do so at any time
	yes                 // bytes arrived; access was given; there was some to take
	no                  // refused; there was nothing to take
)

type event struct {
	deed         deed
	seen         seen
	node         int
	anyway       bool          // a take that is acknowledged whether or not there was some to take
	said         string        // if not yes
	leaf         uint64        // of a read
	empty, first time.Duration // of a read with bytes: none had arrived, the first had
}

// register is the history of one person and shard, by many goroutines.
type register struct {
	name string

	mu      sync.Mutex
	history []porcupine.Operation // guarded by mu; Input is the event
	unsure  int                   // guarded by mu: events whose outcome is unknown
}

// forEver is the end of what may still take effect.
const forEver = math.MaxInt64

// note adds an event. client is the goroutine's.
func (r *register) note(client int, e event, asked, done time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	op := porcupine.Operation{ClientId: client, Input: e, Call: int64(asked), Return: int64(done)}
	if e.seen == unknown {
		op.Return = forEver
		r.unsure++
		op.ClientId += 100 * r.unsure // the page shows it on a line of its own
	}
	if e.deed == deedRead && e.seen == yes {
		op.Return = int64(e.first)
	}
	r.history = append(r.history, op)
}

func (r *register) size() (events, unsure int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.history), r.unsure
}

// registerModel is a register as porcupine checks it. It starts cleared. What has
// an unknown outcome and is there has an effect: see search.
var registerModel = porcupine.Model{
	Init: func() any { return false },
	Step: func(state, input, _ any) (bool, any) {
		allowed, e := state.(bool), input.(event)
		switch e.deed {
		case deedRead:
			return allowed == (e.seen == yes), allowed
		case deedGive:
			return e.seen == yes || !allowed, true
		default:
			return e.anyway || allowed == (e.seen != no), false
		}
	},
	DescribeOperation: func(input, _ any) string {
		e := input.(event)
		return fmt.Sprintf("%s at node %d: %s", [...]string{"read", "give", "take"}[e.deed], e.node, [...]string{"unknown", "yes", "no"}[e.seen])
	},
	DescribeState: func(state any) string { return map[bool]string{true: "allowed", false: "not allowed"}[state.(bool)] },
}

// Two views of a history are checked. In "admissions" a read takes effect between
// the request and its first byte: it shows decisions on a state that was no more,
// or not yet. "starts" is below.
const viewAdmissions, viewStarts = "admissions", "starts"

// sendSlack is how long a byte may take from a node's kernel to where the test
// sees it, on a loaded machine.
const sendSlack = 100 * time.Millisecond

// starts is the history in which a read took effect while its first byte was
// sent: after the last look at which nothing had arrived. It shows reads that
// were admitted in time and began after the access had been taken. What was
// refused was decided, not sent, and says nothing here.
func starts(history []porcupine.Operation) []porcupine.Operation {
	var out []porcupine.Operation
	for _, op := range history {
		e := op.Input.(event)
		if e.deed != deedGive && e.seen == no {
			continue
		}
		if e.deed == deedRead {
			op.Call = max(op.Call, int64(e.empty-sendSlack))
		}
		out = append(out, op)
	}
	return out
}

// registerLimit bounds the check of one register, which takes milliseconds.
const registerLimit = time.Minute

// search looks for an order of a history. Of what has an unknown outcome some took
// effect, at any time since, and the rest never did: it tries which. So each check
// is a quick one, where one that may put these anywhere, with or without an effect,
// takes for ever.
func search(ops []porcupine.Operation) porcupine.CheckResult {
	var sure, unsure []porcupine.Operation
	for _, op := range ops {
		if op.Return == forEver {
			unsure = append(unsure, op)
		} else {
			sure = append(sure, op)
		}
	}
	result := porcupine.Illegal
	for choice := range 1 << len(unsure) {
		tried := slices.Clone(sure)
		for i, op := range unsure {
			if choice>>i&1 == 1 {
				tried = append(tried, op)
			}
		}
		switch porcupine.CheckOperationsTimeout(registerModel, tried, registerLimit) {
		case porcupine.Ok:
			return porcupine.Ok
		case porcupine.Unknown:
			result = porcupine.Unknown
		}
	}
	return result
}

// violation is what porcupine says of one register.
type violation struct {
	view   string
	result porcupine.CheckResult
	info   porcupine.LinearizationInfo
	ops    []porcupine.Operation
}

// check gives what is wrong with a history; nil is nothing.
func (r *register) check() (wrong []violation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range []violation{{view: viewAdmissions, ops: r.history}, {view: viewStarts, ops: starts(r.history)}} {
		if v.result = search(v.ops); v.result != porcupine.Ok {
			_, v.info = porcupine.CheckOperationsVerbose(registerModel, v.ops, registerLimit)
			wrong = append(wrong, v)
		}
	}
	return wrong
}

// keep writes a violation into a folder: a page to look at, and the events.
func (v violation) keep(folder, name string) (string, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(folder, strings.ReplaceAll(name, "/", "-")+"."+v.view)
	slices.SortFunc(v.ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var text strings.Builder
	fmt.Fprintf(&text, "# %s, %s: %s. Times in seconds since the start.\n", name, v.view, v.result)
	for _, op := range v.ops {
		e, end := op.Input.(event), "never"
		if op.Return != forEver {
			end = fmt.Sprintf("%.6f", time.Duration(op.Return).Seconds())
		}
		fmt.Fprintf(&text, "%.6f %s client %d, %s", time.Duration(op.Call).Seconds(), end, op.ClientId, registerModel.DescribeOperation(e, nil))
		if e.deed == deedRead && e.seen == yes {
			fmt.Fprintf(&text, ", leaf %d, nothing at %.6f, first byte at %.6f", e.leaf, e.empty.Seconds(), e.first.Seconds())
		}
		text.WriteString(" " + e.said + "\n")
	}
	if err := os.WriteFile(path+".txt", []byte(text.String()), 0o644); err != nil {
		return "", err
	}
	return path + ".html", porcupine.VisualizePath(registerModel, v.info, path+".html")
}

// TestRegister has the check find what it is there to find.
func TestRegister(t *testing.T) {
	type step struct {
		deed         deed
		seen         seen
		asked, done  int
		empty, first int // of reads with bytes
	}
	for _, tt := range []struct {
		what  string
		steps []step
		wrong string
	}{
		{"given, read, taken, refused", []step{
			{deedGive, yes, 0, 1, 0, 0}, {deedRead, yes, 2, 4, 2, 3}, {deedTake, yes, 5, 6, 0, 0}, {deedRead, no, 7, 8, 0, 0},
		}, ""},
		{"read while it is taken", []step{
			{deedGive, yes, 0, 1, 0, 0}, {deedTake, yes, 2, 9, 0, 0}, {deedRead, yes, 3, 8, 6, 7}, {deedTake, no, 4, 5, 0, 0},
		}, ""},
		{"refused, and a read that was admitted before begins while it is taken", []step{
			{deedGive, yes, 0, 1, 0, 0}, {deedTake, yes, 2, 9, 0, 0}, {deedRead, no, 3, 4, 0, 0}, {deedRead, yes, 2, 8, 6, 7},
		}, ""},
		{"never given", []step{{deedRead, yes, 0, 2, 0, 1}}, "admissions starts"},
		{"asked for after it was taken", []step{
			{deedGive, yes, 0, 1, 0, 0}, {deedTake, yes, 2, 3, 0, 0}, {deedRead, yes, 4, 6, 4, 5},
		}, "admissions starts"},
		{"asked for before, and begun after it was taken", []step{
			{deedGive, yes, 0, 1, 0, 0}, {deedTake, yes, 3, 4, 0, 0}, {deedRead, yes, 2, 8, 6, 7},
		}, "starts"},
		{"not taken after all", []step{
			{deedGive, yes, 0, 1, 0, 0}, {deedTake, unknown, 2, 0, 0, 0}, {deedRead, yes, 4, 6, 4, 5},
		}, ""},
		{"taken late", []step{
			{deedGive, yes, 0, 1, 0, 0}, {deedTake, unknown, 2, 0, 0, 0}, {deedRead, yes, 4, 6, 4, 5}, {deedRead, no, 7, 8, 0, 0},
		}, ""},
		{"taken late, and back again", []step{
			{deedGive, yes, 0, 1, 0, 0}, {deedTake, unknown, 2, 0, 0, 0}, {deedRead, no, 4, 6, 0, 0}, {deedRead, yes, 7, 9, 7, 8},
		}, "admissions"},
		{"refused although it was given", []step{{deedGive, yes, 0, 1, 0, 0}, {deedRead, no, 2, 3, 0, 0}}, "admissions"},
		{"taken although it was not given", []step{{deedTake, yes, 2, 3, 0, 0}}, "admissions starts"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			r := &register{}
			for i, s := range tt.steps {
				at := func(n int) time.Duration { return time.Duration(n) * time.Second }
				r.note(i, event{deed: s.deed, seen: s.seen, empty: at(s.empty), first: at(s.first)}, at(s.asked), at(s.done))
			}
			var views []string
			for _, v := range r.check() {
				views = append(views, v.view)
				page, err := v.keep(t.TempDir(), tt.what)
				if err == nil {
					_, err = os.Stat(page)
				}
				if err != nil {
					t.Error(err)
				}
			}
			if got := strings.Join(views, " "); got != tt.wrong {
				t.Errorf("wrong are the %q, want %q", got, tt.wrong)
			}
		})
	}
}

// TestRegisterHistories makes long histories in an order that there is, with some
// outcomes unknown, and then changes what one read has seen.
func TestRegisterHistories(t *testing.T) {
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 0))
		type planned struct {
			event
			client, call, at, end int
		}
		var plan []planned
		unsure := 0
		for client := range 5 {
			for now := 0; now < 4000; {
				p := planned{client: client, call: now + random.IntN(10)}
				p.at = p.call + random.IntN(20)
				if p.deed = deedRead; client > 2 { // one gives, one takes, now and then
					p.deed = deed(client - 2)
					p.call, p.at = p.call+300, p.at+300
				}
				p.end = p.at + 1 + random.IntN(20)
				if now = p.end; p.deed != deedRead && unsure < maxUnsure && random.IntN(3) == 0 {
					unsure++
					p.seen, p.at = no, p.at+random.IntN(6000) // for now: it never answers
					p.end = 0
				}
				plan = append(plan, p)
			}
		}
		slices.SortStableFunc(plan, func(a, b planned) int { return a.at - b.at })
		r, allowed, reads := &register{}, false, []int{}
		for _, p := range plan {
			p.seen = no
			if allowed || p.deed == deedGive {
				p.seen = yes
			}
			if p.deed != deedRead {
				allowed = p.deed == deedGive
			} else {
				reads = append(reads, len(r.history))
			}
			if p.end == 0 {
				p.seen = unknown
			}
			at := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
			p.empty, p.first = at(p.call), at(p.end)
			r.note(p.client, p.event, at(p.call), at(p.end))
		}
		if got := search(r.history); got != porcupine.Ok {
			t.Errorf("seed %d: %s, and there is an order of these %d events, %d of them unknown", seed, got, len(r.history), unsure)
		}
		// Whether there is an order of this one, too, has to be found out as well.
		i := reads[len(reads)/2]
		e := r.history[i].Input.(event)
		e.seen = yes + no - e.seen
		r.history[i].Input = e
		if got := search(r.history); got == porcupine.Unknown {
			t.Errorf("seed %d: nobody knows", seed)
		}
	}
}
