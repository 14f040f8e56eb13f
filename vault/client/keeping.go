package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// PlaceHold places a legal hold.
func (c *Client) PlaceHold(ctx context.Context, req wire.NewHold) (out wire.Hold, err error) {
	err = c.post(ctx, "client.PlaceHold", "/v1/holds", req, &out)
	return out, err
}

// ReleaseHold ends a legal hold.
func (c *Client) ReleaseHold(ctx context.Context, id dataset.HoldID, reason string) (out wire.Hold, err error) {
	q := url.Values{}
	if reason != "" {
		q.Set("reason", reason)
	}
	err = c.call(ctx, request{op: "client.ReleaseHold", method: http.MethodDelete, path: "/v1/holds/" + id.String(), query: q}, &out)
	return out, err
}

// Holds walks through the holds that concern a scope; ended includes those that
// were released.
func (c *Client) Holds(ctx context.Context, scope dataset.Scope, ended bool) iter.Seq2[wire.Hold, error] {
	return pages[wire.Hold](ctx, c, "client.Holds", "/v1/holds", url.Values{"scope": {scope.String()}, "ended": {strconv.FormatBool(ended)}})
}

// SetRetention says how long something is kept.
func (c *Client) SetRetention(ctx context.Context, req wire.NewRetention) (out wire.Retention, err error) {
	err = c.call(ctx, request{op: "client.SetRetention", method: http.MethodPut, path: "/v1/retentions", in: req}, &out)
	return out, err
}

// Retentions walks through what was said for a scope, above and below it.
func (c *Client) Retentions(ctx context.Context, scope dataset.Scope) iter.Seq2[wire.Retention, error] {
	return pages[wire.Retention](ctx, c, "client.Retentions", "/v1/retentions", url.Values{"scope": {scope.String()}})
}

// Erase destroys the keys of all datasets at a scope and below. The rest is
// removed without the caller; see FollowErasure.
func (c *Client) Erase(ctx context.Context, req wire.NewErasure) (out wire.Erasure, err error) {
	err = c.post(ctx, "client.Erase", "/v1/erasures", req, &out)
	return out, err
}

// Erasure tells how far an erasure is.
func (c *Client) Erasure(ctx context.Context, id dataset.ErasureID) (out wire.Erasure, err error) {
	err = c.get(ctx, "client.Erasure", "/v1/erasures/"+id.String(), nil, &out)
	return out, err
}

// Erasures walks through the erasures that concern a scope, the newest first.
func (c *Client) Erasures(ctx context.Context, scope dataset.Scope) iter.Seq2[wire.Erasure, error] {
	return pages[wire.Erasure](ctx, c, "client.Erasures", "/v1/erasures", url.Values{"scope": {scope.String()}})
}

// FollowErasure asks how far an erasure is, every pause, until it is complete. An
// end of ctx leaves it running.
func (c *Client) FollowErasure(ctx context.Context, id dataset.ErasureID, pause time.Duration, each func(wire.Erasure)) (wire.Erasure, error) {
	wait := time.NewTimer(0) // the first answer comes at once
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return wire.Erasure{}, contextFault(ctx, "client.FollowErasure", ctx.Err())
		case <-wait.C:
		}
		out, err := c.Erasure(ctx, id)
		if err != nil {
			return out, err
		}
		each(out)
		if out.State == "complete" {
			return out, nil
		}
		wait.Reset(pause)
	}
}

// Certificate gives the certificate of an erasure that is complete, and checks
// it with the log's key.
func (c *Client) Certificate(ctx context.Context, id dataset.ErasureID, pin LogPin) (audit.Certificate, audit.CertificateReport, error) {
	var out audit.Certificate
	if err := c.get(ctx, "client.Certificate", "/v1/erasures/"+id.String()+"/certificate", nil, &out); err != nil {
		return out, audit.CertificateReport{}, err
	}
	report, err := VerifyCertificate(out, pin, nil)
	if err == nil && report.Erasure.ID != id.String() {
		err = badCertificate(&audit.VerifyError{Check: audit.CheckCertificate, Index: -1, Detail: "it is of another erasure"})
	}
	return out, report, err
}

// VerifyCertificate checks a certificate without a server. With the zero LogPin
// it uses the key in the certificate.
func VerifyCertificate(c audit.Certificate, pin LogPin, witnesses []string) (audit.CertificateReport, error) {
	opts, err := bundleOptions(pin, witnesses)
	if err != nil {
		return audit.CertificateReport{}, err
	}
	report, err := c.Verify(opts)
	if err != nil {
		return report, badCertificate(err)
	}
	return report, nil
}

func badCertificate(err error) error {
	return fault.Wrap(fault.Corrupt, "client.VerifyCertificate", "the certificate does not verify: "+err.Error(), err).
		WithHint("if it was signed with a key that the log had before your first login here, use `dsvault verify --key` with that one; if not, do not rely on it, keep it, and ask the operator")
}
