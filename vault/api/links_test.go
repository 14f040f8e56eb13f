package api_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dsvault/vault/api"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

const linkedRoute = "/v1/linked/:secret"

func (w *world) link(who, shard string) wire.Link {
	w.t.Helper()
	return call[wire.Link](w, who, "POST", "/v1/links", wire.NewLink{Shard: shard})
}

func TestLinks(t *testing.T) {
	w := newWorld(t, api.Options{})
	w.populate(10)
	data := noise(200_000)
	w.opens("clip", "clip.webm", data)
	l := w.link("lena", "acme/signs/clip/0")
	path := wire.LinkPath + l.Secret
	a := w.send("", "GET", path, nil)
	if a.status != 200 || !bytes.Equal(a.body, data) || a.header.Get("Content-Type") != "video/webm" || a.header.Get("Referrer-Policy") != "no-referrer" ||
		a.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v", a.status, a.header)
	}
	if a := w.send("", "HEAD", path, nil); a.status != 200 || a.header.Get("Content-Length") != "200000" {
		t.Errorf("HEAD: %d %v", a.status, a.header)
	}
	if a := w.send("", "GET", path, nil, "Range", "bytes=100-199", "If-Range", a.header.Get("ETag")); a.status != 206 || !bytes.Equal(a.body, data[100:200]) {
		t.Errorf("a range: %d %v", a.status, a.header)
	}
	if a := w.send("", "GET", path+"?x=1", nil); a.status != 400 {
		t.Errorf("an unknown parameter: %d", a.status)
	}
	if page := call[wire.Page[wire.Link]](w, "lena", "GET", "/v1/links?limit=1", nil); len(page.Items) != 1 || page.Items[0].ID != l.ID || page.Items[0].Secret != "" {
		t.Errorf("%+v", page)
	}
	absent := w.send("", "GET", wire.LinkPath+"dsl_nothing", nil)
	if absent.status != 404 {
		t.Errorf("%d %s", absent.status, absent.body)
	}
	same := func(what string, a answer) {
		t.Helper()
		if a.neutral(t) != absent.neutral(t) {
			t.Errorf("%s can be told from a link that never was:\n%s\n%s", what, a.neutral(t), absent.neutral(t))
		}
	}
	same("a token", w.send("", "GET", wire.LinkPath+w.tokens["lena"], nil))
	same("an ID", w.send("", "GET", wire.LinkPath+l.ID.String(), nil))
	call[wire.Revoked](w, "root", "DELETE", "/v1/assignments?dataset=acme/signs/clip&person=lena", nil)
	same("an owner who may not read", w.send("", "GET", path, nil))
	if a := w.send("sam", "DELETE", "/v1/links/"+l.ID.String(), nil); a.status != 404 {
		t.Errorf("somebody else's link: %d", a.status)
	}
	if out := call[wire.Revoked](w, "lena", "DELETE", "/v1/links/"+l.ID.String(), nil); out.Ended != 1 {
		t.Errorf("%+v", out)
	}
	same("an ended link", w.send("", "GET", path, nil))
	// The secret is nowhere in the server's log, whatever happened with it.
	if text := w.logs.String(); strings.Contains(text, l.Secret) || strings.Contains(text, "dsl_") || !strings.Contains(text, linkedRoute) {
		t.Error("the server's log has the secret of a link, or not its route")
	}
}

// Guessing is held up, a good link never is.
func TestLinkGuessing(t *testing.T) {
	now := time.Now()
	w := newWorld(t, api.Options{AuthFailures: 3, AuthRefill: 0.001, Now: func() time.Time { return now }})
	w.populate(10)
	w.opens("clip", "a.txt", []byte("hello"))
	l := w.link("lena", "acme/signs/clip/0")
	for i := range 3 {
		if a := w.send("", "GET", fmt.Sprint(wire.LinkPath, "dsl_", i), nil); a.status != 404 {
			t.Errorf("guess %d: %d", i, a.status)
		}
	}
	a := w.send("", "GET", wire.LinkPath+"dsl_x", nil)
	if a.status != 429 || a.header.Get("Retry-After") == "" || a.problem(t).Code != fault.Busy {
		t.Errorf("one guess too many: %d %v", a.status, a.header)
	}
	if a := w.send("", "GET", wire.LinkPath+l.Secret, nil); a.status != 200 {
		t.Errorf("a good link: %d", a.status)
	}
	w.tokens["wrong"] = "dsv_x"
	if a := w.send("wrong", "GET", "/v1/whoami", nil); a.status != 429 {
		t.Errorf("guesses of links and of tokens are counted apart: %d", a.status)
	}
}

func TestLinkNeedsTLS(t *testing.T) {
	var handler http.Handler
	w := newWorld(t, api.Options{}, func(h http.Handler, _ *server) { handler = h })
	w.populate(10)
	w.opens("clip", "a.txt", []byte("hello"))
	req := w.request("", "GET", wire.LinkPath+w.link("lena", "acme/signs/clip/0").Secret, nil)
	req.RemoteAddr = "192.0.2.1:1234"
	rec := httptest.NewRecorder()
	handler.ServeHTTP(rec, req)
	if rec.Code != 400 || !strings.Contains(rec.Body.String(), "TLS") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

// Ordinary tools follow a link, and go on where they stopped.
func TestLinkWithTools(t *testing.T) {
	w := newWorld(t, api.Options{})
	w.populate(10)
	data := noise(3_000_000)
	w.opens("clip", "the%20clip.mp4", data)
	url := w.server.URL + wire.LinkPath + w.link("lena", "acme/signs/clip/0").Secret
	t.Run("curl", func(t *testing.T) {
		dir := t.TempDir()
		code, msg := command(t, "curl", "-sSf", "--noproxy", "*", "-OJ", "--output-dir", dir, url)
		if got, err := os.ReadFile(filepath.Join(dir, "the clip.mp4")); code != 0 || err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d %s: %v, %d bytes", code, msg, err, len(got))
		}
	})
	t.Run("wget", func(t *testing.T) {
		out := filepath.Join(t.TempDir(), "out")
		if err := os.WriteFile(out, data[:1_000_001], 0o600); err != nil {
			t.Fatal(err)
		}
		code, msg := command(t, "wget", "-nv", "--no-proxy", "-c", "-O", out, url)
		if got := must(os.ReadFile(out))(t); code != 0 || !bytes.Equal(got, data) {
			t.Errorf("%d %s: %d bytes", code, msg, len(got))
		}
	})
}

// The uses of a link are requests of its owner.
func TestLinkRate(t *testing.T) {
	var now atomic.Int64
	now.Store(time.Now().UnixNano())
	w := newWorld(t, api.Options{Requests: 1, RequestBurst: 40, Now: func() time.Time { return time.Unix(0, now.Load()) }})
	w.populate(10)
	w.opens("clip", "a.txt", []byte("hello"))
	l := w.link("lena", "acme/signs/clip/0")
	statuses := map[int]int{}
	for range 60 {
		a := w.send("", "HEAD", wire.LinkPath+l.Secret, nil)
		statuses[a.status]++
		if a.status == 429 && a.header.Get("Retry-After") == "" {
			t.Errorf("%v", a.header)
		}
	}
	if statuses[200] == 0 || statuses[429] < 20 || statuses[200]+statuses[429] != 60 {
		t.Errorf("%v", statuses)
	}
	now.Add(int64(5 * time.Second))
	if a := w.send("", "GET", wire.LinkPath+l.Secret, nil); a.status != 200 {
		t.Errorf("later: %d", a.status)
	}
}

// A link is one of its owner's transfers.
func TestLinkStreamLimit(t *testing.T) {
	w := newWorld(t, api.Options{StreamsEach: 1})
	w.populate(large)
	call[wire.Entry](w, "carol", "PATCH", "/v1/projects/acme/signs", wire.ProjectUpdate{Delivery: &[]dataset.Delivery{dataset.Opened}})
	l := w.link("lena", "acme/signs/one/0")
	w.startRead(t.Context())
	a := w.send("", "GET", wire.LinkPath+l.Secret, nil)
	if a.status != 429 || a.header.Get("Retry-After") == "" {
		t.Errorf("%d %v", a.status, a.header)
	}
}
