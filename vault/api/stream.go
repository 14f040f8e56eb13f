package api

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"strconv"

	"dsvault/vault"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/wire"
)

const octets = "application/octet-stream"

// sealed sends one shard, or the chunks of it that hold a range of its
// plaintext, sealed to the caller's device key. By the time that the answer
// begins the read is in the log.
func (s *server) sealed(c *call) (any, error) {
	if !c.query.Has("offset") && !c.query.Has("size") {
		return s.sendSealed(c, s.vault.ReadShard, "")
	}
	p := params{call: c}
	p.require("offset", "size")
	offset, size := p.integer("offset", 0, wire.MaxShard), p.integer("size", 0, wire.MaxShard)
	if p.err != nil {
		return nil, p.err
	}
	return s.sendSealed(c, func(ctx context.Context, c identity.Caller, ref dataset.ShardRef, device dataset.DeviceID, purpose string) (*vault.ShardStream, error) {
		return s.vault.ReadRange(ctx, c, ref, device, purpose, offset, size)
	}, ".part")
}

// index sends the list of a shard's members, sealed as the shard is.
func (s *server) index(c *call) (any, error) { return s.sendSealed(c, s.vault.ReadIndex, ".index") }

func (s *server) sendSealed(c *call, read func(context.Context, identity.Caller, dataset.ShardRef, dataset.DeviceID, string) (*vault.ShardStream, error),
	suffix string) (any, error) {
	p := params{call: c}
	ref, device, purpose := p.shard(), p.device(), p.purpose()
	if p.err != nil {
		return nil, p.err
	}
	return s.sendStream(c, func() (*vault.ShardStream, string, error) {
		stream, err := read(c.ctx(), c.caller, ref, device, purpose)
		return stream, fmt.Sprintf("%s-%04d%s.age", ref.Dataset.Base(), ref.Number, suffix), err
	})
}

// sendStream sends what open has admitted, under a file name.
func (s *server) sendStream(c *call, open func() (*vault.ShardStream, string, error)) (any, error) {
	release, err := s.slots.take(c.caller.Principal)
	if err != nil {
		return nil, err
	}
	defer release()
	stream, name, err := open()
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	h := c.Response().Header()
	h.Set("Content-Type", octets)
	h.Set("Content-Length", strconv.FormatInt(stream.Size, 10))
	h.Set("Content-Disposition", `attachment; filename="`+name+`"`)
	if stream.Manifest != nil {
		h.Set(wire.HeaderManifest, base64.StdEncoding.EncodeToString(stream.Manifest))
	}
	admitted(h, stream.Index, stream.Hash, stream.Receipt)
	// The first byte sends the head: what fails before it can still be told.
	return nil, stream.Send(promptly{c}, c.out.cut)
}

// promptly writes data that may be sent at this moment: it leaves at once, rather
// than when the end of the read has been recorded, which may be much later.
type promptly struct{ c *call }

func (p promptly) Write(b []byte) (int, error) {
	n, err := p.c.Response().Write(b)
	if err == nil {
		err = p.c.out.flush()
	}
	return n, err
}

// storeUpload takes an attempt's sealed bytes. The vault looks at who asks for
// what before it reads the first of them.
func (s *server) storeUpload(c *call) (any, error) {
	return s.store(c, s.vault.StoreUpload, wire.MaxShard)
}

// storeIndex takes the sealed index of an attempt's shard.
func (s *server) storeIndex(c *call) (any, error) {
	return s.store(c, s.vault.StoreIndex, 2*dataset.MaxIndex)
}

func (s *server) store(c *call, do func(context.Context, identity.Caller, dataset.Scope, dataset.AttemptID, io.Reader, int64) (wire.Stored, error),
	most int64) (any, error) {
	p := params{call: c}
	scope, attempt := p.dataset(), p.attempt()
	if p.err != nil {
		return nil, p.err
	}
	size := c.Request().ContentLength
	if size < 0 {
		return nil, fault.New(fault.Invalid, "api.storeUpload", "the size of the body is not announced").
			WithHint("send Content-Length: the size of what is sealed is known ahead")
	}
	if err := c.whole(size, most); err != nil {
		return nil, err
	}
	release, err := s.slots.take(c.caller.Principal)
	if err != nil {
		return nil, err
	}
	defer release()
	out, err := do(c.ctx(), c.caller, scope, attempt, c.body, size)
	return out, c.body.fault(err)
}

// putFile takes a plain file, which the vault seals while it streams.
func (s *server) putFile(c *call) (any, error) {
	const op = "api.putFile"
	p := params{call: c}
	scope := p.dataset()
	if p.err != nil {
		return nil, p.err
	}
	name := p.fileName(scope.Base())
	if p.err != nil {
		return nil, p.err
	}
	if !c.secure && !local(c.Request()) {
		return nil, fault.New(fault.Invalid, op, "a plain file is taken over TLS only").
			WithHint("use https, or `dsvault push`, which seals on your machine")
	}
	// curl -d and HTML forms change what they send.
	switch kind, _, _ := mime.ParseMediaType(c.Request().Header.Get("Content-Type")); kind {
	case "application/x-www-form-urlencoded", "multipart/form-data":
		return nil, fault.New(fault.Invalid, op, "the body has to be the file as it is, not a form").WithHint("use curl -T FILE URL")
	}
	size := c.Request().ContentLength
	if err := c.whole(size, s.opts.MaxFile); err != nil {
		return nil, err
	}
	release, err := s.slots.take(c.caller.Principal)
	if err != nil {
		return nil, err
	}
	defer release()
	out, err := s.vault.PutFile(c.ctx(), c.caller, scope, name, c.body, size)
	return out, c.body.fault(err)
}

// whole refuses a body that is only a part of something, is encoded, or is
// over most bytes.
func (c *call) whole(size, most int64) error {
	h := c.Request().Header
	if h.Get("Content-Range") != "" || h.Get("Content-Encoding") != "" {
		return fault.New(fault.Invalid, "api.whole", "the body has to be whole and as it is, without Content-Range or Content-Encoding").
			WithHint("start again from the beginning")
	}
	return c.body.limit(size, most)
}
