package vault_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/courier/couriertest"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// newNoticeWorld has acme hear of everything, by mail and webhook.
func newNoticeWorld(t *testing.T) (w *world, s *couriertest.SMTP, r *couriertest.Receiver, secret string) {
	t.Helper()
	w, s = newMailWorld(t)
	w.setUp()
	r = couriertest.NewReceiver(t)
	out := must[wire.Notices](t)(w.v.SetNotices(context.Background(), w.as("carol"), "acme", wire.NoticesUpdate{
		Mail: &[]string{"privacy@acme.example"}, Webhooks: &[]string{r.URL + "/vault"},
	}))
	if out.Secret == "" || !slices.Equal(out.Events, wire.NoticeEvents) || out.By != "carol" || len(out.Mail) != 1 {
		t.Fatalf("%+v", out)
	}
	return w, s, r, out.Secret
}

// next is the notice in the n-th call, counted from 1.
func next(t *testing.T, r *couriertest.Receiver, n int, secret string) wire.Notice {
	t.Helper()
	call := r.Await(t, n)[n-1]
	call.Verify(t, secret)
	var out wire.Notice
	call.Into(t, &out)
	for _, word := range []string{"lee", "stranger", "carol", "second", "file"} {
		if strings.Contains(string(call.Body), word) {
			t.Errorf("the call names %s: %s", word, call.Body)
		}
	}
	if out.Data.Client.String() != "acme" || out.Data.Record == nil {
		t.Errorf("%s", call.Body)
	}
	return out
}

func TestNotices(t *testing.T) {
	w, s, r, secret := newNoticeWorld(t)
	ctx := context.Background()

	// A grant, and which record it is.
	until := w.clock.Now().Add(time.Hour)
	w.grant(dataset.Labeler, "stranger", "acme/signs", &until)
	n := next(t, r, 1, secret)
	if n.Type != wire.NoticeGrant || n.Data.Scope.String() != "acme/signs" || n.Data.Role != dataset.Labeler || !n.Data.Until.Equal(until) || !n.Timestamp.Equal(w.clock.Now()) {
		t.Errorf("%+v", n)
	}
	if l := w.verify()[*n.Data.Record]; l.Kind != audit.KindGrant {
		t.Errorf("record %d is a %v", *n.Data.Record, l.Kind)
	}
	m := s.Await(t, 1)[0]
	if m.To != "privacy@acme.example" || !strings.Contains(m.Text, "labeler") || !strings.Contains(m.Text, "dsvault log acme") || strings.Contains(m.Text, "stranger") {
		t.Errorf("%+v", m)
	}
	// One at the whole vault concerns every client.
	w.grant(dataset.Auditor, "stranger", "/", nil)
	if n := next(t, r, 2, secret); n.Type != wire.NoticeGrant || n.Data.Scope != dataset.Root || n.Data.Role != dataset.Auditor {
		t.Errorf("%+v", n)
	}
	must[wire.Revoked](t)(w.v.Revoke(ctx, w.as("root"), dataset.Auditor, "stranger", dataset.Root))

	// Nor is an emergency a secret.
	must[wire.BreakGlass](t)(w.v.BreakGlass(ctx, w.as("second"), wire.NewBreakGlass{Scope: w.scope("acme/signs"), Reason: "the house burns"}))
	if n := next(t, r, 3, secret); n.Type != wire.NoticeGlass || n.Data.Scope.String() != "acme/signs" || n.Data.Until == nil {
		t.Errorf("%+v", n)
	}

	// A purpose is new once, whoever reads for it again.
	w.assign("lee", "0-1")
	for range 2 {
		must[[]byte](t)(w.read("lee", "acme/signs/batch-1", 0))
	}
	if n := next(t, r, 4, secret); n.Type != wire.NoticePurpose || n.Data.Purpose != "labeling" || n.Data.Scope.String() != "acme/signs" {
		t.Errorf("%+v", n)
	} else if l := w.verify()[*n.Data.Record]; l.Kind != audit.KindRead {
		t.Errorf("record %d is a %v", *n.Data.Record, l.Kind)
	}
	must[wire.Entry](t)(w.v.UpdateProject(ctx, w.as("carol"), w.scope("acme/signs"), wire.ProjectUpdate{Purposes: &[]string{"labeling", "review"}}))
	readFor := func(purpose string) {
		t.Helper()
		must[*vault.ShardStream](t)(w.v.ReadShard(ctx, w.as("lee"), dataset.ShardRef{Dataset: w.scope("acme/signs/batch-1")}, w.ids["lee"], purpose)).Close()
	}
	for _, purpose := range []string{"labeling", "review", "review"} {
		readFor(purpose)
	}
	if n := next(t, r, 5, secret); n.Type != wire.NoticePurpose || n.Data.Purpose != "review" {
		t.Errorf("%+v", n)
	}
	// Also after a restart, when the node has to look.
	w.waitFor("all are noted as sent", func() bool { return len(w.due()) == 0 })
	w.restart()
	readFor("labeling")

	// What was not chosen is not sent.
	must[wire.Notices](t)(w.v.SetNotices(ctx, w.as("carol"), "acme", wire.NoticesUpdate{Events: &[]string{wire.NoticeErasure, wire.NoticeHold}}))
	if n := next(t, r, 6, secret); n.Type != wire.NoticeChanged {
		t.Errorf("%+v", n)
	}
	w.grant(dataset.Labeler, "audrey", "acme/signs", nil)
	tested := must[wire.NoticesTested](t)(w.v.TestNotices(ctx, w.as("root"), "acme"))
	if n := next(t, r, 7, secret); n.Type != wire.NoticeTest || len(tested.Messages) != 2 {
		t.Errorf("%+v, %+v", n, tested)
	}
	if calls := r.Calls(); len(calls) != 7 || !slices.Contains([]string{tested.Messages[0].String(), tested.Messages[1].String()}, calls[6].ID) {
		t.Errorf("%d calls, the last %s of %v", len(calls), calls[6].ID, tested.Messages)
	}
	// Whoever is taken out hears of that, under the secret that they have.
	out := must[wire.Notices](t)(w.v.SetNotices(ctx, w.as("carol"), "acme", wire.NoticesUpdate{
		Webhooks: &[]string{"https://hooks.acme.example/new"}, Mail: &[]string{}, NewSecret: true,
	}))
	if out.Secret == "" || out.Secret == secret || len(out.Mail) != 0 {
		t.Errorf("%+v", out)
	}
	if n := next(t, r, 8, secret); n.Type != wire.NoticeChanged {
		t.Errorf("%+v", n)
	}
	got := must[wire.Notices](t)(w.v.Notices(ctx, w.as("root"), "acme"))
	if got.Secret != "" || got.By != "carol" || !slices.Equal(got.Webhooks, []string{"https://hooks.acme.example/new"}) || !slices.Equal(got.Events, []string{wire.NoticeHold, wire.NoticeErasure}) {
		t.Errorf("%+v", got)
	}
	if n := w.count(audit.KindNoticesSet); n != 3 {
		t.Errorf("%d records", n)
	}
}

func TestNoticesAreTheClients(t *testing.T) {
	w, _, r, _ := newNoticeWorld(t)
	ctx := context.Background()
	must[wire.Entry](t)(w.v.CreateClient(ctx, w.as("root"), wire.NewClient{Scope: w.scope("other")}))
	w.invite("oscar")
	w.grant(dataset.ClientUser, "oscar", "other", nil)
	for _, who := range []string{"oscar", "stranger", "lee"} {
		for _, client := range []string{"acme", "nowhere"} {
			_, err := w.v.Notices(ctx, w.as(who), client)
			wantCode(t, err, fault.NotFound)
			_, err = w.v.SetNotices(ctx, w.as(who), client, wire.NoticesUpdate{Mail: &[]string{"eve@example.org"}})
			wantCode(t, err, fault.NotFound)
			_, err = w.v.TestNotices(ctx, w.as(who), client)
			wantCode(t, err, fault.NotFound)
			_, err = w.v.Messages(ctx, w.as(who), client, dataset.MessageID{}, 0)
			wantCode(t, err, fault.NotFound)
		}
	}
	_, err := w.v.TestNotices(ctx, w.as("oscar"), "other")
	wantCode(t, err, fault.Conflict)
	many := slices.Repeat([]string{r.URL}, wire.MaxReceivers+1)
	for what, c := range map[string]struct {
		req  wire.NoticesUpdate
		code fault.Code
	}{
		"no address":    {wire.NoticesUpdate{Mail: &[]string{"x"}}, fault.Invalid},
		"no URL":        {wire.NoticesUpdate{Webhooks: &[]string{"x"}}, fault.Invalid},
		"no such event": {wire.NoticesUpdate{Events: &[]string{wire.NoticeTest}}, fault.Invalid},
		"too many":      {wire.NoticesUpdate{Webhooks: &many}, fault.TooLarge},
	} {
		_, err := w.v.SetNotices(ctx, w.as("oscar"), "other", c.req)
		if fault.CodeOf(err) != c.code {
			t.Errorf("%s: %v", what, err)
		}
	}
	// The address of somebody who is anonymised is taken out.
	address := "oscar@example.org"
	must[wire.Notices](t)(w.v.SetNotices(ctx, w.as("root"), "acme", wire.NoticesUpdate{Mail: &[]string{"Oscar@example.org", "privacy@acme.example"}}))
	must[wire.Notices](t)(w.v.SetNotices(ctx, w.as("oscar"), "other", wire.NoticesUpdate{Mail: &[]string{address}}))
	must[wire.Anonymized](t)(w.v.Anonymize(ctx, w.as("root"), "oscar"))
	for client, want := range map[string][]string{"acme": {"privacy@acme.example"}, "other": {}} {
		if n := must[wire.Notices](t)(w.v.Notices(ctx, w.as("root"), client)); !slices.Equal(n.Mail, want) {
			t.Errorf("%s: %+v", client, n)
		}
	}
}

// Nobody waits for a receiver, and none gets lost while it is away.
func TestNoticesWaitForNobody(t *testing.T) {
	w, _, r, secret := newNoticeWorld(t)
	ctx := context.Background()
	must[wire.Notices](t)(w.v.SetNotices(ctx, w.as("carol"), "acme", wire.NoticesUpdate{Mail: &[]string{}}))
	next(t, r, 1, secret)
	w.clock.Add(time.Second)
	w.assign("lee", "0-1")

	// While a call hangs, reads go on.
	come, release := make(chan struct{}), make(chan struct{})
	r.Answer(func(rw http.ResponseWriter, _ *http.Request, n int) {
		switch n {
		case 1:
			close(come)
			<-release
			rw.WriteHeader(http.StatusInternalServerError)
		case 2:
			rw.WriteHeader(http.StatusServiceUnavailable)
		case 4:
			rw.WriteHeader(http.StatusGone)
		}
	})
	must[[]byte](t)(w.read("lee", "acme/signs/batch-1", 0))
	<-come
	must[[]byte](t)(w.read("lee", "acme/signs/batch-1", 1))
	close(release)

	last := func() wire.Message {
		page := must[wire.Page[wire.Message]](t)(w.v.Messages(ctx, w.as("carol"), "acme", dataset.MessageID{}, 1))
		return page.Items[0]
	}
	await := func(attempts int) (m wire.Message) {
		w.waitFor("a try", func() bool { m = last(); return m.Attempts >= attempts })
		return m
	}
	if m := await(1); m.State != "waiting" || m.Problem != "the webhook answers 500" || !m.Due.Equal(w.clock.Now().Add(5*time.Second)) || m.Event != wire.NoticePurpose {
		t.Errorf("%+v", m)
	}
	w.clock.Add(5 * time.Second)
	w.v.WakeOutbox()
	if m := await(2); m.State != "waiting" || m.Problem != "the webhook answers 503" || !m.Due.Equal(w.clock.Now().Add(time.Minute)) {
		t.Errorf("%+v", m)
	}
	w.clock.Add(time.Minute)
	w.v.WakeOutbox()
	if m := await(3); m.State != "sent" || m.Problem != "" || m.Due != nil {
		t.Errorf("%+v", m)
	}
	calls := r.Await(t, 4)
	if calls[1].ID != calls[2].ID || calls[1].ID != calls[3].ID || string(calls[1].Body) != string(calls[3].Body) {
		t.Errorf("another try is another message: %s %s %s", calls[1].ID, calls[2].ID, calls[3].ID)
	}
	if calls[1].Header.Get("Webhook-Timestamp") == calls[3].Header.Get("Webhook-Timestamp") {
		t.Error("another try has the time of the first")
	}
	// One that is gone is not asked again, and can be seen.
	w.clock.Add(time.Second)
	must[wire.NoticesTested](t)(w.v.TestNotices(ctx, w.as("carol"), "acme"))
	if m := await(1); m.State != "dead" || m.Event != wire.NoticeTest || m.Problem != "the webhook says that it is gone (410)" {
		t.Errorf("%+v", m)
	}
	// After three days of tries it is given up.
	r.Answer(func(rw http.ResponseWriter, _ *http.Request, _ int) { rw.WriteHeader(http.StatusBadGateway) })
	w.clock.Add(time.Second)
	must[wire.NoticesTested](t)(w.v.TestNotices(ctx, w.as("carol"), "acme"))
	began, tries := w.clock.Now(), 0
	for m := await(1); m.State == "waiting"; m = await(tries + 1) {
		tries = m.Attempts
		w.clock.Add(m.Due.Sub(w.clock.Now()))
		w.v.WakeOutbox()
	}
	if m := last(); m.State != "dead" || m.Attempts != 11 || w.clock.Now().Sub(began) < 72*time.Hour {
		t.Errorf("%+v after %s", m, w.clock.Now().Sub(began))
	}
	// What is not wanted there any more is not sent.
	r.Answer(func(rw http.ResponseWriter, _ *http.Request, _ int) { rw.WriteHeader(http.StatusBadGateway) })
	w.clock.Add(time.Second)
	must[wire.NoticesTested](t)(w.v.TestNotices(ctx, w.as("carol"), "acme"))
	id := await(1).ID
	if err := w.db.Update(ctx, func(tx *catalog.Tx) error {
		return tx.PutNotices(ctx, storage.Notices{Client: w.scope("acme"), Events: wire.NoticeEvents})
	}); err != nil {
		t.Fatal(err)
	}
	w.clock.Add(5 * time.Second)
	w.v.WakeOutbox()
	if m := await(2); m.ID != id || m.State != "dead" || m.Problem != "it is not wanted there any more" {
		t.Errorf("%+v", m)
	}
	// A read goes on even if the client cannot be told.
	if err := w.db.Update(ctx, func(tx *catalog.Tx) error {
		return tx.PutNotices(ctx, storage.Notices{Client: w.scope("acme"), Events: wire.NoticeEvents, Settings: []byte("damaged")})
	}); err != nil {
		t.Fatal(err)
	}
	must[wire.Entry](t)(w.v.UpdateProject(ctx, w.as("carol"), w.scope("acme/signs"), wire.ProjectUpdate{Purposes: &[]string{"review"}}))
	must[[]byte](t)(w.read("lee", "acme/signs/batch-1", 0))
}

// Admins hear of requests in the register a week before they are due, to the
// second, and then once a week until they are closed.
func TestAdminsAreReminded(t *testing.T) {
	w, s := newMailWorld(t)
	for _, name := range []string{"lee", "second", "gone"} {
		w.invite(name)
	}
	w.grant(dataset.Admin, "second", "/", nil)
	w.grant(dataset.Admin, "gone", "/", nil)
	ctx := context.Background()
	must[wire.Revoked](t)(w.v.Disable(ctx, w.as("root"), "gone"))
	request := must[wire.RightsRequest](t)(w.v.OpenRequest(ctx, w.as("lee"), wire.NewRequest{Kind: "access"}))
	remind := func(at time.Time) {
		t.Helper()
		w.clock.set(at)
		for range 2 { // the second time there is nothing to do
			if err := w.v.Remind(ctx); err != nil {
				t.Fatal(err)
			}
		}
		w.v.WakeOutbox()
	}
	week := 7 * 24 * time.Hour
	remind(request.Due.Add(-week - time.Second))
	if len(w.due()) != 0 || s.Tried() != 0 {
		t.Error("reminded too early")
	}
	for n, state := range []string{"is due soon", "is overdue", "is overdue"} {
		remind(request.Due.Add(time.Duration(n-1) * week))
		m := s.Await(t, n+1)[n]
		if m.To != "second@example.org" || !strings.Contains(m.Text, state) || !strings.Contains(m.Text, request.ID.String()) ||
			!strings.Contains(m.Text, "deadline: "+request.Deadline) || strings.Contains(m.Text, "lee") {
			t.Errorf("%+v", m)
		}
	}
	w.waitFor("the last is noted as sent", func() bool { return len(w.due()) == 0 })
	must[wire.RightsRequest](t)(w.v.CloseRequest(ctx, w.as("root"), request.ID, wire.CloseRequest{Outcome: "refused", Answer: "no"}))
	remind(request.Due.Add(2 * week))
	if len(w.due()) != 0 || len(s.Received()) != 3 {
		t.Errorf("reminded of what is closed: %+v", s.Received())
	}
}
