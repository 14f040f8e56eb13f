//go:build linux

package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"dsvault/rbac"
	"dsvault/storage/catalog"
	"dsvault/storage/storagetest"
	"dsvault/vault/keys"
	"dsvault/vault/ledger"
	"dsvault/vault/wire"
)

var (
	scaleWhole   = flag.Bool("scale-whole", false, "the catalog of `make bench-scale`, not a small one")
	scaleReport  = flag.String("scale-report", "", "put the figures into this file, between its markers")
	scaleEngines = flag.String("scale-engines", "sqlite,postgres", "the catalogs' engines")
)

// TestScale fills a catalog, serves it, has everybody in it ask for something that
// they may do and something that they may not, and reads pages of its lists. In
// its whole form it is `make bench-scale`.
func TestScale(t *testing.T) {
	c := scale{people: 150, grants: 450, projects: 30, assignments: 1500, leaves: 1000}
	if *scaleWhole {
		c = scale{people: 100_000, grants: 300_000, projects: 10_000, assignments: 1_000_000, leaves: 10_000_000}
	}
	var rows []scaleRow
	engines := strings.Split(*scaleEngines, ",")
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			dir := t.TempDir()
			s := &site{t: t, dir: dir, data: filepath.Join(dir, "vault")}
			catalogURL := "sqlite:" + filepath.Join(s.data, "catalog.db")
			if engine == "postgres" {
				catalogURL = storagetest.Postgres(t)
				s.flags = []string{"--catalog", catalogURL}
			}
			s.open()
			s.stop()
			s.fill(catalogURL, c)
			w := &scaled{site: s, c: c, engine: engine, url: catalogURL}
			w.starts()
			w.everybody()
			w.pages()
			w.stop()
			w.decisions()
			rows = append(rows, w.rows...)
		})
	}
	if !t.Failed() {
		report(t, c, engines, rows)
	}
}

// scaleRow is one line of the table.
type scaleRow struct {
	engine, what string
	seen, most   float64
	unit         string
}

// scaled is one catalog that is measured.
type scaled struct {
	*site
	c      scale
	engine string
	url    string
	rows   []scaleRow
}

func (w *scaled) keep(what string, seen, most float64, unit string) {
	w.t.Logf("%s: %.4g %s", what, seen, unit)
	w.rows = append(w.rows, scaleRow{w.engine, what, seen, most, unit})
}

func (w *scaled) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func medianOf(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

// starts measures from the start of the program until it says that it is ready.
func (w *scaled) starts() {
	w.site.url = "" // any free port
	w.start("--check-every", "never")
	w.signed()
	w.stop()
	var took []time.Duration
	times := 1
	if *scaleWhole {
		times = 5
	}
	for range times {
		began := time.Now()
		w.start("--check-every", "never")
		took = append(took, time.Since(began))
		w.stop()
	}
	w.start("--check-every", "never")
	w.keep("start", ms(medianOf(took)), 1000, "ms")
	w.keep("memory after the start", float64(w.memory()>>20), 512, "MiB")
}

// signed waits for a checkpoint of the whole log, which waits for all tiles.
func (w *scaled) signed() {
	w.t.Helper()
	for deadline := time.Now().Add(20 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatal("the log is not signed")
		}
		resp, err := http.Get(w.site.url + "/log/checkpoint")
		if err != nil {
			continue
		}
		note, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		w.must(err)
		lines := strings.Split(string(note), "\n")
		if resp.StatusCode == http.StatusOK && len(lines) > 2 {
			if size, err := strconv.Atoi(lines[1]); err == nil && size > w.c.leaves {
				return
			}
		}
	}
}

// memory is what the server has of it at this moment.
func (w *scaled) memory() int64 {
	w.t.Helper()
	status, err := os.ReadFile(w.proc("status"))
	w.must(err)
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	fields := strings.Fields(rest)
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	w.must(err)
	return kib << 10
}

// get asks the server as somebody.
func (w *scaled) get(token, path string, query url.Values, out any) error {
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.site.url+path+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(body, out)
}

// everybody asks for a shard of their own, and for one of somebody else's.
func (w *scaled) everybody() {
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 16
	var wrong atomic.Int64
	ask := func(who int) {
		for shard, want := range map[int]bool{0: true, 1_000: false} {
			var d wire.Decision
			err := w.get(personToken(who), "/v1/can", url.Values{"person": {"me"}, "action": {"read"}, "purpose": {"labeling"},
				"object": {fmt.Sprintf("%s/%d", w.c.dataset(w.c.datasetOf(who, 0)), shard)}}, &d)
			if err != nil || d.Allowed != want {
				if wrong.Add(1) < 10 {
					w.t.Errorf("person %d, shard %d: %+v, %v", who, shard, d, err)
				}
			}
		}
	}
	some := min(200, w.c.people)
	var first []time.Duration
	for who := range some {
		began := time.Now()
		ask(who)
		first = append(first, time.Since(began))
	}
	w.keep("a person's first two questions, over HTTP", ms(medianOf(first)), 0, "ms")
	began := time.Now()
	var asking sync.WaitGroup
	next := atomic.Int64{}
	next.Store(int64(some))
	for range 8 {
		asking.Go(func() {
			for who := next.Add(1) - 1; who < int64(w.c.people) && wrong.Load() < 10; who = next.Add(1) - 1 {
				ask(int(who))
			}
		})
	}
	asking.Wait()
	w.t.Logf("everybody has asked in %v", time.Since(began).Round(time.Millisecond))
	w.keep("memory once everybody has asked", float64(w.memory()>>20), 512, "MiB")
	w.keep("its peak", float64(w.peak()>>20), 512, "MiB")
}

// pages reads lists as an admin, each from the beginning and far behind it.
func (w *scaled) pages() {
	token := w.token("admin")
	for _, list := range []struct{ path, name string }{{"/v1/assignments", "assignments"}, {"/v1/grants", "grants"}} {
		for _, q := range []struct{ what, scope, person string }{
			{"of all", "/", ""}, {"of a client", w.c.client(0), ""}, {"of a project", w.c.project(0), ""}, {"of a person", "/", personName(7)},
		} {
			if list.name == "grants" && q.person != "" {
				continue // there is no such list
			}
			for _, limit := range []int{100, wire.MaxPage} {
				query := url.Values{"scope": {q.scope}, "limit": {strconv.Itoa(limit)}}
				if q.person != "" {
					query.Set("person", q.person)
				}
				var took []time.Duration
				rows, seen := 0, map[string]bool{}
				times := 3
				if *scaleWhole {
					times = 15
				}
				for range times {
					var page wire.Page[json.RawMessage]
					began := time.Now()
					w.must(w.get(token, list.path, query, &page))
					took = append(took, time.Since(began))
					for _, item := range page.Items {
						if seen[string(item)] && len(page.Items) == limit && query.Get("after") != "" {
							w.t.Fatalf("%s %s: a page has a row of an earlier one: %s", list.name, q.what, item)
						}
						seen[string(item)] = true
					}
					rows = max(rows, len(page.Items))
					query.Set("after", page.Next)
					if page.Next == "" {
						query.Del("after")
						clear(seen)
					}
				}
				if rows == 0 {
					w.t.Errorf("%s %s: none", list.name, q.what)
				}
				w.keep(fmt.Sprintf("%s %s, up to %d on a page", list.name, q.what, limit), ms(medianOf(took)), 20, "ms")
			}
		}
	}
}

// decisions measures decisions in the memory of a node that holds everybody.
func (w *scaled) decisions() {
	ctx := context.Background()
	db, err := catalog.Open(ctx, w.url, catalog.Options{})
	w.must(err)
	defer db.Close()
	ring, err := keys.Open(filepath.Join(w.data, "keys"), keys.NewPassphrase(""), db, rand.Reader)
	w.must(err)
	l, err := ledger.Open(ctx, ledger.Config{Catalog: db, World: rbac.NewPartial(rbac.Default()), Sealer: ring,
		Now: time.Now, Random: rand.Reader, Logger: slog.New(slog.DiscardHandler), LeaveOpen: true})
	w.must(err)
	defer l.Close()
	queries := make([]rbac.Query, w.c.people)
	for i := range queries {
		at := scope(w.t, w.c.dataset(w.c.datasetOf(i, 0)))
		queries[i] = rbac.Query{Actor: personID(i), Action: rbac.Read, Purpose: "labeling", Now: time.Now(),
			Object: rbac.Object{Kind: rbac.Shard, Scope: at, Shard: i % shardsEach}}
	}
	decide := func(q *rbac.Query) {
		if d, err := l.Decide(ctx, *q); err != nil || !d.Allowed {
			w.t.Fatalf("%+v: %+v, %v", q, d, err)
		}
	}
	began := time.Now()
	for i := range queries {
		decide(&queries[i])
	}
	w.keep("loading a person, and deciding", ms(time.Since(began))*1000/float64(len(queries)), 0, "µs")
	mathrand.Shuffle(len(queries), func(i, j int) { queries[i], queries[j] = queries[j], queries[i] })
	runtime.GC()
	var heap runtime.MemStats
	runtime.ReadMemStats(&heap)
	w.t.Logf("%d people held, heap %d MiB", l.World().People(), heap.HeapAlloc>>20)
	const rounds = 10
	used := processor()
	for range rounds {
		for i := range queries {
			decide(&queries[i])
		}
	}
	w.keep("a decision, of the processor's time", ms(processor()-used)*1000/float64(rounds*len(queries)), 5, "µs")
}

// processor is the time of it that this process has used.
func processor() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

const scaleBegin = "<!-- make bench-scale -->\n"

// report prints the table and puts it into the file.
func report(t *testing.T, c scale, engines []string, rows []scaleRow) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%d CPUs, %s/%s, %s. %d people, %d grants, %d projects with %d datasets, %d assignments, %d leaves.\n\n",
		runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), c.people, c.grants, c.projects, c.datasets(), c.assignments, c.leaves)
	fmt.Fprintf(&b, "| | %s | goal | |\n| --- | %s--- | --- |\n", strings.Join(engines, " | "), strings.Repeat("--- | ", len(engines)))
	for _, r := range rows {
		if r.engine != engines[0] {
			continue
		}
		fmt.Fprintf(&b, "| %s |", r.what)
		met := true
		for _, engine := range engines {
			i := slices.IndexFunc(rows, func(o scaleRow) bool { return o.engine == engine && o.what == r.what })
			fmt.Fprintf(&b, " %.3g %s |", rows[i].seen, r.unit)
			met = met && rows[i].seen <= r.most
		}
		if r.most == 0 {
			fmt.Fprintf(&b, " | |\n")
			continue
		}
		fmt.Fprintf(&b, " ≤ %g %s | %s |\n", r.most, r.unit, map[bool]string{true: "met", false: "**not met**"}[met])
	}
	t.Log("\n" + b.String())
	if *scaleReport == "" {
		return
	}
	old, err := os.ReadFile(*scaleReport)
	before, rest, ok1 := strings.Cut(string(old), scaleBegin)
	_, after, ok2 := strings.Cut(rest, "<!-- end -->")
	if !ok1 || !ok2 {
		err = cmp.Or(err, fmt.Errorf("%s has no place for the table", *scaleReport))
	}
	if err == nil {
		err = os.WriteFile(*scaleReport, []byte(before+scaleBegin+b.String()+"<!-- end -->"+after), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}
