package vault_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvault/vault"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

func (w *world) report(who, under string, from, until time.Time) wire.AuditReport {
	w.t.Helper()
	return must[wire.AuditReport](w.t)(w.v.Report(context.Background(), w.as(who),
		vault.ReportQuery{Under: w.scope(under), From: from, Until: until, IdleDays: 30}))
}

// TestReport: a month with reads, one that began before, one that a crash ended,
// refusals, changes; and what was before and after it is left out.
func TestReport(t *testing.T) {
	defer vault.SetMaxScan(7)() // over many snapshots
	w := newWorld(t)
	ctx := context.Background()
	w.setUp() // in February
	w.assign("lee", "0-1")
	late := w.clock.Now().AddDate(1, 0, 0)
	w.grant(dataset.Contractor, "conny", "acme/signs", &late)
	const ds = "acme/signs/batch-1"
	must[[]byte](t)(w.read("lee", ds, 0))
	ref := dataset.ShardRef{Dataset: w.scope(ds)}
	before := must[*vault.ShardStream](t)(w.v.ReadShard(ctx, w.as("rita"), ref, w.ids["rita"], ""))
	size := uint64(before.Size)

	march, april := time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC), time.Date(2027, 4, 1, 0, 0, 0, 0, time.UTC)
	w.clock.Add(march.Add(10 * 24 * time.Hour).Sub(w.clock.Now()))
	before.Close() // it sent nothing
	for range 3 {
		must[[]byte](t)(w.read("lee", ds, 0))
	}
	must[[]byte](t)(w.read("carol", ds, 1))
	for range 2 {
		_, err := w.read("conny", ds, 0)
		wantCode(t, err, fault.NotFound)
	}
	_, err := w.read("audrey", ds, 0)
	wantCode(t, err, fault.Forbidden)
	must[wire.Revoked](t)(w.v.Revoke(ctx, w.as("root"), dataset.Reviewer, "rita", w.scope("acme/signs")))
	w.assign("conny", "1")
	must[wire.Agreement](t)(w.v.Publish(ctx, w.as("root"), wire.Publish{Name: "nda", Text: "Tell nobody."}))
	defer must[*vault.ShardStream](t)(w.v.ReadShard(ctx, w.as("lee"), ref, w.ids["lee"], "")).Close() // too late
	w.reopen()
	defer must[*vault.ShardStream](t)(w.v.ReadShard(ctx, w.as("lee"), ref, w.ids["lee"], "")).Close() // runs
	w.clock.Add(april.Sub(w.clock.Now()))
	must[[]byte](t)(w.read("carol", ds, 0))

	r := w.report("audrey", "/", march, april)
	at := march.Add(10 * 24 * time.Hour)
	want := []wire.ReportReads{
		{Dataset: ds, Person: "carol", Reads: 1, Bytes: size, Last: at},
		{Dataset: ds, Person: "lee", Reads: 5, Bytes: 3 * size, AtMost: size, Open: 1, Last: at},
		{Dataset: ds, Person: "rita", Last: at},
	}
	if !slices.Equal(r.Reads, want) {
		t.Errorf("reads\n%+v\nwant\n%+v", r.Reads, want)
	}
	refusals := map[string]int{}
	for _, f := range r.Refusals {
		refusals[f.Kind] += f.Count
		if f.Kind == "read" && f.Count == 2 && f.People != 1 {
			t.Errorf("%+v", f)
		}
	}
	if len(refusals) != 1 || refusals["read"] != 3 {
		t.Errorf("%+v", r.Refusals)
	}
	var changes []string
	for _, c := range r.Changes {
		changes = append(changes, strings.Join([]string{c.Kind, c.By, c.Person, c.Scope, c.Role, c.Shards}, " "))
	}
	if want := []string{"revoke root rita acme/signs reviewer ", "assign root conny acme/signs/batch-1  1"}; !slices.Equal(changes, want) {
		t.Errorf("changes %q", changes)
	}
	var idle []string
	for _, i := range r.Idle {
		idle = append(idle, i.Person+" "+string(i.Role)+" "+i.Scope.String())
	}
	if want := []string{"root admin /", "second admin /"}; !slices.Equal(idle, want) && !slices.Equal(idle, want[1:]) {
		t.Errorf("idle %q", idle)
	}
	if len(r.Signed) != 1 || r.Signed[0].Agreement != "nda" || r.Signed[0].Version != 1 || r.Signed[0].Asked != 1 || r.Signed[0].Signed != 0 || !slices.Equal(r.Signed[0].Missing, []string{"conny"}) {
		t.Errorf("agreements %+v", r.Signed)
	}
	if r.Records == 0 || len(r.LeftOff) != 0 || r.Scope != dataset.Root {
		t.Errorf("%+v", r)
	}

	// A client sees its own scope, and what was done with it.
	mine := w.report("carol", "acme", march, april)
	if !slices.Equal(mine.Reads, want) || len(mine.Changes) != 2 || mine.Records >= r.Records {
		t.Errorf("%+v", mine)
	}
	for _, i := range mine.Idle {
		if i.Role == dataset.Admin {
			t.Errorf("a client sees the roles of the vault: %+v", i)
		}
	}
	if empty := w.report("audrey", "/", march.AddDate(1, 0, 0), april.AddDate(1, 0, 0)); empty.Records != 0 || len(empty.Reads) != 0 {
		t.Errorf("next year: %+v", empty)
	}
	for who, code := range map[string]fault.Code{"lee": fault.NotFound, "stranger": fault.NotFound, "root": ""} {
		_, err := w.v.Report(ctx, w.as(who), vault.ReportQuery{Under: w.scope("acme"), From: march, Until: april, IdleDays: 30})
		if fault.CodeOf(err) != code {
			t.Errorf("%s: %v", who, err)
		}
	}
	for _, q := range []vault.ReportQuery{
		{IdleDays: 30}, {From: april, Until: march, IdleDays: 30}, {From: march, Until: march.AddDate(2, 0, 0), IdleDays: 30}, {From: march, Until: april},
	} {
		_, err := w.v.Report(ctx, w.as("root"), q)
		wantCode(t, err, fault.Invalid)
	}

	// Of somebody who was anonymised the counts stay.
	out := must[wire.Anonymized](t)(w.v.Anonymize(ctx, w.as("root"), "lee"))
	r = w.report("audrey", "/", march, april)
	if len(r.Reads) != 3 || !strings.HasPrefix(r.Reads[2].Person, "~") || r.Reads[2].Reads != 5 || r.Reads[2].Bytes != 3*size || r.Reads[2].AtMost != size {
		t.Errorf("after %s: %+v", out.Pseudonym, r.Reads)
	}
}
