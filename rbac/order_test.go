package rbac

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"dsvault/vault/dataset"
)

// inOrder is a random vault in which everything is in order for one person to
// read one shard. Its parts are changed before they are made into a World.
type inOrder struct {
	*rand.Rand
	role      dataset.Role
	person    PrincipalChange
	project   ProjectChange
	asks      ConditionsChange // of the project
	dataset   DatasetChange
	grant     dataset.Grant
	assigned  dataset.Assignment // of labelers, contractors and admins
	signature dataset.Signature
	newest    int // version of the agreement
	glass     BreakGlassChange
	disclosed DisclosureChange
	more      []Change // that were added
	q         Query
}

// Ways to read a shard. The last two are an admin's, who else needs an assignment.
var waysToRead = []string{"owner", "labeler", "contractor", "reviewer", "admin", "emergency", "disclosure"}

var roleOf = map[string]dataset.Role{"owner": dataset.ClientUser, "labeler": dataset.Labeler, "contractor": dataset.Contractor,
	"reviewer": dataset.Reviewer, "admin": dataset.Admin, "emergency": dataset.Admin, "disclosure": dataset.Admin}

const reader, giver, approver, bystander = 20, 21, 22, 23

func someOrder(t *testing.T, r *rand.Rand, way string) *inOrder {
	now := epoch.Add(time.Duration(r.IntN(1e6)) * time.Second)
	until := func() time.Time { return now.Add(time.Duration(1+r.IntN(1000)) * time.Minute) }
	who, by, other := id[dataset.PrincipalID](reader), id[dataset.PrincipalID](giver), id[dataset.PrincipalID](approver)
	x := &inOrder{Rand: r, role: roleOf[way], newest: 1 + r.IntN(3), person: PrincipalChange{ID: who, Region: pick(r, []string{"eu", "us"})}}
	project := scopeOf(t, "acme/signs")
	x.project = ProjectChange{Scope: project, Purposes: pick(r, [][]string{{"labeling"}, {"review", "labeling"}}), Sensitive: r.IntN(2) == 0,
		Region:   pick(r, []string{"", x.person.Region, "ch"}),
		Delivery: pick(r, [][]dataset.Delivery{nil, {dataset.Opened}, {dataset.Direct}})}
	x.asks = ConditionsChange{Scope: pick(r, []dataset.Scope{project.Parent(), project}), Requires: pick(r, [][]string{nil, {"nda"}, {"strict"}}),
		ContractorMax: pick(r, []time.Duration{0, 24 * time.Hour}), Networks: pick(r, [][]string{nil, {"192.0.2.0/24"}})}
	if x.project.Region == "ch" { // abroad, on a basis
		x.asks.Transfers = []dataset.Transfer{{Region: x.person.Region, Basis: dataset.BasisAdequacy}}
	}
	if way == "contractor" {
		x.asks.Scope, x.asks.ContractorDelivery = project, x.project.Delivery
	}
	x.dataset = DatasetChange{id[dataset.DatasetID](1), scopeOf(t, "acme/signs/b1"), pick(r, []dataset.State{dataset.Active, dataset.Restricted}), time.Time{}}
	if way == "contractor" {
		x.dataset.State = dataset.Active
	} else if (way == "owner" || way == "disclosure") && r.IntN(3) == 0 {
		x.dataset.State = dataset.Held
	}
	x.grant = dataset.Grant{ID: id[dataset.GrantID](1), Principal: who, Role: x.role, By: by, ApprovedBy: other, At: now.Add(-time.Hour), Until: until(),
		Scope: pick(r, []dataset.Scope{scopeOf(t, "acme"), project, x.dataset.Scope})}
	x.assigned = dataset.Assignment{ID: id[dataset.AssignmentID](1), Principal: who, Dataset: x.dataset.ID, Scope: x.dataset.Scope,
		Shards: dataset.ShardSet{{First: 2, Last: 4}}, By: by, ApprovedBy: other, Until: until()}
	name := "nda"
	if len(x.asks.Requires) > 0 {
		name = x.asks.Requires[0]
	}
	x.signature = dataset.Signature{Principal: who, Agreement: name, Version: x.newest, At: epoch, Until: until()}
	x.glass = BreakGlassChange{id[dataset.BreakGlassID](1), who, x.grant.Scope, until(), false}
	x.disclosed = DisclosureChange{id[dataset.DisclosureID](1), who, x.dataset.ID, dataset.ShardSet{{First: 3, Last: 3}}, other, until(), false}
	x.q = Query{Actor: who, Action: Read, Object: Object{Kind: Shard, Scope: x.dataset.Scope, Shard: 3}, Purpose: "labeling",
		Delivery: pick(r, append([]dataset.Delivery{"", dataset.Sealed}, x.project.Delivery...)), Now: now,
		Address: netip.MustParseAddr("192.0.2.9")}
	if way == "disclosure" {
		x.q.Purpose = dataset.Legal
	}
	return x
}

// takes reports what a way needs beside its role.
func (x *inOrder) takes(way string) (assignment, signature, purpose, approval bool) {
	assignment = slices.Contains([]string{"labeler", "contractor", "admin"}, way)
	signature = way == "contractor" || len(x.asks.Requires) > 0 && way != "owner"
	purpose = way != "owner" && way != "disclosure"
	approval = x.project.Sensitive && way != "emergency"
	return assignment, signature, purpose, approval
}

func (x *inOrder) decide(way string) Decision {
	w := NewWorld(Default())
	assignment, _, _, _ := x.takes(way)
	changes := []Change{ClientChange{x.project.Scope.Parent()}, x.project, x.asks, x.dataset, x.person, AgreementChange{Name: x.signature.Agreement, Version: x.newest},
		GrantChange{x.grant}, SignatureChange{x.signature}}
	if assignment {
		changes = append(changes, AssignmentChange{x.assigned})
	}
	switch way {
	case "emergency":
		changes = append(changes, x.glass)
	case "disclosure":
		changes = append(changes, x.disclosed)
	}
	changes = append(changes, x.more...)
	w.Apply(1, changes...)
	return w.Decide(x.q)
}

// requirement is something that has to be in order. Whoever adds a fact that
// reads depend on adds a requirement, and to someOrder what meets it.
type requirement struct {
	name   string
	of     func(x *inOrder, way string) bool // whether this way of reading needs it
	broken []func(*inOrder)                  // each is enough to be refused
}

func ofAll(*inOrder, string) bool { return true }

var requirements = []requirement{
	{"the person", ofAll, []func(*inOrder){
		func(x *inOrder) { x.person.Disabled = true },
		func(x *inOrder) { x.q.Actor = id[dataset.PrincipalID](bystander) },
	}},
	{"the role", ofAll, []func(*inOrder){
		func(x *inOrder) { x.grant.Revoked = epoch },
		func(x *inOrder) { x.grant.Until = x.q.Now },
		func(x *inOrder) { x.grant.Role = dataset.Service },
		func(x *inOrder) { x.grant.Scope, _ = dataset.ParseScope("acme/roads") },
	}},
	{"nobody serves himself", func(x *inOrder, way string) bool { return way != "emergency" && way != "disclosure" }, []func(*inOrder){
		func(x *inOrder) { x.grant.By, x.assigned.By = x.person.ID, x.person.ID },
	}},
	{"no role that conflicts", ofAll, []func(*inOrder){
		func(x *inOrder) {
			g := x.grant
			g.ID, g.Role, g.Scope, g.Until = id[dataset.GrantID](2), dataset.Auditor, pick(x.Rand, []dataset.Scope{dataset.Root, g.Scope}), time.Time{}
			x.more = append(x.more, GrantChange{g})
		},
	}},
	{"the assignment", func(x *inOrder, way string) bool { yes, _, _, _ := x.takes(way); return yes }, []func(*inOrder){
		func(x *inOrder) { x.assigned.Ended = epoch },
		func(x *inOrder) { x.assigned.Until = x.q.Now },
		func(x *inOrder) { x.assigned.Shards = dataset.ShardSet{{First: 0, Last: 2}, {First: 4, Last: 9}} },
		func(x *inOrder) { x.assigned.Dataset = id[dataset.DatasetID](2) },
		func(x *inOrder) { x.q.Object.Shard = 5 },
	}},
	{"the agreement", func(x *inOrder, way string) bool { _, yes, _, _ := x.takes(way); return yes }, []func(*inOrder){
		func(x *inOrder) { x.signature.Withdrawn = x.q.Now },
		func(x *inOrder) { x.signature.Until = x.q.Now },
		func(x *inOrder) { x.newest++ },
		func(x *inOrder) { x.asks.Requires = append(slices.Clone(x.asks.Requires), "another") },
	}},
	{"the purpose", func(x *inOrder, way string) bool { _, _, yes, _ := x.takes(way); return yes }, []func(*inOrder){
		func(x *inOrder) { x.q.Purpose = "training" },
		func(x *inOrder) { x.q.Purpose = "" },
		func(x *inOrder) { x.project.Purposes = []string{"research"} },
	}},
	{"what a law requires", func(x *inOrder, way string) bool { return way != "disclosure" }, []func(*inOrder){
		func(x *inOrder) {
			x.q.Purpose, x.project.Purposes = dataset.Legal, append(slices.Clone(x.project.Purposes), dataset.Legal)
		},
	}},
	{"the disclosure", func(x *inOrder, way string) bool { return way == "disclosure" }, []func(*inOrder){
		func(x *inOrder) { x.disclosed.Until = x.q.Now },
		func(x *inOrder) { x.disclosed.Ended = true },
		func(x *inOrder) { x.disclosed.By = dataset.PrincipalID{} },
		func(x *inOrder) { x.disclosed.By = x.person.ID },
		func(x *inOrder) { x.disclosed.Dataset = id[dataset.DatasetID](2) },
		func(x *inOrder) { x.q.Object.Shard = 4 },
		func(x *inOrder) { x.q.Purpose = "labeling" },
	}},
	{"the emergency", func(x *inOrder, way string) bool { return way == "emergency" }, []func(*inOrder){
		func(x *inOrder) { x.glass.Until = x.q.Now },
		func(x *inOrder) { x.glass.Ended = true },
		func(x *inOrder) { x.glass.Scope, _ = dataset.ParseScope("acme/roads") },
		func(x *inOrder) { x.glass.Principal = id[dataset.PrincipalID](bystander) },
	}},
	{"the region", ofAll, []func(*inOrder){
		func(x *inOrder) { x.project.Region, x.asks.Transfers = "mars", nil },
		func(x *inOrder) { x.project.Region, x.person.Region = "eu", "" },
		func(x *inOrder) {
			x.project.Region, x.asks.Transfers = "mars", []dataset.Transfer{{Region: "us2", Basis: dataset.BasisSCC}}
		},
	}},
	{"what contractors are held to", func(x *inOrder, way string) bool { return way == "contractor" }, []func(*inOrder){
		func(x *inOrder) { x.asks.ContractorMax = time.Minute },
		func(x *inOrder) { x.grant.Until = time.Time{} },
		func(x *inOrder) { x.asks.Hours = []string{"never"} },
		func(x *inOrder) { x.asks.Networks = []string{"198.51.100.0/24"} },
		func(x *inOrder) {
			x.project.Delivery, x.q.Delivery, x.asks.ContractorDelivery = []dataset.Delivery{dataset.Opened}, dataset.Opened, nil
		},
	}},
	{"the state", ofAll, []func(*inOrder){
		func(x *inOrder) { x.dataset.State = dataset.Expired },
		func(x *inOrder) { x.dataset.State = "odd" },
	}},
	{"no hold", func(x *inOrder, way string) bool { return way != "owner" && way != "disclosure" }, []func(*inOrder){
		func(x *inOrder) { x.dataset.State = dataset.Held },
	}},
	{"the delivery", ofAll, []func(*inOrder){
		func(x *inOrder) {
			x.project.Delivery, x.q.Delivery = nil, pick(x.Rand, []dataset.Delivery{dataset.Opened, dataset.Direct, "odd"})
		},
	}},
	{"two people", func(x *inOrder, way string) bool { _, _, _, yes := x.takes(way); return yes && way != "disclosure" }, []func(*inOrder){
		func(x *inOrder) {
			x.grant.ApprovedBy, x.assigned.ApprovedBy = dataset.PrincipalID{}, dataset.PrincipalID{}
		},
		func(x *inOrder) { x.grant.ApprovedBy, x.assigned.ApprovedBy = x.person.ID, x.person.ID },
		func(x *inOrder) { x.grant.ApprovedBy, x.assigned.ApprovedBy = x.grant.By, x.assigned.By },
	}},
}

// irrelevant are changes that have nothing to do with the answer, as long as it
// is asked about another person, another place or another action.
var irrelevant = []func(x *inOrder){
	func(x *inOrder) { x.q.Target = id[dataset.PrincipalID](x.IntN(30)) },
	func(x *inOrder) { x.q.Terms[0] = byte(x.IntN(256)) },
	func(x *inOrder) { x.q.Asked = pick(x.Rand, Actions[:]) },
	func(x *inOrder) { x.q.Object.Owner = id[dataset.PrincipalID](x.IntN(30)) },
	func(x *inOrder) { // what others hold
		g := x.grant
		g.ID, g.Principal, g.Role, g.Scope = id[dataset.GrantID](100+x.IntN(9)), id[dataset.PrincipalID](bystander), pick(x.Rand, dataset.Roles[:]), dataset.Root
		x.more = append(x.more, PrincipalChange{ID: g.Principal, Disabled: x.IntN(2) == 0}, GrantChange{g})
	},
	func(x *inOrder) { // what the person holds elsewhere
		g := x.grant
		g.ID, g.Role = id[dataset.GrantID](200+x.IntN(9)), pick(x.Rand, []dataset.Role{dataset.ClientUser, dataset.Labeler, dataset.Reviewer})
		g.Scope, _ = dataset.ParseScope("beta/p")
		x.more = append(x.more, GrantChange{g})
	},
	func(x *inOrder) { // what ended
		g, a := x.grant, x.assigned
		g.ID, g.Role, g.Revoked = id[dataset.GrantID](300), pick(x.Rand, dataset.Roles[:]), epoch
		a.ID, a.Ended = id[dataset.AssignmentID](300), epoch
		x.more = append(x.more, GrantChange{g}, AssignmentChange{a})
	},
	func(x *inOrder) { // other shards, other datasets
		a, b := x.assigned, x.assigned
		a.ID, a.Shards = id[dataset.AssignmentID](400), dataset.ShardSet{{First: 7, Last: 9}}
		b.ID, b.Dataset = id[dataset.AssignmentID](401), id[dataset.DatasetID](9)
		x.more = append(x.more, AssignmentChange{a}, AssignmentChange{b})
	},
	func(x *inOrder) { // other agreements, and other people's signatures
		s := x.signature
		s.Principal, s.Withdrawn = id[dataset.PrincipalID](bystander), epoch
		x.more = append(x.more, AgreementChange{Name: "unrelated", Version: 7}, SignatureChange{s})
	},
	func(x *inOrder) { // other projects
		p := x.project
		p.Scope, _ = dataset.ParseScope("acme/roads")
		p.Purposes, p.Region, p.Sensitive = nil, "mars", true
		x.more = append(x.more, p)
	},
	func(x *inOrder) { // approvals, which are used up by what is not a read
		x.more = append(x.more, ApprovalChange{ID: id[dataset.ApprovalID](1), Requester: x.person.ID, Action: pick(x.Rand, Actions[:]), Object: x.q.Object,
			By: id[dataset.PrincipalID](approver), Until: x.q.Now.Add(time.Hour), Used: x.IntN(2) == 0})
	},
	func(x *inOrder) { // other people's emergencies and disclosures
		g, d := x.glass, x.disclosed
		g.ID, g.Principal, d.ID, d.Principal = id[dataset.BreakGlassID](500), id[dataset.PrincipalID](bystander), id[dataset.DisclosureID](500), id[dataset.PrincipalID](bystander)
		x.more = append(x.more, g, d)
	},
}

// No read without role, assignment, agreement, purpose, region, time, state and
// whatever else is a requirement, all in order; without any one of them it is
// refused; and nothing else changes the answer.
func TestReadsNeedEverythingInOrder(t *testing.T) {
	tested := map[string]int{}
	for seed := range 60 {
		for _, way := range waysToRead {
			some := func() *inOrder { return someOrder(t, rand.New(rand.NewPCG(uint64(seed), 9)), way) }
			x := some()
			d := x.decide(way)
			if !d.Allowed {
				t.Fatalf("%d: the %s is refused with everything in order: %v (%v)", seed, way, d.Reasons, d.Facts)
			}
			if !d.Until.IsZero() { // whatever runs out first
				x.q.Now = d.Until
				if x.decide(way).Allowed {
					t.Errorf("%d: the %s reads at the end, %v", seed, way, d.Until)
				}
				x.q.Now = d.Until.Add(-1)
				if d := x.decide(way); !d.Allowed {
					t.Errorf("%d: the %s is refused before the end: %v", seed, way, d.Reasons)
				}
			} else {
				t.Errorf("%d: the %s reads for ever", seed, way)
			}
			for _, need := range requirements {
				if !need.of(x, way) {
					continue
				}
				for n, spoil := range need.broken {
					bad := some()
					spoil(bad)
					if d := bad.decide(way); d.Allowed {
						t.Errorf("%d: the %s reads without %s (%d), by %s (%v)", seed, way, need.name, n, d.Rule, d.Facts)
					}
					tested[need.name]++
				}
			}
			y := some()
			for range 1 + y.IntN(6) {
				pick(y.Rand, irrelevant)(y)
			}
			if got := y.decide(way); !got.Allowed || got.Rule != d.Rule || !got.Until.Equal(d.Until) {
				t.Errorf("%d: what has nothing to do with it changes the answer for the %s: %+v, was %+v", seed, way, got, d)
			}
		}
	}
	for _, need := range requirements {
		if tested[need.name] == 0 {
			t.Errorf("nothing was tested of %s", need.name)
		}
	}
}
