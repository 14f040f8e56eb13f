//go:build linux

package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"dsvault/vault/client"
	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

var (
	linearOps   = flag.Int64("linearizable-ops", 3000, "check so many operations at least")
	linearTime  = flag.Duration("linearizable-time", 0, "stop after this, even if there were fewer (0: never)")
	linearSeed  = flag.Uint64("linearizable-seed", 0, "of everything random (0: another one each time)")
	linearPause = flag.Duration("linearizable-pause", 0, "between two faults, on average (0: 3s)")
	linearKeep  = flag.String("linearizable-keep", "", "put the histories of violations into this folder")
)

const linearNodes = 3

// TestLinearizable has readers, granters and revokers use three nodes, while
// nodes are stalled and killed, lines to the database break, and the database
// restarts. Then every history is checked for a read that was admitted on a
// state that was no more, and for one that began after the access to it had
// been taken; and the log, for a gap.
func TestLinearizable(t *testing.T) {
	seed := *linearSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	long := *linearOps > 20_000
	t.Logf("seed %d", seed)
	w := newWorkload(t, seed, long)
	pause := 3 * time.Second
	if *linearPause > 0 {
		pause = *linearPause
	}
	m := newNemesis(w.cluster, seed, pause)
	w.start()
	shown := w.begun
	for !w.over(m) {
		m.tick()
		if time.Since(shown) > 15*time.Second {
			shown = time.Now()
			t.Logf("%s; %s", w, m)
		}
		time.Sleep(5 * time.Millisecond)
	}
	took := time.Since(w.begun)
	w.heal()
	w.recovered()
	w.finish()
	t.Logf("%s, in %s; %s; %d starts failed meanwhile and were repeated", w, took.Round(time.Second), m, w.again)
	if *linearTime == 0 && !t.Failed() {
		for _, kind := range often {
			if m.counts[kind] == 0 {
				t.Errorf("no %s", kind)
			}
		}
		if w.cut.Load() == 0 || w.ended[byDisabling].Load() == 0 || w.ended[byTime].Load() == 0 {
			t.Error("no running read was cut, or nobody's access ended for good")
		}
	}
	w.stopAll()
	w.checkLog()
}

const shardBytes = 40_000 // two of them do not fit into the smallest shard

// newWorkload makes a vault with people and data.
func newWorkload(t *testing.T, seed uint64, large bool) *workload {
	t.Helper()
	people, shards, granted := 12, 16, 4
	if large {
		people, shards, granted = 64, 128, 16
	}
	w := &workload{
		cluster: newCluster(t, linearNodes), seed: seed, judged: make(chan *register, 64),
		reads: make(map[uint64]string), acked: make(map[string]int),
	}
	w.ok("admin", "client", "create", "acme")
	w.ok("admin", "project", "create", "acme/signs", "--purpose", "labeling", "--delivery", "sealed,opened")
	w.join("cleo", "client", "acme")
	admin, _ := w.client("admin", nil)
	owner, _ := w.client("cleo", nil)
	push := func(name string, n, size int, opts client.PushOptions) dataset.Scope {
		dir := t.TempDir()
		for i := range n {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("file", i)), make([]byte, size), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		at := scope(t, "acme/"+name)
		if _, err := owner.Push(t.Context(), dir, at, opts); err != nil {
			t.Fatal(err)
		}
		return at
	}
	for n := range 4 {
		a := w.account(admin, fmt.Sprint("ada-", n))
		must(t, admin.Grant)(t.Context(), wire.Grant{Role: dataset.Admin, Person: a.handle, Scope: dataset.Root})
		w.admins = append(w.admins, a)
	}
	var pairs []pair
	long := []dataset.Scope{push("signs/long-0", 1, streamBytes, client.PushOptions{}), push("signs/long-1", 1, streamBytes, client.PushOptions{})}
	w.streams = make(chan pair, people*len(long))
	at := push("signs/assigned", shards, shardBytes, oneByOne)
	for n := range people {
		who := w.account(admin, fmt.Sprint("lee-", n))
		must(t, admin.Grant)(t.Context(), wire.Grant{Role: dataset.Labeler, Person: who.handle, Scope: at.Parent()})
		for _, at := range long {
			w.streams <- assignedPair(who, at, 0)
		}
		for shard := range shards {
			pairs = append(pairs, assignedPair(who, at, shard))
		}
	}
	var helpers []account
	for n := range granted {
		helpers = append(helpers, w.account(admin, fmt.Sprint("hal-", n)))
	}
	for n := range granted {
		at := push(fmt.Sprint("signs/granted-", n), 1, shardBytes, oneByOne)
		for _, who := range helpers { // the role is what they lack
			must(t, admin.Assign)(t.Context(), wire.Assignment{Dataset: at, Person: who.handle, Shards: mustShards(t, "0")})
			pairs = append(pairs, grantedPair(who, at))
		}
	}
	others := w.otherPairs(admin, push, helpers, people/4)
	random := rand.New(rand.NewPCG(seed, 2))
	for _, list := range [][]pair{pairs, others} {
		random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	w.pairs = make(chan pair, len(pairs)+len(others))
	between := 0 // a short run comes hardly further than the others
	if large {
		between = 2
	}
	for _, p := range others {
		for range between {
			w.pairs <- pairs[0]
			pairs = pairs[1:]
		}
		w.pairs <- p
	}
	for _, p := range pairs {
		w.pairs <- p
	}
	return w
}

// otherPairs makes data that helpers read once they have signed something, and
// people whose access ends for good.
func (w *workload) otherPairs(admin *client.Client, push func(string, int, int, client.PushOptions) dataset.Scope, helpers []account, people int) (pairs []pair) {
	w.t.Helper()
	ctx := w.t.Context()
	for n := range len(helpers) / 2 {
		name := fmt.Sprint("terms-", n)
		text := must(w.t, admin.Publish)(ctx, wire.Publish{Name: name, Text: name})
		body := fmt.Sprintf(`{"version":%d,"sha256":%q}`, text.Version, text.SHA256)
		w.ok("admin", "project", "create", "acme/"+name, "--purpose", "labeling", "--delivery", "sealed,opened", "--requires", name)
		at := push(name+"/signed", 1, shardBytes, oneByOne)
		for _, who := range helpers {
			must(w.t, admin.Grant)(ctx, wire.Grant{Role: dataset.Labeler, Person: who.handle, Scope: at.Parent()})
			must(w.t, admin.Assign)(ctx, wire.Assignment{Dataset: at, Person: who.handle, Shards: mustShards(w.t, "0")})
			pairs = append(pairs, signedPair(who, at, name, body))
		}
	}
	at := push("signs/once", 1, shardBytes, oneByOne)
	for n := range people {
		dan, lou := w.account(admin, fmt.Sprint("dan-", n)), w.account(admin, fmt.Sprint("lou-", n))
		for _, who := range []account{dan, lou} {
			must(w.t, admin.Grant)(ctx, wire.Grant{Role: dataset.Labeler, Person: who.handle, Scope: at.Parent()})
		}
		must(w.t, admin.Assign)(ctx, wire.Assignment{Dataset: at, Person: dan.handle, Shards: mustShards(w.t, "0")})
		pairs = append(pairs, disabledPair(dan, at), lapsingPair(lou, at))
	}
	return pairs
}

func readPath(at dataset.Scope, shard int) string {
	return fmt.Sprintf("/v1/datasets/%s/shards/%d/", at, shard)
}

func assignedPair(who account, at dataset.Scope, shard int) pair {
	query := url.Values{"dataset": {at.String()}, "person": {who.handle}, "shards": {strconv.Itoa(shard)}}
	return pair{
		who: who, read: readPath(at, shard), change: "/v1/assignments", take: "/v1/assignments?" + query.Encode(), kinds: [2]string{"assign", "unassign"},
		give: fmt.Sprintf(`{"dataset":%q,"person":%q,"shards":"%d"}`, at, who.handle, shard),
	}
}

func grantedPair(who account, at dataset.Scope) pair {
	query := url.Values{"role": {string(dataset.Labeler)}, "person": {who.handle}, "scope": {at.String()}}
	return pair{
		who: who, read: readPath(at, 0), change: "/v1/grants", take: "/v1/grants?" + query.Encode(), kinds: [2]string{"grant", "revoke"},
		give: fmt.Sprintf(`{"role":%q,"person":%q,"scope":%q}`, dataset.Labeler, who.handle, at),
	}
}
