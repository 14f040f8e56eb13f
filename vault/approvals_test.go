package vault_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// sensitive makes acme/signs a project with special categories of data.
func (w *world) sensitive() {
	w.t.Helper()
	yes, contract := true, "C-17"
	must[wire.Entry](w.t)(w.v.UpdateProject(context.Background(), w.as("root"), w.scope("acme/signs"), wire.ProjectUpdate{Sensitive: &yes, Contract: &contract}))
}

// asks has root ask for a role, which takes a second admin.
func (w *world) asks(role dataset.Role, who, scope string, until *time.Time) dataset.ApprovalID {
	w.t.Helper()
	g := must[wire.Grant](w.t)(w.v.Grant(context.Background(), w.as("root"), wire.Grant{Role: role, Person: who, Scope: w.scope(scope), Until: until, Reason: "ticket 7"}))
	if g.Pending == nil || g.Pending.State != "open" || g.At != nil {
		w.t.Fatalf("not asked for: %+v", g)
	}
	return g.Pending.ID
}

func (w *world) approve(who string, id dataset.ApprovalID) (wire.Approval, error) {
	return w.v.Approve(context.Background(), w.as(who), id)
}

func TestSensitiveDataTakesTwoPeople(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	const ds = "acme/signs/batch-1"
	w.assign("lee", "0")
	must[[]byte](t)(w.read("lee", ds, 0))
	for _, contract := range []string{"", " "} {
		_, err := w.v.CreateProject(ctx, w.as("root"), wire.NewProject{Scope: w.scope("acme/health"), Purposes: []string{"labeling"}, Sensitive: true, Contract: contract})
		wantCode(t, err, fault.Invalid)
	}
	w.sensitive()
	empty := ""
	_, err := w.v.UpdateProject(ctx, w.as("carol"), w.scope("acme/signs"), wire.ProjectUpdate{Contract: &empty})
	wantCode(t, err, fault.Invalid)

	// What one admin alone had given does not open it.
	for _, who := range []string{"lee", "rita", "carol"} {
		_, err := w.read(who, ds, 0)
		wantCode(t, err, fault.Forbidden)
	}
	// A grant above the project does neither.
	w.grant(dataset.Reviewer, "rita", "acme", nil)
	_, err = w.read("rita", ds, 0)
	wantCode(t, err, fault.Forbidden)

	reviewer := w.asks(dataset.Reviewer, "rita", "acme/signs", nil)
	if again := w.asks(dataset.Reviewer, "rita", "acme/signs", nil); again != reviewer {
		t.Error("the same was asked for twice")
	}
	_, err = w.read("rita", ds, 0)
	wantCode(t, err, fault.Forbidden)
	for who, code := range map[string]fault.Code{"root": fault.Forbidden, "carol": fault.Forbidden, "rita": fault.Forbidden, "stranger": fault.NotFound} {
		_, err := w.approve(who, reviewer)
		wantCode(t, err, code)
	}
	a := must[wire.Approval](t)(w.approve("second", reviewer))
	if a.State != "used" || a.By != "root" || a.Second != "second" || a.Person != "rita" || a.Terms["role"] != "reviewer" || a.Terms["reason"] != "ticket 7" {
		t.Errorf("%+v", a)
	}
	must[[]byte](t)(w.read("rita", ds, 0))
	_, err = w.approve("second", reviewer)
	wantCode(t, err, fault.Conflict)

	// An assignment by two people is enough for a role that one has given.
	set := dataset.ShardSet{{First: 0, Last: 0}}
	got := must[wire.Assignment](t)(w.v.Assign(ctx, w.as("second"), wire.Assignment{Dataset: w.scope(ds), Person: "lee", Shards: set}))
	if got.Pending == nil {
		t.Fatalf("assigned by one: %+v", got)
	}
	_, err = w.read("lee", ds, 0)
	wantCode(t, err, fault.Forbidden)
	must[wire.Approval](t)(w.approve("root", got.Pending.ID))
	must[[]byte](t)(w.read("lee", ds, 0))
	_, err = w.read("lee", ds, 1)
	wantCode(t, err, fault.Forbidden)

	// Whom it is about does not approve, admin or not.
	w.invite("third")
	w.grant(dataset.Admin, "third", "/", nil)
	about := w.asks(dataset.Reviewer, "second", "acme/signs", nil)
	_, err = w.approve("second", about)
	wantCode(t, err, fault.Forbidden)
	must[wire.Approval](t)(w.approve("third", about))
	must[[]byte](t)(w.read("second", ds, 1))

	// What an admin changes of the terms takes two, too; the client alone may.
	no := false
	e := must[wire.Entry](t)(w.v.UpdateProject(ctx, w.as("root"), w.scope("acme/signs"), wire.ProjectUpdate{Sensitive: &no}))
	if e.Pending == nil {
		t.Fatal("one admin changed the terms of a sensitive project")
	}
	_, err = w.read("carol", ds, 0)
	wantCode(t, err, fault.Forbidden)
	must[wire.Approval](t)(w.approve("second", e.Pending.ID))
	must[[]byte](t)(w.read("carol", ds, 0))
	w.checkApprovalLeaves()
}

// checkApprovalLeaves looks at the records of what took two people.
func (w *world) checkApprovalLeaves() {
	w.t.Helper()
	requests, approved := map[[16]byte]audit.Leaf{}, map[[16]byte]audit.Leaf{}
	used := 0
	for _, l := range w.verify() {
		for _, f := range l.Ext {
			if f.ID.Type() == audit.TypeText && (strings.Contains(string(f.Value), "rita") || strings.Contains(string(f.Value), "ticket")) {
				w.t.Errorf("a %v record holds %q in clear", l.Kind, f.Value)
			}
		}
		switch l.Kind {
		case audit.KindApprovalRequest:
			requests[l.Object.ID] = l
		case audit.KindApprove:
			if asked, ok := requests[l.Object.ID]; !ok || asked.Actor == l.Actor {
				w.t.Error("approved by who asked, or not asked for")
			}
			approved[l.Object.ID] = l
		case audit.KindGrant, audit.KindAssign, audit.KindProjectUpdate:
			id, ok := l.Bytes(audit.FieldApprovalID)
			if !ok {
				continue
			}
			used++
			first, second := requests[[16]byte(id)], approved[[16]byte(id)]
			if tag, _ := l.Bytes(audit.FieldApproverTag); l.Actor != first.Actor || string(tag) != string(second.Actor[:]) {
				w.t.Errorf("a %v record names other people than its request and its approval", l.Kind)
			}
		}
	}
	if used != 4 || len(requests) != 4 || len(approved) != 4 {
		w.t.Errorf("%d requests, %d approvals, %d used", len(requests), len(approved), used)
	}
}

// An approval is good for exactly what was asked for, and once.
func TestApprovalIsForOneQuestion(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.sensitive()
	ctx := context.Background()
	until := w.clock.Now().Add(90 * 24 * time.Hour)
	id := w.asks(dataset.Labeler, "stranger", "acme/signs", &until)
	// Whoever has asked is no admin any more when it is approved: it waits.
	must[wire.Revoked](t)(w.v.Revoke(ctx, w.as("second"), dataset.Admin, "root", w.scope("/")))
	_, err := w.approve("second", id)
	wantCode(t, err, fault.NotFound)
	if a := must[wire.Approval](t)(w.v.Approval(ctx, w.as("second"), id)); a.State != "approved" || a.Used != nil {
		t.Fatalf("%+v", a)
	}
	must[wire.Grant](t)(w.v.Grant(ctx, w.as("second"), wire.Grant{Role: dataset.Admin, Person: "root", Scope: w.scope("/")}))

	asked := wire.Grant{Role: dataset.Labeler, Person: "stranger", Scope: w.scope("acme/signs"), Until: &until, Reason: "ticket 7"}
	later := until.Add(time.Second)
	for name, other := range map[string]func(*wire.Grant){
		"role":   func(g *wire.Grant) { g.Role = dataset.Reviewer },
		"person": func(g *wire.Grant) { g.Person = "lee" },
		"scope":  func(g *wire.Grant) { g.Scope = w.scope("acme/signs/batch-1") },
		"end":    func(g *wire.Grant) { g.Until = &later },
		"no end": func(g *wire.Grant) { g.Until = nil },
		"reason": func(g *wire.Grant) { g.Reason = "another" },
	} {
		g := asked
		other(&g)
		if got := must[wire.Grant](t)(w.v.Grant(ctx, w.as("root"), g)); got.Pending == nil || got.Pending.ID == id {
			t.Errorf("an approval was good for another %s", name)
		}
	}
	if got := must[wire.Grant](t)(w.v.Grant(ctx, w.as("second"), asked)); got.Pending == nil {
		t.Error("an approval was good for another admin")
	}
	// Once, however many try at the same time.
	var done, pending atomic.Int32
	var all sync.WaitGroup
	caller := w.as("root")
	for range 8 {
		all.Go(func() {
			got, err := w.v.Grant(ctx, caller, asked)
			switch {
			case err == nil && got.Pending == nil:
				done.Add(1)
			case err == nil || fault.Is(err, fault.Conflict) || fault.Is(err, fault.Forbidden):
				pending.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if done.Load() != 1 || pending.Load() != 7 {
		t.Errorf("an approval was good %d times", done.Load())
	}
	if got := must[wire.Grant](t)(w.v.Grant(ctx, w.as("root"), asked)); got.Pending == nil {
		t.Error("an approval was good twice")
	}
}

// What was approved and could not be done then is done when it is approved again.
func TestApprovedAgain(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.sensitive()
	ctx := context.Background()
	id := w.asks(dataset.Reviewer, "rita", "acme/signs", nil)
	must[wire.Revoked](t)(w.v.Revoke(ctx, w.as("second"), dataset.Admin, "root", w.scope("/")))
	_, err := w.approve("second", id)
	wantCode(t, err, fault.NotFound)
	if hint := fault.HintOf(err); !strings.Contains(hint, "dsvault approve "+id.String()) {
		t.Errorf("hint %q", hint)
	}
	must[wire.Grant](t)(w.v.Grant(ctx, w.as("second"), wire.Grant{Role: dataset.Admin, Person: "root", Scope: w.scope("/")}))
	_, err = w.read("rita", "acme/signs/batch-1", 0)
	wantCode(t, err, fault.Forbidden)
	// Nor is it lost with the process, nor known to one node only.
	w.v.Close()
	w.v = must[*vault.Vault](t)(w.open())
	t.Cleanup(func() { w.v.Close() })
	if a := must[wire.Approval](t)(w.approve("second", id)); a.State != "used" {
		t.Errorf("%+v", a)
	}
	must[[]byte](t)(w.read("rita", "acme/signs/batch-1", 0))
}

func TestApprovalsLapse(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.sensitive()
	ctx := context.Background()
	list := func(who, scope, state string) []wire.Approval {
		t.Helper()
		return must[wire.Page[wire.Approval]](t)(w.v.Approvals(ctx, w.as(who), w.scope(scope), state, "", 0)).Items
	}
	first := w.asks(dataset.Labeler, "lee", "acme/signs", nil)
	w.clock.Add(time.Second)
	late := w.asks(dataset.Reviewer, "lee", "acme/signs", nil)
	w.clock.Add(7*24*time.Hour - time.Second)
	_, err := w.approve("second", first)
	wantCode(t, err, fault.Conflict)
	if open, gone := list("second", "/", "open"), list("second", "acme", "expired"); len(open) != 1 || open[0].ID != late || len(gone) != 1 || gone[0].ID != first || gone[0].State != "expired" {
		t.Errorf("open %+v, expired %+v", open, gone)
	}
	w.clock.Add(-time.Microsecond) // the log's own time does not go back
	must[wire.Approval](t)(w.approve("second", late))

	// An approval that was not used lapses after three days.
	id := w.asks(dataset.Labeler, "stranger", "acme/signs", nil)
	must[wire.Revoked](t)(w.v.Revoke(ctx, w.as("second"), dataset.Admin, "root", w.scope("/")))
	_, err = w.approve("second", id)
	wantCode(t, err, fault.NotFound)
	must[wire.Grant](t)(w.v.Grant(ctx, w.as("second"), wire.Grant{Role: dataset.Admin, Person: "root", Scope: w.scope("/")}))
	w.clock.Add(3*24*time.Hour + time.Second)
	if again := w.asks(dataset.Labeler, "stranger", "acme/signs", nil); again == id {
		t.Error("an approval that has lapsed is found again")
	}

	// No, and never mind.
	no := must[wire.Approval](t)(w.v.Refuse(ctx, w.as("second"), w.asks(dataset.Labeler, "rita", "acme/signs", nil), wire.Refusal{Reason: "why"}))
	mine := must[wire.Approval](t)(w.v.Refuse(ctx, w.as("root"), w.asks(dataset.Labeler, "audrey", "acme/signs", nil), wire.Refusal{}))
	if no.State != "refused" || no.Second != "second" || mine.State != "withdrawn" {
		t.Errorf("%+v, %+v", no, mine)
	}
	for _, id := range []dataset.ApprovalID{no.ID, mine.ID} {
		_, err := w.approve("second", id)
		wantCode(t, err, fault.Conflict)
	}
	_, err = w.v.Refuse(ctx, w.as("lee"), first, wire.Refusal{})
	wantCode(t, err, fault.Forbidden)

	// Who sees what: the client what is about its data, everybody their own.
	if n := len(list("carol", "acme", "")); n != 6 {
		t.Errorf("the client sees %d requests", n)
	}
	if n := len(list("carol", "/", "")); n != 0 {
		t.Errorf("the client sees %d requests of the whole vault", n)
	}
	if n := len(list("audrey", "/", "")); n != 6 {
		t.Errorf("the auditor sees %d requests", n)
	}
	_, err = w.v.Approvals(ctx, w.as("lee"), w.scope("acme"), "", "", 0)
	wantCode(t, err, fault.NotFound)
	_, err = w.v.Approval(ctx, w.as("stranger"), first)
	wantCode(t, err, fault.NotFound)
	page := must[wire.Page[wire.Approval]](t)(w.v.Approvals(ctx, w.as("second"), w.scope("/"), "", "", 4))
	rest := must[wire.Page[wire.Approval]](t)(w.v.Approvals(ctx, w.as("second"), w.scope("/"), "", page.Next, 4))
	if len(page.Items) != 4 || len(rest.Items) != 2 || rest.Next != "" || rest.Items[1].ID != first {
		t.Errorf("%+v, %+v", page, rest)
	}
}
