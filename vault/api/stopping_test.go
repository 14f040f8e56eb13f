package api_test

import (
	"net/http"
	"testing"

	"dsvault/vault/api"
)

// TestStopping: a node that is going to stop says so, and answers all the same,
// each time on a connection that nobody uses again.
func TestStopping(t *testing.T) {
	stop := make(chan struct{})
	w := newWorld(t, api.Options{Stopping: stop})
	get := func(path string) (status int, closed bool) {
		t.Helper()
		req, err := http.NewRequest("GET", w.server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+w.tokens["root"])
		resp, err := w.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode, resp.Close
	}
	for path, after := range map[string]int{"/readyz": 503, "/healthz": 200, "/v1/people": 200} {
		if status, closed := get(path); status != 200 || closed {
			t.Errorf("%s before: %d, closed %v", path, status, closed)
		}
		defer func() {
			if status, closed := get(path); status != after || !closed {
				t.Errorf("%s after: %d, closed %v", path, status, closed)
			}
		}()
	}
	close(stop)
}
