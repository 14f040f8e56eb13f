package api

import (
	"net/http"

	"dsvault/vault"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// workRoutes are what annotators and reviewers do with shards, and what comes of
// it.
func (s *server) workRoutes(data string) []route {
	const get, post, put, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
	v := s.vault
	return []route{
		{method: get, path: "/v1/work", do: s.work, query: []string{"under", "after", "limit"}},
		{method: post, path: data + "/claims", do: inDatasetTake(v.Claim), body: jsonBody},
		{method: put, path: data + "/claims/:n", do: s.renewClaim, body: jsonBody},
		{method: del, path: data + "/claims/:n", do: s.releaseClaim},
		{method: post, path: data + "/shards/:n/work", do: s.startWork, body: jsonBody},
		{method: put, path: data + "/work/:attempt", do: s.storeWork, body: streamBody},
		{method: post, path: data + "/work/:attempt/commit", do: s.commitWork, body: jsonBody},
		{method: get, path: data + "/results", do: s.results, query: []string{"shard", "state", "latest", "after", "limit"}},
		{method: get, path: data + "/results/:work/sealed", do: s.result},
		{method: post, path: data + "/results/:work/review", do: s.judgeWork, body: jsonBody},
	}
}

func (p *params) workID() dataset.WorkID {
	id, err := dataset.ParseID[dataset.WorkID](p.Param("work"))
	return parsed(p, id, err)
}

func (s *server) work(c *call) (any, error) {
	p := params{call: c}
	under, after, limit := p.scope("under"), p.text("after"), p.limit()
	if p.err != nil {
		return nil, p.err
	}
	if under.IsZero() {
		under = dataset.Root
	}
	return s.vault.Work(c.ctx(), c.caller, under, after, limit)
}

func (s *server) renewClaim(c *call) (any, error) {
	p := params{call: c}
	ref, in := p.shard(), body[wire.Lease](&p)
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.RenewClaim(c.ctx(), c.caller, ref, in.Seconds)
}

func (s *server) releaseClaim(c *call) (any, error) {
	p := params{call: c}
	ref := p.shard()
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.ReleaseClaim(c.ctx(), c.caller, ref)
}

func (s *server) startWork(c *call) (any, error) {
	p := params{call: c}
	ref, in := p.shard(), body[wire.NewWork](&p)
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.StartWork(c.ctx(), c.caller, ref, in)
}

func (s *server) storeWork(c *call) (any, error) {
	return s.store(c, s.vault.StoreWork, seal.SealedSize(wire.MaxWork))
}

func (s *server) commitWork(c *call) (any, error) {
	p := params{call: c}
	scope, attempt, in := p.dataset(), p.attempt(), body[wire.Commit](&p)
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.CommitWork(c.ctx(), c.caller, scope, attempt, in)
}

func (s *server) results(c *call) (any, error) {
	p := params{call: c}
	scope := p.dataset()
	q := vault.ResultQuery{Shard: int(p.integer("shard", -1, dataset.MaxShards-1)), State: p.text("state"), After: p.text("after"), Limit: p.limit()}
	switch c.query.Get("latest") {
	case "":
	case "1":
		q.Latest = true
	default:
		return nil, fault.New(fault.Invalid, "api.results", "latest is 1 or absent")
	}
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Results(c.ctx(), c.caller, scope, q)
}

// result sends returned work, sealed to the caller's device key. By the time that
// the answer begins the read is in the log.
func (s *server) result(c *call) (any, error) {
	p := params{call: c}
	scope, id, device, purpose := p.dataset(), p.workID(), p.device(), p.purpose()
	if p.err != nil {
		return nil, p.err
	}
	return s.sendStream(c, func() (*vault.ShardStream, string, error) {
		stream, err := s.vault.ReadResult(c.ctx(), c.caller, scope, id, device, purpose)
		return stream, id.String() + ".age", err
	})
}

func (s *server) judgeWork(c *call) (any, error) {
	p := params{call: c}
	scope, id, in := p.dataset(), p.workID(), body[wire.Judgement](&p)
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.JudgeWork(c.ctx(), c.caller, scope, id, in)
}
