package rbac

import (
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // so that zones are known on every machine

	"dsvault/vault/fault"
)

// Hours are times of the week by the clocks of one place, such as
// "Mon-Fri 08:00-18:00 Europe/Berlin". An end is outside.
type Hours struct {
	days     uint8 // bit i is time.Weekday(i)
	from, to int   // minutes of the day; to is above 24:00 if the next day ends it
	zone     *time.Location
}

const (
	maxHours  = 100 // bytes of a text
	dayLength = 24 * 60
)

var dayNames = []string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}

// ParseHours reads DAYS FROM-TO ZONE: days are Mon, Mon-Fri or Mon,Wed; times
// are from 00:00 to 24:00, and a TO that is not after FROM is on the next day; a
// zone is UTC or a name such as Europe/Berlin. Anything else is Invalid.
func ParseHours(s string) (Hours, error) {
	bad := func(what string, err error) (Hours, error) {
		return Hours{}, fault.Wrap(fault.Invalid, "rbac.ParseHours", what, err).
			WithHint("write them as \"Mon-Fri 08:00-18:00 Europe/Berlin\"")
	}
	parts := strings.Split(s, " ")
	if len(s) > maxHours || len(parts) != 3 {
		return bad("hours are days, times and a time zone", nil)
	}
	var h Hours
	ok := false
	if h.days, ok = parseDays(parts[0]); !ok {
		return bad("days are Mon, Tue, Wed, Thu, Fri, Sat and Sun, such as Mon-Fri or Mon,Wed", nil)
	}
	from, to, _ := strings.Cut(parts[1], "-")
	var first, last bool
	h.from, first = parseMinute(from)
	h.to, last = parseMinute(to)
	if !first || !last || h.from == h.to || h.from == dayLength {
		return bad("times are from 00:00 to 24:00, such as 08:00-18:00", nil)
	}
	if h.to < h.from {
		h.to += dayLength
	}
	if parts[2] == "Local" || parts[2] == "" {
		return bad("name the time zone", nil)
	}
	var err error
	if h.zone, err = time.LoadLocation(parts[2]); err != nil {
		return bad("no time zone has that name", err)
	}
	return h, nil
}

func parseDays(s string) (days uint8, ok bool) {
	for span := range strings.SplitSeq(s, ",") {
		first, last, ranged := strings.Cut(span, "-")
		if !ranged {
			last = first
		}
		from, to := slices.Index(dayNames, first), slices.Index(dayNames, last)
		if from < 0 || to < 0 {
			return 0, false
		}
		for day := from; ; day = (day + 1) % 7 {
			days |= 1 << day
			if day == to {
				break
			}
		}
	}
	return days, true
}

// parseMinute reads 00:00 to 24:00.
func parseMinute(s string) (int, bool) {
	if len(s) != 5 || s[2] != ':' {
		return 0, false
	}
	hour, err1 := strconv.ParseUint(s[:2], 10, 8)
	minute, err2 := strconv.ParseUint(s[3:], 10, 8)
	n := int(hour)*60 + int(minute)
	return n, err1 == nil && err2 == nil && minute < 60 && n <= dayLength
}

// until gives the end of the hours that t is in, or t if it is in none. It goes
// no further than to the next change of the zone's clocks, since times of the
// day mean other moments from there on.
func (h *Hours) until(t time.Time) time.Time {
	local := t.In(h.zone)
	hour, minute, second := local.Clock()
	since := time.Duration(hour*3600+minute*60+second)*time.Second + time.Duration(local.Nanosecond())
	day := int(local.Weekday())
	end := t
	for _, began := range [...]struct{ day, ago int }{{day, 0}, {(day + 6) % 7, dayLength}} {
		into := since + time.Duration(began.ago)*time.Minute // since the midnight of that day
		from, to := time.Duration(h.from)*time.Minute, time.Duration(h.to)*time.Minute
		if h.days&(1<<began.day) != 0 && into >= from && into < to {
			if e := t.Add(to - into); e.After(end) {
				end = e
			}
		}
	}
	if _, change := local.ZoneBounds(); !change.IsZero() && end.After(change) {
		end = change
	}
	return end
}

// openUntil gives the end of the open time that t is in, 0 if it is in none. Of
// hours that never close it gives some later moment, at which to ask again.
func openUntil(list []Hours, t time.Time) int64 {
	const joined = 50 // spans that follow each other without a gap
	end := t
	for range joined {
		next := end
		for i := range list {
			if e := list[i].until(end); e.After(next) {
				next = e
			}
		}
		if !next.After(end) {
			break
		}
		end = next
	}
	if !end.After(t) {
		return 0
	}
	return nanos(end)
}
