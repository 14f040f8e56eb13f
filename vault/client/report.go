package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

// AuditReport sums up the log at and below a scope, from a time to another,
// which is not included. Somebody is idle after so many days.
func (c *Client) AuditReport(ctx context.Context, under dataset.Scope, from, until time.Time, idleDays int) (out wire.AuditReport, err error) {
	q := url.Values{"under": {under.String()}, "from": {from.UTC().Format(time.RFC3339)}, "until": {until.UTC().Format(time.RFC3339)},
		"idle": {strconv.Itoa(idleDays)}}
	err = c.call(ctx, request{op: "client.AuditReport", method: http.MethodGet, path: "/v1/audit/report", query: q}, &out)
	return out, err
}
