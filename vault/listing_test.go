package vault_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// listed makes a listing and checks its note.
func (w *world) listed(who string, q vault.LogQuery, format string) (string, audit.Listing, error) {
	w.t.Helper()
	ctx := context.Background()
	l, err := w.v.ListLog(ctx, w.as(who), q, format, "under=acme")
	if err != nil {
		return "", audit.Listing{}, err
	}
	var file bytes.Buffer
	data := must[[]byte](w.t)(l.Send(ctx, &file))
	in := must[wire.LoggedIn](w.t)(w.v.Login(ctx, w.as("root"), wire.Login{Recipient: w.devices["root"].Recipient().String()}))
	key := must[note.Verifier](w.t)(note.NewVerifier(in.LogKey))
	signed := must[audit.Listing](w.t)(audit.OpenListing(data, key))
	if err := signed.Check(bytes.NewReader(file.Bytes())); err != nil {
		w.t.Error(err)
	}
	return file.String(), signed, nil
}

func TestListings(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.assign("lee", "0")
	for range 600 { // more than one step
		must[[]byte](t)(w.read("lee", "acme/signs/batch-1", 0))
	}
	_, err := w.read("stranger", "acme/signs/batch-1", 0)
	wantCode(t, err, fault.NotFound)
	q := vault.LogQuery{Under: w.scope("acme"), Kinds: []audit.Kind{audit.KindRead}}

	file, signed, err := w.listed("audrey", q, wire.FormatJSONL)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(file, "\n"), "\n")
	if len(lines) != 601 || signed.Records != 601 || signed.Query != "under=acme" || signed.Format != "jsonl" || signed.Origin != "dsvault-test" || signed.Size <= signed.Before {
		t.Errorf("%d lines, %+v", len(lines), signed)
	}
	last := int64(-1)
	for _, line := range lines {
		var r wire.Record
		if err := json.Unmarshal([]byte(line), &r); err != nil || int64(r.Index) <= last || r.Index >= signed.Before || r.Leaf == nil {
			t.Fatalf("after %d: %s", last, line)
		}
		last = int64(r.Index)
	}
	file, signed, err = w.listed("audrey", q, wire.FormatCSV)
	if err != nil {
		t.Fatal(err)
	}
	rows := must[[][]string](t)(csv.NewReader(strings.NewReader(file)).ReadAll())
	if len(rows) != 602 || !slices.Equal(rows[0], wire.ListingColumns) || signed.Records != 601 {
		t.Errorf("%d rows, %+v", len(rows), signed)
	}
	if r := rows[601]; r[3] != "read" || r[4] != "refused" || !strings.Contains(r[9], `"refused-kind":"read"`) {
		t.Errorf("%q", r)
	}
	// That it was made is in the log, and not in the file.
	if n := kinds(must2(w.pages(vault.LogQuery{Kinds: []audit.Kind{audit.KindExport}}))); n["export allowed"] != 2 {
		t.Errorf("%v", n)
	}

	for _, who := range []string{"root", "carol"} {
		_, _, err := w.listed(who, q, wire.FormatCSV)
		wantCode(t, err, fault.Forbidden)
	}
	for _, who := range []string{"lee", "stranger"} { // they do not know of the client
		_, _, err := w.listed(who, q, wire.FormatCSV)
		wantCode(t, err, fault.NotFound)
	}
	_, _, err = w.listed("audrey", q, "xlsx")
	wantCode(t, err, fault.Invalid)
	_, _, err = w.listed("audrey", vault.LogQuery{Under: w.scope("nowhere")}, wire.FormatCSV)
	wantCode(t, err, fault.NotFound)

	l := must[*vault.Listing](t)(w.v.ListLog(t.Context(), w.as("audrey"), vault.LogQuery{}, wire.FormatCSV, ""))
	gone := errors.New("the reader has gone")
	if data, err := l.Send(t.Context(), brokenWriter{gone}); !errors.Is(err, gone) || data != nil {
		t.Errorf("a note of what was not sent: %v", err)
	}
}

type brokenWriter struct{ err error }

func (b brokenWriter) Write([]byte) (int, error) { return 0, b.err }

func must2(r []wire.Record, _ int) []wire.Record { return r }
