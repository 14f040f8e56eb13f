//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dsvault/rbac"
	"dsvault/storage/storagetest"
)

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// block is one sh block of the README.
type block struct {
	text   string
	needs  string // a program, from "# needs: NAME" in its first line
	notRun string // why it is not run, from "# not run: REASON"
}

var fence = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

func readmeBlocks(text string) []block {
	var all []block
	for _, match := range fence.FindAllStringSubmatch(text, -1) {
		s := block{text: match[1]}
		first, _, _ := strings.Cut(s.text, "\n")
		s.needs, _ = strings.CutPrefix(first, "# needs: ")
		s.notRun, _ = strings.CutPrefix(first, "# not run: ")
		if s.needs == first {
			s.needs = ""
		}
		if s.notRun == first {
			s.notRun = ""
		}
		all = append(all, s)
	}
	return all
}

// walk joins the blocks that can be run here into one script.
func walk(t *testing.T, path string) string {
	t.Helper()
	var script strings.Builder
	ran := 0
	for i, s := range readmeBlocks(readme(t)) {
		if s.notRun != "" {
			t.Logf("block %d is not run: %s", i+1, s.notRun)
			continue
		}
		if s.needs != "" && !found(s.needs, path) {
			if os.Getenv("DSVAULT_TEST_REQUIRE") == "1" {
				t.Fatalf("block %d needs %s", i+1, s.needs)
			}
			t.Logf("block %d is not run: %s is missing", i+1, s.needs)
			continue
		}
		fmt.Fprintf(&script, "echo '--- block %d'\n%s", i+1, s.text)
		ran++
	}
	if ran < 8 {
		t.Fatalf("only %d blocks of the README would be run", ran)
	}
	return script.String()
}

func found(program, path string) bool {
	for _, dir := range filepath.SplitList(path) {
		if _, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return true
		}
	}
	return false
}

// TestReadmeWalk runs the README's commands as they stand, in one bash, as a
// new user who has built bin/dsvault. Only the port is another one.
func TestReadmeWalk(t *testing.T) {
	for _, program := range []string{"bash", "curl", "tar"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("DSVAULT_TEST_REQUIRE") == "1" {
				t.Fatal(err)
			}
			t.Skipf("the walk needs %s", program)
		}
	}
	home := t.TempDir()
	build(t, filepath.Join(home, "bin", "dsvault"))
	copyTree(t, filepath.Join(home, "cmd/dsvault/sample"), "sample")
	copyTree(t, filepath.Join(home, "LICENSE"), filepath.Join(repository, "LICENSE"))
	path := os.Getenv("PATH") + string(os.PathListSeparator) + testBin()

	address := storagetest.FreeAddress(t)
	script := strings.ReplaceAll(walk(t, path), "127.0.0.1:8200", address)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = home
	cmd.Env = []string{"HOME=" + home, "PATH=" + path, "DSVAULT_LISTEN=" + address, "LANG=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the server is in the group
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	t.Cleanup(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	out, err := cmd.CombinedOutput()
	if err != nil {
		served, _ := os.ReadFile(filepath.Join(home, "walk", "serve.log"))
		t.Fatalf("%v\n%s\nthe server said:\n%s", err, out, served)
	}
	for _, want := range []string{
		"pushed acme/signs/batch-1: sent 2 shards of 2", "nothing to send", "exit status 4", "exit status 1",
		"needs nda", "signed nda version 1 as kim", "lee is no longer labeler", "no such thing, or not for you", "verified: ", "receipt good: ",
	} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("the walk does not print %q", want)
		}
	}
	sameTree(t, "sample/signs", filepath.Join(home, "walk/lee-work"), filepath.Join(home, "walk/kim-work"))
	if _, err := os.Stat(filepath.Join(home, "walk/lee-again")); err == nil {
		t.Error("the revoked labeler got a folder")
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}

// sameTree: what was pulled is, taken together, what was pushed.
func sameTree(t *testing.T, pushed string, pulled ...string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(pushed, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(pushed, name)
		if err != nil {
			return err
		}
		want, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		files++
		for _, dir := range pulled {
			if got, err := os.ReadFile(filepath.Join(dir, rel)); err == nil && bytes.Equal(got, want) {
				return nil
			}
		}
		t.Errorf("nobody pulled %s as it was pushed", rel)
		return nil
	})
	if err != nil || files == 0 {
		t.Errorf("%d files compared, error %v", files, err)
	}
}

// TestReadmeSaysWhatIsThere compares the README with the commands, flags, exit
// statuses and variables of the program.
func TestReadmeSaysWhatIsThere(t *testing.T) {
	text := readme(t)
	root := (&app{out: os.Stdout, err: os.Stderr, env: func(string) string { return "" }}).root()
	root.InitDefaultHelpCmd()
	known := []string{}
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		if cmd.Name() == "help" {
			return
		}
		known = append(known, cmd.CommandPath())
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
		if !cmd.HasSubCommands() && !strings.Contains(text, "`"+cmd.CommandPath()) {
			t.Errorf("the README does not name `%s`", cmd.CommandPath())
		}
	}
	visit(root)
	for _, match := range regexp.MustCompile("`(dsvault(?: [a-z][a-z-]*)*)[^`]*`").FindAllStringSubmatch(text, -1) {
		if !slices.Contains(known, match[1]) {
			t.Errorf("the README names `%s`, which is no command", match[1])
		}
	}

	for _, name := range []string{"init", "serve"} {
		cmd, _, err := root.Find([]string{name})
		if err != nil {
			t.Fatal(err)
		}
		cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			row := regexp.MustCompile("(?m)^\\| .*`--" + f.Name + "`.* \\| .*" + name + ".* \\|")
			if f.Name != "help" && !row.MatchString(text) {
				t.Errorf("the README's table has no --%s of %s", f.Name, name)
			}
		})
	}
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) {
		if !strings.Contains(text, "`--"+f.Name+"`") {
			t.Errorf("the README does not name --%s", f.Name)
		}
	})
	for _, e := range exitMeanings {
		if row := fmt.Sprintf("| %d | %s |\n", e.status, e.meaning); !strings.Contains(text, row) {
			t.Errorf("the README's table of exit statuses has no row %q", row)
		}
	}
}

// TestReadmePolicy: the table is that of the policy which ships. After a change:
// go test -run TestReadmePolicy ./cmd/dsvault -update
func TestReadmePolicy(t *testing.T) {
	const begin, end = "<!-- policy: begin -->\n", "<!-- policy: end -->\n"
	text := readme(t)
	before, rest, ok := strings.Cut(text, begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("the README has no place for the policy")
	}
	want := "\n" + rbac.Default().Markdown() + "\n"
	if got == want {
		return
	}
	if !*update {
		t.Fatal("the README's policy table is out of date: run go test -run TestReadmePolicy ./cmd/dsvault -update")
	}
	if err := os.WriteFile(filepath.Join(repository, "README.md"), []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestReadmeLinks: every file that the documents link to is there.
func TestReadmeLinks(t *testing.T) {
	links := 0
	for _, name := range []string{"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/operations.md"} {
		text, err := os.ReadFile(filepath.Join(repository, name))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, match := range regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`).FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			links++
			if _, err := os.Stat(filepath.Join(repository, filepath.Dir(name), match[1])); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if links == 0 {
		t.Error("no links were found")
	}
}

// build makes the binary that is shipped: static, without paths of this machine.
func build(t *testing.T, path string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
}

func copyTree(t *testing.T, to, from string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "cp", "-r", from, to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
}

// testBin is where the test programs are; see the Makefile.
func testBin() string {
	if dir := os.Getenv("DSVAULT_TEST_BIN"); dir != "" {
		return dir
	}
	home, _ := os.UserHomeDir()
	return filepath.Join(home, ".cache", "dsvault-test", "bin")
}
