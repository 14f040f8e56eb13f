//go:build linux

package api_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dsvault/vault/api"
	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

// TestRequestsAreLimited: one principal has so many requests a second, and so
// many at a time; others do not feel it.
func TestRequestsAreLimited(t *testing.T) {
	var now atomic.Int64
	now.Store(time.Now().UnixNano())
	w := newWorld(t, api.Options{Requests: 0.5, RequestBurst: 30, CallsEach: 1, Now: func() time.Time { return time.Unix(0, now.Load()) }})
	w.populate(100)
	limited := 0
	for range 40 {
		a := w.send("lena", "GET", "/v1/whoami", nil)
		switch {
		case a.status == 429 && a.header.Get("Retry-After") == "2":
			limited++
		case a.status != 200 || limited > 0:
			t.Fatalf("%d %v after %d refusals", a.status, a.header, limited)
		}
	}
	if limited < 10 {
		t.Errorf("%d of 40 requests were too many", limited)
	}
	call[wire.Whoami](w, "sam", "GET", "/v1/whoami", nil)
	now.Add(int64(2 * time.Second))
	call[wire.Whoami](w, "lena", "GET", "/v1/whoami", nil)
	if a := w.send("lena", "GET", "/v1/whoami", nil); a.status != 429 {
		t.Errorf("the second request in two seconds: %d", a.status)
	}

	now.Add(int64(time.Hour))
	conn := w.raw("/v1/datasets/acme/signs/held/file", "Content-Length: 100000", "Expect: 100-continue")
	if _, err := io.ReadFull(conn, make([]byte, len("HTTP/1.1 100 "))); err != nil {
		t.Fatal(err)
	}
	if a := w.send("carol", "GET", "/v1/whoami", nil); a.status != 429 || a.header.Get("Retry-After") != "1" {
		t.Errorf("a second request at a time: %d %v", a.status, a.header)
	}
	conn.Close()
	w.logs.await(t, func(line map[string]any) bool { return line["route"] == fileRoute && line["code"] != nil })
	call[wire.Whoami](w, "carol", "GET", "/v1/whoami", nil)
}

// usage is what this process holds.
type usage struct{ goroutines, files int }

func used(t *testing.T) usage {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return usage{runtime.NumGoroutine(), len(files)}
}

// failed counts the requests of a route that did not succeed.
func (l *logs) failed(route string) int {
	n := 0
	for _, line := range l.all() {
		if line["route"] == route && line["code"] != nil {
			n++
		}
	}
	return n
}

// TestStorm has many readers that do not read and writers that stop, beside
// some that are quick: the quick ones do not feel it, the slow ones are ended,
// and when all is over no goroutine and no open file is left.
func TestStorm(t *testing.T) {
	const slow, quick, rounds = 24, 4, 25
	w := newWorld(t, api.Options{})
	w.populate(large)
	call[wire.Dataset](w, "carol", "PUT", "/v1/datasets/acme/signs/tiny/file", io.LimitReader(zeros{}, 1000))
	call[wire.Assignment](w, "root", "POST", "/v1/assignments",
		wire.Assignment{Dataset: w.scope("acme/signs/tiny"), Person: "lena", Shards: dataset.ShardSet{{First: 0, Last: 0}}})
	w.client.CloseIdleConnections()
	w.serve(api.Options{Idle: 300 * time.Millisecond, Streams: 1000, StreamsEach: 1000, CallsEach: 1000})
	call[wire.Whoami](w, "lena", "GET", "/v1/whoami", nil)
	w.client.CloseIdleConnections()
	before := used(t)

	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	var conns []net.Conn
	for i := range slow {
		w.startRead(ctx)
		conn := w.raw(fmt.Sprintf("/v1/datasets/acme/signs/slow-%d/file", i), "Content-Length: 1000000")
		conns = append(conns, conn)
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	var running sync.WaitGroup
	for range quick {
		running.Go(func() {
			for range rounds {
				a := w.send("lena", "GET", "/v1/datasets/acme/signs/tiny/shards/0/sealed", nil, wire.HeaderDevice, w.devices["lena"].String())
				if a.status != http.StatusOK {
					t.Errorf("a quick read beside slow ones: %d %s", a.status, a.body)
				}
			}
		})
	}
	running.Wait()
	most := used(t)
	if most.goroutines > before.goroutines+10*2*(slow+quick) || most.files > before.files+6*2*(slow+quick) {
		t.Errorf("%+v became %+v", before, most)
	}
	for _, route := range []string{sealedRoute, fileRoute} {
		w.logs.await(t, func(map[string]any) bool { return w.logs.failed(route) == slow })
	}
	leave()
	for _, conn := range conns {
		conn.Close()
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		w.client.CloseIdleConnections()
		after := used(t)
		if after.goroutines <= before.goroutines && after.files <= before.files {
			return
		}
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%+v became %+v\n%s", before, after, stacks[:runtime.Stack(stacks, true)])
		}
	}
}
