package api_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dsvault/vault/api"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// large is more than the kernel's buffers hold between a server and a client
// that does not read.
const large = 24 << 20

// startRead begins a read as lena, over a connection with small buffers, and
// returns when its head and first byte are there.
func (w *world) startRead(ctx context.Context) *http.Response {
	w.t.Helper()
	req := w.request("lena", "GET", onePath, nil, wire.HeaderDevice, w.devices["lena"].String()).WithContext(ctx)
	resp := must(w.smallWindow().Do(req))(w.t)
	w.t.Cleanup(func() { resp.Body.Close() })
	if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil || resp.StatusCode != 200 {
		w.t.Fatal(resp.StatusCode, err)
	}
	return resp
}

func (w *world) wantEnd(cause string) {
	w.t.Helper()
	end := w.readEnd()
	sent, err := strconv.ParseInt(end["bytes-sent"], 10, 64)
	if err != nil || end["cause"] != cause || sent <= 0 || sent >= large {
		w.t.Errorf("the log says %v, want %s", end, cause)
	}
}

func TestReaderDisconnects(t *testing.T) {
	w := newWorld(t, api.Options{})
	w.populate(large)
	ctx, leave := context.WithCancel(t.Context())
	w.startRead(ctx)
	leave()
	w.logs.await(t, aborted(sealedRoute))
	w.wantEnd("client-gone")
}

func TestReaderStalls(t *testing.T) {
	w := newWorld(t, api.Options{})
	w.populate(large)
	w.serve(api.Options{Idle: 200 * time.Millisecond})
	w.startRead(t.Context())
	line := w.logs.await(t, aborted(sealedRoute)) // nobody reads meanwhile
	w.wantEnd("client-gone")
	if line["code"] != string(fault.Canceled) || line["level"] != "INFO" {
		t.Errorf("a reader who stalls looks like a failure of ours: %v", line)
	}
	w.wantNoAddress()
}

// wantNoAddress asserts that the log does not say where requests came from.
func (w *world) wantNoAddress() {
	w.t.Helper()
	if text := w.logs.String(); strings.Contains(text, "127.0.0.1") {
		w.t.Errorf("an address is in the log:\n%s", text)
	}
}

func TestRevokedWhileReading(t *testing.T) {
	w := newWorld(t, api.Options{})
	w.populate(large)
	w.startRead(t.Context())
	call[wire.Revoked](w, "root", "DELETE", "/v1/grants?role=labeler&person=lena&scope=acme/signs", nil)
	w.logs.await(t, aborted(sealedRoute)) // though the server's Write was blocked
	w.wantEnd("revoked")
}

// raw opens a connection and writes the head of an upload by carol.
func (w *world) raw(path string, header ...string) net.Conn {
	w.t.Helper()
	conn := must(net.Dial("tcp", w.server.Listener.Addr().String()))(w.t)
	w.t.Cleanup(func() { conn.Close() })
	head := "PUT " + path + " HTTP/1.1\r\nHost: vault\r\nAuthorization: Bearer " + w.tokens["carol"] + "\r\n" +
		strings.Join(header, "\r\n") + "\r\n\r\n"
	if _, err := io.WriteString(conn, head); err != nil {
		w.t.Fatal(err)
	}
	return conn
}

const fileRoute = dataRoute + "/file"

func TestUploadIsCutOff(t *testing.T) {
	w := newWorld(t, api.Options{})
	w.populate(100)
	conn := w.raw("/v1/datasets/acme/signs/cut/file", "Content-Length: 100000")
	if _, err := conn.Write(make([]byte, 50_000)); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	line := w.logs.await(t, func(line map[string]any) bool { return line["route"] == fileRoute && line["code"] != nil })
	if line["code"] != string(fault.Canceled) {
		t.Errorf("%v", line)
	}
	// Nothing of it counts, and the same name is free for the next try.
	if d := call[wire.Dataset](w, "carol", "GET", "/v1/datasets/acme/signs/cut", nil); d.Shards != 0 || d.Complete {
		t.Errorf("%+v", d)
	}
	d := call[wire.Dataset](w, "carol", "PUT", "/v1/datasets/acme/signs/cut/file", strings.NewReader("whole"))
	if d.Size != 5 || !d.Complete {
		t.Errorf("%+v", d)
	}
}

func TestSealedUploadIsCutOff(t *testing.T) {
	w := newWorld(t, api.Options{})
	w.populate(100)
	d := call[wire.Dataset](w, "carol", "PUT", "/v1/datasets/acme/signs/two", nil)
	plain := make([]byte, 200_000)
	sealed, manifest := sealedShard(t, d.Recipient, 0, plain)
	sum, fingerprint := sha256.Sum256(sealed), sha256.Sum256(plain)
	base := "/v1/datasets/acme/signs/two"
	up := call[wire.Upload](w, "carol", "POST", base+"/shards/0/uploads", wire.NewUpload{Fingerprint: fingerprint[:], Size: int64(len(plain))})
	path := base + "/uploads/" + up.Attempt.String()
	conn := w.raw(path, fmt.Sprintf("Content-Length: %d", len(sealed)))
	if _, err := conn.Write(sealed[:len(sealed)/2]); err != nil {
		t.Fatal(err)
	}
	conn.(*net.TCPConn).CloseWrite()
	resp := must(http.ReadResponse(bufio.NewReader(conn), nil))(t)
	if resp.StatusCode < 400 {
		t.Errorf("half of a shard was taken: %d", resp.StatusCode)
	}
	if a := w.send("carol", "POST", path+"/commit", wire.Commit{SHA256: sum[:], Manifest: manifest}); a.status != 409 {
		t.Errorf("%d %s", a.status, a.body)
	}
	// The attempt is spent; the next one starts from the beginning.
	if a := w.send("carol", "PUT", path, bytes.NewReader(sealed)); a.status != 409 {
		t.Errorf("%d %s", a.status, a.body)
	}
	up = call[wire.Upload](w, "carol", "POST", base+"/shards/0/uploads", wire.NewUpload{Fingerprint: fingerprint[:], Size: int64(len(plain))})
	path = base + "/uploads/" + up.Attempt.String()
	call[wire.Stored](w, "carol", "PUT", path, bytes.NewReader(sealed))
	call[wire.Shard](w, "carol", "POST", path+"/commit", wire.Commit{SHA256: sum[:], Manifest: manifest})
}

// TestSenderStalls: whoever sends nothing, or a byte now and then, ends.
func TestSenderStalls(t *testing.T) {
	for _, trickle := range []bool{false, true} {
		t.Run(fmt.Sprint("trickle ", trickle), func(t *testing.T) {
			w := newWorld(t, api.Options{})
			w.populate(100)
			w.serve(api.Options{Idle: 200 * time.Millisecond})
			conn := w.raw("/v1/datasets/acme/signs/slow/file", "Content-Length: 1000000")
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				tick := time.NewTicker(20 * time.Millisecond)
				defer tick.Stop()
				for trickle {
					select {
					case <-tick.C:
						_, _ = conn.Write([]byte("x"))
					case <-stop:
						return
					}
				}
			}()
			resp := must(http.ReadResponse(bufio.NewReader(conn), nil))(t)
			close(stop)
			<-stopped
			if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
				t.Errorf("%d %v", resp.StatusCode, resp.Header)
			}
			line := w.logs.await(t, func(line map[string]any) bool { return line["route"] == fileRoute && line["code"] != nil })
			if line["code"] != string(fault.Unavailable) {
				t.Errorf("%v", line)
			}
			w.wantNoAddress()
		})
	}
}

// TestSlowerThanIdle sends for longer than the idle limit, with something on its
// way all the time. A machine that leaves the sender itself waiting for long shows
// nothing, and has another try.
func TestSlowerThanIdle(t *testing.T) {
	const idle = time.Second
	w := newWorld(t, api.Options{})
	w.populate(100)
	w.serve(api.Options{Idle: idle})
	for try := range 10 {
		size := int64(200 << 10)
		body := &paced{left: size, step: 10 << 10, every: idle / 15}
		resp, err := w.client.Do(w.request("carol", "PUT", fmt.Sprintf("/v1/datasets/acme/signs/slow-%d/file", try), body))
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if longest := time.Duration(body.longest.Load()); longest < idle/4 {
			t.Fatalf("%+v, %v; at most %s between two pieces", resp, err, longest)
		}
	}
	t.Fatal("this machine is too busy to send every now and then")
}

// paced gives step bytes at a time, one step per tick.
type paced struct {
	left, step int64
	every      time.Duration
	tick       *time.Ticker
	last       time.Time
	longest    atomic.Int64 // nanoseconds between two steps
}

func (p *paced) Read(b []byte) (int, error) {
	if p.tick == nil {
		p.tick = time.NewTicker(p.every)
		p.last = time.Now()
	}
	<-p.tick.C
	now := time.Now()
	p.longest.Store(max(p.longest.Load(), int64(now.Sub(p.last))))
	p.last = now
	n := min(p.left, p.step, int64(len(b)))
	p.left -= n
	if p.left == 0 {
		p.tick.Stop()
		return int(n), io.EOF
	}
	return int(n), nil
}

// curl runs curl with the token in a file that only it reads, and gives its
// exit status and output.
func (w *world) curl(who string, args ...string) (int, string) {
	w.t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		if os.Getenv("DSVAULT_TEST_REQUIRE") == "1" {
			w.t.Fatal("curl is not installed")
		}
		w.t.Skip("curl is not installed")
	}
	config := filepath.Join(w.t.TempDir(), "curl")
	line := fmt.Sprintf("header = \"Authorization: Bearer %s\"\n", w.tokens[who])
	if err := os.WriteFile(config, []byte(line), 0o600); err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command("curl", append([]string{"-sS", "--noproxy", "*", "-K", config}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		w.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

func TestCurl(t *testing.T) {
	w := newWorld(t, api.Options{})
	w.populate(large)
	file := filepath.Join(t.TempDir(), "rows.jsonl")
	if err := os.WriteFile(file, bytes.Repeat([]byte("row\n"), 50_000), 0o600); err != nil {
		t.Fatal(err)
	}
	url := w.server.URL + "/v1/datasets/acme/signs/"
	if code, out := w.curl("carol", "-f", "-T", file, url+"curl/file"); code != 0 || !strings.Contains(out, `"size":200000`) {
		t.Errorf("%d %s", code, out)
	}
	if code, out := w.curl("carol", "-f", "-T", "-", url+"empty/file"); code != 0 { // chunked, from an empty input
		t.Errorf("%d %s", code, out)
	}
	if code, out := w.curl("carol", "-f", "-T", file, url+"curl/file"); code != 0 || !strings.Contains(out, `"version":1,`) {
		t.Errorf("the same file again: %d %s", code, out)
	}
	if code, out := w.curl("carol", "-f", "-T", "/dev/null", url+"curl/file"); code != 0 || !strings.Contains(out, `"version":2,`) {
		t.Errorf("another file under one name: %d %s", code, out)
	}
	out := filepath.Join(t.TempDir(), "out.age")
	device := wire.HeaderDevice + ": " + w.devices["lena"].String()
	if code, msg := w.curl("lena", "-f", "-H", device, "-o", out, url+"one/shards/0/sealed"); code != 0 {
		t.Errorf("%d %s", code, msg)
	}
	// A download that the server ends must not look like success.
	done := make(chan struct{})
	go func() {
		defer close(done)
		code, msg := w.curl("lena", "-f", "--limit-rate", "3M", "-H", device, "-o", out, url+"one/shards/0/sealed")
		if code == 0 {
			t.Errorf("curl takes a cut stream for a whole one: %s", msg)
		}
	}()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for begun := false; !begun; { // until its first bytes are there
		select {
		case <-poll.C:
			info, err := os.Stat(out)
			begun = err == nil && info.Size() > 0 && info.Size() < large
		case <-done:
			t.Fatal("curl has ended already")
		}
	}
	call[wire.Revoked](w, "root", "DELETE", "/v1/people/lena", nil)
	<-done
	w.wantEnd("revoked")
}

func TestStreamLimits(t *testing.T) {
	w := newWorld(t, api.Options{Streams: 2, StreamsEach: 1})
	w.populate(large)
	w.person("luke")
	w.grant(dataset.Labeler, "luke", "acme/signs")
	call[wire.Assignment](w, "root", "POST", "/v1/assignments",
		wire.Assignment{Dataset: w.scope("acme/signs/one"), Person: "luke", Shards: dataset.ShardSet{{First: 0, Last: 0}}})
	busy := func(who, method, path string) bool {
		var body any
		if method == "PUT" {
			body = strings.NewReader("x")
		}
		a := w.send(who, method, path, body, wire.HeaderDevice, w.devices["lena"].String())
		if a.status == 429 && (a.problem(t).Code != fault.Busy || a.header.Get("Retry-After") == "") {
			t.Errorf("%v %s", a.header, a.body)
		}
		return a.status == 429
	}
	ctx, leave := context.WithCancel(t.Context())
	w.startRead(ctx)
	if !busy("lena", "GET", onePath) || !busy("lena", "GET", strings.Replace(onePath, "sealed", "open", 1)) {
		t.Error("a second stream of one person")
	}
	conn := w.raw("/v1/datasets/acme/signs/slow/file", "Content-Length: 5", "Expect: 100-continue")
	reader := bufio.NewReader(conn)
	if line, err := reader.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatal(line, err)
	}
	if !busy("luke", "GET", onePath) {
		t.Error("a third stream")
	}
	if busy("luke", "GET", "/v1/whoami") {
		t.Error("what is no stream has to wait")
	}
	leave()
	w.logs.await(t, aborted(sealedRoute))
	if busy("luke", "GET", onePath) {
		t.Error("a stream that ended still counts")
	}
}

// TestNothingLeaks ends a server after all kinds of requests and looks for
// goroutines of ours.
func TestNothingLeaks(t *testing.T) {
	w := newWorld(t, api.Options{})
	w.populate(large)
	ctx, leave := context.WithCancel(t.Context())
	w.startRead(ctx)
	w.send("lena", "GET", onePath, nil, wire.HeaderDevice, w.devices["lena"].String())
	w.send("lena", "GET", w.opens("clip", "a.bin", noise(100_000)), nil, "Range", "bytes=0-9,50000-70000")
	conn := w.raw("/v1/datasets/acme/signs/cut/file", "Content-Length: 100000")
	_, _ = conn.Write(make([]byte, 5000))
	conn.Close()
	leave()
	w.logs.await(t, aborted(sealedRoute))
	w.logs.await(t, func(line map[string]any) bool {
		return line["route"] == fileRoute && line["code"] == string(fault.Canceled)
	})
	w.client.CloseIdleConnections()
	if err := w.server.Config.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for _, frame := range []string{"vault/api.(", "ShardStream", "OpenedStream", "PutFile"} {
		if bytes.Contains(stacks, []byte(frame)) {
			t.Errorf("a goroutine in %s is left:\n%s", frame, stacks)
		}
	}
}
