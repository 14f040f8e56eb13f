package wire

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"dsvault/vault/fault"
)

// Problem is an error on the wire, RFC 9457 (application/problem+json). It
// never carries a cause, only what is safe to show.
type Problem struct {
	Type    string     `json:"type"` // "about:blank#CODE"
	Title   string     `json:"title"`
	Status  int        `json:"status"`
	Detail  string     `json:"detail,omitempty"`
	Code    fault.Code `json:"code"`
	Hint    string     `json:"hint,omitempty"`
	Reasons []string   `json:"reasons,omitempty"`
	Request string     `json:"request,omitempty"`     // request ID, to find it in the server's log
	Retry   int        `json:"retry_after,omitempty"` // seconds
}

// ProblemType is the media type of a Problem.
const ProblemType = "application/problem+json"

// statuses is the one table between codes and HTTP.
var statuses = map[fault.Code]int{
	fault.Invalid:         http.StatusBadRequest,
	fault.TooLarge:        http.StatusRequestEntityTooLarge,
	fault.Unauthenticated: http.StatusUnauthorized,
	fault.Forbidden:       http.StatusForbidden,
	fault.NotFound:        http.StatusNotFound,
	fault.Gone:            http.StatusGone,
	fault.Conflict:        http.StatusConflict,
	fault.Busy:            http.StatusTooManyRequests,
	fault.Unavailable:     http.StatusServiceUnavailable,
	fault.Corrupt:         http.StatusInternalServerError,
	fault.Canceled:        499, // the client has gone; nobody reads this
	fault.Internal:        http.StatusInternalServerError,
}

// Status gives the HTTP status for a code; an unknown code is a 500.
func Status(code fault.Code) int {
	if s, ok := statuses[code]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// ProblemOf renders err for a caller. Anything that is not a *fault.Error, and
// every Internal one, becomes a bare 500: its text may hold internals.
func ProblemOf(err error, request string) Problem {
	code := fault.CodeOf(err)
	p := Problem{Code: code, Status: Status(code), Request: request}
	e := outermost(err)
	switch {
	case code == fault.Internal || e == nil && code != fault.Unavailable && code != fault.Canceled:
		p.Code, p.Status = fault.Internal, http.StatusInternalServerError
		p.Detail = "something went wrong inside the server"
		p.Hint = "tell the operator the request ID; the cause is in the server's log"
	case e != nil:
		p.Detail, p.Hint, p.Reasons = e.Message, fault.HintOf(err), e.Reasons
		p.Retry = int(math.Ceil(e.Retry.Seconds()))
	}
	if code == fault.Unavailable && p.Retry == 0 {
		p.Retry = 1
	}
	p.Type, p.Title = "about:blank#"+string(p.Code), statusText(p.Status)
	return p
}

// Fault turns a Problem that a client received back into an error.
func (p Problem) Fault(op string) *fault.Error {
	code := p.Code
	if _, ok := statuses[code]; !ok {
		code = codeFor(p.Status)
	}
	message := p.Detail
	if message == "" {
		message = statusText(p.Status)
	}
	return &fault.Error{Code: code, Op: op, Message: message, Hint: p.Hint, Reasons: p.Reasons,
		Retry: time.Duration(p.Retry) * time.Second}
}

// ParseProblem reads an error answer of any kind: a Problem, or whatever a
// proxy in between has sent (then only the status counts).
func ParseProblem(status int, body []byte) Problem {
	var p Problem
	if json.Unmarshal(body, &p) != nil || p.Code == "" {
		p = Problem{Code: codeFor(status), Detail: "the server answered " + statusText(status),
			Hint: "check that the URL is that of a dsvault server: it, or a proxy in between, gave no reason"}
	}
	p.Status = status
	return p
}

// statusText is never empty: 499 and what proxies make up have no name in HTTP.
func statusText(status int) string {
	if text := http.StatusText(status); text != "" {
		return text
	}
	if status == statuses[fault.Canceled] {
		return "Canceled"
	}
	return "Status " + strconv.Itoa(status)
}

func codeFor(status int) fault.Code {
	switch {
	case status == http.StatusBadGateway || status == http.StatusGatewayTimeout:
		return fault.Unavailable
	case status >= 500 && status != http.StatusServiceUnavailable:
		return fault.Internal
	}
	for code, s := range statuses {
		if s == status {
			return code
		}
	}
	return fault.Invalid
}

func outermost(err error) *fault.Error {
	var e *fault.Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}
