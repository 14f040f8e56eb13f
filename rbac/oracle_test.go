package rbac

import (
	"maps"
	"slices"
	"strings"
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
