//go:build linux

package main

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"dsvault/storage/storagetest"
	"dsvault/vault/audit"
	"dsvault/vault/client"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

const sealedShard = "/v1/datasets/" + batch + "/shards/0/sealed"

// TestDatabaseGone stops PostgreSQL under two nodes, with a read on its way, and
// starts it again.
func TestDatabaseGone(t *testing.T) {
	t.Parallel()
	cluster := storagetest.NewCluster(t)
	f := newFleet(t, 2, cluster.DSN())
	source := files(t, 3)
	f.ok("cleo", "push", source, batch, "--shard-size", "64KiB")
	f.join("lee", "labeler", "acme/signs")
	f.ok("admin", "grant", "reviewer", "lee", "acme")
	owner, _ := f.client("cleo", nil)
	big := f.bigDataset(owner)
	wires := newTraffic()
	read := f.takeHostage(f.nodes[0], wires, big.String())
	cluster.Stop()

	f.refusesAll()
	f.run("cleo", "pull", batch, "-o", f.out("gone")).wants(t, exitUnavailable)
	if files, _ := os.ReadDir(f.out("gone")); len(files) > 0 {
		t.Errorf("%v came without a record", files)
	}
	await(t, "the running read is cut, since nobody knows whether it is still allowed", func() bool {
		return strings.Contains(f.nodes[0].server.err.String(), `"aborted":true`)
	})
	read.goOn()
	if err := <-read.done; !fault.Is(err, fault.Unavailable) {
		t.Errorf("the running read ended with %v", err)
	}

	cluster.Start()
	f.awaitReady(0)
	f.ok("admin", "revoke", "reviewer", "lee", "acme")
	reader, _ := f.client("cleo", wires)
	if _, err := reader.Pull(t.Context(), scope(t, batch), client.PullOptions{Dir: f.out("back")}); err != nil {
		t.Fatal(err)
	}
	sameFiles(t, source, f.out("back"))
	f.settled(wires)
	for i, node := range f.nodes {
		if node.server.ended() {
			t.Errorf("node %d has ended", i)
		}
	}
	f.stopAll()
}

// refusesAll asks each node for each kind of thing while the database is away.
func (f *fleet) refusesAll() {
	f.t.Helper()
	for _, node := range f.nodes {
		f.unavailable("a read", f.ask("cleo", node.url, "GET", sealedShard, nil))
		f.unavailable("a grant", f.ask("admin", node.url, "POST", "/v1/grants", wire.Grant{Role: dataset.Reviewer, Person: "lee", Scope: scope(f.t, "/")}))
		f.unavailable("a revoke", f.ask("admin", node.url, "DELETE", "/v1/grants?role=reviewer&person=lee&scope=acme", nil))
		f.unavailable("the log", f.ask("ann", node.url, "GET", "/v1/log", nil))
		f.unavailable("whoami", f.ask("cleo", node.url, "GET", "/v1/whoami", nil))
		await(f.t, "readiness", func() bool { return !node.ready() }) // the last answer is kept for a second
		f.unavailable("readiness", f.ask("", node.url, "GET", "/readyz", nil))
		f.fine("health", f.ask("", node.url, "GET", "/healthz", nil))
	}
	await(f.t, "haproxy takes the nodes out", func() bool {
		return f.ask("", f.url, "GET", "/healthz", nil).status == http.StatusServiceUnavailable
	})
	f.unavailable("a read through haproxy", f.ask("cleo", f.url, "GET", sealedShard, nil))
}

// TestStoreGone cuts a node from its S3 server, with a read on its way.
func TestStoreGone(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, storagetest.Postgres(t))
	source := files(t, 3)
	f.ok("cleo", "push", source, batch, "--shard-size", "64KiB")
	f.join("lee", "labeler", "acme/signs")
	owner, _ := f.client("cleo", nil)
	big := f.bigDataset(owner)
	wires := newTraffic()
	node := f.nodes[0]
	read := f.takeHostage(node, wires, big.String())
	f.store.cut()

	f.unavailable("a read", f.ask("cleo", node.url, "GET", sealedShard, nil))
	push := f.begin("cleo", "push", files(t, 1), "acme/signs/more")
	// All that needs no data goes on, through haproxy, too.
	f.ok("admin", "grant", "reviewer", "lee", "acme")
	f.ok("admin", "revoke", "reviewer", "lee", "acme")
	f.ok("ann", "log", "--verify")
	await(t, "readiness tells", func() bool {
		a := f.fine("readiness", f.ask("", f.url, "GET", "/readyz", nil))
		return strings.Contains(string(a.body), `"objects":"unavailable"`)
	})
	read.goOn()
	if err := <-read.done; !fault.Is(err, fault.Unavailable) {
		t.Errorf("the running read ended with %v", err)
	}
	push.wait(t).wants(t, exitUnavailable)

	f.store.mend()
	await(t, "readiness tells of the store's return", func() bool {
		return strings.Contains(string(f.ask("", f.url, "GET", "/readyz", nil).body), `"objects":"ok"`)
	})
	reader, _ := f.client("cleo", wires)
	if _, err := reader.Pull(t.Context(), scope(t, batch), client.PullOptions{Dir: f.out("back")}); err != nil {
		t.Fatal(err)
	}
	sameFiles(t, source, f.out("back"))
	if unknown := f.settled(wires); unknown > 0 {
		t.Errorf("%d reads ended as unknown; the node knew what it sent", unknown)
	}
	f.stopAll()
}

// TestNodeGone kills the elected one of three nodes under load, and later stops
// another one as an operator does.
func TestNodeGone(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, storagetest.Postgres(t))
	source := files(t, 3)
	f.ok("cleo", "push", source, batch, "--shard-size", "64KiB")
	owner, _ := f.client("cleo", nil)
	big := f.bigDataset(owner)
	wires := newTraffic()
	dead := f.nodes[0]
	read := f.takeHostage(dead, wires, big.String())
	await(t, "the first node is elected", func() bool { return f.holder("notary") != "" && f.holder("chores") != "" })
	signer, chores := f.holder("notary"), f.holder("chores")

	load := f.pullAll(wires, source)
	await(t, "the load is on", func() bool { return load.pulls.Load() > 8 })
	dead.kill()
	at := load.pulls.Load()
	await(t, "readers go on", func() bool { return load.pulls.Load() > at+16 })
	load.end()
	f.ok("ann", "log", "--verify") // needs a checkpoint of all there is
	await(t, "others are elected", func() bool {
		now := f.holder("notary")
		return now != "" && now != signer && f.holder("chores") != chores
	})
	read.goOn()
	<-read.done // the client tried again, where nobody answers
	if unknown := f.settled(wires); unknown == 0 {
		t.Error("no read ended as unknown after a kill in the middle of one")
	}

	dead.start()
	f.awaitReady(0)
	// A node that is stopped says so first: nobody notices, even who never tries again.
	f.nodes[1].stop()
	f.nodes[1].start("--drain-delay", "4s")
	f.awaitReady(0)
	stopped := f.nodes[1]
	steady := f.askAll()
	await(t, "somebody asks", func() bool { return steady.pulls.Load() > 8 })
	stopped.server.signal(syscall.SIGTERM)
	await(t, "the node says that it stops", func() bool { return !stopped.ready() })
	if !stopped.server.ended() {
		f.fine("a read from a node that stops", f.ask("cleo", stopped.url, "GET", sealedShard, nil))
	}
	<-stopped.server.done
	at = steady.pulls.Load()
	await(t, "readers go on", func() bool { return steady.pulls.Load() > at+8 })
	steady.end()
	f.settled(wires)
	dead.stop()
	f.nodes[2].stop()
}

// load is somebody who works until end.
type load struct {
	pulls atomic.Int64
	stop  context.CancelFunc
	wg    sync.WaitGroup
}

func (l *load) end() {
	l.stop()
	l.wg.Wait()
}

func (f *fleet) newLoad(workers int, work func(ctx context.Context, n int) error) *load {
	ctx, stop := context.WithCancel(f.t.Context())
	l := &load{stop: stop}
	f.t.Cleanup(l.end)
	for n := range workers {
		l.wg.Go(func() {
			for ctx.Err() == nil {
				if err := work(ctx, n); err != nil && ctx.Err() == nil {
					f.t.Errorf("worker %d: %v", n, err)
					return
				}
				l.pulls.Add(1)
			}
		})
	}
	return l
}

// pullAll pulls through haproxy, as `dsvault pull` does.
func (f *fleet) pullAll(wires *traffic, source string) *load {
	return f.newLoad(4, func(ctx context.Context, n int) error {
		dir := filepath.Join(f.dir, "load", string(rune('a'+n)))
		defer os.RemoveAll(dir)
		c, _ := f.client("cleo", wires)
		if _, err := c.Pull(ctx, scope(f.t, batch), client.PullOptions{Dir: dir}); err != nil {
			return err
		}
		sameFiles(f.t, source, dir)
		return nil
	})
}

// askAll reads through haproxy, and tries nothing again.
func (f *fleet) askAll() *load {
	return f.newLoad(2, func(context.Context, int) error {
		if a := f.ask("cleo", f.url, "GET", sealedShard, nil); a.status != http.StatusOK {
			return fault.New(fault.Unavailable, "test", string(a.body))
		}
		return nil
	})
}

// TestBalancedAddress reads through haproxy from an address of one's own.
func TestBalancedAddress(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, storagetest.Postgres(t))
	f.ok("cleo", "push", files(t, 1), batch)
	const home = "127.0.0.77"
	reader, _ := f.client("cleo", from(home))
	if _, err := reader.Pull(t.Context(), scope(t, batch), client.PullOptions{Dir: f.out("cleo")}); err != nil {
		t.Fatal(err)
	}
	records, _ := f.verified("ann")
	found := false
	for _, r := range records {
		var details struct{ Address string }
		if r.Kind == audit.KindRead.String() && json.Unmarshal(r.Personal, &details) == nil {
			found = true
			if details.Address != home {
				t.Errorf("the log says that the read came from %q", details.Address)
			}
		}
	}
	if !found {
		t.Error("the log shows no details of a read")
	}
	f.stopAll()
}

// TestClocksApart runs nodes whose clocks are ten minutes ahead and behind.
func TestClocksApart(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, storagetest.Postgres(t))
	f.ok("cleo", "push", files(t, 1), batch)
	f.join("lee", "", "")
	for i, ahead := range map[int]string{1: "10m", 2: "-10m"} {
		node := f.nodes[i]
		node.stop()
		node.env = append(node.env, wrongClock+"="+ahead)
		node.start()
		if !strings.Contains(node.server.err.String(), "clock of this machine is wrong") {
			t.Errorf("node %d does not say that its clock is wrong:\n%s", i, node.server.err.String())
		}
		launch(t, node.env, append([]string{"doctor", "--data", node.data}, node.flags...)...).wait(t).
			wants(t, exitCorrupt, "clock", "apart from the database's", "NTP")
	}
	f.awaitReady(0)

	// Access that ends in some minutes holds on all nodes, and that which has ended on none.
	soon := time.Now().Add(5 * time.Minute)
	f.fine("a grant", f.ask("admin", f.nodes[2].url, "POST", "/v1/grants", wire.Grant{Role: dataset.Reviewer, Person: "lee", Scope: scope(t, "acme"), Until: &soon}))
	for _, node := range f.nodes {
		f.fine("a read", f.ask("lee", node.url, "GET", sealedShard, nil))
	}
	f.fine("a revoke", f.ask("admin", f.nodes[1].url, "DELETE", "/v1/grants?role=reviewer&person=lee&scope=acme", nil))
	short := time.Now().Add(3 * time.Second)
	f.fine("a short grant", f.ask("admin", f.nodes[0].url, "POST", "/v1/grants", wire.Grant{Role: dataset.Reviewer, Person: "lee", Scope: scope(t, "acme"), Until: &short}))
	for i, node := range f.nodes {
		await(t, "the grant ends", func() bool { return f.ask("lee", node.url, "GET", sealedShard, nil).status != http.StatusOK })
		if time.Now().Before(short.Add(-2500 * time.Millisecond)) { // clocks count as right within two seconds
			t.Errorf("node %d ended the grant long before its time", i)
		}
	}
	records, _ := f.verified("ann")
	began := records[0].Time
	for i, r := range records {
		if i > 0 && r.Time.Before(records[i-1].Time) || r.Time.Sub(began) > 5*time.Minute {
			t.Errorf("record %d is of %s, the one before of %s, and the log began at %s", i, r.Time, records[max(i-1, 0)].Time, began)
		}
	}
	f.stopAll()
}

// TestFullDatabaseDisk fills the disk that PostgreSQL has its files on.
func TestFullDatabaseDisk(t *testing.T) {
	t.Parallel()
	disk, err := os.MkdirTemp("", "disk") // whose parent PostgreSQL's own user may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(disk) })
	smallDiskAt(t, disk, 160)
	cluster := storagetest.NewClusterIn(t, disk)
	f := newFleet(t, 1, cluster.DSN())
	source := files(t, 3)
	f.ok("cleo", "push", source, batch, "--shard-size", "64KiB")
	f.join("lee", "labeler", "acme/signs")
	node := f.nodes[0]
	free := fill(t, disk)

	// Some reads still find space for their records.
	if err := os.Truncate(filepath.Join(disk, "filler"), fillerSize(t, disk)-256<<10); err != nil {
		t.Fatal(err)
	}
	wires := newTraffic()
	reader, _ := f.client("cleo", wires)
	for i := 0; ; i++ {
		_, err := reader.Pull(t.Context(), scope(t, batch), client.PullOptions{Dir: filepath.Join(f.dir, "full"), Overwrite: true})
		if fault.Is(err, fault.Unavailable) && fault.HintOf(err) != "" {
			break
		}
		if err != nil || i == 5000 {
			t.Fatalf("pull %d on the full disk: %v", i, err)
		}
	}
	if len(wires.delivered()) == 0 {
		t.Error("not one read found space")
	}
	// What needs little may still find some: it is done whole, or refused.
	for range 8 {
		for what, a := range map[string]answer{
			"a read":  f.ask("cleo", node.url, "GET", sealedShard, nil),
			"a grant": f.ask("admin", node.url, "POST", "/v1/grants", wire.Grant{Role: dataset.Reviewer, Person: "lee", Scope: scope(t, "acme")}),
		} {
			if a.status != http.StatusOK {
				f.unavailable(what, a)
			}
		}
	}

	free()
	if cluster.Ended() { // it gives up when it cannot write its own log
		cluster.Start()
	}
	f.awaitReady(0)
	await(t, "reads are served again", func() bool { return f.ask("cleo", node.url, "GET", sealedShard, nil).status == http.StatusOK })
	f.ok("cleo", "pull", batch, "-o", f.out("back"))
	sameFiles(t, source, f.out("back"))
	f.settled(wires)
	f.stopAll()
}
