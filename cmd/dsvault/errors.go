package main

import (
	"errors"
	"fmt"
	"strings"

	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// Exit statuses.
const (
	exitOK              = 0
	exitFailed          = 1
	exitUsage           = 2
	exitUnauthenticated = 3
	exitForbidden       = 4
	exitConflict        = 5
	exitUnavailable     = 6
	exitCorrupt         = 7
	exitInterrupted     = 130
)

// exitMeanings is what each command's help says of them.
var exitMeanings = []struct {
	status  int
	meaning string
}{
	{exitOK, "done; `can`: allowed"},
	{exitFailed, "`can`: refused; anything that is not below"},
	{exitUsage, "wrong usage or input"},
	{exitUnauthenticated, "not logged in, or the token does not hold"},
	{exitForbidden, "forbidden or not found"},
	{exitConflict, "the state of things does not allow it"},
	{exitUnavailable, "server unavailable or busy; try again"},
	{exitCorrupt, "stored data is damaged, or verification failed"},
	{exitInterrupted, "interrupted"},
}

func exitHelp() string {
	var b strings.Builder
	b.WriteString("\nExit status:\n")
	for _, e := range exitMeanings {
		fmt.Fprintf(&b, "  %-4d %s\n", e.status, e.meaning)
	}
	return b.String()
}

// refusedError ends `can` with its exit status; its answer is printed already.
type refusedError struct{}

func (refusedError) Error() string { return "refused" }

// exitStatus is the one table from errors to exit statuses.
func exitStatus(err error) int {
	if errors.As(err, new(refusedError)) {
		return exitFailed
	}
	switch fault.CodeOf(err) {
	case "":
		return exitOK
	case fault.Invalid, fault.TooLarge:
		return exitUsage
	case fault.Unauthenticated:
		return exitUnauthenticated
	case fault.Forbidden, fault.NotFound:
		return exitForbidden
	case fault.Conflict, fault.Gone:
		return exitConflict
	case fault.Unavailable, fault.Busy:
		return exitUnavailable
	case fault.Corrupt:
		return exitCorrupt
	case fault.Canceled:
		return exitInterrupted
	default:
		return exitFailed
	}
}

// printError tells the person at the terminal what went wrong, why, and what
// they can do; with --json it writes a problem document.
func (a *app) printError(err error) {
	if errors.As(err, new(refusedError)) {
		return
	}
	if a.json {
		writeJSON(a.err, a.problem(err))
		return
	}
	var e *fault.Error
	message, hint := err.Error(), fault.HintOf(err)
	var reasons []string
	if errors.As(err, &e) {
		message, reasons = e.Message, e.Reasons
		if e.Code == fault.Internal && e.Err != nil { // a bug: nothing else tells what it was
			message += ": " + e.Err.Error()
		}
	}
	fmt.Fprintf(a.err, "dsvault: %s\n", clean(message))
	for _, reason := range reasons {
		fmt.Fprintf(a.err, "  %s\n", clean(reason))
	}
	if hint != "" {
		fmt.Fprintf(a.err, "Try: %s\n", clean(hint))
	}
}

// problem is the error as a document. This machine's own errors are not kept
// from its user.
func (a *app) problem(err error) wire.Problem {
	p := wire.ProblemOf(err, "")
	var e *fault.Error
	if errors.As(err, &e) {
		p.Detail, p.Hint = e.Message, fault.HintOf(err)
	} else {
		p.Detail, p.Hint = err.Error(), "" // of this machine, not of a server
	}
	return p
}

// unreadable is the error for a file that somebody has named.
func unreadable(op, path string, err error) error {
	return fault.Wrap(fault.Invalid, op, "cannot read "+path, err).WithHint("name a file that you may read")
}
