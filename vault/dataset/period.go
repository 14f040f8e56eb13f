package dataset

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"dsvault/vault/fault"
)

// Period is a span of the calendar, such as 180 days or two years. The zero
// Period is none.
type Period struct{ Years, Months, Days int }

var periodForm = regexp.MustCompile(`^([1-9][0-9]{0,4})(d|w|mo|y)$`)

// maxPeriod bounds a period, in years.
const maxPeriod = 100

// ParsePeriod reads a number with d (days), w (weeks), mo (months) or y (years).
func ParsePeriod(s string) (Period, error) {
	bad := fault.New(fault.Invalid, "dataset.ParsePeriod", "not a period").WithHint("give for example 180d, 26w, 6mo or 2y; at most 100 years")
	m := periodForm.FindStringSubmatch(s)
	if m == nil {
		return Period{}, bad
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		return Period{}, bad
	}
	var p Period
	switch m[2] {
	case "d":
		p.Days = n
	case "w":
		p.Days = 7 * n
	case "mo":
		p.Months = n
	case "y":
		p.Years = n
	}
	if p.Years+p.Months/12+p.Days/366 >= maxPeriod {
		return Period{}, bad
	}
	return p, nil
}

// After gives the moment at which a period that began at t is over. A day has
// 24 hours; months and years are those of the calendar in UTC, and end on the
// last day of a month that lacks the day on which they began.
func (p Period) After(t time.Time) time.Time {
	t = t.UTC()
	day := t.Day()
	first := time.Date(t.Year()+p.Years, t.Month()+time.Month(p.Months), 1, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
	if last := first.AddDate(0, 1, -1).Day(); day > last {
		day = last
	}
	return first.AddDate(0, 0, day-1+p.Days)
}

// IsZero reports whether there is no period.
func (p Period) IsZero() bool { return p == Period{} }

// String gives a text that ParsePeriod reads; the zero Period is "".
func (p Period) String() string {
	var parts []string
	for _, part := range []struct {
		n    int
		unit string
	}{{p.Years, "y"}, {p.Months, "mo"}, {p.Days, "d"}} {
		if part.n != 0 {
			parts = append(parts, strconv.Itoa(part.n)+part.unit)
		}
	}
	return strings.Join(parts, "")
}

// MarshalText writes the period as text.
func (p Period) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads a period; the empty text is the zero Period.
func (p *Period) UnmarshalText(text []byte) (err error) {
	*p = Period{}
	if len(text) > 0 {
		*p, err = ParsePeriod(string(text))
	}
	return err
}
