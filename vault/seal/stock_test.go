package seal

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// stockAge finds the age binary: in DSVAULT_TEST_BIN, in the test cache, or in
// PATH.
func stockAge(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("DSVAULT_TEST_BIN")
	if dir == "" {
		if home, err := os.UserHomeDir(); err == nil {
			dir = filepath.Join(home, ".cache", "dsvault-test", "bin")
		}
	}
	for _, name := range []string{filepath.Join(dir, "age"), "age"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("DSVAULT_TEST_REQUIRE") == "1" {
		t.Fatal("the stock age binary is missing")
	}
	t.Skip("the stock age binary is missing: put it in PATH or name its folder in DSVAULT_TEST_BIN")
	return ""
}

func TestStockAge(t *testing.T) {
	bin := stockAge(t)
	id, reader := newIdentity(t), newIdentity(t)
	keyFile := func(id *Identity) string {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, id.Expose(), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	run := func(stdin []byte, args ...string) []byte {
		t.Helper()
		cmd := exec.Command(bin, args...)
		var stderr bytes.Buffer
		cmd.Stdin, cmd.Stderr = bytes.NewReader(stdin), &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("age %s: %v: %s", args[0], err, stderr.String())
		}
		return out
	}
	for _, n := range edges {
		plain := sample(n)
		sealed := mustSeal(t, plain, id.Recipient())
		if !bytes.Equal(run(sealed, "-d", "-i", keyFile(id)), plain) {
			t.Errorf("%d bytes: age -d gives other bytes", n)
		}
		key := mustOpenHeader(t, sealed[:HeaderSize()], id)
		header, err := Rewrap(key, reader.Recipient())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(run(slices.Concat(header, sealed[HeaderSize():]), "-d", "-i", keyFile(reader)), plain) {
			t.Errorf("%d bytes: age -d gives other bytes of the re-wrapped file", n)
		}
		made := run(plain, "-r", id.Recipient().String())
		if int64(len(made)) != SealedSize(int64(n)) {
			t.Errorf("%d bytes: age makes %d, not %d", n, len(made), SealedSize(int64(n)))
		}
		r, err := Open(bytes.NewReader(made), id)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: a file made by age does not open (%v)", n, err)
		}
	}
}
