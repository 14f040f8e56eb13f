package vault_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvault/rbac"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = t
}

// requestAt opens a request of somebody new at a moment.
func (w *world) requestAt(who string, at time.Time) wire.RightsRequest {
	w.t.Helper()
	w.clock.set(at)
	w.invite(who)
	return must[wire.RightsRequest](w.t)(w.v.OpenRequest(context.Background(), w.as(who), wire.NewRequest{Kind: dataset.AccessRequest}))
}

// TestRequestDeadlines moves the clock to the moment at which a request becomes
// overdue, to the microsecond, over ends of months and a leap day.
func TestRequestDeadlines(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	for i, c := range []struct {
		received           time.Time
		deadline, putOffTo string
		due, dueWhenPutOff time.Time
	}{
		{received: time.Date(2027, 3, 31, 23, 59, 59, 0, time.UTC), deadline: "2027-04-30", putOffTo: "2027-06-30",
			due: time.Date(2027, 5, 1, 0, 0, 0, 0, time.UTC), dueWhenPutOff: time.Date(2027, 7, 1, 0, 0, 0, 0, time.UTC)},
		{received: time.Date(2028, 1, 31, 22, 0, 0, 0, time.FixedZone("east", 12*3600)), deadline: "2028-02-29", putOffTo: "2028-04-30",
			due: time.Date(2028, 3, 1, 0, 0, 0, 0, time.UTC), dueWhenPutOff: time.Date(2028, 5, 1, 0, 0, 0, 0, time.UTC)},
	} {
		r := w.requestAt(fmt.Sprint("lee-", i), c.received)
		if r.Deadline != c.deadline || !r.Due.Equal(c.due) || r.Overdue || r.Identity != dataset.ByLogin || r.State != "open" {
			t.Errorf("received %v: %+v", c.received, r)
		}
		overdue := func() bool {
			got := must[wire.RightsRequest](t)(w.v.Request(ctx, w.as("root"), r.ID))
			open, late, err := w.v.CountRequests(ctx)
			if err != nil || open != 1 || (late == 1) != got.Overdue {
				t.Errorf("%d open, %d overdue, %v; shown as overdue: %v", open, late, err, got.Overdue)
			}
			return got.Overdue
		}
		w.clock.set(c.due.Add(-time.Microsecond))
		if overdue() {
			t.Errorf("%v is overdue a moment too early", r.ID)
		}
		put := must[wire.RightsRequest](t)(w.v.ExtendRequest(ctx, w.as("root"), r.ID, wire.ExtendRequest{Reason: "much"}))
		if put.Deadline != c.putOffTo || !put.Due.Equal(c.dueWhenPutOff) || put.Extended == nil || put.Extension != "much" {
			t.Errorf("put off: %+v", put)
		}
		w.clock.set(c.dueWhenPutOff.Add(-time.Microsecond))
		if overdue() {
			t.Errorf("%v is overdue a moment too early", r.ID)
		}
		w.clock.set(c.dueWhenPutOff)
		if !overdue() {
			t.Errorf("%v is not overdue", r.ID)
		}
		_, err := w.v.ExtendRequest(ctx, w.as("root"), r.ID, wire.ExtendRequest{Reason: "more"})
		wantCode(t, err, fault.Conflict)
		must[wire.RightsRequest](t)(w.v.CloseRequest(ctx, w.as("root"), r.ID, wire.CloseRequest{Outcome: dataset.Done}))
		if open, late, err := w.v.CountRequests(ctx); open != 0 || late != 0 || err != nil {
			t.Errorf("%d open, %d overdue, %v", open, late, err)
		}
	}
	// At the very moment of the deadline it is too late to put it off.
	r := w.requestAt("late", time.Date(2029, 1, 30, 5, 0, 0, 0, time.UTC))
	w.clock.set(time.Date(2029, 3, 1, 0, 0, 0, 0, time.UTC))
	_, err := w.v.ExtendRequest(ctx, w.as("root"), r.ID, wire.ExtendRequest{Reason: "late"})
	wantCode(t, err, fault.Conflict)
	w.verify()
}

// held is a writer that blocks in its first Write until it is cut.
type held struct {
	begun chan struct{}
	cut   chan struct{}
}

func (h *held) Write(p []byte) (int, error) {
	close(h.begun)
	<-h.cut
	return 0, io.ErrClosedPipe
}

// TestChoicesCutStreams: what somebody decides about their own data ends what they
// read at this moment.
func TestChoicesCutStreams(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.assign("lee", "0")
	ctx := context.Background()
	purposes, consent := []string{"labeling", "research"}, []string{"research"}
	must[wire.Entry](t)(w.v.UpdateProject(ctx, w.as("root"), w.scope("acme/signs"), wire.ProjectUpdate{Purposes: &purposes, Consent: &consent}))
	must[wire.Subject](t)(w.v.Consent(ctx, w.as("lee"), "me", wire.PurposeChoice{Purpose: "research"}))
	for _, c := range []struct {
		name    string
		purpose string
		end     func() error
		undo    func() error
		rule    string
	}{
		{"withdrawn", "research", func() error {
			_, err := w.v.Consent(ctx, w.as("lee"), "me", wire.PurposeChoice{Purpose: "research", End: true})
			return err
		}, nil, "DNY-101"},
		{"objected", "labeling", func() error {
			_, err := w.v.ObjectTo(ctx, w.as("lee"), "lee", wire.PurposeChoice{Purpose: "labeling"})
			return err
		}, func() error {
			_, err := w.v.ObjectTo(ctx, w.as("root"), "lee", wire.PurposeChoice{Purpose: "labeling", End: true})
			return err
		}, "DNY-102"},
		{"restricted", "labeling", func() error {
			_, err := w.v.RestrictSubject(ctx, w.as("root"), "lee", wire.Restriction{Reason: "disputed"})
			return err
		}, func() error {
			_, err := w.v.LiftRestriction(ctx, w.as("lee"), "me", wire.Restriction{})
			return err
		}, "DNY-90"},
	} {
		ref := dataset.ShardRef{Dataset: w.scope("acme/signs/batch-1")}
		s, err := w.v.ReadShard(ctx, w.as("lee"), ref, w.ids["lee"], c.purpose)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		h := &held{make(chan struct{}), make(chan struct{})}
		ended := make(chan error, 1)
		go func() { ended <- s.Send(h, func() { close(h.cut) }) }()
		<-h.begun
		if err := c.end(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		wantCode(t, <-ended, fault.Forbidden)
		_, err = w.v.ReadShard(ctx, w.as("lee"), ref, w.ids["lee"], c.purpose)
		wantCode(t, err, fault.Forbidden)
		d := must[wire.Decision](t)(w.v.Can(ctx, w.as("lee"), "me", rbac.Read, "acme/signs/batch-1/0", c.purpose, ""))
		if d.Allowed || d.Rule != c.rule {
			t.Errorf("%s: %+v", c.name, d)
		}
		if c.undo != nil {
			if err := c.undo(); err != nil {
				t.Fatal(err)
			}
		}
	}
	causes := 0
	for _, l := range w.verify() {
		if cause, _ := l.Text(audit.FieldCause); cause == "revoked" {
			causes++
		}
	}
	if causes != 3 {
		t.Errorf("%d reads ended as revoked", causes)
	}
}

// export opens a copy of all that is held about somebody.
func (w *world) export(who, handle string, req wire.NewSubjectExport) (map[string]string, error) {
	w.t.Helper()
	ctx := context.Background()
	e, err := w.v.ExportSubject(ctx, w.as(who), handle, req)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := e.Send(ctx, &out); err != nil {
		return nil, err
	}
	data := out.Bytes()
	if e.Sealed {
		name := handle
		if handle == "me" {
			name = who
		}
		if data, err = seal.OpenBytes(data, w.devices[name], 64<<20); err != nil {
			return nil, err
		}
	}
	z := must[*zip.Reader](w.t)(zip.NewReader(bytes.NewReader(data), int64(len(data))))
	files := map[string]string{}
	for _, f := range z.File {
		r := must[io.ReadCloser](w.t)(f.Open())
		files[f.Name] = string(must[[]byte](w.t)(io.ReadAll(r)))
		r.Close()
	}
	return files, nil
}

// TestSubjectExport: the copy has everything, JSON and CSV say the same, the log is
// all there however long, and it goes into the log before its first byte.
func TestSubjectExport(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.assign("lee", "0-1")
	ctx := context.Background()
	must[wire.Agreement](t)(w.v.Publish(ctx, w.as("root"), wire.Publish{Name: "nda", Text: "Tell nobody."}))
	a := must[wire.Agreement](t)(w.v.Agreement(ctx, w.as("lee"), "nda"))
	must[wire.Signature](t)(w.v.Sign(ctx, w.as("lee"), "nda", wire.Sign{Version: a.Version, SHA256: a.SHA256}))
	must[wire.RightsRequest](t)(w.v.OpenRequest(ctx, w.as("lee"), wire.NewRequest{Kind: dataset.CorrectionRequest, Reason: "my = sign, \"quoted\""}))
	must[[]byte](t)(w.read("lee", "acme/signs/batch-1", 0))
	w.read("lee", "acme/signs/batch-1", 7)
	const many = 1100 // more than a page
	for range many {
		must[wire.Agreement](t)(w.v.Agreement(ctx, w.as("lee"), "nda"))
	}
	before := len(w.verify())

	// A copy of which no byte was taken is in the log.
	if _, err := w.v.ExportSubject(ctx, w.as("lee"), "me", wire.NewSubjectExport{}); err != nil {
		t.Fatal(err)
	}
	leaves := w.verify()
	last := leaves[len(leaves)-1]
	if how, _ := last.Text(audit.FieldDelivery); last.Kind != audit.KindSubjectExport || how != "sealed" || len(leaves) <= before {
		t.Errorf("the last record is %+v", last)
	}

	files := must[map[string]string](t)(w.export("lee", "me", wire.NewSubjectExport{}))
	for name, want := range map[string]int{"profile": 1, "roles": 1, "assignments": 1, "signatures": 1, "choices": 0, "requests": 1, "devices": 1,
		"tokens": 2, "links": 0, "mails": 0, "log": -1, "about": 3} {
		var rows []map[string]any
		if err := json.Unmarshal([]byte(files[name+".json"]), &rows); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		table := must[[][]string](t)(csv.NewReader(strings.NewReader(files[name+".csv"])).ReadAll())
		if len(table) != len(rows)+1 || want >= 0 && len(rows) != want {
			t.Errorf("%s: %d rows of JSON, %d lines of CSV; want %d", name, len(rows), len(table), want)
			continue
		}
		for i, row := range rows {
			for j, column := range table[0] {
				if text := fmt.Sprint(row[column]); row[column] == nil && table[i+1][j] != "" || row[column] != nil && column != "fields" && column != "details" && text != table[i+1][j] {
					t.Errorf("%s, row %d: %s is %q and %q", name, i, column, text, table[i+1][j])
				}
			}
		}
	}
	for _, want := range []string{`"name":"LEE"`, `"email":"lee@example.org"`} {
		if !strings.Contains(files["profile.json"], want) {
			t.Errorf("the profile lacks %s: %s", want, files["profile.json"])
		}
	}
	if !strings.Contains(files["requests.csv"], `"my = sign, ""quoted"""`) {
		t.Errorf("requests: %s", files["requests.csv"])
	}
	for _, want := range []string{`"kind":"login"`, `"kind":"agreement-sign"`, `"kind":"read"`, `"kind":"read-end"`, `"kind":"refused"`, `192.0.2.7`} {
		if !strings.Contains(files["log.json"], want) {
			t.Errorf("the log lacks %s", want)
		}
	}
	var doc struct {
		Format, Person string
		Version        int
		Record         uint64
		Rows           map[string]int
	}
	if err := json.Unmarshal([]byte(files["export.json"]), &doc); err != nil || doc.Format != "dsvault-subject-export" || doc.Version != 1 ||
		doc.Person != "lee" || doc.Rows["roles"] != 1 || doc.Rows["log"] < 6 || !strings.Contains(files["README.txt"], "export.json") {
		t.Errorf("%v: %+v", err, doc)
	}
	for name, text := range files {
		for _, stranger := range []string{"carol", "conny", "CAROL", w.tokens["lee"]} {
			if strings.Contains(text, stranger) {
				t.Errorf("%s has %s in it", name, stranger)
			}
		}
	}

	// Whoever is not the person, and no admin, learns nothing; an admin can only
	// send a copy that the person opens.
	_, err := w.v.ExportSubject(ctx, w.as("rita"), "lee", wire.NewSubjectExport{})
	wantCode(t, err, fault.NotFound)
	_, err = w.v.ExportSubject(ctx, w.as("root"), "lee", wire.NewSubjectExport{Device: w.ids["root"]})
	wantCode(t, err, fault.Invalid)
	if _, err := w.export("root", "lee", wire.NewSubjectExport{}); err != nil {
		t.Error(err)
	}
	// A stranger without any role has the same right.
	if files := must[map[string]string](t)(w.export("stranger", "me", wire.NewSubjectExport{})); !strings.Contains(files["profile.json"], "STRANGER") {
		t.Error("somebody without a role gets another copy")
	}
}

// TestHandedOverOnce: of several that hand a copy over for one request at once, one
// does.
func TestHandedOverOnce(t *testing.T) {
	w := newWorld(t)
	w.invite("lee")
	ctx := context.Background()
	r := must[wire.RightsRequest](t)(w.v.OpenRequest(ctx, w.as("root"), wire.NewRequest{Person: "lee", Kind: dataset.AccessRequest, Identity: dataset.ByDocument}))
	errs := make(chan error, 5)
	for range 5 {
		c := w.as("root")
		go func() {
			_, err := w.v.ExportSubject(ctx, c, "lee", wire.NewSubjectExport{Request: r.ID})
			errs <- err
		}()
	}
	var codes []fault.Code
	for range 5 {
		codes = append(codes, fault.CodeOf(<-errs))
	}
	slices.Sort(codes)
	done := 0
	for _, code := range codes {
		if code != fault.Conflict {
			done++
		}
	}
	if done != 1 {
		t.Errorf("%v", codes)
	}
}
