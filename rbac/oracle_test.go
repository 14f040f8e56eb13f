package rbac

import (
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvault/vault/dataset"
)

// oracle knows what the world should know, and finds out by walking all of it.
type oracle struct {
	rules       []Rule
	people      map[dataset.PrincipalID]PrincipalChange
	clients     map[dataset.Scope]bool
	projects    map[dataset.Scope]ProjectChange
	datasets    map[dataset.Scope]DatasetChange
	grants      map[dataset.GrantID]dataset.Grant
	assignments map[dataset.AssignmentID]dataset.Assignment
	signatures  []dataset.Signature
	newest      map[string]int
	approvals   map[dataset.ApprovalID]ApprovalChange
	graces      map[string]map[int]time.Time
	conditions  map[dataset.Scope]ConditionsChange
	glass       map[dataset.BreakGlassID]BreakGlassChange
	disclosures map[dataset.DisclosureID]DisclosureChange
	choices     map[string]dataset.Choice
	holds       map[dataset.HoldID]dataset.Hold
	keep        map[dataset.Scope]dataset.Period
}

func newOracle(p *Policy) *oracle {
	return &oracle{
		p.Rules(), map[dataset.PrincipalID]PrincipalChange{}, map[dataset.Scope]bool{}, map[dataset.Scope]ProjectChange{},
		map[dataset.Scope]DatasetChange{}, map[dataset.GrantID]dataset.Grant{},
		map[dataset.AssignmentID]dataset.Assignment{}, nil, map[string]int{}, map[dataset.ApprovalID]ApprovalChange{},
		map[string]map[int]time.Time{}, map[dataset.Scope]ConditionsChange{},
		map[dataset.BreakGlassID]BreakGlassChange{}, map[dataset.DisclosureID]DisclosureChange{},
		map[string]dataset.Choice{},
		map[dataset.HoldID]dataset.Hold{}, map[dataset.Scope]dataset.Period{},
	}
}

func (o *oracle) apply(c Change) {
	switch c := c.(type) {
	case PrincipalChange:
		o.people[c.ID] = c
	case ClientChange:
		o.clients[c.Scope] = true
	case ProjectChange:
		o.projects[c.Scope] = c
	case DatasetChange:
		o.datasets[c.Scope] = c
	case GrantChange:
		if old, ok := o.grants[c.ID]; !ok || old.Revoked.IsZero() {
			o.grants[c.ID] = c.Grant
		}
	case AssignmentChange:
		if old, ok := o.assignments[c.ID]; !ok || old.Ended.IsZero() {
			o.assignments[c.ID] = c.Assignment
		}
	case AgreementChange:
		o.newest[c.Name] = max(o.newest[c.Name], c.Version)
		if o.graces[c.Name] == nil {
			o.graces[c.Name] = map[int]time.Time{}
		}
		if !c.Grace.IsZero() {
			o.graces[c.Name][c.Version] = c.Grace
		}
	case ConditionsChange:
		o.conditions[c.Scope] = c
	case ChoiceChange:
		o.choices[o.choice(c.Principal, c.Kind, c.Purpose)] = c.Choice
	case SignatureChange:
		o.signatures = append(o.signatures, c.Signature)
	case ApprovalChange:
		old := o.approvals[c.ID]
		c.Ended, c.Used = c.Ended || old.Ended, c.Used || old.Used
		o.approvals[c.ID] = c
	case BreakGlassChange:
		c.Ended = c.Ended || o.glass[c.ID].Ended
		o.glass[c.ID] = c
	case DisclosureChange:
		c.Ended = c.Ended || o.disclosures[c.ID].Ended
		o.disclosures[c.ID] = c
	case HoldChange:
		if old, ok := o.holds[c.ID]; !ok || old.Released.IsZero() {
			o.holds[c.ID] = c.Hold
		}
	case RetentionChange:
		o.keep[c.Scope] = c.Period
	}
}

func (o *oracle) choice(who dataset.PrincipalID, kind dataset.ChoiceKind, purpose string) string {
	return who.String() + " " + string(kind) + " " + purpose
}

func (o *oracle) chose(q Query, kind dataset.ChoiceKind) bool {
	return o.choices[o.choice(q.Actor, kind, q.Purpose)].InForce()
}

func (o *oracle) exists(s dataset.Scope) bool {
	_, project := o.projects[s]
	_, ds := o.datasets[s]
	return s == dataset.Root || o.clients[s] || project || ds
}

// inForce lists the actor's grants that count at all.
func (o *oracle) inForce(q Query) []dataset.Grant {
	var list []dataset.Grant
	for _, g := range o.grants {
		if g.Principal == q.Actor && g.InForce(q.Now) && (g.Role != dataset.Service || o.people[q.Actor].Service) {
			list = append(list, g)
		}
	}
	return list
}

func anyWay(dataset.Assignment) bool { return true }

func byOther(a dataset.Assignment) bool { return a.By != a.Principal }

func byTwo(a dataset.Assignment) bool {
	return !a.ApprovedBy.IsZero() && a.ApprovedBy != a.By && a.ApprovedBy != a.Principal
}

func (o *oracle) assigned(q Query, s dataset.Scope, counts func(dataset.Assignment) bool) bool {
	for _, a := range o.assignments {
		if a.Principal == q.Actor && a.InForce(q.Now) && a.Dataset == o.datasets[s].ID && counts(a) &&
			(q.Object.Kind == Dataset || a.Shards.Has(q.Object.Shard)) {
			return true
		}
	}
	return false
}

// allowedByTwo finds out whether another person has approved q itself.
func (o *oracle) allowedByTwo(q Query) bool {
	for _, a := range o.approvals {
		use := a.Action == q.Action && !a.Used || a.Action == Create && a.Object.Kind == ExportObj && q.Action == Read
		same := a.Requester == q.Actor && a.Object.Kind == q.Object.Kind && a.Object.Scope == q.Object.Scope &&
			a.Object.Shard == q.Object.Shard && a.Target == q.Target && a.Terms == q.Terms
		another := !a.By.IsZero() && a.By != a.Requester && a.By != a.Target
		if use && same && another && !a.Ended && q.Now.Before(a.Until) {
			return true
		}
	}
	return false
}

func (o *oracle) inEmergency(q Query, s dataset.Scope) bool {
	for _, g := range o.glass {
		if g.Principal == q.Actor && g.Scope.Depth() > 0 && g.Scope.Contains(s) && !g.Ended && q.Now.Before(g.Until) {
			return true
		}
	}
	return false
}

func (o *oracle) discloses(q Query, s dataset.Scope) bool {
	for _, d := range o.disclosures {
		ds, known := o.datasets[s]
		if d.Principal == q.Actor && known && d.Dataset == ds.ID && d.Shards.Has(q.Object.Shard) && !d.Ended && q.Now.Before(d.Until) &&
			!d.By.IsZero() && d.By != d.Principal {
			return q.Purpose == "legal"
		}
	}
	return false
}

// signed reports whether a signature is in force: of each version, the one made
// last counts, and those on older versions only while all later ones let them.
func (o *oracle) signed(q Query, name string) bool {
	for version := 1; version <= o.newest[name]; version++ {
		var last *dataset.Signature
		for i := range o.signatures {
			s := &o.signatures[i]
			if s.Principal == q.Actor && s.Agreement == name && s.Version == version && (last == nil || !s.At.Before(last.At)) {
				last = s
			}
		}
		counts := last != nil && last.InForce(q.Now)
		for later := version + 1; later <= o.newest[name]; later++ {
			counts = counts && q.Now.Before(o.graces[name][later])
		}
		if counts {
			return true
		}
	}
	return false
}

// asked finds what the conditions say of q at scope s.
func (o *oracle) asked(q Query, s dataset.Scope) (requires []string, longest time.Duration, f Facts) {
	for depth := range s.Depth() + 1 {
		c, ok := o.conditions[s.At(depth)]
		if !ok {
			continue
		}
		requires = append(requires, c.Requires...)
		if c.ContractorMax > 0 && (longest == 0 || c.ContractorMax < longest) {
			longest = c.ContractorMax
		}
		open := len(c.Hours) == 0
		for _, text := range c.Hours { // those of the fuzzer: by hand
			clock := q.Now.UTC()
			switch text {
			case "Thu 00:30-02:00 UTC":
				minutes := clock.Hour()*60 + clock.Minute()
				open = open || clock.Weekday() == time.Thursday && minutes >= 30 && minutes < 120
			case "Wed-Thu 23:00-01:10 UTC":
				open = open || clock.Hour() == 23 && (clock.Weekday() == time.Wednesday || clock.Weekday() == time.Thursday) ||
					(clock.Hour() < 1 || clock.Hour() == 1 && clock.Minute() < 10) && (clock.Weekday() == time.Thursday || clock.Weekday() == time.Friday)
			}
		}
		if !open {
			f |= OffHours
		}
		if len(c.Networks) > 0 && !(slices.Contains(c.Networks, "192.0.2.0/24") && strings.HasPrefix(q.Address.String(), "192.0.2.")) {
			f |= OffNetwork
		}
	}
	return requires, longest, f
}

// state gives the state of what is at s, under holds and at a time.
func (o *oracle) state(q Query, s dataset.Scope) dataset.State {
	ds, isDataset := o.datasets[s]
	if ds.State == dataset.Erased {
		return ds.State
	}
	for _, h := range o.holds {
		below := q.Action == Delete || q.Action == Expire || q.Action == Destroy
		if h.Released.IsZero() && (h.Scope.Contains(s) || below && s.Contains(h.Scope)) {
			return dataset.Held
		}
	}
	if end := o.expires(s); isDataset && !end.IsZero() && !q.Now.Before(end) && (ds.State == dataset.Active || ds.State == dataset.Restricted) {
		return dataset.Expired
	}
	return ds.State
}

func (o *oracle) expires(s dataset.Scope) time.Time {
	for at := s; ; at = at.Parent() {
		if p := o.keep[at]; !p.IsZero() && !o.datasets[s].Since.IsZero() {
			return p.After(o.datasets[s].Since)
		}
		if at == dataset.Root {
			return time.Time{}
		}
	}
}

// facts finds the roles and facts of q at scope s.
func (o *oracle) facts(q Query, s dataset.Scope) (RoleSet, Facts) {
	var roles, given, near RoleSet
	var f Facts
	set := func(fact Facts, holds bool) {
		if holds {
			f |= fact
		}
	}
	requires, longest, asked := o.asked(q, s)
	var named []dataset.Transfer
	for depth := range s.Depth() + 1 {
		named = append(named, o.conditions[s.At(depth)].Transfers...)
	}
	bounded := false
	deep, deepGiven, deepByTwo := map[dataset.Role]bool{}, map[dataset.Role]bool{}, map[dataset.Role]bool{}
	for _, g := range o.inForce(q) {
		contains := g.Scope.Contains(s)
		if contains || q.Object.Kind == AgreementObj && q.Action == Read {
			roles |= Roles(g.Role)
			if g.By != q.Actor {
				given |= Roles(g.Role)
			}
		}
		if contains && g.Role == dataset.Contractor && !g.Until.IsZero() && (longest == 0 || q.Now.Before(g.At.Add(longest))) {
			bounded = true
		}
		if contains || s.Contains(g.Scope) {
			near |= Roles(g.Role)
		}
		if contains && g.Scope != dataset.Root {
			deep[g.Role] = true
			deepGiven[g.Role] = deepGiven[g.Role] || g.By != q.Actor
			deepByTwo[g.Role] = deepByTwo[g.Role] || !g.ApprovedBy.IsZero() && g.ApprovedBy != g.By && g.ApprovedBy != q.Actor
		}
	}
	_, isDataset := o.datasets[s]
	state := o.state(q, s)
	set(Active|Live, state == dataset.Active)
	set(Restricted|Live, state == dataset.Restricted)
	set(Held, state == dataset.Held)
	set(Expired, state == dataset.Expired || state == dataset.Erased)
	if isDataset {
		set(Assigned, o.assigned(q, s, anyWay))
		set(DataGrant, o.assigned(q, s, anyWay) && roles.Has(dataset.Admin))
	}
	set(Owner, deep[dataset.ClientUser])
	set(Reviewing, deep[dataset.Reviewer])
	set(Own, q.Object.Owner == q.Actor)
	set(Author, q.Object.Owner == q.Actor && q.Object.Kind == Annotation)
	set(Access, q.Action == Approve && (q.Asked == Grant || q.Asked == Assign || q.Asked == Disclose))
	set(Legal, q.Purpose == "legal")
	set(Disclosed|Purpose, o.discloses(q, s))
	set(Emergency, roles.Has(dataset.Admin) && o.inEmergency(q, s))
	set(Dual, q.Object.Kind != Shard && q.Object.Kind != Annotation && o.allowedByTwo(q))
	set(Self, q.Target == q.Actor || q.Object.Kind == Approval && q.Action == Approve && q.Object.Owner == q.Actor)
	if p, ok := o.projects[s.At(2)]; ok {
		mine := o.people[q.Actor].Region
		crosses := slices.ContainsFunc(named, func(t dataset.Transfer) bool { return t.Region == mine && mine != "" })
		set(Abroad, p.Region != "" && p.Region != mine)
		set(Transferable, f.Has(Abroad) && crosses)
		set(Region, !f.Has(Abroad) || crosses)
		set(Purpose, len(p.Purposes) == 0 || slices.Contains(p.Purposes, q.Purpose))
		set(Delivery, q.Delivery == "" || q.Delivery == "sealed" || slices.Contains(p.Delivery, q.Delivery))
		set(Unconsented, slices.Contains(p.Consent, q.Purpose) && !o.chose(q, dataset.Consent))
		set(Sensitive, p.Sensitive)
		set(Required, len(requires) > 0)
		set(Claimable, p.Claims)
		if len(requires) == 0 {
			requires = []string{"nda"}
		}
		set(NDA, !slices.ContainsFunc(requires, func(name string) bool { return !o.signed(q, name) }))
		set(StaffOnly, q.Delivery != "" && q.Delivery != "sealed" && !slices.Contains(o.conditions[s.At(2)].ContractorDelivery, q.Delivery))
	}
	f |= asked
	set(Overlong, roles.Has(dataset.Contractor) && !bounded)
	set(Paused, o.people[q.Actor].Restricted)
	set(Frozen, o.people[q.Target].Restricted)
	set(Objected, o.chose(q, dataset.Objection))
	set(Conflict, near.Has(dataset.Auditor) && near != Roles(dataset.Auditor) ||
		near.Has(dataset.Contractor) && near.Has(dataset.Labeler))
	if q.Object.Kind == Shard || q.Object.Kind == Annotation {
		uses := roles.Has(dataset.Admin) || roles.Has(dataset.Labeler) || roles.Has(dataset.Contractor)
		way := deep[dataset.ClientUser] || deep[dataset.Reviewer] || f.Has(Assigned) && uses
		other := deepGiven[dataset.ClientUser] || deepGiven[dataset.Reviewer] || isDataset && o.assigned(q, s, byOther) &&
			(roles.Has(dataset.Admin) || given.Has(dataset.Labeler) || given.Has(dataset.Contractor))
		set(SelfGranted, q.Object.Kind == Shard && way && !other && f&(Disclosed|Emergency) == 0)
		set(Dual, deepByTwo[dataset.ClientUser] || deepByTwo[dataset.Reviewer] || isDataset && uses && o.assigned(q, s, byTwo) || f.Has(Disclosed))
	}
	return roles, f
}

// table reads the rules one by one, from their text.
func (o *oracle) table(kind Kind, action Action, roles RoleSet, facts Facts) (bool, string) {
	allowedBy := ""
	for _, r := range o.rules {
		if r.Kind != kind || r.Action != "*" && r.Action != string(action) || r.Role != "any" && !roles.Has(dataset.Role(r.Role)) {
			continue
		}
		if need, forbid, _ := parseCondition(r.Condition); !facts.Has(need) || facts&forbid != 0 {
			continue
		}
		if r.Deny {
			return false, r.ID
		}
		if allowedBy == "" {
			allowedBy = r.ID
		}
	}
	return allowedBy != "", allowedBy
}

type answer struct {
	allowed, visible bool
	rule             string
	roles            RoleSet
	facts            Facts
}

func (o *oracle) decide(q Query) answer {
	p, ok := o.people[q.Actor]
	if !ok || p.Disabled {
		return answer{}
	}
	s := q.Object.Scope
	if depth := map[Kind]int{Org: 1, Project: 2, Dataset: 3}[q.Object.Kind]; q.Action == Create && depth > 0 && s.Depth() == depth {
		s = s.Parent()
	}
	var a answer
	a.roles, a.facts = o.facts(q, s)
	reads := func(kind Kind, asked Query) bool {
		asked.Object.Kind, asked.Action = kind, Read
		_, facts := o.facts(asked, s)
		roles, _ := o.facts(Query{Actor: q.Actor, Action: q.Action, Object: Object{Kind: q.Object.Kind}, Now: q.Now}, s)
		ok, _ := o.table(kind, Read, roles, facts)
		return ok
	}
	record := s == dataset.Root
	if !record {
		kind := [...]Kind{"", Org, Project, Dataset}[s.Depth()]
		record = reads(kind, q)
		if ds := q; kind == Dataset && o.exists(s) {
			ds.Object.Kind = Dataset
			record = record || o.assigned(ds, s, anyWay) && a.roles != 0
		}
	}
	if !o.exists(s) {
		a.visible = record
		return a
	}
	a.allowed, a.rule = o.table(q.Object.Kind, q.Action, a.roles, a.facts)
	own := reads(q.Object.Kind, q)
	a.visible = a.allowed || own || record
	if q.Object.Kind == Person && q.Action != Create || q.Object.Kind == Subject || q.Object.Kind == RequestObj {
		a.visible = a.allowed || own
	}
	return a
}

// until tries every moment at which anything ends.
func (o *oracle) until(q Query) time.Time {
	var ends []time.Time
	for _, g := range o.grants {
		ends = append(ends, g.Until)
	}
	for _, a := range o.assignments {
		ends = append(ends, a.Until)
	}
	for _, s := range o.signatures {
		ends = append(ends, s.Until)
	}
	for _, a := range o.approvals {
		ends = append(ends, a.Until)
	}
	for _, g := range o.glass {
		ends = append(ends, g.Until)
	}
	for _, d := range o.disclosures {
		ends = append(ends, d.Until)
	}
	for _, versions := range o.graces {
		ends = slices.AppendSeq(ends, maps.Values(versions))
	}
	for _, g := range o.grants {
		for _, c := range o.conditions {
			ends = append(ends, g.At.Add(c.ContractorMax))
		}
	}
	for _, minutes := range []int{30, 70, 120, 23 * 60, 25*60 + 10} { // where the fuzzer's hours begin or end
		ends = append(ends, epoch.Add(time.Duration(minutes)*time.Minute))
	}
	for s := range o.datasets {
		ends = append(ends, o.expires(s))
	}
	slices.SortFunc(ends, time.Time.Compare)
	for _, end := range ends {
		if later := q; end.After(q.Now) {
			later.Now = end
			if !o.decide(later).allowed {
				return end
			}
		}
	}
	return time.Time{}
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

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
