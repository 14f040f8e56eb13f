package client

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"dsvault/vault/fault"
)

// watch cancels a request when no byte has flowed for a while. It runs while
// one side waits for the other's bytes; between the end of an upload and the
// answer's header the transport's own timeout holds.
type watch struct {
	idle   time.Duration
	timer  *time.Timer
	fired  atomic.Bool
	cancel context.CancelFunc
}

func newWatch(ctx context.Context, idle time.Duration) (context.Context, *watch) {
	ctx, cancel := context.WithCancel(ctx)
	w := &watch{idle: idle, cancel: cancel}
	w.timer = time.AfterFunc(idle, func() {
		w.fired.Store(true)
		cancel()
	})
	w.timer.Stop()
	return ctx, w
}

func (w *watch) start() { w.timer.Reset(w.idle) }
func (w *watch) pause() { w.timer.Stop() }

// end releases everything and reports whether the watch has cancelled.
func (w *watch) end() bool {
	w.timer.Stop()
	w.cancel()
	return w.fired.Load()
}

// watchedBody watches the body of a request or of an answer. The time that
// counts is the network's: of an upload between the reads, of an answer during
// them.
type watchedBody struct {
	body   io.ReadCloser
	watch  *watch
	ctx    context.Context
	op     string
	upload bool
}

func (b *watchedBody) Read(p []byte) (int, error) {
	if b.upload {
		b.watch.pause()
		n, err := b.body.Read(p)
		if err == nil {
			b.watch.start()
		}
		return n, err
	}
	b.watch.start()
	n, err := b.body.Read(p)
	b.watch.pause()
	if err != nil && err != io.EOF {
		err = b.classify(err)
	}
	return n, err
}

func (b *watchedBody) classify(err error) error {
	var e *fault.Error
	switch {
	case b.watch.fired.Load():
		return stalled(b.op)
	case b.ctx.Err() != nil:
		return contextFault(b.ctx, b.op, err)
	case errors.As(err, &e):
		return err
	}
	return fault.Wrap(fault.Unavailable, b.op, "the connection broke", err).WithHint("try again")
}

// Close closes the body; that of an answer also ends the request.
func (b *watchedBody) Close() error {
	err := b.body.Close()
	if b.upload {
		b.watch.pause()
	} else {
		b.watch.end()
	}
	return err
}
