package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"dsvault/policies"
)

// TestPromises: each row of the table names rules, commands and tests that
// there are, and a test at least.
func TestPromises(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository, "docs", "promises.md"))
	if err != nil {
		t.Fatal(err)
	}
	policy, err := policies.FS.ReadFile("policy.csv")
	if err != nil {
		t.Fatal(err)
	}
	root := (&app{out: os.Stdout, err: os.Stderr, env: func(string) string { return "" }}).root()
	code := regexp.MustCompile("`([^`]+)`")
	rows := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 2 || strings.HasPrefix(cells[1], " ---") || strings.TrimSpace(cells[1]) == "promise" {
			continue
		}
		if len(cells) != 6 {
			t.Errorf("a row of %d cells: %s", len(cells)-2, line)
			continue
		}
		rows++
		for _, rule := range code.FindAllStringSubmatch(cells[2], -1) {
			if !strings.Contains(string(policy), "\np, "+rule[1]+",") {
				t.Errorf("the policy has no rule %s", rule[1])
			}
		}
		for _, command := range code.FindAllStringSubmatch(cells[3], -1) {
			words := strings.Fields(command[1])
			cmd, _, err := root.Find(words)
			if err != nil || cmd == root || !strings.HasPrefix(command[1], strings.TrimPrefix(cmd.CommandPath(), "dsvault ")) || cmd.HasSubCommands() && !strings.Contains(cmd.Use, " ") {
				t.Errorf("there is no command `dsvault %s`", command[1])
			}
		}
		tests := code.FindAllStringSubmatch(cells[4], -1)
		if len(tests) == 0 {
			t.Errorf("no test: %s", line)
		}
		for _, test := range tests {
			if !testExists(test[1]) {
				t.Errorf("there is no test %s", test[1])
			}
		}
	}
	if rows < 5 {
		t.Errorf("only %d rows were found", rows)
	}
}

// testExists looks for "package.TestName", or a script of the command line.
func testExists(name string) bool {
	if strings.HasSuffix(name, ".txtar") {
		_, err := os.Stat(filepath.Join("testdata", name))
		return err == nil
	}
	pkg, test, _ := strings.Cut(name, ".")
	files, _ := filepath.Glob(filepath.Join(repository, pkg, "*_test.go"))
	for _, file := range files {
		text, _ := os.ReadFile(file)
		if regexp.MustCompile(`(?m)^func ` + regexp.QuoteMeta(test) + `\(`).Match(text) {
			return true
		}
	}
	return false
}
