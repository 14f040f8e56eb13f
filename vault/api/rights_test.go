package api_test

import (
	"archive/zip"
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"dsvault/vault/api"
	"dsvault/vault/dataset"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// testRights asks for what is held about people, as they and as an admin.
func (w *world) testRights(t *testing.T) {
	w.person("uma")
	w.grant(dataset.Labeler, "uma", "acme/signs")
	name := "Uma"
	if p := call[wire.Person](w, "uma", "POST", "/v1/people/me/correct", wire.PersonUpdate{Name: &name}); p.Name != "Uma" || p.Handle != "uma" {
		t.Errorf("%+v", p)
	}
	if s := call[wire.Subject](w, "root", "POST", "/v1/people/uma/restrict", wire.Restriction{Reason: "disputed"}); s.Restricted == nil || s.Name != "" {
		t.Errorf("%+v", s)
	}
	if s := call[wire.Subject](w, "uma", "POST", "/v1/people/uma/lift", wire.Restriction{}); s.Restricted != nil {
		t.Errorf("%+v", s)
	}
	if s := call[wire.Subject](w, "uma", "POST", "/v1/people/me/object", wire.PurposeChoice{Purpose: "labeling"}); len(s.Choices) != 1 {
		t.Errorf("%+v", s)
	}
	call[wire.Entry](w, "root", "PATCH", "/v1/projects/acme/signs", wire.ProjectUpdate{Consent: &[]string{"labeling"}})
	call[wire.Subject](w, "uma", "POST", "/v1/people/me/consent", wire.PurposeChoice{Purpose: "labeling"})
	if s := call[wire.Subject](w, "uma", "GET", "/v1/people/me/rights", nil); len(s.Choices) != 2 || s.Choices[0].Kind != dataset.Consent {
		t.Errorf("%+v", s)
	}
	a := w.send("uma", "POST", "/v1/people/me/export", wire.NewSubjectExport{})
	if a.status != 200 || a.header.Get("Content-Type") != "application/octet-stream" || a.header.Get("Content-Disposition") != "attachment; filename=uma-export.zip.age" {
		t.Fatalf("%d %v %s", a.status, a.header, a.body)
	}
	plain := must(seal.OpenBytes(a.body, w.keys["uma"], 16<<20))(t)
	if z, err := zip.NewReader(bytes.NewReader(plain), int64(len(plain))); err != nil || len(z.File) < 20 {
		t.Errorf("%v", err)
	}

	if e := call[wire.DatasetExport](w, "carol", "POST", "/v1/datasets/acme/signs/one/export", nil); e.Version != 1 || e.Record == 0 {
		t.Errorf("%+v", e)
	}
	for who, want := range map[string]int{"root": 403, "uma": 404, "sam": 404} {
		if a := w.send(who, "POST", "/v1/datasets/acme/signs/one/export", nil); a.status != want {
			t.Errorf("%s takes a dataset out: %d", who, a.status)
		}
	}
	r := call[wire.RightsRequest](w, "root", "POST", "/v1/requests", wire.NewRequest{Person: "uma", Kind: dataset.AccessRequest, Identity: dataset.ByPerson})
	base := "/v1/requests/" + r.ID.String()
	if page := call[wire.Page[wire.RightsRequest]](w, "uma", "GET", "/v1/requests?open=true&limit=5", nil); len(page.Items) != 1 || page.Items[0].ID != r.ID {
		t.Errorf("%+v", page)
	}
	call[wire.RightsRequest](w, "root", "POST", base+"/extend", wire.ExtendRequest{Reason: "much"})
	if a := w.send("root", "POST", "/v1/people/uma/export", wire.NewSubjectExport{Request: r.ID}); a.status != 200 || a.header.Get("Content-Type") != "application/zip" {
		t.Errorf("%d %s", a.status, a.body)
	}
	call[wire.RightsRequest](w, "root", "POST", base+"/close", wire.CloseRequest{Outcome: dataset.Done, Answer: "handed over"})
	if got := call[wire.RightsRequest](w, "uma", "GET", base, nil); got.Answer != "handed over" || got.Extension != "much" || got.ClosedBy != "root" {
		t.Errorf("%+v", got)
	}
	for path, want := range map[string]int{"/v1/requests?open=maybe": 400, "/v1/requests/rrq_x": 400, base: 404} {
		if a := w.send("sam", "GET", path, nil); a.status != want {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if d := call[wire.Deleted](w, "uma", "POST", "/v1/people/me/delete", nil); d.Request == nil || d.Request.Kind != dataset.ErasureRequest {
		t.Errorf("%+v", d)
	}
	if d := call[wire.Deleted](w, "root", "POST", "/v1/people/uma/delete", nil); d.Anonymized == nil || len(d.Kept) < 4 {
		t.Errorf("%+v", d)
	}
}

// TestCopiesInClear: a copy in clear leaves over TLS only.
func TestCopiesInClear(t *testing.T) {
	var handler http.Handler
	w := newWorld(t, api.Options{}, func(h http.Handler, _ *server) { handler = h })
	w.populate(10)
	r := call[wire.RightsRequest](w, "root", "POST", "/v1/requests", wire.NewRequest{Person: "lena", Kind: dataset.AccessRequest, Identity: dataset.ByPerson})
	req := w.request("root", "POST", "/v1/people/lena/export", wire.NewSubjectExport{Request: r.ID})
	rec := httptest.NewRecorder()
	handler.ServeHTTP(rec, req) // which has no address of its own
	if rec.Code != http.StatusBadRequest || !strings.Contains(rec.Body.String(), "TLS") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	if got := call[wire.RightsRequest](w, "root", "GET", "/v1/requests/"+r.ID.String(), nil); got.Handed != nil {
		t.Error("it counts as handed over")
	}
}
