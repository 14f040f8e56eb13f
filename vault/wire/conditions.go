package wire

import (
	"time"

	"dsvault/vault/dataset"
)

// Limits of a scope's conditions.
const (
	MaxRequires      = 20
	MaxHours         = 20
	MaxNetworks      = 100
	MaxTransfers     = 100
	MaxContractorMax = 10 * 366 * 24 * time.Hour
	MaxGrace         = 366 * 24 * time.Hour
)

// Conditions are what a scope asks of those who read at it and below it. Those
// of the scopes above hold too: all of them together.
// GET /v1/conditions?scope=SCOPE
type Conditions struct {
	Scope              dataset.Scope      `json:"scope"`
	Requires           []string           `json:"requires"`                      // agreements, of every reader but the owner
	ContractorMax      int64              `json:"contractor_max,omitempty"`      // seconds that a contractor's grant may last; 0: no limit
	ContractorDelivery []dataset.Delivery `json:"contractor_delivery,omitempty"` // of a project: ways besides sealed for contractors
	Hours              []string           `json:"hours,omitempty"`               // in which contractors may read
	Networks           []string           `json:"networks,omitempty"`            // from which contractors may read
	Transfers          []dataset.Transfer `json:"transfers,omitempty"`           // on which bases people of other regions may read
	Pending            *Approval          `json:"pending,omitempty"`             // of a change at a sensitive project: it takes effect when another admin approves
	Above              []Conditions       `json:"above,omitempty"`               // of the scopes that contain this one, the vault's first
}

// ConditionsUpdate changes conditions; what is absent stays as it is. An empty
// list or 0 takes a condition away. PATCH /v1/conditions?scope=SCOPE gives
// Conditions. It can also come with NewClient, NewProject and ProjectUpdate.
type ConditionsUpdate struct {
	Requires           *[]string           `json:"requires,omitempty"`
	ContractorMax      *int64              `json:"contractor_max,omitempty"` // seconds
	ContractorDelivery *[]dataset.Delivery `json:"contractor_delivery,omitempty"`
	Hours              *[]string           `json:"hours,omitempty"`    // such as "Mon-Fri 08:00-18:00 Europe/Berlin"
	Networks           *[]string           `json:"networks,omitempty"` // such as "192.0.2.0/24"
	Transfers          *[]dataset.Transfer `json:"transfers,omitempty"`
}

// SignatureStatus says how a person stands to an agreement.
// GET /v1/signatures?person=&after=&limit= gives Page[SignatureStatus]:
// everybody's for those who may read all grants, otherwise the caller's own. An
// agreement is listed for whoever has to have signed it, or ever did.
type SignatureStatus struct {
	Person    string           `json:"person"`
	Agreement string           `json:"agreement"`
	State     SignatureState   `json:"state"`
	Newest    int              `json:"newest"`            // version; 0: never published
	Required  bool             `json:"required"`          // of this person, somewhere
	Version   int              `json:"version,omitempty"` // that was signed last; 0: none
	SHA256    dataset.HexBytes `json:"sha256,omitempty"`  // of its text
	At        *time.Time       `json:"at,omitempty"`
	Until     *time.Time       `json:"until,omitempty"`  // as signed
	Counts    *time.Time       `json:"counts,omitempty"` // until when it counts, if that ends
}

// SignatureState is one word for it.
type SignatureState string

const (
	SignatureInForce     SignatureState = "in-force"
	SignatureGrace       SignatureState = "grace"     // an older version, which counts for a while yet
	SignatureOutdated    SignatureState = "outdated"  // an older version, which counts no more
	SignatureExpired     SignatureState = "expired"   // its time is over
	SignatureWithdrawn   SignatureState = "withdrawn" //
	SignatureNone        SignatureState = "unsigned"
	AgreementUnpublished SignatureState = "unpublished" // there is no text to sign
)

// InForce reports whether it lets its person read.
func (s SignatureStatus) InForce() bool {
	return s.State == SignatureInForce || s.State == SignatureGrace
}
