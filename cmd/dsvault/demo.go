package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

//go:embed sample
var sample embed.FS

func (a *app) demoCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "demo [PATH]",
		Short: "Show the main job on this machine, from the first key to the verified log",
		Long: `Starts a real vault in a temporary folder, serves it on a loopback port, and does
the main job through it as five people, each with their own config folder:
an admin, a user of the client, a labeler, a contractor, an auditor. Every step
prints the command that a person would type. PATH is what is pushed; without
it, a small sample. --data DIR (this flag only, not DSVAULT_DATA) keeps
everything in DIR, which must be new or empty.

Exit status 0 means that every step came out as it has to.`,
		Example: "  dsvault demo\n  dsvault demo ./photos\n  dsvault demo --data /tmp/demo",
		Args:    args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := ""
			if len(args) == 1 {
				path = args[0]
			}
			return a.demo(cmd.Context(), path)
		},
	}
}

// demo is the scene on which the steps play.
type demo struct {
	app    *app
	dir    string // of everything
	source string // what is pushed
	server string // URL
	tokens map[string]string
	rules  scene
}

func (a *app) demo(ctx context.Context, path string) (err error) {
	const op = "dsvault.demo"
	d := &demo{app: a, dir: a.data, source: path, tokens: map[string]string{}}
	if d.dir == "" {
		if d.dir, err = os.MkdirTemp("", "dsvault-demo-*"); err != nil {
			return fault.Wrap(fault.Unavailable, op, "cannot make a temporary folder", err)
		}
		defer os.RemoveAll(d.dir)
	}
	if d.dir, err = filepath.Abs(d.dir); err != nil {
		return fault.Wrap(fault.Invalid, op, "bad folder", err)
	}
	if err := d.unpackSample(); err != nil {
		return err
	}
	if d.rules, err = plan(ctx, d.source); err != nil {
		return err
	}
	stop, err := d.start(ctx)
	if err == nil {
		err = d.play(ctx)
	}
	if stop != nil {
		err = errors.Join(err, stop())
	}
	if err != nil {
		return err
	}
	if a.data != "" && !a.json {
		fmt.Fprintf(a.out, "\nKept in %s. To go on: dsvault serve --data %s --listen %s\nand, as one of the people: DSVAULT_CONFIG=%s dsvault ls\n",
			clean(d.dir), clean(d.vault()), clean(strings.TrimPrefix(d.server, "http://")), clean(d.config("lee")))
	}
	return a.result(struct {
		OK bool `json:"ok"`
	}{true}, "\nEvery step came out as it has to.")
}

func (d *demo) vault() string            { return filepath.Join(d.dir, "vault") }
func (d *demo) config(who string) string { return filepath.Join(d.dir, "people", who) }
func (d *demo) out(name string) string   { return filepath.Join(d.dir, "work", name) }

// unpackSample writes the sample and the agreement to the demo's folder.
func (d *demo) unpackSample() error {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return fault.Wrap(fault.Invalid, "dsvault.demo", "cannot make "+d.dir, err)
	}
	if entries, err := os.ReadDir(d.dir); err != nil || len(entries) > 0 {
		return fault.Wrap(fault.Conflict, "dsvault.demo", d.dir+" is not empty", err).WithHint("name a new folder with --data")
	}
	if err := os.CopyFS(d.dir, sample); err != nil {
		return fault.Wrap(fault.Unavailable, "dsvault.demo", "cannot write to "+d.dir, err)
	}
	if d.source == "" {
		d.source = filepath.Join(d.dir, "sample", "signs")
	}
	return nil
}

// start runs init and serve, and gives what stops the server again.
func (d *demo) start(ctx context.Context) (stop func() error, err error) {
	d.say("An operator makes a vault and starts it")
	out, err := d.do(ctx, "operator", "", exitOK, "init", "--admin", "ada", "--data", d.vault())
	if err != nil {
		return nil, err
	}
	d.tokens["ada"] = lastLine(out)
	logFile, err := os.OpenFile(filepath.Join(d.dir, "serve.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, "dsvault.demo", "cannot write to "+d.dir, err)
	}
	cfg := serveConfig{Listen: "127.0.0.1:0"}
	cfg.Data, cfg.Logger = d.vault(), slog.New(slog.NewTextHandler(logFile, nil))
	serving, cancel := context.WithCancel(ctx)
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() {
		defer logFile.Close()
		done <- serve(serving, cfg, func(url string) error { ready <- url; return nil })
	}()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	select {
	case d.server = <-ready:
	case err := <-done:
		cancel()
		return nil, err
	}
	return stop, d.report(step{As: "operator", Command: "dsvault serve --data " + d.vault() + " --listen 127.0.0.1:0 &",
		Stdout: "dsvault: listening on " + d.server + "\n"})
}

// step is one command and what came of it.
type step struct {
	As      string `json:"as"`
	Command string `json:"command"`
	Status  int    `json:"status"`
	Stdout  string `json:"stdout,omitempty"`
	Stderr  string `json:"stderr,omitempty"`
}

// do runs one command line as one of the people and checks its exit status.
// What they would paste when asked is stdin.
func (d *demo) do(ctx context.Context, who, stdin string, want int, args ...string) (string, error) {
	var out, errs bytes.Buffer
	sub := d.as(who)
	sub.in, sub.out, sub.err = strings.NewReader(stdin), &out, &errs
	status := sub.run(ctx, args)
	shown := out.String()
	for _, token := range d.tokens {
		shown = strings.ReplaceAll(shown, token, "dsv_…")
	}
	s := step{As: who, Command: "dsvault " + quote(args), Status: status, Stdout: shown, Stderr: errs.String()}
	if i := strings.LastIndex(s.Stdout, "dsv_"); i >= 0 && isTokenLine(lastLine(s.Stdout)) {
		s.Stdout = s.Stdout[:i] + "dsv_…\n" // the real one stays between the two people
	}
	if err := d.report(s); err != nil {
		return "", err
	}
	if ctx.Err() != nil {
		return "", fault.Wrap(fault.Canceled, "dsvault.demo", "interrupted", ctx.Err())
	}
	return out.String(), d.expect(status == want, "`%s` ended with status %d instead of %d", s.Command, status, want)
}

// as gives the command line of one of the people.
func (d *demo) as(who string) *app {
	config := d.config(who)
	return &app{env: func(name string) string {
		if name == "DSVAULT_CONFIG" {
			return config
		}
		return ""
	}}
}

// session is for checking behind the scenes.
func (d *demo) session(who string) (*session, error) { return d.as(who).connect() }

func (d *demo) expect(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fault.New(fault.Internal, "dsvault.demo", "not as it has to be: "+fmt.Sprintf(format, args...)).
		WithHint("this is a bug; --data DIR keeps the folder, with serve.log, to look into")
}

func (d *demo) say(text string) {
	if !d.app.json {
		fmt.Fprintf(d.app.out, "\n# %s\n", text)
	}
}

func (d *demo) report(s step) error {
	if d.app.json {
		return writeJSON(d.app.out, s)
	}
	_, err := fmt.Fprintf(d.app.out, "%s$ %s\n%s%s", s.As, clean(s.Command), cleanText(s.Stdout), cleanText(s.Stderr))
	return err
}

// check says what was found out without a command.
func (d *demo) check(text string) error {
	return d.report(step{As: "check", Command: text})
}

func lastLine(s string) string {
	s = strings.TrimRight(s, "\n")
	return s[strings.LastIndexByte(s, '\n')+1:]
}

func isTokenLine(s string) bool { return strings.HasPrefix(s, "dsv_") && !strings.Contains(s, " ") }

// quote writes arguments as a shell would need them.
func quote(args []string) string {
	out := make([]string, len(args))
	for i, s := range args {
		if s == "" || strings.ContainsAny(s, " '\"\\$&;|<>()*?#~`") {
			s = "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
		}
		out[i] = s
	}
	return strings.Join(out, " ")
}

// scene says how the dataset is cut, so that there is something to assign to
// each of two people.
type scene struct {
	shardSize string
	shards    int
	folder    bool
}

// lee and kim are what each is assigned.
func (s scene) lee() string {
	switch {
	case s.shards == 1:
		return "0"
	case !s.folder: // all parts, so that they make the file
		return "0-" + strconv.Itoa(s.shards-1)
	}
	return dataset.ShardSet{{First: 0, Last: s.shards - 2}}.String()
}

func (s scene) kim() string { return strconv.Itoa(s.shards - 1) }

// everyFile walks the regular files of the folder or file that is pushed.
func everyFile(root string, visit func(path, rel string) error) error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if rel == "." {
			rel = filepath.Base(path)
		}
		return visit(path, rel)
	})
}
