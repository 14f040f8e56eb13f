package storage

import (
	"errors"
	"time"

	"dsvault/vault/dataset"
)

// ErrNoRow: the catalog has answered that there is no such row. What that means
// to the caller (not found, or corruption) is the caller's to say.
var ErrNoRow = errors.New("no such row")

// ErrExists: a row with this unique key is there already.
var ErrExists = errors.New("row exists")

// ErrCommitUnknown: the connection broke while a transaction was being
// committed. It is durable, or it never was; nobody knows.
var ErrCommitUnknown = errors.New("whether the transaction was committed is not known")

// Head is the state of the audit log and of the policy, one row, locked by
// every writing transaction before anything else.
type Head struct {
	Size     uint64     // leaves
	Frontier [][32]byte // compact Merkle range of Size leaves, left to right
	Revision uint64     // policy revision: counts changes of grants, assignments, states, …
	Time     int64      // of the last leaf, Unix microseconds; the log's time never goes back
	NextSlot uint64     // the next permanent slot to hand out
}

// Leaf is one record of the log as stored, with the columns that it is found by.
type Leaf struct {
	Index     uint64
	Slot      uint64
	Kind      uint16
	Decision  uint8
	Time      int64 // Unix microseconds
	Data      []byte
	Principal dataset.PrincipalID // whose details are sealed; zero: none
	Details   []byte              // sealed under that person's key; kept in a side table, nil: none
}

// Tile is a full tile of the log's tree: 256 hashes at 8*Level above the leaves.
type Tile struct {
	Level  int
	N      uint64     // number within the level
	Root   [32]byte   // of the tree over Hashes
	Hashes [][32]byte // 256
}

// Checkpoint is a signed checkpoint of the log, as a note.
type Checkpoint struct {
	Size uint64 // leaves
	Note []byte
}

// Chain is the end of one slot's chain of leaves.
type Chain struct {
	Slot      uint64
	Seq       uint64 // leaves in this slot
	LastIndex uint64
	LastHash  [32]byte
}

// OpenRead is an admitted read that no read-end leaf has closed yet. Its leaf
// says the rest.
type OpenRead struct {
	Index uint64 // of the read's leaf
	Node  string
}

// ScopeRow is a client, a project or a dataset, or the vault itself (slot 0).
type ScopeRow struct {
	Slot      uint64
	Scope     dataset.Scope
	Tag       [16]byte // random; stands for the scope in leaves
	CreatedAt time.Time
	CreatedBy dataset.PrincipalID
}

// Project is the terms of one engagement, beside its ScopeRow.
type Project struct {
	Slot      uint64
	Scope     dataset.Scope
	Purposes  []string // empty: none stated
	Consent   []string // of these, those that rest on the reader's consent
	Region    string   // empty: none required
	Sensitive bool
	Contract  string             // contract reference
	Delivery  []dataset.Delivery // ways that are allowed besides sealed
	Claims    bool               // annotators may claim shards
	Revision  uint64
}

// Conditions are what a scope, down to a project, asks of those who read at it
// or below it. Those of all scopes above hold too.
type Conditions struct {
	Slot               uint64
	Scope              dataset.Scope
	Requires           []string           // agreements that every reader but the owner has to have signed
	ContractorMax      time.Duration      // the longest that a contractor's grant may be; 0: no limit
	ContractorDelivery []dataset.Delivery // of a project: ways besides sealed that contractors may use
	Hours              []string           // in which contractors may read, as rbac.ParseHours reads them; none: always
	Networks           []string           // from which contractors may read; none: from anywhere
	Transfers          []dataset.Transfer // on which bases people of other regions may read
	Revision           uint64
}

// Dataset is one upload unit, beside its ScopeRow.
type Dataset struct {
	ID        dataset.DatasetID
	Slot      uint64
	Scope     dataset.Scope
	Tag       [16]byte
	State     dataset.State
	Recipient string   // age recipient that its shards are sealed to
	Salt      [32]byte // keys the fingerprints of its shards
	Complete  bool     // it has a version
	Version   int      // the newest one; 0: none yet
	Shards    int      // how many that one has
	Push      int      // pushes begun; only the last one goes on
	Store     string   // the region in whose object store its objects are; empty: the one without a name
	Revision  uint64
	CreatedAt time.Time
	CreatedBy dataset.PrincipalID
	FilledAt  time.Time // when its newest version was completed; zero: it has none
}

// Since is from when on its retention counts.
func (d Dataset) Since() time.Time {
	if d.FilledAt.IsZero() {
		return d.CreatedAt
	}
	return d.FilledAt
}

// WrappedKey is a secret sealed to an epoch's recipient.
type WrappedKey struct {
	Epoch  uint32
	Sealed []byte
}

// Version is one completed state of a dataset. It never changes.
type Version struct {
	Dataset     dataset.DatasetID
	Version     int // 1, 2, …
	Shards      dataset.ShardList
	PlainSize   int64 // bytes of all of them
	SealedSize  int64
	CompletedAt time.Time
	CompletedBy dataset.PrincipalID
}

// Index is the object that lists the members of a shard; its key is
// IndexKey of the shard's.
type Index struct {
	ETag   string
	Size   int64  // bytes of the object; 0: there is none
	SHA256 []byte // of the object
	Header []byte // the object's own age header; of a shard's only
}

// Shard is one committed shard: the winner among its attempts. Once a version
// has it, it does not change.
type Shard struct {
	Dataset     dataset.DatasetID
	Number      int
	Attempt     dataset.AttemptID
	Key         string // of the object
	ETag        string
	SealedSize  int64    // bytes of the object
	PlainSize   int64    // bytes of the plaintext
	SHA256      [32]byte // of the object; see PartSize
	Header      []byte   // the object's own age header
	Nonce       [16]byte // of the payload; unique in the whole vault
	Fingerprint [32]byte // of what was packed, keyed with the dataset's salt
	Manifest    []byte   // dataset.Manifest as JSON, sealed to the dataset's recipient
	Version     int      // the first version that has it; 0: none
	Start       []byte   // keyed hash of the sample that it begins with; may be empty
	Index       Index
	PartSize    int64 // 0, or SHA256 is dataset.SealedHash of parts of so many bytes
	CommittedAt time.Time
	CommittedBy dataset.PrincipalID
}

// Claimed is the SealedSize of an attempt whose bytes are on their way.
const Claimed int64 = -1

// Joining is the SealedSize of an attempt whose parts are all there and become
// its object.
const Joining int64 = -2

// AnnouncedPart is a part of an attempt that its uploader has spoken of.
type AnnouncedPart struct {
	Number int // from 1
	SHA256 [32]byte
}

// Attempt is an upload under way; its object may exist, wholly or not at all.
// SealedSize is 0 at first, then Claimed; ETag, SealedSize and SHA256 are set
// once the bytes are stored. One without StartedBy is to be cleared away.
type Attempt struct {
	ID          dataset.AttemptID
	Dataset     dataset.DatasetID
	Number      int
	Key         string   // of the object
	PlainSize   int64    // as announced, bytes
	Fingerprint [32]byte // as announced
	ETag        string
	SealedSize  int64
	SHA256      [32]byte
	Push        int    // to which it belongs
	Start       []byte // as announced
	Index       Index  // its Size is 0 at first, then Claimed
	Upload      string // the store's ID of an upload in parts; empty: none
	PartSize    int64  // of these parts, and as in Shard
	StartedAt   time.Time
	StartedBy   dataset.PrincipalID
}

// Principal is a person or a service.
type Principal struct {
	ID         dataset.PrincipalID
	Handle     string // unique, of the form of a scope's segment
	Service    bool
	Disabled   time.Time // zero: not disabled
	Region     string    // declared region; empty: none
	Restricted time.Time // since when the processing of their data is; zero: it is not
	Key        WrappedKey
	Profile    []byte // sealed under the person's key: name, address and the like
	Revision   uint64
	CreatedAt  time.Time
	CreatedBy  dataset.PrincipalID
}

// TokenKind says what a token is good for.
type TokenKind string

const (
	InviteToken  TokenKind = "invite"  // once, at login, where it is exchanged
	SessionToken TokenKind = "session" // a person's, made at login
	AccessToken  TokenKind = "access"  // standing: a service's, or the first admin's
	ResetToken   TokenKind = "reset"   // once, at login, where it ends all the others; it comes by mail
)

// Token is what the catalog knows of a bearer token: its hash, never itself.
type Token struct {
	ID        dataset.TokenID
	Hash      [32]byte // SHA-256 of the secret
	Principal dataset.PrincipalID
	Kind      TokenKind
	CreatedAt time.Time
	Expires   time.Time // zero: no end
	Ended     time.Time // used up, rotated or revoked; zero: good
}

// ItemLink is a short way to one item, for one person and a short time: what the
// catalog knows of it, which is not its secret.
type ItemLink struct {
	ID        dataset.LinkID
	Hash      [32]byte // SHA-256 of the secret
	Principal dataset.PrincipalID
	Token     dataset.TokenID // with which it was made, and with which it ends
	Dataset   dataset.Scope
	Shard     int
	Delivery  dataset.Delivery
	Item      []byte // sealed under the person's key: what of the shard, and for what purpose
	CreatedAt time.Time
	Expires   time.Time
	Ended     time.Time // zero: good until it expires
}

// Device is a registered device key.
type Device struct {
	ID        dataset.DeviceID
	Principal dataset.PrincipalID
	Recipient string // hybrid age recipient
	Name      string
	CreatedAt time.Time
	Removed   time.Time // zero: in use
}

// LeafQuery selects leaves. Zero fields do not restrict.
type LeafQuery struct {
	From      uint64              // first index
	To        uint64              // the index to stop before; 0: the end of the log
	Under     dataset.Scope       // leaves of this scope and of those below it
	Principal dataset.PrincipalID // leaves with details of this person
	Bare      uint16              // with Principal: also leaves of this kind that have nobody's details
	Kinds     []uint16            // leaves of one of these kinds; at most 100
	Decision  uint8               // leaves with this decision
	SinceUS   int64               // leaves not before this time, Unix microseconds
	Limit     int                 // at most this many
}

// GrantQuery selects grants. Zero fields do not restrict.
type GrantQuery struct {
	Under        dataset.Scope // grants at this scope or below it
	At           dataset.Scope // grants that reach this scope: at it or above it
	Principal    dataset.PrincipalID
	IncludeEnded bool            // also those that were revoked; what has merely expired is always included
	After        dataset.GrantID // continue after this one
	Limit        int             // 0: as many as a page has
}

// AssignmentQuery selects assignments. Zero fields do not restrict.
type AssignmentQuery struct {
	Under        dataset.Scope // assignments of datasets at this scope or below it
	Dataset      dataset.DatasetID
	Principal    dataset.PrincipalID
	IncludeEnded bool                 // also those that were ended; what has merely expired is always included
	After        dataset.AssignmentID // continue after this one
	Limit        int                  // 0: as many as a page has
}

// Forgotten is a person who was anonymised. Their key is gone from that moment;
// rows and free pages are cleared away afterwards, until Done.
type Forgotten struct {
	Principal dataset.PrincipalID
	At        time.Time
	About     []uint64 // records of others about them, whose details go too
	Done      bool
}

// RightsRequest is a row of the register of requests.
type RightsRequest struct {
	ID        dataset.RightsID
	Principal dataset.PrincipalID // whose it is
	Kind      dataset.RequestKind
	Identity  dataset.IdentityCheck
	Received  time.Time // the day, at its first moment in UTC
	Due       time.Time // the first moment at which it is overdue
	Extended  time.Time // when; zero: it was not
	OpenedAt  time.Time
	OpenedBy  dataset.PrincipalID
	ClosedAt  time.Time // zero: it is open
	ClosedBy  dataset.PrincipalID
	Outcome   dataset.Outcome
	HandedAt  time.Time // when a copy was handed over for it; zero: none was
	Words     []byte    // reasons and answers, sealed under that person's key
}

// RightsQuery selects requests. Zero fields do not restrict.
type RightsQuery struct {
	Principal dataset.PrincipalID
	Open      bool
	After     dataset.RightsID // continue after this one
	Limit     int              // 0: as many as a page has
}
