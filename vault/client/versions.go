package client

import (
	"context"
	"iter"
	"strconv"

	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

// BeginPush begins a push to a dataset, and ends any other one.
func (c *Client) BeginPush(ctx context.Context, scope dataset.Scope) (out wire.Push, err error) {
	err = c.post(ctx, "client.BeginPush", datasetPath(scope)+"/pushes", nil, &out)
	return out, err
}

// Complete makes the dataset's next version.
func (c *Client) Complete(ctx context.Context, scope dataset.Scope, req wire.Complete) (out wire.Dataset, err error) {
	err = c.post(ctx, "client.Complete", datasetPath(scope)+"/complete", req, &out)
	return out, err
}

// Versions walks through the versions of a dataset.
func (c *Client) Versions(ctx context.Context, scope dataset.Scope) iter.Seq2[wire.Version, error] {
	return pages[wire.Version](ctx, c, "client.Versions", datasetPath(scope)+"/versions", nil)
}

// Version gives one version of a dataset; 0 is the newest.
func (c *Client) Version(ctx context.Context, scope dataset.Scope, version int) (out wire.Version, err error) {
	err = c.get(ctx, "client.Version", datasetPath(scope)+"/versions/"+strconv.Itoa(version), nil, &out)
	return out, err
}
