package rbac

import (
	"errors"
	"fmt"
	"strings"

	"github.com/casbin/casbin/v2"
	"github.com/casbin/casbin/v2/model"

	"dsvault/vault/dataset"
)

// engine is a Casbin enforcer over one table. It is built once and never
// changed, which is what makes it safe to share: no roles of Casbin's, no
// cache, no watcher, no management call.
type engine struct {
	enforcer *casbin.Enforcer
	rules    []Rule
	numbers  map[string]int // of rules, by id
}

// newEngine builds the enforcer and proves that it is awake: it must refuse
// nobody's request and must fail on what is not a request.
func newEngine(modelText string, rules []Rule) (*engine, error) {
	m, err := model.NewModelFromString(modelText)
	if err != nil {
		return nil, err
	}
	enforcer, err := casbin.NewEnforcer(m, readOnly(rules))
	if err != nil {
		return nil, err
	}
	// Casbin ignores functions that are added after the first request.
	enforcer.AddFunction("holds", holds)
	enforcer.AddFunction("when", when)
	e := &engine{enforcer, rules, make(map[string]int, len(rules))}
	for i := range rules {
		e.numbers[rules[i].ID] = i
	}
	loaded, err := enforcer.GetPolicy()
	if err != nil || len(loaded) != len(rules) {
		return nil, fmt.Errorf("casbin loaded %d of %d rules: %w", len(loaded), len(rules), err)
	}
	r := rules[0]
	if _, err := enforcer.Enforce("admin", string(r.Kind), r.Action, Facts(0)); err == nil {
		return nil, errors.New("casbin accepted a role that is only a name")
	}
	return e, nil
}

// decide answers one abstract request. An error is to be taken as a refusal.
func (e *engine) decide(kind Kind, action Action, roles RoleSet, facts Facts) (verdict, error) {
	refused := verdict{rule: -1}
	if kind == "" || action == "" {
		return refused, errors.New("empty kind or action")
	}
	allowed, rule, err := e.enforcer.EnforceEx(roles, string(kind), string(action), facts)
	if err != nil {
		return refused, err
	}
	if len(rule) == 0 {
		if allowed {
			return refused, errors.New("casbin allowed without a rule")
		}
		return refused, nil
	}
	number, ok := e.numbers[rule[0]]
	if !ok || e.rules[number].Deny == allowed {
		return refused, fmt.Errorf("casbin gave rule %q for allowed=%t", rule[0], allowed)
	}
	return verdict{allowed, number}, nil
}

// holds(r.sub, p.sub): one of the actor's roles is the rule's.
func holds(args ...any) (any, error) {
	if len(args) != 2 {
		return false, fmt.Errorf("holds: %d arguments", len(args))
	}
	roles, ok := args[0].(RoleSet)
	if !ok || roles&^allRoles != 0 {
		return false, fmt.Errorf("holds: not a set of roles: %T", args[0])
	}
	name, ok := args[1].(string)
	if !ok {
		return false, fmt.Errorf("holds: not a role's name: %T", args[1])
	}
	if name == anyRole {
		return true, nil
	}
	for i, role := range dataset.Roles {
		if string(role) == name {
			return roles>>i&1 == 1, nil
		}
	}
	return false, fmt.Errorf("holds: no role is called %q", name)
}

// when(r.ctx, p.cond): the facts meet the rule's condition.
func when(args ...any) (any, error) {
	if len(args) != 2 {
		return false, fmt.Errorf("when: %d arguments", len(args))
	}
	facts, ok := args[0].(Facts)
	if !ok || facts>>factCount != 0 {
		return false, fmt.Errorf("when: not a set of facts: %T", args[0])
	}
	condition, ok := args[1].(string)
	if !ok {
		return false, fmt.Errorf("when: not a condition: %T", args[1])
	}
	if condition == always {
		return true, nil
	}
	met := true
	for term := range strings.SplitSeq(condition, " & ") { // to the end: each name has to be known
		name, negated := strings.CutPrefix(term, "!")
		fact, ok := parseFact(name)
		if !ok {
			return false, fmt.Errorf("when: no fact is called %q", name)
		}
		if facts.Has(fact) == negated {
			met = false
		}
	}
	return met, nil
}

// readOnly feeds parsed rules to Casbin.
type readOnly []Rule

// LoadPolicy implements persist.Adapter.
func (rules readOnly) LoadPolicy(m model.Model) error {
	for i := range rules {
		if err := m.AddPolicy("p", "p", rules[i].fields()); err != nil {
			return err
		}
	}
	return nil
}

var errReadOnly = errors.New("the policy is read-only")

// SavePolicy implements persist.Adapter; it always fails, as the rest do.
func (readOnly) SavePolicy(model.Model) error { return errReadOnly }

// AddPolicy implements persist.Adapter.
func (readOnly) AddPolicy(string, string, []string) error { return errReadOnly }

// RemovePolicy implements persist.Adapter.
func (readOnly) RemovePolicy(string, string, []string) error { return errReadOnly }

// RemoveFilteredPolicy implements persist.Adapter.
func (readOnly) RemoveFilteredPolicy(string, string, int, ...string) error { return errReadOnly }
