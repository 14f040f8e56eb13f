package rbac

import "strings"

// Rule is one line of policy.csv.
type Rule struct {
	ID        string
	Role      string // a role's name, or "any" (deny only)
	Kind      Kind
	Action    string // an action's name, or "*" (deny only)
	Condition string // facts joined by " & ", "!" negates; or "always"
	Deny      bool
	Line      int // in policy.csv, from 1

	roles  RoleSet // the role's bit; 0 for "any"
	need   Facts
	forbid Facts
}

const (
	anyRole   = "any"
	anyAction = "*"
	always    = "always"
)

// about reports whether the rule speaks of this kind and action.
func (r *Rule) about(kind Kind, action Action) bool {
	return r.Kind == kind && (r.Action == string(action) || r.Action == anyAction)
}

func (r *Rule) heldBy(roles RoleSet) bool { return r.Role == anyRole || roles&r.roles != 0 }

func (r *Rule) met(facts Facts) bool { return facts&r.need == r.need && facts&r.forbid == 0 }

// missing says what keeps an allow from matching: "nda, not self".
func (r *Rule) missing(facts Facts) string {
	names := (r.need &^ facts).Names()
	for _, name := range (r.forbid & facts).Names() {
		names = append(names, "not "+name)
	}
	return strings.Join(names, ", ")
}

// denial says which facts made a deny match: "sensitive, not dual".
func (r *Rule) denial() string {
	return strings.ReplaceAll(strings.ReplaceAll(r.Condition, " & ", ", "), "!", "not ")
}

// effect gives the word in the table.
func (r *Rule) effect() string {
	if r.Deny {
		return "deny"
	}
	return "allow"
}

// fields are the columns as Casbin's model names them: id, sub, obj, act,
// cond, eft.
func (r *Rule) fields() []string {
	return []string{r.ID, r.Role, string(r.Kind), r.Action, r.Condition, r.effect()}
}

// verdict is what the table says of one abstract request: whether it is
// allowed, and the number of the rule that decided, or -1.
type verdict struct {
	allowed bool
	rule    int
}

// judge evaluates the rules without Casbin: the first deny that matches, or
// else the first allow.
func judge(rules []Rule, about []int, roles RoleSet, facts Facts) verdict {
	v := verdict{rule: -1}
	for _, i := range about {
		r := &rules[i]
		if !r.heldBy(roles) || !r.met(facts) {
			continue
		}
		if r.Deny {
			return verdict{rule: i}
		}
		if v.rule < 0 {
			v = verdict{allowed: true, rule: i}
		}
	}
	return v
}

// index lists, for each kind and action, the rules about it in table order.
type index [len(Kinds)][len(Actions)][]int

func indexRules(rules []Rule) *index {
	var ix index
	for i := range rules {
		k := rules[i].Kind.number()
		for a, action := range Actions {
			if rules[i].about(Kinds[k], action) {
				ix[k][a] = append(ix[k][a], i)
			}
		}
	}
	return &ix
}
