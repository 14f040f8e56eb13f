package dataset

import (
	"crypto/subtle"
	"encoding/base32"
	"io"
	"strings"

	"dsvault/vault/fault"
)

// ID is 16 random bytes that name one thing of kind K. The text form is the
// kind's prefix, an underscore and 26 lower-case base32 characters, so that an
// ID of one kind is never taken for another.
type ID[K Kind] [16]byte

// Kind tells ID types apart and gives the prefix of their text form.
type Kind interface{ prefix() string }

type (
	principalKind struct{}
	deviceKind    struct{}
	datasetKind   struct{}
	attemptKind   struct{}
	grantKind     struct{}
	assignKind    struct{}
	requestKind   struct{}
	tokenKind     struct{}
	checkKind     struct{}
	linkKind      struct{}
	approvalKind  struct{}
	messageKind   struct{}
	glassKind     struct{}
	disclosedKind struct{}
	rightsKind    struct{}
	holdKind      struct{}
	erasureKind   struct{}
	workKind      struct{}
	reviewKind    struct{}
)

func (principalKind) prefix() string { return "prn" }
func (deviceKind) prefix() string    { return "dev" }
func (datasetKind) prefix() string   { return "dst" }
func (attemptKind) prefix() string   { return "att" }
func (grantKind) prefix() string     { return "grt" }
func (assignKind) prefix() string    { return "asg" }
func (requestKind) prefix() string   { return "req" }
func (tokenKind) prefix() string     { return "tok" }
func (checkKind) prefix() string     { return "chk" }
func (linkKind) prefix() string      { return "lnk" }
func (approvalKind) prefix() string  { return "apr" }
func (messageKind) prefix() string   { return "msg" }
func (glassKind) prefix() string     { return "bgl" }
func (disclosedKind) prefix() string { return "dsc" }
func (rightsKind) prefix() string    { return "rrq" }
func (holdKind) prefix() string      { return "hld" }
func (erasureKind) prefix() string   { return "ers" }
func (workKind) prefix() string      { return "wrk" }
func (reviewKind) prefix() string    { return "rvw" }

type (
	PrincipalID  = ID[principalKind] // a person or a service
	DeviceID     = ID[deviceKind]    // a registered device key
	DatasetID    = ID[datasetKind]
	AttemptID    = ID[attemptKind] // one try at uploading one shard
	GrantID      = ID[grantKind]
	AssignmentID = ID[assignKind]
	RequestID    = ID[requestKind] // one HTTP request
	TokenID      = ID[tokenKind]   // names a token; reveals nothing of its secret
	CheckID      = ID[checkKind]   // one comparison of catalog and storage
	LinkID       = ID[linkKind]    // names a link; reveals nothing of its secret
	ApprovalID   = ID[approvalKind]
	MessageID    = ID[messageKind] // one mail or webhook call
	BreakGlassID = ID[glassKind]
	DisclosureID = ID[disclosedKind]
	RightsID     = ID[rightsKind]  // a request in the register of requests
	HoldID       = ID[holdKind]    // a legal hold
	ErasureID    = ID[erasureKind] // one erasure of a scope
	WorkID       = ID[workKind]    // work that was returned once on one shard
	ReviewID     = ID[reviewKind]  // one access review
)

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewID draws an ID from random, which must be cryptographically secure. It
// panics if random fails: the program cannot go on without randomness.
func NewID[T ~[16]byte](random io.Reader) T {
	var id T
	if _, err := io.ReadFull(random, id[:]); err != nil {
		panic("dataset: no randomness: " + err.Error())
	}
	return id
}

// ParseID reads the text form of an ID of kind K, for example
// ParseID[PrincipalID]. It is Invalid for another kind's ID and for any text
// that String would not have written.
func ParseID[T interface {
	~[16]byte
	Prefix() string
}](s string) (T, error) {
	var id T
	rest, ok := strings.CutPrefix(s, id.Prefix()+"_")
	if ok && len(rest) == 26 {
		raw, err := idEncoding.DecodeString(rest)
		// Re-encoding refuses the stray bits that base32 would ignore.
		if err == nil && idEncoding.EncodeToString(raw) == rest {
			copy(id[:], raw)
			return id, nil
		}
	}
	return id, fault.New(fault.Invalid, "dataset.ParseID", "not an ID of the form "+id.Prefix()+"_…").
		WithHint("copy it whole, as the listings show it")
}

// Prefix is the first part of the text form.
func (id ID[K]) Prefix() string { var k K; return k.prefix() }

// String gives the text form.
func (id ID[K]) String() string { return id.Prefix() + "_" + idEncoding.EncodeToString(id[:]) }

// IsZero reports whether the ID is unset.
func (id ID[K]) IsZero() bool { return id == ID[K]{} }

// Equal compares in constant time.
func (id ID[K]) Equal(other ID[K]) bool { return subtle.ConstantTimeCompare(id[:], other[:]) == 1 }

// MarshalText writes the text form; the zero ID is the empty text.
func (id ID[K]) MarshalText() ([]byte, error) {
	if id.IsZero() {
		return nil, nil
	}
	return []byte(id.String()), nil
}

// UnmarshalText reads what MarshalText wrote.
func (id *ID[K]) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*id = ID[K]{}
		return nil
	}
	parsed, err := ParseID[ID[K]](string(text))
	if err == nil {
		*id = parsed
	}
	return err
}
