package api

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// maxPrincipals is how many principals' rates are kept before those that have
// been idle are forgotten.
const maxPrincipals = 4096

// rates bounds how many requests a second each principal makes. The zero value
// with limit and burst set is ready.
type rates struct {
	limit rate.Limit
	burst int

	mu     sync.Mutex
	by     map[dataset.PrincipalID]*rate.Limiter // guarded by mu
	pruned time.Time                             // guarded by mu
}

// take counts one request, or says how long to wait with it.
func (r *rates) take(who dataset.PrincipalID, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.by[who]
	if l == nil {
		r.pruneLocked(now)
		if r.by == nil {
			r.by = make(map[dataset.PrincipalID]*rate.Limiter)
		}
		l = rate.NewLimiter(r.limit, r.burst)
		r.by[who] = l
	}
	if l.AllowN(now, 1) {
		return nil
	}
	wait := time.Duration((1 - l.TokensAt(now)) / float64(r.limit) * float64(time.Second))
	return fault.New(fault.Busy, "api.rates", "you make too many requests a second").
		WithHint("wait a little; `dsvault` does so by itself").WithRetry(wait)
}

// pruneLocked forgets whoever has all of their burst again: they are not held
// back by it.
func (r *rates) pruneLocked(now time.Time) {
	if len(r.by) < maxPrincipals || now.Sub(r.pruned) < pruneEvery {
		return
	}
	r.pruned = now
	for who, l := range r.by {
		if l.TokensAt(now) >= float64(r.burst) {
			delete(r.by, who)
		}
	}
}

// admit bounds what one principal asks for: requests a second, and at a time.
// Streams are bounded besides, where they begin. end is called when the request
// is over.
func (s *server) admit(who dataset.PrincipalID) (end func(), err error) {
	if err := s.rates.take(who, s.opts.Now()); err != nil {
		return nil, err
	}
	return s.calls.take(who)
}
