package dataset

import (
	"strconv"
	"strings"

	"dsvault/vault/fault"
)

// Scope is a place in the vault: "/" (all of it), "acme" (a client),
// "acme/signs" (a project), "acme/signs/batch-1" (a dataset). A grant at a
// scope holds at it and below it. The zero Scope is invalid; use Root.
//
// A segment is 1 to 63 characters of a-z, 0-9, '-', '_' and '.', and begins
// with a letter or a digit. Nothing else is accepted, so that no two scopes
// look alike, on screen or on any file system.
type Scope struct{ path string }

// Root is the whole vault.
var Root = Scope{"/"}

const maxSegment = 63

// ParseScope reads a scope. A bad one is Invalid, and the message says which
// segment is wrong without repeating more than 80 bytes of it.
func ParseScope(s string) (Scope, error) {
	const op = "dataset.ParseScope"
	if s == "/" {
		return Root, nil
	}
	if len(s) > 3*(maxSegment+1) {
		return Scope{}, fault.New(fault.Invalid, op, "scope is too long").
			WithHint("a scope is CLIENT, CLIENT/PROJECT or CLIENT/PROJECT/DATASET, each name at most 63 characters")
	}
	segments := strings.Split(s, "/")
	if len(segments) > 3 {
		return Scope{}, fault.New(fault.Invalid, op, "scope has more than three parts").
			WithHint("a scope is CLIENT, CLIENT/PROJECT or CLIENT/PROJECT/DATASET")
	}
	for _, seg := range segments {
		if err := checkSegment(seg); err != nil {
			return Scope{}, err
		}
	}
	return Scope{s}, nil
}

// ParseName checks one name: a scope's segment or a principal's handle.
func ParseName(s string) (string, error) {
	if err := checkSegment(s); err != nil {
		return "", err
	}
	return s, nil
}

func checkSegment(seg string) error {
	ok := len(seg) >= 1 && len(seg) <= maxSegment && seg[0] != '-' && seg[0] != '_' && seg[0] != '.'
	for i := 0; ok && i < len(seg); i++ {
		c := seg[i]
		ok = c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'
	}
	if ok {
		return nil
	}
	shown := seg
	if len(shown) > 80 {
		shown = shown[:80] + "…"
	}
	return fault.New(fault.Invalid, "dataset.ParseScope", "bad name "+strconv.QuoteToASCII(shown)).
		WithHint("use 1 to 63 of a-z, 0-9, '-', '_' and '.', beginning with a letter or a digit")
}

// String gives the text that ParseScope read.
func (s Scope) String() string { return s.path }

// IsZero reports whether the scope is unset.
func (s Scope) IsZero() bool { return s.path == "" }

// Depth is 0 for the vault, 1 for a client, 2 for a project, 3 for a dataset.
func (s Scope) Depth() int {
	if s.path == "/" || s.path == "" {
		return 0
	}
	return 1 + strings.Count(s.path, "/")
}

// Parent is the next wider scope; the parent of Root is Root.
func (s Scope) Parent() Scope {
	i := strings.LastIndexByte(s.path, '/')
	if i <= 0 {
		return Root
	}
	return Scope{s.path[:i]}
}

// Base is the last segment, or "/" for Root.
func (s Scope) Base() string {
	if s.path == "/" {
		return "/"
	}
	return s.path[strings.LastIndexByte(s.path, '/')+1:]
}

// At cuts the scope to a depth; At(1) of a dataset is its client. A depth that
// the scope does not reach gives the scope itself.
func (s Scope) At(depth int) Scope {
	for s.Depth() > depth {
		s = s.Parent()
	}
	return s
}

// Child appends one checked segment.
func (s Scope) Child(name string) (Scope, error) {
	if s.path == "/" {
		return ParseScope(name)
	}
	return ParseScope(s.path + "/" + name)
}

// Contains reports whether other is this scope or lies below it.
func (s Scope) Contains(other Scope) bool {
	if s.path == "/" {
		return other.path != ""
	}
	return s.path != "" && (other.path == s.path ||
		len(other.path) > len(s.path) && other.path[len(s.path)] == '/' && other.path[:len(s.path)] == s.path)
}

// MarshalText writes the scope as text.
func (s Scope) MarshalText() ([]byte, error) { return []byte(s.path), nil }

// UnmarshalText reads a scope; the empty text is the zero Scope.
func (s *Scope) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*s = Scope{}
		return nil
	}
	parsed, err := ParseScope(string(text))
	if err == nil {
		*s = parsed
	}
	return err
}

// ShardRef names one shard: DATASET/NUMBER, for example acme/signs/batch-1/3.
type ShardRef struct {
	Dataset Scope
	Number  int
}

// ParseShardRef reads DATASET/NUMBER.
func ParseShardRef(s string) (ShardRef, error) {
	i := strings.LastIndexByte(s, '/')
	if i > 0 {
		scope, err := ParseScope(s[:i])
		if err != nil {
			return ShardRef{}, err
		}
		n, err := parseShardNumber(s[i+1:])
		if err == nil && scope.Depth() == 3 {
			return ShardRef{scope, n}, nil
		}
	}
	return ShardRef{}, fault.New(fault.Invalid, "dataset.ParseShardRef", "not a shard").
		WithHint("name a shard as CLIENT/PROJECT/DATASET/NUMBER")
}

// String gives the text that ParseShardRef read.
func (r ShardRef) String() string { return r.Dataset.String() + "/" + strconv.Itoa(r.Number) }
