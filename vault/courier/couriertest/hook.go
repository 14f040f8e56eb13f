package couriertest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Call is one webhook call that has come.
type Call struct {
	ID     string
	Header http.Header
	Body   []byte
}

// Verify checks the signature with the library that the scheme's authors
// publish. A time is not checked: tests move theirs.
func (c Call) Verify(t testing.TB, secret string) {
	t.Helper()
	w, err := webhooks.NewWebhook(secret)
	if err == nil {
		err = w.VerifyIgnoringTimestamp(c.Body, c.Header)
	}
	if err != nil {
		t.Errorf("the signature of %s does not verify: %v", c.ID, err)
	}
}

// Into reads the body.
func (c Call) Into(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(c.Body, v); err != nil {
		t.Errorf("%v: %s", err, c.Body)
	}
}

// Receiver is a running receiver of webhooks.
type Receiver struct {
	*httptest.Server

	mu      sync.Mutex
	calls   []Call                                              // guarded by mu
	answer  func(w http.ResponseWriter, r *http.Request, n int) // guarded by mu
	arrived chan struct{}
}

// NewReceiver starts a receiver, which ends with the test. It answers 204.
func NewReceiver(t testing.TB) *Receiver {
	r := StartReceiver()
	t.Cleanup(r.Close)
	return r
}

// StartReceiver starts a receiver, which ends with Close.
func StartReceiver() *Receiver {
	r := &Receiver{arrived: make(chan struct{}, 1)}
	r.Server = httptest.NewServer(r)
	return r
}

// Answer has f answer every call. n counts them from 0.
func (r *Receiver) Answer(f func(w http.ResponseWriter, r *http.Request, n int)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(io.LimitReader(req.Body, 1<<20))
	if err != nil {
		return
	}
	r.mu.Lock()
	n, answer := len(r.calls), r.answer
	r.calls = append(r.calls, Call{ID: req.Header.Get("Webhook-Id"), Header: req.Header.Clone(), Body: body})
	r.mu.Unlock()
	select {
	case r.arrived <- struct{}{}:
	default: // one signal is enough
	}
	if answer != nil {
		answer(w, req, n)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// Calls is what has come, in order.
func (r *Receiver) Calls() []Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Call{}, r.calls...)
}

// Await waits until so many calls have come, and gives them.
func (r *Receiver) Await(t testing.TB, n int) []Call {
	t.Helper()
	list := r.Wait(n)
	if len(list) < n {
		t.Fatalf("gave up waiting for call %d: %+v", n, list)
	}
	return list
}

// Wait is Await, and gives fewer if it takes too long.
func (r *Receiver) Wait(n int) []Call {
	late := time.After(patience)
	for {
		if list := r.Calls(); len(list) >= n {
			return list
		}
		select {
		case <-r.arrived:
		case <-late:
			return r.Calls()
		}
	}
}
