//go:build linux

package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"dsvault/storage/storagetest"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

// TestServerLog does a bit of everything, also what is refused, and looks at each
// line that the server has written: one for each request, with the ID that the
// answer and the audit log have; and nothing that is a secret, personal or the
// client's.
func TestServerLog(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ok("admin", "client", "create", "wombatco")
	s.ok("admin", "project", "create", "wombatco/echidna", "--purpose", "labeling", "--delivery", "sealed,opened")
	for who, role := range map[string]string{"zoe-quoll": "client", "leo-quoll": "labeler"} {
		s.join(who, role, "wombatco", "--reason", "kookaburra")
	}
	s.ok("zoe-quoll", "person", "update", "me", "--email", "zoe@platypus.example", "--name", "Zoe Platypus")
	const ds = "wombatco/echidna/bilby"
	s.ok("zoe-quoll", "push", photos(t, 4, 8<<10), ds)
	s.ok("admin", "assign", ds, "leo-quoll")
	s.ok("leo-quoll", "pull", ds, "-o", s.out("leo"))
	s.run("admin", "pull", ds, "-o", s.out("admin")).wants(t, exitForbidden)
	s.run("leo-quoll", "pull", "wombatco/echidna/numbat", "-o", s.out("leo")).wants(t, exitForbidden)
	s.ok("zoe-quoll", "log", "wombatco", "--verify")
	s.ok("admin", "hold", "place", "wombatco", "--reason", "cassowary")
	s.ok("admin", "check", "--read-data")
	s.run("admin", "erase", ds, "--reason", "dingo", "--yes").wants(t, exitForbidden)

	token, err := os.ReadFile(filepath.Join(s.config("zoe-quoll"), "token"))
	if err != nil { // wherever it is
		for _, name := range tree(t, s.config("zoe-quoll")) {
			if filepath.Base(name) == "token" {
				token, err = os.ReadFile(filepath.Join(s.config("zoe-quoll"), name))
			}
		}
	}
	if err != nil || len(token) < 20 {
		t.Fatalf("no token: %v", err)
	}
	var ids []string
	for _, ask := range []struct{ method, path, token string }{
		{"GET", "/v1/people/zoe-quoll", strings.TrimSpace(string(token))},
		{"GET", "/v1/nothing/emu-word?emu=word", "wrong-token-emu"},
		{"EMU", "/v1/scopes", ""},
	} {
		req, err := http.NewRequest(ask.method, s.url+ask.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+ask.token)
		req.Header.Set("User-Agent", "emu-agent")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		ids = append(ids, resp.Header.Get(wire.HeaderRequestID))
	}
	var recorded []string
	records, _ := s.verified("admin")
	for _, r := range records {
		leaf, err := audit.ParseLeaf(r.Leaf)
		if err != nil {
			t.Fatal(err)
		}
		if id := dataset.RequestID(leaf.Request); !id.IsZero() && leaf.Kind != audit.KindCheckEnd {
			recorded = append(recorded, id.String())
		}
	}
	s.stop()

	logged, lines := map[string]int{}, 0
	for line := range strings.Lines(s.logs.String()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		lines++
		if entry["msg"] != "request" {
			continue
		}
		for _, name := range []string{"time", "level", "method", "route", "status", "took", "bytes", "request"} {
			if _, ok := entry[name]; !ok {
				t.Errorf("no %s in %s", name, line)
			}
		}
		logged[entry["request"].(string)]++
	}
	t.Logf("%d lines, %d requests, %d records with a request", lines, len(logged), len(recorded))
	for _, id := range append(ids, recorded...) {
		if logged[id] != 1 && id != "" {
			t.Errorf("the request %s is logged %d times", id, logged[id])
		}
	}
	if len(logged) < 30 || len(recorded) < 10 || ids[0] == "" {
		t.Errorf("%d requests were logged, %d recorded", len(logged), len(recorded))
	}
	secrets := []string{strings.TrimSpace(string(token)), s.dir}
	for _, line := range regexp.MustCompile(`AGE-SECRET-KEY[A-Z0-9-]+`).FindAllString(s.logs.String(), 1) {
		t.Errorf("a key is logged: %s", line)
	}
	for _, word := range append(secrets, "wombatco", "echidna", "bilby", "numbat", "quoll", "platypus", "Platypus", "kookaburra", "cassowary", "dingo",
		"emu", "EMU", secretName, strings.TrimSpace(marker), "dsvault/", "127.0.0.1") {
		for line := range strings.Lines(s.logs.String()) {
			if strings.Contains(line, word) {
				t.Errorf("%q is in %s", word, line)
			}
		}
	}
}

// TestPprof: profiles are shown on a loopback address of their own, if asked for.
func TestPprof(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.stop()
	for _, address := range []string{"0.0.0.0:6060", ":6060", "192.0.2.1:6060", "localhost:6060", "6060"} {
		s.serve("--pprof", address).wait(t).wants(t, exitUsage, "127.0.0.1:6060")
	}
	at := storagetest.FreeAddress(t)
	s.start("--pprof", at)
	get := func(url, host string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	if status, body := get("http://"+at+"/debug/pprof/goroutine?debug=1", at); status != http.StatusOK || !strings.Contains(body, "goroutine profile") {
		t.Errorf("%d %.100s", status, body)
	}
	if status, _ := get("http://"+at+"/debug/pprof/cmdline", at); status == http.StatusOK {
		t.Error("the command line is shown")
	}
	if status, _ := get("http://"+at+"/debug/pprof/", "evil.example"); status != http.StatusForbidden {
		t.Errorf("by another name: %d", status)
	}
	if status, _ := get(s.url+"/debug/pprof/", strings.TrimPrefix(s.url, "http://")); status == http.StatusOK {
		t.Error("profiles are on the public listener")
	}
	s.stop()
}
