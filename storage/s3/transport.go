package s3

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
)

const (
	connectLimit = 10 * time.Second
	abortLimit   = 10 * time.Second
)

// errStalled is the cause of requests that were called off.
var errStalled = errors.New("the object store has stalled")

// NewTransport returns the transport that Open uses by default: minio-go's,
// with a limit for connecting. The store itself bounds how long any transport
// may stand still.
func NewTransport(secure bool) *http.Transport {
	transport, err := minio.DefaultTransport(secure)
	if err != nil { // it has no way to fail; should it get one, do without its settings
		transport = http.DefaultTransport.(*http.Transport).Clone()
		transport.DisableCompression = true
	}
	transport.DialContext = (&net.Dialer{Timeout: connectLimit, KeepAlive: 30 * time.Second}).DialContext
	transport.TLSHandshakeTimeout = connectLimit
	transport.ResponseHeaderTimeout = 0 // watch does it, which knows what is asked
	transport.MaxIdleConnsPerHost = 64
	return transport
}

// watch stands before the transport. It calls off requests that stand still,
// and notices what the answers say in passing.
type watch struct {
	next      http.RoundTripper
	patience  time.Duration // see Config
	versioned atomic.Bool   // an answer has named a version
}

func (w *watch) RoundTrip(r *http.Request) (*http.Response, error) {
	limit := w.patience
	if r.Method == http.MethodPost && r.URL.Query().Has("uploadId") {
		limit *= 10 // Complete
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	a := &alarm{limit: limit, ctx: ctx, cancel: cancel}
	a.timer = time.AfterFunc(limit, func() { cancel(errStalled) })
	r = r.WithContext(ctx)
	var body *sending
	if r.Body != nil && r.Body != http.NoBody {
		body = &sending{ReadCloser: r.Body, alarm: a, left: r.ContentLength}
		r.Body = body
	}
	resp, err := w.next.RoundTrip(r)
	a.answered()
	if err != nil {
		body.end()
		err = a.cause(err)
		cancel(nil)
		return nil, err
	}
	if id := resp.Header.Get("X-Amz-Version-Id"); id != "" && id != "null" || resp.Header.Get("X-Amz-Delete-Marker") == "true" {
		w.versioned.Store(true)
	}
	resp.Body = &receiving{ReadCloser: resp.Body, alarm: a, request: body}
	return resp, nil
}

// alarm calls off one request. Until there is an answer the transport owns the
// clock: each piece of the request's body that it takes winds it up again.
// After that only the reader of the answer does, while it waits for bytes.
type alarm struct {
	limit  time.Duration
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	timer *time.Timer
	heard bool // there is an answer
}

func (a *alarm) progress() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.heard {
		a.timer.Reset(a.limit)
	}
}

func (a *alarm) answered() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.heard = true
	a.timer.Stop()
}

// cause tells a request that was called off here from one that the caller has
// canceled.
func (a *alarm) cause(err error) error {
	if err != io.EOF && context.Cause(a.ctx) == errStalled {
		return errStalled
	}
	return err
}

// sending is the body of a request. A transport may go on reading it after its
// answer or error is there, while minio-go starts it over for the next try, or
// Put reads the next part into the same memory; so end cuts it off.
type sending struct {
	io.ReadCloser
	alarm *alarm

	mu   sync.Mutex
	left int64 // bytes not read yet
	over bool
}

func (s *sending) Read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over && s.left > 0 {
		return 0, http.ErrBodyReadAfterClose
	}
	if s.over {
		return 0, io.EOF
	}
	s.alarm.progress()
	n, err := s.ReadCloser.Read(b) // from memory: it does not block
	s.left -= int64(n)
	return n, err
}

func (s *sending) end() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
}

// receiving is the body of an answer.
type receiving struct {
	io.ReadCloser
	alarm   *alarm
	request *sending // nil: it had no body
}

func (r *receiving) Read(b []byte) (int, error) {
	r.alarm.timer.Reset(r.alarm.limit)
	n, err := r.ReadCloser.Read(b)
	r.alarm.timer.Stop()
	if err != nil {
		err = r.alarm.cause(err)
	}
	return n, err
}

func (r *receiving) Close() error {
	err := r.ReadCloser.Close()
	r.request.end()
	r.alarm.timer.Stop()
	r.alarm.cancel(nil)
	return err
}
