package client

import (
	"context"
	"iter"
	"net/http"

	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

// CreateLink makes a link to an item.
func (c *Client) CreateLink(ctx context.Context, req wire.NewLink) (out wire.Link, err error) {
	err = c.post(ctx, "client.CreateLink", "/v1/links", req, &out)
	return out, err
}

// Links walks through one's own links that hold.
func (c *Client) Links(ctx context.Context) iter.Seq2[wire.Link, error] {
	return pages[wire.Link](ctx, c, "client.Links", "/v1/links", nil)
}

// EndLink ends one of one's own links.
func (c *Client) EndLink(ctx context.Context, id dataset.LinkID) (out wire.Revoked, err error) {
	err = c.call(ctx, request{op: "client.EndLink", method: http.MethodDelete, path: "/v1/links/" + id.String()}, &out)
	return out, err
}

// LinkURL is the address of a link that was just made. It is a secret.
func (c *Client) LinkURL(l wire.Link) string { return c.base + wire.LinkPath + l.Secret }
