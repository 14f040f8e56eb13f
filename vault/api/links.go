package api

import (
	"net/http"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// linkRoutes make, list, end and use links. The secret of one stands in the path: only the
// route is ever logged.
func (s *server) linkRoutes() []route {
	return []route{
		{method: http.MethodPost, path: "/v1/links", do: take(s.vault.CreateLink), body: jsonBody},
		{method: http.MethodGet, path: "/v1/links", do: s.listLinks, query: []string{"after", "limit"}},
		{method: http.MethodDelete, path: "/v1/links/:link", do: s.endLink},
		{method: http.MethodGet, path: wire.LinkPath + ":secret", do: s.openLinked, open: true},
		{method: http.MethodHead, path: wire.LinkPath + ":secret", do: s.openLinked, open: true},
	}
}

func (s *server) listLinks(c *call) (any, error) {
	p := params{call: c}
	after, limit := optional(&p, "after", dataset.ParseID[dataset.LinkID]), p.limit()
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Links(c.ctx(), c.caller, after, limit)
}

func (s *server) endLink(c *call) (any, error) {
	id, err := dataset.ParseID[dataset.LinkID](c.Param("link"))
	if err != nil {
		return nil, err
	}
	return s.vault.EndLink(c.ctx(), c.caller, id)
}

// openLinked sends what a link is of, to whoever has it.
func (s *server) openLinked(c *call) (any, error) {
	err := s.readLinked(c)
	if fault.Is(err, fault.NotFound) { // guessing is held up, as it is with tokens
		if busy := s.failed(c); busy != nil {
			return nil, busy
		}
	}
	return nil, err
}

func (s *server) readLinked(c *call) error {
	if err := s.private(c); err != nil {
		return err
	}
	linked, err := s.vault.Linked(c.ctx(), c.Param("secret"), c.actor)
	if err != nil {
		return err
	}
	c.caller = linked.Caller
	end, err := s.admit(c.caller.Principal)
	if err != nil {
		return err
	}
	defer end()
	release, err := s.slots.take(c.caller.Principal)
	if err != nil {
		return err
	}
	defer release()
	var a opened
	a.OpenedStream, err = s.vault.OpenLinked(c.ctx(), linked, a.choose(c.Request()))
	return s.sendOpened(c, &a, err)
}
