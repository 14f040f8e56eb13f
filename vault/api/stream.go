package api

import (
	"encoding/base64"
	"fmt"
	"mime"
	"strconv"

	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

const octets = "application/octet-stream"

// sealed sends one shard, sealed to the caller's device key. By the time that
// the answer begins the read is in the log.
func (s *server) sealed(c *call) (any, error) {
	p := params{call: c}
	ref, device, purpose := p.shard(), p.device(), p.purpose()
	if p.err != nil {
		return nil, p.err
	}
	release, err := s.slots.take(c.caller.Principal)
	if err != nil {
		return nil, err
	}
	defer release()
	stream, err := s.vault.ReadShard(c.ctx(), c.caller, ref, device, purpose)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	h := c.Response().Header()
	h.Set("Content-Type", octets)
	h.Set("Content-Length", strconv.FormatInt(stream.Size, 10))
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s-%04d.age"`, ref.Dataset.Base(), ref.Number))
	h.Set(wire.HeaderManifest, base64.StdEncoding.EncodeToString(stream.Manifest))
	admitted(h, stream.Index, stream.Hash, stream.Receipt)
	// The first byte sends the head: what fails before it can still be told.
	return nil, stream.Send(c.Response(), c.out.cut)
}

// storeUpload takes an attempt's sealed bytes. The vault looks at who asks for
// what before it reads the first of them.
func (s *server) storeUpload(c *call) (any, error) {
	p := params{call: c}
	scope, attempt := p.dataset(), p.attempt()
	if p.err != nil {
		return nil, p.err
	}
	size := c.Request().ContentLength
	if size < 0 {
		return nil, fault.New(fault.Invalid, "api.storeUpload", "the size of the body is not announced").
			WithHint("send Content-Length: the size of a sealed shard is known ahead")
	}
	if err := c.whole(size, wire.MaxShard); err != nil {
		return nil, err
	}
	release, err := s.slots.take(c.caller.Principal)
	if err != nil {
		return nil, err
	}
	defer release()
	out, err := s.vault.StoreUpload(c.ctx(), c.caller, scope, attempt, c.body, size)
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
