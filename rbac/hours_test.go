package rbac

import (
	"testing"
	"time"

	"dsvault/vault/fault"
)

// Hours open and close to the second, by the clocks of their zone: when these
// change, on leap days, and over midnight.
func TestHours(t *testing.T) {
	const week, night = "Mon-Fri 08:00-18:00 Europe/Berlin", "Fri 22:00-06:00 America/New_York"
	for _, c := range []struct {
		hours []string
		at    string
		until string // "": closed
	}{
		{[]string{week}, "2026-11-26T06:59:59Z", ""}, // Thursday, winter
		{[]string{week}, "2026-11-26T07:00:00Z", "2026-11-26T17:00:00Z"},
		{[]string{week}, "2026-11-26T16:59:59.999999999Z", "2026-11-26T17:00:00Z"},
		{[]string{week}, "2026-11-26T17:00:00Z", ""},
		{[]string{week}, "2026-07-01T05:59:59Z", ""}, // Wednesday, summer
		{[]string{week}, "2026-07-01T06:00:00Z", "2026-07-01T16:00:00Z"},
		{[]string{week}, "2026-11-28T12:00:00Z", ""},                     // Saturday
		{[]string{week}, "2028-02-29T07:00:00Z", "2028-02-29T17:00:00Z"}, // a leap day, Tuesday
		{[]string{week}, "2100-02-28T12:00:00Z", ""},                     // a Sunday; there is no 29th
		{[]string{week}, "2100-03-01T12:00:00Z", "2100-03-01T17:00:00Z"}, // so this is Monday
		{[]string{"Thu-Fri 12:00-24:00 UTC"}, "2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z"},

		// The clocks of Berlin go forward at 01:00Z on 2026-03-29, a Sunday …
		{[]string{"Sat-Sun 00:00-24:00 Europe/Berlin"}, "2026-03-27T23:00:00Z", "2026-03-29T22:00:00Z"},
		{[]string{"Sun 01:30-02:30 Europe/Berlin"}, "2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z"},
		{[]string{"Sun 02:00-03:30 Europe/Berlin"}, "2026-03-29T00:59:59Z", ""},
		{[]string{"Sun 02:00-03:30 Europe/Berlin"}, "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"},
		{[]string{"Sun 01:00-05:00 Europe/Berlin"}, "2026-03-29T00:00:00Z", "2026-03-29T03:00:00Z"},
		// … and back at 01:00Z on 2026-10-25.
		{[]string{"Sat-Sun 00:00-24:00 Europe/Berlin"}, "2026-10-24T12:00:00Z", "2026-10-25T23:00:00Z"},
		{[]string{"Sun 01:00-02:30 Europe/Berlin"}, "2026-10-24T23:30:00Z", "2026-10-25T00:30:00Z"},
		{[]string{"Sun 01:00-02:30 Europe/Berlin"}, "2026-10-25T00:45:00Z", ""},
		{[]string{"Sun 01:00-02:30 Europe/Berlin"}, "2026-10-25T01:10:00Z", "2026-10-25T01:30:00Z"}, // the same times again
		{[]string{"Sun 01:00-05:00 Europe/Berlin"}, "2026-10-25T00:00:00Z", "2026-10-25T04:00:00Z"},

		{[]string{night}, "2026-11-28T02:59:59Z", ""},
		{[]string{night}, "2026-11-28T03:00:00Z", "2026-11-28T11:00:00Z"},
		{[]string{night}, "2026-11-28T10:59:59Z", "2026-11-28T11:00:00Z"},
		{[]string{night}, "2026-11-27T10:00:00Z", ""}, // Friday morning is not of Friday night

		// Hours that meet are one time; others are not.
		{[]string{"Mon 08:00-12:00 UTC", "Mon 12:00-13:00 UTC"}, "2026-11-30T08:00:00Z", "2026-11-30T13:00:00Z"},
		{[]string{"Mon 12:00-13:00 UTC", "Mon 08:00-12:30 UTC"}, "2026-11-30T08:00:00Z", "2026-11-30T13:00:00Z"},
		{[]string{"Mon 08:00-12:00 UTC", "Mon 13:00-14:00 UTC"}, "2026-11-30T08:00:00Z", "2026-11-30T12:00:00Z"},
		{[]string{"Sat-Sun 23:00-24:00 UTC", "Sun-Mon 00:00-01:00 UTC"}, "2026-11-29T23:30:00Z", "2026-11-30T01:00:00Z"},
		{nil, "2026-11-30T08:00:00Z", ""},
	} {
		var list []Hours
		for _, s := range c.hours {
			h, err := ParseHours(s)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, h)
		}
		at, err := time.Parse(time.RFC3339Nano, c.at)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if end := openUntil(list, at); end != 0 {
			got = time.Unix(0, end).UTC().Format(time.RFC3339Nano)
		}
		if got != c.until {
			t.Errorf("%q at %s: open until %q, want %q", c.hours, c.at, got, c.until)
		}
	}
	always, err := ParseHours("Mon-Sun 00:00-24:00 Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	if end := openUntil([]Hours{always}, epoch); end <= nanos(epoch.Add(24*time.Hour)) || end == forever {
		t.Errorf("hours that never close: until %d", end)
	}
}

func TestParseHours(t *testing.T) {
	for _, s := range []string{"Mon 08:00-18:00 UTC", "Mon,Wed-Thu 00:00-24:00 Asia/Kolkata", "Sat-Mon 22:00-06:00 Europe/Berlin", "Sun 23:59-00:00 UTC"} {
		if _, err := ParseHours(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{
		"", "always", "Mon 08:00-18:00", "Mon  08:00-18:00 UTC", "Mon 08:00-18:00 Local", "Mon 08:00-18:00 Berlin", "Mon 08:00-18:00 ../etc/passwd",
		"mon 08:00-18:00 UTC", "Mon- 08:00-18:00 UTC", "Mon-Fri-Sun 08:00-18:00 UTC", ",Mon 08:00-18:00 UTC", "Mon 8:00-18:00 UTC",
		"Mon 08:00-24:01 UTC", "Mon 08:60-18:00 UTC", "Mon 24:00-08:00 UTC", "Mon 08:00-08:00 UTC", "Mon 08:00 UTC", "Mon +8:00-18:00 UTC",
		"Mon 08:00-18:00 UTC extra", "Mon 08:00-18:00 " + string(make([]byte, 200)),
	} {
		if _, err := ParseHours(s); !fault.Is(err, fault.Invalid) || fault.HintOf(err) == "" {
			t.Errorf("%q: %v", s, err)
		}
	}
}
