package rbac

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/casbin/casbin/v2"
	"github.com/casbin/casbin/v2/model"

	"dsvault/vault/dataset"
)

// People of the small vault.
var (
	root  = id[dataset.PrincipalID](1) // admin of the vault
	owner = id[dataset.PrincipalID](2) // client at acme
	lab   = id[dataset.PrincipalID](3) // labeler at acme/signs, shards 0-3 of b1
	con   = id[dataset.PrincipalID](4) // contractor at acme/signs, shard 5 of b1
	aud   = id[dataset.PrincipalID](5) // auditor of the vault
	bot   = id[dataset.PrincipalID](6) // service at acme, a machine account
	none  = id[dataset.PrincipalID](7) // no role
	batch = id[dataset.DatasetID](1)
)

func grantOf(n int, who dataset.PrincipalID, role dataset.Role, scope dataset.Scope, until time.Time) GrantChange {
	return GrantChange{dataset.Grant{ID: id[dataset.GrantID](n), Principal: who, Role: role, Scope: scope, Until: until, By: root}}
}

func smallWorld(t testing.TB) *World {
	acme, signs, b1 := scopeOf(t, "acme"), scopeOf(t, "acme/signs"), scopeOf(t, "acme/signs/b1")
	w := NewWorld(Default())
	changes := []Change{
		ClientChange{acme}, ProjectChange{Scope: signs, Purposes: []string{"labeling"}, Delivery: []dataset.Delivery{dataset.Opened}},
		DatasetChange{batch, b1, dataset.Active, time.Time{}}, AgreementChange{Name: "nda", Version: 1},
		grantOf(1, root, dataset.Admin, dataset.Root, time.Time{}),
		grantOf(2, owner, dataset.ClientUser, acme, time.Time{}),
		grantOf(3, lab, dataset.Labeler, signs, epoch.Add(3*time.Hour)),
		grantOf(4, con, dataset.Contractor, signs, epoch.Add(2*time.Hour)),
		grantOf(5, aud, dataset.Auditor, dataset.Root, time.Time{}),
		grantOf(6, bot, dataset.Service, acme, time.Time{}),
		AssignmentChange{dataset.Assignment{ID: id[dataset.AssignmentID](1), Principal: lab, Dataset: batch, Scope: b1,
			Shards: dataset.ShardSet{{First: 0, Last: 3}}, Until: epoch.Add(time.Hour), By: root}},
		AssignmentChange{dataset.Assignment{ID: id[dataset.AssignmentID](2), Principal: con, Dataset: batch, Scope: b1,
			Shards: dataset.ShardSet{{First: 5, Last: 5}}, By: root}},
	}
	for _, who := range []dataset.PrincipalID{root, owner, lab, con, aud, bot, none} {
		changes = append(changes, PrincipalChange{ID: who, Service: who == bot})
	}
	w.Apply(1, changes...)
	return w
}

func ask(t testing.TB, who dataset.PrincipalID, action Action, kind Kind, scope string, shard int) Query {
	return Query{Actor: who, Action: action, Object: Object{Kind: kind, Scope: scopeOf(t, scope), Shard: shard},
		Purpose: "labeling", Now: epoch}
}

func TestDecide(t *testing.T) {
	const b1 = "acme/signs/b1"
	w := smallWorld(t)
	w.Apply(2, PrincipalChange{ID: id[dataset.PrincipalID](8), Disabled: true})
	with := func(q Query, edit func(*Query)) Query { edit(&q); return q }
	for _, c := range []struct {
		name    string
		q       Query
		rule    string // of an allow; "" refused
		visible bool
		reasons string
	}{
		{"labeler reads", ask(t, lab, Read, Shard, b1, 3), "LAB-03", true, ""},
		{"labeler, unassigned shard", ask(t, lab, Read, Shard, b1, 4), "", true, "LAB-03 needs assigned"},
		{"labeler, other purpose", with(ask(t, lab, Read, Shard, b1, 3), func(q *Query) { q.Purpose = "training" }), "", true, "LAB-03 needs purpose"},
		{"labeler, opened", with(ask(t, lab, Read, Shard, b1, 3), func(q *Query) { q.Delivery = dataset.Opened }), "LAB-03", true, ""},
		{"labeler, sealed by name", with(ask(t, lab, Read, Shard, b1, 3), func(q *Query) { q.Delivery = dataset.Sealed }), "LAB-03", true, ""},
		{"labeler, direct", with(ask(t, lab, Read, Shard, b1, 3), func(q *Query) { q.Delivery = dataset.Direct }), "", true, "DNY-44 denies: not delivery"},
		{"labeler, odd delivery", with(ask(t, lab, Read, Shard, b1, 3), func(q *Query) { q.Delivery = "odd" }), "", true, "DNY-44 denies: not delivery"},
		{"owner, direct", with(ask(t, owner, Read, Shard, b1, 3), func(q *Query) { q.Delivery = dataset.Direct }), "", true, "DNY-44 denies: not delivery; CLI-09 needs hold"},
		{"stranger, opened", with(ask(t, none, Read, Shard, b1, 3), func(q *Query) { q.Delivery = dataset.Opened }), "", false, "no role here"},
		{"stranger, direct", with(ask(t, none, Read, Shard, b1, 3), func(q *Query) { q.Delivery = dataset.Direct }), "", false, "DNY-44 denies: not delivery; no role here"},
		{"admin's terms", ask(t, root, Update, Project, "acme/signs", -1), "ADM-33", true, ""},
		{"labeler, no number", ask(t, lab, Read, Shard, b1, -1), "", true, "LAB-03 needs assigned"},
		{"contractor unsigned", ask(t, con, Read, Shard, b1, 5), "", true, "DNY-19 denies: not nda; CON-02 needs nda"},
		{"contractor's dataset", ask(t, con, Read, Dataset, b1, -1), "CON-05", true, ""},
		{"contractor exports", ask(t, con, Create, ExportObj, b1, -1), "", true, "DNY-18 denies: never for contractor; no rule lets contractor create export"},
		{"owner reads", with(ask(t, owner, Read, Shard, b1, 9), func(q *Query) { q.Purpose = "" }), "CLI-08", true, ""},
		{"owner uploads", ask(t, owner, Upload, Dataset, b1, -1), "CLI-07", true, ""},
		{"owner deletes alone", ask(t, owner, Delete, Dataset, b1, -1), "", true, "CLI-14 needs dual"},
		{"owner's new project", ask(t, owner, Create, Project, "acme/new", -1), "CLI-02", true, ""},
		{"owner's new dataset", ask(t, owner, Create, Dataset, "acme/signs/b2", -1), "CLI-05", true, ""},
		{"owner's new dataset, named by its parent", ask(t, owner, Create, Dataset, "acme/signs", -1), "CLI-05", true, ""},
		{"owner's missing dataset", ask(t, owner, Read, Dataset, "acme/signs/b2", -1), "", true, "no such dataset"},
		{"owner's dataset in a missing project", ask(t, owner, Create, Dataset, "acme/none/b2", -1), "", true, "no such project"},
		{"labeler's missing dataset", ask(t, lab, Read, Dataset, "acme/signs/b2", -1), "", false, "no such dataset"},
		{"admin reads no data", ask(t, root, Read, Shard, b1, 3), "", true, "ADM-29 needs datagrant; ADM-62 needs emergency; ADM-64 needs disclosed; ADM-65 needs hold, disclosed"},
		{"admin grants", with(ask(t, root, Grant, GrantObj, "acme", -1), func(q *Query) { q.Target = lab }), "ADM-11", true, ""},
		{"admin grants himself", with(ask(t, root, Grant, GrantObj, "acme", -1), func(q *Query) { q.Target = root }), "", true, "DNY-16 denies: self; ADM-11 needs not self"},
		{"admin assigns himself", with(ask(t, root, Assign, AssignmentObj, b1, -1), func(q *Query) { q.Target = root }), "", true, "DNY-17 denies: self; ADM-14 needs not self"},
		{"admin approves his own", with(ask(t, root, Approve, Approval, b1, -1), func(q *Query) { q.Object.Owner = root }), "", true, "DNY-15 denies: self; ADM-17 needs not self"},
		{"admin reads the log", ask(t, root, Read, Log, "/", -1), "ADM-32", true, ""},
		{"auditor reads no data", ask(t, aud, Read, Shard, b1, 3), "", true, "DNY-01 denies: never for auditor; no rule lets auditor read shard"},
		{"service uploads", ask(t, bot, Upload, Dataset, b1, -1), "SVC-01", true, ""},
		{"service reads no data", ask(t, bot, Read, Shard, b1, 3), "", true, "DNY-21 denies: never for service; no rule lets service read shard"},
		{"labeler reads an agreement", ask(t, lab, Read, AgreementObj, "/", -1), "LAB-07", true, ""},
		{"stranger reads an agreement", ask(t, none, Read, AgreementObj, "/", -1), "", true, "no role here"},
		{"stranger, there", ask(t, none, Read, Shard, b1, 3), "", false, "no role here"},
		{"stranger, not there", ask(t, none, Read, Shard, "acme/signs/zz", 3), "", false, "no such dataset"},
		{"stranger creates what is there", ask(t, none, Create, Dataset, b1, -1), "", false, "no role here"},
		{"stranger creates what is not", ask(t, none, Create, Dataset, "acme/signs/zz", -1), "", false, "no role here"},
		{"stranger looks somebody up", with(ask(t, none, Read, Person, "/", -1), func(q *Query) { q.Object.Owner = lab }), "", false, "no role here"},
		{"labeler looks at another client", ask(t, lab, Read, Org, "acme", -1), "", false, "no role here"},
		{"unknown principal", ask(t, id[dataset.PrincipalID](99), Read, Shard, b1, 3), "", false, "unknown principal"},
		{"nobody", ask(t, dataset.PrincipalID{}, Read, Shard, b1, 3), "", false, "unknown principal"},
		{"disabled", ask(t, id[dataset.PrincipalID](8), Read, Shard, b1, 3), "", false, "principal is disabled"},
		{"unknown kind", ask(t, root, Read, "thing", b1, 3), "", false, "no such kind of object or action"},
		{"unknown action", ask(t, root, "*", Shard, b1, 3), "", false, "no such kind of object or action"},
		{"nothing at all", Query{}, "", false, "no such kind of object or action"},
		{"no scope", Query{Actor: root, Action: Read, Object: Object{Kind: Log}, Now: epoch}, "", false, "no scope or no time in the question"},
		{"no time", with(ask(t, root, Read, Log, "/", -1), func(q *Query) { q.Now = time.Time{} }), "", false, "no scope or no time in the question"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := w.Decide(c.q)
			if d.Allowed != (c.rule != "") || d.Allowed && d.Rule != c.rule || d.Visible != c.visible || strings.Join(d.Reasons, "; ") != c.reasons {
				t.Errorf("%+v (roles %v, facts %v)", d, d.Roles, d.Facts)
			}
			e := w.Explain(c.q)
			if len(e.Reasons) == 0 {
				t.Error("nothing explained")
			}
			if d.Allowed {
				e.Reasons = nil
			}
			if !slices.Equal(d.Reasons, e.Reasons) || d.Allowed != e.Allowed || d.Rule != e.Rule || d.Facts != e.Facts || !d.Until.Equal(e.Until) {
				t.Errorf("Explain gives another answer: %+v", e)
			}
		})
	}
}

// The clock is looked at every time, whatever was remembered.
func TestExpiry(t *testing.T) {
	w := smallWorld(t)
	q := ask(t, lab, Read, Shard, "acme/signs/b1", 2)
	d := w.Decide(q)
	if !d.Allowed || !d.Until.Equal(epoch.Add(time.Hour)) {
		t.Fatalf("%+v", d)
	}
	q.Now = d.Until.Add(-1)
	if !w.Decide(q).Allowed {
		t.Error("refused a nanosecond before the end")
	}
	q.Now = d.Until
	if w.Decide(q).Allowed {
		t.Error("allowed at the end")
	}
	q = ask(t, con, Read, Shard, "acme/signs/b1", 5)
	w.Apply(2, SignatureChange{dataset.Signature{Principal: con, Agreement: "nda", Version: 1, At: epoch, Until: epoch.Add(90 * time.Minute)}})
	if d := w.Decide(q); !d.Allowed || !d.Until.Equal(epoch.Add(90*time.Minute)) {
		t.Errorf("signed: %+v", d)
	}
	w.Apply(3, AgreementChange{Name: "nda", Version: 2})
	if d := w.Decide(q); d.Allowed || !slices.Contains(d.Reasons, "CON-02 needs nda") {
		t.Errorf("signed only the old version: %+v", d)
	}
	w.Apply(4, AgreementChange{Name: "nda", Version: 1}, SignatureChange{dataset.Signature{Principal: con, Agreement: "nda", Version: 2, At: epoch}})
	if d := w.Decide(q); !d.Allowed || !d.Until.Equal(epoch.Add(2*time.Hour)) {
		t.Errorf("signed the new version: %+v", d)
	}
	w.Apply(5, SignatureChange{dataset.Signature{Principal: con, Agreement: "nda", Version: 2, At: epoch, Withdrawn: epoch}})
	if w.Decide(q).Allowed {
		t.Error("withdrawn")
	}
}

// What ended stays ended, even if a row from before comes late.
func TestEndedStaysEnded(t *testing.T) {
	w := smallWorld(t)
	q := ask(t, lab, Read, Shard, "acme/signs/b1", 2)
	old := grantOf(3, lab, dataset.Labeler, scopeOf(t, "acme/signs"), time.Time{})
	revoked := old
	revoked.Revoked = epoch
	w.Apply(3, revoked)
	w.Apply(2, old)
	if w.Decide(q).Allowed || w.Revision() != 3 {
		t.Errorf("a revoked grant came back, at revision %d", w.Revision())
	}
	w.Apply(4, grantOf(30, lab, dataset.Labeler, scopeOf(t, "acme/signs"), time.Time{}))
	if !w.Decide(q).Allowed {
		t.Error("a new grant does not count")
	}
	was := dataset.Assignment{ID: id[dataset.AssignmentID](1), Principal: lab, Dataset: batch, Shards: dataset.ShardSet{{First: 0, Last: 3}}}
	over := was
	over.Ended = epoch
	w.Apply(6, AssignmentChange{over})
	w.Apply(5, AssignmentChange{was})
	if w.Decide(q).Allowed {
		t.Error("an ended assignment came back")
	}

	q = ask(t, con, Read, Shard, "acme/signs/b1", 5)
	sign := func(at, withdrawn time.Time) SignatureChange {
		return SignatureChange{dataset.Signature{Principal: con, Agreement: "nda", Version: 1, At: at, Withdrawn: withdrawn}}
	}
	w.Apply(8, sign(epoch.Add(time.Hour), epoch.Add(2*time.Hour)))
	w.Apply(7, sign(epoch, time.Time{}))
	if w.Decide(q).Allowed {
		t.Error("an older signature undid a withdrawal")
	}
	w.Apply(9, sign(epoch.Add(3*time.Hour), time.Time{}))
	if !w.Decide(q).Allowed {
		t.Error("signing again does not count")
	}
}

// The names of people are nothing to the table.
func TestNamedLikeARole(t *testing.T) {
	w := NewWorld(Default())
	var called dataset.PrincipalID
	copy(called[:], "admin")
	w.Apply(1, PrincipalChange{ID: called}, ClientChange{scopeOf(t, "admin")})
	for _, kind := range Kinds {
		for _, action := range Actions {
			if d := w.Decide(ask(t, called, action, kind, "admin", -1)); d.Allowed || d.Roles != 0 {
				t.Errorf("%s %s: %+v", action, kind, d)
			}
		}
	}
}

// A person's grant of the role service counts for nothing.
func TestServiceIsForMachines(t *testing.T) {
	w := smallWorld(t)
	w.Apply(2, grantOf(40, none, dataset.Service, scopeOf(t, "acme"), time.Time{}))
	if d := w.Decide(ask(t, none, Upload, Dataset, "acme/signs/b1", -1)); d.Allowed || d.Roles != 0 {
		t.Errorf("%+v", d)
	}
}

// Whatever goes wrong inside Casbin is a refusal, and is not remembered.
func TestErrorsRefuse(t *testing.T) {
	m, err := model.NewModelFromString(embedded(t, modelFile))
	if err != nil {
		t.Fatal(err)
	}
	enforcer, err := casbin.NewEnforcer(m, readOnly(Default().rules)) // knows neither holds nor when
	if err != nil {
		t.Fatal(err)
	}
	broken := *Default()
	broken.engine = &engine{enforcer: enforcer, rules: broken.rules}
	w := smallWorld(t)
	q := ask(t, lab, Read, Shard, "acme/signs/b1", 2)
	w.SetPolicy(&broken)
	for range 2 {
		if d := w.Decide(q); d.Allowed || !slices.Equal(d.Reasons, []string{"the policy could not be evaluated"}) {
			t.Errorf("%+v", d)
		}
	}
	w.SetPolicy(Default())
	if !w.Decide(q).Allowed {
		t.Error("refused under the sound policy")
	}
}

// A policy that was swapped is not answered from the old one's memory.
func TestSetPolicy(t *testing.T) {
	w := smallWorld(t)
	q := ask(t, root, Read, Log, "/", -1)
	if !w.Decide(q).Allowed {
		t.Fatal("refused")
	}
	policy := strings.Replace(embedded(t, policyFile), "p, ADM-32, admin, log, read, always, allow\n", "", 1)
	truth := strings.ReplaceAll(embedded(t, truthFile), "allow, ADM-32", "refuse, -")
	files := edited(t, policyFile, policy)
	p, err := LoadPolicy(overlay{files, truthFile, truth})
	if err != nil {
		t.Fatal(err)
	}
	w.SetPolicy(p)
	if d := w.Decide(q); d.Allowed || d.Policy != p.Hash() {
		t.Errorf("%+v", d)
	}
}

// Readers, writers and a swapping of policies together; run it with -race.
// Once Apply has returned from a revocation, nothing is allowed.
func TestConcurrency(t *testing.T) {
	w := smallWorld(t)
	q := ask(t, lab, Read, Shard, "acme/signs/b1", 2)
	signs := scopeOf(t, "acme/signs")
	var revoked atomic.Uint64 // the highest revision whose revocation has returned
	var granted atomic.Uint64 // the highest revision that may grant again
	stop := make(chan struct{})
	var readers sync.WaitGroup
	var allowed atomic.Int64
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				before := revoked.Load()
				d := w.Decide(q)
				if d.Allowed {
					allowed.Add(1)
					if before > granted.Load() {
						t.Errorf("allowed at revision %d after the revocation at %d", d.Revision, before)
						return
					}
				}
				if d.Revision < before || d.Allowed != (d.Revision%2 == 1) {
					t.Errorf("revision %d, allowed=%t, after %d", d.Revision, d.Allowed, before)
					return
				}
			}
		})
	}
	random := rand.New(rand.NewPCG(1, 1))
	for n := range 500 {
		g := grantOf(3+100*n, lab, dataset.Labeler, signs, epoch.Add(3*time.Hour))
		if n == 0 {
			g = grantOf(3, lab, dataset.Labeler, signs, epoch.Add(3*time.Hour))
		}
		g.Revoked = epoch
		revision := w.Revision()
		w.Apply(revision+1, g)
		revoked.Store(revision + 1)
		if random.IntN(20) == 0 {
			w.SetPolicy(Default())
		}
		w.Decide(ask(t, owner, Create, Project, "acme/p", -1))
		granted.Store(revision + 2)
		w.Apply(revision+2, grantOf(3+100*(n+1), lab, dataset.Labeler, signs, epoch.Add(3*time.Hour)))
	}
	close(stop)
	readers.Wait()
	if allowed.Load() == 0 {
		t.Log("no reader came in between")
	}
}

func TestMemo(t *testing.T) {
	m := new(memo)
	random := rand.New(rand.NewPCG(3, 4))
	answers := map[uint64]verdict{}
	for range 3 * memoBuckets * memoWays {
		k, a := random.IntN(len(Kinds)), random.IntN(len(Actions))
		asked := question(k, a, RoleSet(random.IntN(128)), Facts(random.IntN(1<<factCount)))
		v := verdict{random.IntN(2) == 0, random.IntN(maxRules+1) - 1}
		if old, known := answers[asked]; known {
			v = old
		}
		answers[asked] = v
		m.put(asked, v)
		if got, ok := m.get(asked); !ok || got != v {
			t.Fatalf("%x: %v, %t; put %v", asked, got, ok, v)
		}
	}
	kept := 0
	for asked, v := range answers {
		got, ok := m.get(asked)
		if ok && got != v {
			t.Fatalf("%x: %v; put %v", asked, got, v)
		}
		if ok {
			kept++
		}
	}
	if kept == 0 || kept > memoBuckets*memoWays {
		t.Errorf("%d of %d kept", kept, len(answers))
	}
	if _, ok := new(memo).get(0); ok {
		t.Error("an empty memo knows an answer")
	}
}

func TestNoAllocation(t *testing.T) {
	w := smallWorld(t)
	q := ask(t, lab, Read, Shard, "acme/signs/b1", 2)
	if n := testing.AllocsPerRun(1000, func() {
		if !w.Decide(q).Allowed {
			t.Error("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
