package client

import (
	"context"
	"iter"
	"net/http"

	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

// noticesPath is that of a client's notices.
func noticesPath(client string) (string, error) {
	name, err := dataset.ParseName(client)
	return "/v1/notices/" + name, err
}

// Notices says what a client hears of, and where.
func (c *Client) Notices(ctx context.Context, client string) (out wire.Notices, err error) {
	path, err := noticesPath(client)
	if err == nil {
		err = c.get(ctx, "client.Notices", path, nil, &out)
	}
	return out, err
}

// SetNotices changes what a client hears of; what is nil in req stays.
func (c *Client) SetNotices(ctx context.Context, client string, req wire.NoticesUpdate) (out wire.Notices, err error) {
	path, err := noticesPath(client)
	if err == nil {
		err = c.call(ctx, request{op: "client.SetNotices", method: http.MethodPatch, path: path, in: req}, &out)
	}
	return out, err
}

// TestNotices sends a message to wherever a client's notices go.
func (c *Client) TestNotices(ctx context.Context, client string) (out wire.NoticesTested, err error) {
	path, err := noticesPath(client)
	if err == nil {
		err = c.call(ctx, request{op: "client.TestNotices", method: http.MethodPost, path: path + "/test"}, &out)
	}
	return out, err
}

// Messages walks through what was or is to be sent to a client, the newest
// first.
func (c *Client) Messages(ctx context.Context, client string) iter.Seq2[wire.Message, error] {
	path, err := noticesPath(client)
	if err != nil {
		return func(yield func(wire.Message, error) bool) { yield(wire.Message{}, err) }
	}
	return pages[wire.Message](ctx, c, "client.Messages", path+"/messages", nil)
}
