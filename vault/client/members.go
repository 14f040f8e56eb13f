package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// Index lists the members of a shard. It is a read of the shard, recorded as
// one. A shard without a list is a Conflict.
func (c *Client) Index(ctx context.Context, ref dataset.ShardRef, purpose string) (dataset.Index, error) {
	const op = "client.Index"
	var x dataset.Index
	err := c.retry(ctx, shardRetries, func(ctx context.Context) error {
		resp, err := c.sealed(ctx, op, shardPath(ref)+"/index", nil, purpose)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		plain, err := seal.Open(resp.Body, c.device)
		if err != nil {
			return damaged(op, err)
		}
		x = dataset.Index{}
		head, err := dataset.ScanIndex(plain, func(_ dataset.IndexHead, m dataset.Member) error {
			x.Members = append(x.Members, m)
			return nil
		})
		if err != nil {
			return damaged(op, err)
		}
		if head.Number != ref.Number {
			return fault.New(fault.Corrupt, op, fmt.Sprintf("the server gave the list of shard %d instead of %d", head.Number, ref.Number)).
				WithHint("tell the operator")
		}
		x.Number, x.Size = head.Number, head.Size
		return nil
	})
	return x, err
}

// damaged says that what came is not what it should be: not the caller's fault.
func damaged(op string, err error) error {
	if fault.Is(err, fault.Invalid) || fault.Is(err, fault.TooLarge) {
		return fault.Wrap(fault.Corrupt, op, "what the server holds is damaged", err).
			WithHint("tell the operator, and the client who pushed it")
	}
	return err
}

// sealed asks for something that is sealed to this device.
func (c *Client) sealed(ctx context.Context, op, path string, query url.Values, purpose string) (*http.Response, error) {
	if c.device == nil || c.deviceID.IsZero() {
		return nil, fault.New(fault.Invalid, op, "this machine has no device key").WithHint("run `dsvault login URL` first")
	}
	header := http.Header{wire.HeaderDevice: {c.deviceID.String()}}
	if purpose != "" {
		header.Set(wire.HeaderPurpose, purpose)
	}
	return c.send(ctx, request{op: op, method: http.MethodGet, path: path, query: query, header: header})
}

// Cat writes one member of a shard to w. Only the chunks that hold it are
// fetched; the list of members, and the member, are two reads of the shard in
// the log. The last bytes are written once all of them are what the list says;
// if they are not, it is Corrupt.
func (c *Client) Cat(ctx context.Context, ref dataset.ShardRef, name, purpose string, w io.Writer) (dataset.Member, error) {
	const op = "client.Cat"
	x, err := c.Index(ctx, ref, purpose)
	if err != nil {
		return dataset.Member{}, err
	}
	for _, m := range x.Members {
		if m.Name == name {
			return m, c.cat(ctx, ref, x.Size, m, purpose, w)
		}
	}
	return dataset.Member{}, fault.New(fault.NotFound, op, fmt.Sprintf("shard %s has no member of that name", ref)).
		WithHint("`dsvault ls " + ref.String() + "` lists them")
}

func (c *Client) cat(ctx context.Context, ref dataset.ShardRef, shardSize int64, m dataset.Member, purpose string, w io.Writer) error {
	out := &verified{w: w, hash: sha256.New()}
	if m.Size > 0 {
		err := c.retry(ctx, shardRetries, func(ctx context.Context) error {
			out.reset()
			err := c.fetch(ctx, ref, shardSize, m, purpose, out)
			if out.written && err != nil { // what was written cannot be taken back
				return &fault.Error{Code: fault.Corrupt, Op: "client.Cat", Message: "only a part of it was written", Err: err,
					Hint: "throw away what was written, and try again"}
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if !bytes.Equal(out.hash.Sum(nil), m.SHA256) {
		return fault.New(fault.Corrupt, "client.Cat", "the member is not what the list of members says").
			WithHint("throw away what was written; tell the operator, and the client who pushed it")
	}
	return out.finish()
}

// fetch copies a member to out, from its first byte.
func (c *Client) fetch(ctx context.Context, ref dataset.ShardRef, shardSize int64, m dataset.Member, purpose string, out io.Writer) error {
	const op = "client.Cat"
	payload := seal.PayloadSize(shardSize)
	_, size, err := seal.ChunkRange(payload, m.Offset, m.Size)
	if err != nil {
		return damaged(op, err)
	}
	resp, err := c.sealed(ctx, op, shardPath(ref)+"/sealed", url.Values{
		"offset": {strconv.FormatInt(m.Offset, 10)}, "size": {strconv.FormatInt(m.Size, 10)},
	}, purpose)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if want := int64(seal.HeaderSize()) + seal.NonceSize + size; resp.ContentLength != want {
		return fault.New(fault.Corrupt, op, fmt.Sprintf("the server gave %d bytes where there are %d", resp.ContentLength, want)).
			WithHint("tell the operator, and the client who pushed it")
	}
	header, rest, err := seal.ReadHeader(resp.Body)
	if err != nil {
		return damaged(op, err)
	}
	key, err := seal.OpenHeader(header, c.device)
	if err != nil {
		return damaged(op, err)
	}
	defer key.Destroy()
	var nonce [seal.NonceSize]byte
	if _, err := io.ReadFull(rest, nonce[:]); err != nil {
		return err
	}
	plain, err := seal.OpenRange(key, nonce, payload, m.Offset, m.Size,
		func(int64, int64) (io.ReadCloser, error) { return io.NopCloser(rest), nil })
	if err != nil {
		return damaged(op, err)
	}
	defer plain.Close()
	_, err = io.Copy(out, plain)
	return err
}

// holdBack is how much of a member is written only after all of it was checked.
const holdBack = 256 << 10

// verified passes bytes on, but for the last ones, which wait for finish.
type verified struct {
	w       io.Writer
	hash    hash.Hash
	held    bytes.Buffer
	written bool
}

func (v *verified) reset() {
	v.hash.Reset()
	v.held.Reset()
}

func (v *verified) Write(p []byte) (int, error) {
	v.hash.Write(p)
	v.held.Write(p)
	if extra := v.held.Len() - holdBack; extra > 0 {
		v.written = true
		if _, err := v.w.Write(v.held.Next(extra)); err != nil {
			return 0, outFault(err)
		}
	}
	return len(p), nil
}

func (v *verified) finish() error {
	if _, err := v.w.Write(v.held.Bytes()); err != nil {
		return outFault(err)
	}
	return nil
}

// outFault classifies an error of the caller's writer.
func outFault(err error) error {
	var known *fault.Error
	if errors.As(err, &known) {
		return err
	}
	return fault.Wrap(fault.Unavailable, "client.Cat", "cannot write the output", err)
}
