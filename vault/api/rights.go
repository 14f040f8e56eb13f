package api

import (
	"context"
	"mime"
	"net/http"
	"strconv"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/wire"
)

// rightsRoutes are for people and what is held about them, and for the register
// of their requests.
func (s *server) rightsRoutes(data string) []route {
	const (
		get, post = http.MethodGet, http.MethodPost
		person    = "/v1/people/:handle"
	)
	v := s.vault
	return []route{
		{method: get, path: person + "/rights", do: named("handle", v.Subject)},
		{method: post, path: person + "/export", do: s.exportSubject, body: jsonBody},
		{method: post, path: person + "/correct", do: namedTake("handle", v.CorrectSubject), body: jsonBody},
		{method: post, path: person + "/restrict", do: namedTake("handle", v.RestrictSubject), body: jsonBody},
		{method: post, path: person + "/lift", do: namedTake("handle", v.LiftRestriction), body: jsonBody},
		{method: post, path: person + "/object", do: namedTake("handle", v.ObjectTo), body: jsonBody},
		{method: post, path: person + "/consent", do: namedTake("handle", v.Consent), body: jsonBody},
		{method: post, path: person + "/delete", do: named("handle", v.DeleteSubject)},

		{method: post, path: data + "/export", do: inDataset(v.ExportDataset)},

		{method: post, path: "/v1/requests", do: take(v.OpenRequest), body: jsonBody},
		{method: get, path: "/v1/requests", do: s.requests, query: []string{"person", "open", "after", "limit"}},
		{method: get, path: "/v1/requests/:request", do: s.request},
		{method: post, path: "/v1/requests/:request/extend", do: ofRequest(v.ExtendRequest), body: jsonBody},
		{method: post, path: "/v1/requests/:request/close", do: ofRequest(v.CloseRequest), body: jsonBody},
	}
}

// namedTake is named with a JSON body.
func namedTake[In, Out any](param string, do func(context.Context, identity.Caller, string, In) (Out, error)) endpoint {
	return func(c *call) (any, error) {
		p := params{call: c}
		name, in := p.name(param), body[In](&p)
		if p.err != nil {
			return nil, p.err
		}
		return do(c.ctx(), c.caller, name, in)
	}
}

// ofRequest is for operations on the request in the path, with a JSON body.
func ofRequest[In, Out any](do func(context.Context, identity.Caller, dataset.RightsID, In) (Out, error)) endpoint {
	return func(c *call) (any, error) {
		p := params{call: c}
		id, err := dataset.ParseID[dataset.RightsID](c.Param("request"))
		id = parsed(&p, id, err)
		in := body[In](&p)
		if p.err != nil {
			return nil, p.err
		}
		return do(c.ctx(), c.caller, id, in)
	}
}

func (s *server) requests(c *call) (any, error) {
	p := params{call: c}
	person, after, limit := p.handle("person"), optional(&p, "after", dataset.ParseID[dataset.RightsID]), p.limit()
	open := optional(&p, "open", func(text string) (bool, error) {
		value, err := strconv.ParseBool(text)
		if err != nil {
			err = fault.Wrap(fault.Invalid, "api.requests", "open is true or false", err)
		}
		return value, err
	})
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Requests(c.ctx(), c.caller, person, open, after, limit)
}

func (s *server) request(c *call) (any, error) {
	id, err := dataset.ParseID[dataset.RightsID](c.Param("request"))
	if err != nil {
		return nil, err
	}
	return s.vault.Request(c.ctx(), c.caller, id)
}

// exportSubject sends all that is held about somebody. By the time that the
// answer begins it is in the log.
func (s *server) exportSubject(c *call) (any, error) {
	p := params{call: c}
	handle, in := p.name("handle"), body[wire.NewSubjectExport](&p)
	if p.err != nil {
		return nil, p.err
	}
	if !in.Request.IsZero() {
		if err := s.private(c); err != nil {
			return nil, err
		}
	}
	release, err := s.slots.take(c.caller.Principal) // it reads much of the log
	if err != nil {
		return nil, err
	}
	defer release()
	export, err := s.vault.ExportSubject(c.ctx(), c.caller, handle, in)
	if err != nil {
		return nil, err
	}
	h := c.Response().Header()
	h.Set("Content-Type", octets)
	if !export.Sealed {
		h.Set("Content-Type", "application/zip")
	}
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": export.Name}))
	return nil, export.Send(c.ctx(), c.Response())
}
