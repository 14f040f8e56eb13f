package courier

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"code.dny.dev/ssrf"
	"github.com/emersion/go-smtp"

	"dsvault/vault/courier/couriertest"
	"dsvault/vault/fault"
)

// certificate makes one for a name, and the pool that trusts it.
func certificate(t *testing.T, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// mailer is one for a server whose name leads to a loopback address.
func mailer(t *testing.T, server *couriertest.SMTP, cfg MailConfig) *Mailer {
	t.Helper()
	if cfg.From == "" {
		cfg.From = "The vault <vault@agency.example>"
	}
	m, err := NewMailer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	m.dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, server.Addr)
	}
	return m
}

var letter = Mail{ID: "msg_1", To: "ann@client.example", Subject: "Grüße", Text: "Hello, Ännchen.\n", Date: time.Unix(1_800_000_000, 0)}

func TestMail(t *testing.T) {
	cert, roots := certificate(t, "mail.example.org")
	plain := couriertest.NewSMTP(t)
	safe := couriertest.NewSMTP(t, couriertest.WithTLS(cert), couriertest.WithLogin("vault", "s3cret"))
	ctx := t.Context()

	// Without TLS nothing goes to another machine, unless that was said.
	m := mailer(t, plain, MailConfig{URL: "smtp://mail.example.org"})
	if err := m.Send(ctx, letter); !fault.Is(err, fault.Unavailable) || len(plain.Received()) != 0 {
		t.Errorf("in clear: %v, %+v", err, plain.Received())
	}
	m = mailer(t, plain, MailConfig{URL: "smtp://mail.example.org:25", Plain: true})
	if err := m.Send(ctx, letter); err != nil || len(plain.Received()) != 1 {
		t.Fatalf("in clear, as it was said: %v", err)
	}
	got := plain.Received()[0]
	if got.From != "vault@agency.example" || got.To != letter.To || got.Text != letter.Text || got.TLS ||
		got.Header.Get("Message-Id") != "<msg_1@agency.example>" || got.Header.Get("Auto-Submitted") != "auto-generated" {
		t.Errorf("%+v", got)
	}

	// With TLS, a certificate that is good for the name, and a login.
	login := MailConfig{URL: "smtp://vault@mail.example.org", Password: NewPassword("s3cret"), Roots: roots}
	if err := mailer(t, safe, login).Send(ctx, letter); err != nil {
		t.Fatal(err)
	}
	if got := safe.Received(); len(got) != 1 || !got[0].TLS || got[0].User != "vault" {
		t.Errorf("%+v", got)
	}
	for name, change := range map[string]func(*MailConfig){
		"a wrong password":             func(c *MailConfig) { c.Password = NewPassword("secret") },
		"a certificate of nobody":      func(c *MailConfig) { c.Roots = x509.NewCertPool() },
		"a certificate of another one": func(c *MailConfig) { c.URL = "smtp://vault@mx.example.org" },
		"no login":                     func(c *MailConfig) { c.URL = "smtp://mail.example.org" },
	} {
		cfg := login
		change(&cfg)
		if err := mailer(t, safe, cfg).Send(ctx, letter); err == nil || len(safe.Received()) != 1 || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
	}

	// TLS from the start.
	cert, roots = certificate(t, "localhost")
	smtps := couriertest.NewSMTP(t, couriertest.WithTLSFromStart(cert))
	_, port, _ := net.SplitHostPort(smtps.Addr)
	m, err := NewMailer(MailConfig{URL: "smtps://localhost:" + port, From: "vault@agency.example", Roots: roots})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Send(ctx, letter); err != nil || len(smtps.Received()) != 1 || !smtps.Received()[0].TLS {
		t.Errorf("TLS from the start: %v", err)
	}
}

// What a mail server says tells whether another try is worth it.
func TestMailRefused(t *testing.T) {
	s := couriertest.NewSMTP(t)
	m, err := NewMailer(MailConfig{URL: "smtp://" + s.Addr, From: "vault@agency.example"})
	if err != nil {
		t.Fatal(err)
	}
	for code, want := range map[int]fault.Code{451: fault.Unavailable, 550: fault.Conflict} {
		s.Refuse(func(string, int) error { return &smtp.SMTPError{Code: code, Message: "no, ann@client.example"} })
		err := m.Send(t.Context(), letter)
		var f *fault.Error
		if !errors.As(err, &f) || f.Code != want || strings.Contains(f.Message, "ann") {
			t.Errorf("%d: %v", code, err)
		}
	}
	s.Refuse(nil)
	bad := letter
	bad.Subject, bad.To = "x\r\nBcc: eve@example.org", "ann@client.example"
	if err := m.Send(t.Context(), bad); err == nil && s.Received()[0].Header.Get("Bcc") != "" {
		t.Error("a subject became a header")
	}
	s.Close()
	if err := m.Send(t.Context(), letter); !fault.Is(err, fault.Unavailable) {
		t.Errorf("nobody there: %v", err)
	}
}

func TestMailSettings(t *testing.T) {
	for _, c := range []MailConfig{
		{URL: "smtp://mail.example.org"}, {URL: "smtp://mail.example.org", From: "nobody"},
		{URL: "", From: "a@b.example"}, {URL: "mail.example.org", From: "a@b.example"}, {URL: "http://mail.example.org", From: "a@b.example"},
		{URL: "smtp://user:password@mail.example.org", From: "a@b.example"}, {URL: "smtp://mail.example.org:0", From: "a@b.example"},
		{URL: "smtp://mail.example.org/x", From: "a@b.example"}, {URL: "smtp://mail.example.org?x", From: "a@b.example"},
	} {
		if _, err := NewMailer(c); !fault.Is(err, fault.Invalid) || fault.HintOf(err) == "" {
			t.Errorf("%+v: %v", c, err)
		}
	}
	p, s := NewPassword("s3cret"), must(NewSecret(rand.Reader))
	text, err := json.Marshal(struct {
		P Password
		S Secret
	}{p, s})
	shown := fmt.Sprintf("%v %+v %#v %s %x", p, p, p, s, s) + string(text)
	if err != nil || strings.Contains(shown, "s3cret") || strings.Contains(shown, s.Expose()[7:]) {
		t.Errorf("%v: %s", err, shown)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestHook(t *testing.T) {
	r := couriertest.NewReceiver(t)
	secret := must(NewSecret(rand.Reader))
	if again := must(ParseSecret(secret.Expose())); *again.key != *secret.key {
		t.Error("a secret does not survive its text")
	}
	h := NewHooks(true)
	out := Hook{ID: "msg_1", URL: r.URL + "/hook", Body: []byte(`{"type":"test"}`), Secret: secret, At: time.Unix(1_800_000_000, 0)}
	ctx := t.Context()
	if err := h.Send(ctx, out); err != nil {
		t.Fatal(err)
	}
	call := r.Await(t, 1)[0]
	call.Verify(t, secret.Expose())
	if call.ID != "msg_1" || !bytes.Equal(call.Body, out.Body) || call.Header.Get("Webhook-Timestamp") != "1800000000" || call.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%+v", call)
	}
	elsewhere := couriertest.NewReceiver(t)
	for status, want := range map[int]fault.Code{500: fault.Unavailable, 404: fault.Unavailable, 302: fault.Unavailable, 410: fault.Conflict} {
		r.Answer(func(w http.ResponseWriter, req *http.Request, _ int) {
			w.Header().Set("Location", elsewhere.URL)
			w.WriteHeader(status)
			w.Write(make([]byte, 1<<20))
		})
		if err := h.Send(ctx, out); fault.CodeOf(err) != want {
			t.Errorf("%d: %v", status, err)
		}
	}
	if len(elsewhere.Calls()) != 0 {
		t.Error("a redirect was followed")
	}
	r.Close()
	if err := h.Send(ctx, out); !fault.Is(err, fault.Unavailable) {
		t.Errorf("nobody there: %v", err)
	}
}

// Webhooks go to public addresses, whatever a URL says and a name leads to.
func TestHookStaysOutside(t *testing.T) {
	h, all := NewHooks(false), NewHooks(true)
	for _, target := range []string{
		"https://localhost/x", "https://127.0.0.1/", "https://[::1]:8443/", "https://10.1.2.3/", "https://192.168.0.1/", "https://169.254.169.254/latest",
		"https://[fe80::1]/", "https://[fd00::1]/", "https://0.0.0.0/", "https://[::ffff:127.0.0.1]/", "https://100.64.0.1/", "https://224.0.0.1/", "https://[64:ff9b::7f00:1]/",
	} {
		if err := h.Check(target); !fault.Is(err, fault.Forbidden) {
			t.Errorf("%s: %v", target, err)
		}
		if err := all.Check(target); err != nil {
			t.Errorf("%s, where private addresses are allowed: %v", target, err)
		}
	}
	for _, target := range []string{
		"", "x", "ftp://example.org/", "https://", "https://user@example.org/", "https://example.org/#x", "//example.org/x", "https://example.org/" + strings.Repeat("x", 1000), "http:example.org",
	} {
		if err := all.Check(target); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", target, err)
		}
	}
	if err := h.Check("http://hooks.example.org/"); !fault.Is(err, fault.Invalid) {
		t.Errorf("plain http: %v", err)
	}
	if err := h.Check("https://hooks.example.org:8443/x?y=z"); err != nil {
		t.Error(err)
	}
	// At the time of the call it is the address that counts.
	r := couriertest.NewReceiver(t)
	if _, err := h.client.Get(r.URL); !errors.Is(err, ssrf.ErrProhibitedIP) || len(r.Calls()) != 0 {
		t.Errorf("a private address was dialed: %v", err)
	}
}
