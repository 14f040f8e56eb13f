package client

import (
	"context"
	"net/http"

	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

// UpdateProject changes a project's terms; what is nil in req stays.
func (c *Client) UpdateProject(ctx context.Context, scope dataset.Scope, req wire.ProjectUpdate) (out wire.Entry, err error) {
	err = c.call(ctx, request{op: "client.UpdateProject", method: http.MethodPatch, path: "/v1/projects/" + scope.String(), in: req}, &out)
	return out, err
}
