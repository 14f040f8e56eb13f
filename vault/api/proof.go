package api

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"

	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// admitted says where a read is in the log, and gives its receipt.
func admitted(h http.Header, index uint64, leaf audit.Hash, receipt []byte) {
	h.Set(wire.HeaderLeaf, fmt.Sprintf("%d:%x", index, leaf))
	h.Set(wire.HeaderReceipt, base64.StdEncoding.EncodeToString(receipt))
}

// logBundle sends what is needed to verify a part of the log.
func (s *server) logBundle(c *call) (any, error) {
	p := params{call: c}
	q := vault.BundleQuery{Under: p.scope("under"), Known: uint64(p.integer("known", 0, maxIndex))}
	copy(q.Nonce[:], p.hex("nonce", len(q.Nonce)))
	if p.err != nil {
		return nil, p.err
	}
	release, err := s.slots.take(c.caller.Principal)
	if err != nil {
		return nil, err
	}
	defer release()
	bundle, err := s.vault.LogBundle(c.ctx(), c.caller, q)
	if err != nil {
		return nil, err
	}
	defer bundle.Close()
	c.Response().Header().Set("Content-Type", wire.BundleType)
	// The first byte sends the head: what fails before it can still be told.
	return nil, bundle.Send(c.ctx(), c.Response())
}

func (s *server) inclusion(c *call) (any, error) {
	p := params{call: c}
	p.require("index", "leaf")
	index, leaf := p.integer("index", 0, maxIndex), p.hex("leaf", 32)
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Inclusion(c.ctx(), c.caller, uint64(index), [32]byte(leaf))
}

// hex is n bytes in hexadecimal; nil if the parameter is absent.
func (p *params) hex(name string, n int) []byte {
	return optional(p, name, func(s string) ([]byte, error) {
		b, err := hex.DecodeString(s)
		if err != nil || len(b) != n || hex.EncodeToString(b) != s {
			return nil, fault.New(fault.Invalid, "api.params", name+" is not in hexadecimal, or of another length")
		}
		return b, nil
	})
}
