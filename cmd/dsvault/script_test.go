package main

import (
	"archive/zip"
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"dsvault/storage/storagetest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"dsvault": func() { os.Exit(dsvault()) }})
}

// TestScripts runs the command line as its users do. Each script has a vault
// of its own in $DATA; the commands that they have beside testscript's are:
//
//	server start [FLAG…]   serve $DATA on $URL, the same address every time
//	server stop|kill       end it by SIGTERM, which has to be clean, or SIGKILL
//	as NAME                use NAME's config folder from now on
//	join NAME [FLAG…]      as admin: invite NAME; as NAME: log in with the token
//	status N COMMAND…      run a command that has to end with exit status N
//	field VAR NAME         set VAR to a field of the JSON in the last stdout; OUTER.NAME is one in another
//	mail start             start a mail server at $SMTP
//	mail await N           print mail N, counted from 1, once it has come
//	mail token VAR         set VAR to the token in the mail that was printed last
//	hook start             start a receiver of webhooks at $HOOK
//	hook await N           print call N, counted from 1, once it has come
//	waiting CLIENT         print notices show CLIENT once a message was tried in vain
//	zipped FILE            print every line of every file in a ZIP, behind the file's name
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("GORACE", "atexit_sleep_ms=0") // each command would wait a second
			env.Setenv("DATA", filepath.Join(env.WorkDir, "vault"))
			env.Setenv("DSVAULT_CONFIG", filepath.Join(env.WorkDir, "people", "admin"))
			if dir := ageFolder(); dir != "" {
				env.Setenv("PATH", env.Getenv("PATH")+string(os.PathListSeparator)+dir)
			}
			return nil
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "age":
				found := ageFolder() != ""
				if !found && os.Getenv("DSVAULT_TEST_REQUIRE") == "1" {
					return false, fmt.Errorf("the stock age binary is missing")
				}
				return found, nil
			case "root":
				return os.Getuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"server": cmdServer,
			"as":     cmdAs,
			"join":   cmdJoin,
			"status": cmdStatus,
			"field":  cmdField,
			"mail":   cmdMail,
			"hook":   cmdHook,

			"waiting": cmdWaiting,
			"zipped":  cmdZipped,
		},
	})
}

// ageFolder finds the stock age binary: in DSVAULT_TEST_BIN, in the test cache,
// or in PATH.
func ageFolder() string {
	dir := os.Getenv("DSVAULT_TEST_BIN")
	if dir == "" {
		if home, err := os.UserHomeDir(); err == nil {
			dir = filepath.Join(home, ".cache", "dsvault-test", "bin")
		}
	}
	for _, name := range []string{filepath.Join(dir, "age"), "age"} {
		if path, err := exec.LookPath(name); err == nil {
			return filepath.Dir(path)
		}
	}
	return ""
}

// servers holds the running server of each script, by its work folder.
var servers = map[string]*exec.Cmd{}

var serversLock = make(chan struct{}, 1)

func withServers(f func()) {
	serversLock <- struct{}{}
	defer func() { <-serversLock }()
	f()
}

func cmdServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: server start|stop|kill [FLAG…]")
	}
	switch args[0] {
	case "start":
		startServer(ts, args[1:])
	case "stop":
		endServer(ts, syscall.SIGTERM)
	case "kill":
		endServer(ts, syscall.SIGKILL)
	default:
		ts.Fatalf("usage: server start|stop|kill [FLAG…]")
	}
}

func startServer(ts *testscript.TestScript, flags []string) {
	listen := strings.TrimPrefix(ts.Getenv("URL"), "http://")
	if listen == "" {
		address, free, err := storagetest.ReserveAddress()
		ts.Check(err)
		ts.Defer(free)
		listen = address
	}
	path := ""
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if path, _ = exec.LookPath(filepath.Join(dir, "dsvault")); path != "" {
			break
		}
	}
	data := ts.Getenv("DATA")
	cmd := exec.Command(path, append([]string{"serve", "--data", data, "--listen", listen, "--json"}, flags...)...)
	cmd.Env = append(os.Environ(), "DSVAULT_PASSPHRASE="+ts.Getenv("DSVAULT_PASSPHRASE"))
	log, err := os.OpenFile(ts.MkAbs("serve.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	ts.Check(err)
	defer log.Close()
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	withServers(func() { servers[data] = cmd })
	ts.Defer(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	var ready struct{ Listening string }
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil || json.Unmarshal(line, &ready) != nil {
		ts.Fatalf("the server did not start: %v\n%s", err, ts.ReadFile("serve.log"))
	}
	ts.Setenv("URL", ready.Listening)
}

func endServer(ts *testscript.TestScript, signal syscall.Signal) {
	var cmd *exec.Cmd
	withServers(func() { cmd = servers[ts.Getenv("DATA")] })
	if cmd == nil {
		ts.Fatalf("no server runs")
	}
	ts.Check(cmd.Process.Signal(signal))
	err := cmd.Wait()
	if signal == syscall.SIGTERM && err != nil {
		ts.Fatalf("the server did not end cleanly: %v\n%s", err, ts.ReadFile("serve.log"))
	}
}

func cmdAs(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: as NAME")
	}
	ts.Setenv("DSVAULT_CONFIG", filepath.Join(ts.Getenv("WORK"), "people", args[0]))
}

func cmdJoin(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: join NAME [FLAG…]")
	}
	cmdAs(ts, false, []string{"admin"})
	ts.Check(ts.Exec("dsvault", append([]string{"person", "invite", "--json"}, args...)...))
	cmdField(ts, false, []string{"DSVAULT_TOKEN", "token"})
	cmdAs(ts, false, args[:1])
	ts.Check(ts.Exec("dsvault", "login", ts.Getenv("URL")))
	ts.Setenv("DSVAULT_TOKEN", "")
}

func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := err.(*exec.ExitError)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d instead of %d\n%s%s", got, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

func cmdZipped(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: zipped FILE")
	}
	z, err := zip.OpenReader(ts.MkAbs(args[0]))
	ts.Check(err)
	defer z.Close()
	for _, f := range z.File {
		r, err := f.Open()
		ts.Check(err)
		data, err := io.ReadAll(r)
		ts.Check(err)
		r.Close()
		for line := range strings.Lines(string(data)) {
			fmt.Fprintf(ts.Stdout(), "%s: %s\n", f.Name, strings.TrimSuffix(line, "\n"))
		}
	}
}

func cmdField(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: field VAR NAME")
	}
	var doc map[string]any
	if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &doc); err != nil {
		ts.Fatalf("stdout is not JSON: %v", err)
	}
	name, inner, nested := strings.Cut(args[1], ".")
	value, ok := doc[name]
	if nested {
		within, _ := value.(map[string]any)
		value, ok = within[inner]
	}
	if !ok {
		ts.Fatalf("no field %s in %s", args[1], ts.ReadFile("stdout"))
	}
	ts.Setenv(args[0], fmt.Sprint(value))
}
