package rbac

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/bits"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"dsvault/policies"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

func embedded(t testing.TB, name string) string {
	t.Helper()
	text, err := policies.FS.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// edited is the embedded policy with one file replaced.
func edited(t testing.TB, name, text string) fs.FS {
	files := fstest.MapFS{}
	for _, f := range []string{modelFile, policyFile, truthFile} {
		files[f] = &fstest.MapFile{Data: []byte(embedded(t, f))}
	}
	files[name] = &fstest.MapFile{Data: []byte(text)}
	return files
}

// lineOf is the number of the first line that holds s.
func lineOf(t testing.TB, text, s string) int {
	t.Helper()
	before, _, ok := strings.Cut(text, s)
	if !ok {
		t.Fatalf("no %q", s)
	}
	return 1 + strings.Count(before, "\n")
}

func TestDefaultPolicy(t *testing.T) {
	p := Default()
	cases, err := parseTruth([]byte(embedded(t, truthFile)))
	if err != nil || len(cases) < 300 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	if p.Hash() == [32]byte{} || len(p.Rules()) < 80 {
		t.Errorf("hash %x, %d rules", p.Hash(), len(p.Rules()))
	}
	again, err := LoadPolicy(policies.FS)
	if err != nil || again.Hash() != p.Hash() {
		t.Errorf("the hash is not the content's: %v", err)
	}
	other, err := LoadPolicy(edited(t, policyFile, embedded(t, policyFile)+"# one more comment\n"))
	if err != nil || other.Hash() == p.Hash() {
		t.Errorf("the hash does not see an edit: %v", err)
	}
	md := p.Markdown()
	if rows := strings.Count(md, "\n"); rows != len(p.Rules())+2 {
		t.Errorf("%d rows of Markdown", rows)
	}
	for _, want := range []string{
		"| LAB-03 | labeler | shard | read | assigned & live & region & purpose | allow |\n",
		"| DNY-01 | auditor | shard | \\* | always | deny |\n",
	} {
		if !strings.Contains(md, want) {
			t.Errorf("no row %q", want)
		}
	}
}

// refused is one way of spoiling a policy's files, and what is said of it.
type refused struct {
	name, file, text string
	line             int
	reason           string
}

func spoiled(t *testing.T) []refused {
	policy, truth, model := embedded(t, policyFile), embedded(t, truthFile), embedded(t, modelFile)
	const deny = "p, DNY-13, any, shard, *, selfgranted, deny"
	const allow = "p, LAB-03, labeler, shard, read, assigned & live & region & purpose, allow"
	swap := func(old, new string) string {
		if !strings.Contains(policy, old) {
			t.Fatalf("no %q", old)
		}
		return strings.Replace(policy, old, new, 1)
	}
	denyLine, allowLine := lineOf(t, policy, deny), lineOf(t, policy, allow)
	return []refused{
		{"typo in effect", policyFile, swap(deny, strings.Replace(deny, "deny", "Deny", 1)), denyLine, "effect"},
		{"comment after a deny", policyFile, swap(deny, deny+" # never"), denyLine, "comments stand on lines of their own"},
		{"deny quoted", policyFile, swap(deny, strings.Replace(deny, "deny", `"deny"`, 1)), denyLine, "quotes"},
		{"one column less", policyFile, swap(deny, strings.TrimSuffix(deny, ", deny")), denyLine, "6 columns instead of 7"},
		{"one column more", policyFile, swap(deny, deny+", deny"), denyLine, "8 columns instead of 7"},
		{"empty column", policyFile, swap(deny, strings.Replace(deny, "shard", "", 1)), denyLine, "column 4 is empty"},
		{"indented", policyFile, swap(deny, " "+deny), denyLine, "begins with a space"},
		{"not p", policyFile, swap(deny, "p2"+deny[1:]), denyLine, "begins with p"},
		{"grouping", policyFile, swap(deny, "g"+deny[1:]), denyLine, "begins with p"},
		{"unknown fact", policyFile, swap(allow, strings.Replace(allow, "live", "alive", 1)), allowLine, `"alive"`},
		{"unknown role", policyFile, swap(allow, strings.Replace(allow, " labeler", " labeller", 1)), allowLine, `"labeller"`},
		{"unknown kind", policyFile, swap(allow, strings.Replace(allow, "shard", "shards", 1)), allowLine, `"shards"`},
		{"unknown action", policyFile, swap(allow, strings.Replace(allow, "read", "reed", 1)), allowLine, `"reed"`},
		{"pattern", policyFile, swap(allow, strings.Replace(allow, "shard", "shard*", 1)), allowLine, "shard*"},
		{"allow to any", policyFile, swap(allow, strings.Replace(allow, " labeler", " any", 1)), allowLine, "only a deny"},
		{"allow to any, about others", policyFile, swap("any, subject, read, self, allow", "any, subject, read, !self, allow"), lineOf(t, policy, "any, subject, read, self, allow"), "needs self"},
		{"allow all actions", policyFile, swap(allow, strings.Replace(allow, "read", "*", 1)), allowLine, "only a deny"},
		{"fact twice", policyFile, swap(allow, strings.Replace(allow, "live", "assigned", 1)), allowLine, "twice"},
		{"fact and its opposite", policyFile, swap(allow, strings.Replace(allow, "live", "!assigned", 1)), allowLine, "twice"},
		{"empty term", policyFile, swap(allow, strings.Replace(allow, "live", "", 1)), allowLine, `no fact is called ""`},
		{"spacing", policyFile, swap(allow, strings.Replace(allow, " & live", "&live", 1)), allowLine, "write the condition as"},
		{"duplicate id", policyFile, swap(allow, strings.Replace(allow, "LAB-03", "LAB-01", 1)), allowLine, "on line"},
		{"duplicate rule", policyFile, policy + strings.Replace(deny, "DNY-13", "DNY-999", 1) + "\n", 1 + strings.Count(policy, "\n"), "the same as DNY-13"},
		{"another role's id", policyFile, swap(allow, strings.Replace(allow, "LAB-03", "ADM-99", 1)), allowLine, "begins with LAB"},
		{"effect flipped", policyFile, swap(deny, strings.Replace(deny, "deny", "allow", 1)), denyLine, "only a deny"},
		{"odd id", policyFile, swap(allow, strings.Replace(allow, "LAB-03", "LAB-3", 1)), allowLine, "no rule id"},
		{"untested rule", policyFile, policy + "p, SVC-50, service, restriction, submit, always, allow\n", 1 + strings.Count(policy, "\n"), "no case"},
		{"empty", policyFile, "", 1, "no rule"},
		{"comments only", policyFile, "# nothing\n\n", 1, "no rule"},
		{"cut off", policyFile, policy[:len(policy)-9], strings.Count(policy, "\n"), "cut off"},
		{"CRLF", policyFile, strings.ReplaceAll(policy, "\n", "\r\n"), 1, "control character"},
		{"BOM", policyFile, "\ufeff" + policy, 1, "byte order mark"},
		{"NUL", policyFile, swap(deny, deny+"\x00"), denyLine, "control character"},
		{"tab", policyFile, swap(deny, "p,\t"+deny[3:]), denyLine, "control character"},
		{"bad UTF-8", policyFile, swap(deny, deny+"\xff"), denyLine, "UTF-8"},
		{"look-alike letter", policyFile, swap(deny, strings.Replace(deny, "shard", "sh\u0430rd", 1)), denyLine, "no kind"},
		{"no-break space", policyFile, swap(deny, strings.Replace(deny, " deny", "\u00a0deny", 1)), denyLine, "effect"},
		{"long line", policyFile, swap(deny, deny+strings.Repeat(" ", 500)), denyLine, "longer than"},
		{"10 MB", policyFile, strings.Repeat("# padding\n", 1<<20), 1, "larger than"},
		{"model: other effect", modelFile, strings.Replace(model, " && !some(where (p.eft == deny))", "", 1), 8, "differs"},
		{"model: other matcher", modelFile, strings.Replace(model, "holds(r.sub, p.sub) && ", "", 1), 11, "differs"},
		{"model: empty", modelFile, "", 1, "differs"},
		{"truth: empty", truthFile, "", 1, "no case"},
		{"truth: wrong answer", truthFile, strings.Replace(truth, "allow, LAB-03", "refuse, -", 1), lineOf(t, truth, "allow, LAB-03"), "allow by LAB-03"},
		{"truth: wrong rule", truthFile, strings.Replace(truth, "refuse, DNY-04", "refuse, -", 1), lineOf(t, truth, "refuse, DNY-04"), "refuse by DNY-04"},
		{"truth: unknown fact", truthFile, strings.Replace(truth, "active assigned", "active asigned", 1), lineOf(t, truth, "active assigned"), `"asigned"`},
		{"truth: case twice", truthFile, truth + "labeler, annotation, submit, active assigned, allow, LAB-04, again\n", 1 + strings.Count(truth, "\n"), "the same question"},
		{"truth: two states", truthFile, truth + "labeler, shard, read, active hold, refuse, -, odd\n", 1 + strings.Count(truth, "\n"), "one state"},
		{"truth: allow by nothing", truthFile, truth + "labeler, shard, read, active own, allow, -, odd\n", 1 + strings.Count(truth, "\n"), "needs a rule"},
		{"truth: no rule matches", truthFile, truth + "labeler, grant, revoke, active, allow, LAB-03, odd\n", 1 + strings.Count(truth, "\n"), "but the table says refuse by no rule"},
	}
}

func TestLoaderRefuses(t *testing.T) {
	for _, c := range spoiled(t) {
		t.Run(c.name, func(t *testing.T) {
			p, err := LoadPolicy(edited(t, c.file, c.text))
			if err == nil || p != nil {
				t.Fatal("accepted")
			}
			if code := fault.CodeOf(err); code != fault.Invalid && code != fault.TooLarge {
				t.Errorf("code %s", code)
			}
			if want := fmt.Sprintf("%s:%d: ", c.file, c.line); !strings.Contains(err.Error(), want) {
				t.Errorf("%v: not at %s", err, want)
			}
			if !strings.Contains(err.Error(), c.reason) || strings.Contains(err.Error(), "line 0") {
				t.Errorf("%v: does not say %q", err, c.reason)
			}
		})
	}
	for _, name := range []string{modelFile, policyFile, truthFile} {
		files := edited(t, name, "").(fstest.MapFS)
		delete(files, name)
		if _, err := LoadPolicy(files); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), name+" is missing") {
			t.Errorf("without %s: %v", name, err)
		}
		files[name] = &fstest.MapFile{Mode: fs.ModeDir}
		if _, err := LoadPolicy(files); !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s a folder: %v", name, err)
		}
	}
}

// breaches are edits, each of which breaks a guardrail ("": none, since two
// rules of the table keep it).
var breaches = []struct{ old, new, guardrail string }{
	{"", "p, LAB-99, labeler, shard, read, live & region & purpose, allow", "a shard is read by"},
	{"assigned & live & region", "live & region", "a shard is read by"},
	{"datagrant & live", "live", "a shard is read by"},
	{"", "p, LAB-99, labeler, shard, delete, assigned, allow", "nothing is done to a shard"},
	{"p, DNY-01, auditor, shard, *, always, deny", "", "an auditor never touches data"},
	{"p, DNY-02, auditor, annotation, *, always, deny", "", "an auditor never touches data"},
	{"p, DNY-03, auditor, export, *, always, deny", "", "an auditor never touches data"},
	{"p, DNY-21, service, shard, *, always, deny", "", "a machine account never touches a shard"},
	{"p, DNY-19, contractor, shard, *, !nda, deny", "", "a contractor reads only"},
	{"p, DNY-20, contractor, shard, *, !active, deny", "", "a contractor reads only"},
	{"p, DNY-55, any, shard, *, abroad & !transfer, deny", "", "has a basis for it"},
	{"p, DNY-56, any, export, *, abroad & !transfer, deny", "", "has a basis for it"},
	{"p, DNY-51, contractor, shard, *, overlong, deny", "", "by a grant that ends in time"},
	{"p, DNY-52, contractor, shard, read, staffonly, deny", "", "gets data only sealed"},
	{"p, DNY-53, contractor, shard, *, offhours, deny", "", "only in the hours"},
	{"p, DNY-54, contractor, shard, *, offnetwork, deny", "", "only from the networks"},
	{"assigned & nda & active, allow", "assigned & active, allow", "a contractor without a signed agreement"},
	{"p, DNY-18, contractor, export, *, always, deny", "", "a contractor never exports"},
	{"", "p, REV-99, reviewer, export, create, reviewing & live & region, allow", "only the owner exports"},
	{"read, owner & hold & region, allow", "read, owner & region, allow", "under a hold only the owner reads"},
	{"reviewing & live & region & purpose", "reviewing & hold & region & purpose", "under a hold only the owner reads"},
	{"p, DNY-11, any, shard, *, sensitive & !dual & !emergency, deny", "", "sensitive shards take two people"},
	{"p, DNY-12, any, export, *, sensitive & !dual, deny", "", "sensitive data takes two people"},
	{"p, DNY-70, any, shard, read, legal & !disclosed, deny", "", "a read that a law requires"},
	{"shard, read, disclosed & hold", "shard, read, emergency & hold", "under a hold only the owner reads"},
	{"p, DNY-74, any, grant, review, self, deny", "", "nobody reviews his own access, or his own emergency"},
	{"dataset, disclose, dual", "dataset, disclose, always", "a disclosure takes"},
	{"p, DNY-71, any, dataset, disclose, conflict, deny", "", "conflicting roles disclose"},
	{"p, DNY-72, any, grant, break-glass, conflict, deny", "", "conflicting roles give"},
	{"", "p, CLI-99, client, log, disclose, owner, allow", "what is withheld"},
	{"p, DNY-13, any, shard, *, selfgranted, deny", "", "granted himself"},
	{"owner & live & region", "owner & live", "data stays in its region"},
	{"reviewing & live & region & purpose", "reviewing & live & region", "for the project's purpose"},
	{"p, DNY-44, any, shard, read, !delivery, deny", "", "in a way that the project allows"},
	{"project, update, !sensitive", "project, update, always", "the terms of a sensitive project"},
	{"p, DNY-22, any, shard, *, required & !nda & !owner, deny", "", "signs the agreement"},
	{"annotation, read, author, allow", "annotation, read, always, allow", "annotations are read by"},
	{"submit, assigned & live", "submit, live", "annotations are submitted by"},
	{"p, DNY-07, any, dataset, expire, hold, deny\n", "", ""}, // SVC-02 says it too
	{"dataset, expire, !hold, allow", "dataset, expire, always, allow", ""},
	{"p, DNY-09, any, annotation, submit, hold, deny", "", ""}, // so do LAB-04 and CON-03
	{"p, DNY-10, any, key, destroy, hold, deny", "", "a hold keeps the keys"},
	{"p, DNY-59, any, person, anonymize, hold, deny", "", "a hold keeps who it was"},
	{"delete, owner & dual", "delete, owner", "deleting a dataset"},
	{"upload, owner & active", "upload, owner", "the owner or a machine account uploads"},
	{"release, dual", "release, always", "releasing a hold"},
	{"destroy, dual", "destroy, always", "destroying a key"},
	{"", "p, LAB-99, labeler, key, read, always, allow", "keys are"},
	{"policy, update, dual", "policy, update, always", "changing the policy"},
	{"", "p, CLI-99, client, grant, grant, owner & !self, allow", "access is given and taken"},
	{"", "p, CLI-99, client, assignment, revoke, owner, allow", "access is given and taken"},
	{"", "p, CLI-99, client, person, create, owner, allow", "people, clients and agreements"},
	{"", "p, CLI-99, client, person, read, owner, allow", "people are looked at"},
	{"p, DNY-16, any, grant, grant, self, deny\np, DNY-17", "p, DNY-17", ""}, // ADM-11 says it too
	{"p, ADM-11, admin, grant, grant, !self, allow", "p, ADM-11, admin, grant, grant, always, allow", ""},
	{"", "p, AUD-99, auditor, approval, approve, always, allow", "approving is for"},
	{"owner & !self & !access", "owner & !self", "approving is for"},
	{"p, DNY-48, any, grant, grant, sensitive & !dual, deny", "", "access to sensitive data"},
	{"p, DNY-49, any, assignment, assign, sensitive & !dual, deny", "", "access to sensitive data"},
	{"", "p, LAB-99, labeler, grant, read, always, allow", "grants are listed"},
	{"assignment, read, own", "assignment, read, always", "assignments are seen"},
	{"", "p, ADM-99, admin, log, delete, dual, allow", "the log is only ever read"},
	{"", "p, REV-99, reviewer, log, read, reviewing, allow", "the log is read by"},
	{"", "p, AUD-99, auditor, dataset, check, always, allow", "storage is checked by"},
	{"", "p, AUD-99, auditor, org, notify, always, allow", "what a client hears of"},
	{"", "p, CLI-99, client, org, notify, always, allow", "what a client hears of"},
	{"p, DNY-26, any, log, *, conflict, deny", "", "conflicting roles see"},
	{"claim, claimable & live & region", "claim, live & region", "shards are claimed by"},
	{"claim, claimable & nda & active & region", "claim, claimable & nda & active", "shards are claimed by"},
	{"", "p, REV-99, reviewer, annotation, claim, claimable & live & region, allow", "shards are claimed by"},
	{"p, DNY-81, any, annotation, read, !region, deny", "", "annotations are read in"},
	{"p, DNY-87, any, annotation, read, sensitive & !dual & !author, deny", "", "what was made of sensitive data"},
	{"p, DNY-88, any, annotation, read, unconsented, deny", "", "results are read for no purpose"},
	{"p, DNY-89, any, annotation, read, objected, deny", "", "results are read for no purpose"},
	{"p, DNY-31, any, grant, grant, conflict, deny", "", "conflicting roles give"},
	{"", "p, LAB-99, labeler, request, read, always, allow", "what is held about people"},
	{"", "p, ADM-99, admin, subject, consent, always, allow", "nobody consents for somebody else"},
	{"p, DNY-90, any, shard, *, paused, deny", "", "under a restriction reads no data"},
	{"p, DNY-91, any, export, *, paused, deny", "", "under a restriction reads no data"},
	{"p, DNY-98, any, person, anonymize, frozen, deny", "", "is not changed or forgotten"},
	{"p, DNY-104, any, person, update, frozen, deny", "", "is not changed or forgotten"},
	{"p, DNY-99, any, subject, update, frozen & !self, deny", "", "left alone by others"},
	{"p, DNY-100, any, subject, export, frozen & !self, deny", "", "left alone by others"},
	{"p, DNY-101, any, shard, *, unconsented, deny", "", "rests on consent needs it"},
	{"p, DNY-102, any, shard, *, objected, deny", "", "that they objected to"},
}

// A breach of a guardrail is refused whatever the truth table says.
func TestGuardrails(t *testing.T) {
	broken := map[string]bool{}
	policy := embedded(t, policyFile)
	for _, c := range breaches {
		text := policy + c.new + "\n"
		if c.old != "" {
			if !strings.Contains(policy, c.old) {
				t.Fatalf("no %q", c.old)
			}
			text = strings.Replace(policy, c.old, c.new, 1)
		}
		rules, err := parseRules([]byte(text))
		if err != nil {
			t.Fatalf("%q for %q: %v", c.new, c.old, err)
		}
		if c.guardrail == "" {
			if err := checkGuardrails(rules, indexRules(rules), guardrails); err != nil {
				t.Errorf("%q for %q: %v", c.new, c.old, err)
			}
			continue
		}
		g := guard(t, c.guardrail)
		broken[g[0].name] = true
		if err := checkGuardrails(rules, indexRules(rules), g); err == nil || !strings.Contains(err.Error(), g[0].name) {
			t.Errorf("%q for %q: %v; want %q", c.new, c.old, err, c.guardrail)
		}
		if _, err := LoadPolicy(edited(t, policyFile, text)); err == nil || !strings.Contains(err.Error(), "guardrail") {
			t.Errorf("%q for %q: loaded: %v", c.new, c.old, err)
		}
	}
	// In the shipped table two rules keep each of these; a table of one rule
	// breaks it.
	for table, name := range map[string]string{
		"p, LAB-01, labeler, shard, read, assigned & region & purpose, allow\n": "nobody reads what has expired",
		"p, CLI-01, client, dataset, upload, owner, allow\n":                    "a hold freezes the dataset",
		"p, LAB-01, labeler, annotation, submit, assigned, allow\n":             "a hold freezes annotations",
		"p, ADM-01, admin, grant, grant, always, allow\n":                       "nobody grants to himself",
		"p, ADM-01, admin, assignment, assign, always, allow\n":                 "nobody assigns to himself",
		"p, ADM-01, admin, approval, approve, always, allow\n":                  "nobody approves his own request",
		"p, REV-01, reviewer, annotation, review, reviewing, allow\n":           "nobody reviews his own work",
	} {
		rules, err := parseRules([]byte(table))
		if err != nil {
			t.Fatal(err)
		}
		g := guard(t, name)
		broken[g[0].name] = true
		if err := checkGuardrails(rules, indexRules(rules), g); err == nil {
			t.Errorf("%s is no breach of: %s", table, name)
		}
	}
	for _, g := range guardrails[2:] { // no rule can break the first two: the parser wants a role in every allow, or self
		if !broken[g.name] {
			t.Errorf("no test breaks the guardrail %q", g.name)
		}
	}
}

// guard finds the one guardrail whose name begins or goes on like this.
func guard(t *testing.T, name string) []guardrail {
	t.Helper()
	i := slices.IndexFunc(guardrails, func(g guardrail) bool { return strings.Contains(g.name, name) })
	if i < 0 {
		t.Fatalf("no guardrail %q", name)
	}
	return guardrails[i : i+1]
}

// equivalent lists the mutants that change no answer: two rules say the same,
// and the deny comes first.
var equivalent = map[string]string{
	"always ADM-11":         "DNY-16 denies self",
	"drop self of ADM-11":   "DNY-16 denies self",
	"always ADM-14":         "DNY-17 denies self",
	"drop self of ADM-14":   "DNY-17 denies self",
	"always ADM-17":         "DNY-15 denies self",
	"drop self of ADM-17":   "DNY-15 denies self",
	"drop self of CLI-20":   "DNY-15 denies self",
	"drop active of CON-02": "DNY-20 denies what is not active",
	"drop nda of CON-02":    "DNY-19 denies the unsigned",
	"drop author of REV-05": "DNY-14 denies the author",
	"always SVC-02":         "DNY-07 denies under a hold",
	"drop hold of SVC-02":   "DNY-07 denies under a hold",
}

// Every change of one rule has to be caught.
func TestMutants(t *testing.T) {
	rules := Default().Rules()
	cases, err := parseTruth([]byte(embedded(t, truthFile)))
	if err != nil {
		t.Fatal(err)
	}
	survives := func(mutant []Rule) bool {
		ix := indexRules(mutant)
		decide := func(k Kind, a Action, r RoleSet, f Facts) (verdict, error) {
			return judge(mutant, ix[k.number()][a.number()], r, f), nil
		}
		return checkTruth(mutant, cases, decide) == nil && checkGuardrails(mutant, ix, guardrails) == nil
	}
	if !survives(rules) {
		t.Fatal("the policy itself does not pass")
	}
	total := 0
	try := func(name string, mutant []Rule) {
		total++
		if why, known := equivalent[name]; survives(mutant) != known {
			t.Errorf("%s: survives is %t (%s)", name, !known, why)
		}
	}
	change := func(i int, edit func(*Rule)) []Rule {
		mutant := slices.Clone(rules)
		edit(&mutant[i])
		return mutant
	}
	for i, r := range rules {
		try("drop "+r.ID, slices.Delete(slices.Clone(rules), i, i+1))
		try("flip "+r.ID, change(i, func(r *Rule) {
			r.Deny = !r.Deny
			if !r.Deny && r.Role == anyRole {
				r.roles = allRoles
			}
		}))
		if r.Condition != always {
			try("always "+r.ID, change(i, func(r *Rule) { r.need, r.forbid = 0, 0 }))
		}
		for n, name := range factNames {
			fact := Facts(1 << n)
			if (r.need|r.forbid)&fact == 0 {
				continue
			}
			try("drop "+name+" of "+r.ID, change(i, func(r *Rule) { r.need &^= fact; r.forbid &^= fact }))
			try("negate "+name+" of "+r.ID, change(i, func(r *Rule) { r.need ^= fact; r.forbid ^= fact }))
		}
		for _, role := range dataset.Roles {
			if string(role) != r.Role {
				try("give "+r.ID+" to "+string(role), change(i, func(r *Rule) { r.Role, r.roles = string(role), Roles(role) }))
			}
		}
	}
	t.Logf("%d mutants, %d equivalent", total, len(equivalent))
}

// Casbin and the evaluator in plain Go say the same of every request that
// there is. By default it is a sample of them; the whole takes some minutes,
// and then each kind of object has an engine of its own with the rules about
// it, since those about others never match. Where many facts matter a larger
// sample has to do.
func TestCasbinAgreesEverywhere(t *testing.T) {
	p := Default()
	full := os.Getenv("DSVAULT_TEST_FULL") != ""
	random := rand.New(rand.NewPCG(1, 2))
	asked, allowed := 0, 0
	for k, kind := range Kinds {
		e := p.engine
		if full {
			about := slices.DeleteFunc(p.Rules(), func(r Rule) bool { return r.Kind != kind })
			var err error
			if e, err = newEngine(embedded(t, modelFile), about); err != nil {
				t.Fatal(err)
			}
		}
		for a, action := range Actions {
			about := p.index[k][a]
			chance := 0.06 // of a request to be in the sample
			if len(about) > 1 {
				chance = 0.001
			}
			for facts := range manyFacts(random, p.rules, about) {
				for roles := range allRoles + 1 {
					if !full && random.Float64() > chance {
						continue
					}
					want, rule := judge(p.rules, about, roles, facts), ""
					if want.rule >= 0 {
						rule = p.rules[want.rule].ID
					}
					got, err := e.decide(kind, action, roles, facts)
					if err != nil || got.allowed != want.allowed || (got.rule < 0) != (rule == "") || rule != "" && e.rules[got.rule].ID != rule {
						t.Fatalf("%v %s %s, %v: Casbin says %v, %v; the evaluator %v", roles, action, kind, facts, got, err, want)
					}
					asked++
					if got.allowed {
						allowed++
					}
				}
			}
		}
	}
	if asked == 0 || allowed == 0 || allowed == asked {
		t.Errorf("%d of %d allowed", allowed, asked)
	}
	t.Logf("%d requests, %d allowed", asked, allowed)
}

// manyFacts yields every combination of the relevant facts; of more than so
// many, whose number doubles with each fact, some at random, half of which meet
// some rule.
func manyFacts(random *rand.Rand, rules []Rule, about []int) func(yield func(Facts) bool) {
	const most = 13
	relevant := relevantFacts(rules, about)
	free := relevant &^ (stateFacts | Live)
	if bits.OnesCount64(uint64(free)) <= most {
		return factSpace(relevant)
	}
	return func(yield func(Facts) bool) {
		for range 5 << most {
			state := []Facts{0, Active, Restricted, Held, Expired}[random.IntN(5)]
			facts := Facts(random.Uint64()) & free
			if random.IntN(2) == 0 {
				r := &rules[about[random.IntN(len(about))]]
				facts = (facts&Facts(random.Uint64()) | r.need&free) &^ r.forbid
				if r.need&(stateFacts|Live) != 0 {
					state = max(r.need&stateFacts, Active)
				}
			}
			if !yield(withLive(state | facts)) {
				return
			}
		}
	}
}

func TestCasbinFailsOnNonsense(t *testing.T) {
	e := Default().engine
	for name, args := range map[string][]any{
		"role's name":      {"admin", "org", "read", Facts(0)},
		"unknown role bit": {RoleSet(0x80), "org", "read", Facts(0)},
		"nil roles":        {nil, "org", "read", Facts(0)},
		"facts as text":    {admin, "org", "read", "always"},
		"unknown fact bit": {admin, "org", "read", Facts(1 << factCount)},
		"nil facts":        {admin, "org", "read", nil},
		"too few":          {admin, "org", "read"},
		"too many":         {admin, "org", "read", Facts(0), "x"},
		"none":             {},
	} {
		if ok, err := e.enforcer.Enforce(args...); ok || err == nil {
			t.Errorf("%s: %t, %v", name, ok, err)
		}
	}
	for name, args := range map[string][]any{"empty": {admin, "", "", Facts(0)}, "typed kind": {admin, Org, Read, Facts(0)}} {
		if ok, _ := e.enforcer.Enforce(args...); ok {
			t.Errorf("%s: allowed", name)
		}
	}
	if _, err := e.decide("", "", admin, 0); err == nil {
		t.Error("an empty request was decided")
	}
	for _, f := range []func(...any) (any, error){holds, when} {
		for _, args := range [][]any{nil, {admin}, {admin, 1}, {Facts(0), 1}, {admin, "nobody"}, {Facts(0), "nothing"}, {Facts(0), "live & nothing"}} {
			if _, err := f(args...); err == nil {
				t.Errorf("%v: no error", args)
			}
		}
	}
	if e.enforcer.SavePolicy() == nil {
		t.Error("the policy was saved")
	}
}

func TestWords(t *testing.T) {
	for _, a := range Actions {
		if got, err := ParseAction(string(a)); err != nil || got != a {
			t.Errorf("%s: %v", a, err)
		}
	}
	for _, k := range Kinds {
		if got, err := ParseKind(string(k)); err != nil || got != k {
			t.Errorf("%s: %v", k, err)
		}
	}
	for _, s := range []string{"", "*", "Read", "read ", "any"} {
		if _, err := ParseAction(s); !fault.Is(err, fault.Invalid) {
			t.Errorf("action %q: %v", s, err)
		}
		if _, err := ParseKind(s); !fault.Is(err, fault.Invalid) {
			t.Errorf("kind %q: %v", s, err)
		}
	}
	for i, set := range []RoleSet{admin, client, reviewer, labeler, contractor, auditor, service} {
		if set != Roles(dataset.Roles[i]) || set.String() != string(dataset.Roles[i]) {
			t.Errorf("%v is not %s", set, dataset.Roles[i])
		}
	}
	for i, name := range factNames {
		if f := Facts(1 << i); f.String() != name || !slices.Equal(f.Names(), []string{name}) {
			t.Errorf("%v is not %s", f, name)
		}
	}
	if Conflict.String() != "conflict" || Transferable.String() != "transfer" || Disclosed.String() != "disclosed" || Objected.String() != "objected" || Claimable.String() != "claimable" || Held.String() != "hold" || RoleSet(0).String() != "-" || Facts(0).String() != "-" {
		t.Error("facts and their names have come apart")
	}
	if Roles("root") != 0 || len(bytes.TrimSpace([]byte(Facts(0).String()))) == 0 {
		t.Error("an unknown role added something")
	}
}

// overlay is fsys with one file replaced.
type overlay struct {
	fs.FS
	name, text string
}

func (o overlay) Open(name string) (fs.File, error) {
	if name == o.name {
		return fstest.MapFS{name: {Data: []byte(o.text)}}.Open(name)
	}
	return o.FS.Open(name)
}
