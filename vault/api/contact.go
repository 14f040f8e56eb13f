package api

import (
	"net/http"
	"net/netip"
	"strings"
	"time"

	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// How many reset mails may be asked for: at once, and then one in so much time.
const (
	resetsFrom      = 10 // by one network
	resetsFromEvery = time.Minute
	resetsTo        = 3 // for one address, whether or not anybody has it
	resetsToEvery   = 10 * time.Minute
)

// contactRoutes show and change profiles, and ask for reset mails.
func (s *server) contactRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/v1/people/:handle", do: named("handle", s.vault.Person)},
		{method: http.MethodPatch, path: "/v1/people/:handle", do: s.updatePerson, body: jsonBody},
		{method: http.MethodPost, path: "/v1/resets", do: s.askReset, body: jsonBody, open: true},
	}
}

func (s *server) updatePerson(c *call) (any, error) {
	p := params{call: c}
	handle, in := p.name("handle"), body[wire.PersonUpdate](&p)
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.UpdatePerson(c.ctx(), c.caller, handle, in)
}

// askReset answers the same, and does the same before it answers, whether or not
// anybody has the address.
func (s *server) askReset(c *call) (any, error) {
	p := params{call: c}
	in := body[wire.NewReset](&p)
	if len(in.Email) > wire.MaxProfile && p.err == nil {
		p.err = fault.New(fault.TooLarge, "api.askReset", "the address is too long")
	}
	if p.err != nil {
		return nil, p.err
	}
	now := s.opts.Now()
	if err := s.resetsFrom.take(network(s.address(c.Request())), now); err != nil {
		return nil, err
	}
	if err := s.resetsTo.take(strings.ToLower(in.Email), now); err != nil {
		return nil, err
	}
	return s.vault.AskReset(c.actor, in.Email)
}

// network is what counts as one place to come from: whoever has an IPv6 address
// has a /64 of them.
func network(from netip.Addr) netip.Prefix {
	prefix, _ := from.Prefix(min(from.BitLen(), 64))
	return prefix
}

// takes bounds how often something is done for each of many. The zero value with
// its first fields set is ready.
type takes[K comparable] struct {
	buckets[K]
	what string // that is too often, for messages
}

// take counts one, or says how long to wait with it.
func (t *takes[K]) take(of K, now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.limiterLocked(of, now, true)
	if l.AllowN(now, 1) {
		return nil
	}
	wait := time.Duration((1 - l.TokensAt(now)) / float64(t.refill) * float64(time.Second))
	return fault.New(fault.Busy, "api.takes", t.what).WithHint("wait a little").WithRetry(wait)
}
