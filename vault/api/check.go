package api

import (
	"math"
	"net/http"

	"dsvault/vault/dataset"
)

// checkRoutes compare the catalog with storage.
func (s *server) checkRoutes() []route {
	return []route{
		{method: http.MethodPost, path: "/v1/checks", do: take(s.vault.StartCheck), body: jsonBody},
		{method: http.MethodGet, path: "/v1/checks", do: s.listChecks, query: []string{"scope", "after", "limit"}},
		{method: http.MethodGet, path: "/v1/checks/:id", do: s.check},
		{method: http.MethodDelete, path: "/v1/checks/:id", do: s.cancelCheck},
		{method: http.MethodGet, path: "/v1/checks/:id/findings", do: s.findings, query: []string{"after", "limit"}},
	}
}

func (p *params) checkID() dataset.CheckID {
	id, err := dataset.ParseID[dataset.CheckID](p.Param("id"))
	return parsed(p, id, err)
}

func (s *server) listChecks(c *call) (any, error) {
	p := params{call: c}
	scope, after, limit := p.scope("scope"), p.text("after"), p.limit()
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Checks(c.ctx(), c.caller, scope, after, limit)
}

func (s *server) check(c *call) (any, error) {
	p := params{call: c}
	id := p.checkID()
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Check(c.ctx(), c.caller, id)
}

func (s *server) cancelCheck(c *call) (any, error) {
	p := params{call: c}
	id := p.checkID()
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.CancelCheck(c.ctx(), c.caller, id)
}

func (s *server) findings(c *call) (any, error) {
	p := params{call: c}
	id, after, limit := p.checkID(), p.integer("after", -1, math.MaxInt32), p.limit()
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Findings(c.ctx(), c.caller, id, int(after), limit)
}
