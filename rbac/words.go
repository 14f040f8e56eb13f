package rbac

import (
	"slices"

	"dsvault/vault/fault"
)

// Action is what somebody wants to do. The list is closed.
type Action string

const (
	Create    Action = "create"
	Read      Action = "read"
	Update    Action = "update"
	Suspend   Action = "suspend"
	Anonymize Action = "anonymize"
	Grant     Action = "grant"
	Assign    Action = "assign"
	Revoke    Action = "revoke"
	Approve   Action = "approve"
	Publish   Action = "publish"
	Upload    Action = "upload"
	Export    Action = "export"
	Submit    Action = "submit"
	Review    Action = "review"
	Delete    Action = "delete"
	Expire    Action = "expire"
	Rotate    Action = "rotate"
	Destroy   Action = "destroy"
	Hold      Action = "hold"
	Release   Action = "release"
	Restrict  Action = "restrict"
	Test      Action = "test"
	Check     Action = "check"  // compare the catalog with storage
	Notify    Action = "notify" // choose what a client hears of, and where
	Claim     Action = "claim"  // take the next free shard, to work on it for a while

	BreakGlass Action = "break-glass" // read in an emergency without a second person
	Disclose   Action = "disclose"    // read because a law requires it; of the log: see what is withheld for that
	Consent    Action = "consent"
	ObjectTo   Action = "object" // to a purpose that one's data is processed for
)

// Actions lists every action.
var Actions = [...]Action{
	Create, Read, Update, Suspend, Anonymize, Grant, Assign, Revoke, Approve, Publish, Upload, Export,
	Submit, Review, Delete, Expire, Rotate, Destroy, Hold, Release, Restrict, Test, Check, Notify,
	BreakGlass, Disclose,
	Consent, ObjectTo, Claim,
}

// ParseAction reads an action's name. An unknown one is Invalid.
func ParseAction(s string) (Action, error) {
	if a := Action(s); slices.Contains(Actions[:], a) {
		return a, nil
	}
	return "", fault.New(fault.Invalid, "rbac.ParseAction", "no such action").
		WithHint("actions are " + join(Actions[:]))
}

// Kind is what kind of thing an action is done to. The list is closed.
type Kind string

const (
	Org           Kind = "org"        // a client; to create one is done at the vault
	Project       Kind = "project"    // its record
	Dataset       Kind = "dataset"    // its record and its life: upload, hold, restrict, delete, expire
	Shard         Kind = "shard"      // the data of one shard
	ExportObj     Kind = "export"     // data taken out of the vault as a whole
	Annotation    Kind = "annotation" // what was made of one shard; Owner is the author
	Person        Kind = "person"     // a principal; Owner is who it is
	GrantObj      Kind = "grant"
	AssignmentObj Kind = "assignment" // Owner is whose it is
	Approval      Kind = "approval"   // Owner is who asked for it
	PolicyObj     Kind = "policy"
	Key           Kind = "key"
	HoldObj       Kind = "hold"        // the record of a legal hold
	Restriction   Kind = "restriction" // the record of a restriction
	Log           Kind = "log"
	AgreementObj  Kind = "agreement" // vault-wide: a role held anywhere counts for reading it
	Subject       Kind = "subject"   // a person as the one whom data is about: the question's Target
	RequestObj    Kind = "request"   // in the register of requests; Target is whose it is
)

// Kinds lists every kind.
var Kinds = [...]Kind{
	Org, Project, Dataset, Shard, ExportObj, Annotation, Person, GrantObj, AssignmentObj,
	Approval, PolicyObj, Key, HoldObj, Restriction, Log, AgreementObj,
	Subject, RequestObj,
}

// ParseKind reads a kind's name. An unknown one is Invalid.
func ParseKind(s string) (Kind, error) {
	if k := Kind(s); slices.Contains(Kinds[:], k) {
		return k, nil
	}
	return "", fault.New(fault.Invalid, "rbac.ParseKind", "no such kind of object").
		WithHint("kinds are " + join(Kinds[:]))
}

// recordKind is the kind of the record that stands at a scope of this depth.
func recordKind(depth int) Kind { return [...]Kind{"", Org, Project, Dataset}[depth] }

// aboutPeople reports whether things of the kind are about one person, who is
// the question's Target. That person needs no role for what is their own.
func (k Kind) aboutPeople() bool { return k == Subject || k == RequestObj }

// number gives a kind's place in Kinds, or -1.
func (k Kind) number() int { return slices.Index(Kinds[:], k) }

// number gives an action's place in Actions, or -1.
func (a Action) number() int { return slices.Index(Actions[:], a) }
