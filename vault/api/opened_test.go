package api_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"dsvault/vault/api"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

const openRoute = dataRoute + "/shards/:n/open"

// noise is n bytes that are the same every time and never repeat themselves.
func noise(n int) []byte {
	b := make([]byte, n)
	chacha := rand.NewChaCha8([32]byte{7})
	_, _ = chacha.Read(b)
	return b
}

// opens lets acme/signs be delivered opened, with a dataset of one file.
func (w *world) opens(ds, name string, data []byte) string {
	w.t.Helper()
	call[wire.Entry](w, "carol", "PATCH", "/v1/projects/acme/signs", wire.ProjectUpdate{Delivery: &[]dataset.Delivery{dataset.Opened}})
	d := call[wire.Dataset](w, "carol", "PUT", "/v1/datasets/acme/signs/"+ds+"/file", bytes.NewReader(data), wire.HeaderName, name)
	call[wire.Assignment](w, "root", "POST", "/v1/assignments",
		wire.Assignment{Dataset: d.Scope, Person: "lena", Shards: dataset.ShardSet{{First: 0, Last: 0}}})
	return "/v1/datasets/acme/signs/" + ds + "/shards/0/open"
}

func TestOpened(t *testing.T) {
	w := newWorld(t, api.Options{})
	w.populate(10)
	data := noise(200_000)
	path := w.opens("clip", "stop%20sign.mp4", data)
	a := w.send("lena", "GET", path, nil)
	etag := a.header.Get("ETag")
	if a.status != 200 || !bytes.Equal(a.body, data) || len(etag) != 24 || etag[0] != '"' {
		t.Fatalf("%d %v, %d bytes", a.status, a.header, len(a.body))
	}
	for name, want := range map[string]string{
		"Content-Type": "video/mp4", "Content-Length": "200000", "Accept-Ranges": "bytes", "Cache-Control": "no-store",
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
		"Content-Disposition": `inline; filename="stop sign.mp4"`,
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s: %s, not %s", name, got, want)
		}
	}
	if csp := a.header.Get("Content-Security-Policy"); !strings.Contains(csp, "sandbox;") || !strings.Contains(csp, "default-src 'none'") {
		t.Errorf("the policy for browsers is %s", csp)
	}
	if again := w.send("lena", "GET", path, nil); again.header.Get("ETag") != etag {
		t.Error("the ETag has changed")
	}
	if other := w.send("carol", "GET", w.opens("other", "x", data), nil); other.header.Get("ETag") == etag {
		t.Error("another object has the same ETag")
	}

	// Go's own file server is the oracle for what it does alike.
	oracle := func(method string, header []string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, "/", nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		rec := httptest.NewRecorder()
		rec.Header().Set("ETag", etag)
		rec.Header().Set("Content-Type", "video/mp4")
		http.ServeContent(rec, r, "", time.Time{}, bytes.NewReader(data))
		return rec
	}
	reads := 0
	for _, header := range [][]string{
		{}, {"Range", "bytes=0-"}, {"Range", "bytes=0-0"}, {"Range", "bytes=65535-65536"}, {"Range", "bytes=199999-"},
		{"Range", "bytes=-1"}, {"Range", "bytes=-199999"}, {"Range", "bytes=-999999"}, {"Range", "bytes=100-999999999"},
		{"Range", "bytes=200000-"}, {"Range", "bytes=300000-400000"},
		{"Range", "bytes=0-9", "If-Range", etag}, {"Range", "bytes=0-9", "If-Range", `"other"`}, {"Range", "bytes=0-9", "If-Range", "W/" + etag},
		{"Range", "bytes=0-9", "If-Range", "Wed, 21 Oct 2015 07:28:00 GMT"},
		{"If-None-Match", etag}, {"If-None-Match", "W/" + etag}, {"If-None-Match", `"x", ` + etag}, {"If-None-Match", "*"},
		{"If-None-Match", `"x"`}, {"If-None-Match", "x"}, {"If-Match", etag}, {"If-Match", "*"}, {"If-Match", `"x"`}, {"If-Match", "W/" + etag},
		{"If-Match", etag, "If-None-Match", etag}, {"If-Modified-Since", "Wed, 21 Oct 2015 07:28:00 GMT"},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			if method == "HEAD" && len(header) > 0 && header[0] == "Range" {
				continue // Go's applies it to HEAD too
			}
			got, want := w.send("lena", method, path, nil, header...), oracle(method, header)
			reads++
			body := want.Body.Bytes()
			if want.Code >= 400 {
				body = got.body // of an error is ours
			}
			if got.status != want.Code || got.header.Get("Content-Range") != want.Header().Get("Content-Range") || !bytes.Equal(got.body, body) ||
				want.Code < 300 && got.header.Get("Content-Length") != want.Header().Get("Content-Length") || got.header.Get("ETag") != etag {
				t.Errorf("%s %q: %d %v, %d bytes; Go says %d %v, %d bytes", method, header, got.status, got.header, len(got.body), want.Code, want.Header(), len(body))
			}
			if got.status >= 400 && method == "GET" {
				if p := got.problem(t); p.Code != fault.Invalid || p.Hint == "" {
					t.Errorf("%+v", p)
				}
			}
		}
	}
	// Each of these is one read in the log, with the bytes that it sent.
	opened := 0
	for _, r := range call[wire.Page[wire.Record]](w, "root", "GET", "/v1/log?under=acme/signs/clip&actor=lena", nil).Items {
		if r.Kind == "read" && r.Detail["delivery"] == "opened" && r.Detail["max-bytes"] != "" {
			opened++
		}
	}
	if opened != reads+2 {
		t.Errorf("%d reads are in the log, %d were made", opened, reads+2)
	}
}

// What Go's file server does otherwise, or not at all.
func TestOpenedRanges(t *testing.T) {
	w := newWorld(t, api.Options{})
	w.populate(10)
	data := noise(6 << 20)
	path := w.opens("large", "large.bin", data)
	size := int64(len(data))
	a := w.send("lena", "HEAD", path, nil, "Range", "bytes=0-9")
	if a.status != 200 || a.header.Get("Content-Length") != fmt.Sprint(size) || a.header.Get("Content-Range") != "" || len(a.body) != 0 {
		t.Errorf("HEAD with a range: %d %v", a.status, a.header)
	}
	for header, status := range map[string]int{
		"lines=0-9": 200, "bytes 0-9": 200, "": 200, // no unit that we know
		"bytes": 416, "bytes=5-4": 416, "bytes=a-b": 416, "bytes=--5": 416, "bytes=+1-5": 416, "bytes=1-+5": 416,
		"bytes=0x1-2": 416, "bytes=5": 416, "bytes=-": 416, "bytes=1-2-3": 416,
		"BYTES=0-9": 206, "bytes=0-9,": 206, "bytes=,0-9": 206, "bytes= 0-9 , 20-29": 206,
		"bytes=": 416, "bytes=,": 416, "bytes=-0": 416, "bytes=0-9,x": 416, "bytes=0-9,9-8": 416,
		"bytes=99999999999999999999-": 416, "bytes=0-99999999999999999999": 206, "bytes=-99999999999999999999": 206,
		"bytes=0-0,2000000-2000000,4000000-4000000":                 206, // three places
		"bytes=0-0,1500000-1500000,3000000-3000000,-1":              416, // four
		"bytes=0-0" + strings.Repeat(",0-0", 15):                    206,
		"bytes=0-0" + strings.Repeat(",0-0", 16):                    416,
		"bytes=0-" + strings.Repeat(",0-", 5000):                    416,
		"bytes=0-" + strings.Repeat(",0-", 15):                      206, // all of it, once
		"bytes=" + strings.Repeat("9", 5000) + "-":                  416,
		"bytes=0-9,6291456-":                                        206, // one of two can be had
		"bytes=6291456-,6291457-":                                   416,
		"bytes=0-9\t,\t10-19":                                       206,
		"bytes=1-2,4-5,7-8,10-11,13-14,16-17,19-20,22-23,25-26":     206,
		"bytes=25-26,22-23,19-20,16-17,13-14,10-11,7-8,4-5,1-2,0-0": 206,
	} {
		a := w.send("lena", "GET", path, nil, "Range", header)
		if a.status != status || a.header.Get("Content-Length") != fmt.Sprint(len(a.body)) {
			t.Errorf("%.60q: %d %v, %d bytes", header, a.status, a.header, len(a.body))
		}
		if a.status == 416 && a.header.Get("Content-Range") != fmt.Sprintf("bytes */%d", size) {
			t.Errorf("%.60q: %v", header, a.header)
		}
		if a.status == 206 {
			checkParts(t, a, data)
		}
	}
	req := w.request("lena", "GET", path, nil)
	req.Header["Range"] = []string{"bytes=0-9", "bytes=20-29"}
	resp := must(w.client.Do(req))(t)
	resp.Body.Close()
	if resp.StatusCode != 416 {
		t.Errorf("two headers: %d", resp.StatusCode)
	}
	// Any ranges at all give either right bytes or a refusal.
	random := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		var specs []string
		for range 1 + random.IntN(6) {
			start := random.Int64N(size + size/8)
			if random.IntN(2) == 0 {
				start = random.Int64N(200_000)
			}
			specs = append(specs, fmt.Sprintf("%d-%d", start, start+random.Int64N(90_000)))
		}
		a := w.send("lena", "GET", path, nil, "Range", "bytes="+strings.Join(specs, ", "))
		switch {
		case a.status == 206:
			checkParts(t, a, data)
		case a.status != 416:
			t.Errorf("%q: %d", specs, a.status)
		}
	}
	empty := w.opens("empty", "empty.txt", nil)
	for _, header := range []string{"bytes=0-", "bytes=-5", "bytes=1-2"} {
		if a := w.send("lena", "GET", empty, nil, "Range", header); a.status != 200 || len(a.body) != 0 || a.header.Get("Content-Length") != "0" {
			t.Errorf("an empty file, %s: %d %v", header, a.status, a.header)
		}
	}
}

// checkParts holds a 206 against the data.
func checkParts(t *testing.T, a answer, data []byte) {
	t.Helper()
	check := func(header string, body []byte) {
		var first, last, size int
		if n, err := fmt.Sscanf(header, "bytes %d-%d/%d", &first, &last, &size); n != 3 || err != nil || size != len(data) || !bytes.Equal(body, data[first:last+1]) {
			t.Errorf("%s: other bytes", header)
		}
	}
	kind, params, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil || kind != "multipart/byteranges" {
		check(a.header.Get("Content-Range"), a.body)
		return
	}
	if a.header.Get("Content-Range") != "" {
		t.Error("Content-Range beside several parts")
	}
	parts := multipart.NewReader(bytes.NewReader(a.body), params["boundary"])
	n := 0
	for ; ; n++ {
		part, err := parts.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if part.Header.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("%v", part.Header)
		}
		check(part.Header.Get("Content-Range"), must(io.ReadAll(part))(t))
	}
	if n < 2 {
		t.Errorf("%d parts", n)
	}
}

// Whatever a client has pushed, a browser runs nothing of it.
func TestOpenedTypes(t *testing.T) {
	w := newWorld(t, api.Options{})
	w.populate(10)
	for i, c := range []struct{ name, kind, disposition string }{
		{"page.html", "application/octet-stream", `attachment; filename="page.html"`},
		{"image.svg", "application/octet-stream", `attachment; filename="image.svg"`},
		{"code.js", "application/octet-stream", `attachment; filename="code.js"`},
		{"feed.xml", "application/octet-stream", `attachment; filename="feed.xml"`},
		{"noending", "application/octet-stream", `attachment; filename="noending"`},
		{"notes.TXT", "text/plain; charset=utf-8", `inline; filename="notes.TXT"`},
		{"a.pdf", "application/pdf", `attachment; filename="a.pdf"`},
		{"ü%22%0d%0aX: y%3b.png", "", ""},
		{"stra%C3%9Fe %22x%22%3B%25.png", "image/png", `inline; filename="stra_e _x___.png"; filename*=UTF-8''stra%C3%9Fe%20%22x%22%3B%25.png`},
		{strings.Repeat("n", 230) + ".png", "image/png", `inline; filename="` + strings.Repeat("n", 196) + `.png"; filename*=UTF-8''` + strings.Repeat("n", 196) + ".png"},
	} {
		if c.kind == "" { // refused at the door already
			a := w.send("carol", "PUT", "/v1/datasets/acme/signs/bad/file", strings.NewReader("x"), wire.HeaderName, c.name)
			if a.status != 400 {
				t.Errorf("%q: %d", c.name, a.status)
			}
			continue
		}
		a := w.send("lena", "GET", w.opens("t"+strconv.Itoa(i), c.name, []byte("<script>alert(1)</script>")), nil)
		if a.status != 200 || a.header.Get("Content-Type") != c.kind || a.header.Get("Content-Disposition") != c.disposition {
			t.Errorf("%s: %d %s; %s", c.name, a.status, a.header.Get("Content-Type"), a.header.Get("Content-Disposition"))
		}
	}
}

// No name breaks out of the header, or looks in it like another.
func TestDisposition(t *testing.T) {
	for name, want := range map[string]string{
		"a\u202egnp.exe": `attachment; filename="a_gnp.exe"`,
		"a\r\nX: y":      `attachment; filename="a__X: y"`,
		`a"b\c`:          `attachment; filename="a_b_c"; filename*=UTF-8''a%22b_c`,
		"a\xff":          `attachment; filename="a_"`,
		"../../etc/x":    `attachment; filename="x"`,
		"日本.txt":         `attachment; filename="__.txt"; filename*=UTF-8''%E6%97%A5%E6%9C%AC.txt`,
	} {
		if got := api.Disposition(name, false); got != want {
			t.Errorf("%q: %s", name, got)
		}
	}
	if got := api.Disposition(strings.Repeat("ü", 300), true); len(got) > 1000 || strings.Contains(got, "%C3'") || strings.HasSuffix(got, "%C3") {
		t.Errorf("a long name gives %s", got)
	}
}

// Opened data takes TLS, as a plain upload does.
func TestOpenedNeedsTLS(t *testing.T) {
	var handler http.Handler
	w := newWorld(t, api.Options{}, func(h http.Handler, _ *server) { handler = h })
	w.populate(10)
	path := w.opens("clip", "a.txt", []byte("hello"))
	for address, status := range map[string]int{"192.0.2.1:1234": 400, "127.0.0.1:1234": 400} { // the recorder has no address of its own
		req := w.request("lena", "GET", path, nil)
		req.RemoteAddr = address
		rec := httptest.NewRecorder()
		handler.ServeHTTP(rec, req)
		if rec.Code != status || !strings.Contains(rec.Body.String(), "TLS") {
			t.Errorf("%s: %d %s", address, rec.Code, rec.Body)
		}
	}
}

func TestOpenedHTTP2(t *testing.T) {
	w := newWorld(t, api.Options{}, func(_ http.Handler, s *server) {
		s.EnableHTTP2 = true
		s.StartTLS()
	})
	w.populate(10)
	data := noise(300_000)
	path := w.opens("clip", "a.bin", data)
	for _, header := range []string{"bytes=70000-", "bytes=0-9,200000-200009"} {
		resp := w.open("lena", "GET", path, nil, "Range", header)
		body := must(io.ReadAll(resp.Body))(t)
		resp.Body.Close()
		if resp.ProtoMajor != 2 || resp.StatusCode != 206 {
			t.Fatalf("%s %d", resp.Proto, resp.StatusCode)
		}
		checkParts(t, answer{resp.StatusCode, resp.Header, body}, data)
	}
	if a := w.send("lena", "HEAD", path, nil); a.status != 200 || a.header.Get("Content-Length") != "300000" {
		t.Errorf("%d %v", a.status, a.header)
	}
	// A stream that is cut does not look whole.
	resp := w.open("lena", "GET", w.opens("long", "b.bin", noise(large)), nil)
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	call[wire.Revoked](w, "root", "DELETE", "/v1/people/lena", nil)
	w.logs.await(t, aborted(openRoute))
	if _, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Error("an answer that was cut off looks whole")
	}
}

// A stream is cut when it is not allowed any more, and the log knows what was sent.
func TestOpenedIsCut(t *testing.T) {
	w := newWorld(t, api.Options{})
	w.populate(10)
	path := w.opens("clip", "a.bin", noise(large))
	known := map[any]bool{}
	for _, header := range []string{"", "bytes=0-20000000", "bytes=0-9,1000-20000000"} {
		req := w.request("lena", "GET", path, nil)
		if header != "" {
			req.Header.Set("Range", header)
		}
		resp := must(w.smallWindow().Do(req))(t)
		defer resp.Body.Close()
		if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil || resp.StatusCode >= 300 {
			t.Fatal(resp.StatusCode, err)
		}
		call[wire.Entry](w, "carol", "PATCH", "/v1/projects/acme/signs", wire.ProjectUpdate{Delivery: &[]dataset.Delivery{}})
		w.logs.await(t, func(line map[string]any) bool {
			seen := aborted(openRoute)(line) && !known[line["request"]]
			known[line["request"]] = known[line["request"]] || seen
			return seen
		})
		call[wire.Entry](w, "carol", "PATCH", "/v1/projects/acme/signs", wire.ProjectUpdate{Delivery: &[]dataset.Delivery{dataset.Opened}})
	}
	page := call[wire.Page[wire.Record]](w, "root", "GET", "/v1/log?under=acme/signs/clip", nil)
	cut := 0
	for _, r := range page.Items {
		if sent, _ := strconv.Atoi(r.Detail["bytes-sent"]); r.Detail["cause"] == "revoked" && sent > 0 && sent < large {
			cut++
		}
	}
	if cut != 3 {
		t.Errorf("the log has %d reads that were cut", cut)
	}
}

// command runs a client that has to be installed, and gives its exit status.
func command(t *testing.T, name string, args ...string) (int, string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("DSVAULT_TEST_REQUIRE") != "" {
			t.Fatal(name + " is not installed")
		}
		t.Skip(name + " is not installed")
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "no_proxy=*")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// Interrupted downloads go on where they stopped, and a whole one is left alone.
func TestOpenedResumes(t *testing.T) {
	w := newWorld(t, api.Options{})
	w.populate(10)
	data := noise(3_000_000)
	path := w.opens("clip", "a.bin", data)
	url := w.server.URL + path
	secret := filepath.Join(t.TempDir(), "secret")
	header := "Authorization: Bearer " + w.tokens["lena"]
	for name, resume := range map[string]func(t *testing.T, out string) (int, string){
		"curl": func(t *testing.T, out string) (int, string) {
			if err := os.WriteFile(secret, []byte("header = \""+header+"\"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			// With -f, curl of before 8 takes it for a failure that nothing is left to fetch.
			return command(t, "curl", "-sS", "--noproxy", "*", "-K", secret, "-C", "-", "-o", out, url)
		},
		"wget": func(t *testing.T, out string) (int, string) {
			return command(t, "wget", "-nv", "--no-proxy", "--header", header, "-c", "-O", out, url)
		},
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			for _, there := range []int{0, 1_000_000, len(data) - 1, len(data)} {
				if err := os.WriteFile(out, data[:there], 0o600); err != nil {
					t.Fatal(err)
				}
				code, msg := resume(t, out)
				if code != 0 {
					t.Errorf("from byte %d: exit status %d: %s", there, code, msg)
				}
				if got := must(os.ReadFile(out))(t); !bytes.Equal(got, data) {
					t.Errorf("from byte %d: %d bytes, or others", there, len(got))
				}
			}
		})
	}
}
