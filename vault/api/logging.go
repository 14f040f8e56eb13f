package api

import (
	"context"
	"log/slog"

	"dsvault/vault/dataset"
)

type requestKey struct{}

func withRequest(ctx context.Context, id dataset.RequestID) context.Context {
	return context.WithValue(ctx, requestKey{}, id)
}

// LogRequests has every line that is logged with the context of a request carry
// the request's ID, as "request": the one in the answer and in the audit log.
func LogRequests(h slog.Handler) slog.Handler {
	if done, ok := h.(requestHandler); ok {
		return done
	}
	return requestHandler{h}
}

type requestHandler struct{ slog.Handler }

func (h requestHandler) Handle(ctx context.Context, r slog.Record) error {
	id, ok := ctx.Value(requestKey{}).(dataset.RequestID)
	if !ok {
		return h.Handler.Handle(ctx, r)
	}
	r = r.Clone()
	r.AddAttrs(slog.String("request", id.String()))
	return h.Handler.Handle(ctx, r)
}

func (h requestHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return requestHandler{h.Handler.WithAttrs(attrs)}
}

func (h requestHandler) WithGroup(name string) slog.Handler {
	return requestHandler{h.Handler.WithGroup(name)}
}
