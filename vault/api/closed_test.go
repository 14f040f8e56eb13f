package api_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dsvault/rbac"
	"dsvault/storage/catalog"
	"dsvault/storage/dir"
	"dsvault/storage/storagetest"
	"dsvault/vault"
	"dsvault/vault/api"
	"dsvault/vault/dataset"
	"dsvault/vault/keys"
	"dsvault/vault/metrics"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// node is a world whose catalog the test can break, with metrics.
type node struct {
	*world
	db      *catalog.DB
	metrics *metrics.Metrics
}

// newNode makes a vault in the catalog at url; its data has one shard, which is
// lena's to read. served is the URL by which the server gets at the catalog.
func newNode(t *testing.T, url, served string, queue int) *node {
	t.Helper()
	n := &node{metrics: metrics.New("test"), world: &world{t: t, data: t.TempDir(), logs: &logs{wake: make(chan struct{}, 1)},
		tokens: map[string]string{}, devices: map[string]dataset.DeviceID{}, keys: map[string]*seal.Identity{}}}
	ctx := context.Background()
	folder := filepath.Join(n.data, "keys")
	if err := keys.Init(folder, "dsvault-test", keys.NewPassphrase(""), rand.Reader); err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewJSONHandler(n.logs, nil))
	count := func(cause string) { n.metrics.StorageFailed(metrics.Catalog, cause) }
	n.db = must(catalog.Open(ctx, served, catalog.Options{Failed: count}))(t)
	t.Cleanup(func() { n.db.Close() })
	ring := must(keys.Open(folder, keys.NewPassphrase(""), n.db, rand.Reader))(t)
	secret := must(vault.Init(ctx, vault.InitConfig{Catalog: n.db, Keys: ring, Admin: "root", Logger: logger, Now: time.Now, Random: rand.Reader}))(t)
	n.tokens["root"] = secret.Expose()
	objects := must(dir.Open(filepath.Join(n.data, "objects")))(t)
	n.vault = must(vault.Open(ctx, vault.Config{Catalog: n.db, Objects: objects, Keys: ring, Policy: rbac.Default(),
		Logger: logger, Now: time.Now, Random: rand.Reader, Exclusive: true, Queue: queue, Meter: n.metrics}))(t)
	t.Cleanup(func() { n.vault.Close() })
	n.metrics.Watch(metrics.Gauges{ClockApart: func() time.Duration { return 0 }, Waiting: n.vault.Waiting, Halted: n.vault.Halted, CheckpointLag: n.vault.CheckpointLag,
		Requests: n.vault.CountRequests})
	h := api.New(n.vault, api.Options{Logger: logger, Now: time.Now, Random: rand.Reader, Meter: n.metrics, TrustProxy: true})
	n.server = httptest.NewServer(h)
	t.Cleanup(n.server.Close)
	n.client = n.server.Client()
	n.client.Transport.(*http.Transport).DisableCompression = true
	n.login("root")
	n.populate(1000)
	call[wire.Entry](n.world, "carol", "PATCH", "/v1/projects/acme/signs", wire.ProjectUpdate{Delivery: &[]dataset.Delivery{dataset.Opened}})
	return n
}

func (n *node) read(who string) answer {
	n.t.Helper()
	return n.send(who, "GET", onePath, nil, wire.HeaderDevice, n.devices[who].String())
}

// counted gives the value of a metric, as the endpoint shows it; 0 for one that
// is not there yet.
func (n *node) counted(series string) float64 {
	n.t.Helper()
	rec := httptest.NewRecorder()
	n.metrics.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(rec.Body.String()) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			var v float64
			fmt.Sscan(rest, &v)
			return v
		}
	}
	return 0
}

// servesNothing: while the log cannot be written, nobody gets a byte, 503 says
// when to come back, metric and log say why, and a refusal stays one.
func (n *node) servesNothing(cause string) {
	n.t.Helper()
	failures := `dsvault_admission_failures_total{cause="` + cause + `"}`
	before := n.counted(failures)
	a := n.read("lena")
	if a.status != 503 || a.header.Get("Retry-After") == "" || a.header.Get(wire.HeaderLeaf) != "" || a.header.Get(wire.HeaderManifest) != "" {
		n.t.Fatalf("a read: %d %v %s", a.status, a.header, a.body)
	}
	p := a.problem(n.t)
	if p.Retry == 0 || p.Hint == "" || strings.Contains(string(a.body), "age-encryption") {
		n.t.Errorf("a read: %s", a.body)
	}
	if got := n.counted(failures) - before; got != 1 {
		n.t.Errorf("%s went up by %v", failures, got)
	}
	line := n.logs.await(n.t, func(line map[string]any) bool { return line["request"] == p.Request })
	if line["level"] != "WARN" || line["code"] != "unavailable" || line["cause"] == "" {
		n.t.Errorf("the server's log says %v", line)
	}
	opened := strings.Replace(onePath, "/sealed", "/open", 1)
	for _, ranged := range []string{"", "bytes=0-9"} {
		a := n.send("lena", "GET", opened, nil, "Range", ranged)
		if a.status != 503 || a.header.Get("Retry-After") == "" || a.problem(n.t).Code != "unavailable" {
			n.t.Errorf("a read in clear, %q: %d %v %s", ranged, a.status, a.header, a.body)
		}
	}
	// A change too.
	a = n.send("root", "POST", "/v1/grants", wire.Grant{Role: dataset.Reviewer, Person: "lena", Scope: n.scope("acme")})
	if a.status != 503 || a.header.Get("Retry-After") == "" {
		n.t.Errorf("a grant: %d %s", a.status, a.body)
	}
	a = n.read("sam")
	if a.status != 404 {
		n.t.Errorf("a refusal that could not be recorded: %d %s", a.status, a.body)
	}
	if got := n.counted(failures) - before; got != 5 {
		n.t.Errorf("%s went up by %v", failures, got)
	}
	n.logs.await(n.t, func(line map[string]any) bool {
		return line["msg"] == "a refusal could not be recorded" && line["cause"] == cause
	})
}

// serves: all is as it was before, and what failed has left no grant.
func (n *node) serves() {
	n.t.Helper()
	if a := n.read("lena"); a.status != 200 || a.header.Get(wire.HeaderLeaf) == "" {
		n.t.Errorf("a read afterwards: %d %s", a.status, a.body)
	}
	if a := n.send("lena", "GET", strings.Replace(onePath, "/sealed", "/open", 1), nil); a.status != 200 || len(a.body) != 1000 {
		n.t.Errorf("a read in clear afterwards: %d %s", a.status, a.body)
	}
	if a := n.read("sam"); a.status != 404 {
		n.t.Errorf("a refusal afterwards: %d %s", a.status, a.body)
	}
}

func (n *node) grants() int {
	n.t.Helper()
	return len(call[wire.Page[wire.Grant]](n.world, "root", "GET", "/v1/grants?scope=acme", nil).Items)
}

func sqliteURL(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "catalog.db") }

func TestClosedWhenTheQueueIsFull(t *testing.T) {
	url := sqliteURL(t)
	n := newNode(t, url, url, 1)
	before := n.grants()
	writer := must(n.db.Begin(t.Context()))(t) // somebody else writes for long
	defer writer.Rollback()
	var waits sync.WaitGroup
	var first answer
	waits.Go(func() { first = n.read("lena") })
	for n.counted("dsvault_audit_queue_length") == 0 {
		time.Sleep(time.Millisecond)
	}
	n.servesNothing("queue-full")
	writer.Rollback()
	waits.Wait()
	if first.status != 200 {
		t.Errorf("who waited: %d %s", first.status, first.body)
	}
	n.serves()
	if n.grants() != before {
		t.Error("a grant that failed is in force")
	}
}

// TestClosedWhenTheCommitIsUnknown: the connection breaks in the middle of
// COMMIT. The record may be there; nothing was served for it.
func TestClosedWhenTheCommitIsUnknown(t *testing.T) {
	for name, mode := range map[string]storagetest.WireMode{"reply": storagetest.LosesReply, "commit": storagetest.LosesCommit} {
		t.Run(name, func(t *testing.T) {
			dsn := storagetest.Postgres(t)
			w, near := storagetest.NewWire(t, dsn)
			n := newNode(t, dsn, near, 0)
			before := n.grants()
			w.Set(mode)
			n.servesNothing("commit-unknown")
			w.Set(storagetest.Works)
			n.serves()
			want := before
			if mode == storagetest.LosesReply { // it was done, and nobody heard of it
				want++
			}
			if got := n.grants(); got != want {
				t.Errorf("%d grants, want %d", got, want)
			}
			// Reads that were recorded so have no bytes, and end with the node.
			if n.counted(`dsvault_storage_errors_total{code="lost",store="catalog"}`) == 0 {
				t.Error("the catalog's errors are not counted")
			}
		})
	}
}

// TestClosedWhenTheDatabaseIsGone: the server does not answer at all.
func TestClosedWhenTheDatabaseIsGone(t *testing.T) {
	dsn := storagetest.Postgres(t)
	w, near := storagetest.NewWire(t, dsn)
	n := newNode(t, dsn, near, 0)
	w.Break(storagetest.Cut)
	// Nobody can be told who asks: everything is 503, refusals too.
	for _, who := range []string{"lena", "sam", "root"} {
		a := n.read(who)
		if a.status != 503 || a.header.Get("Retry-After") == "" || strings.Contains(string(a.body), "age-encryption") {
			t.Errorf("%s: %d %v %s", who, a.status, a.header, a.body)
		}
	}
	if n.counted(`dsvault_storage_errors_total{code="lost",store="catalog"}`) == 0 {
		t.Error("the catalog's errors are not counted")
	}
	w.Set(storagetest.Works)
	n.serves()
}

// TestClosedWhenTheDatabaseIsReadOnly: the server has become a standby.
func TestClosedWhenTheDatabaseIsReadOnly(t *testing.T) {
	cluster := storagetest.NewCluster(t)
	n := newNode(t, cluster.DSN(), cluster.DSN(), 0)
	before := n.grants()
	cluster.Demote()
	n.servesNothing("read-only")
	cluster.Promote()
	n.serves()
	if n.grants() != before {
		t.Error("a grant that failed is in force")
	}
}

// TestSentBeforeTheEndIsRecorded: data leaves as soon as it may, and does not wait
// in the server for the record of the read's end. Until then access may be taken.
func TestSentBeforeTheEndIsRecorded(t *testing.T) {
	dsn := storagetest.Postgres(t)
	n := newNode(t, dsn, dsn, 0)
	db := must(sql.Open("pgx", dsn))(t)
	defer db.Close()
	held := must(db.Conn(t.Context()))(t)
	defer held.Close()
	exec := func(c *sql.Conn, statement string) { must(c.ExecContext(t.Context(), statement))(t) }
	exec(held, `CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN OLD; END'`)
	exec(held, `CREATE TRIGGER wait BEFORE DELETE ON open_reads FOR EACH ROW EXECUTE FUNCTION wait()`)
	opened := strings.Replace(onePath, "/sealed", "/open", 1)
	for _, r := range []struct{ path, header, value string }{
		{onePath, wire.HeaderDevice, n.devices["lena"].String()},
		{opened, "Range", ""},
		{opened, "Range", "bytes=0-9"},
	} {
		exec(held, "SELECT pg_advisory_lock(1)") // no end is recorded
		read := make(chan answer, 1)
		go func() { read <- n.send("lena", "GET", r.path, nil, r.header, r.value) }()
		select {
		case a := <-read:
			if a.status != 200 && a.status != 206 || len(a.body) == 0 {
				t.Errorf("%v: %d %s", r, a.status, a.body)
			}
			exec(held, "SELECT pg_advisory_unlock(1)")
		case <-time.After(20 * time.Second):
			exec(held, "SELECT pg_advisory_unlock(1)")
			t.Errorf("%v: the data waits in the server", r)
			<-read
		}
		for open := 1; open > 0; {
			if err := held.QueryRowContext(t.Context(), "SELECT count(*) FROM open_reads").Scan(&open); err != nil {
				t.Fatal(err)
			}
		}
	}
}
