package api

import (
	"net/http"

	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

// noticeRoutes choose what a client hears of, and show what was sent.
func (s *server) noticeRoutes() []route {
	const path = "/v1/notices/:client"
	return []route{
		{method: http.MethodGet, path: path, do: named("client", s.vault.Notices)},
		{method: http.MethodPatch, path: path, do: s.setNotices, body: jsonBody},
		{method: http.MethodPost, path: path + "/test", do: named("client", s.vault.TestNotices)},
		{method: http.MethodGet, path: path + "/messages", do: s.messages, query: []string{"after", "limit"}},
	}
}

func (s *server) setNotices(c *call) (any, error) {
	p := params{call: c}
	client, in := p.name("client"), body[wire.NoticesUpdate](&p)
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.SetNotices(c.ctx(), c.caller, client, in)
}

func (s *server) messages(c *call) (any, error) {
	p := params{call: c}
	client, after, limit := p.name("client"), optional(&p, "after", dataset.ParseID[dataset.MessageID]), p.limit()
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Messages(c.ctx(), c.caller, client, after, limit)
}
