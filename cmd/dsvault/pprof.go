package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"time"

	"dsvault/vault/fault"
)

const pprofPath = "/debug/pprof/"

// checkPprof refuses an address that another machine could reach: a profile shows
// what is in memory, and whoever can ask for one can slow the server down.
func (c serveConfig) checkPprof() error {
	if c.Pprof == "" {
		return nil
	}
	at, err := netip.ParseAddrPort(c.Pprof)
	if err != nil {
		return fault.Wrap(fault.Invalid, "dsvault.serve", "bad --pprof address", err).WithHint("give IP:PORT, for example 127.0.0.1:6060")
	}
	if !at.Addr().Unmap().IsLoopback() {
		return usage("--pprof "+c.Pprof+" is no loopback address", "give one, for example 127.0.0.1:6060, and reach it by ssh -L")
	}
	return nil
}

// servePprof shows profiles of this process until stop is called. Without an
// address it does nothing.
func servePprof(ctx context.Context, cfg serveConfig) (stop func(), err error) {
	if cfg.Pprof == "" {
		return func() {}, nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Pprof)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, "dsvault.serve", "cannot listen on "+cfg.Pprof, err).
			WithHint("is another server running there? choose another --pprof address")
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pprofPath, pprof.Index)
	mux.HandleFunc("GET "+pprofPath+"profile", pprof.Profile)
	mux.HandleFunc("GET "+pprofPath+"trace", pprof.Trace)
	server := &http.Server{
		Handler: fromThisMachine(mux), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 5 * time.Minute,
		IdleTimeout: time.Minute, MaxHeaderBytes: 8 << 10,
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			cfg.Logger.Error("profiles are not served any more", "err", err)
		}
	}()
	cfg.Logger.Info("pprof", "url", "http://"+listener.Addr().String()+pprofPath)
	return func() { server.Close(); <-done }, nil
}

// fromThisMachine keeps a browser from being led here by another site's name.
func fromThisMachine(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) {
			http.Error(w, "ask by a loopback address", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
