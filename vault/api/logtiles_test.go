package api_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"dsvault/vault/api"
	"dsvault/vault/audit"
	"dsvault/vault/wire"
)

// checkpoint reads the published checkpoint as a stranger.
func (w *world) checkpoint(t *testing.T) (size int, root string) {
	t.Helper()
	a := w.send("", "GET", "/log/checkpoint", nil)
	var origin string
	if _, err := fmt.Sscanf(string(a.body), "%s\n%d\n%s\n", &origin, &size, &root); err != nil || a.status != 200 || origin != "dsvault-test" {
		t.Fatalf("%d %q %v", a.status, a.body, err)
	}
	if a.header.Get("Cache-Control") != "no-cache" || a.header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("%v", a.header)
	}
	return size, root
}

// testLogTiles reads the log as strangers and auditors do: the tiles lead to
// the root of the checkpoint, and the entries to the hashes in the tiles.
func (w *world) testLogTiles(t *testing.T) {
	if a := w.send("root", "GET", wire.PathBundle, nil); a.status != 200 { // what was signed covers all of it
		t.Fatal(a.status)
	}
	size, root := w.checkpoint(t)
	if size < 10 || size > 255 {
		t.Fatalf("%d records: the test is made for one tile", size)
	}
	path := fmt.Sprintf("000.p/%d", size)
	a := w.send("", "GET", "/log/tile/0/"+path, nil)
	if a.status != 200 || len(a.body) != 32*size || a.header.Get("Cache-Control") != "public, max-age=31536000, immutable" {
		t.Fatalf("%d %v, %d bytes", a.status, a.header, len(a.body))
	}
	tree := must(audit.NewTree(0, nil))(t)
	for i := range size {
		tree.Append(audit.Hash(a.body[32*i : 32*i+32]))
	}
	if got := tree.Root(); base64.StdEncoding.EncodeToString(got[:]) != root {
		t.Error("the tile does not give the checkpoint's root")
	}
	narrow := w.send("", "GET", "/log/tile/0/000.p/3", nil)
	if !bytes.Equal(narrow.body, a.body[:96]) {
		t.Error("a narrower tile is not the beginning of the tile")
	}
	bundle := w.send("root", "GET", "/log/tile/entries/"+path, nil)
	if bundle.status != 200 || bundle.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v", bundle.status, bundle.header)
	}
	rest := bundle.body
	for i := range size {
		n := int(binary.BigEndian.Uint16(rest))
		leaf := rest[2 : 2+n]
		rest = rest[2+n:]
		if h := tlog.RecordHash(leaf); !bytes.Equal(h[:], a.body[32*i:32*i+32]) {
			t.Fatalf("entry %d has another hash than the tile", i)
		}
	}
	if len(rest) != 0 {
		t.Errorf("%d bytes follow the entries", len(rest))
	}
}

// TestLogTilesRefuse: what is no tile is not there, nor what the checkpoint
// does not cover; and the entries are for those who may read the whole log.
func TestLogTilesRefuse(t *testing.T) {
	w := newWorld(t, api.Options{})
	w.populate(1000)
	size, _ := w.checkpoint(t)
	for _, path := range []string{
		"0/000", "0/001.p/1", "1/000.p/1", fmt.Sprintf("0/000.p/%d", 255), "0/0", "data/000", "-1/000", "8/000", "0/../0/000.p/1",
		"0/000.p/1/", "0/000.p/1//", "x", "",
	} {
		if a := w.send("", "GET", "/log/tile/"+path, nil); a.status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if a := w.send("", "GET", "/log/tile/0/000.p/1?x=1", nil); a.status != http.StatusBadRequest {
		t.Errorf("with a query: %d", a.status)
	}
	entries := fmt.Sprintf("/log/tile/entries/000.p/%d", size)
	for who, status := range map[string]int{"": http.StatusUnauthorized, "carol": http.StatusForbidden, "lena": http.StatusForbidden, "root": 200} {
		if a := w.send(who, "GET", entries, nil); a.status != status {
			t.Errorf("%q reads the entries: %d %s", who, a.status, a.body)
		}
	}
	kinds := map[string]int{}
	for _, r := range call[wire.Page[wire.Record]](w, "root", "GET", "/v1/log", nil).Items {
		kinds[r.Kind+" "+r.Decision]++
	}
	if kinds["log-read allowed"] < 1 || kinds["refused refused"] < 2 {
		t.Errorf("what was looked at is not in the log: %v", kinds)
	}
}
