package main

import (
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress is a bar with rate and time left on the terminal. Where there is no
// terminal, and with --json, it is silent. It is safe for concurrent use.
type progress struct {
	mu    sync.Mutex
	bar   *progressbar.ProgressBar // nil: silent
	total int64
	done  int64
}

func (a *app) progress(what string) *progress { return a.progressOf(what, true) }

// progressOf counts bytes, or else things.
func (a *app) progressOf(what string, bytes bool) *progress {
	if a.json || !isTerminal(a.err) {
		return &progress{}
	}
	return &progress{bar: progressbar.NewOptions64(1,
		progressbar.OptionSetWriter(a.err),
		progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(bytes),
		progressbar.OptionShowTotalBytes(bytes),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionFullWidth(),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)}
}

func (p *progress) Expect(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total += n
	if p.bar != nil {
		p.bar.ChangeMax64(max(p.total, 1))
	}
}

func (p *progress) Done(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	// The last byte is not the end: the answer is. So the bar never fills up
	// by itself.
	if p.bar != nil && p.done < p.total {
		p.bar.Set64(max(p.done, 0))
	}
}

// reached says how much of how much is done by now.
func (p *progress) reached(done, total uint64) {
	p.mu.Lock()
	more, rest := int64(total)-p.total, int64(done)-p.done
	p.mu.Unlock()
	p.Expect(more)
	p.Done(rest)
}

// finish removes the bar.
func (p *progress) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		p.bar.Clear()
	}
}
