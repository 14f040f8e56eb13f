package tracing

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
)

// TestDeadCollector: a collector that is away is told once, and once when it is back.
func TestDeadCollector(t *testing.T) {
	var away atomic.Bool
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		if away.Load() {
			w.WriteHeader(http.StatusBadRequest) // which is not tried again
		}
	}))
	t.Cleanup(server.Close)
	var told []bool
	tracer, err := New(t.Context(), server.URL, "1", func(err error) { told = append(told, err != nil) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tracer.Close(context.Background()) })
	for _, down := range []bool{false, true, true, true, false, false, true} {
		away.Store(down)
		_, span := tracer.Start(t.Context(), "request")
		span.End(nil)
		_ = tracer.provider.ForceFlush(t.Context())
	}
	if want := []bool{true, false, true}; !slices.Equal(told, want) || asked != 7 {
		t.Errorf("told %v of %d, want %v of 7", told, asked, want)
	}
}
