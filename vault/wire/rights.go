package wire

import (
	"time"

	"dsvault/vault/dataset"
)

// NewRequest enters a request into the register. Admins do it for those who ask
// by other ways; everybody for themselves, and then it is received now, from
// somebody who has logged in. POST /v1/requests gives RightsRequest.
type NewRequest struct {
	Person   string                `json:"person,omitempty"` // handle; absent: oneself
	Kind     dataset.RequestKind   `json:"kind"`
	Received string                `json:"received,omitempty"` // the day, such as 2027-01-31; absent: today
	Identity dataset.IdentityCheck `json:"identity,omitempty"` // absent: not checked yet
	Reason   string                `json:"reason,omitempty"`   // kept sealed
}

// RightsRequest is one request. GET /v1/requests?person=&open=true&after=&limit=
// gives Page[RightsRequest] without the words: everybody's to admins, to others
// their own. GET /v1/requests/{id} gives one with them.
type RightsRequest struct {
	ID       dataset.RightsID      `json:"id"`
	Person   string                `json:"person"`
	Kind     dataset.RequestKind   `json:"kind"`
	State    string                `json:"state"`    // open or closed
	Received string                `json:"received"` // the day
	Deadline string                `json:"deadline"` // the last day
	Due      time.Time             `json:"due"`      // the first moment after it
	Overdue  bool                  `json:"overdue,omitempty"`
	Extended *time.Time            `json:"extended,omitempty"` // when the deadline was put off
	Identity dataset.IdentityCheck `json:"identity"`
	Opened   time.Time             `json:"opened"`
	OpenedBy string                `json:"opened_by"`
	Closed   *time.Time            `json:"closed,omitempty"`
	ClosedBy string                `json:"closed_by,omitempty"` // who handled it
	Outcome  dataset.Outcome       `json:"outcome,omitempty"`
	Handed   *time.Time            `json:"handed,omitempty"` // when a copy was handed over for it

	Reason    string `json:"reason,omitempty"`
	Extension string `json:"extension,omitempty"` // why the deadline was put off
	Answer    string `json:"answer,omitempty"`
}

// ExtendRequest puts a deadline off by two more months, once and before it has
// passed. POST /v1/requests/{id}/extend gives RightsRequest.
type ExtendRequest struct {
	Reason string `json:"reason"`
}

// CloseRequest ends a request. Whoever has asked can only withdraw.
// POST /v1/requests/{id}/close gives RightsRequest.
type CloseRequest struct {
	Outcome  dataset.Outcome       `json:"outcome"`
	Identity dataset.IdentityCheck `json:"identity,omitempty"` // absent: as it was entered
	Answer   string                `json:"answer,omitempty"`   // kept sealed
}

// NewSubjectExport asks for all that is held about somebody, as a ZIP. It comes
// sealed to the device key of the person, or in clear if Request names a request
// in the register for which a copy is handed over, once.
// POST /v1/people/{handle}/export gives the bytes.
type NewSubjectExport struct {
	Device  dataset.DeviceID `json:"device,omitzero"`  // of the person; absent: the one registered last
	Request dataset.RightsID `json:"request,omitzero"` // hand the copy over in clear for this one
}

// Subject is what somebody has decided about their own data, and what holds for
// it. GET /v1/people/{handle}/rights; POST /v1/people/{handle}/correct takes
// PersonUpdate and gives Person.
type Subject struct {
	Person     string          `json:"person"`
	Name       string          `json:"name,omitempty"`
	Email      string          `json:"email,omitempty"`
	Restricted *time.Time      `json:"restricted,omitempty"` // since when the processing of the data is
	Choices    []SubjectChoice `json:"choices"`
}

// SubjectChoice is a consent to a purpose, or an objection to one.
type SubjectChoice struct {
	Kind    dataset.ChoiceKind `json:"kind"`
	Purpose string             `json:"purpose"`
	At      time.Time          `json:"at"`
	Ended   *time.Time         `json:"ended,omitempty"`
}

// Restriction restricts the processing of somebody's data, or ends that.
// POST /v1/people/{handle}/restrict and …/lift give Subject.
type Restriction struct {
	Reason string `json:"reason,omitempty"` // kept sealed
}

// PurposeChoice is about one purpose. POST /v1/people/{handle}/object (or, with
// end, taking the objection back), and POST /v1/people/{handle}/consent (or, with
// end, its withdrawal) give Subject.
type PurposeChoice struct {
	Purpose string `json:"purpose"`
	End     bool   `json:"end,omitempty"`
	Reason  string `json:"reason,omitempty"` // kept sealed
}

// Deleted says what became of somebody who was deleted, and what is kept and
// why. POST /v1/people/{handle}/delete; for oneself it enters a request for
// erasure, which an admin answers.
type Deleted struct {
	Anonymized *Anonymized    `json:"anonymized,omitempty"`
	Request    *RightsRequest `json:"request,omitempty"`
	Kept       []Kept         `json:"kept"`
}

// Kept is something that stays when somebody is deleted.
type Kept struct {
	What  string `json:"what"`
	Count int    `json:"count,omitempty"` // absent: all of them
	Why   string `json:"why"`
}
