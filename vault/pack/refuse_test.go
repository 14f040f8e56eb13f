//go:build unix

package pack

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"dsvault/vault/fault"
)

func TestPlanRefuses(t *testing.T) {
	long := strings.Repeat("d", 250)
	cases := map[string]struct {
		make func(t *testing.T, dir string)
		opts Options
		code fault.Code
		says string
	}{
		"an empty folder": {func(*testing.T, string) {}, Options{}, fault.Invalid, "empty"},
		"a FIFO": {func(t *testing.T, dir string) {
			if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, Options{}, fault.Invalid, "FIFO"},
		"a link":           {func(_ *testing.T, dir string) { os.Symlink("/etc", filepath.Join(dir, "etc")) }, Options{}, fault.Invalid, "symbolic link"},
		"only skipped":     {func(_ *testing.T, dir string) { os.Symlink("/etc", filepath.Join(dir, "etc")) }, Options{SkipSpecial: true}, fault.Invalid, "empty"},
		"two by case":      {func(t *testing.T, dir string) { put(t, dir+"/a/X", ""); put(t, dir+"/A/y", "") }, Options{}, fault.Invalid, "ignore case"},
		"two by form":      {func(t *testing.T, dir string) { put(t, dir+"/e\u0301", ""); put(t, dir+"/\u00e9", "") }, Options{}, fault.Invalid, "ignore case"},
		"sharp s":          {func(t *testing.T, dir string) { put(t, dir+"/stra\u00dfe", ""); put(t, dir+"/STRASSE", "") }, Options{}, fault.Invalid, "ignore case"},
		"not UTF-8":        {func(t *testing.T, dir string) { put(t, dir+"/\xff", "") }, Options{}, fault.Invalid, "UTF-8"},
		"a newline":        {func(t *testing.T, dir string) { put(t, dir+"/a\nb", "") }, Options{}, fault.Invalid, "U+000A"},
		"a backslash":      {func(t *testing.T, dir string) { put(t, dir+`/a\b`, "") }, Options{}, fault.Invalid, "U+005C"},
		"reversed text":    {func(t *testing.T, dir string) { put(t, dir+"/a\u202egpj.exe", "") }, Options{}, fault.Invalid, "U+202E"},
		"reserved":         {func(t *testing.T, dir string) { put(t, dir+"/.DSvault-partial-0/x", "") }, Options{}, fault.Invalid, "reserved"},
		"reserved, long s": {func(t *testing.T, dir string) { put(t, dir+"/.d\u017fvault-partial-0/x", "") }, Options{}, fault.Invalid, "reserved"},
		"10 kB name": {func(t *testing.T, dir string) {
			cwd, _ := os.Getwd()
			defer os.Chdir(cwd)
			os.Chdir(dir)
			for range 41 {
				os.Mkdir(long, 0o755)
				if err := os.Chdir(long); err != nil {
					t.Fatal(err)
				}
			}
			put(t, "x", "")
		}, Options{}, fault.Invalid, "limit"},
		"a tiny shard size": {func(t *testing.T, dir string) { put(t, dir+"/a", "") }, Options{ShardSize: 100}, fault.Invalid, "too small"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c.make(t, dir)
			_, err := NewPlan(t.Context(), dir, c.opts)
			wantCode(t, err, c.code)
			if !strings.Contains(err.Error(), c.says) || fault.HintOf(err) == "" {
				t.Fatalf("message %q, hint %q", err, fault.HintOf(err))
			}
			if len(err.Error()) > 1000 {
				t.Fatalf("a message of %d bytes", len(err.Error()))
			}
		})
	}
	_, err := NewPlan(t.Context(), filepath.Join(t.TempDir(), "absent"), Options{})
	wantCode(t, err, fault.NotFound)
	_, err = NewPlan(t.Context(), "/dev/null", Options{})
	wantCode(t, err, fault.Invalid)
}

func TestSkipSpecial(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/a", "a")
	os.Symlink("a", dir+"/link")
	syscall.Mkfifo(dir+"/pipe", 0o600)
	l, err := net.Listen("unix", dir+"/socket")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = NewPlan(t.Context(), dir, Options{})
	if err == nil || !strings.Contains(err.Error(), "3 entries") || !strings.Contains(err.Error(), `"link"`) {
		t.Fatal(err)
	}
	skipped := map[string]string{}
	p := plan(t, dir, Options{SkipSpecial: true, Skipped: func(name, why string) { skipped[name] = why }})
	if p.Files() != 1 || len(skipped) != 3 || skipped["pipe"] != "FIFO" || skipped["socket"] != "socket" {
		t.Fatal(p.Files(), skipped)
	}
}
