package rbac

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"dsvault/vault/dataset"
)

func id[T ~[16]byte](n int) T {
	var id T
	binary.BigEndian.PutUint64(id[8:], uint64(n+1))
	return id
}

func scopeOf(t testing.TB, s string) dataset.Scope {
	t.Helper()
	scope, err := dataset.ParseScope(s)
	if err != nil {
		t.Fatal(err)
	}
	return scope
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// fuzzer makes random changes and questions in a small vault, where much
// touches much.
type fuzzer struct {
	*rand.Rand
	scopes []dataset.Scope
	clock  int // minutes
}

func (f *fuzzer) time() time.Time { return epoch.Add(time.Duration(f.clock) * time.Minute) }

func (f *fuzzer) until() time.Time {
	if f.IntN(3) == 0 {
		return time.Time{}
	}
	return f.time().Add(time.Duration(f.IntN(60)-5) * time.Minute)
}

func (f *fuzzer) ended() time.Time {
	if f.IntN(4) > 0 {
		return time.Time{}
	}
	return f.time()
}

func (f *fuzzer) person() dataset.PrincipalID { return id[dataset.PrincipalID](f.IntN(5)) }

func (f *fuzzer) at(depth int) dataset.Scope {
	for {
		if s := pick(f.Rand, f.scopes); s.Depth() == depth {
			return s
		}
	}
}

func (f *fuzzer) change() Change {
	switch n := f.IntN(60); {
	case n < 2:
		return PrincipalChange{ID: f.person(), Service: f.IntN(3) == 0, Disabled: f.IntN(6) == 0,
			Region: pick(f.Rand, []string{"", "eu", "us"}), Restricted: f.IntN(10) == 0}
	case n < 3:
		return ClientChange{f.at(1)}
	case n < 5:
		return ProjectChange{Scope: f.at(2), Purposes: pick(f.Rand, [][]string{nil, {"labeling"}, {"labeling", "research"}}),
			Consent:  pick(f.Rand, [][]string{nil, nil, {"research"}}),
			Delivery: pick(f.Rand, [][]dataset.Delivery{nil, {dataset.Opened}, {dataset.Direct}, {dataset.Opened, dataset.Direct}}),
			Region:   pick(f.Rand, []string{"", "eu"}), Sensitive: f.IntN(8) == 0, Claims: f.IntN(2) == 0}
	case n < 8:
		s := f.at(3)
		i := slices.Index(f.scopes, s)
		return DatasetChange{id[dataset.DatasetID](i), s, pick(f.Rand,
			[]dataset.State{dataset.Active, dataset.Active, dataset.Active, dataset.Restricted, dataset.Held, dataset.Expired, dataset.Erased, "odd"}),
			pick(f.Rand, []time.Time{{}, f.time().AddDate(0, 0, -1).Add(time.Duration(f.IntN(100)) * time.Minute)})}
	case n < 20:
		who := f.IntN(5)
		return GrantChange{dataset.Grant{
			ID: id[dataset.GrantID](who*100 + f.IntN(8)), Principal: id[dataset.PrincipalID](who), Role: pick(f.Rand, dataset.Roles[:]),
			Scope: pick(f.Rand, f.scopes), Until: f.until(), By: f.person(), At: f.time(), Revoked: f.ended(), ApprovedBy: f.second(),
		}}
	case n < 32:
		s := f.at(3)
		i, who := slices.Index(f.scopes, s), f.IntN(5)
		return AssignmentChange{dataset.Assignment{
			ID: id[dataset.AssignmentID]((who*100+i)*100 + f.IntN(6)), Principal: id[dataset.PrincipalID](who),
			Dataset: id[dataset.DatasetID](i), Scope: s, Until: f.until(), By: f.person(), Ended: f.ended(), ApprovedBy: f.second(),
			Shards: pick(f.Rand, []dataset.ShardSet{{{First: 0, Last: 0}}, {{First: 1, Last: 2}}, {{First: 0, Last: 0}, {First: 2, Last: 3}}}),
		}}
	case n < 34:
		return AgreementChange{pick(f.Rand, []string{"nda", "strict"}), 1 + f.IntN(2), pick(f.Rand, []time.Time{{}, f.until()})}
	case n < 38:
		return f.approval()
	case n < 40:
		return ConditionsChange{f.at(f.IntN(3)), pick(f.Rand, [][]string{nil, nil, {"nda"}, {"strict"}, {"nda", "strict"}}),
			pick(f.Rand, []time.Duration{0, 0, 20 * time.Minute}), pick(f.Rand, [][]dataset.Delivery{nil, {dataset.Opened}}),
			pick(f.Rand, [][]string{nil, nil, {"Thu 00:30-02:00 UTC"}, {"Wed-Thu 23:00-01:10 UTC"}, {"Thu 00:30-02:00 UTC", "Wed-Thu 23:00-01:10 UTC"}, {"never"}}),
			pick(f.Rand, [][]string{nil, nil, {"192.0.2.0/24"}, {"192.0.2.0/24", "nowhere"}, {"nowhere"}}),
			pick(f.Rand, [][]dataset.Transfer{nil, {{Region: "us", Basis: dataset.BasisAdequacy}}, {{Region: "", Basis: dataset.BasisSCC}}})}
	case n < 43: // a few of each, which change; whose one is stays
		n := f.IntN(20)
		return BreakGlassChange{id[dataset.BreakGlassID](n), id[dataset.PrincipalID](n % 5), f.scopes[n%len(f.scopes)], f.until(), f.IntN(8) == 0}
	case n < 46:
		n, s := f.IntN(30), f.at(3)
		i := slices.Index(f.scopes, s)
		return DisclosureChange{id[dataset.DisclosureID](n*100 + i), id[dataset.PrincipalID](n % 5), id[dataset.DatasetID](i),
			pick(f.Rand, []dataset.ShardSet{{{First: 0, Last: 1}}, {{First: 0, Last: 0}, {First: 2, Last: 3}}}), f.second(), f.until(), f.IntN(8) == 0}
	case n < 48:
		return ChoiceChange{dataset.Choice{Principal: f.person(), Kind: pick(f.Rand, []dataset.ChoiceKind{dataset.Consent, dataset.Objection}),
			Purpose: pick(f.Rand, []string{"labeling", "research"}), At: f.time(), Ended: f.ended()}}
	case n < 50:
		i := f.IntN(len(f.scopes))
		return HoldChange{dataset.Hold{ID: id[dataset.HoldID](i*100 + f.IntN(4)), Scope: f.scopes[i],
			Released: pick(f.Rand, []time.Time{{}, f.time(), f.time(), f.time()})}}
	case n < 52:
		return RetentionChange{pick(f.Rand, f.scopes), pick(f.Rand, []dataset.Period{{}, {Days: 1}, {Years: 1}})}
	default:
		return SignatureChange{dataset.Signature{
			Principal: f.person(), Agreement: pick(f.Rand, []string{"nda", "strict"}), Version: 1 + f.IntN(2),
			At: f.time(), Until: f.until(), Withdrawn: f.ended(),
		}}
	}
}

// second is nobody, often, or somebody.
func (f *fuzzer) second() dataset.PrincipalID {
	if f.IntN(2) == 0 {
		return dataset.PrincipalID{}
	}
	return f.person()
}

// twoPeople are the questions that approvals are about.
var twoPeople = []struct {
	action Action
	kind   Kind
	depth  int
}{{Grant, GrantObj, 2}, {Assign, AssignmentObj, 3}, {Update, Project, 2}, {Delete, Dataset, 3}, {Release, Dataset, 3}, {Destroy, Key, 3}, {Create, ExportObj, 3}}

// approval changes one of few approvals, each of which is of another question.
func (f *fuzzer) approval() ApprovalChange {
	n, who, whom := f.IntN(len(twoPeople)), f.IntN(5), f.IntN(5)
	about := twoPeople[n]
	return ApprovalChange{
		ID: id[dataset.ApprovalID]((n*10+who)*10 + whom), Requester: id[dataset.PrincipalID](who), Target: id[dataset.PrincipalID](whom),
		Action: about.action, Object: Object{Kind: about.kind, Scope: f.scopes[slices.IndexFunc(f.scopes, func(s dataset.Scope) bool { return s.Depth() == about.depth })], Shard: -1},
		Terms: [32]byte{1}, By: f.second(), Until: f.until(), Used: f.IntN(6) == 0, Ended: f.IntN(12) == 0,
	}
}

func (f *fuzzer) query() Query {
	q := Query{Actor: f.person(), Action: pick(f.Rand, Actions[:]), Purpose: pick(f.Rand, []string{"", "labeling", "labeling", "research", "legal"}),
		Delivery: pick(f.Rand, []dataset.Delivery{"", dataset.Sealed, dataset.Sealed, dataset.Opened, dataset.Direct, "odd"}),
		Object:   Object{Kind: pick(f.Rand, Kinds[:]), Scope: pick(f.Rand, f.scopes), Shard: f.IntN(5) - 1}, Now: f.time(),
		Address: pick(f.Rand, []netip.Addr{{}, netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("198.51.100.1")})}
	if f.IntN(2) == 0 { // what matters most
		q.Action, q.Object.Kind, q.Object.Scope = Read, pick(f.Rand, []Kind{Shard, Shard, Dataset, Annotation}), f.at(3)
	}
	if f.IntN(2) == 0 {
		q.Object.Owner = f.person()
	}
	if f.IntN(2) == 0 {
		q.Target = f.person()
	}
	if f.IntN(4) == 0 { // what takes two people
		a := f.approval()
		q.Actor, q.Action, q.Object, q.Target, q.Terms = a.Requester, a.Action, a.Object, a.Target, a.Terms
		q.Terms[0] += byte(f.IntN(8) / 7)
		if a.Object.Kind == ExportObj && f.IntN(2) == 0 {
			q.Action = Read
		}
	}
	if q.Action == Approve {
		q.Asked = pick(f.Rand, []Action{"", Grant, Assign, Release})
	}
	return q
}

// Random histories, each step of which the world and the oracle judge alike.
func TestWorldAgainstOracle(t *testing.T) {
	p := Default()
	names := []string{"/", "acme", "beta", "acme/signs", "acme/roads", "beta/x", "acme/signs/b1", "acme/signs/b2",
		"acme/roads/b1", "beta/x/b1", "acme-2", "acme/signs-2", "none/none/none"}
	var scopes []dataset.Scope
	for _, s := range names {
		scopes = append(scopes, scopeOf(t, s))
	}
	histories := 16
	if os.Getenv("DSVAULT_TEST_FULL") != "" {
		histories = 200
	}
	allowed, reads, lapsing, hidden, dual := 0, 0, 0, 0, 0
	for seed := range histories {
		f := &fuzzer{rand.New(rand.NewPCG(uint64(seed), 7)), scopes, 0}
		w, o := NewWorld(p), newOracle(p)
		for step := range 250 {
			f.clock += f.IntN(3)
			c := f.change()
			if d, ok := c.(DatasetChange); ok && d.Scope.Base() == "none" {
				continue // stays unknown
			}
			o.apply(c)
			w.Apply(uint64(step), c)
			if f.IntN(4) == 0 {
				w.Apply(uint64(step), c) // twice is once
			}
			for range 12 {
				q := f.query()
				d, want := w.Decide(q), o.decide(q)
				got := answer{d.Allowed, d.Visible, d.Rule, d.Roles, d.Facts}
				if got != want {
					t.Fatalf("history %d, step %d, %+v:\n%+v, but the oracle says\n%+v", seed, step, q, got, want)
				}
				if d.Allowed == (len(d.Reasons) > 0) {
					t.Fatalf("%+v: allowed=%t with reasons %q", q, d.Allowed, d.Reasons)
				}
				if d.Revision != uint64(step) || d.Policy != p.Hash() {
					t.Fatalf("decided at %d under %x", d.Revision, d.Policy)
				}
				if d.Allowed {
					if until := o.until(q); !until.Equal(d.Until) {
						t.Fatalf("history %d, step %d, %+v: until %v; the oracle says %v", seed, step, q, d.Until, until)
					}
					allowed++
					if d.Facts.Has(Dual) {
						dual++
					}
					if q.Object.Kind == Shard {
						reads++
					}
					if !d.Until.IsZero() {
						lapsing++
					}
				}
				if !d.Visible {
					hidden++
				}
			}
		}
	}
	t.Logf("%d allowed, %d of them reads of shards, %d by two people, %d that lapse; %d hidden", allowed, reads, dual, lapsing, hidden)
	if reads == 0 || dual == 0 || lapsing == 0 || hidden == 0 {
		t.Error("the histories are too tame")
	}
}
