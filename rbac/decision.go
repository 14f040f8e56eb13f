package rbac

import (
	"time"

	"dsvault/vault/dataset"
)

// Object is what an action is done to.
type Object struct {
	Kind  Kind
	Scope dataset.Scope       // where it is
	Shard int                 // its number, for shards and annotations; -1: none
	Owner dataset.PrincipalID // whose assignment, annotation, approval or own record it is; zero: nobody's
}

// Query is one question. To create an org, a project or a dataset is decided
// where it will be: at the new scope's parent.
type Query struct {
	Actor   dataset.PrincipalID
	Action  Action
	Object  Object
	Target  dataset.PrincipalID // of grants, assignments and approvals: to whom
	Purpose string              // what the actor says that the data is for
	Now     time.Time
}

// Decision is the answer. The zero Decision is a refusal.
type Decision struct {
	Allowed bool
	Rule    string   // the rule that allowed or denied; "" when none matched
	Reasons []string // of a refusal: every deny that matched and every near miss, in table order
	Facts   Facts
	Roles   RoleSet // in force in the object's scope

	Revision uint64   // of the facts
	Policy   [32]byte // of the rules: the policy's hash

	// Visible: the actor may know that the object exists, because they may
	// read its record, or hold a role here and a shard of it. Where it is
	// false, answer as if there were no such thing.
	Visible bool

	// Until is when an allowed decision ends by itself, as grants,
	// assignments and signatures run out; zero: it does not.
	Until time.Time
}
