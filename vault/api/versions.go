package api

import (
	"strconv"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

func (s *server) versions(c *call) (any, error) {
	p := params{call: c}
	scope, after, limit := p.dataset(), p.integer("after", 0, dataset.MaxVersions), p.limit()
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Versions(c.ctx(), c.caller, scope, int(after), limit)
}

func (s *server) version(c *call) (any, error) {
	p := params{call: c}
	scope, n := p.dataset(), p.version()
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Version(c.ctx(), c.caller, scope, n)
}

// version is the one in the path; 0 is the newest.
func (p *params) version() int {
	text := p.Param("version")
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > dataset.MaxVersions || strconv.Itoa(n) != text {
		err = fault.New(fault.Invalid, "api.params", "not a version").WithHint("versions count from 1; 0 is the newest")
	}
	return parsed(p, n, err)
}
