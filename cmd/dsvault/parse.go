package main

import (
	"regexp"
	"strconv"
	"time"

	"github.com/dustin/go-humanize"
)

var spanForm = regexp.MustCompile(`^([0-9]{1,5})([mhdwy])$`)

// shift moves t by a span such as 90m, 12h, 30d, 2w or 1y, n times. A day is
// 24 hours; a year is one of the calendar.
func shift(t time.Time, span string, sign int) (time.Time, bool) {
	m := spanForm.FindStringSubmatch(span)
	if m == nil {
		return t, false
	}
	n, err := strconv.Atoi(m[1])
	if err != nil || n == 0 || m[2] == "y" && n > 1000 {
		return t, false
	}
	n *= sign
	switch m[2] {
	case "m":
		return t.Add(time.Duration(n) * time.Minute), true
	case "h":
		return t.Add(time.Duration(n) * time.Hour), true
	case "d":
		return t.Add(time.Duration(n) * 24 * time.Hour), true
	case "w":
		return t.Add(time.Duration(n) * 7 * 24 * time.Hour), true
	}
	return t.AddDate(n, 0, 0), true
}

// parseUntil reads an end: a span from now, a date (to its last moment, UTC)
// or an RFC 3339 time. The empty text is no end.
func parseUntil(s string, now time.Time) (*time.Time, error) {
	if s == "" {
		return nil, nil
	}
	t, ok := shift(now.UTC().Truncate(time.Second), s, +1)
	if !ok {
		if day, err := time.Parse(time.DateOnly, s); err == nil {
			t, ok = day.AddDate(0, 0, 1), true
		} else if exact, err := time.Parse(time.RFC3339, s); err == nil {
			t, ok = exact.UTC(), true
		}
	}
	if !ok {
		return nil, usage("bad --until "+strconv.QuoteToASCII(clip(s)), "give 30d, 12h, 2w, 1y, a date such as 2027-01-31, or an RFC 3339 time")
	}
	if !t.After(now) {
		return nil, usage("--until "+clip(s)+" is in the past", "give a later end, for example 30d")
	}
	return &t, nil
}

// parseSince reads a beginning: a span back from now, a date (from its first
// moment, UTC) or an RFC 3339 time. The empty text is the zero time.
func parseSince(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, ok := shift(now.UTC(), s, -1); ok {
		return t, nil
	}
	if day, err := time.Parse(time.DateOnly, s); err == nil {
		return day, nil
	}
	if exact, err := time.Parse(time.RFC3339, s); err == nil {
		return exact.UTC(), nil
	}
	return time.Time{}, usage("bad --since "+strconv.QuoteToASCII(clip(s)), "give 24h, 7d, a date such as 2026-01-31, or an RFC 3339 time")
}

// parseBefore reads the end of a look back: a span back from now, a date (to
// its last moment, UTC) or an RFC 3339 time. The empty text is the zero time.
func parseBefore(s string, now time.Time) (time.Time, error) {
	if day, err := time.Parse(time.DateOnly, s); err == nil {
		return day.AddDate(0, 0, 1), nil
	}
	t, err := parseSince(s, now)
	if err != nil {
		err = usage("bad --until "+strconv.QuoteToASCII(clip(s)), "give 24h, 7d, a date such as 2026-01-31, or an RFC 3339 time")
	}
	return t, err
}

// parseEvery reads a span of time such as 24h or 30d; "never" is 0.
func parseEvery(flag, s string) (time.Duration, error) {
	if s == "never" {
		return 0, nil
	}
	span, err := parseSpan(flag, s)
	if err != nil {
		err = usage("bad --"+flag+" "+strconv.QuoteToASCII(clip(s)), "give 24h, 30d or never")
	}
	return span, err
}

// parseSpan reads a span of time such as 14d or 12h.
func parseSpan(flag, s string) (time.Duration, error) {
	from := time.Unix(0, 0).UTC()
	to, ok := shift(from, s, +1)
	if !ok {
		return 0, usage("bad --"+flag+" "+strconv.QuoteToASCII(clip(s)), "give 12h, 14d, 4w or 1y")
	}
	return to.Sub(from), nil
}

// parseWindow reads the age of the oldest backup that is wanted; "none" is 0.
func parseWindow(s string) (time.Duration, error) {
	if s == "none" {
		return 0, nil
	}
	d, err := parseEvery("backup-window", s)
	if err != nil || d == 0 {
		return 0, usage("bad --backup-window "+strconv.QuoteToASCII(clip(s)), "give 30d, 90d or none")
	}
	return d, nil
}

// parseSize reads a size in bytes, such as 256MiB; the empty text is 0.
func parseSize(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := humanize.ParseBytes(s)
	if err != nil || n == 0 || n > 1<<50 {
		return 0, usage("bad size "+strconv.QuoteToASCII(clip(s)), "give for example 64MiB, 256MiB or 1GiB")
	}
	return int64(n), nil
}

func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}
