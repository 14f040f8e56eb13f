package api

import (
	"encoding/base64"
	"math"
	"mime"
	"net/http"

	"dsvault/vault"
	"dsvault/vault/wire"
)

// auditRoutes are for auditors.
func (s *server) auditRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/v1/log/listing", do: s.logListing,
			query: []string{"under", "format", "actor", "kind", "decision", "since", "until"}},
		{method: http.MethodGet, path: "/v1/audit/report", do: s.report, query: []string{"under", "from", "until", "idle"}},
	}
}

func (s *server) report(c *call) (any, error) {
	p := params{call: c}
	p.require("from", "until")
	q := vault.ReportQuery{
		Under: p.scope("under"), From: p.time("from"), Until: p.time("until"), IdleDays: int(p.integer("idle", 0, math.MaxInt32)),
	}
	if q.IdleDays == 0 {
		q.IdleDays = 30
	}
	if p.err != nil {
		return nil, p.err
	}
	release, err := s.slots.take(c.caller.Principal) // it reads much of the log
	if err != nil {
		return nil, err
	}
	defer release()
	return s.vault.Report(c.ctx(), c.caller, q)
}

// logListing sends a file with records of the log; the signed note comes behind
// it, as a trailer.
func (s *server) logListing(c *call) (any, error) {
	p := params{call: c}
	p.require("format")
	q, format := p.logQuery(), p.text("format")
	if p.err != nil {
		return nil, p.err
	}
	release, err := s.slots.take(c.caller.Principal)
	if err != nil {
		return nil, err
	}
	defer release()
	asked := c.query
	asked.Del("format")
	listing, err := s.vault.ListLog(c.ctx(), c.caller, q, format, asked.Encode())
	if err != nil {
		return nil, err
	}
	h := c.Response().Header()
	kind := "application/jsonl"
	if format == wire.FormatCSV {
		kind = mime.FormatMediaType("text/csv", map[string]string{"charset": "utf-8", "header": "present"})
	}
	h.Set("Content-Type", kind)
	h.Set("Content-Disposition", `attachment; filename="log.`+format+`"`)
	h.Set("Trailer", wire.HeaderListing)
	note, err := listing.Send(c.ctx(), c.Response())
	if err != nil {
		return nil, err
	}
	h.Set(wire.HeaderListing, base64.StdEncoding.EncodeToString(note))
	return nil, nil
}
