package wire

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"dsvault/vault/dataset"
)

// PresignedURL is a URL that the object store takes as proof of a right, for a short
// time. It is a secret: only its JSON shows it, and only that of the answer. The pointer
// is there because fmt follows hidden fields of others, where it cannot call Format.
type PresignedURL struct{ url *string }

// NewPresignedURL is for the server.
func NewPresignedURL(url string) PresignedURL { return PresignedURL{&url} }

// Expose gives the URL, for whoever is to use it.
func (u PresignedURL) Expose() string {
	if u.url == nil {
		return ""
	}
	return *u.url
}

const hiddenURL = "[presigned]"

func (PresignedURL) String() string                { return hiddenURL }
func (PresignedURL) GoString() string              { return hiddenURL }
func (PresignedURL) Format(f fmt.State, verb rune) { io.WriteString(f, hiddenURL) }
func (PresignedURL) LogValue() slog.Value          { return slog.StringValue(hiddenURL) }

// MarshalText and UnmarshalText are for the answer's JSON.
func (u PresignedURL) MarshalText() ([]byte, error)  { return []byte(u.Expose()), nil }
func (u *PresignedURL) UnmarshalText(b []byte) error { *u = NewPresignedURL(string(b)); return nil }

// Presigned is one request that the object store takes without credentials. Header
// goes along as it is.
type Presigned struct {
	URL     PresignedURL      `json:"url"`
	Header  map[string]string `json:"header,omitempty"`
	Expires time.Time         `json:"expires"`
}

// LogValue hides what slog would marshal.
func (Presigned) LogValue() slog.Value { return slog.StringValue(hiddenURL) }

// DirectUpload says how the sealed bytes of an attempt go straight to the object
// store: in Parts parts of PartSize bytes, the last one as large as it comes.
// POST /v1/datasets/…/uploads/{attempt}/direct gives it, in place of PUT
// /v1/datasets/…/uploads/{attempt}.
type DirectUpload struct {
	PartSize int64 `json:"part_size"`
	Parts    int   `json:"parts"`
}

// Parts announces parts that are about to be put, at most MaxPresigned. What was
// announced under one number never changes.
// POST /v1/datasets/…/uploads/{attempt}/parts gives PresignedParts: a PUT for each,
// in this order. POST /v1/datasets/…/uploads/{attempt}/joined says that all have
// been put, and gives Stored.
type Parts struct {
	Parts []Part `json:"parts"`
}

// MaxPresigned is how many presigned URLs one request gets.
const MaxPresigned = 100

// Part is one part of an attempt's sealed bytes.
type Part struct {
	Number int              `json:"number"` // from 1
	SHA256 dataset.HexBytes `json:"sha256"`
}

// PresignedParts answers Parts.
type PresignedParts struct {
	Presigned []Presigned `json:"presigned"`
}

// DirectRead is a shard whose payload comes straight from the object store: an
// age file is Header, and then the bytes of the object from Offset on, Size of
// them. They are pinned with If-Match and the ETag.
// GET /v1/datasets/…/shards/{n}/direct, with the headers of …/sealed both ways,
// gives it.
type DirectRead struct {
	Header   []byte    `json:"header"`   // sealed to the device key
	Manifest []byte    `json:"manifest"` // likewise, whole
	Offset   int64     `json:"offset"`
	Size     int64     `json:"size"`
	ETag     string    `json:"etag"` // without quotes
	Object   Presigned `json:"object"`
}
