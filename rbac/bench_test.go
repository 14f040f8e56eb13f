package rbac

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"dsvault/vault/dataset"
)

// large is a vault with 100,000 people, 300,000 grants and 1,000,000
// assignments, and questions about it that are allowed.
var large = sync.OnceValue(func() (l struct {
	world      *World
	queries    []Query
	assignment float64 // bytes of heap for each
}) {
	const people, grants, assignments, datasets = 100_000, 300_000, 1_000_000, 10_000
	random := rand.New(rand.NewPCG(1, 2))
	w := NewWorld(Default())
	l.world = w
	root := id[dataset.PrincipalID](people)
	var batch []Change
	add := func(c Change) {
		if batch = append(batch, c); len(batch) == 4096 {
			w.Apply(1, batch...)
			batch = batch[:0]
		}
	}
	scope := func(s string) dataset.Scope {
		scope, err := dataset.ParseScope(s)
		if err != nil {
			panic(err)
		}
		return scope
	}
	at := make([]dataset.Scope, datasets)
	for i := range datasets {
		client := "c" + strconv.Itoa(i/200)
		project := client + "/p" + strconv.Itoa(i/10)
		if i%200 == 0 {
			add(ClientChange{scope(client)})
		}
		if i%10 == 0 {
			add(ProjectChange{Scope: scope(project), Purposes: []string{"labeling"}, Region: "eu"})
		}
		at[i] = scope(project + "/d" + strconv.Itoa(i))
		add(DatasetChange{id[dataset.DatasetID](i), at[i], dataset.Active, time.Time{}})
	}
	for i := range people {
		add(PrincipalChange{ID: id[dataset.PrincipalID](i), Region: "eu"})
	}
	until := epoch.Add(30 * 24 * time.Hour)
	for i := range grants {
		add(GrantChange{dataset.Grant{ID: id[dataset.GrantID](i), Principal: id[dataset.PrincipalID](i % people),
			Role: dataset.Labeler, Scope: at[(i%people*7+i/people*10)%datasets].Parent(), Until: until, By: root}})
	}
	w.Apply(1, batch...)
	batch = batch[:0]
	l.queries = make([]Query, assignments/61+1)
	for i := range l.queries {
		l.queries[i] = Query{Action: Read, Object: Object{Kind: Shard}, Purpose: "labeling",
			Now: epoch.Add(time.Duration(random.IntN(1000)) * time.Second)}
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range assignments {
		who := i % people
		ds := (who*7+i/people%3*10)/10*10%datasets + i/people
		first := i / people * 8
		add(AssignmentChange{dataset.Assignment{ID: id[dataset.AssignmentID](i), Principal: id[dataset.PrincipalID](who),
			Dataset: id[dataset.DatasetID](ds), Scope: at[ds], Shards: dataset.ShardSet{{First: first, Last: first + 7}}, Until: until, By: root}})
		if i%61 == 0 {
			q := &l.queries[i/61]
			q.Actor, q.Object.Scope, q.Object.Shard = id[dataset.PrincipalID](who), at[ds], first+random.IntN(8)
		}
	}
	w.Apply(1, batch...)
	runtime.GC()
	runtime.ReadMemStats(&after)
	l.assignment = float64(after.HeapAlloc-before.HeapAlloc) / assignments
	random.Shuffle(len(l.queries), func(i, j int) { l.queries[i], l.queries[j] = l.queries[j], l.queries[i] })
	return l
})

func BenchmarkDecideSmall(b *testing.B) {
	w := smallWorld(b)
	q := ask(b, lab, Read, Shard, "acme/signs/b1", 2)
	b.ReportAllocs()
	for b.Loop() {
		if !w.Decide(q).Allowed {
			b.Fatal("refused")
		}
	}
}

func BenchmarkDecideRefused(b *testing.B) {
	w := smallWorld(b)
	q := ask(b, con, Read, Shard, "acme/signs/b1", 5)
	b.ReportAllocs()
	for b.Loop() {
		if w.Decide(q).Allowed {
			b.Fatal("allowed")
		}
	}
}

func BenchmarkDecideLarge(b *testing.B) {
	l := large()
	allowed, i := 0, 0
	b.ReportAllocs()
	for b.Loop() {
		if l.world.Decide(l.queries[i%len(l.queries)]).Allowed {
			allowed++
		}
		i++
	}
	if allowed != i {
		b.Fatalf("%d of %d allowed", allowed, i)
	}
	b.ReportMetric(float64(i)/b.Elapsed().Seconds(), "decisions/s")
	b.ReportMetric(l.assignment, "B/assignment")
}

func BenchmarkDecideLargeTail(b *testing.B) {
	l := large()
	took := make([]time.Duration, 0, 1<<20)
	for b.Loop() {
		start := time.Now()
		l.world.Decide(l.queries[len(took)%len(l.queries)])
		if took = append(took, time.Since(start)); len(took) == cap(took) {
			took = took[:0]
		}
	}
	slices.Sort(took)
	for _, percent := range []int{50, 99} {
		b.ReportMetric(float64(took[len(took)*percent/100]), "p"+strconv.Itoa(percent)+"-ns")
	}
}

func BenchmarkDecideLargeParallel(b *testing.B) {
	l := large()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := rand.IntN(len(l.queries)); pb.Next(); i++ {
			l.world.Decide(l.queries[i%len(l.queries)])
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
}

func BenchmarkCasbin(b *testing.B) {
	e := Default().engine
	facts := Active | Live | Assigned | Region | Purpose
	b.ReportAllocs()
	for b.Loop() {
		if v, err := e.decide(Shard, Read, labeler, facts); err != nil || !v.allowed {
			b.Fatal(v, err)
		}
	}
}

func BenchmarkMemo(b *testing.B) {
	m := new(memo)
	asked := question(Shard.number(), Read.number(), labeler, Active|Live|Assigned|Region|Purpose)
	m.put(asked, verdict{true, 3})
	b.ReportAllocs()
	for b.Loop() {
		if v, ok := m.get(asked); !ok || !v.allowed {
			b.Fatal(v, ok)
		}
	}
}

func BenchmarkLoadPolicy(b *testing.B) {
	for b.Loop() {
		if _, err := LoadPolicy(edited(b, modelFile, embedded(b, modelFile))); err != nil {
			b.Fatal(err)
		}
	}
}
