package api

import (
	"io/fs"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

const (
	maxPath  = 1024     // bytes, but for that of a member
	maxQuery = 16 << 10 // bytes
	maxText  = 1024     // bytes of a parameter or header without a form of its own
	maxIndex = math.MaxInt64 - 1
)

// parseQuery accepts only known parameters, each at most once: a misspelt one
// must not widen what a request does.
func (c *call) parseQuery(known []string) error {
	const op = "api.parseQuery"
	values, err := url.ParseQuery(c.Request().URL.RawQuery)
	if err != nil {
		return fault.Wrap(fault.Invalid, op, "the query does not parse", err)
	}
	for name, v := range values {
		switch {
		case !slices.Contains(known, name):
			return fault.New(fault.Invalid, op, "unknown query parameter "+clip(name))
		case len(v) > 1:
			return fault.New(fault.Invalid, op, "the query parameter "+name+" is there twice")
		}
	}
	c.query = values
	return nil
}

// clip makes what a caller wrote fit for a message or a record.
func clip(s string) string { return printable(s, 100) }

// printable gives the first most printable ASCII characters of s, with '?' for
// the others.
func printable(s string, most int) string {
	s = s[:min(len(s), most)]
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// params reads a request's typed parameters. The first error sticks, and then
// every value is zero.
type params struct {
	*call
	err error
}

func parsed[T any](p *params, value T, err error) T {
	var zero T
	if p.err != nil {
		return zero
	}
	if err != nil {
		p.err = err
		return zero
	}
	return value
}

// optional parses a query parameter if it is there and not empty.
func optional[T any](p *params, name string, parse func(string) (T, error)) T {
	var zero T
	if s := p.query.Get(name); s != "" && p.err == nil {
		value, err := parse(s)
		return parsed(p, value, err)
	}
	return zero
}

// body reads the JSON body.
func body[T any](p *params) T {
	var zero T
	if p.err != nil {
		return zero
	}
	value, err := decode[T](p.call)
	return parsed(p, value, err)
}

func (p *params) require(names ...string) {
	for _, name := range names {
		if p.err == nil && p.query.Get(name) == "" {
			p.err = fault.New(fault.Invalid, "api.params", "the query parameter "+name+" is missing")
		}
	}
}

// scope is the zero Scope if the parameter is absent.
func (p *params) scope(name string) dataset.Scope { return optional(p, name, dataset.ParseScope) }

func (p *params) handle(name string) string { return optional(p, name, dataset.ParseName) }

func (p *params) role(name string) dataset.Role { return optional(p, name, dataset.ParseRole) }

func (p *params) shardSet(name string) dataset.ShardSet {
	return optional(p, name, dataset.ParseShardSet)
}

func (p *params) time(name string) time.Time {
	return optional(p, name, func(s string) (time.Time, error) {
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			return t, fault.Wrap(fault.Invalid, "api.params", name+" is not a time", err).
				WithHint("write it as RFC 3339, for example 2026-01-31T00:00:00Z")
		}
		return t, nil
	})
}

// text is a parameter that the vault checks.
func (p *params) text(name string) string {
	return optional(p, name, func(s string) (string, error) { return s, checkText(name, s) })
}

func checkText(name, s string) error {
	if len(s) > maxText {
		return fault.New(fault.TooLarge, "api.params", name+" is too long")
	}
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return fault.New(fault.Invalid, "api.params", name+" holds control or broken characters")
		}
	}
	return nil
}

// integer is a whole number from absent, its value when it is not given, to
// most.
func (p *params) integer(name string, absent, most int64) int64 {
	if p.query.Get(name) == "" {
		return absent
	}
	return optional(p, name, func(s string) (int64, error) {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < absent || n > most || strconv.FormatInt(n, 10) != s {
			return 0, fault.New(fault.Invalid, "api.params",
				name+" is not a whole number from "+strconv.FormatInt(absent, 10)+" to "+strconv.FormatInt(most, 10))
		}
		return n, nil
	})
}

// limit is how many rows a page may have; absent, the most there can be.
func (p *params) limit() int {
	if n := p.integer("limit", 0, wire.MaxPage); n > 0 {
		return int(n)
	}
	return wire.MaxPage
}

// name is a path parameter. Each is checked by itself, as the router lets the
// last one of a route hold slashes.
func (p *params) name(param string) string {
	value, err := dataset.ParseName(p.Param(param))
	return parsed(p, value, err)
}

// dataset is the one in the path.
func (p *params) dataset() dataset.Scope { return p.scopeIn("client", "project", "dataset") }

// project is the one in the path.
func (p *params) project() dataset.Scope { return p.scopeIn("client", "project") }

func (p *params) scopeIn(names ...string) dataset.Scope {
	scope := dataset.Root
	for _, param := range names {
		name := p.name(param)
		if p.err != nil {
			return dataset.Scope{}
		}
		child, err := scope.Child(name)
		scope = parsed(p, child, err)
	}
	return scope
}

// shard is the one in the path.
func (p *params) shard() dataset.ShardRef {
	scope := p.dataset()
	if p.err != nil {
		return dataset.ShardRef{}
	}
	ref, err := dataset.ParseShardRef(scope.String() + "/" + p.Param("n"))
	return parsed(p, ref, err)
}

// membersPath is between the path of a dataset and that of a member of a shard.
const membersPath = "/shards/:n/members/"

// member is the path in a shard that ends the path of the request. It is the one
// thing there that may be percent-encoded, so it is taken from the path as it
// was sent: the router decodes some paths and not others.
func (p *params) member() string {
	_, escaped := splitMember(p.Request().URL.EscapedPath())
	name, err := url.PathUnescape(escaped)
	if err != nil || len(name) > dataset.MaxMemberName || !utf8.ValidString(name) || !fs.ValidPath(name) || name == "." {
		err = fault.Wrap(fault.Invalid, "api.params", "that is not the path of a file in a shard", err).
			WithHint("percent-encode the path as `dsvault ls DATASET/NUMBER` shows it")
	}
	return parsed(p, name, err)
}

// splitMember gives what stands before a member's path, and that path. A project
// may be called members.
func splitMember(path string) (before, member string) {
	elements := strings.SplitN(path, "/", 10) // "", v1, datasets, CLIENT, PROJECT, DATASET, shards, N, members, …
	if len(elements) < 10 {
		return path, ""
	}
	member = elements[9]
	return strings.TrimSuffix(path, member), member
}

func (p *params) attempt() dataset.AttemptID {
	id, err := dataset.ParseID[dataset.AttemptID](p.Param("attempt"))
	return parsed(p, id, err)
}

// device is the key that a read is sealed to.
func (p *params) device() dataset.DeviceID {
	id, err := dataset.ParseID[dataset.DeviceID](p.Request().Header.Get(wire.HeaderDevice))
	if err != nil {
		err = fault.Wrap(fault.Invalid, "api.params", "the header "+wire.HeaderDevice+" does not name a device key", err).
			WithHint("`dsvault login` registers this machine's key; `dsvault whoami` shows its ID")
	}
	return parsed(p, id, err)
}

func (p *params) purpose() string {
	s := p.Request().Header.Get(wire.HeaderPurpose)
	return parsed(p, s, checkText("the purpose", s))
}

// fileName is a plain file's own name, if the caller gave it.
func (p *params) fileName(otherwise string) string {
	s := p.Request().Header.Get(wire.HeaderName)
	if s == "" {
		return otherwise
	}
	name, err := url.PathUnescape(s)
	if err != nil {
		err = fault.Wrap(fault.Invalid, "api.params", "the header "+wire.HeaderName+" is not percent-encoded", err)
	} else {
		err = checkText("the file name", name)
	}
	return parsed(p, name, err)
}
