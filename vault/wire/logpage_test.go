package wire

import "testing"

func TestLogCursor(t *testing.T) {
	for text, want := range map[string]LogCursor{
		"":                    {},
		"-1":                  {},
		"0":                   {From: 1},
		"41.7":                {From: 42, Look: 7},
		"-1.7":                {Look: 7},
		"end":                 {End: true},
		"5.0":                 {From: 99}, // not as String gives it
		"9223372036854775806": {From: 1<<63 - 1},
	} {
		got, err := ParseLogCursor(text)
		if want.From == 99 {
			if err == nil {
				t.Errorf("%q was taken", text)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
		if text != "" && got.String() != text {
			t.Errorf("%q became %q", text, got)
		}
	}
	for _, text := range []string{"x", "1.", ".1", "1.x", "1.2.3", "-2", "+1", "01", "1.-1", "1.+1", "9223372036854775807", "1.9223372036854775808", " 1", "End"} {
		if c, err := ParseLogCursor(text); err == nil {
			t.Errorf("%q was taken as %+v", text, c)
		}
	}
}
