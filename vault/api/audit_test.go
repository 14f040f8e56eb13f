package api_test

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

// testAudit is what auditors do, and how somebody is forgotten.
func (w *world) testAudit(t *testing.T) {
	w.person("aud")
	w.grant(dataset.Auditor, "aud", "/")
	in := w.login("root")
	resp := w.open("aud", "GET", "/v1/log/listing?kind=read&under=acme&format=csv", nil)
	file := must(io.ReadAll(resp.Body))(t)
	resp.Body.Close()
	data := must(base64.StdEncoding.DecodeString(resp.Trailer.Get(wire.HeaderListing)))(t)
	key := must(note.NewVerifier(in.LogKey))(t)
	l := must(audit.OpenListing(data, key))(t)
	if err := l.Check(bytes.NewReader(file)); err != nil || l.Query != "kind=read&under=acme" || l.Records == 0 || resp.StatusCode != http.StatusOK ||
		resp.Header.Get("Content-Type") != "text/csv; charset=utf-8; header=present" {
		t.Errorf("%v, %+v, %v", err, l, resp.Header)
	}
	if a := w.send("root", "GET", "/v1/log/listing?format=csv", nil); a.status != 403 {
		t.Errorf("an admin: %d %s", a.status, a.body)
	}
	for _, query := range []string{"", "?format=pdf", "?format=csv&limit=1", "?format=csv&follow=1"} {
		if a := w.send("aud", "GET", "/v1/log/listing"+query, nil); a.status != 400 {
			t.Errorf("%q: %d %s", query, a.status, a.body)
		}
	}

	const year = "from=2020-01-01T00:00:00Z&until=2020-12-31T00:00:00Z"
	if r := call[wire.AuditReport](w, "carol", "GET", "/v1/audit/report?under=acme&"+year, nil); r.Records != 0 || r.IdleDays != 30 || r.Reads == nil {
		t.Errorf("%+v", r)
	}
	for _, query := range []string{"", year[:len(year)/2], year + "&idle=0x", strings.Replace(year, "2020-12", "2019-12", 1), year + "&until=x"} {
		if a := w.send("aud", "GET", "/v1/audit/report?"+query, nil); a.status != 400 {
			t.Errorf("%q: %d %s", query, a.status, a.body)
		}
	}
	if out := call[wire.Anonymized](w, "root", "POST", "/v1/people/aud/anonymize", nil); !out.Cleared || out.Grants != 1 {
		t.Errorf("%+v", out)
	}
}
