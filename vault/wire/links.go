package wire

import (
	"time"

	"dsvault/vault/dataset"
)

// LinkPath is where a link is used: GET or HEAD /v1/linked/SECRET, without any
// other credential. What is hidden, absent, ended or mistyped is all the same
// NotFound there.
const LinkPath = "/v1/linked/"

// How long a link may last.
const (
	LinkLife    = 15 * time.Minute // if nothing is said
	MaxLinkLife = 24 * time.Hour
)

// NewLink makes a link to an item for the caller. POST /v1/links gives Link
// with its secret.
type NewLink struct {
	Shard   string `json:"shard"`             // DATASET/NUMBER
	Member  string `json:"member,omitempty"`  // path of a file in the shard; absent: the whole shard
	Seconds int    `json:"seconds,omitempty"` // that it is to last; 0: LinkLife
	Purpose string `json:"purpose,omitempty"`
}

// Link is a short way to one item: whoever has its secret reads the item in the
// name of the person who made it, as long as that person may, until it ends.
// GET /v1/links?after=&limit= gives Page[Link] of the caller's own that hold,
// without secrets; DELETE /v1/links/{id} ends one and gives Revoked.
type Link struct {
	ID      dataset.LinkID `json:"id"`
	Shard   string         `json:"shard"`
	Member  string         `json:"member,omitempty"`
	Purpose string         `json:"purpose,omitempty"`
	Created time.Time      `json:"created"`
	Until   time.Time      `json:"until"`
	Secret  string         `json:"secret,omitempty"` // shown once
}
