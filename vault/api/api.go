// Package api serves the vault over HTTP, under /v1. It turns the credential
// into a caller, parses typed IDs, calls one method of the vault and writes
// JSON; it holds no policy. Every failure goes through one place, which answers
// with a problem document (package wire) and logs the cause.
package api

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/labstack/echo/v4"
	"golang.org/x/time/rate"

	"dsvault/vault"
	"dsvault/vault/trace"
	"dsvault/vault/wire"
)

// Options say how to serve. Logger, Now and Random are required; the zero
// value of everything else is good.
type Options struct {
	Logger *slog.Logger
	Tracer trace.Tracer // nil: nobody listens
	Now    func() time.Time
	Random io.Reader // cryptographically secure; request IDs are drawn from it

	// TrustProxy says that the trusted proxies end TLS: a request that comes from
	// one counts as TLS unless its X-Forwarded-Proto says otherwise.
	TrustProxy bool

	// TrustedProxies are the addresses of reverse proxies of ours; with TrustProxy
	// none means this machine's. Of what comes from them, the caller's address is
	// the last one in X-Forwarded-For that is not a proxy's. Of anybody else both
	// headers are ignored.
	TrustedProxies []netip.Prefix

	// Idle is how long a peer may take for the next few KiB of a body, in
	// either direction, before the stream ends; 0 means a minute. A stream may
	// last as long as bytes flow.
	Idle time.Duration

	// BodyTime is how long a JSON body may take in all, however it trickles; 0
	// means 30 seconds.
	BodyTime time.Duration

	// MaxFile is the most bytes of a plain file; 0 leaves it to the vault, whose
	// limit is that of one shard.
	MaxFile int64

	// Streams is how many shards and files may be on their way at once, and
	// StreamsEach how many of one principal; 0 means 256 and 16.
	Streams, StreamsEach int

	// Requests is how many requests a second one principal may make, and
	// RequestBurst how many at once before that counts; 0 means 1000 and four
	// times as many as in a second. Beyond it the answer is 429.
	Requests     rate.Limit
	RequestBurst int

	// Calls is how many requests of all kinds may be under way at once, and
	// CallsEach how many of one principal; 0 means 2048 and 128.
	Calls, CallsEach int

	// AuthFailures is how many tokens that do not hold an address may present
	// in a row, and AuthRefill how many a second it regains; 0 means 50 and 5.
	AuthFailures int
	AuthRefill   rate.Limit

	// Stopping is closed when the node is going to stop: from then on it is not
	// ready, and goes on answering. nil: nobody says.
	Stopping <-chan struct{}

	// Meter counts what is answered; nil: nobody does.
	Meter Meter
}

func (o Options) withDefaults() Options {
	o.Idle = cmp.Or(o.Idle, time.Minute)
	o.BodyTime = cmp.Or(o.BodyTime, 30*time.Second)
	o.MaxFile = cmp.Or(o.MaxFile, wire.MaxShard)
	o.Streams, o.StreamsEach = cmp.Or(o.Streams, 256), cmp.Or(o.StreamsEach, 16)
	o.Requests = cmp.Or(o.Requests, 1000)
	o.RequestBurst = cmp.Or(o.RequestBurst, max(int(4*o.Requests), 1))
	o.Calls, o.CallsEach = cmp.Or(o.Calls, 2048), cmp.Or(o.CallsEach, 128)
	o.AuthFailures, o.AuthRefill = cmp.Or(o.AuthFailures, 50), cmp.Or(o.AuthRefill, 5)
	if o.Meter == nil {
		o.Meter = noMeter{}
	}
	return o
}

// server is the state behind the handler. It has no goroutines.
type server struct {
	vault    *vault.Vault
	opts     Options
	slots    slots // of streams
	calls    slots // of all requests that have a caller
	rates    rates
	failures failures
	ready    readiness

	resetsFrom takes[netip.Prefix]
	resetsTo   takes[string] // an address, in lower case
}

// New returns the handler of v's HTTP API. It is to be served by Server's
// settings: its idle limits need a server without overall timeouts.
func New(v *vault.Vault, opts Options) http.Handler {
	opts = opts.withDefaults()
	opts.Logger = slog.New(LogRequests(opts.Logger.Handler()))
	s := &server{
		vault: v, opts: opts,
		slots:    slots{what: "transfers", all: opts.Streams, each: opts.StreamsEach, retry: 2 * time.Second, used: opts.Meter.Streams},
		calls:    slots{what: "requests", all: opts.Calls, each: opts.CallsEach, retry: time.Second},
		rates:    rates{limit: opts.Requests, burst: opts.RequestBurst},
		failures: failures{buckets[netip.Prefix]{burst: opts.AuthFailures, refill: opts.AuthRefill}},

		resetsFrom: takes[netip.Prefix]{buckets[netip.Prefix]{burst: resetsFrom, refill: rate.Every(resetsFromEvery)}, "too many reset mails were asked for from your address"},
		resetsTo:   takes[string]{buckets[string]{burst: resetsTo, refill: rate.Every(resetsToEvery)}, "too many reset mails were asked for to this address"},
	}
	e := echo.New()
	e.Logger.SetOutput(io.Discard) // everything is logged by frame
	e.Use(s.frame)
	for _, r := range s.routes() {
		e.Add(r.method, r.path, r.serve(s))
	}
	return e
}

// What a request's head may cost.
const (
	headerTimeout   = 10 * time.Second
	keepAlive       = 2 * time.Minute
	maxHeader       = 32 << 10
	maxH2Streams    = 64
	maxH2BodyBuffer = 1 << 20
)

// Server returns an http.Server with the settings that New relies on. Requests
// inherit from ctx: to end it cuts them off, so call Shutdown first. net/http's
// own complaints, which name peers, go to logger at debug level.
func Server(ctx context.Context, handler http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:                      handler,
		ReadHeaderTimeout:            headerTimeout,
		IdleTimeout:                  keepAlive,
		MaxHeaderBytes:               maxHeader,
		BaseContext:                  func(net.Listener) context.Context { return ctx },
		ErrorLog:                     slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		DisableGeneralOptionsHandler: true,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          maxH2Streams,
			MaxReceiveBufferPerStream:     maxH2BodyBuffer,
			MaxReceiveBufferPerConnection: 4 * maxH2BodyBuffer,
			SendPingTimeout:               30 * time.Second,
			WriteByteTimeout:              time.Minute,
		},
	}
}
