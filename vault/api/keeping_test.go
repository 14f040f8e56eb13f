package api_test

import (
	"testing"

	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

func (w *world) testKeeping(t *testing.T) {
	r := call[wire.Retention](w, "carol", "PUT", "/v1/retentions", wire.NewRetention{Scope: w.scope("acme"), What: "data", Period: "2y", Basis: "contract"})
	if r.Period != "2y" || r.By != "carol" {
		t.Errorf("%+v", r)
	}
	if page := call[wire.Page[wire.Retention]](w, "carol", "GET", "/v1/retentions?scope=acme/signs&limit=1", nil); len(page.Items) != 1 || page.Items[0].Basis != "contract" {
		t.Errorf("%+v", page)
	}
	h := call[wire.Hold](w, "carol", "POST", "/v1/holds", wire.NewHold{Scope: w.scope("acme/signs"), Reason: "case"})
	if page := call[wire.Page[wire.Hold]](w, "root", "GET", "/v1/holds?scope=acme&ended=false", nil); len(page.Items) != 1 || page.Items[0].ID != h.ID {
		t.Errorf("%+v", page)
	}
	if page := call[wire.Page[wire.Erasure]](w, "carol", "GET", "/v1/erasures?scope=acme", nil); len(page.Items) != 0 {
		t.Errorf("%+v", page)
	}
	for _, c := range []struct {
		who, method, path string
		body              any
		status            int
		code              fault.Code
	}{
		{"carol", "DELETE", "/v1/holds/" + h.ID.String(), nil, 403, fault.Forbidden},
		{"root", "POST", "/v1/erasures", wire.NewErasure{Scope: w.scope("acme")}, 403, fault.Forbidden},
		{"root", "GET", "/v1/erasures/" + dataset.ErasureID{1}.String(), nil, 404, fault.NotFound},
		{"root", "GET", "/v1/erasures/" + dataset.ErasureID{1}.String() + "/certificate", nil, 404, fault.NotFound},
		{"root", "GET", "/v1/holds?ended=maybe", nil, 400, fault.Invalid},
		{"carol", "PUT", "/v1/retentions", wire.NewRetention{Scope: w.scope("acme"), What: "data", Period: "soon"}, 400, fault.Invalid},
		{"carol", "PUT", "/v1/retentions", wire.NewRetention{Scope: w.scope("acme"), What: "money", Period: "1y"}, 404, fault.NotFound},
	} {
		if a := w.send(c.who, c.method, c.path, c.body); a.status != c.status || a.problem(t).Code != c.code || a.problem(t).Hint == "" {
			t.Errorf("%s %s: %d %s", c.method, c.path, a.status, a.body)
		}
	}
	released := call[wire.Hold](w, "root", "DELETE", "/v1/holds/"+h.ID.String()+"?reason=closed", nil)
	if released.Pending == nil {
		t.Fatalf("one person released a hold: %+v", released)
	}
	w.person("dora")
	w.grant(dataset.Admin, "dora", "/")
	call[wire.Approval](w, "dora", "POST", "/v1/approvals/"+released.Pending.ID.String()+"/approve", nil)
	e := call[wire.Erasure](w, "root", "POST", "/v1/erasures", wire.NewErasure{Scope: w.scope("acme/signs/one")})
	if e.Pending == nil {
		t.Fatalf("one person erased: %+v", e)
	}
	call[wire.Approval](w, "dora", "POST", "/v1/approvals/"+e.Pending.ID.String()+"/approve", nil)
	e = call[wire.Page[wire.Erasure]](w, "carol", "GET", "/v1/erasures?scope=acme/signs/one", nil).Items[0]
	for e.State != "complete" {
		e = call[wire.Erasure](w, "carol", "GET", "/v1/erasures/"+e.ID.String(), nil)
	}
	c := call[audit.Certificate](w, "carol", "GET", "/v1/erasures/"+e.ID.String()+"/certificate", nil)
	if r, err := c.Verify(audit.BundleOptions{}); err != nil || r.Erasure.Second != "dora" {
		t.Errorf("%+v, %v", r, err)
	}
	if a := w.send("carol", "GET", onePath, nil, wire.HeaderDevice, w.devices["carol"].String()); a.status != 410 || a.problem(t).Code != fault.Gone {
		t.Errorf("a read of what was erased: %d %s", a.status, a.body)
	}
}
