package client

import (
	"context"
	"net/http"

	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

// Anonymize forgets who a person is, for good.
func (c *Client) Anonymize(ctx context.Context, handle string) (out wire.Anonymized, err error) {
	if handle, err = dataset.ParseName(handle); err != nil {
		return out, err
	}
	err = c.call(ctx, request{op: "client.Anonymize", method: http.MethodPost, path: "/v1/people/" + handle + "/anonymize"}, &out)
	return out, err
}
