package api

import (
	"net/http"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// emergencyRoutes are about reading in an emergency, and because a law requires
// it.
func (s *server) emergencyRoutes() []route {
	const glass = "/v1/break-glass"
	return []route{
		{method: http.MethodPost, path: glass, do: take(s.vault.BreakGlass), body: jsonBody},
		{method: http.MethodGet, path: glass, do: s.breakGlasses, query: []string{"scope", "open", "after", "limit"}},
		{method: http.MethodGet, path: glass + "/:id", do: s.breakGlass},
		{method: http.MethodDelete, path: glass + "/:id", do: s.endBreakGlass},
		{method: http.MethodPost, path: glass + "/:id/review", do: s.reviewBreakGlass, body: jsonBody},
		{method: http.MethodPost, path: "/v1/disclosures", do: take(s.vault.Disclose), body: jsonBody},
	}
}

func (p *params) breakGlassID() dataset.BreakGlassID {
	id, err := dataset.ParseID[dataset.BreakGlassID](p.Param("id"))
	return parsed(p, id, err)
}

func (s *server) breakGlasses(c *call) (any, error) {
	p := params{call: c}
	scope, open, after, limit := p.scope("scope"), p.text("open"), p.text("after"), p.limit()
	if p.err == nil && open != "" && open != "true" {
		p.err = fault.New(fault.Invalid, "api.breakGlasses", "open is true, or left out")
	}
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.BreakGlasses(c.ctx(), c.caller, scope, open != "", after, limit)
}

func (s *server) breakGlass(c *call) (any, error) {
	p := params{call: c}
	id := p.breakGlassID()
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.OneBreakGlass(c.ctx(), c.caller, id)
}

func (s *server) endBreakGlass(c *call) (any, error) {
	p := params{call: c}
	id := p.breakGlassID()
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.EndBreakGlass(c.ctx(), c.caller, id)
}

func (s *server) reviewBreakGlass(c *call) (any, error) {
	p := params{call: c}
	id, in := p.breakGlassID(), body[wire.BreakGlassReview](&p)
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.ReviewBreakGlass(c.ctx(), c.caller, id, in)
}
