package rbac

import (
	"math/bits"
	"slices"
	"strings"

	"dsvault/vault/dataset"
)

// RoleSet is a set of roles; bit i is dataset.Roles[i].
type RoleSet uint8

const allRoles = RoleSet(1<<len(dataset.Roles)) - 1

// Roles makes a set. A name that is no role adds nothing.
func Roles(roles ...dataset.Role) RoleSet {
	var set RoleSet
	for _, r := range roles {
		if i := roleNumber(r); i >= 0 {
			set |= 1 << i
		}
	}
	return set
}

func roleNumber(r dataset.Role) int { return slices.Index(dataset.Roles[:], r) }

// Has reports whether role is in the set.
func (s RoleSet) Has(role dataset.Role) bool { return s&Roles(role) != 0 }

// Names lists the roles in the order of dataset.Roles.
func (s RoleSet) Names() []string {
	names := []string{}
	for i, r := range dataset.Roles {
		if s&(1<<i) != 0 {
			names = append(names, string(r))
		}
	}
	return names
}

// String joins the names with "+"; the empty set is "-".
func (s RoleSet) String() string { return orDash(strings.Join(s.Names(), "+")) }

// Facts is the set of facts that hold for one question. The list is closed,
// and a fact that is missing is false.
type Facts uint64

const (
	Active       Facts = 1 << iota // the dataset's state; at most one of these four holds
	Restricted                     //
	Held                           // named "hold": a legal hold is in force here, and the dataset is not erased
	Expired                        //
	Live                           // active or restricted
	Owner                          // the actor holds a client grant at a client or below that contains the object
	Own                            // the object is the actor's own: its Owner is the actor
	Assigned                       // an assignment in force of exactly this shard; for a dataset, of any of its shards
	Reviewing                      // the actor holds a reviewer grant at a client or below that contains the object
	Author                         // the actor made this annotation
	DataGrant                      // the actor is admin here, and the shard is assigned to them
	NDA                            // signatures in force of all agreements that are required here; if none is, of "nda"
	Required                       // an agreement is required here, so that every reader but the owner has to have signed
	Region                         // the project requires no region, or the actor's is the one, or transfer
	Purpose                        // the project states no purposes, or the question's is one of them
	Delivery                       // the question's way of delivery is sealed, or the project allows it
	Sensitive                      // the project is sensitive
	Dual                           // another person approved exactly this; of a shard or an annotation: what lets the actor read it
	Self                           // the question's target, or the approval's owner, is the actor
	SelfGranted                    // all that lets the actor read the shard was given by the actor
	Conflict                       // auditor with any other role, or contractor with labeler, where they overlap the object
	Access                         // of an approval: what it is about would give somebody access to data
	Overlong                       // the actor is contractor here by grants that have no end, or a later one than is allowed here
	StaffOnly                      // the question's way of delivery is not sealed, and the project does not allow it to contractors
	OffHours                       // it is outside the hours in which contractors may read here
	OffNetwork                     // the actor's address is outside the networks from which contractors may read here
	Abroad                         // the project requires a region, and the actor's is another or none
	Transferable                   // named "transfer": a transfer basis is named here for the actor's region
	Emergency                      // the actor is admin here, and has broken the glass at a client or below that contains the object
	Legal                          // the question's purpose is dataset.Legal: a disclosure that a law requires
	Disclosed                      // Legal, and two people agreed on the disclosure of exactly this shard by the actor
	Paused                         // the processing of the actor's own data is restricted
	Frozen                         // the processing of the target's data is restricted
	Unconsented                    // the purpose rests on consent, and the actor's is not in force
	Objected                       // the actor has objected to the purpose
	Claimable                      // the project lets annotators claim shards
)

var factNames = [...]string{
	"active", "restricted", "hold", "expired", "live", "owner", "own", "assigned", "reviewing",
	"author", "datagrant", "nda", "required", "region", "purpose", "delivery", "sensitive", "dual", "self",
	"selfgranted", "conflict", "access", "overlong", "staffonly", "offhours", "offnetwork",
	"abroad", "transfer", "emergency", "legal", "disclosed",
	"paused", "frozen", "unconsented", "objected", "claimable",
}

const (
	factCount  = len(factNames)
	stateFacts = Active | Restricted | Held | Expired
)

func parseFact(name string) (Facts, bool) {
	i := slices.Index(factNames[:], name)
	if i < 0 {
		return 0, false
	}
	return 1 << i, true
}

// Has reports whether all of facts hold.
func (f Facts) Has(facts Facts) bool { return f&facts == facts }

// Names lists the facts that hold, in a fixed order.
func (f Facts) Names() []string {
	names := make([]string, 0, bits.OnesCount64(uint64(f)))
	for i, name := range factNames {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// String joins the names with spaces; no fact is "-".
func (f Facts) String() string { return orDash(strings.Join(f.Names(), " ")) }

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func join[T ~string](words []T) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(w))
	}
	return b.String()
}
