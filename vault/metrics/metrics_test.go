package metrics

import (
	"context"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestDocumented: docs/metrics.md lists what the endpoint shows, with types and
// labels, and nothing else.
func TestDocumented(t *testing.T) {
	m := New("v1")
	m.Watch(Gauges{ClockApart: func() time.Duration { return time.Minute }, Waiting: func() int { return 7 }, Halted: func() bool { return true }, CheckpointLag: func(context.Context) (time.Duration, error) { return 3 * time.Second, nil },
		Requests: func(context.Context) (int, int, error) { return 5, 2, nil }})
	m.Recorded("read", "")
	m.Recorded("read", "DNY-01")
	m.Failed("full")
	m.Committed(3, time.Second, true)
	m.Committed(3, time.Second, false)
	m.Settled("followed", 200*time.Millisecond)
	m.Cut("revoked", 100*time.Millisecond)
	m.Answered("/v1/log", 200, "", time.Second, 5, 10)
	m.Answered("", 404, "not-found", time.Second, 5, 10)
	m.Streams(2)
	m.StorageFailed(Catalog, "busy")

	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	page := rec.Body.String()
	var shown []string
	for _, match := range regexp.MustCompile(`(?m)^# TYPE (dsvault_\w+) (\w+)$`).FindAllStringSubmatch(page, -1) {
		name, kind := match[1], match[2]
		sample := regexp.MustCompile(`(?m)^` + name + `(?:_bucket)?(?:\{(.*)\})? `).FindStringSubmatch(page)
		var labels []string
		for _, l := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(sample[1], -1) {
			if l[1] != "le" {
				labels = append(labels, l[1])
			}
		}
		slices.Sort(labels)
		shown = append(shown, name+" "+kind+" "+strings.Join(labels, ","))
	}
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, match := range regexp.MustCompile("(?m)^\\| `(dsvault_\\w+)` \\| (\\w+) \\| ([^|]*) ?\\|").FindAllStringSubmatch(string(text), -1) {
		labels := regexp.MustCompile(`\w+`).FindAllString(match[3], -1)
		slices.Sort(labels)
		listed = append(listed, match[1]+" "+match[2]+" "+strings.Join(labels, ","))
	}
	slices.Sort(shown)
	slices.Sort(listed)
	if len(shown) < 10 || !slices.Equal(shown, listed) {
		t.Errorf("the endpoint shows\n%s\nand docs/metrics.md lists\n%s", strings.Join(shown, "\n"), strings.Join(listed, "\n"))
	}
	for _, file := range []string{"alerts.yaml", "grafana.json"} {
		text, err := os.ReadFile("../../docs/monitoring/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`dsvault_\w+`).FindAllString(string(text), -1) {
			if !regexp.MustCompile(`(?m)^` + name + `[{ ]`).MatchString(page) {
				t.Errorf("docs/monitoring/%s asks for %s, which is not shown", file, name)
			}
		}
	}
	for _, want := range []string{
		`dsvault_admissions_total{kind="read"} 1`, `dsvault_refusals_total{kind="read",reason="DNY-01"} 1`, `dsvault_audit_queue_length 7`, `dsvault_halted 1`, `dsvault_checkpoint_lag_seconds 3`,
		`dsvault_http_requests_total{code="ok",route="/v1/log",status="200"} 1`, `route="none"`, `dsvault_http_bytes_total{direction="sent"} 20`,
		`dsvault_open_streams 2`, `dsvault_commit_seconds_count{outcome="failed"} 1`, `dsvault_revoke_seconds_count{how="followed"} 1`, `dsvault_cut_seconds_bucket{cause="revoked",le="0.1"} 1`, `version="v1"`, "go_goroutines ", "process_cpu_seconds_total ",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the endpoint does not show %s", want)
		}
	}
}
