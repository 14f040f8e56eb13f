package api

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// authTimeout is how long the catalog may take to say whose token it is. All that
// wait for it together are bounded by the connections only.
const authTimeout = 10 * time.Second

// authenticate finds out who calls. The credential is a bearer token in the
// one Authorization header, and nowhere else.
func (s *server) authenticate(c *call, allowInvite bool) error {
	token, err := bearer(c.Request().Header)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.ctx(), authTimeout)
	defer cancel()
	c.caller, err = s.vault.Authenticate(ctx, token, allowInvite, c.actor)
	if fault.Is(err, fault.Unauthenticated) {
		if busy := s.failed(c); busy != nil {
			return busy
		}
	}
	return err
}

// failed counts a credential that does not hold, and says whether its address
// is to wait. A good one is never held up: others may come from its address.
func (s *server) failed(c *call) error {
	from, now := s.address(c.Request()), s.opts.Now()
	if busy := s.failures.check(from, now); busy != nil {
		return busy
	}
	s.failures.add(from, now)
	return nil
}

const maxToken = 256 // bytes; ours are shorter

func bearer(h http.Header) (string, error) {
	const op = "api.bearer"
	values := h.Values("Authorization")
	if len(values) == 0 {
		return "", fault.New(fault.Unauthenticated, op, "no token").WithHint("send Authorization: Bearer TOKEN, or run `dsvault login URL`")
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if len(values) > 1 || !ok || !strings.EqualFold(scheme, "Bearer") || token == "" || len(token) > maxToken {
		return "", fault.New(fault.Unauthenticated, op, "the Authorization header is not a bearer token").
			WithHint("send Authorization: Bearer TOKEN, once")
	}
	return token, nil
}

const (
	maxAddresses = 4096        // that are watched one by one
	pruneEvery   = time.Second // at the most
)

// failures bounds how often an address may present tokens that do not hold. An
// address that is beyond it is told to wait.
// The zero value with burst and refill set is ready.
type failures struct{ buckets[netip.Prefix] }

func (f *failures) check(from netip.Addr, now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.limiterLocked(network(from), now, false)
	if l == nil {
		return nil
	}
	missing := 1 - l.TokensAt(now)
	if missing <= 0 {
		return nil
	}
	return fault.New(fault.Busy, "api.authenticate", "too many tokens from your address did not hold").
		WithHint("wait a little; check the token").WithRetry(time.Duration(missing / float64(f.refill) * float64(time.Second)))
}

func (f *failures) add(from netip.Addr, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limiterLocked(network(from), now, true).AllowN(now, 1)
}

// buckets are limiters, one for each of many; beyond maxAddresses the others
// share one. The zero value with burst and refill set is ready.
type buckets[K comparable] struct {
	burst  int
	refill rate.Limit

	mu     sync.Mutex
	by     map[K]*rate.Limiter // guarded by mu
	others *rate.Limiter       // guarded by mu; shared once the table is full
	pruned time.Time           // guarded by mu
}

// limiterLocked finds the limiter of one, and makes it if add is set; otherwise
// it is nil for one that was not counted yet.
func (f *buckets[K]) limiterLocked(of K, now time.Time, add bool) *rate.Limiter {
	if l, ok := f.by[of]; ok {
		return l
	}
	if len(f.by) >= maxAddresses && now.Sub(f.pruned) >= pruneEvery {
		f.pruned = now
		for k, l := range f.by {
			if l.TokensAt(now) >= float64(f.burst) {
				delete(f.by, k)
			}
		}
	}
	full := len(f.by) >= maxAddresses
	switch {
	case full && f.others == nil:
		f.others = rate.NewLimiter(f.refill, f.burst)
		return f.others
	case full:
		return f.others
	case !add:
		return nil
	}
	if f.by == nil {
		f.by = make(map[K]*rate.Limiter)
	}
	f.by[of] = rate.NewLimiter(f.refill, f.burst)
	return f.by[of]
}

// slots bounds how many streams, or requests, run at once. The zero value with
// its first fields set is ready.
type slots struct {
	what      string // that is bounded, for messages
	all, each int
	retry     time.Duration // after which to try again
	used      func(n int)   // hears how many there are; nil: nobody does

	mu  sync.Mutex
	now int                         // guarded by mu
	by  map[dataset.PrincipalID]int // guarded by mu
}

// take reserves one; release gives it back.
func (s *slots) take(who dataset.PrincipalID) (release func(), err error) {
	const op = "api.slots"
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.by[who] >= s.each:
		return nil, fault.New(fault.Busy, op, "you have too many "+s.what+" running").
			WithHint("wait for one to end").WithRetry(s.retry)
	case s.now >= s.all:
		return nil, fault.New(fault.Busy, op, "too many "+s.what+" are running").WithHint("try again soon").WithRetry(s.retry)
	}
	if s.by == nil {
		s.by = make(map[dataset.PrincipalID]int)
	}
	s.countLocked(1)
	s.by[who]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.countLocked(-1)
		if s.by[who]--; s.by[who] == 0 {
			delete(s.by, who)
		}
	}, nil
}

func (s *slots) countLocked(more int) {
	s.now += more
	if s.used != nil {
		s.used(s.now)
	}
}

// readiness keeps the last answer for a moment, so that strangers cannot make
// us ask the object store at their pace.
type readiness struct {
	mu    sync.Mutex
	at    time.Time // guarded by mu
	state ready     // guarded by mu
	err   error     // guarded by mu
}

func (r *readiness) check(ctx context.Context, now time.Time, ask func(context.Context) (objects, err error)) (ready, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.at.IsZero() && now.Sub(r.at) < readyFor {
		return r.state, r.err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyTimeout)
	defer cancel()
	r.at, r.state, r.err = now, ready{"ready", "ok"}, nil
	objects, err := ask(ctx)
	if objects != nil {
		r.state.Objects = "unavailable"
	}
	if err != nil {
		r.err = fault.Wrap(fault.Unavailable, "api.readyz", "not ready", err).WithRetry(time.Second)
	}
	return r.state, r.err
}
