//go:build linux

package main

import (
	"net"
	"sync"
	"testing"
)

// line is the network between one node and PostgreSQL. It can hold back every
// byte, and break every connection.
type line struct {
	listener net.Listener
	socket   string // of PostgreSQL
	running  sync.WaitGroup

	mu     sync.Mutex
	open   *sync.Cond            // of mu: held or closed has changed
	held   bool                  // guarded by mu
	closed bool                  // guarded by mu
	conns  map[net.Conn]struct{} // guarded by mu; both sides of each
}

func newLine(t *testing.T, socket string) *line {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{listener: listener, socket: socket, conns: make(map[net.Conn]struct{})}
	l.open = sync.NewCond(&l.mu)
	l.running.Go(l.accept)
	t.Cleanup(l.close)
	return l
}

// url is the catalog as the node reaches it.
func (l *line) url() string {
	return "postgres://postgres@" + l.listener.Addr().String() + "/postgres?sslmode=disable"
}

func (l *line) accept() {
	for {
		node, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.running.Go(func() { l.join(node) })
	}
}

// join carries bytes both ways until one side ends.
func (l *line) join(node net.Conn) {
	defer node.Close()
	l.pass()
	server, err := net.Dial("unix", l.socket)
	if err != nil {
		return
	}
	defer server.Close()
	if !l.add(node, server) {
		return
	}
	defer l.remove(node, server)
	var back sync.WaitGroup
	back.Go(func() { l.carry(server, node) })
	l.carry(node, server)
	back.Wait()
}

func (l *line) carry(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			l.pass()
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// pass waits while the line holds.
func (l *line) pass() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.held && !l.closed {
		l.open.Wait()
	}
}

func (l *line) add(conns ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range conns {
		l.conns[c] = struct{}{}
	}
	return !l.closed
}

func (l *line) remove(conns ...net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range conns {
		delete(l.conns, c)
	}
}

// hold keeps back every byte from now on, or lets them go.
func (l *line) hold(held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = held
	l.open.Broadcast()
}

// drop breaks all connections; what is on its way in them is lost.
func (l *line) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		c.Close()
	}
}

func (l *line) close() {
	l.listener.Close()
	l.mu.Lock()
	l.closed = true
	l.open.Broadcast()
	l.mu.Unlock()
	l.drop()
	l.running.Wait()
}
