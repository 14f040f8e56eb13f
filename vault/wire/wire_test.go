package wire_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

var codes = []fault.Code{
	fault.Invalid, fault.TooLarge, fault.Unauthenticated, fault.Forbidden, fault.NotFound, fault.Conflict,
	fault.Busy, fault.Unavailable, fault.Corrupt, fault.Canceled,
}

// TestProblemRoundTrip: what the server says is what the client gets.
func TestProblemRoundTrip(t *testing.T) {
	for _, code := range codes {
		if p := wire.ProblemOf(fault.New(code, "x", "y"), ""); p.Title == "" {
			t.Errorf("%s has no title", code)
		}
		e := fault.Wrap(code, "vault.Op", "what happened", errors.New("SECRET CAUSE")).WithHint("do this").WithRetry(1500 * time.Millisecond)
		e.Reasons = []string{"CON-02 needs nda"}
		body, err := json.Marshal(wire.ProblemOf(fmt.Errorf("around: %w", e), "req_x"))
		if err != nil || strings.Contains(string(body), "SECRET") || strings.Contains(string(body), "around") {
			t.Errorf("%s: %s, %v", code, body, err)
		}
		got := wire.ParseProblem(wire.Status(code), body).Fault("client.Op")
		if got.Code != code || got.Message != "what happened" || got.Hint != "do this" || len(got.Reasons) != 1 || got.Retry != 2*time.Second {
			t.Errorf("%s became %+v", code, got)
		}
	}
}

// TestInternalsStayInside: an error that nobody made for showing is a bare 500.
func TestInternalsStayInside(t *testing.T) {
	for _, err := range []error{
		errors.New("dial tcp 10.0.0.3: SECRET"),
		fault.New(fault.Internal, "x", "SECRET"),
		fault.Wrap(fault.Internal, "x", "SECRET", nil).WithHint("SECRET"),
		fault.New("no-such-code", "x", "fine"),
	} {
		p := wire.ProblemOf(err, "req_x")
		body, _ := json.Marshal(p)
		if p.Status != http.StatusInternalServerError || strings.Contains(string(body), "SECRET") {
			t.Errorf("%v: %s", err, body)
		}
	}
}

// TestForeignAnswers: a proxy in between is understood by its status.
func TestForeignAnswers(t *testing.T) {
	for status, code := range map[int]fault.Code{
		400: fault.Invalid, 401: fault.Unauthenticated, 403: fault.Forbidden, 404: fault.NotFound, 413: fault.TooLarge,
		429: fault.Busy, 500: fault.Internal, 502: fault.Unavailable, 503: fault.Unavailable, 504: fault.Unavailable, 418: fault.Invalid, 520: fault.Internal,
	} {
		for _, body := range []string{"", "<html>Bad Gateway</html>", `{"x":1}`, "null", "[]"} {
			if got := wire.ParseProblem(status, []byte(body)).Fault("op"); got.Code != code || got.Message == "" {
				t.Errorf("status %d with %q: %+v", status, body, got)
			}
		}
	}
}

func TestShapesRoundTrip(t *testing.T) {
	scope, err := dataset.ParseScope("acme/signs/b")
	if err != nil {
		t.Fatal(err)
	}
	in := wire.Assignment{Dataset: scope, Person: "lee", Shards: dataset.ShardSet{{First: 0, Last: 3}, {First: 7, Last: 7}}}
	data, err := json.Marshal(in)
	if err != nil || !strings.Contains(string(data), `"shards":"0-3,7"`) || strings.Contains(string(data), "until") {
		t.Errorf("%s, %v", data, err)
	}
	var out wire.Assignment
	if err := json.Unmarshal(data, &out); err != nil || out.Dataset != scope || out.Shards.String() != "0-3,7" {
		t.Errorf("%+v, %v", out, err)
	}
	if err := json.Unmarshal([]byte(`{"dataset":"../x"}`), &out); !fault.Is(err, fault.Invalid) {
		t.Errorf("a bad scope in JSON: %v", err)
	}
}
