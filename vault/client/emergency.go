package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"

	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

// BreakGlass lets the caller, an admin, read in an emergency.
func (c *Client) BreakGlass(ctx context.Context, req wire.NewBreakGlass) (out wire.BreakGlass, err error) {
	err = c.post(ctx, "client.BreakGlass", "/v1/break-glass", req, &out)
	return out, err
}

// BreakGlasses walks through emergencies at and below a scope, the newest
// first; open ones are those that nobody has reviewed.
func (c *Client) BreakGlasses(ctx context.Context, scope dataset.Scope, open bool) iter.Seq2[wire.BreakGlass, error] {
	q := url.Values{"scope": {scope.String()}}
	if open {
		q.Set("open", "true")
	}
	return pages[wire.BreakGlass](ctx, c, "client.BreakGlasses", "/v1/break-glass", q)
}

// OneBreakGlass gives one, with how much was read.
func (c *Client) OneBreakGlass(ctx context.Context, id dataset.BreakGlassID) (out wire.BreakGlass, err error) {
	err = c.get(ctx, "client.OneBreakGlass", "/v1/break-glass/"+id.String(), nil, &out)
	return out, err
}

// EndBreakGlass ends one before its time.
func (c *Client) EndBreakGlass(ctx context.Context, id dataset.BreakGlassID) (out wire.BreakGlass, err error) {
	err = c.call(ctx, request{op: "client.EndBreakGlass", method: http.MethodDelete, path: "/v1/break-glass/" + id.String()}, &out)
	return out, err
}

// ReviewBreakGlass says what the caller, another admin, thinks of one.
func (c *Client) ReviewBreakGlass(ctx context.Context, id dataset.BreakGlassID, req wire.BreakGlassReview) (out wire.BreakGlass, err error) {
	err = c.post(ctx, "client.ReviewBreakGlass", "/v1/break-glass/"+id.String()+"/review", req, &out)
	return out, err
}

// Disclose asks that the caller may read because a law requires it.
func (c *Client) Disclose(ctx context.Context, req wire.NewDisclosure) (out wire.Disclosure, err error) {
	err = c.post(ctx, "client.Disclose", "/v1/disclosures", req, &out)
	return out, err
}
