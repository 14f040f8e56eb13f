package storage

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"
)

// PresignedLife is how long a presigned URL holds. A request that has begun by
// then may take longer.
const PresignedLife = 5 * time.Minute

// Part is one part of an upload in parts.
type Part struct {
	Size   int64 // bytes
	SHA256 [32]byte
}

// Direct is an optional power of an object store: to let somebody who has none
// of its credentials move the bytes of one object, by presigned URLs. Only sealed
// bytes go this way.
//
// An upload in parts is visible under its key after FinishParts, not before.
// From then on, and after AbortParts, presigned URLs of its parts are
// worthless: nobody who still has one changes the object.
type Direct interface {
	// StartParts begins an upload to key and gives its ID.
	StartParts(ctx context.Context, key string) (upload string, err error)

	// PresignPart signs a PUT of part n, from 1 to 10,000, with these bytes. All
	// parts but the last have at least 5 MiB.
	PresignPart(ctx context.Context, key, upload string, n int, sum [32]byte) (Presigned, error)

	// FinishParts makes the object of parts 1 to len(parts), and checks that
	// they are those that were put: fault.Invalid if not, and then there is no
	// object. It takes the server's word only for what the server is known to
	// check, and reads the object back otherwise. If the store fails at the last
	// step the object may be there all the same: make another attempt.
	FinishParts(ctx context.Context, key, upload string, parts []Part) (Object, error)

	// AbortParts ends an upload and removes its parts. One that has ended
	// already, either way, is no error.
	AbortParts(ctx context.Context, key, upload string) error

	// PresignObject signs a GET of the object, also of a range of it. Whoever uses
	// it pins the ETag with If-Match, and looks at that of the answer.
	PresignObject(ctx context.Context, key string) (Presigned, error)
}

// Presigned is the right to make one request for a short time. It is a secret: every
// way of printing it, also %#v, JSON and slog, gives "[presigned]".
type Presigned struct {
	url     *string     // a pointer since fmt follows hidden fields of others, where it cannot call Format
	Header  http.Header // goes along with the request, as it is
	Expires time.Time
}

// NewPresigned is for stores.
func NewPresigned(url string, header http.Header, expires time.Time) Presigned {
	return Presigned{url: &url, Header: header, Expires: expires}
}

// Expose gives the URL, for whoever is to have it.
func (l Presigned) Expose() string {
	if l.url == nil {
		return ""
	}
	return *l.url
}

const hiddenURL = "[presigned]"

func (Presigned) String() string                { return hiddenURL }
func (Presigned) GoString() string              { return hiddenURL }
func (Presigned) Format(f fmt.State, verb rune) { io.WriteString(f, hiddenURL) }
func (Presigned) MarshalText() ([]byte, error)  { return []byte(hiddenURL), nil }
func (Presigned) LogValue() slog.Value          { return slog.StringValue(hiddenURL) }
