package wire

import "dsvault/vault/dataset"

// ProjectUpdate changes a project's terms; what is absent stays as it is. An
// empty list or text takes the term away.
// PATCH /v1/projects/{client}/{project} gives Entry.
type ProjectUpdate struct {
	Purposes  *[]string           `json:"purposes,omitempty"`
	Consent   *[]string           `json:"consent,omitempty"` // of the purposes, those that rest on the reader's consent
	Region    *string             `json:"region,omitempty"`
	Sensitive *bool               `json:"sensitive,omitempty"`
	Contract  *string             `json:"contract,omitempty"`
	Delivery  *[]dataset.Delivery `json:"delivery,omitempty"` // besides sealed, which always is allowed
	Claims    *bool               `json:"claims,omitempty"`   // whether annotators may claim shards

	Conditions ConditionsUpdate `json:"conditions,omitzero"`
}
