//go:build linux

package main

import (
	"bufio"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dsvault/storage/storagetest"
	"dsvault/vault/client"
	"dsvault/vault/wire"
)

// brothers is two nodes on one catalog and one store. The ways of the second one to
// both can be held up.
type brothers struct {
	*fleet
	a, b  *site
	wire  *storagetest.Wire // of b to PostgreSQL
	store *storeProxy       // of both to S3
}

func newBrothers(t *testing.T) *brothers {
	t.Helper()
	dsn := storagetest.Postgres(t)
	f := &brothers{fleet: &fleet{site: &site{t: t, dir: t.TempDir()}, dsn: dsn}}
	server := storagetest.Versitygw(t)
	f.store = newStoreProxy(t, server)
	server.Endpoint = f.store.URL
	var err error
	if f.db, err = sql.Open("pgx", dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.db.Close() })
	var far string
	f.wire, far = storagetest.NewWire(t, dsn)
	node := func(name, dsn string) *site {
		s := &site{t: t, dir: f.dir, data: filepath.Join(f.dir, name), flags: []string{"--catalog", dsn}}
		s.useS3(server)
		return s
	}
	f.a, f.b = node("a", dsn), node("b", far)
	var made initialised
	f.a.init().wants(t, exitOK).into(t, &made)
	copyFolder(t, filepath.Join(f.a.data, "keys"), filepath.Join(f.b.data, "keys"))
	f.a.start()
	f.b.start()
	f.nodes = []*site{f.a, f.b}
	f.url = f.a.url
	f.login("admin", made.Token)
	f.project()
	return f
}

// stall stops a node as a machine that hangs.
func (f *brothers) stall(node *site) {
	f.t.Helper()
	pid := node.server.cmd.Process.Pid
	node.server.signal(syscall.SIGSTOP)
	await(f.t, "the node stands still", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			f.t.Fatal(err)
		}
		_, state, _ := strings.Cut(string(stat), ") ")
		return strings.HasPrefix(state, "T")
	})
}

// answered waits for what the second node answers.
func (f *brothers) answered(got <-chan answer) answer {
	f.t.Helper()
	select {
	case a := <-got:
		return a
	case <-time.After(patience):
		f.b.server.signal(syscall.SIGQUIT)
		<-f.b.server.done
		f.t.Fatalf("the node does not answer:\n%s", f.b.server.err.String())
		return answer{}
	}
}

// ends gives how the reads have ended of which the log knows the end, by cause, and
// the bytes of those that were cut.
func (f *brothers) ends() (causes map[string]int, cut string) {
	f.t.Helper()
	await(f.t, "no read is open", func() bool { return f.number("SELECT count(*) FROM open_reads") == 0 })
	causes = map[string]int{}
	records, _ := f.verified("admin")
	for _, r := range records {
		if cause := r.Detail["cause"]; cause != "" {
			if causes[cause]++; cause != "finished" {
				cut += r.Detail["bytes-sent"] + " "
			}
		}
	}
	return causes, cut
}

// TestStalledBeforeFirstByte stops a node between the record of a read and its first
// byte, and takes the access away at the other one. When the node goes on, nothing
// is sent: neither when it finds out, nor when it cannot. Another read that is still
// allowed goes on if the node can find that out.
func TestStalledBeforeFirstByte(t *testing.T) {
	t.Parallel()
	for _, sees := range []bool{true, false} {
		t.Run(fmt.Sprint("sees the catalog ", sees), func(t *testing.T) {
			t.Parallel()
			f := newBrothers(t)
			f.ok("cleo", "push", files(t, 1), batch, "--shard-size", "64KiB")
			f.join("rita", "reviewer", "acme")
			arrived, goOn := make(chan struct{}, 8), make(chan struct{})
			release := sync.OnceFunc(func() { close(goOn) })
			t.Cleanup(release)
			f.store.be(func(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
				if r.Method == http.MethodGet && r.Header.Get("Range") != "" {
					arrived <- struct{}{}
					<-goOn
				}
				return false
			})
			answers := map[string]chan answer{"rita": make(chan answer, 1), "cleo": make(chan answer, 1)}
			for who, got := range answers {
				go func() { got <- f.ask(who, f.b.url, "GET", sealedShard, nil) }()
			}
			await(t, "the reads are recorded, and ask the store", func() bool {
				return len(arrived) == 2 && f.number("SELECT count(*) FROM open_reads") == 2
			})
			f.stall(f.b)
			if !sees {
				f.wire.Set(storagetest.Stalls)
			}
			f.ok("admin", "revoke", "reviewer", "rita", "acme")
			release()
			f.b.server.signal(syscall.SIGCONT)
			rita, cleo := f.answered(answers["rita"]), f.answered(answers["cleo"])
			f.wire.Set(storagetest.Works)
			causes, cut := f.ends()
			switch {
			case rita.status == http.StatusOK:
				t.Errorf("the revoke had returned, and the node sent %d bytes", len(rita.body))
			case sees && (cleo.status != http.StatusOK || causes["finished"] != 1 || causes["revoked"] != 1 || cut != "0 "):
				t.Errorf("who was allowed got %d %s; the log says %v, %s", cleo.status, cleo.body, causes, cut)
			case !sees:
				f.unavailable("a read at a node that cannot look", cleo)
				if causes["finished"] != 0 {
					t.Errorf("the log says %v", causes)
				}
			}
		})
	}
}

// TestStalledInMidstream stops a node in the middle of a read and takes the access
// away at the other one. When the node goes on it sends at most the write that it
// was in.
func TestStalledInMidstream(t *testing.T) {
	t.Parallel()
	f := newBrothers(t)
	owner, _ := f.client("cleo", nil)
	big := f.bigDataset(owner)
	f.join("rita", "reviewer", "acme")
	conn := f.rawRead("rita", f.b, "/v1/datasets/"+big.String()+"/shards/0/sealed")
	buf, got := make([]byte, 64<<10), 0
	take := func(most time.Duration) error {
		conn.SetReadDeadline(time.Now().Add(most))
		n, err := conn.Read(buf)
		got += n
		return err
	}
	for got < 1<<20 {
		if err := take(patience); err != nil {
			t.Fatal(err)
		}
	}
	f.stall(f.b)
	f.wire.Set(storagetest.Stalls)
	f.ok("admin", "revoke", "reviewer", "rita", "acme")
	await(t, "all has arrived that was on its way", func() bool {
		quiet := f.unsent(conn) == 0
		return errors.Is(take(20*time.Millisecond), os.ErrDeadlineExceeded) && quiet
	})
	before := got
	f.b.server.signal(syscall.SIGCONT)
	var err error
	for err == nil {
		err = take(patience)
	}
	if more := got - before; errors.Is(err, os.ErrDeadlineExceeded) || more > 64<<10+8<<10 {
		t.Errorf("the revoke had returned, and the node sent %d bytes more: %v", more, err)
	} else {
		t.Logf("%d bytes before, %d more", before, more)
	}
	f.wire.Set(storagetest.Works)
	f.ends()
}

// rawRead asks for something with a connection that takes little at a time, and
// gives it with the head of the answer read.
func (f *brothers) rawRead(who string, node *site, path string) net.Conn {
	f.t.Helper()
	home, err := client.OpenHome(f.config(who))
	token, err2 := home.Current().Token()
	login, err3 := home.Current().Login()
	if err := errors.Join(err, err2, err3); err != nil {
		f.t.Fatal(err)
	}
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 16<<10) })
	}}
	address := strings.TrimPrefix(node.url, "http://")
	conn, err := dialer.DialContext(f.t.Context(), "tcp", address)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n%s: %s\r\n\r\n",
		path, address, token.Expose(), wire.HeaderDevice, login.Device)
	head, err := bufio.NewReaderSize(conn, 16).ReadString('\n')
	if err != nil || !strings.Contains(head, " 200 ") {
		f.t.Fatalf("%q %v", head, err)
	}
	return conn
}

// unsent is how many bytes the system still holds of what the other end of a
// connection has written.
func (f *brothers) unsent(conn net.Conn) (n int) {
	f.t.Helper()
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		f.t.Fatal(err)
	}
	local := fmt.Sprintf("0100007F:%04X", conn.RemoteAddr().(*net.TCPAddr).Port)
	remote := fmt.Sprintf("0100007F:%04X", conn.LocalAddr().(*net.TCPAddr).Port)
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if len(fields) > 4 && fields[1] == local && fields[2] == remote {
			if _, err := fmt.Sscanf(fields[4], "%X:", &n); err != nil {
				f.t.Fatal(err)
			}
			return n
		}
	}
	f.t.Fatal("the connection is gone")
	return 0
}
