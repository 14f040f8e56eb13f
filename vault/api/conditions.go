package api

import (
	"net/http"
	"net/netip"

	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// conditionRoutes are about what scopes ask of readers, and who has signed.
func (s *server) conditionRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/v1/conditions", do: s.conditions, query: []string{"scope"}},
		{method: http.MethodPatch, path: "/v1/conditions", do: s.updateConditions, query: []string{"scope"}, body: jsonBody},
		{method: http.MethodGet, path: "/v1/signatures", do: s.signatures, query: []string{"person", "after", "limit"}},
		{method: http.MethodGet, path: "/v1/transfers", do: s.transfers, query: []string{"under", "from", "until"}},
	}
}

func (s *server) transfers(c *call) (any, error) {
	p := params{call: c}
	p.require("from", "until")
	under, from, until := p.scope("under"), p.time("from"), p.time("until")
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Transfers(c.ctx(), c.caller, under, from, until)
}

func (s *server) conditions(c *call) (any, error) {
	p := params{call: c}
	scope := p.scope("scope")
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Conditions(c.ctx(), c.caller, scope)
}

func (s *server) updateConditions(c *call) (any, error) {
	p := params{call: c}
	p.require("scope")
	scope, in := p.scope("scope"), body[wire.ConditionsUpdate](&p)
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.UpdateConditions(c.ctx(), c.caller, scope, in)
}

func (s *server) signatures(c *call) (any, error) {
	p := params{call: c}
	person, after, limit := p.handle("person"), p.text("after"), p.limit()
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Signatures(c.ctx(), c.caller, person, after, limit)
}

// address is the zero Addr if the parameter is absent.
func (p *params) address(name string) netip.Addr {
	return optional(p, name, func(s string) (netip.Addr, error) {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return a, fault.Wrap(fault.Invalid, "api.params", name+" is not an address", err).WithHint("write it as 192.0.2.7 or 2001:db8::7")
		}
		return a.Unmap().WithZone(""), nil
	})
}
