package client

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

const hintDirect = "try again; without --direct it goes through the vault"

// usePresigned makes the request that a presigned URL is for. The token stays
// here, and no error shows the URL. The caller closes the answer's body, which
// fails as that of send does.
func (c *Client) usePresigned(ctx context.Context, op, method string, signed wire.Presigned, body []byte, more http.Header) (*http.Response, error) {
	target, err := c.checkPresigned(op, signed)
	if err != nil {
		return nil, err
	}
	watched, watch := newWatch(ctx, c.idle)
	var reader io.Reader
	if body != nil {
		reader = &watchedBody{body: io.NopCloser(bytes.NewReader(body)), watch: watch, op: op, upload: true}
	}
	req, err := http.NewRequestWithContext(watched, method, target, reader)
	if err != nil {
		watch.end()
		return nil, fault.New(fault.Internal, op, "what the server presigned is no URL")
	}
	req.ContentLength = int64(len(body))
	for name, value := range signed.Header {
		req.Header.Set(name, value)
	}
	for name, values := range more {
		req.Header[name] = values
	}
	resp, err := c.store.RoundTrip(req) // follows no redirect
	if err != nil {
		idle := watch.end()
		switch {
		case idle:
			return nil, stalled(op)
		case ctx.Err() != nil:
			return nil, contextFault(ctx, op, ctx.Err())
		}
		return nil, fault.Wrap(fault.Unavailable, op, fmt.Sprintf("cannot reach the object store at %s: %v", req.URL.Host, err), err).WithHint(hintDirect)
	}
	resp.Body = &watchedBody{body: resp.Body, watch: watch, ctx: ctx, op: op}
	return resp, nil
}

// checkPresigned refuses presigned URLs that would go in clear to another machine.
func (c *Client) checkPresigned(op string, signed wire.Presigned) (string, error) {
	u, err := url.Parse(signed.URL.Expose())
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
		return "", fault.New(fault.Internal, op, "what the server presigned is no URL")
	}
	if u.Scheme == "http" && !c.plain && !isLoopback(u.Hostname()) {
		return "", fault.New(fault.Invalid, op, "the object store at "+u.Host+" is reached by plain http, which shows the network what gives access").
			WithHint("leave --direct out; on a network that you trust wholly, say --allow-plain-http")
	}
	return u.String(), nil
}

// refusedBy turns an answer of the object store that is not what was asked for
// into an error. It says the store's own word for it, which is no secret.
func refusedBy(op string, resp *http.Response) error {
	var said struct {
		Code string `xml:"Code"`
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err == nil {
		_ = xml.Unmarshal(text, &said)
	}
	word := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' {
			return r
		}
		return -1
	}, said.Code)
	code, message := fault.Unavailable, fmt.Sprintf("the object store answers %d %s", resp.StatusCode, word[:min(len(word), 60)])
	switch {
	case resp.StatusCode == http.StatusPreconditionFailed, resp.StatusCode == http.StatusNotFound && word == "NoSuchKey":
		return fault.New(fault.Corrupt, op, "the object store does not have the shard that the vault knows").
			WithHint("tell the operator; the object has to come back from a backup")
	case resp.StatusCode < 400, resp.StatusCode == http.StatusNotFound: // the upload has ended
		code = fault.Conflict
	}
	return fault.New(code, op, strings.TrimSpace(message)).WithHint(hintDirect)
}

// openDirect asks for a shard whose payload comes straight from the object
// store, and opens it: the header that the vault made, and then the payload of
// the object that the vault knows and no other.
func (p *puller) openDirect(ctx context.Context, header http.Header) (*fetched, error) {
	const op = "client.Pull"
	resp, err := p.c.send(ctx, request{op: op, method: http.MethodGet, path: shardPath(p.ref) + "/direct", header: header})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	receipt, err := p.keepReceipt(resp) // of the read, whatever becomes of the data
	if err != nil {
		return nil, err
	}
	var d wire.DirectRead
	if err := decodeAnswer(op, resp.Body, &d); err != nil {
		return nil, err
	}
	if d.Size <= 0 || d.Size > wire.MaxShard || d.Offset <= 0 || d.ETag == "" || strings.ContainsAny(d.ETag, "\"\r\n") {
		return nil, noSense(op, nil)
	}
	object, err := p.c.usePresigned(ctx, op, http.MethodGet, d.Object, nil, http.Header{
		"Range": {fmt.Sprintf("bytes=%d-%d", d.Offset, d.Offset+d.Size-1)}, "If-Match": {`"` + d.ETag + `"`}, "Accept-Encoding": {"identity"},
	})
	if err != nil {
		return nil, err
	}
	if object.StatusCode != http.StatusPartialContent {
		defer object.Body.Close()
		return nil, refusedBy(op, object)
	}
	var first, last int64
	_, err = fmt.Sscanf(object.Header.Get("Content-Range"), "bytes %d-%d/", &first, &last)
	if err != nil || first != d.Offset || last != d.Offset+d.Size-1 || object.ContentLength != d.Size ||
		strings.Trim(object.Header.Get("ETag"), `"`) != d.ETag {
		object.Body.Close()
		return nil, fault.New(fault.Unavailable, op, "the object store sends something else than was asked for").WithHint(hintDirect)
	}
	return &fetched{
		Reader: io.MultiReader(bytes.NewReader(d.Header), object.Body), Closer: object.Body,
		size: int64(len(d.Header)) + d.Size, manifest: d.Manifest, leaf: resp.Header.Get(wire.HeaderLeaf), receipt: receipt,
	}, nil
}

// presign asks for a presigned URL for one part.
func (p *pusher) presign(ctx context.Context, path string, n int, sum [32]byte) (wire.Presigned, error) {
	var out wire.PresignedParts
	err := p.c.post(ctx, "client.Push", path+"/parts", wire.Parts{Parts: []wire.Part{{Number: n, SHA256: sum[:]}}}, &out)
	if err == nil && len(out.Presigned) != 1 {
		err = noSense("client.Push", nil)
	}
	if err != nil {
		return wire.Presigned{}, err
	}
	return out.Presigned[0], nil
}

// putPart sends one part until the object store has it: each time the same
// bytes, with a presigned URL of its own.
func (p *pusher) putPart(ctx context.Context, path string, n int, data []byte, sum [32]byte) error {
	const op = "client.Push"
	return p.c.retry(ctx, maxRetries, func(ctx context.Context) error {
		signed, err := p.presign(ctx, path, n, sum)
		if err != nil {
			return err
		}
		resp, err := p.c.usePresigned(ctx, op, http.MethodPut, signed, data, nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return refusedBy(op, resp)
		}
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
		return err
	})
}

var errParts = errors.New("client: the parts do not fit")

// checkUpload refuses parts that this client would not send.
func checkUpload(d wire.DirectUpload, sealed int64) error {
	if d.PartSize != dataset.PartSize || d.Parts != dataset.Parts(sealed) {
		return partsDiffer()
	}
	return nil
}

func partsDiffer() error {
	return fault.Wrap(fault.Internal, "client.Push", "the server wants other parts than this client sends", errParts).
		WithHint("check that client and server have the same version")
}
