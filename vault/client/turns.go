package client

import "sync"

// turns tells each of several runs, which begin one after the other, when all
// that began before it have ended.
type turns struct {
	mu    sync.Mutex
	ended []bool          // guarded by mu
	upTo  []chan struct{} // guarded by mu; closed when this run and those before it have ended
	first int             // guarded by mu; the first run that goes on
}

func newTurns() *turns { return &turns{} }

// next begins a run. earlier is closed when those before it have ended; end, which
// is called once, ends it.
func (t *turns) next() (earlier <-chan struct{}, end func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(t.ended)
	t.ended, t.upTo = append(t.ended, false), append(t.upTo, make(chan struct{}))
	if n > 0 {
		earlier = t.upTo[n-1]
	} else {
		none := make(chan struct{})
		close(none)
		earlier = none
	}
	return earlier, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		for t.ended[n] = true; t.first < len(t.ended) && t.ended[t.first]; t.first++ {
			close(t.upTo[t.first])
		}
	}
}
