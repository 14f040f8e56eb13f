package fault_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"dsvault/vault/fault"
)

func TestCodeOf(t *testing.T) {
	inner := fault.New(fault.Invalid, "a.B", "bad").WithHint("do this")
	for _, c := range []struct {
		err  error
		code fault.Code
		hint string
	}{
		{nil, "", ""},
		{inner, fault.Invalid, "do this"},
		{fmt.Errorf("around: %w", inner), fault.Invalid, "do this"},
		{fault.Wrap(fault.Corrupt, "c.D", "worse", inner), fault.Corrupt, "do this"}, // the outer code, the nearest hint
		{fault.Wrap(fault.Corrupt, "c.D", "worse", inner).WithHint("stop"), fault.Corrupt, "stop"},
		{errors.New("plain"), fault.Internal, ""},
		{context.Canceled, fault.Canceled, ""},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), fault.Unavailable, ""},
	} {
		if got := fault.CodeOf(c.err); got != c.code {
			t.Errorf("CodeOf(%v) = %q, want %q", c.err, got, c.code)
		}
		if got := fault.HintOf(c.err); got != c.hint {
			t.Errorf("HintOf(%v) = %q, want %q", c.err, got, c.hint)
		}
	}
	if got, want := fault.Wrap(fault.Corrupt, "c.D", "worse", inner).Error(), "c.D: worse: a.B: bad"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
}
