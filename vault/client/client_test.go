package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

func mustSecret(t *testing.T) Secret {
	t.Helper()
	s, err := ParseSecret("dsv_secretsecret")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// against gives a client of a server that answers as h does.
func against(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	c, err := New(Config{URL: server.URL, Token: mustSecret(t)})
	if err != nil {
		t.Fatal(err)
	}
	c.backoff = time.Millisecond
	return c
}

func wantCode(t *testing.T, err error, code fault.Code) {
	t.Helper()
	if got := fault.CodeOf(err); got != code {
		t.Errorf("got %q (%v), want %q", got, err, code)
	}
}

func TestSecretCannotBePrinted(t *testing.T) {
	s := mustSecret(t)
	holder := struct{ Token Secret }{s}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "token", s, "holder", holder)
	text, _ := json.Marshal(holder)
	c, err := New(Config{URL: "http://127.0.0.1:1", Token: s})
	if err != nil {
		t.Fatal(err)
	}
	hidden := struct{ url wire.PresignedURL }{wire.NewPresignedURL("http://127.0.0.1/secretsecret")}
	many := ""
	for _, verb := range []string{"%v ", "%+v ", "%#v ", "%s ", "%q ", "%x ", "%d "} { // fmt cannot call Format for hidden fields
		many += fmt.Sprintf(strings.Repeat(verb, 3), c, *c, hidden)
	}
	for _, shown := range []string{
		many,
		fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %q %x %d", s, s, s, s, s, s, s), fmt.Sprintf("%+v %#v", holder, &holder),
		string(text), log.String(),
	} {
		if strings.Contains(shown, "secretsecret") || strings.Contains(shown, "736563726574") {
			t.Errorf("the secret shows in %s", shown)
		}
	}
	if s.Expose() != "dsv_secretsecret" {
		t.Error("Expose does not give it")
	}
}

func TestParseSecretRefuses(t *testing.T) {
	for _, bad := range []string{"", " ", "a b", "a\nb", "a\x00", "é", strings.Repeat("a", maxToken+1)} {
		_, err := ParseSecret(bad)
		wantCode(t, err, fault.Invalid)
	}
}

func TestParseURL(t *testing.T) {
	good := map[string]string{
		"http://127.0.0.1:8200":          "http://127.0.0.1:8200",
		"http://LOCALHOST:8200/":         "http://localhost:8200",
		"http://[::1]:80/":               "http://[::1]",
		"https://Vault.Example.org:443/": "https://vault.example.org",
		"https://example.org/vault/":     "https://example.org/vault",
		" https://example.org ":          "https://example.org",
	}
	for in, want := range good {
		if got, err := ParseURL(in, false); err != nil || got != want {
			t.Errorf("%q gives %q, %v; want %q", in, got, err, want)
		}
	}
	for _, bad := range []string{
		"", "example.org", "ftp://example.org", "http://example.org", "http://127.0.0.1.example.org", "http://10.0.0.1",
		"https://u:p@example.org", "https://example.org?x=1", "https://example.org#x", "https://", "http://0.0.0.0", "https://%zz",
	} {
		_, err := ParseURL(bad, false)
		wantCode(t, err, fault.Invalid)
	}
	if got, err := ParseURL("http://example.org", true); err != nil || got != "http://example.org" {
		t.Errorf("allowed plain http gives %q, %v", got, err)
	}
}

func TestRetriesOnlyWhatIsSafe(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		call   func(*Client) error
		calls  int64
	}{
		{"GET, away", 503, func(c *Client) error { _, err := c.Whoami(t.Context()); return err }, maxRetries + 1},
		{"GET, bad gateway", 502, func(c *Client) error { _, err := c.Whoami(t.Context()); return err }, maxRetries + 1},
		{"GET, busy", 429, func(c *Client) error { _, err := c.Whoami(t.Context()); return err }, maxRetries + 1},
		{"GET, wrong", 400, func(c *Client) error { _, err := c.Whoami(t.Context()); return err }, 1},
		{"GET, a bug", 500, func(c *Client) error { _, err := c.Whoami(t.Context()); return err }, 1},
		{"POST, away", 503, func(c *Client) error { _, err := c.CreateClient(t.Context(), wire.NewClient{}); return err }, 1},
		{"POST, busy", 429, func(c *Client) error { _, err := c.CreateClient(t.Context(), wire.NewClient{}); return err }, maxRetries + 1},
		{"stream, busy", 429, func(c *Client) error {
			return c.call(t.Context(), request{method: "PUT", path: "/", body: io.NopCloser(strings.NewReader("x")), size: 1}, nil)
		}, 1},
		{"DELETE, away", 503, func(c *Client) error { _, err := c.Disable(t.Context(), "x"); return err }, maxRetries + 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var calls atomic.Int64
			c := against(t, func(w http.ResponseWriter, _ *http.Request) {
				calls.Add(1)
				w.WriteHeader(tt.status)
			})
			if err := tt.call(c); err == nil {
				t.Error("no error")
			}
			if calls.Load() != tt.calls {
				t.Errorf("%d calls, want %d", calls.Load(), tt.calls)
			}
		})
	}
}

func TestRetrySucceeds(t *testing.T) {
	var calls atomic.Int64
	c := against(t, func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) < 3 {
			w.WriteHeader(503)
			return
		}
		io.WriteString(w, `{"handle":"alice"}`)
	})
	me, err := c.Whoami(t.Context())
	if err != nil || me.Handle != "alice" {
		t.Errorf("%+v, %v", me, err)
	}
}

func TestRetryAfterAndCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := against(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "25")
		w.WriteHeader(429)
		cancel() // while the client waits
	})
	_, err := c.Whoami(ctx)
	wantCode(t, err, fault.Canceled)

	c = against(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "25")
		w.WriteHeader(429)
	})
	_, err = c.send(t.Context(), request{method: "GET", path: "/"})
	wantCode(t, err, fault.Busy)
	if e := err.(*fault.Error); e.Retry != 25*time.Second {
		t.Errorf("retry after %v", e.Retry)
	}
}

func TestProblemIsKept(t *testing.T) {
	c := against(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(403)
		json.NewEncoder(w).Encode(wire.Problem{Code: fault.Forbidden, Detail: "refused", Hint: "ask", Reasons: []string{"not nda"}})
	})
	_, err := c.Whoami(t.Context())
	e, ok := err.(*fault.Error)
	if !ok || e.Code != fault.Forbidden || e.Message != "refused" || e.Hint != "ask" || len(e.Reasons) != 1 {
		t.Errorf("%#v", err)
	}
}

func TestTokenStaysAtItsHost(t *testing.T) {
	var seen atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { seen.Store(true) }))
	defer other.Close()
	c := against(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer dsv_secretsecret" {
			t.Error("no token at its own host")
		}
		http.Redirect(w, r, other.URL+"/v1/whoami", http.StatusTemporaryRedirect)
	})
	_, err := c.Whoami(t.Context())
	wantCode(t, err, fault.Invalid)
	if seen.Load() {
		t.Error("the redirect was followed")
	}
}

func TestAnswersAreBounded(t *testing.T) {
	endless := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(map[string]int{"/v1/agreements/good": 200, "/v1/agreements/bad": 400}[r.URL.Path])
		chunk := make([]byte, 1<<20)
		for r.Context().Err() == nil {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}
	c := against(t, endless)
	_, err := c.Agreement(t.Context(), "good")
	wantCode(t, err, fault.TooLarge)
	_, err = c.Agreement(t.Context(), "bad")
	wantCode(t, err, fault.Invalid)
}

func TestNonsenseIsNotAnAnswer(t *testing.T) {
	c := against(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") })
	_, err := c.Whoami(t.Context())
	wantCode(t, err, fault.Internal)
}

func TestStalledStream(t *testing.T) {
	c := against(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "a")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	c.idle = 20 * time.Millisecond
	resp, err := c.send(t.Context(), request{op: "test", method: http.MethodGet, path: "/"})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, err = io.ReadAll(resp.Body)
	wantCode(t, err, fault.Unavailable)
}

func TestStalledUpload(t *testing.T) {
	done := make(chan struct{})
	c := against(t, func(w http.ResponseWriter, r *http.Request) { <-done }) // reads nothing
	defer close(done)
	c.idle = 50 * time.Millisecond
	const size = 1 << 30
	body := io.NopCloser(io.LimitReader(zeros{}, size))
	_, err := c.send(t.Context(), request{op: "test", method: http.MethodPut, path: "/", body: body, size: size})
	wantCode(t, err, fault.Unavailable)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestUnreachable(t *testing.T) {
	server := httptest.NewServer(nil)
	url := server.URL
	server.Close()
	c, err := New(Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	c.backoff = time.Millisecond
	_, err = c.Whoami(t.Context())
	wantCode(t, err, fault.Unavailable)
	if fault.HintOf(err) == "" {
		t.Error("no hint")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.Whoami(ctx)
	wantCode(t, err, fault.Canceled)
}

func TestListingThatNeverEnds(t *testing.T) {
	c := against(t, func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"items":[{"handle":"a"}],"next":"a"}`)
	})
	_, err := collect(c.People(t.Context()))
	wantCode(t, err, fault.Internal)
}

// TestOtherServers: what is no dsvault server is not logged in to.
func TestOtherServers(t *testing.T) {
	for _, answer := range []string{`{}`, `{"status":"ok"}`, `{"whoami":{"handle":"ann"},"log_origin":"log","log_key":"key"}`, `[]`, `<html>`, ``} {
		c := against(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer) })
		_, err := c.Login(t.Context(), wire.Login{})
		wantCode(t, err, fault.Internal)
		if fault.HintOf(err) == "" {
			t.Errorf("%s: no hint", answer)
		}
		_, err = c.Whoami(t.Context())
		wantCode(t, err, fault.Internal)
	}
	c := against(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	if _, err := c.Whoami(t.Context()); !fault.Is(err, fault.NotFound) || fault.HintOf(err) == "" {
		t.Errorf("not there: %v", err)
	}
}
