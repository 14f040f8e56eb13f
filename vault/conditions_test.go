package vault_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvault/rbac"
	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

const batch = "acme/signs/batch-1"

// require changes the conditions of a scope, as who.
func (w *world) require(who, scope string, req wire.ConditionsUpdate) {
	w.t.Helper()
	must[wire.Conditions](w.t)(w.v.UpdateConditions(context.Background(), w.as(who), w.scope(scope), req))
}

func (w *world) publish(name, text string, grace time.Duration) {
	w.t.Helper()
	must[wire.Agreement](w.t)(w.v.Publish(context.Background(), w.as("root"), wire.Publish{Name: name, Text: text, Grace: int64(grace / time.Second)}))
}

func (w *world) sign(who, name string, until *time.Time) {
	w.t.Helper()
	ctx := context.Background()
	a := must[wire.Agreement](w.t)(w.v.Agreement(ctx, w.as(who), name))
	must[wire.Signature](w.t)(w.v.Sign(ctx, w.as(who), name, wire.Sign{Version: a.Version, SHA256: a.SHA256, Until: until}))
}

// standing gives the state of somebody's signature on an agreement, as they are shown it.
func (w *world) standing(who, name string) wire.SignatureState {
	w.t.Helper()
	page := must[wire.Page[wire.SignatureStatus]](w.t)(w.v.Signatures(context.Background(), w.as(who), "me", "", 0))
	for _, row := range page.Items {
		if row.Agreement == name && row.Person == who {
			return row.State
		}
	}
	return ""
}

// refused reads as who, who has to be refused by a rule and told this.
func (w *world) refused(who, rule, hint string) {
	w.t.Helper()
	_, err := w.read(who, batch, 0)
	var f *fault.Error
	if !errors.As(err, &f) || f.Code != fault.Forbidden {
		w.t.Errorf("%s reads: %v; want a refusal by %s", who, err, rule)
		return
	}
	if reasons := strings.Join(f.Reasons, "; "); !strings.Contains(reasons, rule) {
		w.t.Errorf("%s is refused: %s; want %s", who, reasons, rule)
	}
	if got := fault.HintOf(err); !strings.Contains(got, hint) {
		w.t.Errorf("%s is told %q, not %q", who, got, hint)
	}
}

// running starts a read that gets stuck, and gives how it ends.
func (w *world) running(who string) <-chan error {
	w.t.Helper()
	s := must[*vault.ShardStream](w.t)(w.v.ReadShard(context.Background(), w.as(who), dataset.ShardRef{Dataset: w.scope(batch)}, w.ids[who], ""))
	b := &blockingWriter{started: make(chan struct{}), cut: make(chan struct{})}
	sent := make(chan error, 1)
	go func() { sent <- s.Send(b, func() { close(b.cut) }) }()
	<-b.started
	return sent
}

// TestRequiredAgreements: the vault, the client and the project may each require
// agreements; every reader but the owner needs all of them.
func TestRequiredAgreements(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.assign("lee", "0")
	must[[]byte](t)(w.read("lee", batch, 0))
	w.require("root", "/", wire.ConditionsUpdate{Requires: &[]string{"house"}})
	w.require("root", "acme", wire.ConditionsUpdate{Requires: &[]string{"nda"}})
	w.require("carol", "acme/signs", wire.ConditionsUpdate{Requires: &[]string{"strict"}})
	w.refused("lee", "DNY-22", "ask an admin to publish what has to be signed here: house, nda, strict")
	if got := w.standing("lee", "strict"); got != wire.AgreementUnpublished {
		t.Errorf("what is not published: %s", got)
	}
	for _, name := range []string{"house", "nda", "strict"} {
		w.publish(name, "Tell nobody of "+name, 0)
	}
	w.refused("lee", "DNY-22", "`dsvault agreement sign house`, `dsvault agreement sign nda`, `dsvault agreement sign strict`")
	w.sign("lee", "house", nil)
	w.sign("lee", "strict", nil)
	w.refused("lee", "DNY-22", "required here: `dsvault agreement sign nda`")
	d := must[wire.Decision](t)(w.v.Can(context.Background(), w.as("lee"), "me", rbac.Read, batch+"/0", "", ""))
	if d.Allowed || !strings.Contains(d.Hint, "sign nda") {
		t.Errorf("can says %+v", d)
	}
	w.sign("lee", "nda", nil)
	must[[]byte](t)(w.read("lee", batch, 0))
	must[[]byte](t)(w.read("carol", batch, 0)) // the owner's own data
	w.refused("rita", "DNY-22", "sign house")

	// What is required afterwards cuts a read that is under way.
	sent := w.running("lee")
	w.require("root", "acme", wire.ConditionsUpdate{Requires: &[]string{"nda", "more"}})
	wantCode(t, <-sent, fault.Forbidden)
	w.require("root", "acme", wire.ConditionsUpdate{Requires: &[]string{}})
	must[[]byte](t)(w.read("lee", batch, 0))

	got := must[wire.Conditions](t)(w.v.Conditions(context.Background(), w.as("lee"), w.scope("acme/signs")))
	if !slices.Equal(got.Requires, []string{"strict"}) || len(got.Above) != 2 || !slices.Equal(got.Above[0].Requires, []string{"house"}) {
		t.Errorf("%+v", got)
	}
	changes := 0
	for _, l := range w.verify() {
		if l.Kind == audit.KindConditions && l.Decision == audit.Allowed {
			changes++
		}
	}
	if changes != 4 { // the project's are a change of its terms
		t.Errorf("%d changes of conditions in the log", changes)
	}
}

// TestAgreementLapses: a signature counts to the second that it says, or that the
// grace of a newer version gives it; then running reads are cut.
func TestAgreementLapses(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.assign("conny", "0")
	w.publish("nda", "Tell nobody.", 0)
	if got := w.standing("conny", "nda"); got != wire.SignatureNone {
		t.Errorf("before: %s", got)
	}
	hour := w.clock.Now().Add(time.Hour)
	w.sign("conny", "nda", &hour)
	w.clock.Add(time.Hour - time.Second)
	must[[]byte](t)(w.read("conny", batch, 0))
	if got := w.standing("conny", "nda"); got != wire.SignatureInForce {
		t.Errorf("signed: %s", got)
	}
	sent := w.running("conny")
	w.clock.Add(time.Second)
	wantCode(t, <-sent, fault.Forbidden)
	w.refused("conny", "DNY-19", "agreement sign nda")
	if got := w.standing("conny", "nda"); got != wire.SignatureExpired {
		t.Errorf("expired: %s", got)
	}

	w.sign("conny", "nda", nil)
	w.publish("nda", "Tell nobody at all.", 14*24*time.Hour)
	w.clock.Add(14*24*time.Hour - time.Second)
	must[[]byte](t)(w.read("conny", batch, 0))
	if got := w.standing("conny", "nda"); got != wire.SignatureGrace {
		t.Errorf("in the grace: %s", got)
	}
	sent = w.running("conny")
	w.clock.Add(time.Second)
	wantCode(t, <-sent, fault.Forbidden)
	w.refused("conny", "DNY-19", "agreement sign nda")
	if got := w.standing("conny", "nda"); got != wire.SignatureOutdated {
		t.Errorf("after the grace: %s", got)
	}
	w.sign("conny", "nda", nil)
	must[[]byte](t)(w.read("conny", batch, 0))
	w.publish("nda", "Tell nobody, ever.", 0) // at once
	w.refused("conny", "DNY-19", "agreement sign nda")
	_, err := w.v.Publish(context.Background(), w.as("root"), wire.Publish{Name: "nda", Text: "x", Grace: 400 * 24 * 3600})
	wantCode(t, err, fault.Invalid)
}

// TestSignatureIsWithdrawn: by whoever gave it, or by an admin; under all versions;
// running reads are cut.
func TestSignatureIsWithdrawn(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.assign("conny", "0")
	withdraw := func(by, whose string) (wire.Revoked, error) {
		return w.v.WithdrawSignature(t.Context(), w.as(by), "nda", whose)
	}
	_, err := withdraw("conny", "me")
	wantCode(t, err, fault.NotFound)
	w.publish("nda", "Tell nobody.", 0)
	w.sign("conny", "nda", nil)
	w.publish("nda", "Tell nobody at all.", 14*24*time.Hour)
	w.sign("conny", "nda", nil)
	_, err = withdraw("lee", "conny")
	wantCode(t, err, fault.Forbidden)
	sent := w.running("conny")
	if out := must[wire.Revoked](t)(withdraw("conny", "me")); out.Ended != 2 {
		t.Errorf("%d signatures were withdrawn, want both", out.Ended)
	}
	wantCode(t, <-sent, fault.Forbidden)
	w.refused("conny", "DNY-19", "agreement sign nda")
	if got := w.standing("conny", "nda"); got != wire.SignatureWithdrawn {
		t.Errorf("withdrawn: %s", got)
	}
	_, err = withdraw("conny", "me")
	wantCode(t, err, fault.NotFound)

	w.sign("conny", "nda", nil)
	sent = w.running("conny")
	if out := must[wire.Revoked](t)(withdraw("root", "conny")); out.Ended != 1 {
		t.Errorf("%d signatures were withdrawn, want one", out.Ended)
	}
	wantCode(t, <-sent, fault.Forbidden)
	w.refused("conny", "DNY-19", "agreement sign nda")
	w.sign("conny", "nda", nil)
	must[[]byte](t)(w.read("conny", batch, 0))
}

func TestSignatures(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.publish("nda", "Tell nobody.", 0)
	w.require("root", "acme", wire.ConditionsUpdate{Requires: &[]string{"strict"}})
	w.sign("rita", "nda", nil) // nobody asked for it
	ctx := context.Background()
	list := func(who, person string) (rows []string) {
		t.Helper()
		for after := ""; ; {
			page := must[wire.Page[wire.SignatureStatus]](t)(w.v.Signatures(ctx, w.as(who), person, after, 3))
			for _, r := range page.Items {
				row := r.Person + " " + r.Agreement + " " + string(r.State)
				if !r.Required {
					row += " (not required)"
				}
				rows = append(rows, row)
			}
			if after = page.Next; after == "" {
				return rows
			}
		}
	}
	want := []string{"conny strict unpublished", "lee strict unpublished", "rita nda in-force (not required)", "rita strict unpublished"}
	for _, who := range []string{"root", "audrey"} {
		if got := list(who, ""); !slices.Equal(got, want) {
			t.Errorf("%s sees %q, want %q", who, got, want)
		}
	}
	if got := list("audrey", "lee"); !slices.Equal(got, want[1:2]) {
		t.Errorf("of one person: %q", got)
	}
	if got := list("rita", ""); !slices.Equal(got, want[2:]) {
		t.Errorf("one's own: %q", got)
	}
	if got := list("stranger", ""); got != nil {
		t.Errorf("a stranger's own: %q", got)
	}
	_, err := w.v.Signatures(ctx, w.as("lee"), "rita", "", 0)
	wantCode(t, err, fault.Forbidden)
}

// TestContractors: their grants end in time, and they read sealed, in the hours
// and from the networks that are named. Staff are not held to it.
func TestContractors(t *testing.T) {
	w := newWorld(t) // Sunday 2027-02-28 12:00 UTC
	w.setUp()
	w.assign("conny", "0")
	w.assign("lee", "0")
	w.publish("nda", "Tell nobody.", 0)
	w.sign("conny", "nda", nil)
	must[[]byte](t)(w.read("conny", batch, 0))
	ctx := context.Background()
	span := func(d time.Duration) *int64 { n := int64(d / time.Second); return &n }
	const day = 24 * time.Hour

	t.Run("hours", func(t *testing.T) {
		w.require("root", "acme/signs", wire.ConditionsUpdate{Hours: &[]string{"Mon-Fri 08:00-18:00 Europe/Berlin"}})
		w.refused("conny", "DNY-53", "only in the hours")
		must[[]byte](t)(w.read("lee", batch, 0))
		w.clock.Add(19*time.Hour - time.Second) // 07:59:59 on Monday in Berlin
		w.refused("conny", "DNY-53", "only in the hours")
		w.clock.Add(time.Second)
		sent := w.running("conny")
		w.clock.Add(10*time.Hour - time.Second)
		must[[]byte](t)(w.read("conny", batch, 0))
		w.clock.Add(time.Second)
		wantCode(t, <-sent, fault.Forbidden)
		w.refused("conny", "DNY-53", "only in the hours")
		w.require("root", "acme/signs", wire.ConditionsUpdate{Hours: &[]string{}})
	})
	t.Run("networks", func(t *testing.T) {
		w.require("carol", "acme/signs", wire.ConditionsUpdate{Networks: &[]string{"198.51.100.7"}})
		w.refused("conny", "DNY-54", "only from the networks")
		must[[]byte](t)(w.read("lee", batch, 0))
		for from, allowed := range map[string]bool{"198.51.100.7": true, "198.51.100.8": false} {
			d := must[wire.Decision](t)(w.v.CanFrom(ctx, w.as("root"), netip.MustParseAddr(from), "conny", rbac.Read, batch+"/0", "", ""))
			if d.Allowed != allowed {
				t.Errorf("from %s: %+v", from, d)
			}
		}
		w.require("carol", "acme/signs", wire.ConditionsUpdate{Networks: &[]string{"192.0.2.0/24", "198.51.100.7"}})
		must[[]byte](t)(w.read("conny", batch, 0))
		w.require("root", "/", wire.ConditionsUpdate{Networks: &[]string{"203.0.113.0/24"}}) // and the vault's
		w.refused("conny", "DNY-54", "only from the networks")
		w.require("root", "/", wire.ConditionsUpdate{Networks: &[]string{}})
	})
	t.Run("delivery", func(t *testing.T) {
		can := func(who string) wire.Decision {
			return must[wire.Decision](t)(w.v.Can(ctx, w.as(who), "me", rbac.Read, batch+"/0", "", dataset.Opened))
		}
		if err := w.delivery("carol", dataset.Opened); err != nil {
			t.Fatal(err)
		}
		if d := can("conny"); d.Allowed || d.Rule != "DNY-52" || !strings.Contains(d.Hint, "sealed") || !can("lee").Allowed {
			t.Errorf("%+v", d)
		}
		must[wire.Entry](t)(w.v.UpdateProject(ctx, w.as("carol"), w.scope("acme/signs"),
			wire.ProjectUpdate{Conditions: wire.ConditionsUpdate{ContractorDelivery: &[]dataset.Delivery{dataset.Opened}}}))
		if d := can("conny"); !d.Allowed {
			t.Errorf("%+v", d)
		}
	})
	t.Run("grants", func(t *testing.T) {
		w.require("root", "/", wire.ConditionsUpdate{ContractorMax: span(90 * day)})
		w.require("root", "acme", wire.ConditionsUpdate{ContractorMax: span(10 * day)}) // shorter than conny's
		began := time.Date(2027, 2, 28, 12, 0, 0, 0, time.UTC)
		w.clock.Add(began.Add(10*day - time.Second).Sub(w.clock.Now()))
		sent := w.running("conny")
		w.clock.Add(time.Second)
		wantCode(t, <-sent, fault.Forbidden)
		w.refused("conny", "DNY-51", "has to end")
		grant := func(until *time.Time) error {
			_, err := w.v.Grant(ctx, w.as("root"), wire.Grant{Role: dataset.Contractor, Person: "conny", Scope: w.scope("acme/signs"), Until: until})
			return err
		}
		late, soon := w.clock.Now().Add(10*day+time.Hour), w.clock.Now().Add(10*day+time.Minute) // a clock that is a little ahead
		wantCode(t, grant(nil), fault.Invalid)
		err := grant(&late)
		wantCode(t, err, fault.Invalid)
		if hint := fault.HintOf(err); !strings.Contains(hint, "--until 10d") {
			t.Errorf("hint %q", hint)
		}
		if err := grant(&soon); err != nil {
			t.Fatal(err)
		}
		must[[]byte](t)(w.read("conny", batch, 0))
		w.clock.Add(10 * day)
		w.refused("conny", "DNY-51", "has to end")
	})
}

func TestUpdateConditions(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	one := func(s string) *[]string { return &[]string{s} }
	many := slices.Repeat([]string{"nda"}, wire.MaxRequires+1)
	minus, ages := int64(-1), int64(1e12)
	for name, c := range map[string]struct {
		who, scope string
		req        wire.ConditionsUpdate
		code       fault.Code
	}{
		"nothing":                    {"root", "acme", wire.ConditionsUpdate{}, fault.Invalid},
		"a name that is none":        {"root", "acme", wire.ConditionsUpdate{Requires: one("../nda")}, fault.Invalid},
		"too many":                   {"root", "acme", wire.ConditionsUpdate{Requires: &many}, fault.TooLarge},
		"hours that are none":        {"root", "acme", wire.ConditionsUpdate{Hours: one("always")}, fault.Invalid},
		"a network that is none":     {"root", "acme", wire.ConditionsUpdate{Networks: one("office")}, fault.Invalid},
		"a span before now":          {"root", "acme", wire.ConditionsUpdate{ContractorMax: &minus}, fault.Invalid},
		"a span of ages":             {"root", "acme", wire.ConditionsUpdate{ContractorMax: &ages}, fault.Invalid},
		"a way that is none":         {"root", "acme/signs", wire.ConditionsUpdate{ContractorDelivery: &[]dataset.Delivery{"post"}}, fault.Invalid},
		"ways, of a client":          {"root", "acme", wire.ConditionsUpdate{ContractorDelivery: &[]dataset.Delivery{dataset.Opened}}, fault.Invalid},
		"of a dataset":               {"root", batch, wire.ConditionsUpdate{Requires: one("nda")}, fault.Invalid},
		"of a client that is none":   {"root", "none", wire.ConditionsUpdate{Requires: one("nda")}, fault.NotFound},
		"of the vault, by a client":  {"carol", "/", wire.ConditionsUpdate{Requires: one("nda")}, fault.Forbidden},
		"of a client, by its person": {"carol", "acme", wire.ConditionsUpdate{Requires: one("nda")}, fault.Forbidden},
		"of a project, by a labeler": {"lee", "acme/signs", wire.ConditionsUpdate{Requires: one("nda")}, fault.Forbidden},
		"by a stranger":              {"stranger", "acme/signs", wire.ConditionsUpdate{Requires: one("nda")}, fault.NotFound},
		"of a project, by its owner": {"carol", "acme/signs", wire.ConditionsUpdate{Requires: one("nda"), Networks: one("192.0.2.9/24")}, ""},
		"a limit taken away":         {"root", "/", wire.ConditionsUpdate{ContractorMax: new(int64)}, ""},
	} {
		_, err := w.v.UpdateConditions(ctx, w.as(c.who), w.scope(c.scope), c.req)
		if c.code == "" && err != nil || c.code != "" && fault.CodeOf(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	got := must[wire.Conditions](t)(w.v.Conditions(ctx, w.as("carol"), w.scope("acme/signs")))
	if !slices.Equal(got.Requires, []string{"nda"}) || !slices.Equal(got.Networks, []string{"192.0.2.0/24"}) || len(got.Hours) != 0 {
		t.Errorf("%+v", got)
	}
	_, err := w.v.Conditions(ctx, w.as("stranger"), w.scope("acme/signs"))
	wantCode(t, err, fault.NotFound)

	// A project and a client may come with theirs.
	must[wire.Entry](t)(w.v.CreateClient(ctx, w.as("root"), wire.NewClient{Scope: w.scope("beta"), Conditions: wire.ConditionsUpdate{Requires: one("house")}}))
	must[wire.Entry](t)(w.v.CreateProject(ctx, w.as("root"), wire.NewProject{Scope: w.scope("beta/x"), Purposes: []string{"labeling"},
		Conditions: wire.ConditionsUpdate{Requires: one("nda")}}))
	got = must[wire.Conditions](t)(w.v.Conditions(ctx, w.as("root"), w.scope("beta/x")))
	if !slices.Equal(got.Requires, []string{"nda"}) || len(got.Above) != 2 || !slices.Equal(got.Above[1].Requires, []string{"house"}) {
		t.Errorf("%+v", got)
	}
	_, err = w.v.CreateProject(ctx, w.as("root"), wire.NewProject{Scope: w.scope("beta/y"), Purposes: []string{"labeling"},
		Conditions: wire.ConditionsUpdate{Hours: one("always")}})
	wantCode(t, err, fault.Invalid)
}
