package storagetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"dsvault/storage"
	"dsvault/vault/fault"
)

// Direct runs the tests that every object store with that power has to pass.
// open gives a store with no objects in it, another one for each call.
func Direct(t *testing.T, open func(t *testing.T) storage.Objects) {
	for _, test := range []struct {
		name string
		run  func(directTest)
	}{
		{"Parts", directTest.parts},
		{"OtherBytes", directTest.otherBytes},
		{"WrongParts", directTest.wrongParts},
		{"AfterTheEnd", directTest.afterTheEnd},
		{"Abort", directTest.abort},
		{"Presigned", directTest.presigned},
		{"Read", directTest.read},
	} {
		t.Run(test.name, func(t *testing.T) {
			store := open(t)
			test.run(directTest{t, store, store.(storage.Direct), "v1/direct/" + strings.ToLower(test.name)})
		})
	}
}

const directPart = 5 * mib // the least that S3 takes

type directTest struct {
	*testing.T
	store  storage.Objects
	direct storage.Direct
	key    string
}

func (d directTest) start() string {
	d.Helper()
	upload, err := d.direct.StartParts(d.Context(), d.key)
	if err != nil {
		d.Fatal(err)
	}
	checkAbsent(d.T, d.store, d.key)
	return upload
}

// cut cuts data into parts.
func cut(data []byte) (pieces [][]byte, parts []storage.Part) {
	for len(data) > 0 {
		n := min(len(data), directPart)
		pieces = append(pieces, data[:n])
		parts = append(parts, storage.Part{Size: int64(n), SHA256: sha256.Sum256(data[:n])})
		data = data[n:]
	}
	return pieces, parts
}

func (d directTest) presign(upload string, n int, sum [32]byte) storage.Presigned {
	d.Helper()
	signed, err := d.direct.PresignPart(d.Context(), d.key, upload, n, sum)
	if err != nil {
		d.Fatal(err)
	}
	return signed
}

// send uses a presigned URL, as somebody without credentials, and gives the status.
func (d directTest) send(method string, signed storage.Presigned, body []byte, more http.Header) (*http.Response, []byte) {
	d.Helper()
	req, err := http.NewRequestWithContext(d.Context(), method, signed.Expose(), bytes.NewReader(body))
	if err != nil {
		d.Fatal(err)
	}
	for _, header := range []http.Header{signed.Header, more} {
		for name, values := range header {
			req.Header[name] = values
		}
	}
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		d.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		d.Fatal(err)
	}
	return resp, answer
}

func (d directTest) mustPut(upload string, n int, data []byte) storage.Presigned {
	d.Helper()
	signed := d.presign(upload, n, sha256.Sum256(data))
	if resp, answer := d.send(http.MethodPut, signed, data, nil); resp.StatusCode != http.StatusOK {
		d.Fatalf("PUT of part %d: %s %s", n, resp.Status, answer)
	}
	return signed
}

// parts puts parts out of order.
func (d directTest) parts() {
	for _, size := range []int{1, directPart, 3*directPart + 1} {
		d.key += "x"
		data := contentBytes(byte(size), int64(size))
		pieces, parts := cut(data)
		upload := d.start()
		for i := len(pieces) - 1; i >= 0; i-- {
			d.mustPut(upload, i+1, pieces[i])
		}
		checkAbsent(d.T, d.store, d.key)
		o, err := d.direct.FinishParts(d.Context(), d.key, upload, parts)
		if err != nil {
			d.Fatal(err)
		}
		if stat, err := d.store.Stat(d.Context(), d.key); err != nil || !equal(stat, o) || o.Size != int64(size) || o.ETag == "" {
			d.Errorf("FinishParts gave %+v, Stat %+v, %v", o, stat, err)
		}
		checkContent(d.T, d.store, d.key, o.ETag, bytes.NewReader(data))
	}
}

// otherBytes puts bytes that were not announced, of the same size: either the
// server does not take them, or FinishParts does not.
func (d directTest) otherBytes() {
	for _, changed := range []int{0, 1} {
		d.key += "x"
		pieces, parts := cut(contentBytes(1, directPart+1000))
		upload := d.start()
		for i, piece := range pieces {
			if i != changed {
				d.mustPut(upload, i+1, piece)
				continue
			}
			wrong := bytes.Clone(piece)
			wrong[len(wrong)/2] ^= 1
			resp, _ := d.send(http.MethodPut, d.presign(upload, i+1, parts[i].SHA256), wrong, nil)
			d.Logf("PUT of other bytes: %s", resp.Status)
		}
		d.refused(upload, parts)
	}
}

// refused checks that nothing comes of an upload.
func (d directTest) refused(upload string, parts []storage.Part) {
	d.Helper()
	if o, err := d.direct.FinishParts(d.Context(), d.key, upload, parts); !fault.Is(err, fault.Invalid) {
		d.Errorf("FinishParts = %+v, %v; want %s", o, err, fault.Invalid)
	}
	checkAbsent(d.T, d.store, d.key)
	if err := d.direct.AbortParts(d.Context(), d.key, upload); err != nil {
		d.Error(err)
	}
}

// wrongParts finishes with other parts than were put.
func (d directTest) wrongParts() {
	pieces, parts := cut(contentBytes(1, 2*directPart+1000))
	for name, test := range map[string]struct {
		put    []int // numbers
		finish []storage.Part
	}{
		"none":      {nil, parts},
		"one lacks": {[]int{1, 3}, parts},
		"last":      {[]int{1, 2}, parts},
		"one more":  {[]int{1, 2, 3}, parts[:2]},
		"size":      {[]int{1, 2, 3}, []storage.Part{parts[0], parts[1], {Size: 999, SHA256: parts[2].SHA256}}},
		"hash":      {[]int{1, 2, 3}, []storage.Part{parts[0], parts[1], {Size: 1000, SHA256: parts[1].SHA256}}},
		"order":     {[]int{1, 2, 3}, []storage.Part{parts[1], parts[0], parts[2]}},
	} {
		d.Run(name, func(t *testing.T) {
			d := directTest{t, d.store, d.direct, d.key + "/" + strings.ReplaceAll(name, " ", "-")}
			upload := d.start()
			for _, n := range test.put {
				d.mustPut(upload, n, pieces[n-1])
			}
			d.refused(upload, test.finish)
		})
	}
	for _, bad := range [][]storage.Part{nil, make([]storage.Part, 10_001)} {
		if _, err := d.direct.FinishParts(d.Context(), d.key, "upload", bad); !fault.Is(err, fault.Invalid) {
			d.Errorf("%d parts: %v", len(bad), err)
		}
	}
	for _, n := range []int{-1, 0, 10_001} {
		if _, err := d.direct.PresignPart(d.Context(), d.key, "upload", n, [32]byte{}); !fault.Is(err, fault.Invalid) {
			d.Errorf("a presigned URL to part %d: %v", n, err)
		}
	}
}

// afterTheEnd uses presigned URLs that are still young once the object is there.
func (d directTest) afterTheEnd() {
	data := contentBytes(1, 1000)
	upload := d.start()
	first := d.mustPut(upload, 1, data)
	other := contentBytes(2, 1000)
	second := d.presign(upload, 1, sha256.Sum256(other))
	unused := d.presign(upload, 2, sha256.Sum256(other))
	_, parts := cut(data)
	o, err := d.direct.FinishParts(d.Context(), d.key, upload, parts)
	if err != nil {
		d.Fatal(err)
	}
	for i, signed := range []storage.Presigned{first, second, unused} {
		if resp, _ := d.send(http.MethodPut, signed, other, nil); resp.StatusCode < 400 {
			d.Errorf("presigned URL %d is taken after the end: %s", i, resp.Status)
		}
	}
	if err := d.direct.AbortParts(d.Context(), d.key, upload); err != nil {
		d.Errorf("AbortParts after the end: %v", err)
	}
	if stat, err := d.store.Stat(d.Context(), d.key); err != nil || !equal(stat, o) {
		d.Errorf("the object is now %+v, %v; it was %+v", stat, err, o)
	}
	checkContent(d.T, d.store, d.key, o.ETag, bytes.NewReader(data))
}

func (d directTest) abort() {
	data := contentBytes(1, 1000)
	upload := d.start()
	signed := d.mustPut(upload, 1, data)
	for range 2 {
		if err := d.direct.AbortParts(d.Context(), d.key, upload); err != nil {
			d.Fatal(err)
		}
	}
	if resp, _ := d.send(http.MethodPut, signed, data, nil); resp.StatusCode < 400 {
		d.Errorf("a presigned URL to an aborted upload: %s", resp.Status)
	}
	_, parts := cut(data)
	d.refused(upload, parts)

	// Delete ends an upload that nobody has the ID of any more.
	upload = d.start()
	d.mustPut(upload, 1, data)
	if err := d.store.Delete(d.Context(), d.key); err != nil {
		d.Fatal(err)
	}
	d.refused(upload, parts)
}

// presigned URLs checks what a presigned URL gives away, and for how long it holds.
func (d directTest) presigned() {
	signed := d.presign(d.start(), 1, [32]byte{})
	if life := time.Until(signed.Expires); life > storage.PresignedLife || life < storage.PresignedLife-time.Minute {
		d.Errorf("the presigned URL holds for %s", life)
	}
	if !strings.HasPrefix(signed.Expose(), "http") || !strings.Contains(signed.Expose(), "X-Amz-Expires=300&") {
		d.Error("the presigned URL does not expire")
	}
	var said bytes.Buffer
	slog.New(slog.NewJSONHandler(&said, nil)).Info("x", "presigned URL", signed, "presigned URLs", []storage.Presigned{signed})
	fmt.Fprintf(&said, "%v %+v %#v %s %q %x %v %v", signed, signed, signed, signed, signed, signed, &signed, []any{signed})
	if text := said.String(); strings.Contains(text, "Signature") || strings.Contains(text, "http") || strings.Contains(text, fmt.Sprintf("%x", "Signature")) {
		d.Error("printing shows the presigned URL")
	}
	ended, cancel := context.WithCancel(d.Context())
	cancel()
	if _, err := d.direct.PresignObject(ended, d.key); !errors.Is(err, context.Canceled) {
		d.Errorf("an ended context: %v", err)
	}
	if _, err := d.direct.PresignObject(d.Context(), "../x"); !fault.Is(err, fault.Invalid) {
		d.Errorf("a bad key: %v", err)
	}
}

// read reads by a presigned URL: all, a range, and pinned to another object.
func (d directTest) read() {
	data := contentBytes(1, 300_001)
	put := mustPut(d.T, d.store, d.key, data)
	signed, err := d.direct.PresignObject(d.Context(), d.key)
	if err != nil {
		d.Fatal(err)
	}
	pin := func(etag string, more ...string) http.Header {
		h := http.Header{"If-Match": {`"` + etag + `"`}}
		if more != nil {
			h["Range"] = more
		}
		return h
	}
	if resp, got := d.send(http.MethodGet, signed, nil, pin(put.ETag)); resp.StatusCode != http.StatusOK || !bytes.Equal(got, data) || strings.Trim(resp.Header.Get("ETag"), `"`) != put.ETag {
		d.Errorf("GET: %s with %d bytes", resp.Status, len(got))
	}
	if resp, got := d.send(http.MethodGet, signed, nil, pin(put.ETag, "bytes=100000-")); resp.StatusCode != http.StatusPartialContent || !bytes.Equal(got, data[100_000:]) {
		d.Errorf("GET of a range: %s with %d bytes", resp.Status, len(got))
	}
	if resp, _ := d.send(http.MethodGet, signed, nil, pin(strings.Repeat("0", 32))); resp.StatusCode != http.StatusPreconditionFailed {
		d.Errorf("GET pinned to another object: %s", resp.Status)
	}
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPost} {
		if resp, _ := d.send(method, signed, []byte("x"), nil); resp.StatusCode < 400 {
			d.Errorf("a presigned URL to read is good for %s: %s", method, resp.Status)
		}
	}
	checkContent(d.T, d.store, d.key, put.ETag, bytes.NewReader(data))
}
