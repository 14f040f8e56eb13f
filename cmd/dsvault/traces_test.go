//go:build linux

package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// spans is a collector: it keeps what it is sent.
type spans struct {
	mu   sync.Mutex
	raw  bytes.Buffer // guarded by mu
	all  []*otlp.Span // likewise
	errs []error      // likewise
}

func (c *spans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		body = unzipped
	}
	data, err := io.ReadAll(body)
	var request collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(data, &request)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || r.URL.Path != "/v1/traces" {
		c.errs = append(c.errs, err)
	}
	c.raw.Write(data)
	for _, resource := range request.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			c.all = append(c.all, scope.Spans...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func attribute(s *otlp.Span, key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.String()
		}
	}
	return ""
}

// TestTraces has a collector get the spans of a read, by the flag and by the
// variable; nothing personal and no word of the client is in what it got.
func TestTraces(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"flag", "variable"} {
		got := &spans{}
		server := httptest.NewServer(got)
		t.Cleanup(server.Close)
		s := newSite(t)
		s.stop()
		if by == "flag" {
			s.serve("--traces", "ftp://x").wait(t).wants(t, exitUsage, "4318")
			s.start("--traces", server.URL)
		} else {
			s.env = append(s.env, "OTEL_EXPORTER_OTLP_ENDPOINT="+server.URL)
			s.start()
		}
		s.project()
		s.ok("cleo", "push", photos(t, 2, 8<<10), batch)
		s.ok("cleo", "pull", batch, "-o", s.out("cleo"))
		s.run("admin", "pull", batch, "-o", s.out("admin")).wants(t, exitForbidden)
		s.stop() // sends the last ones

		got.mu.Lock()
		defer got.mu.Unlock()
		if len(got.errs) > 0 {
			t.Fatalf("the collector was sent something strange: %v", got.errs)
		}
		children := map[string]map[string]*otlp.Span{} // of each request's span, by name
		for _, span := range got.all {
			if len(span.ParentSpanId) > 0 {
				of := string(span.TraceId)
				if children[of] == nil {
					children[of] = map[string]*otlp.Span{}
				}
				if first := children[of][span.Name]; first == nil || span.StartTimeUnixNano < first.StartTimeUnixNano {
					children[of][span.Name] = span // the end of a read is an admission, too
				}
			}
		}
		reads, refused := 0, 0
		for _, span := range got.all {
			if len(span.ParentSpanId) > 0 || attribute(span, "http.route") == "" {
				continue
			}
			if attribute(span, "dsvault.request") == "" || span.Kind != otlp.Span_SPAN_KIND_SERVER {
				t.Errorf("a request without its ID: %v", span)
			}
			within := children[string(span.TraceId)]
			if admission := within["admission"]; admission != nil && admission.Status.GetCode() == otlp.Status_STATUS_CODE_ERROR {
				refused++
			}
			if within["send"] == nil {
				continue
			}
			reads++
			for name, attributes := range map[string][]string{
				"admission": {"dsvault.kind", "dsvault.dataset", "dsvault.queue_us", "dsvault.commit_us"}, "open key": nil,
				"storage open": {"dsvault.bytes"}, "storage first byte": nil, "send": {"dsvault.bytes", "dsvault.dataset"},
			} {
				child := within[name]
				if child == nil || child.StartTimeUnixNano < span.StartTimeUnixNano || child.EndTimeUnixNano < child.StartTimeUnixNano {
					t.Errorf("%s: no good span %q: %v", span.Name, name, child)
					continue
				}
				for _, key := range attributes {
					if attribute(child, key) == "" {
						t.Errorf("%q does not say %s", name, key)
					}
				}
			}
		}
		if reads == 0 || refused == 0 {
			t.Errorf("by the %s: %d spans, %d reads, %d refused", by, len(got.all), reads, refused)
		}
		for _, word := range []string{"cleo", "acme", "signs", "batch-1", secretName, "127.0.0.1", "quokka", s.dir, "dsv_"} {
			if bytes.Contains(got.raw.Bytes(), []byte(word)) {
				t.Errorf("the traces say %q", word)
			}
		}
	}
}
