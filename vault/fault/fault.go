// Package fault is the one error language of dsvault: a code that programs
// act on, the operation that failed, a message that is safe to show to the
// person who asked, a hint that tells them what to do, and a cause that stays
// inside (it is logged, never sent over HTTP).
package fault

import (
	"context"
	"errors"
	"strings"
	"time"
)

// Code says what kind of failure this is. Codes are stable: they appear in
// problem documents, in exit statuses and in scripts.
type Code string

const (
	// Invalid: the input is wrong; the same request will fail again.
	Invalid Code = "invalid"
	// TooLarge: the input is over a documented limit.
	TooLarge Code = "too-large"
	// Unauthenticated: no credential, or one that does not hold (any more).
	Unauthenticated Code = "unauthenticated"
	// Forbidden: the principal is known, may see the object, and may not do this.
	Forbidden Code = "forbidden"
	// NotFound: absent, or hidden from this principal; the two look the same.
	NotFound Code = "not-found"
	// Gone: it was there, and was erased; whoever asks may know.
	Gone Code = "gone"
	// Conflict: the state of the thing does not allow it now.
	Conflict Code = "conflict"
	// Busy: a rate or concurrency limit; retry after RetryAfter.
	Busy Code = "busy"
	// Unavailable: something we need did not answer; retry. Never means "no".
	Unavailable Code = "unavailable"
	// Corrupt: what is stored contradicts itself, such as a row without its
	// object. Retrying does not help; an operator has to look.
	Corrupt Code = "corrupt"
	// Canceled: the caller went away or pressed Ctrl-C.
	Canceled Code = "canceled"
	// Internal: a bug, or an error that nobody classified.
	Internal Code = "internal"
)

// Error is the one error type. Message, Hint and Reasons may be shown to the
// caller; Err may not.
type Error struct {
	Code    Code
	Op      string        // "package.Operation"
	Message string        // what happened, for the person who asked
	Hint    string        // what they can do about it
	Reasons []string      // for refusals: every reason, as the decision listed them
	Retry   time.Duration // when trying again may help; 0 means unsaid
	Err     error         // the cause; logged, never shown to a remote caller
}

// New returns an error with a message that is safe to show.
func New(code Code, op, message string) *Error {
	return &Error{Code: code, Op: op, Message: message}
}

// Wrap returns an error with cause err. A nil err gives an error all the same:
// the caller has already decided that something failed.
func Wrap(code Code, op, message string, err error) *Error {
	return &Error{Code: code, Op: op, Message: message, Err: err}
}

// WithHint sets the hint and returns e.
func (e *Error) WithHint(hint string) *Error { e.Hint = hint; return e }

// WithRetry sets the retry delay and returns e.
func (e *Error) WithRetry(after time.Duration) *Error { e.Retry = after; return e }

// Error gives the whole chain, for logs and for the local terminal.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Op != "" {
		b.WriteString(e.Op)
		b.WriteString(": ")
	}
	b.WriteString(e.Message)
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf classifies any error: the outermost *Error decides; a bare context
// error is Canceled or Unavailable (a deadline is an outage, not a "no");
// everything else is Internal. CodeOf(nil) is "".
func CodeOf(err error) Code {
	var e *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Code
	case errors.Is(err, context.Canceled):
		return Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return Unavailable
	default:
		return Internal
	}
}

// Is reports whether err carries code.
func Is(err error, code Code) bool { return CodeOf(err) == code }

// HintOf gives the outermost hint in the chain, or "".
func HintOf(err error) string {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}
