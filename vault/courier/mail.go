// Package courier takes messages out of the house: mails by SMTP and webhooks
// by HTTP. It tries once; whoever calls it tries again. What it gives as an
// error names no receiver and may be shown: fault.Unavailable is worth another
// try, anything else is not.
package courier

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/mail"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"

	"dsvault/vault/fault"
)

// sendTimeout is how long one mail or one webhook call may take.
const sendTimeout = 10 * time.Second

// Password is that of the mail server. It cannot be printed.
type Password struct{ text *string }

// NewPassword wraps text; an empty one means "none".
func NewPassword(text string) Password { return Password{&text} }

func (p Password) expose() string {
	if p.text == nil {
		return ""
	}
	return *p.text
}

// Format prints a placeholder whatever the verb.
func (Password) Format(s fmt.State, _ rune) { io.WriteString(s, "[redacted]") }

// MarshalText gives a placeholder.
func (Password) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// MailConfig says how mail leaves.
type MailConfig struct {
	// URL of the server: smtp://[USER@]HOST[:587] with STARTTLS, or
	// smtps://[USER@]HOST[:465] with TLS from the start.
	URL      string
	Password Password // of USER
	From     string   // address of the sender, or NAME <ADDRESS>

	// Plain lets a mail pass without TLS if the server offers none. A server on
	// a loopback address needs none.
	Plain bool

	Roots *x509.CertPool // that the server's certificate may rest on; nil: the system's
}

// Mail is one plain-text mail.
type Mail struct {
	ID      string // unique and the same for every try: the first part of its Message-ID
	To      string // an address
	Subject string
	Text    string
	Date    time.Time
}

// Mailer sends mails. It is safe for concurrent use.
type Mailer struct {
	host     string
	options  []gomail.Option
	from     mail.Address
	idDomain string

	dial gomail.DialContextFunc // nil: as usual
}

// NewMailer checks the settings; it does not connect. Bad ones are Invalid.
func NewMailer(cfg MailConfig) (*Mailer, error) {
	const op = "courier.NewMailer"
	from, err := mail.ParseAddress(cfg.From)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, op, "not an address to send mail from", err).
			WithHint("give --mail-from, for example vault@example.org or 'Vault <vault@example.org>'")
	}
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "smtp" && u.Scheme != "smtps" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fault.New(fault.Invalid, op, "not the address of a mail server").
			WithHint("give --smtp smtp://HOST:587 (STARTTLS) or smtps://HOST:465, with USER@ before HOST if it asks for a login")
	}
	if _, has := u.User.Password(); has {
		return nil, fault.New(fault.Invalid, op, "a password in the address of the mail server").
			WithHint("put it into a file for --smtp-password-file, or into DSVAULT_SMTP_PASSWORD")
	}
	m := &Mailer{host: u.Hostname(), from: *from, options: []gomail.Option{gomail.WithTimeout(sendTimeout)}}
	_, m.idDomain, _ = strings.Cut(from.Address, "@")
	m.options = append(m.options, gomail.WithTLSConfig(&tls.Config{ServerName: m.host, MinVersion: tls.VersionTLS12, RootCAs: cfg.Roots}))
	port := 587
	switch {
	case u.Scheme == "smtps":
		port = 465
		m.options = append(m.options, gomail.WithSSL())
	case isLoopback(m.host):
		m.options = append(m.options, gomail.WithTLSPolicy(gomail.NoTLS))
	case cfg.Plain:
		m.options = append(m.options, gomail.WithTLSPolicy(gomail.TLSOpportunistic))
	default:
		m.options = append(m.options, gomail.WithTLSPolicy(gomail.TLSMandatory))
	}
	if p := u.Port(); p != "" {
		if port, err = strconv.Atoi(p); err != nil || port < 1 || port > 65535 {
			return nil, fault.New(fault.Invalid, op, "bad port of the mail server").WithHint("587 is usual with smtp://, 465 with smtps://")
		}
	}
	m.options = append(m.options, gomail.WithPort(port))
	if user := u.User.Username(); user != "" {
		m.options = append(m.options, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover),
			gomail.WithUsername(user), gomail.WithPassword(cfg.Password.expose()))
	}
	_, err = m.client()
	return m, err
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.IsLoopback()
}

// client is made for each mail: it holds one connection.
func (m *Mailer) client() (*gomail.Client, error) {
	options := m.options
	if m.dial != nil {
		options = append(slices.Clone(options), gomail.WithDialContextFunc(m.dial))
	}
	c, err := gomail.NewClient(m.host, options...)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, "courier.client", "the settings of the mail server do not do", err)
	}
	return c, nil
}

// Send hands one mail to the mail server.
func (m *Mailer) Send(ctx context.Context, out Mail) error {
	const op = "courier.Send"
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	msg.FromMailAddress(&m.from)
	if err := msg.To(out.To); err != nil {
		return fault.Wrap(fault.Invalid, op, "the address does not do for mail", err)
	}
	msg.Subject(out.Subject)
	msg.SetDateWithValue(out.Date)
	msg.SetMessageIDWithValue(out.ID + "@" + m.idDomain)
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetBodyString(gomail.TypeTextPlain, out.Text)
	c, err := m.client()
	if err != nil {
		return err
	}
	err = c.DialAndSendWithContext(ctx, msg)
	var refused *gomail.SendError
	switch {
	case err == nil, msg.IsDelivered(): // what went wrong after that is nobody's loss
		return nil
	case errors.As(err, &refused) && refused.ErrorCode() >= 500:
		return fault.Wrap(fault.Conflict, op, fmt.Sprintf("the mail server refuses it (%d)", refused.ErrorCode()), err)
	case errors.As(err, &refused) && refused.ErrorCode() >= 400:
		return fault.Wrap(fault.Unavailable, op, fmt.Sprintf("the mail server does not take it now (%d)", refused.ErrorCode()), err)
	}
	return fault.Wrap(fault.Unavailable, op, "the mail server cannot be reached, or not safely", err)
}
