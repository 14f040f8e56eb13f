package api_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dsvault/vault"
	"dsvault/vault/api"
	"dsvault/vault/courier"
	"dsvault/vault/courier/couriertest"
	"dsvault/vault/wire"
)

// newMailWorld is a world whose vault sends mail, by a real server.
func newMailWorld(t *testing.T, opts api.Options) (*world, *couriertest.SMTP) {
	t.Helper()
	s := couriertest.NewSMTP(t)
	mailer := must(courier.NewMailer(courier.MailConfig{URL: "smtp://" + s.Addr, From: "vault@agency.example"}))(t)
	data := t.TempDir()
	v, token := openVaultOn(t, data, folderObjects(t, data), func(c *vault.Config) {
		c.Mailer, c.PublicURL, c.Hooks = mailer, "https://vault.example", courier.NewHooks(true)
	})
	return serveWorld(t, data, v, token, opts), s
}

func (w *world) testContact(t *testing.T) {
	phone := "+49 30 1234567"
	p := call[wire.Person](w, "lena", "PATCH", "/v1/people/me", wire.PersonUpdate{Phone: &phone})
	if p.Phone != phone || p.Name != "Name of lena" {
		t.Errorf("%+v", p)
	}
	if got := call[wire.Person](w, "root", "GET", "/v1/people/lena", nil); got != p {
		t.Errorf("%+v", got)
	}
	if a := w.send("lena", "GET", "/v1/people/carol", nil); a.status != http.StatusNotFound {
		t.Errorf("%d", a.status)
	}
	call[wire.ResetAsked](w, "", "POST", "/v1/resets", wire.NewReset{Email: "lena@example.org"})
}

func (w *world) testNotices(t *testing.T) {
	n := call[wire.Notices](w, "carol", "PATCH", "/v1/notices/acme", wire.NoticesUpdate{Mail: &[]string{"privacy@acme.example"}})
	if got := call[wire.Notices](w, "root", "GET", "/v1/notices/acme", nil); len(got.Mail) != 1 || got.By != "carol" || !slices.Equal(got.Events, n.Events) {
		t.Errorf("%+v", got)
	}
	tested := call[wire.NoticesTested](w, "carol", "POST", "/v1/notices/acme/test", nil)
	page := call[wire.Page[wire.Message]](w, "carol", "GET", "/v1/notices/acme/messages?limit=1", nil)
	if len(tested.Messages) != 1 || len(page.Items) != 1 || page.Items[0].ID != tested.Messages[0] {
		t.Errorf("%+v %+v", tested, page)
	}
}

// TestResetTellsNothing: the whole answer is the same for an address that
// somebody has and for one that nobody has, also when it is refused.
func TestResetTellsNothing(t *testing.T) {
	var now atomic.Int64
	now.Store(time.Now().UnixNano())
	opts := api.Options{TrustProxy: true, Now: func() time.Time { return time.Unix(0, now.Load()) }}
	w, s := newMailWorld(t, opts)
	w.populate(10)
	ask := func(email, from string) answer {
		return w.send("", "POST", "/v1/resets", wire.NewReset{Email: email}, "X-Forwarded-For", "6.6.6.6, "+from)
	}
	for n := range 5 {
		known := ask("Lena@example.org", fmt.Sprintf("192.0.2.%d", n))
		unknown := ask("nina@example.org", fmt.Sprintf("198.51.100.%d", n))
		if got, want := known.neutral(t), unknown.neutral(t); got != want {
			t.Errorf("an address that is known can be told from others:\n%s\n%s", got, want)
		}
		if want := map[bool]int{true: 200, false: 429}[n < 3]; known.status != want {
			t.Errorf("request %d for one address: %d, want %d", n, known.status, want)
		}
		if known.status == 429 && known.header.Get("Retry-After") != "600" {
			t.Errorf("wait %s", known.header.Get("Retry-After"))
		}
	}
	from := map[string]bool{}
	for _, m := range s.Await(t, 3) {
		_, rest, _ := strings.Cut(m.Text, "from IP address: ")
		address, _, _ := strings.Cut(rest, "\n")
		from[address] = m.To == "lena@example.org"
	}
	if want := map[string]bool{"192.0.2.0": true, "192.0.2.1": true, "192.0.2.2": true}; !maps.Equal(from, want) {
		t.Errorf("the mails name the addresses %v, and not those that the trusted proxy has seen", from)
	}
	now.Add(int64(10 * time.Minute))
	if a := ask("lena@example.org", "192.0.2.1"); a.status != 200 {
		t.Errorf("after the wait: %d", a.status)
	}
	// One network asks for few, whatever the addresses.
	for n := range 12 {
		a := ask(fmt.Sprintf("somebody-%d@example.org", n), "203.0.113.7")
		if want := map[bool]int{true: 200, false: 429}[n < 10]; a.status != want {
			t.Errorf("request %d from one address: %d, want %d", n, a.status, want)
		}
	}
	for _, bad := range []string{"", "x", "Lena <lena@example.org>"} {
		if a := ask(bad, "203.0.113.8"); a.status != 400 {
			t.Errorf("%q: %d", bad, a.status)
		}
	}
	// Without mail there is nothing to ask for, and nothing is said of addresses.
	w = newWorld(t, api.Options{})
	w.populate(10)
	known := w.send("", "POST", "/v1/resets", wire.NewReset{Email: "lena@example.org"})
	unknown := w.send("", "POST", "/v1/resets", wire.NewReset{Email: "nina@example.org"})
	if known.status != 409 || known.neutral(t) != unknown.neutral(t) {
		t.Errorf("%d %s", known.status, known.body)
	}
}
