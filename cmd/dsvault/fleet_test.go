//go:build linux

package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"dsvault/storage/storagetest"
	"dsvault/vault/client"
	"dsvault/vault/wire"
)

// fleet is some nodes on one PostgreSQL and one S3 server, haproxy in front of
// them with docs/haproxy.cfg, and the people who come through it.
type fleet struct {
	*site // of the people; its address is haproxy's

	dsn   string
	db    *sql.DB
	store *relay // between the nodes and the S3 server
	nodes []*site
}

// newFleet starts n nodes, one after the other: the first is elected to all that
// one node does.
func newFleet(t *testing.T, n int, dsn string, serving ...string) *fleet {
	t.Helper()
	server := storagetest.Versitygw(t)
	store := newRelay(t, server.Endpoint)
	server.Endpoint = "http://" + store.Addr().String()
	f := newFleetOn(t, n, dsn, func(node *site) { node.useS3(server) }, serving...)
	f.store = store
	return f
}

// newFleetOn has its nodes use another store.
func newFleetOn(t *testing.T, n int, dsn string, useStore func(*site), serving ...string) *fleet {
	t.Helper()
	f := &fleet{site: &site{t: t, dir: t.TempDir()}, dsn: dsn}
	var err error
	if f.db, err = sql.Open("pgx", dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.db.Close() })
	var made initialised
	for i := range n {
		node := &site{t: t, dir: f.dir, data: filepath.Join(f.dir, fmt.Sprint("node-", i)),
			flags: []string{"--catalog", dsn}, serving: append([]string{"--behind-tls-proxy"}, serving...)}
		useStore(node)
		if i == 0 {
			node.init().wants(t, exitOK).into(t, &made)
		} else { // before a server writes there
			copyFolder(t, filepath.Join(f.nodes[0].data, "keys"), filepath.Join(node.data, "keys"))
		}
		f.nodes = append(f.nodes, node)
	}
	for _, node := range f.nodes {
		node.start()
	}
	f.url = "http://" + storagetest.HAProxy(t, f.haproxy)
	f.awaitReady(0)
	f.login("admin", made.Token)
	f.project()
	f.join("ann", "auditor", "/")
	return f
}

// ready reports whether the server says that requests may be sent to it.
func (s *site) ready() bool {
	resp, err := http.Get(s.url + "/readyz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// awaitReady waits until haproxy passes requests on, and all nodes but so many
// are ready.
func (f *fleet) awaitReady(but int) {
	f.t.Helper()
	await(f.t, "the nodes are ready", func() bool {
		n := 0
		for _, node := range f.nodes {
			if node.ready() {
				n++
			}
		}
		return n >= len(f.nodes)-but && f.ready()
	})
}

// haproxy is the example of the docs, for these nodes.
func (f *fleet) haproxy(address string) string {
	f.t.Helper()
	text, err := os.ReadFile("../../docs/haproxy.cfg")
	if err != nil {
		f.t.Fatal(err)
	}
	var servers strings.Builder
	for i, node := range f.nodes {
		fmt.Fprintf(&servers, "    server node%d %s\n", i+1, strings.TrimPrefix(node.url, "http://"))
	}
	out := string(text)
	for _, change := range [][2]string{
		{`(?m)^    bind :443 .*\n`, "    bind " + address + "\n"},
		{`(?m)(^    server .*\n)+`, servers.String()},
		{`inter 1s`, "inter 200ms"},
	} {
		changed := regexp.MustCompile(change[0]).ReplaceAllLiteralString(out, change[1])
		if changed == out {
			f.t.Fatalf("docs/haproxy.cfg has no %s", change[0])
		}
		out = changed
	}
	return out
}

// number asks the catalog for one.
func (f *fleet) number(query string) (n int) {
	f.t.Helper()
	if err := f.db.QueryRowContext(f.t.Context(), query).Scan(&n); err != nil {
		f.t.Fatal(err)
	}
	return n
}

// holder is which process is elected to something.
func (f *fleet) holder(lease string) (who string) {
	f.t.Helper()
	err := f.db.QueryRowContext(f.t.Context(), "SELECT holder FROM leases WHERE name = $1", lease).Scan(&who)
	if err != nil && err != sql.ErrNoRows {
		f.t.Fatal(err)
	}
	return who
}

func (f *fleet) stopAll() {
	f.t.Helper()
	for _, node := range f.nodes {
		node.stop()
	}
}

// answer is what a server says to one request.
type answer struct {
	status  int
	header  http.Header
	body    []byte
	problem wire.Problem
}

// ask makes one request of somebody, as a program does that tries nothing again.
func (f *fleet) ask(who, url, method, path string, in any) answer {
	f.t.Helper()
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			f.t.Fatal(err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(f.t.Context(), method, url+path, body)
	if err != nil {
		f.t.Fatal(err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if who != "" {
		home, err := client.OpenHome(f.config(who))
		if err != nil {
			f.t.Fatal(err)
		}
		token, err := home.Current().Token()
		if err != nil {
			f.t.Fatal(err)
		}
		login, err := home.Current().Login()
		if err != nil {
			f.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token.Expose())
		req.Header.Set(wire.HeaderDevice, login.Device.String())
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{body: []byte(err.Error())}
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		return answer{body: []byte(err.Error())}
	}
	if a.status >= 400 {
		if err := json.Unmarshal(a.body, &a.problem); err != nil {
			f.t.Errorf("%s %s: %d with %q", method, path, a.status, a.body)
		}
	}
	return a
}

// unavailable checks that a request is refused as an outage is: with a hint, and
// when to come back.
func (f *fleet) unavailable(what string, a answer) {
	f.t.Helper()
	if a.status != http.StatusServiceUnavailable || a.problem.Hint == "" || a.header.Get("Retry-After") == "" {
		f.t.Errorf("%s: %d %v %s", what, a.status, a.header, a.body)
	}
}

func (f *fleet) fine(what string, a answer) answer {
	f.t.Helper()
	if a.status != http.StatusOK && a.status != http.StatusCreated && a.status != http.StatusNoContent {
		f.t.Errorf("%s: %d %s", what, a.status, a.body)
	}
	return a
}

// hostage is a read from one node that is in the middle of a large shard.
type hostage struct {
	goOn func()
	done chan error
}

// takeHostage has cleo begin a read that goes on when goOn is called.
func (f *fleet) takeHostage(node *site, wires *traffic, at string) *hostage {
	f.t.Helper()
	reading, goOn := make(chan struct{}), make(chan struct{})
	var once, on sync.Once
	c, _ := f.clientAt("cleo", node.url, stalling{wires, func() {
		once.Do(func() { close(reading) })
		<-goOn
	}})
	h := &hostage{goOn: func() { on.Do(func() { close(goOn) }) }, done: make(chan error, 1)}
	dir := filepath.Join(f.dir, "hostage", filepath.Base(node.data))
	go func() {
		_, err := c.Pull(f.t.Context(), scope(f.t, at), client.PullOptions{Dir: dir})
		h.done <- err
	}()
	f.t.Cleanup(h.goOn)
	await(f.t, "a read is on its way", func() bool {
		select {
		case <-reading:
			return true
		case err := <-h.done:
			f.t.Fatalf("the read ended: %v", err)
		default:
		}
		return false
	})
	return h
}

// settled waits until every read has its end, and verifies the log.
func (f *fleet) settled(wires *traffic) (unknown int) {
	f.t.Helper()
	await(f.t, "no read is open", func() bool { return f.number("SELECT count(*) FROM open_reads") == 0 })
	return f.checkReads(wires)
}

// from is a network that is used from an address of this machine.
func from(address string) http.RoundTripper {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	return &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}
}

// relay is a network between the nodes and a server, which can be cut.
type relay struct {
	net.Listener
	target string

	mu    sync.Mutex
	down  bool                  // guarded by mu
	conns map[net.Conn]struct{} // guarded by mu
	wg    sync.WaitGroup
}

func newRelay(t *testing.T, endpoint string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{Listener: l, target: strings.TrimPrefix(endpoint, "http://"), conns: map[net.Conn]struct{}{}}
	r.wg.Go(r.serve)
	t.Cleanup(func() {
		l.Close()
		r.cut()
		r.wg.Wait()
	})
	return r
}

func (r *relay) serve() {
	for {
		near, err := r.Accept()
		if err != nil {
			return
		}
		far, err := net.DialTimeout("tcp", r.target, 10*time.Second)
		if err != nil {
			near.Close()
			continue
		}
		r.mu.Lock()
		if r.down {
			near.Close()
			far.Close()
		} else {
			r.conns[near], r.conns[far] = struct{}{}, struct{}{}
			r.wg.Go(func() { r.pump(near, far) })
			r.wg.Go(func() { r.pump(far, near) })
		}
		r.mu.Unlock()
	}
}

func (r *relay) pump(from, to net.Conn) {
	io.Copy(to, from)
	from.Close()
	to.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, from)
}

// cut ends the connections and takes no more.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = true
	for c := range r.conns {
		c.Close()
	}
}

func (r *relay) mend() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = false
}
