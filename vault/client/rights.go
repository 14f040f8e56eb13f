package client

import (
	"context"
	"io"
	"iter"
	"net/http"
	"net/url"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

const requestsPath = "/v1/requests"

// OpenRequest enters a request into the register.
func (c *Client) OpenRequest(ctx context.Context, req wire.NewRequest) (out wire.RightsRequest, err error) {
	err = c.post(ctx, "client.OpenRequest", requestsPath, req, &out)
	return out, err
}

// Requests walks through the register: to admins everybody's, or those of one
// person; to others their own.
func (c *Client) Requests(ctx context.Context, person string, open bool) iter.Seq2[wire.RightsRequest, error] {
	q := url.Values{}
	if person != "" {
		q.Set("person", person)
	}
	if open {
		q.Set("open", "true")
	}
	return pages[wire.RightsRequest](ctx, c, "client.Requests", requestsPath, q)
}

// Request gives one request with its words.
func (c *Client) Request(ctx context.Context, id dataset.RightsID) (out wire.RightsRequest, err error) {
	err = c.get(ctx, "client.Request", requestsPath+"/"+id.String(), nil, &out)
	return out, err
}

// ExtendRequest puts the deadline of a request off.
func (c *Client) ExtendRequest(ctx context.Context, id dataset.RightsID, req wire.ExtendRequest) (out wire.RightsRequest, err error) {
	err = c.post(ctx, "client.ExtendRequest", requestsPath+"/"+id.String()+"/extend", req, &out)
	return out, err
}

// CloseRequest ends a request.
func (c *Client) CloseRequest(ctx context.Context, id dataset.RightsID, req wire.CloseRequest) (out wire.RightsRequest, err error) {
	err = c.post(ctx, "client.CloseRequest", requestsPath+"/"+id.String()+"/close", req, &out)
	return out, err
}

// personPath is where something of a person is; "me" is oneself.
func personPath(handle, what string) (string, error) {
	handle, err := dataset.ParseName(handle)
	return "/v1/people/" + handle + "/" + what, err
}

func postPerson[Out any](ctx context.Context, c *Client, op, handle, what string, in any) (out Out, err error) {
	path, err := personPath(handle, what)
	if err != nil {
		return out, err
	}
	err = c.post(ctx, op, path, in, &out)
	return out, err
}

// Subject says what somebody has decided about their own data.
func (c *Client) Subject(ctx context.Context, handle string) (out wire.Subject, err error) {
	path, err := personPath(handle, "rights")
	if err != nil {
		return out, err
	}
	err = c.get(ctx, "client.Subject", path, nil, &out)
	return out, err
}

// CorrectSubject changes what is kept of somebody.
func (c *Client) CorrectSubject(ctx context.Context, handle string, req wire.PersonUpdate) (wire.Person, error) {
	return postPerson[wire.Person](ctx, c, "client.CorrectSubject", handle, "correct", req)
}

// RestrictSubject restricts the processing of somebody's data.
func (c *Client) RestrictSubject(ctx context.Context, handle string, req wire.Restriction) (wire.Subject, error) {
	return postPerson[wire.Subject](ctx, c, "client.RestrictSubject", handle, "restrict", req)
}

// LiftRestriction ends that.
func (c *Client) LiftRestriction(ctx context.Context, handle string, req wire.Restriction) (wire.Subject, error) {
	return postPerson[wire.Subject](ctx, c, "client.LiftRestriction", handle, "lift", req)
}

// ObjectTo objects to the processing of somebody's data for a purpose.
func (c *Client) ObjectTo(ctx context.Context, handle string, req wire.PurposeChoice) (wire.Subject, error) {
	return postPerson[wire.Subject](ctx, c, "client.ObjectTo", handle, "object", req)
}

// Consent gives one's consent to a purpose, or withdraws it.
func (c *Client) Consent(ctx context.Context, handle string, req wire.PurposeChoice) (wire.Subject, error) {
	return postPerson[wire.Subject](ctx, c, "client.Consent", handle, "consent", req)
}

// DeleteSubject anonymises somebody; for oneself it asks for that.
func (c *Client) DeleteSubject(ctx context.Context, handle string) (out wire.Deleted, err error) {
	path, err := personPath(handle, "delete")
	if err != nil {
		return out, err
	}
	err = c.call(ctx, request{op: "client.DeleteSubject", method: http.MethodPost, path: path}, &out)
	return out, err
}

// ExportSubject writes all that is held about somebody to w, as it comes: sealed,
// or in clear for a request in the register. With open, what is sealed to this
// device is opened here. If it fails, w has part of a file.
func (c *Client) ExportSubject(ctx context.Context, handle string, req wire.NewSubjectExport, open bool, w io.Writer) error {
	const op = "client.ExportSubject"
	path, err := personPath(handle, "export")
	if err != nil {
		return err
	}
	if open {
		if c.device == nil || c.deviceID.IsZero() {
			return fault.New(fault.Invalid, op, "this machine has no device key").WithHint("run `dsvault login URL` first")
		}
		req.Device = c.deviceID
	}
	resp, err := c.send(ctx, request{op: op, method: http.MethodPost, path: path, in: req})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var body io.Reader = resp.Body
	if open {
		if body, err = seal.Open(resp.Body, c.device); err != nil {
			return err
		}
	}
	_, err = io.Copy(w, body)
	return err
}
