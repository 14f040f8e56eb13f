package wire

import (
	"math"
	"strconv"
	"strings"

	"dsvault/vault/fault"
)

// LogCursor is where a page of the log begins. Its text is the after parameter
// of GET /v1/log and the next of its answer.
//
// Looking at the log is recorded. Look is the index of that record: who goes on
// from a page says which look it belongs to, and no new record is made, for
// some minutes. The page without a cursor begins a look; so does one whose Look
// is 0 or has grown old.
type LogCursor struct {
	From uint64 // index of the first record that may be on the page
	Look uint64 // index of the record of this look; 0: none yet
	End  bool   // begin after the last record there is, whatever From says
}

// String gives "INDEX", "INDEX.LOOK" or "end"; INDEX is that of the last record
// before the page, -1 for none.
func (c LogCursor) String() string {
	switch {
	case c.End:
		return cursorEnd
	case c.Look == 0:
		return strconv.FormatInt(int64(c.From)-1, 10)
	}
	return strconv.FormatInt(int64(c.From)-1, 10) + "." + strconv.FormatUint(c.Look, 10)
}

const cursorEnd = "end"

// ParseLogCursor reads what String gives; the empty text is the beginning.
func ParseLogCursor(s string) (LogCursor, error) {
	switch s {
	case "":
		return LogCursor{}, nil
	case cursorEnd:
		return LogCursor{End: true}, nil
	}
	var c LogCursor
	after, look, looking := strings.Cut(s, ".")
	index, err := strconv.ParseInt(after, 10, 64)
	if err == nil && looking {
		c.Look, err = strconv.ParseUint(look, 10, 63)
	}
	c.From = uint64(index + 1)
	if err != nil || index < -1 || index == math.MaxInt64 || c.String() != s {
		return LogCursor{}, fault.New(fault.Invalid, "wire.ParseLogCursor", "after is neither the index of a record nor what an earlier page gave as next")
	}
	return c, nil
}
