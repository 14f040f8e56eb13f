package api

import (
	"context"

	"dsvault/vault/dataset"
	"dsvault/vault/identity"
	"dsvault/vault/wire"
)

// inAttempt is for operations on the attempt in the path.
func inAttempt[Out any](do func(context.Context, identity.Caller, dataset.Scope, dataset.AttemptID) (Out, error)) endpoint {
	return func(c *call) (any, error) {
		p := params{call: c}
		scope, attempt := p.dataset(), p.attempt()
		if p.err != nil {
			return nil, p.err
		}
		return do(c.ctx(), c.caller, scope, attempt)
	}
}

func (s *server) presignParts(c *call) (any, error) {
	p := params{call: c}
	scope, attempt, in := p.dataset(), p.attempt(), body[wire.Parts](&p)
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.PresignParts(c.ctx(), c.caller, scope, attempt, in)
}

// direct sends a shard's header and manifest, sealed to the caller's device key,
// and a presigned URL to the rest. By then the read is in the log.
func (s *server) direct(c *call) (any, error) {
	p := params{call: c}
	ref, device, purpose := p.shard(), p.device(), p.purpose()
	if p.err != nil {
		return nil, p.err
	}
	out, err := s.vault.ReadDirect(c.ctx(), c.caller, ref, device, purpose)
	if err != nil {
		return nil, err
	}
	admitted(c.Response().Header(), out.Index, out.Hash, out.Receipt)
	return out.DirectRead, nil
}
