// Package wire is what travels between server and client: the JSON shapes of
// each request and answer, the paths and headers, and the one table that turns
// an error's code into an HTTP status and back. Server, client and command
// line all use these types, so the three cannot drift apart.
//
// Times are RFC 3339 in UTC; an absent time means "no end" or "never".
package wire

import (
	"time"

	"dsvault/vault/dataset"
)

// Limits of what a request may carry.
const (
	MaxJSON      = 1 << 20   // bytes of a JSON body
	MaxAgreement = 512 << 10 // bytes of an agreement's text
	MaxReason    = 500       // bytes of a reason
	MaxPage      = 1000      // rows of one page
	MaxShard     = 64 << 30  // bytes of one sealed shard
	MaxProfile   = 200       // bytes of a field of a profile
)

// Headers that are not standard ones.
const (
	HeaderRequestID = "X-Request-Id"     // request: ignored; answer: the ID in the log
	HeaderPurpose   = "Dsvault-Purpose"  // request: what this read is for
	HeaderDevice    = "Dsvault-Device"   // request: the device key to seal to
	HeaderManifest  = "Dsvault-Manifest" // answer: the shard's manifest, sealed to the device, base64
	HeaderLeaf      = "Dsvault-Leaf"     // answer: INDEX:HASH of the read's leaf in the log
	HeaderName      = "Dsvault-Name"     // request: the plain file's name, percent-encoded
)

// Login registers a device key and, when the credential was an invitation,
// exchanges it for a session token. POST /v1/login
type Login struct {
	DeviceName string `json:"device_name"`
	Recipient  string `json:"recipient"` // hybrid age recipient
}

// LoggedIn answers Login. Token is set only when a new one was made.
type LoggedIn struct {
	Token     string           `json:"token,omitempty"`
	Expires   *time.Time       `json:"expires,omitempty"`
	Ended     int              `json:"ended,omitempty"` // other tokens, by that of a reset mail
	Device    dataset.DeviceID `json:"device"`
	Whoami    Whoami           `json:"whoami"`
	LogOrigin string           `json:"log_origin"` // the log's name in its checkpoints
	LogKey    string           `json:"log_key"`    // its note verifier key; the client pins it
	// LogSuccessions lead from an older key to that one.
	LogSuccessions [][]byte `json:"log_successions,omitempty"`
}

// Whoami describes the caller. GET /v1/whoami
type Whoami struct {
	Principal dataset.PrincipalID `json:"principal"`
	Handle    string              `json:"handle"`
	Service   bool                `json:"service,omitempty"`
	Name      string              `json:"name,omitempty"`
	Email     string              `json:"email,omitempty"`
	Phone     string              `json:"phone,omitempty"`
	Company   string              `json:"company,omitempty"`
	JobTitle  string              `json:"job_title,omitempty"`
	Region    string              `json:"region,omitempty"`
	Grants    []Grant             `json:"grants"`
	Devices   []Device            `json:"devices"`
	Signed    []Signature         `json:"signed"`

	// The caller's own breakings of the glass that are in force or wait for a
	// review, and how many of others wait for one that the caller may make.
	BreakGlass []BreakGlass `json:"break_glass,omitempty"`
	ToReview   int          `json:"to_review,omitempty"`
}

// Device is a registered device key.
type Device struct {
	ID        dataset.DeviceID `json:"id"`
	Name      string           `json:"name"`
	Recipient string           `json:"recipient"`
	Created   time.Time        `json:"created"`
}

// NewClient creates a client. POST /v1/clients
type NewClient struct {
	Scope      dataset.Scope    `json:"scope"`
	Conditions ConditionsUpdate `json:"conditions,omitzero"`
}

// NewProject creates a project. POST /v1/projects
type NewProject struct {
	Scope     dataset.Scope `json:"scope"`
	Purposes  []string      `json:"purposes"`
	Consent   []string      `json:"consent,omitempty"` // of these, those that rest on the reader's consent
	Region    string        `json:"region,omitempty"`
	Sensitive bool          `json:"sensitive,omitempty"`
	Contract  string        `json:"contract,omitempty"`

	Claims     bool               `json:"claims,omitempty"`   // annotators may claim shards
	Delivery   []dataset.Delivery `json:"delivery,omitempty"` // ways that are allowed besides sealed
	Conditions ConditionsUpdate   `json:"conditions,omitzero"`
}

// Entry is one line of a listing: a client, a project or a dataset.
// GET /v1/scopes?under=SCOPE&after=SCOPE&limit=N gives Page[Entry].
type Entry struct {
	Scope    dataset.Scope `json:"scope"`
	Kind     string        `json:"kind"` // client, project, dataset
	Created  time.Time     `json:"created"`
	Purposes []string      `json:"purposes,omitempty"`
	Consent  []string      `json:"consent,omitempty"` // of these, those that rest on the reader's consent
	Region   string        `json:"region,omitempty"`

	Delivery  []dataset.Delivery `json:"delivery,omitempty"` // besides sealed
	Sensitive bool               `json:"sensitive,omitempty"`
	Claims    bool               `json:"claims,omitempty"` // annotators may claim shards

	State    dataset.State `json:"state,omitempty"`
	Complete bool          `json:"complete,omitempty"`
	Version  int           `json:"version,omitempty"`  // the newest
	Shards   int           `json:"shards,omitempty"`   // of the newest version
	Size     int64         `json:"size,omitempty"`     // plaintext, bytes
	Assigned string        `json:"assigned,omitempty"` // the caller's own shards, for annotators

	BreakGlass *time.Time `json:"break_glass,omitempty"` // until when the glass is broken here

	Pending *Approval  `json:"pending,omitempty"` // of a change of terms: it takes effect when another admin approves
	Expires *time.Time `json:"expires,omitempty"` // the end of a dataset's retention; a hold delays it
	Held    bool       `json:"held,omitempty"`    // a legal hold is in force here or above
}

// Page is one page of a listing; Next continues it and is empty at the end.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
}

// NewPerson invites a person or makes a service. POST /v1/people
type NewPerson struct {
	Handle   string `json:"handle"`
	Email    string `json:"email,omitempty"`
	Name     string `json:"name,omitempty"`
	Phone    string `json:"phone,omitempty"`
	Company  string `json:"company,omitempty"`
	JobTitle string `json:"job_title,omitempty"`
	Region   string `json:"region,omitempty"`
	Service  bool   `json:"service,omitempty"`
	Mail     bool   `json:"mail,omitempty"` // send the token to Email, and show it to nobody
}

// Person is a principal as admins see it. GET /v1/people gives Page[Person];
// DELETE /v1/people/{handle} disables one, for good, and gives Revoked.
type Person struct {
	ID         dataset.PrincipalID `json:"id"`
	Handle     string              `json:"handle"`
	Service    bool                `json:"service,omitempty"`
	Name       string              `json:"name,omitempty"`
	Email      string              `json:"email,omitempty"`
	Phone      string              `json:"phone,omitempty"`
	Company    string              `json:"company,omitempty"`
	JobTitle   string              `json:"job_title,omitempty"`
	Region     string              `json:"region,omitempty"`
	Disabled   *time.Time          `json:"disabled,omitempty"`
	Restricted *time.Time          `json:"restricted,omitempty"` // then only the handle is shown to others
	Created    time.Time           `json:"created"`
}

// NewToken answers an invitation or a rotation; the token is shown once.
// POST /v1/people and POST /v1/people/{handle}/token ("me" for oneself)
type NewToken struct {
	Person  Person     `json:"person"`
	Token   string     `json:"token,omitempty"`
	Kind    string     `json:"kind"` // invite, session, access
	Expires *time.Time `json:"expires,omitempty"`
	Mailed  bool       `json:"mailed,omitempty"` // the token is on its way by mail, and not here
}

// Publish makes a new version of an agreement. POST /v1/agreements
type Publish struct {
	Name  string `json:"name"`
	Text  string `json:"text"`
	Grace int64  `json:"grace,omitempty"` // seconds for which signatures of older versions count
}

// Agreement is one version. GET /v1/agreements gives Page[Agreement] without
// texts; GET /v1/agreements/{name} the newest with its text.
type Agreement struct {
	Name    string           `json:"name"`
	Version int              `json:"version"`
	SHA256  dataset.HexBytes `json:"sha256"`
	At      time.Time        `json:"at"`
	Grace   *time.Time       `json:"grace,omitempty"` // until when signatures of older versions count
	Text    string           `json:"text,omitempty"`
}

// Sign accepts one version of an agreement, for the caller. The hash is that
// of the text that was shown. POST /v1/agreements/{name}/signatures; DELETE
// …?person=me, or for admins a handle, withdraws them and gives Revoked.
type Sign struct {
	Version int              `json:"version"`
	SHA256  dataset.HexBytes `json:"sha256"`
	Until   *time.Time       `json:"until,omitempty"`
}

// Signature is a person's acceptance.
type Signature struct {
	Agreement string           `json:"agreement"`
	Version   int              `json:"version"`
	SHA256    dataset.HexBytes `json:"sha256"`
	Person    string           `json:"person"`
	At        time.Time        `json:"at"`
	Until     *time.Time       `json:"until,omitempty"`
}

// Grant gives a role, or reports one. POST /v1/grants; GET
// /v1/grants?scope=SCOPE&after=&limit= gives Page[Grant]; DELETE
// /v1/grants?role=&person=&scope= revokes and gives Revoked.
type Grant struct {
	Role   dataset.Role  `json:"role"`
	Person string        `json:"person"` // handle
	Scope  dataset.Scope `json:"scope"`
	Until  *time.Time    `json:"until,omitempty"`
	Reason string        `json:"reason,omitempty"`
	By     string        `json:"by,omitempty"` // handle; answers only
	At     *time.Time    `json:"at,omitempty"` // answers only

	Pending *Approval `json:"pending,omitempty"` // answers only: it takes effect when another admin approves
}

// Revoked says how much a revocation or an unassignment ended.
type Revoked struct {
	Ended    int    `json:"ended"`
	Revision uint64 `json:"revision"`
}

// Assignment gives shards to a person, or reports that. POST /v1/assignments;
// GET /v1/assignments?scope=&person=&after=&limit= gives Page[Assignment];
// DELETE /v1/assignments?dataset=&person=&shards= ends (shards absent: all)
// and gives Revoked.
type Assignment struct {
	Dataset dataset.Scope    `json:"dataset"`
	Person  string           `json:"person"`
	Shards  dataset.ShardSet `json:"shards"`
	Until   *time.Time       `json:"until,omitempty"`
	By      string           `json:"by,omitempty"`
	At      *time.Time       `json:"at,omitempty"`
	Pending *Approval        `json:"pending,omitempty"` // answers only, as in Grant
	Claim   bool             `json:"claim,omitempty"`   // answers only: taken with a claim
}

// Dataset describes a dataset. PUT /v1/datasets/{client}/{project}/{dataset}
// creates it or gives the one that is there; GET gives it. PUT …/file takes a
// plain file over TLS, seals it while it streams, makes it the one shard of the
// dataset's next version, and gives Dataset.
type Dataset struct {
	ID        dataset.DatasetID `json:"id"`
	Scope     dataset.Scope     `json:"scope"`
	State     dataset.State     `json:"state"`
	Recipient string            `json:"recipient"`         // seal shards to this
	Salt      dataset.HexBytes  `json:"salt,omitempty"`    // keys fingerprints; uploaders only
	Complete  bool              `json:"complete"`          // it has a version
	Version   int               `json:"version,omitempty"` // the newest
	Shards    int               `json:"shards"`            // of the newest version; committed ones if there is none
	Size      int64             `json:"size"`              // plaintext, bytes
	Sealed    int64             `json:"sealed"`            // stored, bytes
	Created   time.Time         `json:"created"`
}

// Shard is one committed shard as its owner sees it.
// GET /v1/datasets/…/shards?after=N&limit= gives Page[Shard].
type Shard struct {
	Number      int              `json:"number"`
	Size        int64            `json:"size"`   // plaintext, bytes
	Sealed      int64            `json:"sealed"` // object, bytes
	SHA256      dataset.HexBytes `json:"sha256"` // of the object
	Fingerprint dataset.HexBytes `json:"fingerprint,omitempty"`
	Start       dataset.HexBytes `json:"start,omitempty"`   // as the uploader gave it
	Version     int              `json:"version,omitempty"` // the first version that has it; 0: none yet
	Index       bool             `json:"index,omitempty"`   // its members can be listed
	Committed   time.Time        `json:"committed"`
}

// NewUpload starts an attempt at one shard. POST /v1/datasets/…/shards/{n}/uploads
type NewUpload struct {
	Fingerprint dataset.HexBytes `json:"fingerprint"` // 32 bytes
	Size        int64            `json:"size"`        // plaintext, bytes
	Push        int              `json:"push,omitempty"`
	Start       dataset.HexBytes `json:"start,omitempty"` // keyed hash of what it begins with, at most 32 bytes
}

// Upload is an attempt. Its sealed bytes go to PUT
// /v1/datasets/…/uploads/{attempt} as the body, with Content-Length, and the
// sealed manifest follows in Commit. The sealed index goes to PUT …/index below
// that, before Commit; a shard without one has members that cannot be listed.
// Both PUTs answer Stored. With a PartSize the SHA-256 of the sealed bytes, in
// Stored, Commit and Shard, is over the SHA-256 of every so many bytes.
type Upload struct {
	Attempt  dataset.AttemptID `json:"attempt"`
	Number   int               `json:"number"`
	PartSize int64             `json:"part_size,omitempty"`
}

// Stored is what the server has of an attempt's bytes.
type Stored struct {
	Attempt dataset.AttemptID `json:"attempt"`
	Sealed  int64             `json:"sealed"`
	SHA256  dataset.HexBytes  `json:"sha256"`
}

// Commit makes an attempt the shard. SHA256 is of the sealed bytes, as the
// client sent them. POST /v1/datasets/…/uploads/{attempt}/commit gives Shard.
type Commit struct {
	SHA256   dataset.HexBytes `json:"sha256"`
	Manifest []byte           `json:"manifest"`        // sealed to the dataset's recipient
	Index    dataset.HexBytes `json:"index,omitempty"` // SHA-256 of the sealed index, if one was sent
}

// Decision answers GET /v1/can?person=&action=&object=&purpose=&delivery=
type Decision struct {
	Allowed  bool     `json:"allowed"`
	Rule     string   `json:"rule,omitempty"`
	Reasons  []string `json:"reasons,omitempty"`
	Facts    []string `json:"facts"`
	Roles    []string `json:"roles"`
	Revision uint64   `json:"revision"`
	Policy   string   `json:"policy"`         // content hash
	Hint     string   `json:"hint,omitempty"` // of a refusal: what would help
}

// Record is one line of the log as people read it, with the leaf itself so
// that the reader can verify. GET
// /v1/log?under=SCOPE&actor=&since=&after=INDEX&limit= gives Page[Record].
type Record struct {
	Index    uint64            `json:"index"`
	Hash     dataset.HexBytes  `json:"hash"`
	Time     time.Time         `json:"time"`
	Kind     string            `json:"kind"`
	Decision string            `json:"decision,omitempty"`
	Actor    string            `json:"actor,omitempty"`  // handle, or the pseudonym in the leaf
	Object   string            `json:"object,omitempty"` // scope or shard, where it still resolves
	Reason   string            `json:"reason,omitempty"` // rule, or why it was refused
	Detail   map[string]string `json:"detail,omitempty"` // the leaf's extension fields, as text
	Slot     uint64            `json:"slot"`
	Leaf     []byte            `json:"leaf"`               // the encoded leaf
	Salt     []byte            `json:"salt,omitempty"`     // of the commitment
	Personal []byte            `json:"personal,omitempty"` // what was committed to, JSON
}
