package main

import (
	"context"
	"time"

	"dsvault/vault/trace"
	"dsvault/vault/tracing"
)

// tracesLimit is how long a server that ends waits for its collector.
const tracesLimit = 5 * time.Second

// openTraces gives what sends traces, if a collector is named, and what sends the
// last of them.
func (c serveConfig) openTraces(ctx context.Context) (trace.Tracer, func(), error) {
	if c.Traces == "" && !c.TracesFromEnv {
		return nil, func() {}, nil
	}
	t, err := tracing.New(ctx, c.Traces, versionText(), func(err error) {
		if err == nil {
			c.Logger.Warn("traces are sent again")
			return
		}
		c.Logger.Warn("traces are not sent, until this says otherwise", "err", err)
	})
	if err != nil {
		return nil, nil, err
	}
	return t, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tracesLimit)
		defer cancel()
		if err := t.Close(ctx); err != nil {
			c.Logger.Warn("the last traces were not sent", "err", err)
		}
	}, nil
}
