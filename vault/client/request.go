package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/sethvargo/go-retry"

	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

const (
	maxRetries = 4 // of one idempotent request
	maxWait    = 30 * time.Second
	maxAnswer  = 16 << 20  // bytes of a JSON answer: a page of leaves is the largest
	maxProblem = 256 << 10 // bytes of an error answer
)

// request is one call of the API.
type request struct {
	op     string // for errors
	method string
	path   string
	query  url.Values
	header http.Header
	in     any           // sent as JSON
	body   io.ReadCloser // sent as it is, size bytes; never retried here
	size   int64
}

// idempotent: doing it twice is as doing it once.
func (r *request) idempotent() bool {
	return r.body == nil && r.method != http.MethodPost
}

// again reports whether the request may be sent once more after an error. A server
// that is too busy says so before it does anything.
func (r *request) again(err error) bool {
	return transient(err) && (r.idempotent() || r.body == nil && fault.Is(err, fault.Busy))
}

// call sends a request and reads its JSON answer into out.
func (c *Client) call(ctx context.Context, r request, out any) error {
	return c.retryIf(ctx, maxRetries, r.again, func(ctx context.Context) error {
		resp, err := c.send(ctx, r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		return decodeAnswer(r.op, resp.Body, out)
	})
}

func decodeAnswer(op string, body io.Reader, out any) error {
	data, err := readLimited(body, maxAnswer, op)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, out); err != nil {
		return noSense(op, err)
	}
	return nil
}

// noSense is the error for what no dsvault server answers.
func noSense(op string, err error) error {
	return fault.Wrap(fault.Internal, op, "the server's answer makes no sense", err).
		WithHint("check that the URL is that of a dsvault server, and that client and server have the same version")
}

// retry runs f, and up to so many times again when the server is away or busy.
// It waits as long as the server asks for.
func (c *Client) retry(ctx context.Context, retries uint64, f func(context.Context) error) error {
	return c.retryIf(ctx, retries, transient, f)
}

func (c *Client) retryIf(ctx context.Context, retries uint64, again func(error) bool, f func(context.Context) error) error {
	var asked time.Duration
	next := retry.WithMaxRetries(retries, retry.WithJitterPercent(20, retry.NewExponential(c.backoff)))
	wait := retry.BackoffFunc(func() (time.Duration, bool) {
		d, stop := next.Next()
		return min(max(d, asked), maxWait), stop
	})
	err := retry.Do(ctx, wait, func(ctx context.Context) error {
		err := f(ctx)
		if !again(err) {
			return err
		}
		var e *fault.Error
		errors.As(err, &e)
		asked = e.Retry
		return retry.RetryableError(err)
	})
	var e *fault.Error
	if err != nil && !errors.As(err, &e) { // the context ended while waiting
		return contextFault(ctx, "client.retry", err)
	}
	return err
}

// transient reports whether the same request may succeed later. A full disk of
// this machine does not get empty by waiting, and each try would be one more
// read in the log.
func transient(err error) bool {
	return (fault.Is(err, fault.Unavailable) || fault.Is(err, fault.Busy)) && !errors.Is(err, syscall.ENOSPC)
}

// send sends a request once. The caller closes the answer's body, whose reads
// fail as Unavailable when no byte comes for a while or the connection breaks.
func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	watched, watch := newWatch(ctx, c.idle)
	req, err := c.build(watched, r, watch)
	if err != nil {
		watch.end()
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		idle := watch.end()
		return nil, c.unreachable(ctx, r.op, err, idle)
	}
	resp.Body = &watchedBody{body: resp.Body, watch: watch, ctx: ctx, op: r.op}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	data, err := readLimited(resp.Body, maxProblem, r.op)
	if err != nil && fault.Is(err, fault.Canceled) {
		return nil, err
	}
	problem := wire.ParseProblem(resp.StatusCode, data)
	if problem.Retry == 0 {
		problem.Retry, _ = strconv.Atoi(resp.Header.Get("Retry-After"))
		problem.Retry = max(problem.Retry, 0)
	}
	return nil, problem.Fault(r.op)
}

func (c *Client) build(ctx context.Context, r request, watch *watch) (*http.Request, error) {
	target := c.base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	var body io.Reader
	size := r.size
	switch {
	case r.body != nil:
		body = &watchedBody{body: r.body, watch: watch, op: r.op, upload: true}
	case r.in != nil:
		data, err := json.Marshal(r.in)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, r.op, "this cannot be sent", err)
		}
		body, size = bytes.NewReader(data), int64(len(data))
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, r.op, "this cannot be sent", err)
	}
	req.ContentLength = size
	for name, values := range r.header {
		req.Header[name] = values
	}
	if r.in != nil {
		req.Header.Set("Content-Type", "application/json")
	} else if r.body != nil {
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	req.Header.Set("User-Agent", c.agent)
	if !c.token.IsZero() {
		req.Header.Set("Authorization", "Bearer "+c.token.Expose())
	}
	return req, nil
}

// unreachable classifies an error of the transport.
func (c *Client) unreachable(ctx context.Context, op string, err error, idle bool) error {
	var e *fault.Error
	switch {
	case idle:
		return stalled(op)
	case ctx.Err() != nil:
		return contextFault(ctx, op, err)
	case errors.As(err, &e): // from CheckRedirect or from the body that was sent
		return e
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // the URL is in the message already
	}
	return fault.Wrap(fault.Unavailable, op, fmt.Sprintf("cannot reach %s: %v", c.base, err), err).
		WithHint("check the address and that the server runs (`dsvault serve`)")
}

func contextFault(ctx context.Context, op string, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fault.Wrap(fault.Canceled, op, "interrupted", err)
	}
	return fault.Wrap(fault.Unavailable, op, "it took too long", err)
}

func stalled(op string) error {
	return fault.New(fault.Unavailable, op, "the connection stalled").WithHint("try again")
}

func readLimited(r io.Reader, most int64, op string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > most {
		return nil, fault.New(fault.TooLarge, op, "the server's answer is too large").
			WithHint("check that the URL is that of a dsvault server, and that client and server have the same version")
	}
	return data, nil
}

// pages walks through all pages of a listing. An error ends it.
func pages[T any](ctx context.Context, c *Client, op, path string, query url.Values) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		q := url.Values{"limit": {strconv.Itoa(wire.MaxPage)}}
		for k, v := range query {
			q[k] = v
		}
		for {
			var page wire.Page[T]
			if err := c.call(ctx, request{op: op, method: http.MethodGet, path: path, query: q}, &page); err != nil {
				yield(zero, err)
				return
			}
			for _, item := range page.Items {
				if !yield(item, nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			if page.Next == q.Get("after") {
				yield(zero, fault.New(fault.Internal, op, "the server's listing goes round in a circle"))
				return
			}
			q.Set("after", page.Next)
		}
	}
}

// collect gathers a listing that is short by nature.
func collect[T any](items iter.Seq2[T, error]) ([]T, error) {
	all := []T{}
	for item, err := range items {
		if err != nil {
			return nil, err
		}
		all = append(all, item)
	}
	return all, nil
}
