package client

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"

	"golang.org/x/mod/sumdb/note"

	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// ListLog writes a file with records of the log to w and gives what the log
// signed of it, checked with the pinned key and against what was written. The
// format is wire.FormatJSONL or wire.FormatCSV. If it fails, w has part of a
// file.
func (c *Client) ListLog(ctx context.Context, under dataset.Scope, filter LogFilter, format string, pin LogPin, w io.Writer) ([]byte, audit.Listing, error) {
	q := filter.query(under)
	asked := q.Encode()
	q.Set("format", format)
	return c.signedFile(ctx, request{op: "client.ListLog", method: http.MethodGet, path: logPath + "/listing", query: q}, asked, format, pin, w)
}

// signedFile writes a file to w whose signed note follows it, and compares the
// two, and what was asked for.
func (c *Client) signedFile(ctx context.Context, r request, asked, format string, pin LogPin, w io.Writer) ([]byte, audit.Listing, error) {
	resp, err := c.send(ctx, r)
	if err != nil {
		return nil, audit.Listing{}, err
	}
	defer resp.Body.Close()
	sum := sha256.New()
	var got audit.Listing
	if got.Bytes, err = io.Copy(io.MultiWriter(w, sum), resp.Body); err != nil {
		return nil, got, err
	}
	sum.Sum(got.SHA256[:0])
	data, err := base64.StdEncoding.DecodeString(resp.Trailer.Get(wire.HeaderListing))
	if err != nil || len(data) == 0 {
		return nil, got, fault.New(fault.Unavailable, r.op, "the signature did not come with the records").
			WithHint("a proxy in between drops HTTP trailers: ask the operator to let them through")
	}
	signed, err := OpenListing(data, pin)
	if err == nil && (signed.SHA256 != got.SHA256 || signed.Bytes != got.Bytes || signed.Query != asked || signed.Format != format) {
		err = Failed(&audit.VerifyError{Check: audit.CheckListing, Index: -1, Detail: "what was signed is not what was asked for and sent"})
	}
	return data, signed, err
}

// OpenListing reads the note of a listing, signed by the pinned log.
func OpenListing(data []byte, pin LogPin) (audit.Listing, error) {
	var keys []note.Verifier
	for _, text := range append([]string{pin.Key}, pin.Older...) {
		key, err := note.NewVerifier(text)
		if err != nil {
			return audit.Listing{}, badKey("the log's key", err)
		}
		keys = append(keys, key)
	}
	l, err := audit.OpenListing(data, keys...)
	if err == nil && l.Origin != pin.Origin {
		err = &audit.VerifyError{Check: audit.CheckListing, Index: -1, Detail: "it is of another log"}
	}
	if err != nil {
		return l, Failed(err)
	}
	return l, nil
}
