package api

import (
	"net/http"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// keepingRoutes are what keeps data, and what lets it go: holds, retention,
// erasures.
func (s *server) keepingRoutes() []route {
	v := s.vault
	return []route{
		{method: http.MethodPost, path: "/v1/holds", do: take(v.PlaceHold), body: jsonBody},
		{method: http.MethodGet, path: "/v1/holds", do: s.holds, query: []string{"scope", "ended", "after", "limit"}},
		{method: http.MethodDelete, path: "/v1/holds/:id", do: s.releaseHold, query: []string{"reason"}},

		{method: http.MethodPut, path: "/v1/retentions", do: take(v.SetRetention), body: jsonBody},
		{method: http.MethodGet, path: "/v1/retentions", do: s.retentions, query: []string{"scope", "after", "limit"}},

		{method: http.MethodPost, path: "/v1/erasures", do: take(v.Erase), body: jsonBody},
		{method: http.MethodGet, path: "/v1/erasures", do: s.erasures, query: []string{"scope", "after", "limit"}},
		{method: http.MethodGet, path: "/v1/erasures/:id", do: s.erasure},
		{method: http.MethodGet, path: "/v1/erasures/:id/certificate", do: s.certificate},
	}
}

func (s *server) holds(c *call) (any, error) {
	p := params{call: c}
	scope, ended, limit := p.scope("scope"), p.yes("ended"), p.limit()
	after := optional(&p, "after", dataset.ParseID[dataset.HoldID])
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Holds(c.ctx(), c.caller, scope, ended, after, limit)
}

// yes is a parameter that is true, false or absent, which is false.
func (p *params) yes(name string) bool {
	return optional(p, name, func(s string) (bool, error) {
		if s != "true" && s != "false" {
			return false, fault.New(fault.Invalid, "api.params", name+" is true or false").WithHint("write " + name + "=true, or leave it out")
		}
		return s == "true", nil
	})
}

func (s *server) releaseHold(c *call) (any, error) {
	p := params{call: c}
	id, err := dataset.ParseID[dataset.HoldID](c.Param("id"))
	id, reason := parsed(&p, id, err), p.text("reason")
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.ReleaseHold(c.ctx(), c.caller, id, reason)
}

func (s *server) retentions(c *call) (any, error) {
	p := params{call: c}
	scope, after, limit := p.scope("scope"), p.text("after"), p.limit()
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Retentions(c.ctx(), c.caller, scope, after, limit)
}

func (s *server) erasures(c *call) (any, error) {
	p := params{call: c}
	scope, limit := p.scope("scope"), p.limit()
	before := optional(&p, "after", dataset.ParseID[dataset.ErasureID])
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Erasures(c.ctx(), c.caller, scope, before, limit)
}

func (p *params) erasureID() dataset.ErasureID {
	id, err := dataset.ParseID[dataset.ErasureID](p.Param("id"))
	return parsed(p, id, err)
}

func (s *server) erasure(c *call) (any, error) {
	p := params{call: c}
	id := p.erasureID()
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Erasure(c.ctx(), c.caller, id)
}

func (s *server) certificate(c *call) (any, error) {
	p := params{call: c}
	id := p.erasureID()
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Certificate(c.ctx(), c.caller, id)
}
