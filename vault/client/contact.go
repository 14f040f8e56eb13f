package client

import (
	"context"
	"net/http"

	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

// Person describes somebody; "me" is oneself.
func (c *Client) Person(ctx context.Context, handle string) (out wire.Person, err error) {
	if handle, err = dataset.ParseName(handle); err != nil {
		return out, err
	}
	err = c.get(ctx, "client.Person", "/v1/people/"+handle, nil, &out)
	return out, err
}

// UpdatePerson changes fields of a profile; "me" is oneself.
func (c *Client) UpdatePerson(ctx context.Context, handle string, req wire.PersonUpdate) (out wire.Person, err error) {
	if handle, err = dataset.ParseName(handle); err != nil {
		return out, err
	}
	err = c.call(ctx, request{op: "client.UpdatePerson", method: http.MethodPatch, path: "/v1/people/" + handle, in: req}, &out)
	return out, err
}

// AskReset asks for a one-time token by mail. It needs no token, and says the
// same whether or not anybody has the address. Who asks too often is told so at
// once: to wait for it would take minutes.
func (c *Client) AskReset(ctx context.Context, email string) error {
	const op = "client.AskReset"
	resp, err := c.send(ctx, request{op: op, method: http.MethodPost, path: "/v1/resets", in: wire.NewReset{Email: email}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var out wire.ResetAsked
	return decodeAnswer(op, resp.Body, &out)
}
