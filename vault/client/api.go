package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

// Login registers a device key, and exchanges an invitation for a session
// token. It is never retried: an invitation holds once.
func (c *Client) Login(ctx context.Context, req wire.Login) (out wire.LoggedIn, err error) {
	const op = "client.Login"
	if err = c.post(ctx, op, "/v1/login", req, &out); err != nil {
		return out, err
	}
	// What follows rests on this answer: another kind of server may answer anything.
	_, err = audit.EpochKey(out.LogKey, 1)
	if err != nil || out.Whoami.Handle == "" || out.Device.IsZero() || out.LogOrigin == "" {
		return wire.LoggedIn{}, noSense(op, err)
	}
	return out, nil
}

// Whoami describes the caller.
func (c *Client) Whoami(ctx context.Context) (out wire.Whoami, err error) {
	err = c.get(ctx, "client.Whoami", "/v1/whoami", nil, &out)
	if err == nil && out.Handle == "" {
		err = noSense("client.Whoami", nil)
	}
	return out, err
}

// CreateClient makes a client.
func (c *Client) CreateClient(ctx context.Context, req wire.NewClient) (out wire.Entry, err error) {
	err = c.post(ctx, "client.CreateClient", "/v1/clients", req, &out)
	return out, err
}

// CreateProject makes a project of a client.
func (c *Client) CreateProject(ctx context.Context, req wire.NewProject) (out wire.Entry, err error) {
	err = c.post(ctx, "client.CreateProject", "/v1/projects", req, &out)
	return out, err
}

// List walks through the clients, projects and datasets at and below a scope,
// in path order.
func (c *Client) List(ctx context.Context, under dataset.Scope) iter.Seq2[wire.Entry, error] {
	return pages[wire.Entry](ctx, c, "client.List", "/v1/scopes", url.Values{"under": {under.String()}})
}

// Invite makes a person or a service, and the token to hand over.
func (c *Client) Invite(ctx context.Context, req wire.NewPerson) (out wire.NewToken, err error) {
	err = c.post(ctx, "client.Invite", "/v1/people", req, &out)
	return out, err
}

// People walks through all principals.
func (c *Client) People(ctx context.Context) iter.Seq2[wire.Person, error] {
	return pages[wire.Person](ctx, c, "client.People", "/v1/people", nil)
}

// Disable ends all that a person may do.
func (c *Client) Disable(ctx context.Context, handle string) (out wire.Revoked, err error) {
	if handle, err = dataset.ParseName(handle); err != nil {
		return out, err
	}
	err = c.call(ctx, request{op: "client.Disable", method: http.MethodDelete, path: "/v1/people/" + handle}, &out)
	return out, err
}

// RotateToken ends a person's tokens and makes a new one; "me" is oneself.
func (c *Client) RotateToken(ctx context.Context, handle string) (out wire.NewToken, err error) {
	if handle, err = dataset.ParseName(handle); err != nil {
		return out, err
	}
	err = c.call(ctx, request{op: "client.RotateToken", method: http.MethodPost, path: "/v1/people/" + handle + "/token"}, &out)
	return out, err
}

// Publish makes a new version of an agreement.
func (c *Client) Publish(ctx context.Context, req wire.Publish) (out wire.Agreement, err error) {
	err = c.post(ctx, "client.Publish", "/v1/agreements", req, &out)
	return out, err
}

// Agreements walks through the newest versions, without texts.
func (c *Client) Agreements(ctx context.Context) iter.Seq2[wire.Agreement, error] {
	return pages[wire.Agreement](ctx, c, "client.Agreements", "/v1/agreements", nil)
}

// Agreement gives the newest version of one, with its text.
func (c *Client) Agreement(ctx context.Context, name string) (out wire.Agreement, err error) {
	if name, err = dataset.ParseName(name); err != nil {
		return out, err
	}
	err = c.get(ctx, "client.Agreement", "/v1/agreements/"+name, nil, &out)
	return out, err
}

// Sign accepts one version of an agreement, for the caller.
func (c *Client) Sign(ctx context.Context, name string, req wire.Sign) (out wire.Signature, err error) {
	if name, err = dataset.ParseName(name); err != nil {
		return out, err
	}
	err = c.post(ctx, "client.Sign", "/v1/agreements/"+name+"/signatures", req, &out)
	return out, err
}

// WithdrawSignature ends the signatures of somebody under an agreement, the
// caller's own if person is "me". When it has returned, no read that rested on them
// starts any more.
func (c *Client) WithdrawSignature(ctx context.Context, name, person string) (out wire.Revoked, err error) {
	if name, err = dataset.ParseName(name); err != nil {
		return out, err
	}
	q := url.Values{"person": {person}}
	err = c.call(ctx, request{op: "client.WithdrawSignature", method: http.MethodDelete, path: "/v1/agreements/" + name + "/signatures", query: q}, &out)
	return out, err
}

// Grant gives a role.
func (c *Client) Grant(ctx context.Context, req wire.Grant) (out wire.Grant, err error) {
	err = c.post(ctx, "client.Grant", "/v1/grants", req, &out)
	return out, err
}

// Revoke takes a role back. When it has returned, no read that rested on it
// starts any more.
func (c *Client) Revoke(ctx context.Context, role dataset.Role, person string, scope dataset.Scope) (out wire.Revoked, err error) {
	q := url.Values{"role": {string(role)}, "person": {person}, "scope": {scope.String()}}
	err = c.call(ctx, request{op: "client.Revoke", method: http.MethodDelete, path: "/v1/grants", query: q}, &out)
	return out, err
}

// Grants walks through the grants in force at and below a scope.
func (c *Client) Grants(ctx context.Context, scope dataset.Scope) iter.Seq2[wire.Grant, error] {
	return pages[wire.Grant](ctx, c, "client.Grants", "/v1/grants", url.Values{"scope": {scope.String()}})
}

// Assign gives shards of a dataset to a person.
func (c *Client) Assign(ctx context.Context, req wire.Assignment) (out wire.Assignment, err error) {
	err = c.post(ctx, "client.Assign", "/v1/assignments", req, &out)
	return out, err
}

// Unassign takes shards back; an empty set means all of them.
func (c *Client) Unassign(ctx context.Context, ds dataset.Scope, person string, shards dataset.ShardSet) (out wire.Revoked, err error) {
	q := url.Values{"dataset": {ds.String()}, "person": {person}}
	if len(shards) > 0 {
		q.Set("shards", shards.String())
	}
	err = c.call(ctx, request{op: "client.Unassign", method: http.MethodDelete, path: "/v1/assignments", query: q}, &out)
	return out, err
}

// Assignments walks through the assignments in force at and below a scope. An
// empty person means everybody whose assignments the caller may see; "me" is
// oneself.
func (c *Client) Assignments(ctx context.Context, scope dataset.Scope, person string) iter.Seq2[wire.Assignment, error] {
	q := url.Values{"scope": {scope.String()}}
	if person != "" {
		q.Set("person", person)
	}
	return pages[wire.Assignment](ctx, c, "client.Assignments", "/v1/assignments", q)
}

// CreateDataset makes a dataset, or gives the one that is there.
func (c *Client) CreateDataset(ctx context.Context, scope dataset.Scope) (out wire.Dataset, err error) {
	err = c.call(ctx, request{op: "client.CreateDataset", method: http.MethodPut, path: datasetPath(scope)}, &out)
	return out, err
}

// Dataset describes a dataset.
func (c *Client) Dataset(ctx context.Context, scope dataset.Scope) (out wire.Dataset, err error) {
	err = c.get(ctx, "client.Dataset", datasetPath(scope), nil, &out)
	return out, err
}

// Shards walks through the committed shards of a dataset, by number.
func (c *Client) Shards(ctx context.Context, scope dataset.Scope) iter.Seq2[wire.Shard, error] {
	return pages[wire.Shard](ctx, c, "client.Shards", datasetPath(scope)+"/shards", nil)
}

// Can explains a decision: may this person do this action to this object
// ("KIND:SCOPE", a scope, or DATASET/NUMBER)?
func (c *Client) Can(ctx context.Context, person, action, object, purpose string, delivery dataset.Delivery) (out wire.Decision, err error) {
	return c.CanFrom(ctx, "", person, action, object, purpose, delivery)
}

// CanFrom is Can for a person who asks from an address; empty: from here, or for
// others none that is known.
func (c *Client) CanFrom(ctx context.Context, from, person, action, object, purpose string, delivery dataset.Delivery) (out wire.Decision, err error) {
	q := url.Values{"person": {person}, "action": {action}, "object": {object}}
	if purpose != "" {
		q.Set("purpose", purpose)
	}
	if delivery != "" {
		q.Set("delivery", string(delivery))
	}
	if from != "" {
		q.Set("from", from)
	}
	err = c.get(ctx, "client.Can", "/v1/can", q, &out)
	return out, err
}

func (c *Client) get(ctx context.Context, op, path string, query url.Values, out any) error {
	return c.call(ctx, request{op: op, method: http.MethodGet, path: path, query: query}, out)
}

func (c *Client) post(ctx context.Context, op, path string, in, out any) error {
	return c.call(ctx, request{op: op, method: http.MethodPost, path: path, in: in}, out)
}

// datasetPath needs no escaping: a scope has only characters that stand for
// themselves in a URL.
func datasetPath(scope dataset.Scope) string { return "/v1/datasets/" + scope.String() }

func shardPath(ref dataset.ShardRef) string {
	return datasetPath(ref.Dataset) + "/shards/" + strconv.Itoa(ref.Number)
}
