package vault_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/courier"
	"dsvault/vault/courier/couriertest"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/ledger"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// newMailWorld is a vault that sends mail, by a real server.
func newMailWorld(t *testing.T) (*world, *couriertest.SMTP) {
	t.Helper()
	w, s := newWorld(t), couriertest.NewSMTP(t)
	mailer := must[*courier.Mailer](t)(courier.NewMailer(courier.MailConfig{URL: "smtp://" + s.Addr, From: "vault@agency.example"}))
	w.config = func(c *vault.Config) {
		c.Mailer, c.PublicURL, c.Hooks = mailer, "https://vault.example", courier.NewHooks(true)
	}
	w.restart()
	return w, s
}

// restart closes the vault and opens it again.
func (w *world) restart() {
	w.t.Helper()
	w.v.Close()
	v := must[*vault.Vault](w.t)(w.open())
	w.v = v
	w.t.Cleanup(func() { v.Close() })
}

// ask asks for a reset mail, from an address.
func (w *world) ask(email, from string) {
	w.t.Helper()
	actor := ledger.Actor{Request: dataset.NewID[dataset.RequestID](rand.Reader), Address: from, Agent: "test"}
	must[wire.ResetAsked](w.t)(w.v.AskReset(actor, email))
}

var tokenForm = regexp.MustCompile(`(?m)^    (dsv_[a-z2-7]{52})$`)

// mailed finds the token in a mail.
func mailed(t *testing.T, m couriertest.Received) string {
	t.Helper()
	found := tokenForm.FindStringSubmatch(m.Text)
	if found == nil {
		t.Fatalf("no token in %+v", m)
	}
	return found[1]
}

// enter logs in with a token under a new device key.
func (w *world) enter(name, token string) (wire.LoggedIn, error) {
	w.t.Helper()
	was := w.tokens[name]
	w.tokens[name] = token
	if !w.authenticates(token) {
		w.tokens[name] = was
		return wire.LoggedIn{}, fault.New(fault.Unauthenticated, "test", "the token does not hold")
	}
	id := must[*seal.Identity](w.t)(seal.GenerateIdentity())
	in, err := w.v.Login(context.Background(), w.as(name), wire.Login{DeviceName: "new", Recipient: id.Recipient().String()})
	if err == nil {
		w.tokens[name], w.devices[name], w.ids[name] = in.Token, id, in.Device
	}
	return in, err
}

func TestReset(t *testing.T) {
	w, s := newMailWorld(t)
	w.setUp()
	w.assign("lee", "0")
	ctx := context.Background()
	ds := dataset.ShardRef{Dataset: w.scope("acme/signs/batch-1")}
	running := must[*vault.ShardStream](t)(w.v.ReadShard(ctx, w.as("lee"), ds, w.ids["lee"], ""))
	others := must[*vault.ShardStream](t)(w.v.ReadShard(ctx, w.as("carol"), ds, w.ids["carol"], ""))
	defer others.Close()
	old := w.tokens["lee"]

	w.ask("LEE@Example.org", "203.0.113.9")
	m := s.Await(t, 1)[0]
	for _, want := range []string{"lee", "https://vault.example", "2027-02-28 12:00:00 UTC", "203.0.113.9", "until 2027-02-28 12:30:00 UTC", "dsvault login https://vault.example"} {
		if !strings.Contains(m.Text, want) {
			t.Errorf("the mail does not say %q:\n%s", want, m.Text)
		}
	}
	if m.To != "lee@example.org" {
		t.Errorf("to %s", m.To)
	}
	token := mailed(t, m)
	if _, err := w.v.Authenticate(ctx, token, false, ledger.Actor{}); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("the token is good for more than a login: %v", err)
	}
	if !w.authenticates(old) {
		t.Error("to ask ended a token")
	}
	// A second one, which the use of the first ends.
	w.ask("lee@example.org", "203.0.113.9")
	second := mailed(t, s.Await(t, 2)[1])
	in, err := w.enter("lee", token)
	if err != nil || in.Ended != 2 || in.Whoami.Handle != "lee" {
		t.Fatalf("%+v, %v", in, err)
	}
	for what, token := range map[string]string{"the old token": old, "the used one": token, "the other mail's": second} {
		if w.authenticates(token) {
			t.Errorf("%s still holds", what)
		}
	}
	wantCode(t, running.Send(&strings.Builder{}, func() {}), fault.Forbidden)
	if err := others.Send(&strings.Builder{}, func() {}); err != nil {
		t.Errorf("somebody else's read: %v", err)
	}
	must[[]byte](t)(w.read("lee", "acme/signs/batch-1", 0))

	// The log has who asked from where, and the use.
	var asked, used int
	for _, l := range w.verify() {
		switch l.Kind {
		case audit.KindResetAsk:
			asked++
		case audit.KindResetUse:
			used++
			if n, _ := l.Uint64(audit.FieldCount); n != 2 {
				t.Errorf("ended %d", n)
			}
		}
	}
	if asked != 2 || used != 1 {
		t.Errorf("%d records of requests, %d of uses", asked, used)
	}
	page := must[wire.Page[wire.Record]](t)(w.v.Log(ctx, w.as("root"), vault.LogQuery{Kinds: []audit.Kind{audit.KindResetAsk}}))
	for _, r := range page.Items {
		if r.Actor != "lee" || r.Object != "lee" || !strings.Contains(string(r.Personal), `"address":"203.0.113.9"`) {
			t.Errorf("%+v %s", r, r.Personal)
		}
	}
}

// A read that runs on another node is cut, too.
func TestResetCutsEverywhere(t *testing.T) {
	w, s := newMailWorld(t)
	w.setUp()
	w.assign("lee", "0")
	w.shared = true
	w.restart()
	other := must[*vault.Vault](t)(w.open())
	t.Cleanup(func() { other.Close() })
	running := must[*vault.ShardStream](t)(other.ReadShard(context.Background(), w.as("lee"), dataset.ShardRef{Dataset: w.scope("acme/signs/batch-1")}, w.ids["lee"], ""))
	r, slow := io.Pipe() // nobody reads from it
	ended := make(chan error, 1)
	go func() { ended <- running.Send(slow, func() { r.Close() }) }()
	w.ask("lee@example.org", "203.0.113.9")
	if _, err := w.enter("lee", mailed(t, s.Await(t, 1)[0])); err != nil {
		t.Fatal(err)
	}
	wantCode(t, <-ended, fault.Forbidden)
}

// awaitMails waits until so many mails to an address were taken.
func awaitMails(t *testing.T, s *couriertest.SMTP, to string, n int) {
	t.Helper()
	for {
		list, got := s.Received(), 0
		for _, m := range list {
			if m.To == to {
				got++
			}
		}
		if got >= n {
			return
		}
		s.Await(t, len(list)+1)
	}
}

// count counts the records of a kind.
func (w *world) count(kind audit.Kind) (n int) {
	w.t.Helper()
	for _, l := range w.verify() {
		if l.Kind == kind {
			n++
		}
	}
	return n
}

// To the second: it holds for half an hour and no longer.
func TestResetRunsOut(t *testing.T) {
	w, s := newMailWorld(t)
	w.invite("ann")
	w.invite("bob")
	w.ask("ann@example.org", "")
	w.ask("bob@example.org", "")
	mails := s.Await(t, 2)
	tokens := map[string]string{mails[0].To: mailed(t, mails[0]), mails[1].To: mailed(t, mails[1])}
	w.clock.Add(30*time.Minute - time.Second)
	if _, err := w.enter("ann", tokens["ann@example.org"]); err != nil {
		t.Errorf("a second before the end: %v", err)
	}
	w.clock.Add(time.Second)
	_, err := w.enter("bob", tokens["bob@example.org"])
	wantCode(t, err, fault.Unauthenticated)
	if !w.authenticates(w.tokens["bob"]) {
		t.Error("a reset that ran out ended a token")
	}
}

// Whoever asks learns nothing, waits for nothing, and cannot flood anybody.
func TestResetTellsNothing(t *testing.T) {
	w, s := newMailWorld(t)
	for _, name := range []string{"ann", "bob", "gone", "last"} {
		w.invite(name)
	}
	ctx := context.Background()
	shared := "team@example.org"
	must[wire.Person](t)(w.v.UpdatePerson(ctx, w.as("bob"), "me", wire.PersonUpdate{Email: &shared}))
	must[wire.NewToken](t)(w.v.Invite(ctx, w.as("root"), wire.NewPerson{Handle: "bea", Email: shared}))
	must[wire.NewToken](t)(w.v.Invite(ctx, w.as("root"), wire.NewPerson{Handle: "bot", Email: "bot@example.org", Service: true}))
	must[wire.Revoked](t)(w.v.Disable(ctx, w.as("root"), "gone"))
	moved := s.Await(t, 1)[0]
	if moved.To != "bob@example.org" || !strings.Contains(moved.Text, "was changed") && !strings.Contains(moved.Text, "not the address of bob") {
		t.Errorf("whose address was changed hears: %+v", moved)
	}

	// While nobody can look anything up, everybody gets the answer.
	tx := must[*catalog.Tx](t)(w.db.Begin(ctx))
	if err := tx.SetMeta(ctx, "x", nil); err != nil {
		t.Fatal(err)
	}
	for _, email := range []string{"nobody@example.org", "bot@example.org", "gone@example.org", "bob@example.org", "team@example.org"} {
		w.ask(email, "192.0.2.9")
	}
	if n := s.Tried(); n != 1 {
		t.Errorf("%d mails were offered", n)
	}
	tx.Rollback()
	to := map[string]bool{}
	for _, m := range s.Await(t, 3)[1:] {
		for _, handle := range []string{"bob", "bea"} {
			if m.To == shared && strings.Contains(m.Text, "login of "+handle+" at") {
				to[handle] = true
			}
		}
	}
	if len(to) != 2 {
		t.Errorf("of two people with one address %v got a mail", to)
	}

	// Five in an hour, and then no more; the last request shows that all before
	// it were looked at.
	for range 8 {
		w.ask("ann@example.org", "192.0.2.9")
	}
	w.ask("last@example.org", "192.0.2.9")
	awaitMails(t, s, "last@example.org", 1)
	if n := w.count(audit.KindResetAsk); n != 2+5+1 {
		t.Errorf("%d records of requests", n)
	}
	awaitMails(t, s, "ann@example.org", 5)
	w.clock.Add(time.Hour)
	w.ask("ann@example.org", "192.0.2.9")
	awaitMails(t, s, "ann@example.org", 6)
	for _, bad := range []string{"", "x", "a@b\r\nBcc: c@d", "Ann <ann@example.org>", strings.Repeat("a", 300) + "@example.org"} {
		_, err := w.v.AskReset(ledger.Actor{}, bad)
		wantCode(t, err, fault.Invalid)
	}
}

// waitFor polls until done.
func (w *world) waitFor(what string, done func() bool) {
	w.t.Helper()
	for late := time.Now().Add(2 * time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			w.t.Fatalf("gave up waiting: %s", what)
		}
	}
}

// due lists the messages that wait, whenever they are due.
func (w *world) due() (list []storage.Message) {
	w.t.Helper()
	err := w.db.View(context.Background(), func(tx *catalog.Tx) (err error) {
		list, err = tx.DueMessages(context.Background(), w.clock.Now().Add(1000*24*time.Hour), 100, 100)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

// A mail is tried again, later and later, and given up when it is refused for
// good or comes too late.
func TestMailIsTriedAgain(t *testing.T) {
	w, s := newMailWorld(t)
	ctx := context.Background()
	invite := func(handle string) dataset.MessageID {
		must[wire.NewToken](t)(w.v.Invite(ctx, w.as("root"), wire.NewPerson{Handle: handle, Email: handle + "@example.org", Mail: true}))
		var mails []storage.Message // it may have been tried by now
		err := w.db.View(ctx, func(tx *catalog.Tx) error {
			p, err := tx.PrincipalByHandle(ctx, handle)
			if err == nil {
				mails, err = tx.MessagesTo(ctx, p.ID)
			}
			return err
		})
		if err != nil || len(mails) != 1 {
			t.Fatalf("%d mails to %s: %v", len(mails), handle, err)
		}
		return mails[0].ID
	}
	message := func(id dataset.MessageID) (m storage.Message) {
		if err := w.db.View(ctx, func(tx *catalog.Tx) (err error) { m, err = tx.Message(ctx, id); return err }); err != nil {
			t.Fatal(err)
		}
		return m
	}
	await := func(id dataset.MessageID, attempts int) (m storage.Message) {
		w.waitFor("a try", func() bool { m = message(id); return m.Attempts >= attempts })
		return m
	}
	s.Refuse(func(to string, n int) error {
		if to == "bad@example.org" {
			return &smtp.SMTPError{Code: 550, Message: "no such mailbox"}
		}
		if n < 2 {
			return &smtp.SMTPError{Code: 451, Message: "later"}
		}
		return nil
	})
	id := invite("ann")
	for n, wait := range []time.Duration{5 * time.Second, time.Minute} {
		m := await(id, n+1)
		if m.State != storage.MessageWaiting || !m.Due.Equal(w.clock.Now().Add(wait)) || m.Problem != "the mail server does not take it now (451)" {
			t.Fatalf("try %d: %+v", n+1, m)
		}
		w.clock.Add(wait)
		w.v.WakeOutbox()
	}
	if m := await(id, 3); m.State != storage.MessageSent || m.Content != nil || m.Problem != "" {
		t.Errorf("%+v", m)
	}
	got := s.Await(t, 1)
	if len(got) != 1 || got[0].Header.Get("Message-Id") != "<"+id.String()+"@agency.example>" {
		t.Errorf("%+v", got)
	}
	w.tokens["ann"] = mailed(t, got[0])
	w.login("ann")

	if m := await(invite("bad"), 1); m.State != storage.MessageDead || m.Content != nil || m.Problem != "the mail server refuses it (550)" {
		t.Errorf("%+v", m)
	}
	// A reset that could not be sent in time is not sent at all.
	s.Refuse(func(string, int) error { return &smtp.SMTPError{Code: 451, Message: "later"} })
	w.ask("ann@example.org", "")
	w.waitFor("a mail", func() bool { return len(w.due()) > 0 })
	id = w.due()[0].ID
	await(id, 1)
	w.clock.Add(wire.ResetLife)
	w.v.WakeOutbox()
	if m := await(id, 2); m.State != storage.MessageDead {
		t.Errorf("%+v", m)
	}
	// What was sent or given up is forgotten after a while.
	w.clock.Add(31 * 24 * time.Hour)
	w.v.WakeOutbox()
	w.waitFor("the old ones go", func() bool {
		return w.db.View(ctx, func(tx *catalog.Tx) error { _, err := tx.Message(ctx, id); return err }) != nil
	})
}

// Of somebody who is anonymised no address, no number and no waiting mail is
// left, and nobody finds them by the address.
func TestAnonymizeContact(t *testing.T) {
	w, s := newMailWorld(t)
	w.invite("ann")
	w.invite("second")
	w.grant(dataset.Admin, "second", "/", nil)
	ctx := context.Background()
	phone, company, job := "+49 30 555", "Serpents Ltd", "keeper"
	changed := must[wire.Person](t)(w.v.UpdatePerson(ctx, w.as("second"), "ann", wire.PersonUpdate{Phone: &phone, Company: &company, JobTitle: &job}))
	if me := must[wire.Person](t)(w.v.Person(ctx, w.as("ann"), "me")); me != changed || me.Phone != phone || me.Company != company || me.JobTitle != job || me.Email != "ann@example.org" {
		t.Errorf("%+v", me)
	}
	_, err := w.v.Person(ctx, w.as("ann"), "second")
	wantCode(t, err, fault.NotFound)
	_, err = w.v.UpdatePerson(ctx, w.as("ann"), "second", wire.PersonUpdate{Phone: &phone})
	wantCode(t, err, fault.NotFound)
	bad := "nobody"
	_, err = w.v.UpdatePerson(ctx, w.as("ann"), "me", wire.PersonUpdate{Email: &bad})
	wantCode(t, err, fault.Invalid)

	s.Refuse(func(string, int) error { return &smtp.SMTPError{Code: 451, Message: "later"} })
	w.ask("ann@example.org", "203.0.113.9")
	w.waitFor("a mail", func() bool { return len(w.due()) > 0 })
	must[wire.Grant](t)(w.v.Grant(ctx, w.as("root"), wire.Grant{Role: dataset.Auditor, Person: "second", Scope: dataset.Root, Reason: "call +49 30 555 first"}))
	out := must[wire.Anonymized](t)(w.v.Anonymize(ctx, w.as("root"), "ann"))
	if len(w.due()) != 0 || out.Tokens != 2 {
		t.Errorf("%+v, %d mails wait", out, len(w.due()))
	}
	p := must[wire.Person](t)(w.v.Person(ctx, w.as("root"), out.Pseudonym))
	if fmt.Sprint(p.Name, p.Email, p.Phone, p.Company, p.JobTitle) != "" {
		t.Errorf("%+v", p)
	}
	for _, g := range must[wire.Page[wire.Grant]](t)(w.v.Grants(ctx, w.as("root"), dataset.Root, "", 0)).Items {
		if strings.Contains(g.Reason, "555") {
			t.Errorf("%+v", g)
		}
	}
	_, err = w.v.UpdatePerson(ctx, w.as("root"), out.Pseudonym, wire.PersonUpdate{Phone: &phone})
	wantCode(t, err, fault.Conflict)
}

// People of a vault from before are found by their address, too, and those whose
// hashes were made with another key.
func TestAddressesAreIndexed(t *testing.T) {
	w, s := newMailWorld(t)
	w.invite("ann")
	ctx := context.Background()
	if err := w.db.Update(ctx, func(tx *catalog.Tx) error {
		p, err := tx.PrincipalByHandle(ctx, "ann")
		if err == nil {
			err = tx.DropAddress(ctx, p.ID)
		}
		if err == nil {
			err = tx.SetMeta(ctx, "address-hashes", []byte("another"))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	w.restart()
	w.waitFor("the index is made", func() (made bool) {
		w.look(func(ctx context.Context, tx *catalog.Tx) error {
			key, err := tx.Meta(ctx, "address-hashes")
			made = string(key) != "another"
			return err
		})
		return made
	})
	w.ask("ann@example.org", "")
	if m := s.Await(t, 1)[0]; m.To != "ann@example.org" {
		t.Errorf("%+v", m)
	}
}
