// Package couriertest has a mail server and a receiver of webhooks for tests,
// both real ones on loopback.
package couriertest

import (
	"crypto/tls"
	"encoding/base64"
	"io"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// patience bounds what a test waits for.
const patience = 2 * time.Minute

// Received is one mail that the server has taken.
type Received struct {
	From, To string
	TLS      bool
	User     string // who logged in to send it
	Header   mail.Header
	Text     string // with line ends as \n
}

// SMTP is a running mail server.
type SMTP struct {
	Addr  string // HOST:PORT
	Close func()

	mu       sync.Mutex
	received []Received                   // guarded by mu
	refuse   func(to string, n int) error // guarded by mu
	tried    int                          // guarded by mu
	arrived  chan struct{}
}

// Option changes a server before it starts.
type Option func(*smtp.Server, *backend)

// WithTLS has the server offer STARTTLS.
func WithTLS(cert tls.Certificate) Option {
	return func(s *smtp.Server, _ *backend) {
		s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	}
}

// WithTLSFromStart has the server speak TLS at once.
func WithTLSFromStart(cert tls.Certificate) Option {
	return func(s *smtp.Server, b *backend) {
		WithTLS(cert)(s, b)
		b.tls = true
	}
}

// WithLogin has the server take mail only from who logs in like this.
func WithLogin(user, password string) Option {
	return func(_ *smtp.Server, b *backend) { b.user, b.password = user, password }
}

// NewSMTP starts a mail server, which ends with the test.
func NewSMTP(t testing.TB, options ...Option) *SMTP {
	t.Helper()
	s, err := StartSMTP(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// StartSMTP starts a mail server, which ends with Close.
func StartSMTP(options ...Option) (*SMTP, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &SMTP{Addr: l.Addr().String(), arrived: make(chan struct{}, 1)}
	b := &backend{smtp: s}
	server := smtp.NewServer(b)
	server.Domain, server.MaxMessageBytes, server.AllowInsecureAuth = "localhost", 1<<20, true
	server.ReadTimeout, server.WriteTimeout = patience, patience
	for _, o := range options {
		o(server, b)
	}
	if b.tls {
		l = tls.NewListener(l, server.TLSConfig)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		server.Serve(l)
	}()
	s.Close = func() {
		server.Close()
		<-ended
	}
	return s, nil
}

// Refuse has the server ask for each mail what to answer: nil takes it. n counts
// the tries from 0. smtp.SMTPError is answered as it is.
func (s *SMTP) Refuse(f func(to string, n int) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = f
}

// Tried is how often a mail was offered.
func (s *SMTP) Tried() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tried
}

// Received is what the server has taken, in order.
func (s *SMTP) Received() []Received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Received{}, s.received...)
}

// Await waits until so many mails were taken, and gives them.
func (s *SMTP) Await(t testing.TB, n int) []Received {
	t.Helper()
	list := s.Wait(n)
	if len(list) < n {
		t.Fatalf("gave up waiting for mail %d: %+v", n, list)
	}
	return list
}

// Wait is Await, and gives fewer if it takes too long.
func (s *SMTP) Wait(n int) []Received {
	late := time.After(patience)
	for {
		if list := s.Received(); len(list) >= n {
			return list
		}
		select {
		case <-s.arrived:
		case <-late:
			return s.Received()
		}
	}
}

type backend struct {
	smtp           *SMTP
	user, password string
	tls            bool // from the start
}

func (b *backend) NewSession(c *smtp.Conn) (smtp.Session, error) {
	_, secure := c.TLSConnectionState()
	return &session{b: b, secure: secure}, nil
}

type session struct {
	b        *backend
	secure   bool
	user     string
	from, to string
}

func (s *session) AuthMechanisms() []string {
	if s.b.user == "" {
		return nil
	}
	return []string{sasl.Plain}
}

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != s.b.user || password != s.b.password {
			return smtp.ErrAuthFailed
		}
		s.user = user
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if s.b.user != "" && s.user == "" {
		return smtp.ErrAuthRequired
	}
	s.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.b.smtp.mu.Lock()
	defer s.b.smtp.mu.Unlock()
	n := s.b.smtp.tried
	s.b.smtp.tried++
	if s.b.smtp.refuse != nil {
		if err := s.b.smtp.refuse(to, n); err != nil {
			return err
		}
	}
	s.to = to
	return nil
}

func (s *session) Data(r io.Reader) error {
	msg, err := mail.ReadMessage(r)
	if err != nil {
		return err
	}
	text, err := readText(msg)
	if err != nil {
		return err
	}
	s.b.smtp.mu.Lock()
	defer s.b.smtp.mu.Unlock()
	s.b.smtp.received = append(s.b.smtp.received, Received{From: s.from, To: s.to, TLS: s.secure, User: s.user, Header: msg.Header, Text: text})
	select {
	case s.b.smtp.arrived <- struct{}{}:
	default: // one signal is enough
	}
	return nil
}

func (s *session) Reset()        { s.from, s.to = "", "" }
func (s *session) Logout() error { return nil }

// readText undoes the transfer encoding.
func readText(msg *mail.Message) (string, error) {
	body := msg.Body
	switch strings.ToLower(msg.Header.Get("Content-Transfer-Encoding")) {
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	text, err := io.ReadAll(body)
	return strings.ReplaceAll(string(text), "\r\n", "\n"), err
}
