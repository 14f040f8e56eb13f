package api_test

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dsvault/vault/api"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

func TestBadRequests(t *testing.T) {
	w := newWorld(t, api.Options{MaxFile: 5000})
	w.populate(100)
	w.tokens["wrong"] = "dsv_" + strings.Repeat("a", 52)
	w.tokens["odd"] = "Bearer x"
	invited := call[wire.NewToken](w, "root", "POST", "/v1/people", wire.NewPerson{Handle: "iris"})
	w.tokens["iris"] = invited.Token
	const json, ds = "application/json", "/v1/datasets/acme/signs/"
	text := func(s string) io.Reader { return strings.NewReader(s) }
	stream := func(s string) io.Reader { return io.MultiReader(strings.NewReader(s)) } // of unknown size
	device := []string{wire.HeaderDevice, w.devices["lena"].String()}
	for _, test := range []struct {
		name, who, method, path string
		body                    any
		header                  []string
		status                  int
		code                    fault.Code
	}{
		{"no route", "", "GET", "/v2/whoami", nil, nil, 404, fault.NotFound},
		{"no route, root", "", "GET", "/", nil, nil, 404, fault.NotFound},
		{"slash at the end", "root", "GET", "/v1/whoami/", nil, nil, 404, fault.NotFound},
		{"method", "root", "DELETE", "/v1/whoami", nil, nil, 405, fault.Invalid},
		{"method override", "root", "POST", "/v1/whoami", nil, []string{"X-HTTP-Method-Override", "GET"}, 405, fault.Invalid},
		{"options", "", "OPTIONS", "/v1/whoami", nil, []string{"Origin", "https://evil.example"}, 405, fault.Invalid},
		{"no token", "", "GET", "/v1/whoami", nil, nil, 401, fault.Unauthenticated},
		{"wrong token", "wrong", "GET", "/v1/whoami", nil, nil, 401, fault.Unauthenticated},
		{"two words", "odd", "GET", "/v1/whoami", nil, nil, 401, fault.Unauthenticated},
		{"basic", "", "GET", "/v1/whoami", nil, []string{"Authorization", "Basic " + w.tokens["root"]}, 401, fault.Unauthenticated},
		{"token in the query", "", "GET", "/v1/whoami?access_token=" + w.tokens["root"], nil, nil, 401, fault.Unauthenticated},
		{"invitation", "iris", "GET", "/v1/whoami", nil, nil, 401, fault.Unauthenticated},

		{"unknown parameter", "root", "GET", "/v1/people?role=admin", nil, nil, 400, fault.Invalid},
		{"misspelt parameter", "root", "DELETE", "/v1/assignments?dataset=acme/signs/one&person=lena&shard=3", nil, nil, 400, fault.Invalid},
		{"parameter twice", "root", "GET", "/v1/people?limit=1&limit=2", nil, nil, 400, fault.Invalid},
		{"bad query", "root", "GET", "/v1/people?limit=%zz", nil, nil, 400, fault.Invalid},
		{"limit", "root", "GET", "/v1/people?limit=1001", nil, nil, 400, fault.Invalid},
		{"negative limit", "root", "GET", "/v1/people?limit=-1", nil, nil, 400, fault.Invalid},
		{"odd limit", "root", "GET", "/v1/people?limit=%2B1", nil, nil, 400, fault.Invalid},
		{"missing parameter", "root", "DELETE", "/v1/grants?role=labeler&person=lena", nil, nil, 400, fault.Invalid},
		{"bad role", "root", "DELETE", "/v1/grants?role=root&person=lena&scope=acme", nil, nil, 400, fault.Invalid},
		{"bad time", "root", "GET", "/v1/log?since=yesterday", nil, nil, 400, fault.Invalid},
		{"bundle, short nonce", "root", "GET", "/v1/log/bundle?nonce=00", nil, nil, 400, fault.Invalid},
		{"bundle, nonce in capitals", "root", "GET", "/v1/log/bundle?nonce=ABCDEF0123456789abcdef0123456789", nil, nil, 400, fault.Invalid},
		{"bundle, known of nothing", "root", "GET", "/v1/log/bundle?known=-1", nil, nil, 400, fault.Invalid},
		{"inclusion of nothing", "root", "GET", "/v1/log/inclusion?index=0", nil, nil, 400, fault.Invalid},
		{"inclusion of another leaf", "root", "GET", "/v1/log/inclusion?index=0&leaf=" + strings.Repeat("00", 32), nil, nil, 404, fault.NotFound},
		{"inclusion beyond the end", "root", "GET", "/v1/log/inclusion?index=1000000&leaf=" + strings.Repeat("00", 32), nil, nil, 404, fault.NotFound},
		{"bad kind", "root", "GET", "/v1/log?kind=read,flight", nil, nil, 400, fault.Invalid},
		{"too many kinds", "root", "GET", "/v1/log?kind=" + strings.Repeat("read,", 60) + "read", nil, nil, 400, fault.Invalid},
		{"bad decision", "root", "GET", "/v1/log?decision=none", nil, nil, 400, fault.Invalid},
		{"bad pseudonym", "root", "GET", "/v1/log?actor=~00", nil, nil, 400, fault.Invalid},
		{"bad pseudonym", "root", "GET", "/v1/log?actor=~" + strings.Repeat("x", 32), nil, nil, 400, fault.Invalid},
		{"bad flag", "root", "GET", "/v1/log?follow=yes", nil, nil, 400, fault.Invalid},
		{"bad cursor", "root", "GET", "/v1/log?after=1.x", nil, nil, 400, fault.Invalid},
		{"bad action", "root", "GET", "/v1/can?person=me&action=fly&object=acme", nil, nil, 400, fault.Invalid},

		{"dots", "root", "GET", "/v1/datasets/acme/../one", nil, nil, 400, fault.Invalid},
		{"escaped", "root", "GET", "/v1/datasets/%61cme/signs/one", nil, nil, 400, fault.Invalid},
		{"escaped route", "", "GET", "/%68ealthz", nil, nil, 400, fault.Invalid},
		{"escaped slash", "root", "GET", "/v1/datasets/acme%2Fsigns/one/x", nil, nil, 400, fault.Invalid},
		{"four parts", "root", "GET", ds + "one/two", nil, nil, 404, fault.NotFound},
		{"capital", "root", "GET", "/v1/datasets/Acme/signs/one", nil, nil, 400, fault.Invalid},
		{"long path", "root", "GET", ds + strings.Repeat("x", 2000), nil, nil, 400, fault.Invalid},
		{"long query", "root", "GET", "/v1/people?after=" + strings.Repeat("x", 20_000), nil, nil, 400, fault.Invalid},
		{"long parameter", "root", "GET", "/v1/people?after=" + strings.Repeat("x", 2000), nil, nil, 413, fault.TooLarge},
		{"shard number", "lena", "GET", ds + "one/shards/00/sealed", nil, device, 400, fault.Invalid},
		{"no device", "lena", "GET", onePath, nil, nil, 400, fault.Invalid},
		{"bad attempt", "carol", "PUT", ds + "one/uploads/att_x", text("x"), nil, 400, fault.Invalid},
		{"head", "lena", "HEAD", onePath, nil, device, 405, ""},

		{"body where none goes", "root", "GET", "/v1/whoami", text("{}"), nil, 400, fault.Invalid},
		{"missing body", "root", "POST", "/v1/clients", nil, []string{"Content-Type", json}, 400, fault.Invalid},
		{"wrong type", "root", "POST", "/v1/clients", text(`{"scope":"b"}`), []string{"Content-Type", "text/plain"}, 400, fault.Invalid},
		{"no type", "root", "POST", "/v1/clients", text(`{"scope":"b"}`), nil, 400, fault.Invalid},
		{"unknown field", "root", "POST", "/v1/clients", text(`{"scope":"b","x":1}`), []string{"Content-Type", json}, 400, fault.Invalid},
		{"field twice", "root", "POST", "/v1/clients", text(`{"scope":"b","scope":"c"}`), []string{"Content-Type", json}, 400, fault.Invalid},
		{"field in capitals", "root", "POST", "/v1/clients", text(`{"SCOPE":"b"}`), []string{"Content-Type", json}, 400, fault.Invalid},
		{"something behind", "root", "POST", "/v1/clients", text(`{"scope":"b"}{}`), []string{"Content-Type", json}, 400, fault.Invalid},
		{"cut JSON", "root", "POST", "/v1/clients", text(`{"scope":"b"`), []string{"Content-Type", json}, 400, fault.Invalid},
		{"null", "root", "POST", "/v1/clients", text(`null`), []string{"Content-Type", json}, 400, fault.Invalid},
		{"array", "root", "POST", "/v1/clients", text(`[]`), []string{"Content-Type", json}, 400, fault.Invalid},
		{"deep", "root", "POST", "/v1/clients", text(`{"scope":` + strings.Repeat("[", 5000)), []string{"Content-Type", json}, 400, fault.Invalid},
		{"not UTF-8", "root", "POST", "/v1/clients", text("{\"scope\":\"\xff\"}"), []string{"Content-Type", json}, 400, fault.Invalid},
		{"wrong field type", "root", "POST", "/v1/clients", text(`{"scope":7}`), []string{"Content-Type", json}, 400, fault.Invalid},
		{"bad scope", "root", "POST", "/v1/clients", text(`{"scope":"../etc"}`), []string{"Content-Type", json}, 400, fault.Invalid},
		{"grant nowhere", "root", "POST", "/v1/grants", text(`{"role":"admin","person":"sam"}`), []string{"Content-Type", json}, 400, fault.Invalid},
		{"grant, empty scope", "root", "POST", "/v1/grants", text(`{"role":"admin","person":"sam","scope":""}`), []string{"Content-Type", json}, 400, fault.Invalid},
		{"hold nowhere", "root", "POST", "/v1/holds", text(`{"reason":"case"}`), []string{"Content-Type", json}, 400, fault.Invalid},
		{"retention nowhere", "root", "PUT", "/v1/retentions", text(`{"what":"data","period":"1d"}`), []string{"Content-Type", json}, 400, fault.Invalid},
		{"too much JSON", "root", "POST", "/v1/agreements", text(`{"text":"` + strings.Repeat("x", wire.MaxJSON)), []string{"Content-Type", json}, 413, fault.TooLarge},
		{"too much JSON, unannounced", "root", "POST", "/v1/agreements", stream(`{"text":"` + strings.Repeat("x", wire.MaxJSON)), []string{"Content-Type", json}, 413, fault.TooLarge},

		{"file over the limit", "carol", "PUT", ds + "big/file", text(strings.Repeat("x", 5001)), nil, 413, fault.TooLarge},
		{"file over the limit, unannounced", "carol", "PUT", ds + "big/file", stream(strings.Repeat("x", 5001)), nil, 413, fault.TooLarge},
		{"form", "carol", "PUT", ds + "form/file", text("x"), []string{"Content-Type", "application/x-www-form-urlencoded"}, 400, fault.Invalid},
		{"a part", "carol", "PUT", ds + "part/file", text("x"), []string{"Content-Range", "bytes 0-0/2"}, 400, fault.Invalid},
		{"bad name", "carol", "PUT", ds + "part/file", text("x"), []string{wire.HeaderName, "a%0Ab"}, 400, fault.Invalid},
		{"upload of unknown size", "carol", "PUT", ds + "one/uploads/" + dataset.AttemptID{1}.String(), stream("x"), nil, 400, fault.Invalid},
		{"upload of a shard that a version has", "carol", "POST", ds + "one/shards/0/uploads", wire.NewUpload{Fingerprint: make([]byte, 32)}, nil, 409, fault.Conflict},
		{"upload that nobody has started", "carol", "PUT", ds + "one/uploads/" + dataset.AttemptID{1}.String(), text("x"), nil, 404, fault.NotFound},
		{"no version", "carol", "GET", ds + "one/versions/-1", nil, nil, 400, fault.Invalid},
		{"version that is not there", "carol", "GET", ds + "one/versions/2", nil, nil, 404, fault.NotFound},
		{"a shard twice", "carol", "POST", ds + "one/complete", text(`{"shards":"0,0"}`), []string{"Content-Type", json}, 400, fault.Invalid},
		{"no shards", "carol", "POST", ds + "one/complete", text(`{"shards":""}`), []string{"Content-Type", json}, 400, fault.Invalid},

		{"conflict", "root", "POST", "/v1/clients", wire.NewClient{Scope: w.scope("acme")}, nil, 409, fault.Conflict},
		{"forbidden", "carol", "GET", onePath + "?", nil, []string{wire.HeaderDevice, "dev_x"}, 400, fault.Invalid},
		{"forbidden", "lena", "PUT", ds + "one/file", text("x"), nil, 403, fault.Forbidden},
		{"not found", "root", "GET", ds + "none", nil, nil, 404, fault.NotFound},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := w.send(test.who, test.method, test.path, test.body, test.header...)
			if a.status != test.status {
				t.Fatalf("%d, want %d: %s", a.status, test.status, a.body)
			}
			if test.method != "HEAD" {
				if p := a.problem(t); p.Code != test.code || p.Detail == "" {
					t.Errorf("%+v", p)
				}
			}
			if got := a.header.Get("WWW-Authenticate"); (got != "") != (a.status == 401) {
				t.Errorf("WWW-Authenticate %q", got)
			}
			if a.status == 405 && (a.header.Get("Allow") == "" || strings.Contains(a.header.Get("Allow"), "OPTIONS")) {
				t.Errorf("Allow %q", a.header.Get("Allow"))
			}
		})
	}
	if page := call[wire.Page[wire.Assignment]](w, "lena", "GET", "/v1/assignments?person=me", nil); len(page.Items) != 1 {
		t.Error("a refused request has changed something")
	}
}

func TestStoredBytesAreGone(t *testing.T) {
	w := newWorld(t, api.Options{})
	w.populate(100)
	err := filepath.WalkDir(filepath.Join(w.data, "objects"), func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".age") {
			err = os.Remove(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	a := w.send("lena", "GET", onePath, nil, wire.HeaderDevice, w.devices["lena"].String())
	if p := a.problem(t); a.status != 500 || p.Code != fault.Corrupt || a.header.Get(wire.HeaderLeaf) != "" || a.header.Get("Content-Disposition") != "" {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
	line := w.logs.await(t, func(line map[string]any) bool { return line["route"] == sealedRoute })
	if line["code"] != string(fault.Corrupt) || line["level"] != "ERROR" || line["cause"] == nil {
		t.Errorf("%v", line)
	}
	if end := w.readEnd(); end["cause"] != "failed" || end["bytes-sent"] != "0" {
		t.Errorf("%v", end)
	}
}

func TestUnavailable(t *testing.T) {
	w := newWorld(t, api.Options{})
	if err := w.vault.Close(); err != nil {
		t.Fatal(err)
	}
	a := w.send("root", "POST", "/v1/clients", wire.NewClient{Scope: w.scope("acme")})
	if p := a.problem(t); a.status != 503 || a.header.Get("Retry-After") == "" || p.Retry == 0 {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
}

func TestPanics(t *testing.T) {
	var h http.Handler
	w := newWorld(t, api.Options{}, func(handler http.Handler, _ *server) { h = handler })
	api.Panics(h, "/early", false)
	api.Panics(h, "/late", true)
	a := w.send("", "GET", "/early", nil)
	if p := a.problem(t); a.status != 500 || p.Code != fault.Internal || bytes.Contains(a.body, []byte("a bug")) {
		t.Errorf("%d %s", a.status, a.body)
	}
	resp := w.open("", "GET", "/late", nil)
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("the answer of a handler that crashed looks whole")
	}
	if !strings.Contains(w.logs.String(), "goroutine") {
		t.Error("the stack is not in the log")
	}
}

func TestHeaders(t *testing.T) {
	w := newWorld(t, api.Options{})
	const forged = "req_aaaaaaaaaaaaaaaaaaaaaaaaaa"
	seen := map[string]bool{}
	for _, path := range []string{"/healthz", "/v1/whoami", "/nowhere", "/v1/people?x=1"} {
		a := w.send("root", "GET", path, nil, wire.HeaderRequestID, forged, "Origin", "https://evil.example")
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
			"Content-Security-Policy":   "default-src 'none'; frame-ancestors 'none'",
			"Strict-Transport-Security": "", "Server": "", "Access-Control-Allow-Origin": "", "Set-Cookie": "",
		} {
			if got := a.header.Get(name); got != want {
				t.Errorf("%s %s: %q", path, name, got)
			}
		}
		id := a.header.Get(wire.HeaderRequestID)
		if _, err := dataset.ParseID[dataset.RequestID](id); err != nil || id == forged || seen[id] {
			t.Errorf("request ID %q", id)
		}
		seen[id] = true
	}
}

// TestLogLines asserts that the log holds nothing that names people or things.
func TestLogLines(t *testing.T) {
	w := newWorld(t, api.Options{})
	w.populate(100)
	w.send("lena", "GET", onePath, nil, wire.HeaderDevice, w.devices["lena"].String(), "User-Agent", "gecko")
	w.send("root", "GET", "/v1/datasets/acme/signs/none", nil)
	w.send("root", "POST", "/v1/people", wire.NewPerson{Handle: "lena"})
	w.send("sam", "SECRET", "/v1/people/lena", nil)
	w.send("", "GET", "/acme", nil)
	text := w.logs.String()
	for _, secret := range []string{"acme", "signs", "lena", "carol", "example.org", "127.0.0.1", "gecko", "SECRET", "dsv_", w.devices["lena"].String()} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
	for _, line := range w.logs.all() {
		for _, key := range []string{"method", "route", "status", "took", "request", "bytes"} {
			if _, ok := line[key]; !ok {
				t.Errorf("no %s in %v", key, line)
			}
		}
	}
}
