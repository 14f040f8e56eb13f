package vault_test

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvault/storage/catalog"
	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

func (w *world) breakGlass(who, scope, reason string, seconds int) (wire.BreakGlass, error) {
	return w.v.BreakGlass(context.Background(), w.as(who), wire.NewBreakGlass{Scope: w.scope(scope), Reason: reason, Seconds: seconds})
}

func TestBreakGlass(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.sensitive()
	ctx := context.Background()
	const ds = "acme/signs/batch-1"
	_, err := w.read("root", ds, 0)
	wantCode(t, err, fault.Forbidden)
	for what, bad := range map[string]func() error{
		"the vault":   func() error { _, err := w.breakGlass("root", "/", "why", 0); return err },
		"no reason":   func() error { _, err := w.breakGlass("root", ds, " ", 0); return err },
		"five hours":  func() error { _, err := w.breakGlass("root", ds, "why", 5*3600); return err },
		"ten seconds": func() error { _, err := w.breakGlass("root", ds, "why", 10); return err },
	} {
		if err := bad(); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for who, code := range map[string]fault.Code{"lee": fault.Forbidden, "carol": fault.Forbidden, "audrey": fault.Forbidden, "stranger": fault.NotFound} {
		_, err := w.breakGlass(who, "acme/signs", "why", 0)
		wantCode(t, err, code)
	}

	b := must[wire.BreakGlass](t)(w.breakGlass("root", "acme/signs", "incident 12", 0))
	if !b.InForce || b.Person != "root" || b.Reason != "incident 12" || b.Until.Sub(b.At) != time.Hour {
		t.Errorf("%+v", b)
	}
	must[[]byte](t)(w.read("root", ds, 0)) // without a second person, in a sensitive project
	_, err = w.read("second", ds, 0)
	wantCode(t, err, fault.Forbidden)
	// Nothing else is waived.
	if _, err := w.v.ReadShard(ctx, w.as("root"), dataset.ShardRef{Dataset: w.scope(ds)}, w.ids["root"], "training"); !fault.Is(err, fault.Forbidden) {
		t.Errorf("for another purpose: %v", err)
	}

	// It is loud.
	me := must[wire.Whoami](t)(w.v.Whoami(ctx, w.as("root")))
	other := must[wire.Whoami](t)(w.v.Whoami(ctx, w.as("second")))
	if len(me.BreakGlass) != 1 || !me.BreakGlass[0].InForce || me.ToReview != 0 || len(other.BreakGlass) != 0 || other.ToReview != 1 {
		t.Errorf("%+v; %+v", me, other)
	}
	shown := 0
	for _, e := range must[wire.Page[wire.Entry]](t)(w.v.List(ctx, w.as("carol"), w.scope("acme"), "", 0)).Items {
		if e.BreakGlass != nil && e.BreakGlass.Equal(b.Until) {
			shown++
		}
	}
	list := must[wire.Page[wire.BreakGlass]](t)(w.v.BreakGlasses(ctx, w.as("carol"), w.scope("acme"), true, "", 0)).Items
	if shown != 2 || len(list) != 1 || list[0].Reason != "incident 12" {
		t.Errorf("the client sees it at %d places, and %+v", shown, list)
	}
	one := must[wire.BreakGlass](t)(w.v.OneBreakGlass(ctx, w.as("audrey"), b.ID))
	if one.Reads == nil || *one.Reads != 1 {
		t.Errorf("%+v", one)
	}

	// It ends by itself, to the second.
	w.clock.Add(time.Hour - time.Second)
	must[[]byte](t)(w.read("root", ds, 1))
	w.clock.Add(time.Second)
	_, err = w.read("root", ds, 1)
	wantCode(t, err, fault.Forbidden)
	_, err = w.v.EndBreakGlass(ctx, w.as("root"), b.ID)
	wantCode(t, err, fault.Conflict)
	if list := must[wire.Page[wire.BreakGlass]](t)(w.v.BreakGlasses(ctx, w.as("second"), w.scope("/"), true, "", 0)).Items; len(list) != 1 || list[0].InForce {
		t.Errorf("what ended and was not reviewed: %+v", list)
	}

	// Another admin reviews it, once.
	review := func(who string, id dataset.BreakGlassID, verdict string) (wire.BreakGlass, error) {
		return w.v.ReviewBreakGlass(ctx, w.as(who), id, wire.BreakGlassReview{Verdict: verdict, Comment: "looked at"})
	}
	_, err = review("root", b.ID, wire.Justified)
	wantCode(t, err, fault.Forbidden)
	_, err = review("carol", b.ID, wire.Justified)
	wantCode(t, err, fault.Forbidden)
	_, err = review("second", b.ID, "fine")
	wantCode(t, err, fault.Invalid)
	if r := must[wire.BreakGlass](t)(review("second", b.ID, wire.Justified)); r.Reviewer != "second" || r.Verdict != wire.Justified || r.Comment != "looked at" || r.Reviewed == nil {
		t.Errorf("%+v", r)
	}
	_, err = review("second", b.ID, wire.Unjustified)
	wantCode(t, err, fault.Conflict)

	// One that is not justified ends at once; and so does one that is ended.
	b = must[wire.BreakGlass](t)(w.breakGlass("root", ds, "again", 600))
	must[[]byte](t)(w.read("root", ds, 0))
	must[wire.BreakGlass](t)(review("second", b.ID, wire.Unjustified))
	_, err = w.read("root", ds, 0)
	wantCode(t, err, fault.Forbidden)
	for range 3 {
		b = must[wire.BreakGlass](t)(w.breakGlass("root", ds, "again", 600))
		must[wire.BreakGlass](t)(w.v.EndBreakGlass(ctx, w.as("root"), b.ID))
	}
	_, err = w.read("root", ds, 0)
	wantCode(t, err, fault.Forbidden)
	_, err = w.breakGlass("root", ds, "once too often", 600)
	wantCode(t, err, fault.Conflict)
	var kinds []string
	for _, l := range w.verify() {
		if l.Object.Kind == audit.ObjectBreakGlass {
			kinds = append(kinds, l.Kind.String())
		}
		if l.Kind == audit.KindRead && l.Reason != "ADM-62" {
			t.Errorf("a read by %s", l.Reason)
		}
	}
	want := strings.Fields("break-glass break-glass-review break-glass break-glass-review break-glass break-glass-end break-glass break-glass-end break-glass break-glass-end")
	if kinds = slices.DeleteFunc(kinds, func(k string) bool { return k == "refused" }); !slices.Equal(kinds, want) {
		t.Errorf("the log says %v", kinds)
	}
}

// disclose has root ask for a disclosure of shard 0.
func (w *world) disclose(withheld *time.Time) wire.Disclosure {
	w.t.Helper()
	until := w.clock.Now().Add(7 * 24 * time.Hour)
	return must[wire.Disclosure](w.t)(w.v.Disclose(context.Background(), w.as("root"), wire.NewDisclosure{Dataset: w.scope("acme/signs/batch-1"),
		Shards: dataset.ShardSet{{First: 0, Last: 0}}, Reference: "court 12", Document: bytes.Repeat([]byte{7}, 32), Until: &until, WithheldUntil: withheld}))
}

func (w *world) readFor(who, purpose string, n int) error {
	w.t.Helper()
	s, err := w.v.ReadShard(context.Background(), w.as(who), dataset.ShardRef{Dataset: w.scope("acme/signs/batch-1"), Number: n}, w.ids[who], purpose)
	if err != nil {
		return err
	}
	return s.Send(io.Discard, func() {})
}

// toldOf reports whether the client of acme/signs was told of reads for a purpose.
func (w *world) toldOf(purpose string) bool {
	w.t.Helper()
	isNew := false
	err := w.db.Update(context.Background(), func(tx *catalog.Tx) (err error) {
		isNew, err = tx.KnowPurpose(context.Background(), w.scope("acme/signs"), purpose, w.clock.Now())
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return !isNew
}

func TestDisclosure(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	w.assign("lee", "0-1")
	for _, who := range []string{"root", "lee", "rita", "carol"} {
		wantCode(t, w.readFor(who, dataset.Legal, 0), fault.Forbidden)
	}
	until := w.clock.Now().Add(time.Hour)
	good := wire.NewDisclosure{Dataset: w.scope("acme/signs/batch-1"), Shards: dataset.ShardSet{{First: 0, Last: 0}}, Reference: "court 12",
		Document: make([]byte, 32), Until: &until}
	late := until.Add(31 * 24 * time.Hour)
	for what, spoil := range map[string]func(*wire.NewDisclosure){
		"no reference":   func(d *wire.NewDisclosure) { d.Reference = "" },
		"no document":    func(d *wire.NewDisclosure) { d.Document = nil },
		"no shards":      func(d *wire.NewDisclosure) { d.Shards = nil },
		"other shards":   func(d *wire.NewDisclosure) { d.Shards = dataset.ShardSet{{First: 5, Last: 5}} },
		"no end":         func(d *wire.NewDisclosure) { d.Until = nil },
		"a late end":     func(d *wire.NewDisclosure) { d.Until = &late },
		"withheld, past": func(d *wire.NewDisclosure) { d.WithheldUntil = new(time.Time) },
	} {
		bad := good
		spoil(&bad)
		_, err := w.v.Disclose(ctx, w.as("root"), bad)
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for who, code := range map[string]fault.Code{"lee": fault.Forbidden, "carol": fault.Forbidden, "audrey": fault.Forbidden, "stranger": fault.NotFound} {
		_, err := w.v.Disclose(ctx, w.as(who), good)
		wantCode(t, err, code)
	}

	d := w.disclose(nil)
	if d.Pending == nil || d.Pending.Terms["reference"] != "court 12" {
		t.Fatalf("disclosed by one: %+v", d)
	}
	wantCode(t, w.readFor("root", dataset.Legal, 0), fault.Forbidden)
	for who, code := range map[string]fault.Code{"root": fault.Forbidden, "carol": fault.Forbidden} {
		_, err := w.approve(who, d.Pending.ID)
		wantCode(t, err, code)
	}
	must[wire.Approval](t)(w.approve("second", d.Pending.ID))
	if err := w.readFor("root", dataset.Legal, 0); err != nil { // though the project's purpose is labeling
		t.Fatal(err)
	}
	wantCode(t, w.readFor("root", dataset.Legal, 1), fault.Forbidden)
	wantCode(t, w.readFor("root", "labeling", 0), fault.Forbidden)
	wantCode(t, w.readFor("second", dataset.Legal, 0), fault.Forbidden)
	_, err := w.v.CreateLink(ctx, w.as("root"), wire.NewLink{Shard: "acme/signs/batch-1/0", Purpose: dataset.Legal})
	wantCode(t, err, fault.Invalid)

	// The client sees it at once: who, for what, by which order.
	found := false
	for _, r := range must[wire.Page[wire.Record]](t)(w.v.Log(ctx, w.as("carol"), vault.LogQuery{Under: w.scope("acme"), Actor: "root"})).Items {
		if r.Kind == "read" && r.Decision == "allowed" {
			found = r.Detail["purpose"] == "legal" && strings.HasPrefix(r.Detail["document-hash"], "0707") && strings.Contains(string(r.Personal), "court 12")
		}
	}
	if !found || !w.toldOf(dataset.Legal) {
		t.Error("the client does not see the order, or is not told of the purpose")
	}
	w.clock.Add(7*24*time.Hour - time.Second)
	if err := w.readFor("root", dataset.Legal, 0); err != nil {
		t.Error(err)
	}
	w.clock.Add(time.Second)
	wantCode(t, w.readFor("root", dataset.Legal, 0), fault.Forbidden)
}

// What is withheld is in the client's log, which verifies, and says neither who
// nor why until the date.
func TestWithheldDisclosure(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	date := w.clock.Now().Add(60 * 24 * time.Hour)
	d := w.disclose(&date)
	if list := must[wire.Page[wire.Approval]](t)(w.v.Approvals(ctx, w.as("carol"), w.scope("acme"), "", "", 0)).Items; len(list) != 0 {
		t.Errorf("the client sees the request: %+v", list)
	}
	if list := must[wire.Page[wire.Approval]](t)(w.v.Approvals(ctx, w.as("audrey"), w.scope("acme"), "", "", 0)).Items; len(list) != 1 {
		t.Errorf("the auditor does not see the request: %+v", list)
	}
	_, err := w.approve("carol", d.Pending.ID)
	wantCode(t, err, fault.NotFound)
	_, err = w.v.Approval(ctx, w.as("carol"), d.Pending.ID)
	wantCode(t, err, fault.NotFound)
	must[wire.Approval](t)(w.approve("second", d.Pending.ID))
	if err := w.readFor("root", dataset.Legal, 0); err != nil {
		t.Fatal(err)
	}

	if w.toldOf(dataset.Legal) {
		t.Error("the client was told of the purpose")
	}
	// told is what the client's log says of the reads, and what stands in it that tells.
	told := func(who string) (reads int, tells string) {
		t.Helper()
		bundle := must[*vault.Bundle](t)(w.v.LogBundle(ctx, w.as(who), vault.BundleQuery{Under: w.scope("acme")}))
		defer bundle.Close()
		var data bytes.Buffer
		if err := bundle.Send(ctx, &data); err != nil {
			t.Fatal(err)
		}
		details := map[uint64]string{}
		if _, err := audit.VerifyBundle(bytes.NewReader(data.Bytes()), audit.BundleOptions{Origin: "dsvault-test", Each: func(r audit.Record) error {
			details[r.Index] = string(r.Details)
			return nil
		}}); err != nil {
			t.Fatalf("the client's log does not verify: %v", err)
		}
		for _, r := range must[wire.Page[wire.Record]](t)(w.v.Log(ctx, w.as(who), vault.LogQuery{Under: w.scope("acme")})).Items {
			switch r.Kind {
			case "disclose", "approval-request", "approve":
				t.Errorf("a %s record stands in the client's part of the log", r.Kind)
			case "read", "read-end":
				reads++
				if string(r.Personal) != details[r.Index] {
					t.Errorf("the bundle says other details of record %d than the log: %q, %q", r.Index, details[r.Index], r.Personal)
				}
				if r.Kind == "read" {
					tells += r.Actor + string(r.Personal)
				}
				for _, secret := range []string{"device-id", "purpose", "document-hash", "disclosure-id"} {
					if r.Detail[secret] != "" {
						t.Errorf("the record itself says %s=%s", secret, r.Detail[secret])
					}
				}
				if leaf := must[audit.Leaf](t)(audit.ParseLeaf(r.Leaf)); leaf.Actor != [16]byte{} || leaf.Reason != "" {
					t.Errorf("the record itself says %x, %s", leaf.Actor, leaf.Reason)
				}
			}
		}
		return reads, tells
	}
	if reads, tells := told("carol"); reads != 2 || tells != "" {
		t.Errorf("the client sees %d records, and is told %q", reads, tells)
	}
	if reads, tells := told("audrey"); reads != 2 || !strings.Contains(tells, "root") || !strings.Contains(tells, "court 12") || !strings.Contains(tells, "legal") {
		t.Errorf("the auditor sees %d records, and is told %q", reads, tells)
	}
	for _, r := range must[wire.Page[wire.Record]](t)(w.v.Log(ctx, w.as("carol"), vault.LogQuery{Under: w.scope("acme"), Actor: "root"})).Items {
		if r.Kind == "read" || r.Kind == "read-end" {
			t.Error("the client finds it by the reader's name")
		}
	}
	report := func(who string) string {
		r := must[wire.AuditReport](t)(w.v.Report(ctx, w.as(who), vault.ReportQuery{Under: w.scope("acme"), From: w.clock.Now().Add(-time.Hour), Until: w.clock.Now().Add(time.Hour), IdleDays: 30}))
		if len(r.Reads) != 1 || r.Reads[0].Reads != 1 || r.Reads[0].Bytes == 0 {
			t.Errorf("%+v", r.Reads)
		}
		return r.Reads[0].Person
	}
	if got := report("carol"); got != "withheld" {
		t.Errorf("the client's report names %s", got)
	}
	if got := report("audrey"); got != "root" {
		t.Errorf("the auditor's report names %s", got)
	}

	w.clock.Add(60*24*time.Hour - time.Second)
	if _, tells := told("carol"); tells != "" {
		t.Errorf("the client is told %q before the date", tells)
	}
	w.clock.Add(time.Second)
	if _, tells := told("carol"); !strings.Contains(tells, "root") || !strings.Contains(tells, "court 12") {
		t.Errorf("on the date the client is told %q", tells)
	}
	if list := must[wire.Page[wire.Approval]](t)(w.v.Approvals(ctx, w.as("carol"), w.scope("acme"), "", "", 0)).Items; len(list) != 1 {
		t.Errorf("on the date the client sees %+v", list)
	}
}

// A read for another purpose is refused, whatever the way.
func TestPurposeOfEveryWay(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	w.assign("lee", "0")
	_, err := w.v.CreateProject(ctx, w.as("root"), wire.NewProject{Scope: w.scope("acme/none")})
	wantCode(t, err, fault.Invalid)
	none := []string{}
	_, err = w.v.UpdateProject(ctx, w.as("carol"), w.scope("acme/signs"), wire.ProjectUpdate{Purposes: &none})
	wantCode(t, err, fault.Invalid)
	two := []string{"labeling", "support"}
	must[wire.Entry](t)(w.v.UpdateProject(ctx, w.as("carol"), w.scope("acme/signs"), wire.ProjectUpdate{Purposes: &two, Delivery: &[]dataset.Delivery{dataset.Opened}}))
	ref := dataset.ShardRef{Dataset: w.scope("acme/signs/batch-1")}
	all := func(vault.Content) []vault.Span { return nil }
	ways := map[string]func(purpose string) error{
		"pull": func(p string) error {
			s, err := w.v.ReadShard(ctx, w.as("lee"), ref, w.ids["lee"], p)
			if err == nil {
				s.Close()
			}
			return err
		},
		"range": func(p string) error {
			s, err := w.v.ReadRange(ctx, w.as("lee"), ref, w.ids["lee"], p, 0, 10)
			if err == nil {
				s.Close()
			}
			return err
		},
		"members": func(p string) error {
			s, err := w.v.ReadIndex(ctx, w.as("lee"), ref, w.ids["lee"], p)
			if fault.Is(err, fault.Conflict) { // there is no list of this shard: it was allowed
				return nil
			}
			if err == nil {
				s.Close()
			}
			return err
		},
		"open": func(p string) error {
			s, err := w.v.Open(ctx, w.as("lee"), vault.Item{Shard: ref}, p, all)
			if err == nil {
				s.Close()
			}
			return err
		},
		"link": func(p string) error {
			_, err := w.v.CreateLink(ctx, w.as("lee"), wire.NewLink{Shard: ref.String(), Purpose: p})
			return err
		},
	}
	for name, read := range ways {
		for purpose, code := range map[string]fault.Code{"labeling": "", "support": "", "": fault.Forbidden, "training": fault.Forbidden, "Labeling": fault.Forbidden} {
			if err := read(purpose); fault.CodeOf(err) != code {
				t.Errorf("%s for %q: %v", name, purpose, err)
			}
		}
		if hint := fault.HintOf(read("training")); !strings.Contains(hint, "--purpose") {
			t.Errorf("%s: hint %q", name, hint)
		}
	}
}
