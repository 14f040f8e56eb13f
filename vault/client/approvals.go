package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"

	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

// Approvals walks through the requests for a second person's approval at and
// below a scope, the newest first; an empty state means all.
func (c *Client) Approvals(ctx context.Context, scope dataset.Scope, state string) iter.Seq2[wire.Approval, error] {
	q := url.Values{"scope": {scope.String()}}
	if state != "" {
		q.Set("state", state)
	}
	return pages[wire.Approval](ctx, c, "client.Approvals", "/v1/approvals", q)
}

// Approval gives one request.
func (c *Client) Approval(ctx context.Context, id dataset.ApprovalID) (out wire.Approval, err error) {
	err = c.get(ctx, "client.Approval", "/v1/approvals/"+id.String(), nil, &out)
	return out, err
}

// Approve is the second person's word on what was asked for.
func (c *Client) Approve(ctx context.Context, id dataset.ApprovalID) (out wire.Approval, err error) {
	err = c.call(ctx, request{op: "client.Approve", method: http.MethodPost, path: "/v1/approvals/" + id.String() + "/approve"}, &out)
	return out, err
}

// Refuse is the second person's no, or takes back what the caller asked for.
func (c *Client) Refuse(ctx context.Context, id dataset.ApprovalID, reason string) (out wire.Approval, err error) {
	err = c.post(ctx, "client.Refuse", "/v1/approvals/"+id.String()+"/refuse", wire.Refusal{Reason: reason}, &out)
	return out, err
}
