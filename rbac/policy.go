package rbac

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"dsvault/policies"
	"dsvault/vault/fault"
)

const (
	modelFile  = "model.conf"
	policyFile = "policy.csv"
	truthFile  = "truth.csv"

	maxFile  = 1 << 20 // bytes of each file
	maxRules = 1000
	maxCases = 20_000
)

// Policy is a table of rules that was parsed strictly and has passed every
// check. It never changes and is safe for concurrent use.
type Policy struct {
	hash   [32]byte
	rules  []Rule
	index  *index
	engine *engine
}

// LoadPolicy reads model.conf, policy.csv and truth.csv from fsys. A policy is
// refused, as fault.Invalid with file, line and reason, unless the model is
// the one that this program was built for, every rule parses, the guardrails
// hold for every possible request, and every case of the truth table comes out
// as it says. Files that cannot be read are Unavailable.
func LoadPolicy(fsys fs.FS) (*Policy, error) {
	const op = "rbac.LoadPolicy"
	var files [3][]byte
	hash := sha256.New()
	for i, name := range [...]string{modelFile, policyFile, truthFile} {
		text, err := readFile(fsys, name)
		if err != nil {
			return nil, err
		}
		files[i] = text
		sum := sha256.Sum256(text)
		hash.Write(sum[:])
	}
	if err := checkModel(files[0]); err != nil {
		return nil, refusal(op, err)
	}
	rules, err := parseRules(files[1])
	if err != nil {
		return nil, refusal(op, err)
	}
	cases, err := parseTruth(files[2])
	if err != nil {
		return nil, refusal(op, err)
	}
	p := &Policy{hash: [32]byte(hash.Sum(nil)), rules: rules, index: indexRules(rules)}
	if err := checkGuardrails(p.rules, p.index, guardrails); err != nil {
		return nil, refusal(op, err)
	}
	if p.engine, err = newEngine(string(files[0]), rules); err != nil {
		return nil, fault.Wrap(fault.Internal, op, "the policy does not compile", err)
	}
	if err := checkTruth(rules, cases, p.engine.decide); err != nil {
		return nil, refusal(op, err)
	}
	return p, nil
}

var loadDefault = sync.OnceValue(func() *Policy {
	p, err := LoadPolicy(policies.FS)
	if err != nil {
		panic("rbac: the embedded policy is broken: " + err.Error())
	}
	return p
})

// Default gives the policy that dsvault ships.
func Default() *Policy { return loadDefault() }

// Hash names the policy by the content of its three files.
func (p *Policy) Hash() [32]byte { return p.hash }

// Rules gives the rules in table order.
func (p *Policy) Rules() []Rule { return slices.Clone(p.rules) }

// Markdown gives the table of rules in Markdown, one row a rule, in order.
func (p *Policy) Markdown() string {
	var b strings.Builder
	b.WriteString("| rule | role | object | action | condition | effect |\n")
	b.WriteString("| --- | --- | --- | --- | --- | --- |\n")
	for i := range p.rules {
		row := strings.Join(p.rules[i].fields(), " | ")
		b.WriteString("| " + strings.ReplaceAll(row, "| * |", `| \* |`) + " |\n")
	}
	return b.String()
}

func readFile(fsys fs.FS, name string) ([]byte, error) {
	const op = "rbac.LoadPolicy"
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(fault.Invalid, op, name+" is missing", err).
			WithHint("a policy folder holds " + modelFile + ", " + policyFile + " and " + truthFile)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, op, name+" cannot be read", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, op, name+" cannot be read", err)
	}
	if len(text) > maxFile {
		return nil, fault.New(fault.TooLarge, op, at(name, 1, "file is larger than 1 MiB").Error())
	}
	return text, nil
}

// checkModel pins the model: another effect or matcher would change what every
// rule means, and no check below would see it.
func checkModel(text []byte) error {
	want, err := policies.FS.ReadFile(modelFile)
	if err != nil {
		return err
	}
	if bytes.Equal(text, want) {
		return nil
	}
	line := 1
	for i := 0; i < len(text) && i < len(want) && text[i] == want[i]; i++ {
		if text[i] == '\n' {
			line++
		}
	}
	return at(modelFile, line, "differs from the model that this program was built for; edit %s instead", policyFile)
}

func refusal(op string, err error) error {
	return fault.New(fault.Invalid, op, err.Error()).
		WithHint("correct that line; until then the policy that was in force stays in force")
}
