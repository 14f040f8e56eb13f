package dataset

import (
	"testing"
	"time"

	"dsvault/vault/fault"
)

func TestPeriod(t *testing.T) {
	at := func(s string) time.Time {
		t.Helper()
		out, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for _, c := range []struct{ period, from, to string }{
		{"180d", "2026-11-26T12:00:00Z", "2027-05-25T12:00:00Z"},
		{"1d", "2028-02-28T23:59:59.999999Z", "2028-02-29T23:59:59.999999Z"}, // a leap year
		{"1d", "2027-02-28T23:59:59Z", "2027-03-01T23:59:59Z"},               // none
		{"1y", "2028-02-29T08:00:00Z", "2029-02-28T08:00:00Z"},
		{"4y", "2028-02-29T08:00:00Z", "2032-02-29T08:00:00Z"},
		{"1mo", "2027-01-31T00:00:00Z", "2027-02-28T00:00:00Z"},
		{"1mo", "2028-01-31T00:00:00Z", "2028-02-29T00:00:00Z"},
		{"12mo", "2027-12-31T10:00:00Z", "2028-12-31T10:00:00Z"},
		{"1y", "2099-02-28T00:00:00Z", "2100-02-28T00:00:00Z"}, // no leap year
		{"26w", "2027-01-01T00:00:00Z", "2027-07-02T00:00:00Z"},
		// One moment, whatever the zone it is told in; summer time is no matter.
		{"1d", "2027-03-28T00:30:00+01:00", "2027-03-28T23:30:00Z"},
		{"1mo", "2027-01-31T23:30:00-05:00", "2027-03-01T04:30:00Z"},
	} {
		p, err := ParsePeriod(c.period)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.After(at(c.from)); !got.Equal(at(c.to)) || got.Location() != time.UTC {
			t.Errorf("%s after %s is %s, want %s", c.period, c.from, got, c.to)
		}
		text, _ := p.MarshalText()
		var again Period
		if err := again.UnmarshalText(text); err != nil || again != p {
			t.Errorf("%s becomes %q", c.period, text)
		}
	}
	for _, bad := range []string{"0d", "1", "d", "1m", "-1d", "1d ", "101y", "40000d", "1200mo", "99999y", "1.5y", "1y6mo"} {
		if _, err := ParsePeriod(bad); fault.CodeOf(err) != fault.Invalid || fault.HintOf(err) == "" {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
