package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"time"

	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

// StartCheck begins a check of storage, or gives the one like it that is
// running. It goes on without the caller.
func (c *Client) StartCheck(ctx context.Context, req wire.NewCheck) (out wire.Check, err error) {
	err = c.post(ctx, "client.StartCheck", "/v1/checks", req, &out)
	return out, err
}

// Check tells how far a check is.
func (c *Client) Check(ctx context.Context, id dataset.CheckID) (out wire.Check, err error) {
	err = c.get(ctx, "client.Check", "/v1/checks/"+id.String(), nil, &out)
	return out, err
}

// CancelCheck ends a check where it is.
func (c *Client) CancelCheck(ctx context.Context, id dataset.CheckID) (out wire.Check, err error) {
	err = c.call(ctx, request{op: "client.CancelCheck", method: http.MethodDelete, path: "/v1/checks/" + id.String()}, &out)
	return out, err
}

// Checks walks through the checks at and below a scope, the newest first.
func (c *Client) Checks(ctx context.Context, scope dataset.Scope) iter.Seq2[wire.Check, error] {
	return pages[wire.Check](ctx, c, "client.Checks", "/v1/checks", url.Values{"scope": {scope.String()}})
}

// Findings walks through what a check has found so far.
func (c *Client) Findings(ctx context.Context, id dataset.CheckID) iter.Seq2[wire.Finding, error] {
	return pages[wire.Finding](ctx, c, "client.Findings", "/v1/checks/"+id.String()+"/findings", nil)
}

// FollowCheck asks how far a check is, every pause, until it has ended. An end
// of ctx leaves it running.
func (c *Client) FollowCheck(ctx context.Context, id dataset.CheckID, pause time.Duration, each func(wire.Check)) (wire.Check, error) {
	wait := time.NewTimer(0) // the first answer comes at once
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return wire.Check{}, contextFault(ctx, "client.FollowCheck", ctx.Err())
		case <-wait.C:
		}
		out, err := c.Check(ctx, id)
		if err != nil {
			return out, err
		}
		each(out)
		if out.State != "running" {
			return out, nil
		}
		wait.Reset(pause)
	}
}
