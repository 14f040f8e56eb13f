// Package tracing sends the spans of package trace to an OpenTelemetry collector,
// by OTLP over HTTP.
package tracing

import (
	"context"
	"net/url"
	"strings"
	"sync/atomic"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	api "go.opentelemetry.io/otel/trace"

	"dsvault/vault/fault"
	"dsvault/vault/trace"
)

// Tracer is a trace.Tracer.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   api.Tracer
}

var _ trace.Tracer = (*Tracer)(nil)

// CheckURL refuses what is no base URL of a collector.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fault.Wrap(fault.Invalid, "tracing.CheckURL", "not the URL of a collector", err).
			WithHint("give it as http://127.0.0.1:4318; headers come from OTEL_EXPORTER_OTLP_HEADERS")
	}
	return nil
}

// New sends spans to the collector with this base URL; "" is the one that the
// OTEL_EXPORTER_OTLP_… variables name. They hold otherwise, too. Nothing is asked of the collector yet.
// failed hears of the first spans that could not be sent, with the cause, and of
// the first that could be again, with nil.
func New(ctx context.Context, base, version string, failed func(error)) (*Tracer, error) {
	var options []otlptracehttp.Option
	if base != "" {
		options = append(options, otlptracehttp.WithEndpointURL(strings.TrimSuffix(base, "/")+"/v1/traces"))
	}
	exporter, err := otlptracehttp.New(ctx, options...)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, "tracing.New", "the settings of the traces do not do", err).
			WithHint("see the OTEL_EXPORTER_OTLP_… variables")
	}
	// No host, no process: what OTEL_RESOURCE_ATTRIBUTES says, and these two.
	own := resource.NewSchemaless(attribute.String("service.name", "dsvault"), attribute.String("service.version", version))
	if named, err := resource.Merge(own, resource.Environment()); err == nil {
		own = named
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(failed))
	provider := sdk.NewTracerProvider(sdk.WithBatcher(&watched{SpanExporter: exporter, changed: failed}), sdk.WithResource(own))
	return &Tracer{provider, provider.Tracer("dsvault")}, nil
}

// watched tells when sending begins to fail and when it ends, not each time.
type watched struct {
	sdk.SpanExporter
	changed func(error)
	failing atomic.Bool
}

func (w *watched) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := w.SpanExporter.ExportSpans(ctx, spans)
	if failing := err != nil; w.failing.Swap(failing) != failing {
		w.changed(err)
	}
	return nil // it was told; whoever sends batches would tell it each time
}

// Close sends what is left, until ctx ends.
func (t *Tracer) Close(ctx context.Context) error { return t.provider.Shutdown(ctx) }

// Start implements trace.Tracer.
func (t *Tracer) Start(ctx context.Context, name string) (context.Context, trace.Span) {
	kind := api.SpanKindInternal
	if !api.SpanContextFromContext(ctx).IsValid() {
		kind = api.SpanKindServer
	}
	ctx, s := t.tracer.Start(ctx, name, api.WithSpanKind(kind))
	return ctx, span{s}
}

type span struct{ otel api.Span }

func (s span) Set(key string, value any) {
	switch value := value.(type) {
	case string:
		s.otel.SetAttributes(attribute.String(key, value))
	case int:
		s.otel.SetAttributes(attribute.Int(key, value))
	case int64:
		s.otel.SetAttributes(attribute.Int64(key, value))
	case bool:
		s.otel.SetAttributes(attribute.Bool(key, value))
	}
}

// End keeps an error's code alone: its text may hold anything.
func (s span) End(err error) {
	if err != nil {
		code := string(fault.CodeOf(err))
		s.otel.SetAttributes(attribute.String("dsvault.code", code))
		s.otel.SetStatus(codes.Error, code)
	}
	s.otel.End()
}
