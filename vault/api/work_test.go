package api_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"dsvault/vault/dataset"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// testWork claims a shard, returns work on it, judges and reads it.
func (w *world) testWork(t *testing.T) {
	const base = "/v1/datasets/acme/signs/two"
	w.person("rita")
	w.grant(dataset.Reviewer, "rita", "acme/signs")
	nda := call[wire.Agreement](w, "rita", "GET", "/v1/agreements/nda", nil)
	call[wire.Signature](w, "rita", "POST", "/v1/agreements/nda/signatures", wire.Sign{Version: nda.Version, SHA256: nda.SHA256})
	open := true
	call[wire.Entry](w, "carol", "PATCH", "/v1/projects/acme/signs", wire.ProjectUpdate{Claims: &open})
	claim := call[wire.Claim](w, "lena", "POST", base+"/claims", wire.NewClaim{Seconds: 600})
	again := call[wire.Claim](w, "lena", "PUT", fmt.Sprint(base, "/claims/", claim.Shard), wire.Lease{Seconds: 1200})
	if again.Shard != claim.Shard || !again.Until.After(claim.Until) {
		t.Errorf("%+v, renewed %+v", claim, again)
	}
	plain := []byte("labels")
	d := call[wire.Dataset](w, "lena", "GET", base, nil)
	sealed, manifest := sealedShard(t, d.Recipient, claim.Shard, plain)
	up := call[wire.Upload](w, "lena", "POST", fmt.Sprint(base, "/shards/", claim.Shard, "/work"), wire.NewWork{Size: int64(len(plain))})
	path := base + "/work/" + up.Attempt.String()
	call[wire.Stored](w, "lena", "PUT", path, bytes.NewReader(sealed))
	sum := sha256.Sum256(sealed)
	work := call[wire.Work](w, "lena", "POST", path+"/commit", wire.Commit{SHA256: sum[:], Manifest: manifest})
	// An attempt at returning work is none at a shard.
	if a := w.send("carol", "POST", base+"/uploads/"+up.Attempt.String()+"/commit", wire.Commit{SHA256: sum[:], Manifest: manifest}); a.status != http.StatusNotFound {
		t.Errorf("%d %s", a.status, a.body)
	}
	list := call[wire.Page[wire.Work]](w, "carol", "GET", base+"/results?state=submitted&latest=1&shard="+fmt.Sprint(claim.Shard), nil)
	if len(list.Items) != 1 || list.Items[0].ID != work.ID || list.Items[0].Author != "lena" {
		t.Errorf("%+v", list)
	}
	a := w.send("carol", "GET", base+"/results/"+work.ID.String()+"/sealed", nil, wire.HeaderDevice, w.devices["carol"].String())
	got := must(seal.OpenBytes(a.body, w.keys["carol"], 1<<20))(t)
	if !bytes.Equal(got, plain) || a.header.Get(wire.HeaderReceipt) == "" || a.header.Get(wire.HeaderLeaf) == "" ||
		a.header.Get("Content-Length") != fmt.Sprint(len(a.body)) {
		t.Errorf("%q %v", got, a.header)
	}
	judged := call[wire.Work](w, "rita", "POST", base+"/results/"+work.ID.String()+"/review", wire.Judgement{Reason: "again"})
	if judged.State != "sent-back" || judged.By != "rita" {
		t.Errorf("%+v", judged)
	}
	rows := call[wire.Page[wire.ShardWork]](w, "root", "GET", "/v1/work?under=acme/signs&limit=2", nil)
	if len(rows.Items) < 2 || rows.Next == "" {
		t.Errorf("%+v", rows)
	}
	call[wire.Revoked](w, "lena", "DELETE", fmt.Sprint(base, "/claims/", claim.Shard), nil)
	for _, query := range []string{"latest=0", "state=new", "shard=-2", "after=x"} {
		if a := w.send("carol", "GET", base+"/results?"+query, nil); a.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", query, a.status, a.body)
		}
	}
	call[wire.Revoked](w, "root", "DELETE", "/v1/grants?role=reviewer&person=rita&scope=acme/signs", nil)
	defer func() {
		closed := false
		call[wire.Entry](w, "carol", "PATCH", "/v1/projects/acme/signs", wire.ProjectUpdate{Claims: &closed})
	}()
	if a := w.send("lena", "POST", base+"/claims", wire.NewClaim{Seconds: 59}); a.status != http.StatusBadRequest {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// testReviews reviews the access to a project, to its signed result.
func (w *world) testReviews(t *testing.T) {
	w.person("second")
	w.grant(dataset.Admin, "second", "/")
	r := call[wire.AccessReview](w, "second", "POST", "/v1/reviews", wire.NewReview{Scope: w.scope("acme/signs"), Days: 3})
	path := "/v1/reviews/" + r.ID.String()
	var numbers []int
	for _, i := range call[wire.Page[wire.ReviewItem]](w, "second", "GET", path+"/items?limit=1000", nil).Items {
		if i.Kind != "above" {
			numbers = append(numbers, i.Number)
		}
	}
	if a := w.send("second", "GET", path+"/result", nil); a.status != http.StatusConflict {
		t.Errorf("%d %s", a.status, a.body)
	}
	r = call[wire.AccessReview](w, "second", "POST", path+"/items", wire.DecideItems{Items: numbers, Decide: "keep"})
	if r.Undecided != 0 || r.Kept != len(numbers) {
		t.Errorf("%+v", r)
	}
	call[wire.AccessReview](w, "second", "POST", path+"/finish", nil)
	if r = call[wire.AccessReview](w, "root", "GET", path, nil); r.State != "ended" {
		t.Errorf("%+v", r)
	}
	if page := call[wire.Page[wire.AccessReview]](w, "root", "GET", "/v1/reviews?scope=acme", nil); len(page.Items) != 1 || page.Items[0].ID != r.ID {
		t.Errorf("%+v", page)
	}
	a := w.send("root", "GET", path+"/result", nil)
	if a.status != 200 || strings.Count(string(a.body), "\n") != r.Items+1 {
		t.Errorf("%d %s", a.status, a.body)
	}
	for _, who := range []string{"carol", "sam"} {
		if a := w.send(who, "GET", path, nil); a.status != map[string]int{"carol": 403, "sam": 404}[who] {
			t.Errorf("%s: %d %s", who, a.status, a.body)
		}
	}
}
