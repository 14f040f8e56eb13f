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

// Conditions gives what a scope and those above it ask of readers.
func (c *Client) Conditions(ctx context.Context, scope dataset.Scope) (out wire.Conditions, err error) {
	err = c.get(ctx, "client.Conditions", "/v1/conditions", url.Values{"scope": {scope.String()}}, &out)
	return out, err
}

// UpdateConditions changes what a scope asks of readers.
func (c *Client) UpdateConditions(ctx context.Context, scope dataset.Scope, req wire.ConditionsUpdate) (out wire.Conditions, err error) {
	err = c.call(ctx, request{op: "client.UpdateConditions", method: http.MethodPatch, path: "/v1/conditions",
		query: url.Values{"scope": {scope.String()}}, in: req}, &out)
	return out, err
}

// Signatures walks through how people stand to the agreements: everybody, or one
// person; "me" is oneself.
func (c *Client) Signatures(ctx context.Context, person string) iter.Seq2[wire.SignatureStatus, error] {
	q := url.Values{}
	if person != "" {
		q.Set("person", person)
	}
	return pages[wire.SignatureStatus](ctx, c, "client.Signatures", "/v1/signatures", q)
}

// Transfers counts the reads below a scope by where the data is and where it went.
func (c *Client) Transfers(ctx context.Context, under dataset.Scope, from, until time.Time) (out wire.Transfers, err error) {
	q := url.Values{"under": {under.String()}, "from": {from.UTC().Format(time.RFC3339)}, "until": {until.UTC().Format(time.RFC3339)}}
	err = c.get(ctx, "client.Transfers", "/v1/transfers", q, &out)
	return out, err
}
