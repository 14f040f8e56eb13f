package rbac

import (
	"slices"

	"dsvault/vault/dataset"
)

// A guardrail is a limit that no edit of the table can move. It is compiled
// in, and every policy is held against it for every role set and every
// combination of the facts that matter.
type guardrail struct {
	name    string
	kinds   []Kind   // nil: all
	actions []Action // nil: all
	reads   Facts    // the facts that permits looks at
	permits func(RoleSet, Facts) bool
}

const (
	admin      = RoleSet(1 << iota) // in the order of dataset.Roles, which a test holds
	client                          //
	reviewer                        //
	labeler                         //
	contractor                      //
	auditor                         //
	service                         //
)

func never(RoleSet, Facts) bool { return false }

// only permits whoever holds one of the roles.
func only(allowed RoleSet) func(RoleSet, Facts) bool {
	return func(r RoleSet, _ Facts) bool { return r&allowed != 0 }
}

// without permits whoever holds none of the roles.
func without(denied RoleSet) func(RoleSet, Facts) bool {
	return func(r RoleSet, _ Facts) bool { return r&denied == 0 }
}

// while permits when all of need hold, and none of forbid.
func while(need, forbid Facts) func(RoleSet, Facts) bool {
	return func(_ RoleSet, f Facts) bool { return f&need == need && f&forbid == 0 }
}

func isOwner(r RoleSet, f Facts) bool { return r&client != 0 && f.Has(Owner) }

var (
	data     = []Kind{Shard, ExportObj, Annotation}
	bulkData = []Kind{Shard, ExportObj}
)

var guardrails = []guardrail{
	{"whoever has no role may do nothing but what is their own", nil, nil, Self, func(r RoleSet, f Facts) bool { return r != 0 || f.Has(Self) }},
	{"whoever has no role may do nothing to anything but what is about them", notAboutPeople(), nil, 0, func(r RoleSet, _ Facts) bool { return r != 0 }},
	{"what is held about people is theirs and the admins'", []Kind{Subject, RequestObj}, nil, Self,
		func(r RoleSet, f Facts) bool { return r&admin != 0 || f.Has(Self) }},
	{"nobody consents for somebody else", []Kind{Subject}, []Action{Consent}, Self, while(Self, 0)},

	// Data.
	{"nothing is done to a shard but reading it", []Kind{Shard}, others(Read), 0, never},
	{"a shard is read by its owner, its reviewer or whoever it was assigned to", []Kind{Shard}, nil,
		Owner | Reviewing | Assigned | DataGrant | Emergency | Disclosed, func(r RoleSet, f Facts) bool {
			return isOwner(r, f) || r&reviewer != 0 && f.Has(Reviewing) ||
				r&(labeler|contractor) != 0 && f.Has(Assigned) || r&admin != 0 && f&(DataGrant|Emergency|Disclosed) != 0
		}},
	{"a read that a law requires takes a disclosure that two people agreed on", []Kind{Shard}, nil, Legal | Disclosed,
		func(_ RoleSet, f Facts) bool { return !f.Has(Legal) || f.Has(Disclosed) }},
	{"an auditor never touches data", data, nil, 0, without(auditor)},
	{"a machine account never touches a shard", []Kind{Shard}, nil, 0, without(service)},
	{"a contractor reads only under a signed agreement and while the dataset is active", []Kind{Shard}, nil,
		NDA | Active, func(r RoleSet, f Facts) bool { return r&contractor == 0 || f.Has(NDA|Active) }},
	{"a contractor reads only by a grant that ends in time", []Kind{Shard}, nil,
		Overlong, func(r RoleSet, f Facts) bool { return r&contractor == 0 || !f.Has(Overlong) }},
	{"a contractor gets data only sealed, unless the project says otherwise", []Kind{Shard}, []Action{Read},
		StaffOnly, func(r RoleSet, f Facts) bool { return r&contractor == 0 || !f.Has(StaffOnly) }},
	{"a contractor reads only in the hours that are named", []Kind{Shard}, nil,
		OffHours, func(r RoleSet, f Facts) bool { return r&contractor == 0 || !f.Has(OffHours) }},
	{"a contractor reads only from the networks that are named", []Kind{Shard}, nil,
		OffNetwork, func(r RoleSet, f Facts) bool { return r&contractor == 0 || !f.Has(OffNetwork) }},
	{"a contractor without a signed agreement has nothing to do with annotations", []Kind{Annotation}, nil,
		NDA, func(r RoleSet, f Facts) bool { return r != contractor || f.Has(NDA) }},
	{"a contractor never exports", []Kind{ExportObj}, nil, 0, without(contractor)},
	{"only the owner exports data", []Kind{ExportObj}, nil, Owner, isOwner},
	{"nobody reads what has expired", bulkData, nil, Expired, while(0, Expired)},
	{"under a hold only the owner reads, and whom a law requires to", bulkData, nil, Live | Held | Owner | Disclosed,
		func(r RoleSet, f Facts) bool {
			return f.Has(Live) || f.Has(Held) && (isOwner(r, f) || r&admin != 0 && f.Has(Disclosed))
		}},
	{"sensitive data takes two people", []Kind{ExportObj}, nil, Sensitive | Dual, func(_ RoleSet, f Facts) bool {
		return !f.Has(Sensitive) || f.Has(Dual)
	}},
	{"sensitive shards take two people, but in an admin's emergency", []Kind{Shard}, nil, Sensitive | Dual | Emergency,
		func(_ RoleSet, f Facts) bool {
			return !f.Has(Sensitive) || f&(Dual|Emergency) != 0
		}},
	{"access to sensitive data is given by two people", []Kind{GrantObj, AssignmentObj}, []Action{Grant, Assign}, Sensitive | Dual,
		func(_ RoleSet, f Facts) bool { return !f.Has(Sensitive) || f.Has(Dual) }},
	{"nobody reads what only he granted himself", []Kind{Shard}, nil, SelfGranted, while(0, SelfGranted)},
	{"data stays in its region", bulkData, nil, Region, while(Region, 0)},
	{"who reads from another region has a basis for it", bulkData, nil, Abroad | Transferable, func(_ RoleSet, f Facts) bool {
		return !f.Has(Abroad) || f.Has(Transferable)
	}},
	{"data leaves only in a way that the project allows", []Kind{Shard}, []Action{Read}, Delivery, while(Delivery, 0)},
	{"whoever is not the owner reads for the project's purpose", []Kind{Shard}, nil, Purpose | Owner,
		func(r RoleSet, f Facts) bool { return f.Has(Purpose) || isOwner(r, f) }},
	{"whoever is not the owner signs the agreements that are required", []Kind{Shard}, nil,
		Required | NDA | Owner, func(_ RoleSet, f Facts) bool { return !f.Has(Required) || f&(NDA|Owner) != 0 }},
	{"annotations are read by their author, their reviewer and the owner", []Kind{Annotation}, []Action{Read},
		Author | Reviewing | Live | Owner, func(r RoleSet, f Facts) bool {
			return isOwner(r, f) || r&reviewer != 0 && f.Has(Reviewing|Live) || r&(labeler|contractor) != 0 && f.Has(Author)
		}},
	{"annotations are submitted by whoever the shard was assigned to", []Kind{Annotation}, []Action{Submit},
		Assigned, func(r RoleSet, f Facts) bool { return r&(labeler|contractor) != 0 && f.Has(Assigned) }},
	{"shards are claimed by annotators, where the project lets them, while the dataset is live", []Kind{Annotation}, []Action{Claim},
		Claimable | Live | Region, func(r RoleSet, f Facts) bool { return r&(labeler|contractor) != 0 && f.Has(Claimable|Live|Region) }},
	{"what was made of sensitive data takes two people, but for its author", []Kind{Annotation}, []Action{Read}, Sensitive | Dual | Author,
		func(_ RoleSet, f Facts) bool { return !f.Has(Sensitive) || f&(Dual|Author) != 0 }},
	{"results are read for no purpose that needs a consent or was objected to", []Kind{Annotation}, []Action{Read}, Unconsented | Objected,
		while(0, Unconsented|Objected)},
	{"annotations are read in the project's region", []Kind{Annotation}, []Action{Read}, Region, while(Region, 0)},

	{"the terms of a sensitive project are changed by its owner, or by an admin and a second person", []Kind{Project, Dataset}, []Action{Update},
		Sensitive | Dual | Owner, func(r RoleSet, f Facts) bool {
			return !f.Has(Sensitive) || isOwner(r, f) || r&admin != 0 && f.Has(Dual)
		}},

	// What people have decided about their own data.
	{"whose data is under a restriction reads no data", bulkData, nil, Paused, while(0, Paused)},
	{"what is under a restriction is left alone by others", []Kind{Subject}, []Action{Update, Export}, Frozen | Self,
		func(_ RoleSet, f Facts) bool { return !f.Has(Frozen) || f.Has(Self) }},
	{"who is under a restriction is not changed or forgotten by others", []Kind{Person}, []Action{Update, Anonymize}, Frozen, while(0, Frozen)},
	{"a purpose that rests on consent needs it", []Kind{Shard}, nil, Unconsented, while(0, Unconsented)},
	{"nobody reads for a purpose that they objected to", []Kind{Shard}, nil, Objected, while(0, Objected)},

	// Holds, deletion, upload.
	{"a hold freezes the dataset", []Kind{Dataset}, []Action{Delete, Expire, Upload}, Held, while(0, Held)},
	{"a hold freezes annotations", []Kind{Annotation}, []Action{Submit}, Held, while(0, Held)},
	{"a hold keeps the keys", []Kind{Key}, []Action{Destroy}, Held, while(0, Held)},
	{"deleting a dataset takes its owner and a second person", []Kind{Dataset}, []Action{Delete}, Owner | Dual,
		func(r RoleSet, f Facts) bool { return isOwner(r, f) && f.Has(Dual) }},
	{"the owner or a machine account uploads, while the dataset is active", []Kind{Dataset}, []Action{Upload},
		Active | Owner, func(r RoleSet, f Facts) bool { return f.Has(Active) && (isOwner(r, f) || r&service != 0) }},
	{"releasing a hold takes an admin and a second person", []Kind{Dataset}, []Action{Release}, Dual,
		func(r RoleSet, f Facts) bool { return r&admin != 0 && f.Has(Dual) }},
	{"destroying a key takes an admin and a second person", []Kind{Key}, []Action{Destroy}, Dual,
		func(r RoleSet, f Facts) bool { return r&admin != 0 && f.Has(Dual) }},
	{"keys are an admin's and a machine account's", []Kind{Key}, nil, 0, only(admin | service)},

	{"a hold keeps who it was", []Kind{Person}, []Action{Anonymize}, Held, while(0, Held)},

	{"storage is checked by admins and machine accounts", nil, []Action{Check}, 0, only(admin | service)},

	// Power over others.
	{"changing the policy takes an admin and a second person", []Kind{PolicyObj}, others(Read, Test), Dual,
		func(r RoleSet, f Facts) bool { return r&admin != 0 && f.Has(Dual) }},
	{"access is given and taken by admins", []Kind{GrantObj, AssignmentObj}, others(Read), 0, only(admin)},
	{"people, clients and agreements are made by admins", []Kind{Person, Org, AgreementObj}, others(Read, Check, Notify), 0, only(admin)},
	{"what a client hears of is chosen by its own people and by admins", nil, []Action{Notify}, Owner,
		func(r RoleSet, f Facts) bool { return r&admin != 0 || isOwner(r, f) }},
	{"people are looked at by admins", []Kind{Person}, nil, 0, only(admin)},
	{"nobody grants to himself", []Kind{GrantObj}, []Action{Grant}, Self, while(0, Self)},
	{"nobody assigns to himself", []Kind{AssignmentObj}, []Action{Assign}, Self, while(0, Self)},
	{"nobody approves his own request", []Kind{Approval}, []Action{Approve}, Self, while(0, Self)},
	{"nobody reviews his own access, or his own emergency", []Kind{GrantObj}, []Action{Review}, Self, while(0, Self)},
	{"a disclosure takes an admin and a second person", []Kind{Dataset}, []Action{Disclose}, Dual,
		func(r RoleSet, f Facts) bool { return r&admin != 0 && f.Has(Dual) }},
	{"nobody reviews his own work", []Kind{Annotation}, []Action{Review}, Author, while(0, Author)},
	{"approving is for admins and, but for access, for owners", []Kind{Approval}, []Action{Approve}, Owner | Access,
		func(r RoleSet, f Facts) bool { return r&admin != 0 || isOwner(r, f) && !f.Has(Access) }},
	{"grants are listed by admins and auditors", []Kind{GrantObj}, []Action{Read}, 0, only(admin | auditor)},
	{"assignments are seen by admins, auditors, reviewers and whoever they are for", []Kind{AssignmentObj}, []Action{Read},
		Own, func(r RoleSet, f Facts) bool { return r&(admin|auditor|reviewer) != 0 || f.Has(Own) }},

	// The log.
	{"the log is only ever read", []Kind{Log}, others(Read, Export, Disclose), 0, never},
	{"what is withheld from the client is for admins and auditors", []Kind{Log}, []Action{Disclose}, 0, only(admin | auditor)},
	{"the log is read by admins, auditors and the owner", []Kind{Log}, nil, Owner,
		func(r RoleSet, f Facts) bool { return r&(admin|auditor) != 0 || isOwner(r, f) }},
	{"conflicting roles see no data and no log", []Kind{Shard, ExportObj, Annotation, Log}, nil, Conflict, while(0, Conflict)},
	{"conflicting roles give nothing to others", []Kind{GrantObj, AssignmentObj, Approval, Key, PolicyObj},
		[]Action{Grant, Assign, Approve, Destroy, Update, BreakGlass, Review}, Conflict, while(0, Conflict)},
	{"conflicting roles disclose nothing", []Kind{Dataset}, []Action{Disclose}, Conflict, while(0, Conflict)},
}

// notAboutPeople lists the kinds of which nobody without a role does anything.
func notAboutPeople() []Kind {
	return slices.DeleteFunc(slices.Clone(Kinds[:]), Kind.aboutPeople)
}

// others lists every action except these.
func others(except ...Action) []Action {
	return slices.DeleteFunc(slices.Clone(Actions[:]), func(a Action) bool { return slices.Contains(except, a) })
}

func (g *guardrail) about(kind Kind, action Action) bool {
	return (g.kinds == nil || slices.Contains(g.kinds, kind)) &&
		(g.actions == nil || slices.Contains(g.actions, action))
}

// checkGuardrails holds a table against guards, for every request that it
// could be asked to decide.
func checkGuardrails(rules []Rule, ix *index, guards []guardrail) error {
	for k, kind := range Kinds {
		for a, action := range Actions {
			if err := checkCell(rules, ix[k][a], guards, kind, action); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkCell does so for one kind and action. It does not try every combination
// of facts, whose number doubles with each: of what a guardrail looks at it
// tries all, and of the rest it looks for one that no deny matches.
func checkCell(rules []Rule, about []int, all []guardrail, kind Kind, action Action) error {
	for i := range all {
		g := &all[i]
		if !g.about(kind, action) {
			continue
		}
		for _, n := range about {
			if rules[n].Deny {
				continue
			}
			for roles := range allRoles + 1 {
				if !rules[n].heldBy(roles) {
					continue
				}
				if facts, broken := breach(rules, about, &rules[n], g, roles); broken {
					return brokenGuardrail(rules, about, g, kind, action, roles, facts)
				}
			}
		}
	}
	return nil
}

// breach looks for facts with which an allow lets roles do what g does not
// permit.
func breach(rules []Rule, about []int, allow *Rule, g *guardrail, roles RoleSet) (Facts, bool) {
	var denies []*Rule
	relevant := g.reads | allow.need | allow.forbid
	for _, n := range about {
		if r := &rules[n]; r.Deny && r.heldBy(roles) {
			denies = append(denies, r)
			relevant |= (r.need | r.forbid) & (stateFacts | Live)
		}
	}
	for facts := range factSpace(relevant) {
		if !allow.met(facts) || g.permits(roles, facts) {
			continue
		}
		if found, ok := avoid(denies, facts, relevant|stateFacts|Live); ok {
			return found, true
		}
	}
	return 0, false
}

// avoid completes facts, of which those in decided are to stay, so that no deny
// matches; or it reports that this cannot be done.
func avoid(denies []*Rule, facts, decided Facts) (Facts, bool) {
	for _, r := range denies {
		if r.need&decided&^facts != 0 || r.forbid&decided&facts != 0 {
			continue // it does not match, whatever becomes of the rest
		}
		for open := (r.need | r.forbid) &^ decided; open != 0; open &= open - 1 {
			fact := open & -open
			with := facts &^ fact
			if r.forbid&fact != 0 {
				with |= fact
			}
			if found, ok := avoid(denies, with, decided|fact); ok {
				return found, true
			}
		}
		return 0, false
	}
	return facts, true
}

func brokenGuardrail(rules []Rule, about []int, g *guardrail, kind Kind, action Action, roles RoleSet, facts Facts) error {
	r := rules[judge(rules, about, roles, facts).rule]
	return at(policyFile, r.Line, "%s breaks a guardrail: %s; it lets %v %s a %s with the facts %v",
		r.ID, g.name, roles, action, kind, facts)
}

// relevantFacts are those that the rules name.
func relevantFacts(rules []Rule, about []int) Facts {
	var facts Facts
	for _, i := range about {
		facts |= rules[i].need | rules[i].forbid
	}
	return facts
}

// factSpace yields every combination of the relevant facts. Those on the
// dataset's state are consistent: one state or none, and live as it follows.
func factSpace(relevant Facts) func(yield func(Facts) bool) {
	states := []Facts{0}
	if relevant&(stateFacts|Live) != 0 {
		states = []Facts{0, Active, Restricted, Held, Expired}
	}
	free := relevant &^ (stateFacts | Live)
	return func(yield func(Facts) bool) {
		for _, state := range states {
			for subset := Facts(0); ; subset = (subset - free) & free { // the next subset of free
				if !yield(withLive(state | subset)) {
					return
				}
				if subset == free {
					break
				}
			}
		}
	}
}

// Roles in the order of dataset.Roles: the constants above rest on it.
var _ = [1]struct{}{}[len(dataset.Roles)-7]
