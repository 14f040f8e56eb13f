package client

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/seal"
)

// How long to wait. A stream may last as long as bytes flow.
const (
	dialTimeout   = 10 * time.Second
	answerTimeout = 2 * time.Minute // from the whole request to the answer's header
	idleTimeout   = time.Minute     // of a stream: without a single byte
)

// Config says which server to talk to, and as whom.
type Config struct {
	// URL is the server's, for example "https://vault.example.org". Plain http
	// is for loopback addresses only, unless AllowPlainHTTP is set.
	URL            string
	AllowPlainHTTP bool

	Token Secret // may be unset; then most requests are Unauthenticated

	// Device and DeviceID are the registered key that shards are sealed to.
	// Only Pull needs them.
	Device   *seal.Identity
	DeviceID dataset.DeviceID

	// HTTP is copied and its CheckRedirect replaced; nil means a client with
	// the timeouts of this package. It should have no Timeout of its own,
	// which would also end long streams.
	HTTP *http.Client

	UserAgent string
}

// Client talks to one server as one principal. It is safe for concurrent use.
type Client struct {
	base     string // without a slash at the end
	token    Secret
	device   *seal.Identity
	deviceID dataset.DeviceID
	http     *http.Client
	store    http.RoundTripper // to the object store, without the token
	plain    bool              // http to other machines will do
	agent    string
	backoff  time.Duration // before the second try; tests shorten it
	idle     time.Duration
}

// New returns a client. A bad URL, or plain http to another machine, is
// Invalid. It does not connect.
func New(cfg Config) (*Client, error) {
	base, err := ParseURL(cfg.URL, cfg.AllowPlainHTTP)
	if err != nil {
		return nil, err
	}
	h := &http.Client{Transport: newTransport()}
	if cfg.HTTP != nil {
		clone := *cfg.HTTP
		h = &clone
	}
	h.CheckRedirect = sameHost
	store := h.Transport
	if store == nil {
		store = http.DefaultTransport
	}
	agent := cfg.UserAgent
	if agent == "" {
		agent = "dsvault-client"
	}
	return &Client{
		base: base, token: cfg.Token, device: cfg.Device, deviceID: cfg.DeviceID,
		http: h, store: store, plain: cfg.AllowPlainHTTP, agent: agent, backoff: 300 * time.Millisecond, idle: idleTimeout,
	}, nil
}

// URL is the server's address in normal form.
func (c *Client) URL() string { return c.base }

func newTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext
	t.ResponseHeaderTimeout = answerTimeout
	t.MaxIdleConnsPerHost = 8
	t.DisableCompression = true // what is sealed does not compress, and sizes are checked
	return t
}

// sameHost refuses to carry the bearer token to another place.
func sameHost(req *http.Request, via []*http.Request) error {
	from := via[0].URL
	if len(via) > 3 || req.URL.Host != from.Host || req.URL.Scheme != from.Scheme {
		return fault.New(fault.Invalid, "client.redirect", "the server redirects to another place").
			WithHint("check the URL; a token is not carried from one host to another")
	}
	return nil
}

// ParseURL checks a server's URL and gives its normal form: scheme, host in
// lower case, port unless it is the scheme's own, path without a slash at the
// end. Plain http to another machine is Invalid unless allowPlain.
func ParseURL(s string, allowPlain bool) (string, error) {
	const op = "client.ParseURL"
	u, err := url.Parse(strings.TrimSpace(s))
	if err != nil || len(s) > 2000 || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", fault.New(fault.Invalid, op, "that is not a server's URL").
			WithHint("give it as https://vault.example.org or http://127.0.0.1:8200")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", fault.New(fault.Invalid, op, "a server's URL has no user, query or fragment").
			WithHint("the token is asked for, or taken from DSVAULT_TOKEN")
	}
	if u.Scheme == "http" && !allowPlain && !isLoopback(u.Hostname()) {
		return "", fault.New(fault.Invalid, op, "plain http would send the token in clear over the network").
			WithHint("use https; on a network that you trust wholly, say --allow-plain-http")
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port != "" && !(u.Scheme == "http" && port == "80" || u.Scheme == "https" && port == "443") {
		host += ":" + port
	}
	return u.Scheme + "://" + host + strings.TrimRight(u.EscapedPath(), "/"), nil
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
