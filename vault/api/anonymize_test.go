package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dsvault/storage/storagetest"
	"dsvault/vault/client"
	"dsvault/vault/dataset"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// What somebody is known by; none of it is a word of anything else.
var traces = []string{"quetzal", "Quetzalcoatl", "feathered@serpent.example", "obsidian-laptop", "TeotihuacanBrowser", "203.0.113.77", "tenochtitlan", "+52 55 5555", "Chocolatl Traders", "cloud rider"}

// asQuetzal sends a request of the person who is to be forgotten.
func (n *node) asQuetzal(method, path string, body any, header ...string) answer {
	n.t.Helper()
	return n.send("quetzal", method, path, body, append(header, "User-Agent", "TeotihuacanBrowser/1", "X-Forwarded-For", "203.0.113.77")...)
}

// leaveTraces has somebody come, work and be written about.
func (n *node) leaveTraces() {
	n.t.Helper()
	out := call[wire.NewToken](n.world, "root", "POST", "/v1/people",
		wire.NewPerson{Handle: "quetzal", Name: "Quetzalcoatl", Email: "feathered@serpent.example", Region: "tenochtitlan",
			Phone: "+52 55 5555", Company: "Chocolatl Traders", JobTitle: "cloud rider"})
	n.tokens["quetzal"] = out.Token
	id := must(seal.GenerateIdentity())(n.t)
	var in wire.LoggedIn
	a := n.asQuetzal("POST", "/v1/login", wire.Login{DeviceName: "obsidian-laptop", Recipient: id.Recipient().String()})
	if err := json.Unmarshal(a.body, &in); err != nil || a.status != 200 {
		n.t.Fatalf("%d %s", a.status, a.body)
	}
	n.tokens["quetzal"], n.devices["quetzal"], n.keys["quetzal"] = in.Token, in.Device, id
	grant := func(person, reason string) {
		call[wire.Grant](n.world, "root", "POST", "/v1/grants", wire.Grant{Role: dataset.Labeler, Person: person, Scope: n.scope("acme/signs"), Reason: reason})
	}
	grant("quetzal", "asked for by Quetzalcoatl")
	grant("sam", "stands in for quetzal, who is ill")
	grant("lena", "knows quetzalli, somebody else")
	assign := wire.Assignment{Dataset: n.scope("acme/signs/one"), Person: "quetzal", Shards: dataset.ShardSet{{First: 0, Last: 0}}}
	call[wire.Assignment](n.world, "root", "POST", "/v1/assignments", assign)
	for range 3 {
		if a := n.asQuetzal("GET", onePath, nil, wire.HeaderDevice, in.Device.String()); a.status != 200 {
			n.t.Fatalf("%d %s", a.status, a.body)
		}
	}
	n.asQuetzal("GET", "/v1/datasets/acme/signs/one/shards/7/sealed", nil, wire.HeaderDevice, in.Device.String(), wire.HeaderPurpose, "quetzal's own")
	call[wire.Revoked](n.world, "root", "DELETE", "/v1/assignments?dataset=acme/signs/one&person=quetzal", nil)
	call[wire.Assignment](n.world, "root", "POST", "/v1/assignments", assign)
}

// found lists the traces in files below folders, but those named in except.
func found(t *testing.T, except []string, folders ...string) map[string][]string {
	t.Helper()
	hits := map[string][]string{}
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			if err != nil || slices.Contains(except, d.Name()) {
				if d != nil && d.IsDir() {
					return fs.SkipDir
				}
				return err
			}
			if !d.Type().IsRegular() {
				return nil
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			data = bytes.ReplaceAll(bytes.ToLower(data), []byte("quetzalli"), nil)
			for _, trace := range traces {
				if bytes.Contains(data, []byte(strings.ToLower(trace))) {
					hits[trace] = append(hits[trace], path)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return hits
}

// shown is the whole log as root sees it, with the personal details in clear.
func (n *node) shown() (text string, records []wire.Record) {
	n.t.Helper()
	for after := ""; ; {
		page := call[wire.Page[wire.Record]](n.world, "root", "GET", "/v1/log?after="+after, nil)
		for _, r := range page.Items {
			text += string(must(json.Marshal(r))(n.t)) + string(r.Personal) + "\n"
		}
		records = append(records, page.Items...)
		if after = page.Next; after == "" {
			return text, records
		}
	}
}

func (n *node) verifies(in wire.LoggedIn) {
	n.t.Helper()
	c := must(client.New(client.Config{URL: n.server.URL, Token: must(client.ParseSecret(n.tokens["root"]))(n.t)}))(n.t)
	v := must(c.VerifyLog(context.Background(), dataset.Root, client.LogPin{Origin: in.LogOrigin, Key: in.LogKey}, client.VerifyOptions{}))(n.t)
	if v.Seen != v.Size || v.Bare == 0 {
		n.t.Errorf("%+v", v)
	}
}

// TestAnonymize: of somebody who is anonymised nothing is left, neither in what
// the server says nor in any of its files, and the log still verifies.
func TestAnonymize(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		folder := t.TempDir()
		url := "sqlite:" + filepath.Join(folder, "catalog.db")
		testAnonymize(t, newNode(t, url, url, 0), func() map[string][]string { return found(t, nil, folder) })
	})
	t.Run("postgres", func(t *testing.T) {
		cluster := storagetest.NewCluster(t)
		testAnonymize(t, newNode(t, cluster.DSN(), cluster.DSN(), 0), func() map[string][]string {
			cluster.Exec("ANALYZE") // as the engine does by itself in time
			cluster.Exec("CHECKPOINT")
			return found(t, []string{"pg_wal"}, cluster.Data()) // its journal is the engine's own matter
		})
	})
}

func testAnonymize(t *testing.T, n *node, catalog func() map[string][]string) {
	in := n.login("root")
	n.leaveTraces()
	before, _ := n.shown()
	hits := catalog()
	for _, trace := range traces[:2] { // the test can find what is there
		if !strings.Contains(before, trace) || len(hits[trace]) == 0 && trace == "quetzal" {
			t.Fatalf("%s is not found while it is there: %v", trace, hits)
		}
	}
	if len(hits["obsidian-laptop"]) == 0 || len(hits["tenochtitlan"]) == 0 || len(hits["TeotihuacanBrowser"]) != 0 {
		t.Fatalf("found %v", hits)
	}

	for _, who := range []string{"lena", "carol"} {
		if a := n.send(who, "POST", "/v1/people/quetzal/anonymize", nil); a.status != 403 && a.status != 404 {
			t.Errorf("%s may anonymise: %d", who, a.status)
		}
	}
	if a := n.send("root", "POST", "/v1/people/root/anonymize", nil); a.status != 409 {
		t.Errorf("oneself: %d %s", a.status, a.body)
	}
	if a := n.send("root", "POST", "/v1/people/nobody/anonymize", nil); a.status != 404 {
		t.Errorf("nobody: %d %s", a.status, a.body)
	}
	out := call[wire.Anonymized](n.world, "root", "POST", "/v1/people/quetzal/anonymize", nil)
	if !out.Cleared || out.Tokens != 1 || out.Grants != 1 || out.Assignments != 1 || out.About != 8 || !strings.HasPrefix(out.Pseudonym, "anon-") {
		t.Errorf("%+v", out)
	}

	if hits := catalog(); len(hits) != 0 {
		t.Errorf("the catalog's files still have %v", hits)
	}
	if hits := found(t, nil, n.data); len(hits) != 0 {
		t.Errorf("keys or objects have %v", hits)
	}
	if hits := slices.ContainsFunc(traces, func(s string) bool { return strings.Contains(n.logs.String(), s) }); hits {
		t.Errorf("the server's log has some of %v", traces)
	}
	after, records := n.shown()
	for _, path := range []string{"/v1/people", "/v1/grants?scope=acme", "/v1/assignments?scope=acme", "/v1/agreements"} {
		after += string(n.send("root", "GET", path, nil).body)
	}
	if !strings.Contains(after, "quetzalli") || !strings.Contains(after, "(removed: ") {
		t.Error("other people's reasons are not as they should be")
	}
	after = strings.ReplaceAll(strings.ToLower(after), "quetzalli", "")
	for _, trace := range traces {
		if strings.Contains(after, strings.ToLower(trace)) {
			t.Errorf("the server still says %s", trace)
		}
	}
	n.verifies(in)

	// The log shows one pseudonym in one dataset, whatever was done.
	pseudonyms := map[string]int{}
	for _, r := range records {
		if r.Object == "acme/signs/one/0" && r.Kind == "read" {
			pseudonyms[r.Actor]++
		}
		if r.Kind == "anonymize" && (r.Object != out.Pseudonym || r.Actor != "root") {
			t.Errorf("the record of it: %+v", r)
		}
	}
	delete(pseudonyms, "lena")
	if len(pseudonyms) != 1 {
		t.Errorf("pseudonyms in one dataset: %v", pseudonyms)
	}
	for name, n := range pseudonyms {
		if !strings.HasPrefix(name, "~") || n != 3 {
			t.Errorf("%s read %d times", name, n)
		}
	}
	if a := n.asQuetzal("GET", "/v1/whoami", nil); a.status != 401 {
		t.Errorf("the token still holds: %d", a.status)
	}
	// Again is harmless; the handle is free for somebody else.
	if again := call[wire.Anonymized](n.world, "root", "POST", "/v1/people/"+out.Pseudonym+"/anonymize", nil); !again.Cleared || again.Pseudonym != out.Pseudonym {
		t.Errorf("%+v", again)
	}
	call[wire.NewToken](n.world, "root", "POST", "/v1/people", wire.NewPerson{Handle: "quetzal"})
}
