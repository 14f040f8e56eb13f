package api_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvault/vault/api"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// TestEveryRoute walks the main job with several people and then asserts that
// no route was left out.
func TestEveryRoute(t *testing.T) {
	w, _ := newMailWorld(t, api.Options{})
	call[map[string]string](w, "", "GET", "/healthz", nil)
	call[map[string]string](w, "", "GET", "/readyz", nil)
	w.populate(1000)
	w.testPeople(t)
	w.testContact(t)
	w.testNotices(t)
	w.testAgreements(t)
	w.testProject(t)
	w.testUpload(t)
	w.testRead(t)
	w.testReceipt(t)
	w.testWork(t)
	w.testReviews(t)
	w.testAccess(t)
	w.testLogTiles(t)
	w.testLog(t)
	w.testApprovals(t)
	w.testEmergency(t)
	w.testChecks(t)
	w.testAudit(t)
	w.testRights(t)
	w.testKeeping(t)

	served := map[string]bool{}
	for _, line := range w.logs.all() {
		if line["status"] == float64(200) {
			served[fmt.Sprint(line["method"], " ", line["route"])] = true
		}
	}
	for _, r := range api.Routes() {
		if !served[r] && !slices.Contains(directRoutes, r) {
			t.Errorf("no test calls %s", r)
		}
	}
}

func (w *world) testPeople(t *testing.T) {
	me := call[wire.Whoami](w, "lena", "GET", "/v1/whoami", nil)
	if me.Handle != "lena" || len(me.Devices) != 1 || len(me.Grants) != 1 {
		t.Errorf("%+v", me)
	}
	now := time.Now().UTC()
	span := "&from=" + now.Add(-time.Hour).Format(time.RFC3339) + "&until=" + now.Add(time.Hour).Format(time.RFC3339)
	if out := call[wire.Transfers](w, "carol", "GET", "/v1/transfers?under=acme"+span, nil); out.Items == nil {
		t.Errorf("%+v", out)
	}
	var handles []string
	for after := ""; ; {
		page := call[wire.Page[wire.Person]](w, "root", "GET", "/v1/people?limit=2&after="+after, nil)
		for _, p := range page.Items {
			handles = append(handles, p.Handle)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if !slices.Equal(handles, []string{"carol", "lena", "root", "sam"}) {
		t.Errorf("people: %v", handles)
	}
	w.person("victor")
	old := w.tokens["victor"]
	w.tokens["victor"] = call[wire.NewToken](w, "victor", "POST", "/v1/people/me/token", nil).Token
	call[wire.Whoami](w, "victor", "GET", "/v1/whoami", nil)
	w.tokens["old"] = old
	if a := w.send("old", "GET", "/v1/whoami", nil); a.status != http.StatusUnauthorized {
		t.Errorf("a rotated token: %d", a.status)
	}
	if out := call[wire.Revoked](w, "root", "DELETE", "/v1/people/victor", nil); out.Ended != 1 {
		t.Errorf("%+v", out)
	}
	if a := w.send("victor", "GET", "/v1/whoami", nil); a.status != http.StatusUnauthorized {
		t.Errorf("somebody disabled: %d", a.status)
	}
	w.person("ann")
	w.grant(dataset.Auditor, "ann", "/")
	if a := w.send("ann", "GET", "/v1/log/listing?format=csv", nil); a.status != http.StatusOK {
		t.Errorf("a listing of the log: %d %s", a.status, a.body)
	}
	if out := call[wire.Anonymized](w, "root", "POST", "/v1/people/ann/anonymize", nil); out.Grants != 1 {
		t.Errorf("%+v", out)
	}
}

func (w *world) testAgreements(t *testing.T) {
	a := call[wire.Agreement](w, "root", "POST", "/v1/agreements", wire.Publish{Name: "nda", Text: "Tell nobody.\n"})
	if list := call[wire.Page[wire.Agreement]](w, "lena", "GET", "/v1/agreements?limit=1000", nil); len(list.Items) != 1 || list.Items[0].Text != "" {
		t.Errorf("%+v", list)
	}
	if got := call[wire.Agreement](w, "lena", "GET", "/v1/agreements/nda", nil); got.Text != "Tell nobody.\n" {
		t.Errorf("%+v", got)
	}
	s := call[wire.Signature](w, "lena", "POST", "/v1/agreements/nda/signatures", wire.Sign{Version: 1, SHA256: a.SHA256})
	if s.Person != "lena" || s.Version != 1 {
		t.Errorf("%+v", s)
	}
	if out := call[wire.Revoked](w, "lena", "DELETE", "/v1/agreements/nda/signatures?person=me", nil); out.Ended != 1 {
		t.Errorf("%+v", out)
	}
	if a := w.send("lena", "DELETE", "/v1/agreements/nda/signatures?person=lena", nil); a.status != http.StatusNotFound {
		t.Errorf("withdrawn twice: %d", a.status)
	}
	call[wire.Signature](w, "lena", "POST", "/v1/agreements/nda/signatures", wire.Sign{Version: 1, SHA256: a.SHA256})
}

func (w *world) testProject(t *testing.T) {
	e := call[wire.Entry](w, "carol", "PATCH", "/v1/projects/acme/signs", wire.ProjectUpdate{Delivery: &[]dataset.Delivery{"direct", "opened"}})
	if e.Kind != "project" || !slices.Equal(e.Delivery, []dataset.Delivery{dataset.Opened, dataset.Direct}) || !slices.Equal(e.Purposes, []string{"labeling"}) {
		t.Errorf("%+v", e)
	}
	if a := w.send("lena", "PATCH", "/v1/projects/acme/signs", wire.ProjectUpdate{Delivery: &[]dataset.Delivery{}}); a.status != http.StatusForbidden {
		t.Errorf("a labeler changes terms: %d", a.status)
	}
	c := call[wire.Conditions](w, "root", "PATCH", "/v1/conditions?scope=acme", wire.ConditionsUpdate{Requires: &[]string{"nda"}})
	got := call[wire.Conditions](w, "lena", "GET", "/v1/conditions?scope=acme/signs", nil)
	if len(c.Requires) != 1 || len(got.Above) != 1 || len(got.Above[0].Requires) != 1 {
		t.Errorf("%+v %+v", c, got)
	}
	if page := call[wire.Page[wire.SignatureStatus]](w, "lena", "GET", "/v1/signatures?person=me", nil); len(page.Items) != 1 || !page.Items[0].InForce() {
		t.Errorf("%+v", page)
	}
	if a := w.send("root", "PATCH", "/v1/conditions", wire.ConditionsUpdate{}); a.status != http.StatusBadRequest {
		t.Errorf("conditions of no scope: %d", a.status)
	}
}

func (w *world) testUpload(t *testing.T) {
	d := call[wire.Dataset](w, "carol", "PUT", "/v1/datasets/acme/signs/two", nil)
	push := call[wire.Push](w, "carol", "POST", "/v1/datasets/acme/signs/two/pushes", nil)
	for n, text := range []string{"first", "second"} {
		base := "/v1/datasets/acme/signs/two"
		plain := []byte(text)
		sealed, manifest := sealedShard(t, d.Recipient, n, plain)
		fingerprint := sha256.Sum256(plain)
		up := call[wire.Upload](w, "carol", "POST", fmt.Sprintf("%s/shards/%d/uploads", base, n),
			wire.NewUpload{Fingerprint: fingerprint[:], Size: int64(len(plain)), Push: push.Push})
		stored := call[wire.Stored](w, "carol", "PUT", base+"/uploads/"+up.Attempt.String(), bytes.NewReader(sealed))
		index := sealedIndex(t, d.Recipient, n, plain)
		storedIndex := call[wire.Stored](w, "carol", "PUT", base+"/uploads/"+up.Attempt.String()+"/index", bytes.NewReader(index))
		if storedIndex.Sealed != int64(len(index)) {
			t.Errorf("%+v", storedIndex)
		}
		sum := sha256.Sum256(sealed)
		if !bytes.Equal(stored.SHA256, sum[:]) || stored.Sealed != int64(len(sealed)) {
			t.Errorf("%+v", stored)
		}
		call[wire.Shard](w, "carol", "POST", base+"/uploads/"+up.Attempt.String()+"/commit",
			wire.Commit{SHA256: sum[:], Manifest: manifest, Index: storedIndex.SHA256})
	}
	first := call[wire.Page[wire.Shard]](w, "carol", "GET", "/v1/datasets/acme/signs/two/shards?limit=1", nil)
	second := call[wire.Page[wire.Shard]](w, "carol", "GET", "/v1/datasets/acme/signs/two/shards?limit=1&after="+first.Next, nil)
	if first.Items[0].Number != 0 || second.Items[0].Number != 1 {
		t.Errorf("%+v %+v", first, second)
	}
	if d = call[wire.Dataset](w, "carol", "POST", "/v1/datasets/acme/signs/two/complete", wire.Complete{Shards: dataset.FirstShards(2), Push: push.Push}); !d.Complete {
		t.Errorf("%+v", d)
	}
	if d = call[wire.Dataset](w, "carol", "GET", "/v1/datasets/acme/signs/two", nil); d.Shards != 2 || d.Size != 11 || d.Version != 1 {
		t.Errorf("%+v", d)
	}
	all := call[wire.Page[wire.Version]](w, "carol", "GET", "/v1/datasets/acme/signs/two/versions", nil)
	newest := call[wire.Version](w, "carol", "GET", "/v1/datasets/acme/signs/two/versions/0", nil)
	if len(all.Items) != 1 || newest.Version != 1 || newest.Shards.String() != "0-1" || newest.Size != 11 || newest.By != "carol" ||
		!newest.Shards.Equal(all.Items[0].Shards) {
		t.Errorf("%+v %+v", newest, all)
	}
}

func (w *world) testRead(t *testing.T) {
	a := w.send("lena", "GET", onePath, nil, wire.HeaderDevice, w.devices["lena"].String(), wire.HeaderPurpose, "labeling")
	if a.status != 200 || a.header.Get("Content-Type") != "application/octet-stream" ||
		a.header.Get("Content-Length") != fmt.Sprint(len(a.body)) || a.header.Get("Cache-Control") != "no-store" ||
		a.header.Get("Content-Disposition") != `attachment; filename="one-0000.age"` {
		t.Fatalf("%d %v", a.status, a.header)
	}
	plain := must(seal.OpenBytes(a.body, w.keys["lena"], 1<<20))(t)
	if !bytes.Equal(plain, make([]byte, 1000)) {
		t.Error("the shard does not open to what was put")
	}
	sealed := must(base64.StdEncoding.DecodeString(a.header.Get(wire.HeaderManifest)))(t)
	var m dataset.Manifest
	if err := json.Unmarshal(must(seal.OpenBytes(sealed, w.keys["lena"], 1<<20))(t), &m); err != nil || m.Name != "one" || m.Size != 1000 {
		t.Errorf("%v %+v", err, m)
	}
	for _, method := range []string{"GET", "HEAD"} {
		if a := w.send("lena", method, strings.Replace(onePath, "sealed", "open", 1), nil); a.status != 200 || a.header.Get("Content-Length") != "1000" {
			t.Errorf("%s, opened: %d %v", method, a.status, a.header)
		}
	}
	for _, method := range []string{"GET", "HEAD"} {
		if a := w.send("lena", method, strings.Replace(onePath, "sealed", "members/one", 1), nil); a.status != 200 || a.header.Get("Content-Length") != "1000" {
			t.Errorf("%s of a member: %d %v", method, a.status, a.header)
		}
	}
	l := w.link("lena", "acme/signs/one/0")
	for _, method := range []string{"GET", "HEAD"} {
		if a := w.send("", method, wire.LinkPath+l.Secret, nil); a.status != 200 {
			t.Errorf("%s, by a link: %d", method, a.status)
		}
	}
	if page := call[wire.Page[wire.Link]](w, "lena", "GET", "/v1/links", nil); len(page.Items) != 1 {
		t.Errorf("%+v", page)
	}
	call[wire.Revoked](w, "lena", "DELETE", "/v1/links/"+l.ID.String(), nil)
	a = w.send("lena", "GET", onePath, nil, wire.HeaderDevice, w.devices["lena"].String())
	w.testMembers(t)
	index, hash, _ := strings.Cut(a.header.Get(wire.HeaderLeaf), ":")
	page := call[wire.Page[wire.Record]](w, "carol", "GET", "/v1/log?under=acme/signs/one&actor=lena", nil)
	found := false
	for _, r := range page.Items {
		if fmt.Sprint(r.Index) == index {
			sum := audit.LeafHash(r.Leaf)
			found = r.Kind == "read" && hash == hex.EncodeToString(sum[:]) && r.Actor == "lena"
		}
	}
	if !found {
		t.Errorf("the receipt %s:%s is not in the log: %+v", index, hash, page.Items)
	}
	if end := w.readEnd(); end["cause"] != "finished" || end["bytes-sent"] != fmt.Sprint(len(a.body)) {
		t.Errorf("%v", end)
	}
}

// testMembers reads the list of the shard's members, and a range of it.
func (w *world) testMembers(t *testing.T) {
	device := w.devices["lena"].String()
	a := w.send("lena", "GET", "/v1/datasets/acme/signs/one/shards/0/index", nil, wire.HeaderDevice, device)
	if a.status != 200 || a.header.Get("Content-Length") != fmt.Sprint(len(a.body)) || a.header.Get(wire.HeaderManifest) != "" {
		t.Fatalf("%d %v", a.status, a.header)
	}
	x := must(dataset.ParseIndex(must(seal.OpenBytes(a.body, w.keys["lena"], 1<<20))(t)))(t)
	if x.Number != 0 || x.Size != 1000 || len(x.Members) != 1 || x.Members[0].Name != "one" || x.Members[0].Size != 1000 {
		t.Errorf("%+v", x)
	}
	a = w.send("lena", "GET", onePath+"?offset=10&size=20", nil, wire.HeaderDevice, device)
	if a.status != 200 || len(a.body) != seal.HeaderSize()+int(seal.PayloadSize(1000)) { // its one chunk
		t.Errorf("%d, %d bytes", a.status, len(a.body))
	}
	for query, want := range map[string]int{
		"offset=0": 400, "size=1": 400, "offset=0&size=0": 400, "offset=0&size=1001": 400, "offset=1000&size=1": 400,
		"offset=-1&size=1": 400, "offset=0&size=99999999999999999999": 400,
	} {
		if a := w.send("lena", "GET", onePath+"?"+query, nil, wire.HeaderDevice, device); a.status != want {
			t.Errorf("%s: %d", query, a.status)
		}
	}
	if a := w.send("sam", "GET", onePath+"?offset=0&size=1001", nil, wire.HeaderDevice, w.devices["sam"].String()); a.status != 404 {
		t.Errorf("a stranger's range: %d", a.status)
	}
}

func (w *world) testAccess(t *testing.T) {
	if page := call[wire.Page[wire.Entry]](w, "lena", "GET", "/v1/scopes?under=acme", nil); len(page.Items) == 0 {
		t.Errorf("%+v", page)
	}
	if page := call[wire.Page[wire.Grant]](w, "root", "GET", "/v1/grants?scope=acme", nil); len(page.Items) != 2 {
		t.Errorf("%+v", page)
	}
	if page := call[wire.Page[wire.Assignment]](w, "lena", "GET", "/v1/assignments?scope=acme&person=me", nil); len(page.Items) != 1 {
		t.Errorf("%+v", page)
	}
	if d := call[wire.Decision](w, "lena", "GET", "/v1/can?person=me&action=read&object=acme/signs/one/0&purpose=labeling", nil); !d.Allowed {
		t.Errorf("%+v", d)
	}
	if out := call[wire.Revoked](w, "root", "DELETE", "/v1/assignments?dataset=acme/signs/one&person=lena&shards=0-5", nil); out.Ended != 1 {
		t.Errorf("%+v", out)
	}
	if a := w.send("lena", "GET", onePath, nil, wire.HeaderDevice, w.devices["lena"].String()); a.status != 403 && a.status != 404 {
		t.Errorf("a read after unassign: %d %s", a.status, a.body)
	}
	if out := call[wire.Revoked](w, "root", "DELETE", "/v1/grants?role=labeler&person=lena&scope=acme/signs", nil); out.Ended != 1 {
		t.Errorf("%+v", out)
	}
}

func (w *world) testApprovals(t *testing.T) {
	call[wire.Entry](w, "root", "POST", "/v1/projects", wire.NewProject{Scope: w.scope("acme/faces"), Purposes: []string{"labeling"}, Sensitive: true, Contract: "C-17"})
	w.person("bea")
	w.grant(dataset.Admin, "bea", "/")
	asked := func(role dataset.Role) string {
		g := call[wire.Grant](w, "root", "POST", "/v1/grants", wire.Grant{Role: role, Person: "lena", Scope: w.scope("acme/faces")})
		if g.Pending == nil {
			t.Fatalf("%+v", g)
		}
		return "/v1/approvals/" + g.Pending.ID.String()
	}
	yes, no := asked(dataset.Labeler), asked(dataset.Reviewer)
	if a := w.send("root", "POST", yes+"/approve", nil); a.status != http.StatusForbidden {
		t.Errorf("one's own request: %d", a.status)
	}
	if a := call[wire.Approval](w, "bea", "POST", yes+"/approve", nil); a.State != "used" || a.Second != "bea" {
		t.Errorf("%+v", a)
	}
	if a := call[wire.Approval](w, "bea", "POST", no+"/refuse", wire.Refusal{Reason: "why"}); a.State != "refused" {
		t.Errorf("%+v", a)
	}
	if a := call[wire.Approval](w, "root", "GET", no, nil); a.State != "refused" || a.By != "root" || a.Person != "lena" {
		t.Errorf("%+v", a)
	}
	if page := call[wire.Page[wire.Approval]](w, "root", "GET", "/v1/approvals?scope=acme&state=used&limit=1", nil); len(page.Items) != 1 || page.Items[0].Terms["role"] != "labeler" {
		t.Errorf("%+v", page)
	}
	if a := w.send("root", "GET", "/v1/approvals?state=odd", nil); a.status != http.StatusBadRequest {
		t.Errorf("an odd state: %d", a.status)
	}
}

func (w *world) testEmergency(t *testing.T) {
	nda := call[wire.Agreement](w, "root", "GET", "/v1/agreements/nda", nil) // an emergency does not waive it
	call[wire.Signature](w, "root", "POST", "/v1/agreements/nda/signatures", wire.Sign{Version: nda.Version, SHA256: nda.SHA256})
	b := call[wire.BreakGlass](w, "root", "POST", "/v1/break-glass", wire.NewBreakGlass{Scope: w.scope("acme/signs"), Reason: "incident 12", Seconds: 60})
	path := "/v1/break-glass/" + b.ID.String()
	a := w.send("root", "GET", strings.Replace(onePath, "sealed", "open", 1), nil)
	if a.status != 200 {
		t.Errorf("a read in an emergency: %d %s", a.status, a.body)
	}
	if got := call[wire.BreakGlass](w, "carol", "GET", path, nil); got.Reads == nil || *got.Reads != 1 || !got.InForce {
		t.Errorf("%+v", got)
	}
	call[wire.BreakGlass](w, "root", "DELETE", path, nil)
	if a := w.send("root", "GET", strings.Replace(onePath, "sealed", "open", 1), nil); a.status != http.StatusForbidden {
		t.Errorf("a read after the end: %d", a.status)
	}
	if page := call[wire.Page[wire.BreakGlass]](w, "bea", "GET", "/v1/break-glass?scope=acme&open=true", nil); len(page.Items) != 1 {
		t.Errorf("%+v", page)
	}
	if got := call[wire.BreakGlass](w, "bea", "POST", path+"/review", wire.BreakGlassReview{Verdict: wire.Justified}); got.Reviewer != "bea" {
		t.Errorf("%+v", got)
	}
	until := time.Now().Add(time.Hour)
	d := call[wire.Disclosure](w, "root", "POST", "/v1/disclosures", wire.NewDisclosure{Dataset: w.scope("acme/signs/one"), Reference: "court 12",
		Shards: dataset.ShardSet{{First: 0, Last: 0}}, Document: make([]byte, 32), Until: &until})
	if d.Pending == nil || !d.ID.IsZero() {
		t.Fatalf("%+v", d)
	}
	call[wire.Approval](w, "bea", "POST", "/v1/approvals/"+d.Pending.ID.String()+"/approve", nil)
	for purpose, want := range map[string]int{dataset.Legal: 200, "labeling": 403} {
		if a := w.send("root", "GET", strings.Replace(onePath, "sealed", "open", 1), nil, wire.HeaderPurpose, purpose); a.status != want {
			t.Errorf("a disclosure for %s: %d %s", purpose, a.status, a.body)
		}
	}
}

func (w *world) testChecks(t *testing.T) {
	c := call[wire.Check](w, "root", "POST", "/v1/checks", wire.NewCheck{Scope: w.scope("acme/signs"), Data: true})
	for c.State == "running" {
		c = call[wire.Check](w, "root", "GET", "/v1/checks/"+c.ID.String(), nil)
	}
	if c.State != "finished" || c.Checked == 0 || c.Checked != c.Objects || c.Read != c.Bytes || c.Damaged() || c.By != "root" {
		t.Errorf("%+v", c)
	}
	if page := call[wire.Page[wire.Finding]](w, "root", "GET", "/v1/checks/"+c.ID.String()+"/findings?limit=5", nil); len(page.Items) != 0 {
		t.Errorf("%+v", page)
	}
	if page := call[wire.Page[wire.Check]](w, "carol", "GET", "/v1/checks?scope=acme&limit=1", nil); len(page.Items) != 1 || page.Items[0].ID != c.ID {
		t.Errorf("%+v", page)
	}
	if a := w.send("root", "DELETE", "/v1/checks/"+c.ID.String(), nil); a.status != http.StatusConflict {
		t.Errorf("the end of a check that has ended: %d", a.status)
	}
	w.canceledCheck(t)
}

// canceledCheck cancels a check that is slow enough to be there.
func (w *world) canceledCheck(t *testing.T) {
	call[wire.Dataset](w, "carol", "PUT", "/v1/datasets/acme/signs/large/file", io.LimitReader(zeros{}, 4<<20))
	c := call[wire.Check](w, "root", "POST", "/v1/checks", wire.NewCheck{Scope: w.scope("acme"), Data: true, Rate: wire.MinCheckRate})
	if got := call[wire.Check](w, "root", "DELETE", "/v1/checks/"+c.ID.String(), nil); got.State != "canceled" {
		t.Errorf("%+v", got)
	}
}

func (w *world) testLog(t *testing.T) {
	nonce := strings.Repeat("5a", 16)
	for under, whole := range map[string]bool{"/": true, "acme": false, "acme/signs/one": false} {
		a := w.send("root", "GET", wire.PathBundle+"?known=1&nonce="+nonce+"&under="+under, nil)
		if a.status != 200 || a.header.Get("Content-Type") != wire.BundleType {
			t.Fatalf("%d %v", a.status, a.header)
		}
		opts := audit.BundleOptions{Origin: "dsvault-test"}
		copy(opts.Nonce[:], bytes.Repeat([]byte{0x5a}, 16))
		got, err := audit.VerifyBundle(bytes.NewReader(a.body), opts)
		if err != nil || got.Header.Whole != whole || got.Header.Scope != under || got.Leaves == 0 || whole && got.Leaves != got.Checkpoint.Size {
			t.Errorf("%s: %v, %+v", under, err, got)
		}
	}
}

func (w *world) testReceipt(t *testing.T) {
	a := w.send("lena", "GET", onePath, nil, wire.HeaderDevice, w.devices["lena"].String(), wire.HeaderPurpose, "labeling")
	r := must(audit.ParseReceipt(must(base64.StdEncoding.DecodeString(a.header.Get(wire.HeaderReceipt)))(t)))(t)
	hash := audit.LeafHash(r.Leaf)
	if got := fmt.Sprintf("%d:%x", r.Index, hash); got != a.header.Get(wire.HeaderLeaf) {
		t.Errorf("the receipt is of %s, the read is %s", got, a.header.Get(wire.HeaderLeaf))
	}
	if _, err := r.Verify(audit.BundleOptions{Origin: "dsvault-test"}); err != nil {
		t.Error(err)
	}
	// Whoever has the receipt may ask for the proof, without any right to the log.
	proof := call[wire.Inclusion](w, "lena", "GET", fmt.Sprintf("%s?index=%d&leaf=%x", wire.PathInclusion, r.Index, hash), nil)
	r.Checkpoint = proof.Checkpoint
	for _, h := range proof.Proof {
		r.Proof = append(r.Proof, h)
	}
	if got, err := r.Verify(audit.BundleOptions{Origin: "dsvault-test"}); err != nil || got.Checkpoint == nil {
		t.Errorf("%+v, %v", got, err)
	}
}
