package api

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"dsvault/rbac"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/wire"
)

// endpoint does one operation. What it returns is written as JSON; nil means
// that it has written the answer itself.
type endpoint func(c *call) (any, error)

// content is what a route takes as its body.
type content int

const (
	noBody content = iota
	jsonBody
	streamBody
)

type route struct {
	method, path string
	do           endpoint
	body         content
	query        []string // the parameters that it knows; any other is refused
	open         bool     // without a credential
	invite       bool     // an invitation will do
}

// routes is the API. Paths and shapes are described in package wire.
func (s *server) routes() []route {
	const (
		get, post, put, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
		data                = "/v1/datasets/:client/:project/:dataset"
	)
	v := s.vault
	page := func(more ...string) []string { return append(more, "after", "limit") }
	return slices.Concat(s.logRoutes(), s.auditRoutes(), s.checkRoutes(), s.openedRoutes(data), s.linkRoutes(), s.approvalRoutes(), s.emergencyRoutes(), s.contactRoutes(), s.noticeRoutes(), s.conditionRoutes(), s.rightsRoutes(data), s.keepingRoutes(), s.workRoutes(data), s.reviewRoutes(), []route{
		{method: get, path: "/healthz", do: s.healthz, open: true},
		{method: get, path: "/readyz", do: s.readyz, open: true},

		{method: post, path: "/v1/login", do: take(v.Login), body: jsonBody, invite: true},
		{method: get, path: "/v1/whoami", do: ask(v.Whoami)},

		{method: post, path: "/v1/clients", do: take(v.CreateClient), body: jsonBody},
		{method: post, path: "/v1/projects", do: take(v.CreateProject), body: jsonBody},
		{method: http.MethodPatch, path: "/v1/projects/:client/:project", do: s.updateProject, body: jsonBody},
		{method: get, path: "/v1/scopes", do: s.list, query: page("under")},

		{method: post, path: "/v1/people", do: take(v.Invite), body: jsonBody},
		{method: get, path: "/v1/people", do: s.people, query: page()},
		{method: del, path: "/v1/people/:handle", do: named("handle", v.Disable)},
		{method: post, path: "/v1/people/:handle/anonymize", do: named("handle", v.Anonymize)},
		{method: post, path: "/v1/people/:handle/token", do: named("handle", v.RotateToken)},

		{method: post, path: "/v1/agreements", do: take(v.Publish), body: jsonBody},
		{method: get, path: "/v1/agreements", do: ask(v.Agreements), query: page()}, // one page holds them all
		{method: get, path: "/v1/agreements/:name", do: named("name", v.Agreement)},
		{method: post, path: "/v1/agreements/:name/signatures", do: s.sign, body: jsonBody},
		{method: del, path: "/v1/agreements/:name/signatures", do: s.withdrawSignature, query: []string{"person"}},

		{method: post, path: "/v1/grants", do: take(v.Grant), body: jsonBody},
		{method: get, path: "/v1/grants", do: s.grants, query: page("scope")},
		{method: del, path: "/v1/grants", do: s.revoke, query: []string{"role", "person", "scope"}},

		{method: post, path: "/v1/assignments", do: take(v.Assign), body: jsonBody},
		{method: get, path: "/v1/assignments", do: s.assignments, query: page("scope", "person")},
		{method: del, path: "/v1/assignments", do: s.unassign, query: []string{"dataset", "person", "shards"}},

		{method: put, path: data, do: inDataset(v.CreateDataset)},
		{method: get, path: data, do: inDataset(v.Dataset)},
		{method: post, path: data + "/pushes", do: inDataset(v.BeginPush)},
		{method: post, path: data + "/complete", do: inDatasetTake(v.Complete), body: jsonBody},
		{method: get, path: data + "/versions", do: s.versions, query: page()},
		{method: get, path: data + "/versions/:version", do: s.version},
		{method: put, path: data + "/file", do: s.putFile, body: streamBody},
		{method: get, path: data + "/shards", do: s.shards, query: page()},
		{method: get, path: data + "/shards/:n/sealed", do: s.sealed, query: []string{"offset", "size"}},
		{method: get, path: data + "/shards/:n/direct", do: s.direct},
		{method: get, path: data + "/shards/:n/index", do: s.index},
		{method: post, path: data + "/shards/:n/uploads", do: s.startUpload, body: jsonBody},
		{method: put, path: data + "/uploads/:attempt", do: s.storeUpload, body: streamBody},
		{method: post, path: data + "/uploads/:attempt/direct", do: inAttempt(v.StartDirect)},
		{method: post, path: data + "/uploads/:attempt/parts", do: s.presignParts, body: jsonBody},
		{method: post, path: data + "/uploads/:attempt/joined", do: inAttempt(v.JoinParts)},
		{method: put, path: data + "/uploads/:attempt/index", do: s.storeIndex, body: streamBody},
		{method: post, path: data + "/uploads/:attempt/commit", do: s.commitUpload, body: jsonBody},

		{method: get, path: "/v1/can", do: s.can, query: []string{"person", "action", "object", "purpose", "delivery", "from"}},
		{method: get, path: "/v1/log", do: s.log, query: page("under", "actor", "kind", "decision", "since", "until", "follow")},
		{method: get, path: wire.PathBundle, do: s.logBundle, query: []string{"under", "known", "nonce"}},
		{method: get, path: wire.PathInclusion, do: s.inclusion, query: []string{"index", "leaf"}},
	})
}

// serve is what all routes have in common: credential, query and body are
// checked, in this order, before the operation.
func (r route) serve(s *server) echo.HandlerFunc {
	return func(ec echo.Context) error {
		c := ec.(*call)
		if !r.open {
			if err := s.authenticate(c, r.invite); err != nil {
				return err
			}
			end, err := s.admit(c.caller.Principal)
			if err != nil {
				return err
			}
			defer end()
		}
		if err := c.parseQuery(r.query); err != nil {
			return err
		}
		if r.body == noBody && c.Request().ContentLength != 0 {
			return fault.New(fault.Invalid, "api.body", "this request takes no body")
		}
		out, err := r.do(c)
		if err != nil || out == nil {
			return err
		}
		return c.answer(http.StatusOK, "application/json", out)
	}
}

// take is for operations whose whole input is a JSON body.
func take[In, Out any](do func(context.Context, identity.Caller, In) (Out, error)) endpoint {
	return func(c *call) (any, error) {
		in, err := decode[In](c)
		if err != nil {
			return nil, err
		}
		return do(c.ctx(), c.caller, in)
	}
}

// ask is for operations without input.
func ask[Out any](do func(context.Context, identity.Caller) (Out, error)) endpoint {
	return func(c *call) (any, error) { return do(c.ctx(), c.caller) }
}

// named is for operations on what a path parameter names.
func named[Out any](param string, do func(context.Context, identity.Caller, string) (Out, error)) endpoint {
	return func(c *call) (any, error) {
		name, err := dataset.ParseName(c.Param(param))
		if err != nil {
			return nil, err
		}
		return do(c.ctx(), c.caller, name)
	}
}

// inDataset is for operations on the dataset in the path.
func inDataset[Out any](do func(context.Context, identity.Caller, dataset.Scope) (Out, error)) endpoint {
	return func(c *call) (any, error) {
		p := params{call: c}
		scope := p.dataset()
		if p.err != nil {
			return nil, p.err
		}
		return do(c.ctx(), c.caller, scope)
	}
}

// inDatasetTake is inDataset with a JSON body.
func inDatasetTake[In, Out any](do func(context.Context, identity.Caller, dataset.Scope, In) (Out, error)) endpoint {
	return func(c *call) (any, error) {
		p := params{call: c}
		scope, in := p.dataset(), body[In](&p)
		if p.err != nil {
			return nil, p.err
		}
		return do(c.ctx(), c.caller, scope, in)
	}
}

func (s *server) list(c *call) (any, error) {
	p := params{call: c}
	under, after, limit := p.scope("under"), p.text("after"), p.limit()
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.List(c.ctx(), c.caller, under, after, limit)
}

func (s *server) updateProject(c *call) (any, error) {
	p := params{call: c}
	scope, in := p.project(), body[wire.ProjectUpdate](&p)
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.UpdateProject(c.ctx(), c.caller, scope, in)
}

func (s *server) people(c *call) (any, error) {
	p := params{call: c}
	after, limit := p.text("after"), p.limit()
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.People(c.ctx(), c.caller, after, limit)
}

func (s *server) sign(c *call) (any, error) {
	p := params{call: c}
	name, in := p.name("name"), body[wire.Sign](&p)
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Sign(c.ctx(), c.caller, name, in)
}

func (s *server) withdrawSignature(c *call) (any, error) {
	p := params{call: c}
	p.require("person")
	name, person := p.name("name"), p.handle("person")
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.WithdrawSignature(c.ctx(), c.caller, name, person)
}

func (s *server) grants(c *call) (any, error) {
	p := params{call: c}
	scope, after, limit := p.scope("scope"), p.text("after"), p.limit()
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Grants(c.ctx(), c.caller, scope, after, limit)
}

func (s *server) revoke(c *call) (any, error) {
	p := params{call: c}
	p.require("role", "person", "scope")
	role, person, scope := p.role("role"), p.handle("person"), p.scope("scope")
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Revoke(c.ctx(), c.caller, role, person, scope)
}

func (s *server) assignments(c *call) (any, error) {
	p := params{call: c}
	scope, person, after, limit := p.scope("scope"), p.handle("person"), p.text("after"), p.limit()
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Assignments(c.ctx(), c.caller, scope, person, after, limit)
}

func (s *server) unassign(c *call) (any, error) {
	p := params{call: c}
	p.require("dataset", "person")
	scope, person, shards := p.scope("dataset"), p.handle("person"), p.shardSet("shards")
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Unassign(c.ctx(), c.caller, scope, person, shards)
}

func (s *server) shards(c *call) (any, error) {
	p := params{call: c}
	scope, after, limit := p.dataset(), p.integer("after", -1, dataset.MaxShards), p.limit()
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Shards(c.ctx(), c.caller, scope, int(after), limit)
}

func (s *server) startUpload(c *call) (any, error) {
	p := params{call: c}
	ref, in := p.shard(), body[wire.NewUpload](&p)
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.StartUpload(c.ctx(), c.caller, ref, in)
}

func (s *server) commitUpload(c *call) (any, error) {
	p := params{call: c}
	scope, attempt, in := p.dataset(), p.attempt(), body[wire.Commit](&p)
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.CommitUpload(c.ctx(), c.caller, scope, attempt, in)
}

func (s *server) can(c *call) (any, error) {
	p := params{call: c}
	p.require("action", "object")
	person, action, object, purpose, delivery := p.handle("person"), p.text("action"), p.text("object"), p.text("purpose"), p.text("delivery")
	from := p.address("from")
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.CanFrom(c.ctx(), c.caller, from, person, rbac.Action(action), object, purpose, dataset.Delivery(delivery))
}

// healthz says that the process is alive, and nothing else.
func (s *server) healthz(*call) (any, error) { return status{"ok"}, nil }

// readyz says whether requests may be sent here. Without the object store they
// may, since much goes on; the answer says so.
func (s *server) readyz(c *call) (any, error) {
	if s.stopping() {
		return nil, fault.New(fault.Unavailable, "api.readyz", "the node is stopping").WithHint("ask another node").WithRetry(time.Second)
	}
	return s.ready.check(c.ctx(), s.opts.Now(), s.vault.Ready)
}

type status struct {
	Status string `json:"status"`
}

// ready is the answer of a node that requests may be sent to.
type ready struct {
	Status  string `json:"status"`  // "ready"
	Objects string `json:"objects"` // "ok", or "unavailable": nothing is read or uploaded
}

// readyFor is how long an answer of readyz is kept: it needs no credential, and
// asks the object store.
const (
	readyFor     = time.Second
	readyTimeout = 5 * time.Second
)
