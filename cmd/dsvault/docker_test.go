//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dsvault/storage/storagetest"
)

// image is what the Dockerfile says of its final stage.
type image struct {
	uid, gid    int
	env         []string
	health      []string // the command of HEALTHCHECK
	entry, args []string
}

func parseDockerfile(t *testing.T) image {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	before, final, ok := strings.Cut(string(text), "\nFROM scratch\n")
	if !ok {
		t.Fatal("the final stage is not FROM scratch")
	}
	find := func(text, pattern string) string {
		t.Helper()
		match := regexp.MustCompile("(?m)" + pattern).FindStringSubmatch(text)
		if match == nil {
			t.Fatalf("nothing in the Dockerfile matches %s", pattern)
		}
		return match[1]
	}
	list := func(text string) (out []string) {
		t.Helper()
		if err := json.Unmarshal([]byte(text), &out); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return out
	}
	var img image
	uid, gid, _ := strings.Cut(find(final, `^USER (\d+:\d+)$`), ":")
	img.uid, _ = strconv.Atoi(uid)
	img.gid, _ = strconv.Atoi(gid)
	img.env = strings.Fields(find(final, `^ENV (.*)$`))
	img.health = list(find(final, `^HEALTHCHECK .* CMD (\[.*\])$`))
	img.entry, img.args = list(find(final, `^ENTRYPOINT (\[.*\])$`)), list(find(final, `^CMD (\[.*\])$`))
	if !strings.Contains(before, "CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags \"-s -w ") {
		t.Error("the Dockerfile does not build as this test does")
	}
	if img.uid == 0 || img.gid == 0 {
		t.Error("the image runs as root")
	}
	return img
}

// container runs programs in a root that holds what the final stage holds, as
// its user and with its environment.
type container struct {
	*testing.T
	image
	root, address string
}

func (c *container) command(ctx context.Context, config string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = "/"
	cmd.Env = append([]string{"DSVAULT_LISTEN=" + c.address}, c.env...)
	if config != "" {
		cmd.Env = append(cmd.Env, "DSVAULT_CONFIG=/data/"+config)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Chroot:     c.root,
		Credential: &syscall.Credential{Uid: uint32(c.uid), Gid: uint32(c.gid)},
	}
	return cmd
}

// dsvault runs one command of a person, with text as its input.
func (c *container) dsvault(config, input string, args ...string) string {
	c.Helper()
	cmd := c.command(c.Context(), config, append(c.entry[:1:1], args...)...)
	cmd.Stdin = strings.NewReader(input)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		c.Fatalf("dsvault %s: %v\n%s%s", strings.Join(args, " "), err, out, &stderr)
	}
	return string(out)
}

// token runs a command that prints a token once.
func (c *container) token(config string, args ...string) string {
	c.Helper()
	var doc struct{ Token string }
	if err := json.Unmarshal([]byte(c.dsvault(config, "", append(args, "--json")...)), &doc); err != nil || doc.Token == "" {
		c.Fatalf("%s: no token, %v", args[0], err)
	}
	return doc.Token
}

// TestDockerImage does what the image does, in an otherwise empty root: there
// is no shell, no libc, no /proc and no /dev.
func TestDockerImage(t *testing.T) {
	if os.Getuid() != 0 {
		if os.Getenv("DSVAULT_TEST_REQUIRE") == "1" {
			t.Fatal("changing the root needs root")
		}
		t.Skip("changing the root needs root")
	}
	c := &container{T: t, image: parseDockerfile(t), root: t.TempDir(), address: storagetest.FreeAddress(t)}
	build(t, filepath.Join(c.root, "dsvault"))
	checkStatic(t, filepath.Join(c.root, "dsvault"))
	for _, dir := range []string{"data", "tmp"} {
		if err := os.Mkdir(filepath.Join(c.root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(filepath.Join(c.root, dir), c.uid, c.gid); err != nil {
			t.Fatal(err)
		}
	}
	copyTree(t, filepath.Join(c.root, "sample"), "sample") // a folder that a user mounts

	admin := c.token("", "init", "--admin", "ada")
	stop := c.serve()
	url := "http://" + c.address
	resp, err := http.Get(url + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != http.StatusOK {
		t.Errorf("/healthz answers %s", resp.Status)
	}
	t.Run("HealthCheck", func(t *testing.T) { c.checkHealth(t, exitOK) })

	c.dsvault("ada", admin, "login", url)
	c.dsvault("ada", "", "client", "create", "acme")
	c.dsvault("ada", "", "project", "create", "acme/signs", "--purpose", "labeling")
	cleo := c.token("ada", "person", "invite", "cleo")
	c.dsvault("ada", "", "grant", "client", "cleo", "acme")
	c.dsvault("cleo", cleo, "login", url)
	c.dsvault("cleo", "", "push", "/sample/signs", "acme/signs/batch-1", "--shard-size", "64KiB")
	c.dsvault("cleo", "", "pull", "acme/signs/batch-1", "-o", "/data/out")
	sameTree(t, "sample/signs", filepath.Join(c.root, "data/out"))
	if out := c.dsvault("cleo", "", "log", "acme", "--verify"); !strings.Contains(out, "verified: ") {
		t.Errorf("the log does not verify:\n%s", out)
	}

	stop()
	t.Run("HealthCheckOfNothing", func(t *testing.T) { c.checkHealth(t, exitUnavailable) })
}

// serve runs the image's command until stop, which wants a clean end.
func (c *container) serve() (stop func()) {
	c.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	c.Cleanup(cancel)
	cmd := c.command(ctx, "", append(c.entry[:1:1], c.args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		c.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.Fatal(err)
	}
	lines := bufio.NewReader(stdout)
	if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, c.address) {
		cancel()
		cmd.Wait()
		c.Fatalf("the server said %q, %v\n%s", line, err, &stderr)
	}
	return func() {
		c.Helper()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			c.Fatal(err)
		}
		io.Copy(io.Discard, lines)
		if err := cmd.Wait(); err != nil {
			c.Errorf("the server ended with %v\n%s", err, &stderr)
		}
	}
}

// checkHealth runs the command of HEALTHCHECK.
func (c *container) checkHealth(t *testing.T, status int) {
	cmd := c.command(t.Context(), "", c.health...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != status {
		t.Errorf("%s: %v, want status %d\n%s", strings.Join(c.health, " "), err, status, out)
	}
}

// checkStatic: the binary asks for no loader and no library.
func checkStatic(t *testing.T, path string) {
	t.Helper()
	file, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the binary wants a loader")
		}
	}
	if libraries, err := file.ImportedLibraries(); err == nil && len(libraries) > 0 {
		t.Errorf("the binary wants %q", libraries)
	}
}
