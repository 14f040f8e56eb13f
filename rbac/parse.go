package rbac

import (
	"bytes"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"dsvault/vault/dataset"
)

const maxLine = 400 // bytes

// lineError says where a policy file is wrong.
type lineError struct {
	file   string
	line   int
	reason string
}

func (e *lineError) Error() string { return fmt.Sprintf("%s:%d: %s", e.file, e.line, e.reason) }

// at makes a lineError.
func at(file string, line int, format string, args ...any) error {
	return &lineError{file, line, fmt.Sprintf(format, args...)}
}

// rows yields the lines of a table that are neither blank nor comments, cut at
// commas and trimmed, with their numbers. It stops after the first error. Only
// plain text passes: no BOM, no CR, no tabs, no quotes, and no '#' after the
// start of a line, where it might look like a comment and void a rule.
func rows(file string, text []byte, columns int) iter.Seq2[int, rowOrError] {
	return func(yield func(int, rowOrError) bool) {
		if len(text) > 0 && text[len(text)-1] != '\n' {
			yield(0, rowOrError{err: at(file, 1+bytes.Count(text, []byte("\n")), "the file ends inside a line: is it cut off?")})
			return
		}
		line := 0
		for raw := range bytes.Lines(text) {
			line++
			raw = bytes.TrimSuffix(raw, []byte("\n"))
			fields, err := row(file, line, string(raw), columns)
			if fields == nil && err == nil {
				continue
			}
			if !yield(line, rowOrError{fields, err}) || err != nil {
				return
			}
		}
	}
}

type rowOrError struct {
	fields []string
	err    error
}

// row cuts one line; nil fields and no error: there is nothing on it.
func row(file string, line int, s string, columns int) ([]string, error) {
	if len(s) > maxLine {
		return nil, at(file, line, "the line is longer than %d bytes", maxLine)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfeff }) {
		return nil, at(file, line, "a control character, byte order mark or bad UTF-8 (line ends are LF alone)")
	}
	if s == "" || s[0] == '#' {
		return nil, nil
	}
	if s[0] == ' ' {
		return nil, at(file, line, "the line begins with a space")
	}
	if strings.ContainsAny(s, `#"`) {
		return nil, at(file, line, "'#' and double quotes have no place in a row; comments stand on lines of their own")
	}
	fields := strings.Split(s, ",")
	if len(fields) != columns {
		return nil, at(file, line, "%d columns instead of %d", len(fields), columns)
	}
	for i := range fields {
		fields[i] = strings.Trim(fields[i], " ")
		if fields[i] == "" {
			return nil, at(file, line, "column %d is empty", i+1)
		}
	}
	return fields, nil
}

var ruleID = regexp.MustCompile(`^[A-Z]{3}-[0-9]{2,3}$`)

// rolePrefix begins the ids of each role's rules, denyPrefix those of denies.
var rolePrefix = map[string]string{
	string(dataset.Admin): "ADM", string(dataset.ClientUser): "CLI", string(dataset.Labeler): "LAB",
	string(dataset.Contractor): "CON", string(dataset.Reviewer): "REV", string(dataset.Auditor): "AUD",
	string(dataset.Service): "SVC", anyRole: "OWN",
}

const denyPrefix = "DNY"

// parseRules reads policy.csv.
func parseRules(text []byte) ([]Rule, error) {
	var rules []Rule
	ids := map[string]int{}
	bodies := map[string]string{}
	for line, row := range rows(policyFile, text, 7) {
		if row.err != nil {
			return nil, row.err
		}
		r, err := parseRule(line, row.fields)
		if err != nil {
			return nil, err
		}
		if first, ok := ids[r.ID]; ok {
			return nil, at(policyFile, line, "rule %s is on line %d already", r.ID, first)
		}
		body := strings.Join(r.fields()[1:], ",")
		if twin, ok := bodies[body]; ok {
			return nil, at(policyFile, line, "rule %s says the same as %s", r.ID, twin)
		}
		if len(rules) == maxRules {
			return nil, at(policyFile, line, "more than %d rules", maxRules)
		}
		ids[r.ID], bodies[body] = line, r.ID
		rules = append(rules, r)
	}
	if len(rules) == 0 {
		return nil, at(policyFile, 1, "no rule in the file")
	}
	return rules, nil
}

func parseRule(line int, f []string) (Rule, error) {
	r := Rule{ID: f[1], Role: f[2], Kind: Kind(f[3]), Action: f[4], Line: line}
	switch {
	case f[0] != "p":
		return r, at(policyFile, line, "a row begins with p, not %q", f[0])
	case !ruleID.MatchString(r.ID):
		return r, at(policyFile, line, "%q is no rule id such as ADM-01", r.ID)
	case f[6] != "allow" && f[6] != "deny":
		return r, at(policyFile, line, "the effect is allow or deny, not %q", f[6])
	case r.Kind.number() < 0:
		return r, at(policyFile, line, "no kind of object is called %q", f[3])
	}
	r.Deny = f[6] == "deny"
	if r.Role != anyRole {
		role, err := dataset.ParseRole(r.Role)
		if err != nil {
			return r, at(policyFile, line, "no role is called %q", r.Role)
		}
		r.roles = Roles(role)
	} else if !r.Deny && !r.Kind.aboutPeople() {
		return r, at(policyFile, line, "only a deny may be for any role, or what people do about themselves")
	}
	if r.Action == anyAction {
		if !r.Deny {
			return r, at(policyFile, line, "only a deny may be of every action")
		}
	} else if Action(r.Action).number() < 0 {
		return r, at(policyFile, line, "no action is called %q", r.Action)
	}
	prefix := rolePrefix[r.Role]
	if r.Deny {
		prefix = denyPrefix
	}
	if r.ID[:3] != prefix {
		return r, at(policyFile, line, "the id of %s %s rule begins with %s, not %s", r.effect(), r.Role, prefix, r.ID[:3])
	}
	var err error
	if r.need, r.forbid, err = parseCondition(f[5]); err != nil {
		return r, at(policyFile, line, "%v", err)
	}
	if r.Role == anyRole && !r.Deny && r.need&Self == 0 {
		return r, at(policyFile, line, "what is allowed to any role needs self")
	}
	r.Condition = f[5]
	return r, nil
}

// parseCondition reads "always" or facts joined by " & ".
func parseCondition(s string) (need, forbid Facts, err error) {
	if s == always {
		return 0, 0, nil
	}
	var canonical []string
	for term := range strings.SplitSeq(s, "&") {
		term = strings.Trim(term, " ")
		name, negated := strings.CutPrefix(term, "!")
		fact, ok := parseFact(name)
		if !ok {
			return 0, 0, fmt.Errorf("no fact is called %q", name)
		}
		if (need|forbid)&fact != 0 {
			return 0, 0, fmt.Errorf("the fact %s is in the condition twice", name)
		}
		if negated {
			forbid |= fact
		} else {
			need |= fact
		}
		canonical = append(canonical, term)
	}
	if want := strings.Join(canonical, " & "); want != s {
		return 0, 0, fmt.Errorf("write the condition as %q", want)
	}
	return need, forbid, nil
}

// truthCase is one line of truth.csv.
type truthCase struct {
	line   int
	roles  RoleSet
	kind   Kind
	action Action
	facts  Facts
	allow  bool
	rule   string // "" when none is to match
}

// parseTruth reads truth.csv.
func parseTruth(text []byte) ([]truthCase, error) {
	type question struct {
		roles  RoleSet
		kind   Kind
		action Action
		facts  Facts
	}
	var cases []truthCase
	seen := map[question]int{}
	for line, row := range rows(truthFile, text, 7) {
		if row.err != nil {
			return nil, row.err
		}
		c, err := parseCase(line, row.fields)
		if err != nil {
			return nil, err
		}
		q := question{c.roles, c.kind, c.action, c.facts}
		if first, ok := seen[q]; ok {
			return nil, at(truthFile, line, "the same question is on line %d", first)
		}
		if len(cases) == maxCases {
			return nil, at(truthFile, line, "more than %d cases", maxCases)
		}
		seen[q] = line
		cases = append(cases, c)
	}
	if len(cases) == 0 {
		return nil, at(truthFile, 1, "no case in the file")
	}
	return cases, nil
}

func parseCase(line int, f []string) (truthCase, error) {
	c := truthCase{line: line, kind: Kind(f[1]), action: Action(f[2]), allow: f[4] == "allow"}
	switch {
	case c.kind.number() < 0:
		return c, at(truthFile, line, "no kind of object is called %q", f[1])
	case c.action.number() < 0:
		return c, at(truthFile, line, "no action is called %q", f[2])
	case f[4] != "allow" && f[4] != "refuse":
		return c, at(truthFile, line, "a case expects allow or refuse, not %q", f[4])
	case c.allow && f[5] == "-":
		return c, at(truthFile, line, "what allows needs a rule")
	case f[5] != "-":
		c.rule = f[5]
	}
	if f[0] != "-" {
		for name := range strings.SplitSeq(f[0], "+") {
			role, err := dataset.ParseRole(name)
			if err != nil || c.roles.Has(role) {
				return c, at(truthFile, line, "%q is no role, or twice here", name)
			}
			c.roles |= Roles(role)
		}
	}
	var err error
	if c.facts, err = parseFacts(f[3]); err != nil {
		return c, at(truthFile, line, "%v", err)
	}
	return c, nil
}

// parseFacts reads facts with spaces between them, or "-". The fact live is
// not written: it follows from active and restricted.
func parseFacts(s string) (Facts, error) {
	if s == "-" {
		return 0, nil
	}
	var facts Facts
	for name := range strings.SplitSeq(s, " ") {
		fact, ok := parseFact(name)
		if !ok || fact == Live || facts&fact != 0 {
			return 0, fmt.Errorf("%q is no fact to be written here, or it is here twice", name)
		}
		facts |= fact
	}
	if state := facts & stateFacts; state&(state-1) != 0 {
		return 0, fmt.Errorf("a dataset has one state, not %v", state)
	}
	return withLive(facts), nil
}

// withLive adds the fact that active and restricted imply.
func withLive(f Facts) Facts {
	if f&(Active|Restricted) != 0 {
		f |= Live
	}
	return f
}

// decider answers an abstract request.
type decider func(Kind, Action, RoleSet, Facts) (verdict, error)

// checkTruth puts every case to decide, and wants every rule to be in a case.
func checkTruth(rules []Rule, cases []truthCase, decide decider) error {
	untested := map[string]bool{}
	for i := range rules {
		untested[rules[i].ID] = true
	}
	for _, c := range cases {
		v, err := decide(c.kind, c.action, c.roles, c.facts)
		if err != nil {
			return at(truthFile, c.line, "cannot be decided: %v", err)
		}
		got, where := "", "" // no rule matches: there is no line
		if v.rule >= 0 {
			got, where = rules[v.rule].ID, fmt.Sprintf(" (%s line %d)", policyFile, rules[v.rule].Line)
		}
		if v.allowed != c.allow || got != c.rule {
			return at(truthFile, c.line, "%v, %s %s, %v: expected %s, but the table says %s%s", c.roles,
				c.action, c.kind, c.facts, outcome(c.allow, c.rule), outcome(v.allowed, got), where)
		}
		delete(untested, c.rule)
	}
	i := slices.IndexFunc(rules, func(r Rule) bool { return untested[r.ID] })
	if i >= 0 {
		return at(policyFile, rules[i].Line, "no case of %s tests %s", truthFile, rules[i].ID)
	}
	return nil
}

func outcome(allowed bool, rule string) string {
	word := "refuse"
	if allowed {
		word = "allow"
	}
	if rule == "" {
		return word + " by no rule"
	}
	return word + " by " + rule
}
