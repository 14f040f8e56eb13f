package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"dsvault/vault/api"
	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

// neutral is an answer without what differs between any two answers.
func (a answer) neutral(t *testing.T) string {
	t.Helper()
	h := a.header.Clone()
	for _, name := range []string{wire.HeaderRequestID, "Date"} {
		if h.Get(name) == "" {
			t.Errorf("no %s", name)
		}
		h.Del(name)
	}
	body := bytes.ReplaceAll(a.body, []byte(a.header.Get(wire.HeaderRequestID)), []byte("ID"))
	head, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %s\n%s", a.status, head, body)
}

// TestStrangers asks for what exists and is hidden, and for what does not
// exist, in every way that there is. The whole answers have to be the same.
func TestStrangers(t *testing.T) {
	w := newWorld(t, api.Options{})
	w.populate(100)
	call[wire.Entry](w, "carol", "PATCH", "/v1/projects/acme/signs", wire.ProjectUpdate{Delivery: &[]dataset.Delivery{dataset.Opened}})
	// Another client's people see as little as somebody without any role; so
	// does somebody whose role ended.
	call[wire.Entry](w, "root", "POST", "/v1/clients", wire.NewClient{Scope: w.scope("other")})
	w.person("oscar")
	w.grant(dataset.ClientUser, "oscar", "other")
	w.person("gone")
	w.grant(dataset.Labeler, "gone", "acme")
	call[wire.Revoked](w, "root", "DELETE", "/v1/grants?role=labeler&person=gone&scope=acme", nil)

	type place struct{ client, project, dataset string }
	hidden := place{"acme", "signs", "one"}
	absent := []place{{"acme", "signs", "two"}, {"acme", "lamps", "one"}, {"bcme", "signs", "one"}}
	type probe struct {
		method, path string
		body         any
	}
	probes := func(p place) []probe {
		project, ds := p.client+"/"+p.project, p.client+"/"+p.project+"/"+p.dataset
		data := "/v1/datasets/" + ds
		scope := w.scope(ds)
		list := []probe{
			{"GET", data, nil}, {"PUT", data, nil}, {"GET", data + "/shards", nil}, {"POST", data + "/pushes", nil},
			{"GET", data + "/versions", nil}, {"GET", data + "/versions/0", nil}, {"GET", data + "/versions/7", nil},
			{"GET", data + "/shards/0/index", nil}, {"GET", data + "/shards/0/sealed?offset=0&size=9999999", nil},
			{"PUT", data + "/uploads/" + dataset.AttemptID{1}.String() + "/index", "BODY"},
			{"GET", data + "/shards/0/sealed", nil}, {"GET", data + "/shards/7/sealed", nil},
			{"GET", data + "/shards/0/open", nil}, {"GET", data + "/shards/7/open", nil}, {"HEAD", data + "/shards/0/open", nil},
			{"GET", data + "/shards/0/members/one", nil}, {"GET", data + "/shards/0/members/none", nil}, {"HEAD", data + "/shards/7/members/a%20b", nil},
			{"POST", "/v1/links", wire.NewLink{Shard: ds + "/0", Member: "one"}}, {"POST", "/v1/links", wire.NewLink{Shard: ds + "/0", Member: "none"}},
			{"POST", data + "/shards/0/uploads", wire.NewUpload{Fingerprint: make([]byte, 32), Size: 5}},
			{"PUT", data + "/uploads/" + dataset.AttemptID{1}.String(), "BODY"},
			{"POST", data + "/uploads/" + dataset.AttemptID{1}.String() + "/commit", wire.Commit{SHA256: make([]byte, 32)}},
			{"POST", data + "/uploads/" + dataset.AttemptID{1}.String() + "/direct", nil},
			{"POST", data + "/uploads/" + dataset.AttemptID{1}.String() + "/parts", wire.Parts{Parts: []wire.Part{{Number: 1, SHA256: make([]byte, 32)}}}},
			{"POST", data + "/uploads/" + dataset.AttemptID{1}.String() + "/joined", nil},
			{"GET", data + "/shards/0/direct", nil},
			{"POST", data + "/claims", wire.NewClaim{}}, {"PUT", data + "/claims/0", wire.Lease{}}, {"DELETE", data + "/claims/0", nil},
			{"POST", data + "/shards/0/work", wire.NewWork{Size: 5}},
			{"PUT", data + "/work/" + dataset.AttemptID{1}.String(), "BODY"},
			{"POST", data + "/work/" + dataset.AttemptID{1}.String() + "/commit", wire.Commit{SHA256: make([]byte, 32)}},
			{"GET", data + "/results", nil}, {"GET", data + "/results/" + dataset.WorkID{1}.String() + "/sealed", nil},
			{"POST", data + "/results/" + dataset.WorkID{1}.String() + "/review", wire.Judgement{Accept: true}},
			{"POST", data + "/complete", wire.Complete{Shards: dataset.FirstShards(1)}},
			{"PUT", data + "/file", "BODY"},
			{"POST", "/v1/assignments", wire.Assignment{Dataset: scope, Person: "me", Shards: dataset.ShardSet{{First: 0, Last: 0}}}},
			{"DELETE", "/v1/assignments?person=me&dataset=" + ds, nil},
			{"GET", "/v1/can?person=me&action=read&object=" + ds + "/0", nil},
			{"GET", "/v1/can?person=lena&action=read&object=" + ds + "/0", nil},
			{"POST", "/v1/links", wire.NewLink{Shard: ds + "/0"}}, {"POST", "/v1/links", wire.NewLink{Shard: ds + "/7"}},
			{"POST", "/v1/projects", wire.NewProject{Scope: w.scope(project)}},
			{"PATCH", "/v1/projects/" + project, wire.ProjectUpdate{Delivery: &[]dataset.Delivery{dataset.Opened}}},
			{"POST", "/v1/disclosures", wire.NewDisclosure{Dataset: scope, Shards: dataset.ShardSet{{First: 0, Last: 0}}, Reference: "x", Document: make([]byte, 32)}},
			{"GET", "/v1/can?person=me&action=read&delivery=opened&object=" + ds + "/0", nil},
		}
		notices := "/v1/notices/" + p.client
		list = append(list, probe{"GET", notices, nil}, probe{"PATCH", notices, wire.NoticesUpdate{Events: &[]string{}}},
			probe{"POST", notices + "/test", nil}, probe{"GET", notices + "/messages", nil})
		for _, at := range []string{p.client, project, ds} {
			list = append(list,
				probe{"GET", "/v1/scopes?under=" + at, nil},
				probe{"GET", "/v1/grants?scope=" + at, nil},
				probe{"GET", "/v1/assignments?scope=" + at, nil},
				probe{"GET", "/v1/assignments?person=lena&scope=" + at, nil},
				probe{"GET", "/v1/log?under=" + at, nil},
				probe{"GET", "/v1/log/bundle?under=" + at, nil},
				probe{"GET", "/v1/can?action=read&object=" + at, nil},
				probe{"POST", "/v1/checks", wire.NewCheck{Scope: w.scope(at), Data: true}},
				probe{"GET", "/v1/checks?scope=" + at, nil},
				probe{"GET", "/v1/approvals?scope=" + at, nil},
				probe{"GET", "/v1/break-glass?scope=" + at, nil},
				probe{"POST", "/v1/break-glass", wire.NewBreakGlass{Scope: w.scope(at), Reason: "why"}},
				probe{"GET", "/v1/holds?scope=" + at, nil},
				probe{"POST", "/v1/holds", wire.NewHold{Scope: w.scope(at), Reason: "x"}},
				probe{"POST", "/v1/holds", wire.NewHold{Scope: w.scope(at)}},
				probe{"GET", "/v1/retentions?scope=" + at, nil},
				probe{"PUT", "/v1/retentions", wire.NewRetention{Scope: w.scope(at), What: "data", Period: "1d"}},
				probe{"PUT", "/v1/retentions", wire.NewRetention{Scope: w.scope(at), What: "log", Period: "x"}},
				probe{"GET", "/v1/erasures?scope=" + at, nil},
				probe{"POST", "/v1/erasures", wire.NewErasure{Scope: w.scope(at)}},
				probe{"GET", "/v1/work?under=" + at, nil},
				probe{"POST", "/v1/reviews", wire.NewReview{Scope: w.scope(at)}},
				probe{"GET", "/v1/reviews?scope=" + at, nil},
				probe{"GET", "/v1/can?action=upload&object=dataset:" + at, nil},
				probe{"POST", "/v1/grants", wire.Grant{Role: dataset.Labeler, Person: "me", Scope: w.scope(at)}},
				probe{"DELETE", "/v1/grants?role=labeler&person=me&scope=" + at, nil},
			)
		}
		return list
	}
	ask := func(who string, p probe) string {
		body := p.body
		if body == "BODY" {
			body = strings.NewReader("12345")
		}
		a := w.send(who, p.method, p.path, body, wire.HeaderDevice, w.devices[who].String())
		if a.status < 400 || a.status >= 500 {
			t.Errorf("%s as %s: %d %s", p.path, who, a.status, a.body)
		}
		return a.neutral(t)
	}
	check := call[wire.Check](w, "root", "POST", "/v1/checks", wire.NewCheck{Scope: w.scope("acme/signs")})
	hold := call[wire.Hold](w, "root", "POST", "/v1/holds", wire.NewHold{Scope: w.scope("acme/signs"), Reason: "case"})
	call[wire.Entry](w, "root", "POST", "/v1/projects", wire.NewProject{Scope: w.scope("acme/faces"), Purposes: []string{"labeling"}, Sensitive: true, Contract: "C-17"})
	glass := call[wire.BreakGlass](w, "root", "POST", "/v1/break-glass", wire.NewBreakGlass{Scope: w.scope("acme"), Reason: "why"})
	asked := call[wire.Grant](w, "root", "POST", "/v1/grants", wire.Grant{Role: dataset.Labeler, Person: "lena", Scope: w.scope("acme/faces")})
	for _, who := range []string{"sam", "oscar", "gone"} {
		for _, p := range []probe{{"GET", "/v1/break-glass/%s", nil}, {"DELETE", "/v1/break-glass/%s", nil}, {"POST", "/v1/break-glass/%s/review", wire.BreakGlassReview{}}} {
			known, unknown := p, p
			known.path, unknown.path = fmt.Sprintf(p.path, glass.ID), fmt.Sprintf(p.path, dataset.BreakGlassID{1})
			if got, want := ask(who, known), ask(who, unknown); got != want {
				t.Errorf("%s can tell an emergency from one that does not exist, %s:\n%s\n%s", who, p.path, got, want)
			}
		}
		for _, p := range []probe{{"GET", "/v1/approvals/%s", nil}, {"POST", "/v1/approvals/%s/approve", nil}, {"POST", "/v1/approvals/%s/refuse", wire.Refusal{}}} {
			known, unknown := p, p
			known.path, unknown.path = fmt.Sprintf(p.path, asked.Pending.ID), fmt.Sprintf(p.path, dataset.ApprovalID{1})
			if got, want := ask(who, known), ask(who, unknown); got != want {
				t.Errorf("%s can tell a request from one that does not exist, %s:\n%s\n%s", who, p.path, got, want)
			}
		}
		if got, want := ask(who, probe{"DELETE", "/v1/holds/" + hold.ID.String(), nil}), ask(who, probe{"DELETE", "/v1/holds/" + dataset.HoldID{1}.String(), nil}); got != want {
			t.Errorf("%s can tell a hold from one that does not exist:\n%s\n%s", who, got, want)
		}
		for _, p := range []probe{{"GET", "/v1/checks/%s", nil}, {"GET", "/v1/checks/%s/findings", nil}, {"DELETE", "/v1/checks/%s", nil}} {
			known, unknown := p, p
			known.path, unknown.path = fmt.Sprintf(p.path, check.ID), fmt.Sprintf(p.path, dataset.CheckID{1})
			if got, want := ask(who, known), ask(who, unknown); got != want {
				t.Errorf("%s can tell a check from one that does not exist, %s:\n%s\n%s", who, p.path, got, want)
			}
		}
		for _, other := range absent {
			there, away := probes(hidden), probes(other)
			for i := range there {
				if got, want := ask(who, there[i]), ask(who, away[i]); got != want {
					t.Errorf("%s can tell %s %s from one that does not exist:\n%s\n%s", who, there[i].method, there[i].path, got, want)
				}
			}
		}
		// Nor can people be told from names that nobody has.
		for _, p := range []probe{
			{"DELETE", "/v1/people/%s", nil}, {"POST", "/v1/people/%s/token", nil},
			{"GET", "/v1/people/%s", nil}, {"PATCH", "/v1/people/%s", wire.PersonUpdate{}},
			{"GET", "/v1/assignments?person=%s", nil}, {"GET", "/v1/log?actor=%s", nil},
			{"GET", "/v1/can?action=read&object=/&person=%s", nil},
		} {
			known, unknown := p, p
			known.path, unknown.path = fmt.Sprintf(p.path, "lena"), fmt.Sprintf(p.path, "nina")
			if got, want := ask(who, known), ask(who, unknown); got != want {
				t.Errorf("%s can tell whether somebody exists, %s:\n%s\n%s", who, p.path, got, want)
			}
		}
		page := call[wire.Page[wire.Entry]](w, who, "GET", "/v1/scopes", nil)
		for _, e := range page.Items {
			if w.scope("acme").Contains(e.Scope) {
				t.Errorf("%s sees %v", who, e)
			}
		}
	}
}

// TestStrangersAndPeople: whether somebody exists, and how their account stands,
// is not to be told by those who may not do anything about people.
func TestStrangersAndPeople(t *testing.T) {
	w := newWorld(t, api.Options{})
	w.populate(100)
	for _, p := range []string{"rested", "away", "forgotten"} {
		w.person(p)
	}
	call[wire.Subject](w, "root", "POST", "/v1/people/rested/restrict", wire.Restriction{})
	call[wire.Revoked](w, "root", "DELETE", "/v1/people/away", nil)
	pseudonym := call[wire.Anonymized](w, "root", "POST", "/v1/people/forgotten/anonymize", nil).Pseudonym
	type probe struct {
		method, path string
		body         func(handle string) any
	}
	same := func(body any) func(string) any { return func(string) any { return body } }
	grant := func(scope string) func(string) any {
		return func(h string) any { return wire.Grant{Role: dataset.Labeler, Person: h, Scope: w.scope(scope)} }
	}
	probes := []probe{
		{"POST", "/v1/people/%s/token", same(nil)}, {"DELETE", "/v1/people/%s", same(nil)}, {"POST", "/v1/people/%s/anonymize", same(nil)},
		{"GET", "/v1/people/%s/rights", same(nil)}, {"POST", "/v1/people/%s/export", same(wire.NewSubjectExport{})},
		{"POST", "/v1/people/%s/correct", same(wire.PersonUpdate{})}, {"POST", "/v1/people/%s/restrict", same(wire.Restriction{})},
		{"POST", "/v1/people/%s/lift", same(wire.Restriction{})}, {"POST", "/v1/people/%s/object", same(wire.PurposeChoice{Purpose: "labeling"})},
		{"POST", "/v1/people/%s/consent", same(wire.PurposeChoice{Purpose: "labeling"})}, {"POST", "/v1/people/%s/delete", same(nil)},
		{"GET", "/v1/requests?person=%s", same(nil)}, {"GET", "/v1/signatures?person=%s", same(nil)},
		{"DELETE", "/v1/grants?role=labeler&scope=acme&person=%s", same(nil)},
		{"DELETE", "/v1/assignments?dataset=acme/signs/one&person=%s", same(nil)},
		{"POST", "/v1/grants", grant("/")}, {"POST", "/v1/grants", grant("acme/signs/one")},
		{"POST", "/v1/assignments", func(h string) any {
			return wire.Assignment{Dataset: w.scope("acme/signs/one"), Person: h, Shards: dataset.ShardSet{{First: 0, Last: 0}}}
		}},
		{"POST", "/v1/requests", func(h string) any { return wire.NewRequest{Person: h, Kind: dataset.AccessRequest} }},
	}
	ask := func(who string, p probe, handle string) string {
		path := p.path
		if strings.Contains(path, "%s") {
			path = fmt.Sprintf(path, handle)
		}
		a := w.send(who, p.method, path, p.body(handle))
		if a.status != 403 && a.status != 404 {
			t.Errorf("%s %s as %s: %d %s", p.method, path, who, a.status, a.body)
		}
		return a.neutral(t)
	}
	w.person("ada")
	w.grant(dataset.Auditor, "ada", "/")
	for _, who := range []string{"sam", "lena", "ada"} { // lena works on the dataset
		for _, p := range probes {
			if who == "ada" && !strings.HasPrefix(p.path, "/v1/people/") { // an auditor sees who has signed and who has what
				continue
			}
			want := ask(who, p, "nobody")
			for _, handle := range []string{"carol", "rested", "away", pseudonym} {
				if got := ask(who, p, handle); got != want {
					t.Errorf("%s can tell %s from nobody, %s %s:\n%s\n%s", who, handle, p.method, p.path, got, want)
				}
			}
		}
	}
	// Who may is told what is in the way.
	if p := w.send("root", "POST", "/v1/grants", grant("acme")("rested")).problem(t); !strings.Contains(strings.Join(p.Reasons, "; "), "frozen") {
		t.Errorf("%+v", p)
	}
	if p := w.send("root", "POST", "/v1/people/away/token", nil).problem(t); p.Detail != "away is disabled" {
		t.Errorf("%+v", p)
	}
}

// TestAuthorisedBeforeBody sends only the head of an upload, and waits to be
// told to go on.
func TestAuthorisedBeforeBody(t *testing.T) {
	w := newWorld(t, api.Options{})
	w.populate(100)
	for _, path := range []string{
		"/v1/datasets/acme/signs/new/file",
		"/v1/datasets/acme/signs/one/uploads/" + dataset.AttemptID{1}.String(),
	} {
		for _, who := range []string{"", "sam"} {
			body := &untouched{}
			req := w.request(who, "PUT", path, body, "Expect", "100-continue")
			req.ContentLength = 1000
			client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: 1 << 40}}
			resp := must(client.Do(req))(t)
			resp.Body.Close()
			client.CloseIdleConnections()
			if resp.StatusCode != map[string]int{"": 401, "sam": 404}[who] || body.read {
				t.Errorf("%s as %q: %d, body read: %v", path, who, resp.StatusCode, body.read)
			}
		}
	}
	// Whoever may is told to go on.
	req := w.request("carol", "PUT", "/v1/datasets/acme/signs/new/file", strings.NewReader("hello"), "Expect", "100-continue")
	resp := must(w.client.Do(req))(t)
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("%d", resp.StatusCode)
	}
}

type untouched struct{ read bool }

func (u *untouched) Read(p []byte) (int, error) {
	u.read = true
	return 0, io.ErrUnexpectedEOF
}
