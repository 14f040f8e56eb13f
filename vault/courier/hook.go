package courier

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"code.dny.dev/ssrf"

	"dsvault/vault/fault"
)

const (
	maxHookURL    = 1000     // bytes
	maxHookAnswer = 16 << 10 // bytes of an answer that are read
	secretSize    = 32       // bytes of a signing secret
	secretPrefix  = "whsec_"
)

// Secret signs webhook calls, by the scheme of Standard Webhooks. It cannot be
// printed; Expose gives it away.
type Secret struct{ key *[secretSize]byte }

// NewSecret draws a secret from random.
func NewSecret(random io.Reader) (Secret, error) {
	s := Secret{new([secretSize]byte)}
	if _, err := io.ReadFull(random, s.key[:]); err != nil {
		return Secret{}, fault.Wrap(fault.Internal, "courier.NewSecret", "no randomness", err)
	}
	return s, nil
}

// ParseSecret reads what Expose gives.
func ParseSecret(text string) (Secret, error) {
	rest, ok := strings.CutPrefix(text, secretPrefix)
	raw, err := base64.StdEncoding.DecodeString(rest)
	if !ok || err != nil || len(raw) != secretSize {
		return Secret{}, fault.New(fault.Corrupt, "courier.ParseSecret", "not a signing secret")
	}
	return Secret{(*[secretSize]byte)(raw)}, nil
}

// Expose gives the secret as its receiver needs it.
func (s Secret) Expose() string {
	if s.key == nil {
		return ""
	}
	return secretPrefix + base64.StdEncoding.EncodeToString(s.key[:])
}

// Format prints a placeholder whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, "[redacted]") }

// MarshalText gives a placeholder.
func (Secret) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// sign gives the signature of one call.
func (s Secret) sign(id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, s.key[:])
	fmt.Fprintf(mac, "%s.%s.", id, timestamp)
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// Hook is one webhook call: a POST of JSON.
type Hook struct {
	ID     string // the same for every try
	URL    string
	Body   []byte
	Secret Secret
	At     time.Time // of this try; receivers refuse an old one
}

// Hooks calls webhooks. It is safe for concurrent use.
type Hooks struct {
	client  *http.Client
	private bool
	guard   *ssrf.Guardian
}

// NewHooks gives a caller that goes to public addresses over TLS only, whatever
// a name resolves to at the time of the call. private allows loopback, private
// and other special addresses, and plain HTTP. Redirects are not followed, and
// no proxy is used.
func NewHooks(private bool) *Hooks {
	h := &Hooks{private: private, guard: ssrf.New(ssrf.WithAnyPort())}
	dialer := &net.Dialer{Timeout: sendTimeout}
	if !private {
		dialer.Control = h.guard.Safe
	}
	h.client = &http.Client{
		Timeout:       sendTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2:      true,
			DisableKeepAlives:      true, // calls are rare, and each dial is checked
			MaxResponseHeaderBytes: maxHookAnswer,
		},
	}
	return h
}

// Check says whether a URL can be called at all. Where a name leads to is
// checked at each call.
func (h *Hooks) Check(target string) error {
	const op = "courier.Check"
	u, err := url.Parse(target)
	switch {
	case len(target) > maxHookURL || err != nil || u.Hostname() == "" || u.Opaque != "" || u.Scheme != "https" && u.Scheme != "http":
		return fault.New(fault.Invalid, op, "not the URL of a webhook").WithHint("give it as https://HOST/PATH")
	case u.User != nil || u.Fragment != "":
		return fault.New(fault.Invalid, op, "the URL of a webhook has no user and no fragment").
			WithHint("each call is signed: see docs/notices.md")
	case h.private:
		return nil
	case u.Scheme != "https":
		return fault.New(fault.Invalid, op, "a webhook over plain http").WithHint("give an https URL")
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if strings.EqualFold(u.Hostname(), "localhost") || err == nil && h.guard.SafeAddr(ip.Unmap()) != nil {
		return notPublic(op, nil)
	}
	return nil
}

func notPublic(op string, err error) error {
	return fault.Wrap(fault.Forbidden, op, "the webhook is at an address that is not public", err).
		WithHint("give a public address; the operator can allow others with --webhook-private")
}

// Send makes one call. Any 2xx answer says that it was taken.
func (h *Hooks) Send(ctx context.Context, out Hook) error {
	const op = "courier.Send"
	if err := h.Check(out.URL); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, out.URL, bytes.NewReader(out.Body))
	if err != nil {
		return fault.Wrap(fault.Invalid, op, "not the URL of a webhook", err)
	}
	timestamp := strconv.FormatInt(out.At.Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "dsvault")
	req.Header.Set("Webhook-Id", out.ID)
	req.Header.Set("Webhook-Timestamp", timestamp)
	req.Header.Set("Webhook-Signature", out.Secret.sign(out.ID, timestamp, out.Body))
	resp, err := h.client.Do(req)
	switch {
	case errors.Is(err, ssrf.ErrProhibitedIP), errors.Is(err, ssrf.ErrProhibitedNetwork):
		return notPublic(op, err)
	case err != nil:
		return fault.Wrap(fault.Unavailable, op, "the webhook cannot be reached", err)
	}
	defer resp.Body.Close()
	io.CopyN(io.Discard, resp.Body, maxHookAnswer) // what it says is of no interest
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		return nil
	case resp.StatusCode == http.StatusGone:
		return fault.New(fault.Conflict, op, "the webhook says that it is gone (410)")
	}
	return fault.New(fault.Unavailable, op, fmt.Sprintf("the webhook answers %d", resp.StatusCode))
}
