package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/ledger"
	"dsvault/vault/trace"
	"dsvault/vault/wire"
)

// call is one request on its way through.
type call struct {
	echo.Context
	actor  ledger.Actor
	caller identity.Caller // once authenticated
	secure bool            // came over TLS
	query  url.Values
	body   *source
	out    *sink

	bodyTime time.Duration // for a JSON body

	err error // why it failed

	span trace.Span // nil: nobody listens
}

func (c *call) ctx() context.Context { return c.Request().Context() }

const maxAgent = 200 // characters of a User-Agent that are kept

func (s *server) newCall(ec echo.Context) *call {
	r := ec.Request()
	control := http.NewResponseController(ec.Response().Writer)
	c := &call{
		Context: ec, secure: s.secure(r), bodyTime: s.opts.BodyTime,
		body: newSource(r, control, s.opts.Idle),
		out:  &sink{ResponseWriter: ec.Response().Writer, control: control, idle: s.opts.Idle},
	}
	c.out.extend()
	ec.Response().Writer = c.out
	c.actor = ledger.Actor{
		Request: dataset.NewID[dataset.RequestID](s.opts.Random),
		Agent:   printable(r.UserAgent(), maxAgent),
	}
	ctx := withRequest(r.Context(), c.actor.Request)
	if s.opts.Tracer != nil {
		ctx, c.span = trace.Start(trace.With(ctx, s.opts.Tracer), method(r)+" "+ec.Path())
	}
	ec.SetRequest(r.WithContext(ctx))
	if addr := s.address(r); addr.IsValid() {
		c.actor.Address = addr.String()
	}
	h := ec.Response().Header()
	h.Set(wire.HeaderRequestID, c.actor.Request.String())
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	if s.stopping() { // so that whoever keeps the connection makes the next one elsewhere
		h.Set("Connection", "close")
	}
	if c.secure {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	return c
}

// stopping reports whether the node is going to stop.
func (s *server) stopping() bool {
	select {
	case <-s.opts.Stopping:
		return true
	default:
		return false
	}
}

// frame is around every request: it gives it an ID and limits, turns errors and
// panics into answers, and logs it.
func (s *server) frame(next echo.HandlerFunc) echo.HandlerFunc {
	return func(ec echo.Context) error {
		start := s.opts.Now()
		c := s.newCall(ec)
		aborted := true // unless the answer is whole
		defer func() {
			crash := recover()
			if crash != nil && crash != http.ErrAbortHandler {
				s.opts.Logger.ErrorContext(c.ctx(), "panic", "panic", fmt.Sprint(crash), "stack", string(debug.Stack()))
				err := fault.New(fault.Internal, "api.frame", "panic")
				if c.err = err; !c.Response().Committed {
					aborted = !c.problem(err)
				}
			}
			c.out.close()
			s.logCall(c, s.opts.Now().Sub(start), aborted)
			if aborted {
				panic(http.ErrAbortHandler) // the connection ends, so that nobody takes the answer for a whole one
			}
		}()
		err := c.checkPath()
		if err == nil {
			err = routing(next(c))
		}
		aborted = err != nil && !c.problem(err)
		return nil
	}
}

// routing puts the router's own errors into our words. They stay recognisable.
func routing(err error) error {
	switch {
	case errors.Is(err, echo.ErrNotFound):
		return fault.Wrap(fault.NotFound, "api.route", "there is nothing at this address", err).WithHint("the API is under /v1")
	case errors.Is(err, echo.ErrMethodNotAllowed):
		return fault.Wrap(fault.Invalid, "api.route", "this address does not take this method", err)
	}
	return err
}

// checkPath refuses what no path of ours can be.
func (c *call) checkPath() error {
	u := c.Request().URL
	path := u.EscapedPath()
	if strings.HasSuffix(c.Path(), membersPath+"*") {
		var member string
		path, member = splitMember(path)
		if len(member) > 3*dataset.MaxMemberName {
			return fault.New(fault.Invalid, "api.checkPath", "the address is too long")
		}
	}
	switch {
	case len(path) > maxPath || len(u.RawQuery) > maxQuery:
		return fault.New(fault.Invalid, "api.checkPath", "the address is too long")
	case strings.Contains(path, "%"):
		return fault.New(fault.Invalid, "api.checkPath", "the path is percent-encoded").
			WithHint("no name needs that; names are of a-z, 0-9, '-', '_' and '.'")
	case c.Request().Method == http.MethodOptions && c.Path() != "": // no CORS
		return routing(echo.ErrMethodNotAllowed)
	}
	return nil
}

// problem is the one place where errors become answers. It reports false if an
// answer has begun already: then only aborting the connection tells the client.
func (c *call) problem(err error) bool {
	c.err = err
	h := c.Response().Header()
	if c.Response().Committed {
		return false
	}
	for _, name := range []string{"Content-Disposition", "Content-Range", "ETag", "Accept-Ranges", wire.HeaderManifest, wire.HeaderLeaf, wire.HeaderReceipt} {
		h.Del(name) // of a stream that did not begin
	}
	p := wire.ProblemOf(err, c.actor.Request.String())
	if allow, ok := c.Get(echo.ContextKeyHeaderAllow).(string); ok && errors.Is(err, echo.ErrMethodNotAllowed) {
		h.Set("Allow", strings.TrimPrefix(allow, http.MethodOptions+", "))
		p.Status, p.Title = http.StatusMethodNotAllowed, http.StatusText(http.StatusMethodNotAllowed)
	}
	if p.Retry > 0 {
		h.Set("Retry-After", strconv.Itoa(p.Retry))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="dsvault"`)
	}
	return c.answer(p.Status, wire.ProblemType, p) == nil
}

// answer writes a whole JSON answer, of known length.
func (c *call) answer(status int, kind string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fault.Wrap(fault.Internal, "api.answer", "cannot encode the answer", err)
	}
	data = append(data, '\n')
	h := c.Response().Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Length", strconv.Itoa(len(data)))
	c.Response().WriteHeader(status)
	if c.Request().Method == http.MethodHead {
		return nil
	}
	_, err = c.Response().Write(data)
	return err
}

// logCall writes one line, without names, addresses or anything of the
// caller's. The cause is in it where an operator has to act.
func (s *server) logCall(c *call, took time.Duration, aborted bool) {
	code := fault.CodeOf(c.err)
	status := c.Response().Status
	s.opts.Meter.Answered(c.Path(), status, string(code), took, c.body.total, c.Response().Size)
	level := slog.LevelInfo
	route, method := c.Path(), method(c.Request())
	c.traced(method, route, status)
	attrs := []slog.Attr{
		slog.String("method", method), slog.String("route", route), slog.Int("status", status),
		slog.Duration("took", took), slog.Int64("bytes", c.Response().Size),
	}
	if c.err != nil {
		attrs = append(attrs, slog.String("code", string(code)))
	}
	if aborted {
		attrs = append(attrs, slog.Bool("aborted", true))
	}
	switch {
	case code == fault.Internal || code == fault.Corrupt:
		level = slog.LevelError
	case code == fault.Unavailable:
		level = slog.LevelWarn
	case c.err == nil && (route == "/healthz" || route == "/readyz"):
		level = slog.LevelDebug
	}
	if level >= slog.LevelWarn {
		attrs = append(attrs, slog.String("cause", c.err.Error()))
	}
	s.opts.Logger.LogAttrs(context.WithoutCancel(c.ctx()), level, "request", attrs...)
}

// traced ends the request's span. It says no more than the log does.
func (c *call) traced(method, route string, status int) {
	if c.span == nil {
		return
	}
	c.span.Set("http.request.method", method)
	c.span.Set("http.route", route)
	c.span.Set("http.response.status_code", status)
	c.span.Set("dsvault.request", c.actor.Request.String())
	c.span.Set("dsvault.bytes_received", c.body.total)
	c.span.Set("dsvault.bytes_sent", c.Response().Size)
	c.span.End(c.err)
}

// method is a request's, if it is one that there is.
func method(r *http.Request) string {
	if slices.Contains(methods, r.Method) {
		return r.Method
	}
	return "other"
}

var methods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
}

// address is where the request comes from; invalid if that cannot be told. A hop
// that a proxy of ours names is believed, and no other.
func (s *server) address(r *http.Request) netip.Addr {
	at := hostOf(r.RemoteAddr)
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && s.opts.trusts(at); i-- {
		hop := strings.TrimSpace(hops[i])
		if hop == "" && i == 0 {
			break
		}
		a, err := netip.ParseAddr(hop)
		if err != nil {
			return netip.Addr{}
		}
		at = a.Unmap().WithZone("")
	}
	return at
}

// trusts reports whether an address is that of a proxy of ours.
func (o *Options) trusts(a netip.Addr) bool {
	if len(o.TrustedProxies) == 0 {
		return o.TrustProxy && a.IsLoopback()
	}
	return slices.ContainsFunc(o.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(a) })
}

func hostOf(hostPort string) netip.Addr {
	a, err := netip.ParseAddrPort(hostPort)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap().WithZone("")
}

// secure reports whether the request came over TLS, to us or to our proxy.
func (s *server) secure(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	if !s.opts.TrustProxy || !s.opts.trusts(hostOf(r.RemoteAddr)) {
		return false
	}
	proto := r.Header.Values("X-Forwarded-Proto")
	return len(proto) == 0 || strings.EqualFold(proto[len(proto)-1], "https")
}

// local reports whether both ends of the connection are on this machine.
func local(r *http.Request) bool {
	here, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && hostOf(here.String()).IsLoopback() && hostOf(r.RemoteAddr).IsLoopback()
}
