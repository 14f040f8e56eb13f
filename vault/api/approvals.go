package api

import (
	"net/http"
	"slices"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// approvalRoutes are about what takes two people.
func (s *server) approvalRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/v1/approvals", do: s.approvals, query: []string{"scope", "state", "after", "limit"}},
		{method: http.MethodGet, path: "/v1/approvals/:id", do: s.approval},
		{method: http.MethodPost, path: "/v1/approvals/:id/approve", do: s.approve},
		{method: http.MethodPost, path: "/v1/approvals/:id/refuse", do: s.refuse, body: jsonBody},
	}
}

func (p *params) approvalID() dataset.ApprovalID {
	id, err := dataset.ParseID[dataset.ApprovalID](p.Param("id"))
	return parsed(p, id, err)
}

func (s *server) approvals(c *call) (any, error) {
	p := params{call: c}
	scope, state, after, limit := p.scope("scope"), p.text("state"), p.text("after"), p.limit()
	if p.err == nil && state != "" && !slices.Contains(wire.ApprovalStates[:], state) {
		p.err = fault.New(fault.Invalid, "api.approvals", "there is no such state of an approval")
	}
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Approvals(c.ctx(), c.caller, scope, state, after, limit)
}

func (s *server) approval(c *call) (any, error) {
	p := params{call: c}
	id := p.approvalID()
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Approval(c.ctx(), c.caller, id)
}

func (s *server) approve(c *call) (any, error) {
	p := params{call: c}
	id := p.approvalID()
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Approve(c.ctx(), c.caller, id)
}

func (s *server) refuse(c *call) (any, error) {
	p := params{call: c}
	id, in := p.approvalID(), body[wire.Refusal](&p)
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Refuse(c.ctx(), c.caller, id, in)
}
