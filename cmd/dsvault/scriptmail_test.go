package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"dsvault/vault/courier/couriertest"
)

// mailServers holds the mail server of each script, by its work folder.
var mailServers sync.Map

var tokenInMail = regexp.MustCompile(`(?m)^ *(dsv_[a-z2-7]{52})$`)

func cmdMail(ts *testscript.TestScript, neg bool, args []string) {
	const usage = "usage: mail start|await N|token VAR"
	if neg || len(args) == 0 || args[0] != "start" && len(args) != 2 {
		ts.Fatalf(usage)
	}
	if args[0] == "start" {
		s, err := couriertest.StartSMTP()
		ts.Check(err)
		ts.Defer(s.Close)
		mailServers.Store(ts.Getenv("WORK"), s)
		ts.Setenv("SMTP", s.Addr)
		return
	}
	server, ok := mailServers.Load(ts.Getenv("WORK"))
	if !ok {
		ts.Fatalf("no mail server runs")
	}
	switch args[0] {
	case "await":
		n, err := strconv.Atoi(args[1])
		ts.Check(err)
		list := server.(*couriertest.SMTP).Wait(n)
		if len(list) < n {
			ts.Fatalf("there are %d mails", len(list))
		}
		m := list[n-1]
		fmt.Fprintf(ts.Stdout(), "To: %s\nSubject: %s\n\n%s", m.To, m.Header.Get("Subject"), m.Text)
	case "token":
		found := tokenInMail.FindStringSubmatch(ts.ReadFile("stdout"))
		if found == nil {
			ts.Fatalf("no token in %s", ts.ReadFile("stdout"))
		}
		ts.Setenv(args[1], found[1])
	default:
		ts.Fatalf(usage)
	}
}

// receivers holds the receiver of webhooks of each script, by its work folder.
var receivers sync.Map

func cmdHook(ts *testscript.TestScript, neg bool, args []string) {
	switch {
	case !neg && len(args) == 1 && args[0] == "start":
		r := couriertest.StartReceiver()
		ts.Defer(r.Close)
		receivers.Store(ts.Getenv("WORK"), r)
		ts.Setenv("HOOK", r.URL)
	case !neg && len(args) == 2 && args[0] == "await":
		r, ok := receivers.Load(ts.Getenv("WORK"))
		if !ok {
			ts.Fatalf("no receiver runs")
		}
		n, err := strconv.Atoi(args[1])
		ts.Check(err)
		list := r.(*couriertest.Receiver).Wait(n)
		if len(list) < n {
			ts.Fatalf("there are %d calls", len(list))
		}
		fmt.Fprintf(ts.Stdout(), "%s\n%s\n", list[n-1].ID, list[n-1].Body)
	default:
		ts.Fatalf("usage: hook start|await N")
	}
}

func cmdWaiting(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waiting CLIENT")
	}
	for late := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		ts.Check(ts.Exec("dsvault", "notices", "show", args[0]))
		if strings.Contains(ts.ReadFile("stdout"), "cannot be reached") {
			fmt.Fprint(ts.Stdout(), ts.ReadFile("stdout"))
			return
		}
		if time.Now().After(late) {
			ts.Fatalf("gave up waiting:\n%s", ts.ReadFile("stdout"))
		}
	}
}
