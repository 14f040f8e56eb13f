//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"dsvault/storage/storagetest"
	"dsvault/vault/client"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// cluster is one vault on several nodes: processes that share a PostgreSQL, each
// over a line of its own, and a folder with the objects. Its methods are the
// test's goroutine's.
type cluster struct {
	*site  // whose commands go to the first node
	pg     *storagetest.Cluster
	down   bool // PostgreSQL is stopped
	nodes  []*clusterNode
	killed int // processes that ended without giving anything back
	again  int // starts that failed, as while PostgreSQL is down
}

type clusterNode struct {
	n       int
	line    *line
	data    string
	host    string // HOST:PORT, the same for all its processes
	log     *os.File
	program *program
	ready   bool // this process has answered that it serves
	stalled bool
	gone    bool // killed, and to be started again
	held    bool // its line
}

// serveLimits keep rate limits out of the way.
var serveLimits = []string{"--max-requests", "100000", "--max-transfers", "2000", "--max-transfers-each", "200"}

func newCluster(t *testing.T, nodes int) *cluster {
	t.Helper()
	pg := storagetest.NewCluster(t)
	dir := t.TempDir()
	c := &cluster{site: &site{t: t, dir: dir, data: filepath.Join(dir, "vault-0")}, pg: pg}
	objects := "dir:" + filepath.Join(dir, "objects")
	c.flags = []string{"--catalog", pg.DSN(), "--objects", objects}
	var made initialised
	c.init().wants(t, exitOK).into(t, &made)
	for n := range nodes {
		node := &clusterNode{n: n, line: newLine(t, pg.Socket()), data: filepath.Join(dir, fmt.Sprint("vault-", n)), host: storagetest.FreeAddress(t)}
		if n > 0 {
			copyFolder(t, c.data, node.data) // before a server writes there
		}
		var err error
		if node.log, err = os.Create(filepath.Join(dir, fmt.Sprintf("node-%d.log", n))); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { node.log.Close() })
		c.nodes = append(c.nodes, node)
	}
	for n, node := range c.nodes {
		c.launchNode(node)
		await(t, "the node starts", func() bool { return node.isReady() || node.program.ended() })
		if !node.ready {
			t.Fatalf("node %d does not start:\n%s", n, node.said())
		}
	}
	c.url = "http://" + c.nodes[0].host
	c.login("admin", made.Token)
	return c
}

// launchNode starts a process of the node, and does not wait for it.
func (c *cluster) launchNode(n *clusterNode) {
	c.t.Helper()
	args := append([]string{"serve", "--json", "--data", n.data, "--listen", n.host, "--catalog", n.line.url(), "--objects", c.flags[3]}, serveLimits...)
	n.program, n.ready, n.gone, n.stalled = launchOn(c.t, n.log, c.env, args...), false, false, false
}

// isReady reports whether the node's process has come to serve.
func (n *clusterNode) isReady() bool {
	if n.ready || n.program == nil {
		return n.ready
	}
	var said struct{ Listening string }
	if err := json.Unmarshal([]byte(n.program.out.String()), &said); err == nil {
		n.ready, n.host = true, strings.TrimPrefix(said.Listening, "http://")
	}
	return n.ready
}

// said is the end of what the node has logged.
func (n *clusterNode) said() string {
	data, err := os.ReadFile(n.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-4000):])
}

// supervise starts a node again whose start has failed. One that has served and
// ends by itself is a bug.
func (c *cluster) supervise() {
	c.t.Helper()
	for _, n := range c.nodes {
		if n.gone || n.isReady() && !n.program.ended() || !n.program.ended() {
			continue
		}
		if n.ready {
			c.t.Fatalf("node %d has ended by itself, with status %d:\n%s", n.n, n.program.cmd.ProcessState.ExitCode(), n.said())
		}
		c.again++
		c.launchNode(n)
	}
}

// account is somebody's login.
type account struct {
	handle, token, device string
	client                *client.Client
}

// join invites somebody and logs them in.
func (c *cluster) account(admin *client.Client, handle string) account {
	c.t.Helper()
	invited := must(c.t, admin.Invite)(c.t.Context(), wire.NewPerson{Handle: handle})
	secret, err := client.ParseSecret(invited.Token)
	if err != nil {
		c.t.Fatal(err)
	}
	id, err := seal.GenerateIdentity()
	if err != nil {
		c.t.Fatal(err)
	}
	cfg := client.Config{URL: c.url, Token: secret, Device: id, HTTP: &http.Client{Transport: http.DefaultTransport}}
	connect := func() *client.Client {
		cl, err := client.New(cfg)
		if err != nil {
			c.t.Fatal(err)
		}
		return cl
	}
	in := must(c.t, connect().Login)(c.t.Context(), wire.Login{DeviceName: "test", Recipient: id.Recipient().String()})
	if cfg.Token, err = client.ParseSecret(in.Token); err != nil {
		c.t.Fatal(err)
	}
	cfg.DeviceID = in.Device
	return account{handle: handle, token: in.Token, device: in.Device.String(), client: connect()}
}

// The faults.

// stall stops a node's process where it is, or lets it go on.
func (c *cluster) stall(n *clusterNode, stalled bool) {
	if n.stalled = stalled; stalled {
		n.program.signal(syscall.SIGSTOP)
	} else {
		n.program.signal(syscall.SIGCONT)
	}
}

// killNode ends a node's process as a power cut does.
func (c *cluster) killNode(n *clusterNode) {
	n.program.signal(syscall.SIGKILL)
	<-n.program.done
	n.gone = true
	c.killed++
}

func (n *clusterNode) hold(held bool) {
	n.held = held
	n.line.hold(held)
}

// heal ends every fault, and waits until every node serves.
func (c *cluster) heal() {
	c.t.Helper()
	if c.down {
		c.pg.Start()
		c.down = false
	}
	for _, n := range c.nodes {
		n.hold(false)
		if n.stalled {
			c.stall(n, false)
		}
		if n.gone {
			c.launchNode(n)
		}
	}
	await(c.t, "every node serves", func() bool {
		c.supervise()
		all := true
		for _, n := range c.nodes {
			all = n.isReady() && all
		}
		return all
	})
}

// stopAll ends every node as an operator does.
func (c *cluster) stopAll() {
	c.t.Helper()
	for _, n := range c.nodes {
		n.program.signal(syscall.SIGTERM)
	}
	for _, n := range c.nodes {
		if o := n.program.wait(c.t); o.status != exitOK {
			c.t.Errorf("node %d did not end cleanly: status %d\n%s", n.n, o.status, n.said())
		}
		n.gone = true
	}
}
