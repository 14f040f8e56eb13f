//go:build linux

package main

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"dsvault/storage/storagetest"
)

// TestMetrics: a server shows what it counts on a listener of its own, and
// nobody's name.
func TestMetrics(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.stop()
	address := storagetest.FreeAddress(t)
	s.start("--metrics", address)
	s.project()
	s.ok("cleo", "push", files(t, 2), batch, "--shard-size", "64KiB")
	s.ok("cleo", "pull", batch, "-o", s.out("cleo"))
	s.run("admin", "pull", batch, "-o", s.out("admin")).wants(t, exitForbidden)

	// The last transfer may be over for the reader a moment before it is for the server.
	var page string
	await(t, "no transfer runs", func() bool {
		page = get(t, "http://"+address+metricsPath, http.StatusOK)
		return strings.Contains(page, "dsvault_open_streams 0\n")
	})
	for _, want := range []string{
		`dsvault_build_info{`, `dsvault_admissions_total{kind="read"} 2`, `dsvault_refusals_total{kind="read",reason="`,
		`dsvault_commit_seconds_count{outcome="ok"} `, "dsvault_audit_queue_length 0", "dsvault_halted 0", "dsvault_checkpoint_lag_seconds ",
		"dsvault_requests_open 0\n", "dsvault_requests_overdue 0\n",
		`dsvault_http_requests_total{code="ok",route="/v1/whoami",status="200"} `, `dsvault_http_bytes_total{direction="sent"} `, "go_info{",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %s in\n%s", want, page)
		}
	}
	for _, name := range []string{"cleo", "admin\"", "acme", "signs", "127.0.0.1", s.dir} {
		if strings.Contains(page, name) {
			t.Errorf("the metrics name %s", name)
		}
	}
	get(t, "http://"+address+"/v1/whoami", http.StatusNotFound)
	get(t, s.url+metricsPath, http.StatusNotFound)
	s.stop()

	for flag, says := range map[string]string{
		":9200": "every interface", "nonsense": "bad --metrics address", strings.TrimPrefix(s.url, "http://"): "port of its own",
	} {
		s.serve("--metrics", flag).wait(t).wants(t, exitUsage, says)
	}
}

// get gives an answer's body.
func get(t *testing.T, url string, status int) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		t.Errorf("%s: %d, %v", url, resp.StatusCode, err)
	}
	return string(body)
}
