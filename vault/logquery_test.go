package vault_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// pages reads all pages of the log as root, limit records each.
func (w *world) pages(q vault.LogQuery) (records []wire.Record, pages int) {
	w.t.Helper()
	for {
		pages++
		page := must[wire.Page[wire.Record]](w.t)(w.v.Log(context.Background(), w.as("root"), q))
		records = append(records, page.Items...)
		if page.Next == "" || pages > 1000 {
			return records, pages
		}
		q.Cursor = must[wire.LogCursor](w.t)(wire.ParseLogCursor(page.Next))
	}
}

// kinds counts the records by kind and decision.
func kinds(records []wire.Record) map[string]int {
	n := map[string]int{}
	for _, r := range records {
		n[r.Kind+" "+r.Decision]++
	}
	return n
}

func TestLogFilters(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.assign("lee", "0-1")
	w.assign("rita", "0")
	before := w.clock.Now()
	w.clock.Add(time.Hour)
	for range 3 {
		must[[]byte](t)(w.read("lee", "acme/signs/batch-1", 0))
	}
	must[[]byte](t)(w.read("rita", "acme/signs/batch-1", 0))
	w.clock.Add(time.Hour)
	after := w.clock.Now()
	_, err := w.read("audrey", "acme/signs/batch-1", 0)
	wantCode(t, err, fault.Forbidden)
	_, err = w.read("stranger", "acme/signs/batch-1", 0)
	wantCode(t, err, fault.NotFound)
	_, err = w.v.Invite(t.Context(), w.as("lee"), wire.NewPerson{Handle: "x"})
	wantCode(t, err, fault.Forbidden)

	all, _ := w.pages(vault.LogQuery{})
	tag := [16]byte(audit.Leaf(must[audit.Leaf](t)(audit.ParseLeaf(last(all, "read").Leaf))).Actor)
	for name, c := range map[string]struct {
		q    vault.LogQuery
		want map[string]int
	}{
		"kind":              {vault.LogQuery{Kinds: []audit.Kind{audit.KindRead}}, map[string]int{"read allowed": 4, "refused refused": 2}},
		"two kinds":         {vault.LogQuery{Kinds: []audit.Kind{audit.KindReadEnd, audit.KindVaultInit}}, map[string]int{"read-end allowed": 4, "vault-init allowed": 1}},
		"kind and decision": {vault.LogQuery{Kinds: []audit.Kind{audit.KindRead}, Decision: audit.Refused}, map[string]int{"refused refused": 2}},
		"allowed only":      {vault.LogQuery{Kinds: []audit.Kind{audit.KindRead}, Decision: audit.Allowed}, map[string]int{"read allowed": 4}},
		"decision":          {vault.LogQuery{Decision: audit.Refused}, map[string]int{"refused refused": 3}},
		"actor":             {vault.LogQuery{Actor: "lee", Since: before.Add(time.Microsecond)}, map[string]int{"read allowed": 3, "read-end allowed": 3, "refused refused": 1}},
		"actor and scope":   {vault.LogQuery{Actor: "lee", Under: w.scope("acme"), Decision: audit.Refused}, map[string]int{}},
		"since and until":   {vault.LogQuery{Since: before.Add(time.Microsecond), Until: after}, map[string]int{"read allowed": 4, "read-end allowed": 4}},
		"until the start":   {vault.LogQuery{Until: before.Add(-time.Hour)}, map[string]int{}},
		"pseudonym":         {vault.LogQuery{Tag: tag}, map[string]int{"read allowed": 1, "read-end allowed": 1}},
		"the kind refused":  {vault.LogQuery{Kinds: []audit.Kind{audit.KindRefused}}, map[string]int{"refused refused": 3}},
	} {
		for _, limit := range []int{0, 1, 2} {
			c.q.Limit = limit
			got, pages := w.pages(c.q)
			if fmt.Sprint(kinds(got)) != fmt.Sprint(c.want) {
				t.Errorf("%s, pages of %d: got %v, want %v", name, limit, kinds(got), c.want)
			}
			if limit > 0 && pages < len(got)/limit {
				t.Errorf("%s: %d records on %d pages of %d", name, len(got), pages, limit)
			}
		}
	}
	_, err = w.v.Log(t.Context(), w.as("root"), vault.LogQuery{Kinds: make([]audit.Kind, 1000)})
	wantCode(t, err, fault.Invalid)
}

func last(records []wire.Record, kind string) wire.Record {
	var found wire.Record
	for _, r := range records {
		if r.Kind == kind {
			found = r
		}
	}
	return found
}

// TestLogFiltersLookThroughParts: a filter that matches little still gets
// there, over pages that are empty.
func TestLogFiltersLookThroughParts(t *testing.T) {
	defer vault.SetMaxScan(5)()
	w := newWorld(t)
	w.setUp()
	_, err := w.read("audrey", "acme/signs/batch-1", 0)
	wantCode(t, err, fault.Forbidden)
	got, pages := w.pages(vault.LogQuery{Decision: audit.Refused})
	if len(got) != 1 || pages < 4 {
		t.Errorf("%d refusals on %d pages", len(got), pages)
	}
	// Without a filter a page is as long as it may be.
	if got, pages := w.pages(vault.LogQuery{}); pages != 1 || len(got) < 20 {
		t.Errorf("%d records on %d pages", len(got), pages)
	}
}

// TestLookingIsRecordedOnce: all pages of one look have one record, for ten
// minutes and for one person at one scope; and each page is decided anew.
func TestLookingIsRecordedOnce(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	looks := func() int {
		n := 0
		for _, l := range w.verify() {
			if l.Kind == audit.KindLogRead {
				n++
			}
		}
		return n
	}
	each := looks() // verify looks too, once each time
	if n := looks() - each; n != 1 {
		t.Fatalf("verify is %d looks", n)
	}
	if _, pages := w.pages(vault.LogQuery{Limit: 3}); pages < 5 {
		t.Fatalf("%d pages", pages)
	}
	if n := looks() - each; n != 3 {
		t.Errorf("many pages made %d records", n-2)
	}

	first := must[wire.Page[wire.Record]](t)(w.v.Log(ctx, w.as("root"), vault.LogQuery{Limit: 1}))
	at := must[wire.LogCursor](t)(wire.ParseLogCursor(first.Next))
	before := looks()
	next := func(who, scope string, want int) {
		t.Helper()
		must[wire.Page[wire.Record]](t)(w.v.Log(ctx, w.as(who), vault.LogQuery{Under: w.scope(scope), Cursor: at, Limit: 1}))
		now := looks()
		if n := now - before - 1; n != want {
			t.Errorf("%s at %s made %d records, want %d", who, scope, n, want)
		}
		before = now
	}
	next("root", "/", 0)
	next("second", "/", 1) // another person's look
	next("root", "acme", 1)
	look := at.Look
	at.Look = 1 // a record, but none of looking
	next("root", "/", 1)
	at.Look = look
	w.clock.Add(9*time.Minute + 59*time.Second)
	next("root", "/", 0)
	w.clock.Add(time.Second)
	next("root", "/", 1)
	at.Look = 1 << 40
	next("root", "/", 1)

	// Who may not look any more does not get the next page of an old look.
	mine := must[wire.Page[wire.Record]](t)(w.v.Log(ctx, w.as("second"), vault.LogQuery{Limit: 1}))
	at = must[wire.LogCursor](t)(wire.ParseLogCursor(mine.Next))
	second := w.as("second")
	must[wire.Revoked](t)(w.v.Revoke(ctx, w.as("root"), dataset.Admin, "second", dataset.Root))
	_, err := w.v.Log(ctx, second, vault.LogQuery{Cursor: at})
	wantCode(t, err, fault.Forbidden)
}

func TestLogFollow(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.assign("lee", "0")
	q := vault.LogQuery{Follow: true, Cursor: wire.LogCursor{End: true}}
	ask := func() map[string]int {
		t.Helper()
		page := must[wire.Page[wire.Record]](t)(w.v.Log(context.Background(), w.as("root"), q))
		q.Cursor = must[wire.LogCursor](t)(wire.ParseLogCursor(page.Next))
		return kinds(page.Items)
	}
	if got := ask(); len(got) != 0 {
		t.Errorf("it begins with %v", got)
	}
	must[[]byte](t)(w.read("lee", "acme/signs/batch-1", 0))
	if got := ask(); fmt.Sprint(got) != "map[read allowed:1 read-end allowed:1]" {
		t.Errorf("got %v", got)
	}
	if got := ask(); len(got) != 0 { // asking again writes nothing
		t.Errorf("got %v", got)
	}
	w.clock.Add(10 * time.Minute)
	if got := ask(); fmt.Sprint(got) != "map[log-read allowed:1]" {
		t.Errorf("after ten minutes: %v", got)
	}
	if got := ask(); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

// TestLogOfSomebodyHasTheirBrokenReads: a restart closes reads in nobody's
// name; who asks for one person's records gets these all the same.
func TestLogOfSomebodyHasTheirBrokenReads(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.assign("lee", "0")
	ref := dataset.ShardRef{Dataset: w.scope("acme/signs/batch-1")}
	for _, name := range []string{"lee", "carol"} {
		defer must[*vault.ShardStream](t)(w.v.ReadShard(t.Context(), w.as(name), ref, w.ids[name], "")).Close() // too late
	}
	w.reopen()
	got, _ := w.pages(vault.LogQuery{Actor: "lee", Under: w.scope("acme")})
	if n := kinds(got); n["read allowed"] != 1 || n["read-end allowed"] != 1 {
		t.Errorf("got %v", n)
	}
}
