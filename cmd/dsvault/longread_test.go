//go:build linux

package main

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

const (
	streamBytes = 32 << 20
	// cutWithin is how long a read may go on once access to it has been taken,
	// with what a loaded machine takes to tell. What the kernels hold by then
	// still arrives.
	cutWithin = 2500 * time.Millisecond
	kernels   = 5 << 20
	// outage is how long somebody waits who has no answer.
	outage = 500 * time.Millisecond
	// maxDoubts is maxUnsure of these histories, which are short.
	maxDoubts = 8
)

// streamer reads a large shard slowly while access to it is taken, again and
// again.
func (w *workload) streamer(n int) {
	reader, admin := w.hand(0, w.seed+uint64(n)), w.hand(1, w.seed-uint64(n))
	defer reader.close()
	defer admin.close()
	for !w.stop.Load() && !w.t.Failed() {
		p, ok := take(w.streams)
		if !ok {
			return
		}
		r := &register{name: p.who.handle + " " + p.read}
		for {
			w.stream(p, r, reader, admin, w.admins[n%len(w.admins)])
			if events, unsure := r.size(); w.stop.Load() || w.t.Failed() || events >= maxEvents || unsure >= maxDoubts {
				break
			}
		}
		w.judged <- r
	}
}

// stream is one read of it.
func (w *workload) stream(p pair, r *register, reader, admin *hand, by account) {
	if got, _ := admin.alter(p, r, by, deedGive); got != yes {
		time.Sleep(outage)
		return
	}
	node := reader.random.IntN(linearNodes)
	a := reader.askers[node]
	defer a.close()
	ans, out, err := a.begin(http.MethodGet, p.read+"open", p.who.token, "", "")
	switch {
	case err == nil && ans.status == http.StatusOK:
		w.note(r, 0, event{deed: deedRead, seen: yes, node: node, leaf: w.delivered(ans), empty: ans.empty, first: ans.first}, ans.asked, ans.done)
	case err == nil && ans.status == http.StatusNotFound || ans.status == http.StatusForbidden:
		w.note(r, 0, event{deed: deedRead, seen: no, node: node}, ans.asked, ans.done)
		return
	default:
		reader.outage(ans, err)
		return
	}
	w.readUntilCut(a, out, reader, func() (seen, time.Duration) { return admin.alter(p, r, by, deedTake) })
}

// readUntilCut reads slowly, has the access taken meanwhile, and goes on until
// the stream ends. It complains of what was sent too late.
func (w *workload) readUntilCut(a *asker, out *http.Response, h *hand, unassign func() (seen, time.Duration)) {
	defer out.Body.Close()
	taken := make(chan time.Duration, 1)
	w.groups.Go(func() {
		time.Sleep(time.Duration(h.random.IntN(1000)) * time.Millisecond)
		for !w.t.Failed() {
			switch got, at := unassign(); got {
			case yes:
				taken <- at
				return
			case no: // one whose answer was lost has taken it, and may still go on
				taken <- 0
				return
			}
			time.Sleep(outage)
		}
		taken <- 0
	})
	var at time.Duration // when it had been taken; 0: not yet, or that is not known
	answered, total, late, quiet := false, 0, 0, false
	buf := make([]byte, 16<<10)
	for {
		select {
		case at = <-taken:
			answered = true
		default:
		}
		over := at > 0 && a.now() > at+cutWithin
		limit := askLimit
		if over && !quiet {
			limit = 500 * time.Millisecond
		}
		_ = a.conn.SetReadDeadline(time.Now().Add(limit))
		n, err := out.Body.Read(buf)
		total += n
		if n > 0 && quiet {
			w.lateStream("sent %d bytes after access to it had been taken for %s", n, a.now()-at)
			break
		}
		if over {
			late += n
		}
		if late > kernels {
			w.lateStream("went on when access to it had been taken for %s", a.now()-at)
			break
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && over && !quiet:
			quiet = true // nothing is on its way; what comes now is sent now
			continue
		case err == io.EOF && total == streamBytes:
			w.lateStream("was not cut")
		}
		if err != nil {
			break
		}
		if !over {
			time.Sleep(20 * time.Millisecond)
		}
	}
	if !answered {
		at = <-taken
	}
	if at > 0 && total < streamBytes {
		w.cut.Add(1)
	}
}

func (w *workload) lateStream(format string, args ...any) {
	w.broken.Add(1)
	w.t.Errorf("a running read "+format, args...)
}
