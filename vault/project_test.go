package vault_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"dsvault/rbac"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// delivery sets what acme/signs allows besides sealed.
func (w *world) delivery(who string, ways ...dataset.Delivery) error {
	_, err := w.v.UpdateProject(context.Background(), w.as(who), w.scope("acme/signs"), wire.ProjectUpdate{Delivery: &ways})
	return err
}

func TestDelivery(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.assign("lee", "0")
	ctx := context.Background()
	can := func(who string, how dataset.Delivery) wire.Decision {
		t.Helper()
		return must[wire.Decision](t)(w.v.Can(ctx, w.as(who), "me", rbac.Read, "acme/signs/batch-1/0", "", how))
	}
	for _, who := range []string{"lee", "rita", "carol"} {
		if !can(who, "").Allowed || !can(who, dataset.Sealed).Allowed {
			t.Errorf("%s: sealed delivery is refused", who)
		}
		if d := can(who, dataset.Opened); d.Allowed || !slices.Contains(d.Reasons, "DNY-44 denies: not delivery") {
			t.Errorf("%s: opened: %+v", who, d)
		}
	}
	_, err := w.v.Can(ctx, w.as("lee"), "me", rbac.Read, "acme/signs/batch-1/0", "", "odd")
	wantCode(t, err, fault.Invalid)

	if err := w.delivery("carol", "opened", "sealed", "opened"); err != nil {
		t.Fatal(err)
	}
	if !can("lee", dataset.Opened).Allowed || can("lee", dataset.Direct).Allowed || !can("lee", dataset.Sealed).Allowed {
		t.Error("opened delivery, and no other, was to be allowed")
	}
	if err := w.delivery("root"); err != nil { // an admin may take it back
		t.Fatal(err)
	}
	if can("lee", dataset.Opened).Allowed {
		t.Error("opened delivery is allowed after it was taken back")
	}
	var said []string
	for _, l := range w.verify() {
		if l.Kind == audit.KindProjectCreate || l.Kind == audit.KindProjectUpdate {
			ways, _ := l.Text(audit.FieldDelivery)
			said = append(said, l.Kind.String()+" "+ways)
		}
	}
	if got := strings.Join(said, "; "); got != "project-create sealed; project-update sealed,opened; project-update sealed" {
		t.Errorf("the log says %s", got)
	}
}

func TestUpdateProject(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	signs := w.scope("acme/signs")
	update := func(who string, req wire.ProjectUpdate) (wire.Entry, error) {
		return w.v.UpdateProject(ctx, w.as(who), signs, req)
	}
	text := func(s string) *string { return &s }
	yes, no := true, false

	e := must[wire.Entry](t)(update("carol", wire.ProjectUpdate{Region: text("eu"), Purposes: &[]string{"labeling", "review"}}))
	if e.Region != "eu" || !slices.Equal(e.Purposes, []string{"labeling", "review"}) || e.Sensitive || e.Scope != signs || e.Created.IsZero() {
		t.Errorf("%+v", e)
	}
	e = must[wire.Entry](t)(update("root", wire.ProjectUpdate{Region: text(""), Sensitive: &yes, Contract: text("C-17"),
		Conditions: wire.ConditionsUpdate{Requires: &[]string{"nda"}}}))
	if e.Region != "" || !e.Sensitive || len(e.Purposes) != 2 {
		t.Errorf("what was not named has changed: %+v", e)
	}
	// Who made it sensitive cannot take that back alone: its client can.
	if e := must[wire.Entry](t)(update("root", wire.ProjectUpdate{Sensitive: &no})); e.Pending == nil {
		t.Errorf("%+v", e)
	}
	_, err := update("carol", wire.ProjectUpdate{Contract: text("")})
	wantCode(t, err, fault.Invalid)
	must[wire.Entry](t)(update("carol", wire.ProjectUpdate{Sensitive: &no}))

	for name, bad := range map[string]wire.ProjectUpdate{
		"nothing":     {},
		"a purpose":   {Purposes: &[]string{"Not a name"}},
		"a region":    {Region: text("e u")},
		"a contract":  {Contract: text("a\nb")},
		"a delivery":  {Delivery: &[]dataset.Delivery{"post"}},
		"an agrement": {Conditions: wire.ConditionsUpdate{Requires: &[]string{"../nda"}}},
	} {
		if _, err := update("carol", bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	many := slices.Repeat([]string{"a"}, 21)
	_, err = update("carol", wire.ProjectUpdate{Purposes: &many})
	wantCode(t, err, fault.TooLarge)
	for _, who := range []string{"lee", "rita", "audrey"} {
		_, err := update(who, wire.ProjectUpdate{Region: text("us")})
		wantCode(t, err, fault.Forbidden)
	}
	_, err = update("stranger", wire.ProjectUpdate{Region: text("us")})
	wantCode(t, err, fault.NotFound)
	_, err = w.v.UpdateProject(ctx, w.as("carol"), w.scope("acme/none"), wire.ProjectUpdate{Region: text("us")})
	wantCode(t, err, fault.NotFound)
	_, err = w.v.UpdateProject(ctx, w.as("carol"), w.scope("acme"), wire.ProjectUpdate{Region: text("us")})
	wantCode(t, err, fault.Invalid)
}
