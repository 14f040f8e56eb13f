package dataset

import (
	"slices"
	"time"

	"dsvault/vault/fault"
)

// Role is what a grant gives. The list is closed.
type Role string

const (
	Admin      Role = "admin"
	ClientUser Role = "client"
	Reviewer   Role = "reviewer"
	Labeler    Role = "labeler"
	Contractor Role = "contractor"
	Auditor    Role = "auditor"
	Service    Role = "service"
)

// Roles lists every role in the order in which bit sets number them.
var Roles = [...]Role{Admin, ClientUser, Reviewer, Labeler, Contractor, Auditor, Service}

// ParseRole reads a role's name.
func ParseRole(s string) (Role, error) {
	for _, r := range Roles {
		if string(r) == s {
			return r, nil
		}
	}
	return "", fault.New(fault.Invalid, "dataset.ParseRole", "no such role").
		WithHint("roles are admin, client, reviewer, labeler, contractor, auditor and service")
}

// Delivery is how data leaves the vault. The list is closed. Sealed is always
// allowed; a project lists which of the others it allows.
type Delivery string

const (
	Sealed Delivery = "sealed" // to the reader's device key; the server does not decrypt
	Opened Delivery = "opened" // in clear, decrypted by the server while it streams
	Direct Delivery = "direct" // sealed, its ciphertext straight from the object store
)

// Deliveries lists every way.
var Deliveries = [...]Delivery{Sealed, Opened, Direct}

// ParseDelivery reads the name of a way of delivery.
func ParseDelivery(s string) (Delivery, error) {
	for _, d := range Deliveries {
		if string(d) == s {
			return d, nil
		}
	}
	return "", fault.New(fault.Invalid, "dataset.ParseDelivery", "no such way of delivery").
		WithHint("ways are sealed, opened and direct")
}

// Legal is the purpose of a read that a law requires. It is no purpose like the
// others: two people have to agree on each such disclosure.
const Legal = "legal"

// State is a dataset's state of processing; exactly one holds at a time.
type State string

const (
	Active     State = "active"     // in use
	Restricted State = "restricted" // processing paused on request; reading stays possible for its owner
	Held       State = "hold"       // legal hold: nothing may be deleted or changed
	Expired    State = "expired"    // past its retention: nobody reads it
	Erased     State = "erased"     // its keys are destroyed: nobody can read it
)

// Grant gives a principal a role at a scope and below, until a time.
type Grant struct {
	ID        GrantID
	Principal PrincipalID
	Role      Role
	Scope     Scope
	Until     time.Time // zero: no end
	Reason    string
	By        PrincipalID // who granted it
	At        time.Time
	Revoked   time.Time // zero: in force

	ApprovedBy PrincipalID // the second person; zero: nobody
}

// InForce reports whether the grant holds at now; Until itself is outside.
func (g Grant) InForce(now time.Time) bool {
	return g.Revoked.IsZero() && (g.Until.IsZero() || now.Before(g.Until))
}

// Assignment gives a principal certain shards of a dataset, until a time.
type Assignment struct {
	ID        AssignmentID
	Principal PrincipalID
	Dataset   DatasetID
	Scope     Scope // of the dataset
	Shards    ShardSet
	Until     time.Time   // zero: no end
	By        PrincipalID // zero for a claim
	At        time.Time
	Ended     time.Time // zero: in force

	ApprovedBy PrincipalID // the second person; zero: nobody
	Claim      bool        // the principal took it under a lease that ends at Until
}

// InForce reports whether the assignment holds at now; Until itself is outside.
func (a Assignment) InForce(now time.Time) bool {
	return a.Ended.IsZero() && (a.Until.IsZero() || now.Before(a.Until))
}

// Agreement is one version of a confidentiality text.
type Agreement struct {
	Name    string // for example "nda"
	Version int    // 1, 2, …
	Hash    [32]byte
	Text    []byte
	By      PrincipalID
	At      time.Time
	Grace   time.Time // until when signatures of older versions count; zero: not from At on
}

// Basis is what lets data be read from another region than its own.
type Basis string

const (
	BasisNone     Basis = "none-needed" // the project asks for no region, or the reader is in it
	BasisAdequacy Basis = "adequacy"    // the region's protection was found adequate
	BasisSCC      Basis = "scc"         // standard contractual clauses, which have a reference
)

// Bases lists every basis that can be named for a region.
var Bases = [...]Basis{BasisAdequacy, BasisSCC}

// Code is the basis's number in leaves; 0 for what is none.
func (b Basis) Code() uint64 {
	return map[Basis]uint64{BasisNone: 1, BasisAdequacy: 2, BasisSCC: 3}[b]
}

// BasisOf is the reverse of Code; empty for an unknown number.
func BasisOf(code uint64) Basis {
	for _, b := range append([]Basis{BasisNone}, Bases[:]...) {
		if b.Code() == code {
			return b
		}
	}
	return ""
}

// ParseBasis reads the name of a basis for a region.
func ParseBasis(s string) (Basis, error) {
	if b := Basis(s); slices.Contains(Bases[:], b) {
		return b, nil
	}
	return "", fault.New(fault.Invalid, "dataset.ParseBasis", "no such transfer basis").WithHint("bases are adequacy and scc")
}

// Transfer is the basis on which people of another region may read.
type Transfer struct {
	Region    string `json:"region"` // theirs
	Basis     Basis  `json:"basis"`
	Reference string `json:"reference,omitempty"` // to the clauses
}

// Signature is a person's acceptance of one version of an agreement.
type Signature struct {
	Principal PrincipalID
	Agreement string
	Version   int
	Hash      [32]byte // of the text that was shown
	At        time.Time
	Until     time.Time // zero: no end
	Withdrawn time.Time // zero: in force
}

// InForce reports whether the signature holds at now; Until itself is outside.
func (s Signature) InForce(now time.Time) bool {
	return s.Withdrawn.IsZero() && (s.Until.IsZero() || now.Before(s.Until))
}
