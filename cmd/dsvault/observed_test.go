//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// asker is one connection to one node, kept over many requests, of one
// goroutine. It sees when the first byte of an answer arrived, and when there
// was none yet: a bound from either side of the moment at which it was sent.
type asker struct {
	host  string
	since time.Time // times are measured from here
	conn  *net.TCPConn
	in    *bufio.Reader

	waiting  bool          // for the first byte of an answer
	empty    time.Duration // nothing had arrived then
	first    time.Duration
	deadline time.Time
}

// how long an answer may take. A stalled node goes on within it.
const askLimit = 20 * time.Second

// errNotSent: the request has not left, so that nothing can have come of it.
var errNotSent = errors.New("not sent")

// reply is what came back; all of it if there was no error.
type reply struct {
	status int // 0: no head arrived
	header http.Header
	body   []byte

	asked, empty, first, done time.Duration
}

func (a *asker) now() time.Duration { return time.Since(a.since) }

func (a *asker) close() {
	if a.conn != nil {
		a.conn.Close()
		a.conn = nil
	}
}

// Read is for the bufio.Reader. While an answer is awaited it looks again and
// again, to know until when nothing had come.
func (a *asker) Read(p []byte) (int, error) {
	const step = 20 * time.Millisecond
	for a.waiting {
		before := a.now()
		_ = a.conn.SetReadDeadline(time.Now().Add(step))
		n, err := a.conn.Read(p)
		switch {
		case n > 0 || err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			a.waiting, a.first = false, a.now()
			_ = a.conn.SetReadDeadline(a.deadline)
			return n, err
		case time.Now().After(a.deadline):
			return 0, err
		default:
			a.empty = before
		}
	}
	return a.conn.Read(p)
}

// begin sends a request and gives the answer with its head; its body is in out.
func (a *asker) begin(method, path, token, header, body string) (ans reply, out *http.Response, err error) {
	if a.conn == nil {
		if err := a.dial(); err != nil {
			return ans, nil, err
		}
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n%s", method, path, a.host, token, header)
	if body != "" {
		fmt.Fprintf(&text, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	text.WriteString("\r\n" + body)
	a.deadline = time.Now().Add(askLimit)
	_ = a.conn.SetDeadline(a.deadline)
	ans.asked = a.now()
	a.waiting, a.empty = true, ans.asked
	if _, err := io.WriteString(a.conn, text.String()); err != nil {
		return ans, nil, err // some of it may have left
	}
	out, err = http.ReadResponse(a.in, &http.Request{Method: method})
	ans.empty, ans.first, ans.done = a.empty, a.first, a.now()
	if err == nil {
		ans.status, ans.header = out.StatusCode, out.Header
	}
	return ans, out, err
}

// ask is begin, with the whole body.
func (a *asker) ask(method, path, token, header, body string) (reply, error) {
	ans, out, err := a.begin(method, path, token, header, body)
	if err == nil {
		ans.body, err = io.ReadAll(io.LimitReader(out.Body, 8<<20))
		ans.done = a.now()
		out.Body.Close()
	}
	if err != nil || out.Close {
		a.close()
	}
	return ans, err
}

// dial gives the connection a small window, so that a slow reader soon has the
// node wait.
func (a *asker) dial() error {
	conn, err := net.DialTimeout("tcp", a.host, askLimit)
	if err != nil {
		return errors.Join(errNotSent, err)
	}
	a.conn = conn.(*net.TCPConn)
	_ = a.conn.SetReadBuffer(64 << 10)
	a.in = bufio.NewReaderSize(a, 16<<10)
	return nil
}
