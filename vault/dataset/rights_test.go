package dataset

import (
	"testing"
	"time"

	"dsvault/vault/fault"
)

// TestDeadline: a month is one of the calendar, and ends with the end of its
// last day.
func TestDeadline(t *testing.T) {
	for _, c := range []struct{ received, month, three string }{
		{"2026-01-15", "2026-02-15", "2026-04-15"},
		{"2026-01-31", "2026-02-28", "2026-04-30"},
		{"2027-01-29", "2027-02-28", "2027-04-29"},
		{"2028-01-31", "2028-02-29", "2028-04-30"}, // a leap year
		{"2028-01-29", "2028-02-29", "2028-04-29"},
		{"2028-02-29", "2028-03-29", "2028-05-29"},
		{"2100-01-31", "2100-02-28", "2100-04-30"}, // not one
		{"2000-01-30", "2000-02-29", "2000-04-30"},
		{"2026-03-31", "2026-04-30", "2026-06-30"},
		{"2026-11-30", "2026-12-30", "2027-02-28"},
		{"2027-11-30", "2027-12-30", "2028-02-29"},
		{"2026-12-31", "2027-01-31", "2027-03-31"},
		{"2026-12-01", "2027-01-01", "2027-03-01"},
	} {
		received, err := time.Parse(time.DateOnly, c.received)
		if err != nil {
			t.Fatal(err)
		}
		late := time.Date(2026, 1, 1, 23, 59, 59, 0, time.UTC).Sub(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		for _, at := range []time.Time{received, received.Add(late), received.Add(time.Hour).In(time.FixedZone("", 3600))} {
			for months, want := range map[int]string{RequestMonths: c.month, ExtendedMonths: c.three} {
				due := Deadline(at, months)
				if got := due.Add(-time.Nanosecond).Format(time.DateOnly); got != want || due.Hour() != 0 || due.Location() != time.UTC {
					t.Errorf("%v and %d months is %v; want the end of %s", at, months, due, want)
				}
			}
		}
	}
}

func TestRightsWords(t *testing.T) {
	for _, bad := range []string{"", "Access", "access ", "any"} {
		if _, err := ParseRequestKind(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("kind %q: %v", bad, err)
		}
		if _, err := ParseOutcome(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("outcome %q: %v", bad, err)
		}
		if _, err := ParseIdentityCheck(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("check %q: %v", bad, err)
		}
	}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		choice Choice
		want   bool
	}{{Choice{}, false}, {Choice{At: at}, true}, {Choice{At: at, Ended: at}, false}} {
		if c.choice.InForce() != c.want {
			t.Errorf("%+v", c.choice)
		}
	}
}
