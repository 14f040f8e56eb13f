package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/fault"
	"dsvault/vault/metrics"
)

// metricsPath is where Prometheus looks unless it is told otherwise.
const metricsPath = "/metrics"

// checkMetrics refuses an address that would show metrics on every interface by
// accident, or on the public listener.
func (c serveConfig) checkMetrics() error {
	if c.Metrics == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(c.Metrics)
	if err != nil {
		return fault.Wrap(fault.Invalid, "dsvault.serve", "bad --metrics address", err).WithHint("give HOST:PORT, for example 127.0.0.1:9200")
	}
	if host == "" {
		return usage("--metrics "+c.Metrics+" would be open on every interface", "name the address, for example 127.0.0.1:9200")
	}
	if c.Metrics == c.Listen {
		return usage("--metrics is the address of --listen", "give it a port of its own")
	}
	return nil
}

// serveMetrics answers Prometheus until stop is called, over plain HTTP and
// without a credential. Without an address it does nothing.
func serveMetrics(ctx context.Context, cfg serveConfig, m *metrics.Metrics) (stop func(), err error) {
	if cfg.Metrics == "" {
		return func() {}, nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Metrics)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, "dsvault.serve", "cannot listen on "+cfg.Metrics, err).
			WithHint("is another server running there? choose another --metrics address")
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+metricsPath, m.Handler())
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 8 << 10,
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			cfg.Logger.Error("the metrics are not served any more", "err", err)
		}
	}()
	cfg.Logger.Info("metrics", "url", "http://"+listener.Addr().String()+metricsPath)
	return func() { server.Close(); <-done }, nil
}

// count makes what a node stands on tell m what fails. A nil m is nobody.
func count(m *metrics.Metrics, objects storage.Objects) storage.Objects {
	if m == nil {
		return objects
	}
	return storage.Watch(objects, func(code string) { m.StorageFailed(metrics.Objects, code) })
}

func catalogOptions(m *metrics.Metrics) catalog.Options {
	if m == nil {
		return catalog.Options{}
	}
	return catalog.Options{Failed: func(cause string) { m.StorageFailed(metrics.Catalog, cause) }}
}
