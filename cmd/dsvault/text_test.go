package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"dsvault/vault/audit"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

var noon = time.Date(2026, 2, 28, 12, 0, 0, 0, time.UTC)

func TestParseUntil(t *testing.T) {
	for in, want := range map[string]string{
		"30d": "2026-03-30T12:00:00Z", "14d": "2026-03-14T12:00:00Z", "1y": "2027-02-28T12:00:00Z", "12h": "2026-03-01T00:00:00Z",
		"90m": "2026-02-28T13:30:00Z", "2w": "2026-03-14T12:00:00Z", "2026-02-28": "2026-03-01T00:00:00Z",
		"2027-01-31": "2027-02-01T00:00:00Z", "2026-03-01T00:00:00+01:00": "2026-02-28T23:00:00Z",
	} {
		got, err := parseUntil(in, noon)
		if err != nil || got.Format(time.RFC3339) != want {
			t.Errorf("%s gives %v, %v; want %s", in, got, err, want)
		}
	}
	if got, err := parseUntil("", noon); got != nil || err != nil {
		t.Errorf("nothing gives %v, %v", got, err)
	}
	for _, bad := range []string{"d", "0d", "-1d", "1.5d", "1d12h", "30 d", "30D", "1e3d", "100000d", "9999y", "yesterday", "2026-02-27",
		"2026-02-30", "2026-02-28T11:00:00Z", "30s", "٣d"} {
		if got, err := parseUntil(bad, noon); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q gives %v, %v", bad, got, err)
		}
	}
}

func TestParseSince(t *testing.T) {
	for in, want := range map[string]string{
		"24h": "2026-02-27T12:00:00Z", "7d": "2026-02-21T12:00:00Z", "1y": "2025-02-28T12:00:00Z",
		"2026-02-01": "2026-02-01T00:00:00Z", "2026-02-01T10:00:00Z": "2026-02-01T10:00:00Z",
	} {
		got, err := parseSince(in, noon)
		if err != nil || got.Format(time.RFC3339) != want {
			t.Errorf("%s gives %v, %v; want %s", in, got, err, want)
		}
	}
	if _, err := parseSince("soon", noon); !fault.Is(err, fault.Invalid) {
		t.Errorf("%v", err)
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{"": 0, "65536": 65536, "64KiB": 65536, "256MiB": 256 << 20, "1GiB": 1 << 30, "1 MB": 1e6} {
		if got, err := parseSize(in); err != nil || got != want {
			t.Errorf("%q gives %d, %v; want %d", in, got, err, want)
		}
	}
	for _, bad := range []string{"0", "-1", "big", "1XiB", "9999999TiB"} {
		if got, err := parseSize(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q gives %d, %v", bad, got, err)
		}
	}
}

var nasty = []string{"plain", "\x1b[31mred", "a\x00b", "bell\a", "\u202etxt.exe", "\u0085", "\x9b31m", "caf\u00e9 \u65e5\u672c", "\xff\xfe",
	"a\rb", "\u200b", "\U000e0041", "\ufeff", "tab\tline\n"}

func FuzzEscape(f *testing.F) {
	for _, s := range nasty {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range clean(s) {
			if !unicode.IsPrint(r) {
				t.Errorf("%q becomes %q", s, clean(s))
			}
		}
		for _, r := range cleanText(s) {
			if !unicode.IsPrint(r) && r != '\n' && r != '\t' {
				t.Errorf("%q becomes %q", s, cleanText(s))
			}
		}
		var buf bytes.Buffer
		if err := writeJSON(&buf, map[string]string{"s": s}); err != nil {
			t.Fatal(err)
		}
		line := strings.TrimSuffix(buf.String(), "\n")
		for _, r := range line {
			if !unicode.IsPrint(r) {
				t.Errorf("%q becomes %q", s, line)
			}
		}
		var back map[string]string
		if err := json.Unmarshal(buf.Bytes(), &back); err != nil || back["s"] != strings.ToValidUTF8(s, "\ufffd") && len(back["s"]) == 0 && s != "" {
			t.Errorf("%q comes back as %q, %v", s, back["s"], err)
		}
	})
}

func TestCleanKeepsWords(t *testing.T) {
	for in, want := range map[string]string{"caf\u00e9": "caf\u00e9", "\x1b[0m": `\x1b[0m`, "\u202e": `\u202e`, "\xff": `\xff`, "it's": "it's"} {
		if got := clean(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestExitStatus(t *testing.T) {
	for code, want := range map[fault.Code]int{
		fault.Invalid: 2, fault.TooLarge: 2, fault.Unauthenticated: 3, fault.Forbidden: 4, fault.NotFound: 4, fault.Conflict: 5,
		fault.Unavailable: 6, fault.Busy: 6, fault.Corrupt: 7, fault.Canceled: 130, fault.Internal: 1,
	} {
		if got := exitStatus(fault.Wrap(code, "test", "test", &audit.VerifyError{})); got != want {
			t.Errorf("%s ends with %d, want %d", code, got, want)
		}
	}
	if exitStatus(nil) != 0 || exitStatus(refusedError{}) != 1 || exitStatus(errors.New("x")) != 1 || exitStatus(context.Canceled) != 130 {
		t.Error("an exit status is wrong")
	}
}

func TestErrorsAreShownWhole(t *testing.T) {
	var out bytes.Buffer
	a := &app{err: &out}
	a.printError(&fault.Error{Code: fault.Forbidden, Message: "refused\x1b[2J", Hint: "ask", Reasons: []string{"one", "two\n"}, Err: errors.New("inside")})
	if want := "dsvault: refused\\x1b[2J\n  one\n  two\\n\nTry: ask\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

// TestHelp holds every command to the same manners.
func TestHelp(t *testing.T) {
	var out bytes.Buffer
	a := &app{in: strings.NewReader(""), out: &out, err: &out, env: func(string) string { return "" }}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
		if cmd.HasSubCommands() {
			return
		}
		name := cmd.CommandPath()
		if cmd.Short == "" || cmd.Args == nil || !strings.Contains(cmd.Example, name) {
			t.Errorf("%s lacks its Short, Args or an example of itself", name)
		}
		out.Reset()
		args := append(strings.Fields(name)[1:], "--help")
		if status := a.run(t.Context(), args); status != 0 {
			t.Errorf("%s --help ends with %d", name, status)
		}
		for _, want := range []string{"Examples:", "Exit status:", "--json", "130"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s --help does not say %q", name, want)
			}
		}
	}
	walk(a.root())
}

func TestInterrupted(t *testing.T) {
	var out bytes.Buffer
	env := func(name string) string {
		return map[string]string{"DSVAULT_CONFIG": t.TempDir(), "DSVAULT_URL": "http://127.0.0.1:1", "DSVAULT_TOKEN": "dsv_x"}[name]
	}
	a := &app{in: strings.NewReader(""), out: &out, err: &out, env: env}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if status := a.run(ctx, []string{"whoami"}); status != exitInterrupted {
		t.Errorf("status %d: %s", status, out.String())
	}
	out.Reset()
	var p wire.Problem
	if status := a.run(ctx, []string{"whoami", "--json"}); status != exitInterrupted || json.Unmarshal(out.Bytes(), &p) != nil ||
		p.Title == "" || p.Detail == "" || p.Code != fault.Canceled {
		t.Errorf("status %d: %s", status, out.String())
	}
}

// TestWrongInput: what is wrong without a server has its status, and a hint that fits.
func TestWrongInput(t *testing.T) {
	absent := t.TempDir() + "/absent"
	for args, want := range map[string]struct {
		status int
		words  string
	}{
		"approve x":                            {exitUsage, "as the listings show it"},
		"project create acme/x":                {exitUsage, "`dsvault project create --help`"},
		"recover --data " + absent:             {exitForbidden, "dsvault init"},
		"restore x --identity " + absent + "/": {exitUsage, "Try: "},
	} {
		var out bytes.Buffer
		a := &app{in: strings.NewReader(""), out: &out, err: &out, env: func(string) string { return "" }}
		if status := a.run(t.Context(), strings.Fields(args)); status != want.status || !strings.Contains(out.String(), want.words) {
			t.Errorf("%s: status %d: %s", args, status, out.String())
		}
	}
	full := errors.New("write /dev/stdout: no space left on device")
	if p := (&app{}).problem(full); p.Detail != full.Error() || p.Hint != "" {
		t.Errorf("%+v", p)
	}
}
