package api

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"dsvault/vault/fault"
)

const (
	readStep  = 4 << 10  // bytes that have to arrive within the idle limit
	writeStep = 64 << 10 // bytes that have to be taken within the idle limit
)

// source is a request's body. The sender has the idle limit for every few KiB,
// not counting the time that we take ourselves, so that neither a stalled nor a
// trickling one holds a connection for long. Its errors are faults.
type source struct {
	r       io.Reader
	control *http.ResponseController
	idle    time.Duration

	left  time.Duration // for the next readStep bytes
	moved int64         // of these, arrived
	most  int64         // bytes that may still come; -1: no limit
	total int64         // bytes that have arrived
	until time.Time     // when all of it has to be here; zero: no limit
	err   error         // why reading failed
}

func newSource(r *http.Request, control *http.ResponseController, idle time.Duration) *source {
	if r.ContentLength != 0 { // also for what the server drains when nobody reads
		_ = control.SetReadDeadline(time.Now().Add(idle))
	}
	return &source{r: r.Body, control: control, idle: idle, left: idle, most: -1}
}

// limit makes a body of more than most bytes fault.TooLarge, at once if its
// announced size says so.
func (s *source) limit(announced, most int64) error {
	if announced > most {
		return tooLarge()
	}
	s.most = most
	return nil
}

func tooLarge() error {
	return fault.New(fault.TooLarge, "api.body", "the body is too large")
}

func (s *source) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if s.most >= 0 && int64(len(p)) > s.most+1 {
		p = p[:s.most+1]
	}
	start := time.Now()
	deadline := start.Add(s.left)
	if !s.until.IsZero() && s.until.Before(deadline) {
		deadline = s.until
	}
	_ = s.control.SetReadDeadline(deadline)
	n, err := s.r.Read(p)
	s.left -= time.Since(start)
	s.total += int64(n)
	if s.moved += int64(n); s.moved >= readStep {
		s.left, s.moved = s.idle, 0
	}
	if s.most >= 0 {
		if s.most -= int64(n); s.most < 0 {
			s.err = tooLarge()
			return 0, s.err
		}
	}
	switch {
	case err == io.EOF: // from here on the server watches for the client's end
		_ = s.control.SetReadDeadline(time.Time{})
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.err = fault.Wrap(fault.Unavailable, "api.body", "the body came too slowly", nameless(err)).WithHint("send it again")
	case err != nil:
		s.err = fault.Wrap(fault.Canceled, "api.body", "the body was cut off", nameless(err))
	}
	if s.err != nil {
		return n, s.err
	}
	return n, err
}

// fault prefers the body's own failure to what became of it on the way.
func (s *source) fault(err error) error {
	if err != nil && s.err != nil {
		return s.err
	}
	return err
}

// sink is the response. The reader has the idle limit for every writeStep, and
// cut ends it from another goroutine.
type sink struct {
	http.ResponseWriter
	control *http.ResponseController
	idle    time.Duration

	mu    sync.Mutex
	ended bool // guarded by mu: cut, or the request is over
}

var errCut = fault.New(fault.Canceled, "api.sink", "the stream was cut")

// extend gives the next write its time.
func (s *sink) extend() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return errCut
	}
	_ = s.control.SetWriteDeadline(time.Now().Add(s.idle)) // not supported only where nothing blocks
	return nil
}

func (s *sink) WriteHeader(status int) {
	_ = s.extend()
	s.ResponseWriter.WriteHeader(status)
}

func (s *sink) Write(p []byte) (int, error) {
	written := 0
	for {
		if err := s.extend(); err != nil {
			return written, err
		}
		n, err := s.ResponseWriter.Write(p[:min(len(p), writeStep)])
		written += n
		if p = p[n:]; err != nil || len(p) == 0 {
			return written, notTaken(err)
		}
	}
}

// flush sends what was written.
func (s *sink) flush() error { return notTaken(s.control.Flush()) }

// notTaken words why a peer has not taken the answer; nil stays nil.
func notTaken(err error) error {
	if err == nil {
		return nil
	}
	return fault.Wrap(fault.Canceled, "api.sink", "the answer was not taken", nameless(err))
}

// nameless is the error of a connection without the addresses of its ends, which
// are not for the log.
func nameless(err error) error {
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Err != nil {
		return op.Err
	}
	return err
}

// cut makes the running Write and all later ones fail.
func (s *sink) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.ended = true
		_ = s.control.SetWriteDeadline(time.Unix(1, 0))
	}
}

// close is called when the request is over: a late cut must not reach the next
// request on the connection.
func (s *sink) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
}

// Unwrap is for http.ResponseController.
func (s *sink) Unwrap() http.ResponseWriter { return s.ResponseWriter }
