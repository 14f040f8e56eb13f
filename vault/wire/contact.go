package wire

import "time"

// PersonUpdate changes a profile; what is absent stays as it is, and an empty
// text takes the field away. PATCH /v1/people/{handle} ("me" for oneself) gives
// Person, and so does GET.
type PersonUpdate struct {
	Name     *string `json:"name,omitempty"`
	Email    *string `json:"email,omitempty"`
	Phone    *string `json:"phone,omitempty"`
	Company  *string `json:"company,omitempty"`
	JobTitle *string `json:"job_title,omitempty"`
}

// ResetLife is how long the token in a reset mail holds.
const ResetLife = 30 * time.Minute

// NewReset asks for a one-time token by mail, for whoever has this address.
// POST /v1/resets, without a credential, gives ResetAsked, the same whether or
// not anybody has the address.
type NewReset struct {
	Email string `json:"email"`
}

// ResetAsked says that the request was taken.
type ResetAsked struct {
	Asked bool `json:"asked"`
}
