// Package trace tells what a request spends its time on, to whoever listens: the
// tracer travels with the context. Without one it costs a look into the context.
package trace

import "context"

// Tracer makes spans. Its methods are called by many goroutines and must not
// block. What it hears names nobody: no names, no addresses, no client's words.
type Tracer interface {
	// Start begins a span inside the one of ctx, and gives a context for what
	// happens in it.
	Start(ctx context.Context, name string) (context.Context, Span)
}

// Span is one thing that takes time.
type Span interface {
	// Set says something of it: a string, an int, an int64 or a bool.
	Set(key string, value any)
	// End ends it, once. Of an error no more than its code is kept.
	End(err error)
}

type tracerKey struct{}

// With gives a context whose spans go to t.
func With(ctx context.Context, t Tracer) context.Context {
	return context.WithValue(ctx, tracerKey{}, t)
}

// On reports whether anybody listens.
func On(ctx context.Context) bool {
	_, ok := ctx.Value(tracerKey{}).(Tracer)
	return ok
}

// Start begins a span, or nothing if nobody listens.
func Start(ctx context.Context, name string) (context.Context, Span) {
	if t, ok := ctx.Value(tracerKey{}).(Tracer); ok {
		return t.Start(ctx, name)
	}
	return ctx, nothing{}
}

// Heard reports whether somebody listens to a span: only then is it worth finding
// out what to say.
func Heard(s Span) bool { return s != Span(nothing{}) }

type nothing struct{}

func (nothing) Set(string, any) {}
func (nothing) End(error)       {}
