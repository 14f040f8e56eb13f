//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"dsvault/storage/storagetest"
)

// examples are those of docs/deploy.md; `make interop` holds them against the
// schemas of what they are written for.
func examples(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, name := range []string{"dsvault.service", "compose.yaml", "kubernetes.yaml"} {
		text, err := os.ReadFile(filepath.Join(repository, "docs/deploy", name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(text)
	}
	return files
}

// TestDeployExamples: every setting in an example is one of the program's.
func TestDeployExamples(t *testing.T) {
	root := (&app{}).root()
	known := []string{"DSVAULT_PASSPHRASE"} // which is no flag
	flags := map[string][]string{}
	for _, name := range []string{"serve", "init"} {
		cmd, _, err := root.Find([]string{name})
		if err != nil {
			t.Fatal(err)
		}
		add := func(f *pflag.Flag) {
			known = append(known, envName(f.Name))
			flags[name] = append(flags[name], "--"+f.Name)
		}
		cmd.Flags().VisitAll(add)
		cmd.InheritedFlags().VisitAll(add)
	}
	variables := regexp.MustCompile(`\bDSVAULT_[A-Z_]+\b`)
	commands := regexp.MustCompile(`(?m)(?:dsvault|vault) (serve|init)( .*)$|args: \[(init|serve), (.*)\]`)
	words := regexp.MustCompile(`--[a-z-]+`)
	for name, text := range examples(t) {
		found := variables.FindAllString(text, -1)
		if len(found) < 3 {
			t.Errorf("%s sets only %q", name, found)
		}
		for _, v := range found {
			if !slices.Contains(known, v) {
				t.Errorf("%s: there is no %s", name, v)
			}
		}
		asked := commands.FindAllStringSubmatch(text, -1)
		if len(asked) == 0 {
			t.Errorf("%s runs nothing", name)
		}
		for _, match := range asked {
			for _, flag := range words.FindAllString(match[2]+match[4], -1) {
				if !slices.Contains(flags[match[1]+match[3]], flag) {
					t.Errorf("%s: %s has no flag %s", name, match[1]+match[3], flag)
				}
			}
		}
	}
}

// TestDeployUnit has systemd judge the unit.
func TestDeployUnit(t *testing.T) {
	program := storagetest.Binary(t, "systemd-analyze")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(t.TempDir(), "dsvault.service")
	text := strings.ReplaceAll(examples(t)["dsvault.service"], "/usr/local/bin/dsvault", self)
	if err := os.WriteFile(unit, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(program, "verify", "--man=no", unit).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestNodesShareKeys: nodes serve with one keys folder, as the example for
// Kubernetes has them, and go on when they are started again.
func TestNodesShareKeys(t *testing.T) {
	dsn := storagetest.Postgres(t)
	one := &site{t: t, dir: t.TempDir()}
	one.data, one.flags = filepath.Join(one.dir, "vault"), []string{"--catalog", dsn}
	one.open()
	two := &site{t: t, dir: one.dir, data: one.data, flags: one.flags}
	two.start()
	other := func(args ...string) { // asks the second node
		t.Helper()
		login, err := os.ReadFile(filepath.Join(one.config("admin"), "token"))
		if err != nil {
			t.Fatal(err)
		}
		two.clients = []string{"DSVAULT_URL=" + two.url, "DSVAULT_TOKEN=" + strings.TrimSpace(string(login))}
		two.ok("admin", args...)
	}
	for _, name := range []string{"ann", "bob"} {
		one.ok("admin", "person", "invite", name)
		other("grant", "auditor", name, "/")
		one.ok("admin", "log", "--verify")
		one.kill()
		one.start()
		other("whoami")
		two.stop()
		two.start()
	}
	one.ok("admin", "log", "--verify")
	one.stop()
	two.stop()
}
