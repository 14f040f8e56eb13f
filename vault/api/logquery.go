package api

import (
	"encoding/hex"
	"strings"

	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

func (s *server) log(c *call) (any, error) {
	p := params{call: c}
	q := p.logQuery()
	q.Cursor = optional(&p, "after", wire.ParseLogCursor)
	q.Follow, q.Limit = p.flag("follow"), p.limit()
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Log(c.ctx(), c.caller, q)
}

// logQuery reads the filters of the log.
func (p *params) logQuery() vault.LogQuery {
	q := vault.LogQuery{
		Under: p.scope("under"), Kinds: optional(p, "kind", parseKinds), Decision: optional(p, "decision", parseDecision),
		Since: p.time("since"), Until: p.time("until"),
	}
	if tag, ok := strings.CutPrefix(p.query.Get("actor"), "~"); ok {
		q.Tag = optional(p, "actor", func(string) ([16]byte, error) { return parseTag(tag) })
	} else {
		q.Actor = p.handle("actor")
	}
	return q
}

// flag is a parameter that says yes by being 1.
func (p *params) flag(name string) bool {
	return optional(p, name, func(s string) (bool, error) {
		if s != "1" {
			return false, fault.New(fault.Invalid, "api.params", name+" is not 1")
		}
		return true, nil
	})
}

const maxKinds = 50 // in one list

// parseKinds reads kinds of records, with commas between.
func parseKinds(s string) ([]audit.Kind, error) {
	names := strings.Split(s, ",")
	if len(names) > maxKinds {
		return nil, fault.New(fault.Invalid, "api.params", "too many kinds of records")
	}
	kinds := make([]audit.Kind, 0, len(names))
	for _, name := range names {
		kind, err := audit.ParseKind(name)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, "api.params", "there is no kind of record called "+clip(name), err).
				WithHint("kinds are read, upload, login, grant, … as `dsvault log` shows them")
		}
		kinds = append(kinds, kind)
	}
	return kinds, nil
}

func parseDecision(s string) (audit.Decision, error) {
	for _, d := range []audit.Decision{audit.Allowed, audit.Refused} {
		if d.String() == s {
			return d, nil
		}
	}
	return audit.None, fault.New(fault.Invalid, "api.params", "decision is not allowed or refused")
}

// parseTag reads the pseudonym of an actor, as records show it behind a tilde.
func parseTag(s string) (tag [16]byte, err error) {
	if len(s) != hex.EncodedLen(len(tag)) {
		return tag, fault.New(fault.Invalid, "api.params", "not the pseudonym of an actor")
	}
	if _, err := hex.Decode(tag[:], []byte(s)); err != nil {
		return tag, fault.Wrap(fault.Invalid, "api.params", "not the pseudonym of an actor", err)
	}
	return tag, nil
}
