package rbac

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"dsvault/vault/dataset"
)

// shelf keeps rows as the catalog does: by their keys, and what has ended stays so.
type shelf map[string]Change

// put gives the row as it is then.
func (s shelf) put(c Change) Change {
	key := func(parts ...any) string { return fmt.Sprintf("%T %v", c, parts) }
	k := ""
	switch now := c.(type) {
	case PrincipalChange:
		k = key(now.ID)
	case ChoiceChange:
		k = key(now.Principal, now.Kind, now.Purpose)
	case GrantChange:
		k = key(now.ID)
		if old, ok := s[k].(GrantChange); ok && !old.Revoked.IsZero() {
			c = old
		}
	case AssignmentChange:
		k = key(now.ID)
		if old, ok := s[k].(AssignmentChange); ok && !old.Ended.IsZero() {
			c = old
		}
	case SignatureChange:
		k = key(now.Principal, now.Agreement, now.Version)
		if old, ok := s[k].(SignatureChange); ok && now.At.Before(old.At) {
			c = old
		}
	case ApprovalChange:
		k = key(now.ID)
		old, _ := s[k].(ApprovalChange)
		now.Ended, now.Used = now.Ended || old.Ended, now.Used || old.Used
		c = now
	case BreakGlassChange:
		k = key(now.ID)
		old, _ := s[k].(BreakGlassChange)
		now.Ended = now.Ended || old.Ended
		c = now
	case DisclosureChange:
		k = key(now.ID)
		old, _ := s[k].(DisclosureChange)
		now.Ended = now.Ended || old.Ended
		c = now
	case ClientChange:
		k = key(now.Scope)
	case ProjectChange:
		k = key(now.Scope)
	case DatasetChange:
		k = key(now.Scope)
	case ConditionsChange:
		k = key(now.Scope)
	case RetentionChange:
		k = key(now.Scope)
	case AgreementChange:
		k = key(now.Name, now.Version)
		if old, ok := s[k].(AgreementChange); ok && now.Grace.IsZero() {
			c = old
		}
	case HoldChange:
		k = key(now.ID)
		if old, ok := s[k].(HoldChange); ok && !old.Released.IsZero() {
			c = old
		}
	default:
		panic(fmt.Sprintf("no shelf for %T", c))
	}
	s[k] = c
	return c
}

// of gives the rows that are loaded of some people, or, for none, of everybody:
// grants and assignments that have ended are not.
func (s shelf) of(people ...dataset.PrincipalID) (rows []Change) {
	for _, k := range slices.Sorted(maps.Keys(s)) {
		switch c := s[k].(type) {
		case GrantChange:
			if !c.Revoked.IsZero() {
				continue
			}
		case AssignmentChange:
			if !c.Ended.IsZero() {
				continue
			}
		}
		if who := s[k].whose(); who.IsZero() && len(people) == 0 || slices.Contains(people, who) {
			rows = append(rows, s[k])
		}
	}
	return rows
}

// lagging is a Partial that follows a shelf now and then, and takes people from it
// when they are asked about, as a node does.
type lagging struct {
	*Partial
	behind []Change
	loads  int
}

func (l *lagging) follow(revision uint64) {
	l.Apply(revision, l.behind...)
	l.behind = nil
}

// know asks until it knows everybody whom it takes.
func (l *lagging) know(t *testing.T, s shelf, revision uint64, ask func() []dataset.PrincipalID) {
	t.Helper()
	for range 3 {
		unheld := ask()
		if len(unheld) == 0 {
			return
		}
		l.Hold(revision, unheld, append(l.behind, s.of(unheld...)...)...)
		l.behind = nil
		l.loads++
	}
	t.Fatal("it asks for the same people again")
}

// Random histories, in which a world that takes people as they are asked about, and
// begins anew now and then, decides as one does that has followed from the start.
func TestPartialDecidesLikeWhole(t *testing.T) {
	p := Default()
	verdicts := new(memo) // Casbin's are others' matter, and take their time
	begin := func() *Partial {
		part := NewPartial(p)
		part.w.memo = verdicts
		return part
	}
	var scopes []dataset.Scope
	for _, s := range []string{"/", "acme", "beta", "acme/signs", "acme/roads", "beta/x", "acme/signs/b1", "acme/signs/b2",
		"acme/roads/b1", "beta/x/b1", "acme-2", "none/none/none"} {
		scopes = append(scopes, scopeOf(t, s))
	}
	histories := 6
	if os.Getenv("DSVAULT_TEST_FULL") != "" {
		histories = 300
	}
	allowed, loads, dual := 0, 0, 0
	for seed := range histories {
		f := &fuzzer{rand.New(rand.NewPCG(uint64(seed), 11)), scopes, 0}
		whole, rows, part := NewWorld(p), shelf{}, &lagging{Partial: begin()}
		whole.memo = verdicts
		for step := range 300 {
			f.clock += f.IntN(3)
			revision := uint64(step)
			c := f.change()
			if d, ok := c.(DatasetChange); ok && d.Scope.Base() == "none" {
				continue
			}
			whole.Apply(revision, c)
			switch part.behind = append(part.behind, rows.put(c)); f.IntN(40) {
			case 0: // a node starts
				part = &lagging{Partial: begin(), loads: part.loads}
				part.Apply(revision, rows.of()...)
			default:
				if f.IntN(2) == 0 {
					part.follow(revision)
				}
			}
			for range 12 {
				q := f.query()
				var got Decision
				ask := func() (unheld []dataset.PrincipalID) {
					got, unheld = part.Decide(q)
					return unheld
				}
				part.know(t, rows, revision, ask)
				if part.Revision() < revision { // it says of which revision it decides; that is fenced
					part.follow(revision)
					ask()
				}
				if want := whole.Decide(q); !reflect.DeepEqual(got, want) {
					t.Fatalf("history %d, step %d, %+v:\n%+v, but who knows everybody says\n%+v", seed, step, q, got, want)
				}
				if got.Allowed {
					allowed++
				}
				needs, _ := part.NeedsDual(q)
				if needs != whole.NeedsDual(q) {
					t.Fatalf("history %d, step %d, %+v: a second person: %t", seed, step, q, needs)
				}
				if needs {
					dual++
				}
				own, _ := part.DecideOwn(q.Actor)
				if want := whole.DecideOwn(q.Actor); !reflect.DeepEqual(own, want) {
					t.Fatalf("history %d, step %d, %v: %+v, not %+v", seed, step, q.Actor, own, want)
				}
			}
		}
		loads += part.loads
	}
	t.Logf("%d allowed, %d need a second person, %d loads", allowed, dual, loads)
	if allowed == 0 || dual == 0 || loads < 20*histories {
		t.Error("the histories are too tame")
	}
}

// What is not held is neither refused nor allowed, and what changes of it is not
// kept; who does not exist is held, too.
func TestPartialAsks(t *testing.T) {
	p := NewPartial(Default())
	var ann, bob, nobody dataset.PrincipalID = id[dataset.PrincipalID](1), id[dataset.PrincipalID](2), dataset.PrincipalID{}
	q := Query{Actor: ann, Action: Grant, Object: Object{Kind: GrantObj, Scope: dataset.Root, Shard: -1}, Target: bob, Now: epoch}
	unheldBy := func() []dataset.PrincipalID {
		d, unheld := p.Decide(q)
		if len(unheld) > 0 && !reflect.DeepEqual(d, Decision{}) {
			t.Errorf("it decides without knowing: %+v", d)
		}
		return unheld
	}
	grant := GrantChange{dataset.Grant{ID: id[dataset.GrantID](1), Principal: ann, Role: dataset.Admin, Scope: dataset.Root, At: epoch}}
	p.Apply(1, PrincipalChange{ID: ann}, grant) // not kept
	if got := unheldBy(); !slices.Equal(got, []dataset.PrincipalID{ann, bob}) {
		t.Fatalf("it lacks %v", got)
	}
	p.Hold(1, []dataset.PrincipalID{ann}, PrincipalChange{ID: ann}, grant)
	if got := unheldBy(); !slices.Equal(got, []dataset.PrincipalID{bob}) || p.People() != 1 {
		t.Fatalf("it lacks %v, and holds %d", got, p.People())
	}
	p.Hold(1, []dataset.PrincipalID{bob}) // there is no such person, as yet
	if d, unheld := p.Decide(q); len(unheld) > 0 || !d.Allowed || d.Facts.Has(Frozen) {
		t.Fatalf("%+v, %v", d, unheld)
	}
	p.Apply(2, PrincipalChange{ID: bob, Restricted: true}, PrincipalChange{ID: id[dataset.PrincipalID](3)})
	if d, _ := p.Decide(q); !d.Facts.Has(Frozen) || d.Revision != 2 {
		t.Fatalf("%+v does not know that bob is there", d)
	}
	if p.People() != 2 {
		t.Errorf("it holds %d people", p.People())
	}
	if d, unheld := p.DecideOwn(id[dataset.PrincipalID](3)); d.Allowed || len(unheld) != 1 {
		t.Errorf("%+v, %v", d, unheld)
	}
	if d, unheld := p.DecideOwn(nobody); !d.Allowed || len(unheld) != 0 {
		t.Errorf("a node's own record: %+v, %v", d, unheld)
	}
	q.Actor, q.Target = nobody, nobody
	if d, unheld := p.Decide(q); d.Allowed || len(unheld) != 0 || len(d.Reasons) == 0 {
		t.Errorf("nobody: %+v, %v", d, unheld)
	}
	if _, unheld := p.NeedsDual(Query{Actor: id[dataset.PrincipalID](4), Now: time.Now()}); len(unheld) != 1 {
		t.Errorf("%v", unheld)
	}
}
