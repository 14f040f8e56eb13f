package audit_test

import (
	"crypto/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"dsvault/vault/audit"
)

type namedKey struct {
	signer note.Signer
	key    string
}

func newNamedKey(t testing.TB, name string) namedKey {
	t.Helper()
	secret, public, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	return namedKey{signer, public}
}

func TestEpochs(t *testing.T) {
	for _, c := range []struct {
		name   string
		epoch  uint64
		origin string
	}{
		{"log.example.org/a", 1, "log.example.org/a"},
		{"log.example.org/a", 2, "log.example.org/a/epoch-2"},
		{"a", 17, "a/epoch-17"},
	} {
		if got := audit.EpochOrigin(c.name, c.epoch); got != c.origin {
			t.Errorf("epoch %d of %s: %s", c.epoch, c.name, got)
		}
		if name, epoch := audit.SplitOrigin(c.origin); name != c.name || epoch != c.epoch {
			t.Errorf("%s: %s, %d", c.origin, name, epoch)
		}
		key := newNamedKey(t, c.name)
		moved, err := audit.EpochKey(key.key, c.epoch)
		if err != nil || !strings.HasPrefix(moved, c.origin+"+") {
			t.Fatalf("%s, %v", moved, err)
		}
		if back, err := audit.EpochKey(moved, 1); err != nil || back != key.key {
			t.Errorf("%s does not lead back to %s: %v", moved, key.key, err)
		}
	}
	for _, origin := range []string{"a/epoch-1", "a/epoch-0", "a/epoch-02", "a/epoch-", "a/epoch-x", "/epoch-2", "epoch-2", "a/epoch-2/b"} {
		if name, epoch := audit.SplitOrigin(origin); name != origin || epoch != 1 {
			t.Errorf("%s: %s, %d", origin, name, epoch)
		}
	}
	for _, key := range []string{"", "a", "a+b", "a+12345678+AAAA"} {
		if got, err := audit.EpochKey(key, 2); err == nil {
			t.Errorf("%q became %q", key, got)
		}
	}
}

func TestSuccession(t *testing.T) {
	const name = "log.example.org/a"
	old, next, other := newNamedKey(t, name), newNamedKey(t, name), newNamedKey(t, name)
	retires := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	data, err := audit.SignSuccession(name, next.key, retires, old.signer, next.signer)
	if err != nil {
		t.Fatal(err)
	}
	key, when, err := audit.OpenSuccession(data, name, old.key)
	if err != nil || key != next.key || !when.Equal(retires) {
		t.Errorf("%s %s %v", key, when, err)
	}
	for what, want := range map[string][]string{old.key: {next.key, old.key}, next.key: {next.key}, other.key: {other.key}} {
		if chain, err := audit.Successors(what, name, 1, [][]byte{data, data}); err != nil || !slices.Equal(chain, want) {
			t.Errorf("from %s: %v %v", what, chain, err)
		}
	}
	sign := func(text string, signers ...note.Signer) []byte {
		data, err := note.Sign(&note.Note{Text: text}, signers...)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	lines := func(l ...string) string { return strings.Join(l, "\n") + "\n" }
	foreign := newNamedKey(t, "log.example.org/b")
	checkpoint, err := audit.SignCheckpoint(name, 7, audit.EmptyRoot(), old.signer)
	if err != nil {
		t.Fatal(err)
	}
	const label = "dsvault/log-key/v1"
	for what, data := range map[string][]byte{
		"another old key":     sign(lines(label, name, next.key, "5"), other.signer, next.signer),
		"the old key alone":   sign(lines(label, name, next.key, "5"), old.signer),
		"the new key alone":   sign(lines(label, name, next.key, "5"), next.signer),
		"another new key":     sign(lines(label, name, next.key, "5"), old.signer, other.signer),
		"another log":         sign(lines(label, "log.example.org/b", next.key, "5"), old.signer, next.signer),
		"a key of that":       sign(lines(label, name, foreign.key, "5"), old.signer, foreign.signer),
		"another label":       sign(lines("dsvault/log-key/v2", name, next.key, "5"), old.signer, next.signer),
		"no time":             sign(lines(label, name, next.key), old.signer, next.signer),
		"a bad time":          sign(lines(label, name, next.key, "05"), old.signer, next.signer),
		"a time before 1970":  sign(lines(label, name, next.key, "-5"), old.signer, next.signer),
		"more lines":          sign(lines(label, name, next.key, "5", "x"), old.signer, next.signer),
		"a checkpoint":        checkpoint,
		"a damaged signature": append(data[:len(data)-6:len(data)-6], "AAAAA\n"...),
		"nothing":             nil,
		"too much":            append(make([]byte, 9<<10), data...),
	} {
		if key, _, err := audit.OpenSuccession(data, name, old.key); err == nil || key != "" {
			t.Errorf("%s: accepted", what)
		}
	}
	if _, err := audit.OpenCheckpoint(data, name, must(note.NewVerifier(old.key))(t)); err == nil {
		t.Error("a succession passes for a checkpoint")
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func FuzzSuccession(f *testing.F) {
	const name = "log.example.org/a"
	old, next := newNamedKey(f, name), newNamedKey(f, name)
	data, err := audit.SignSuccession(name, next.key, time.Unix(5, 0), old.signer, next.signer)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("dsvault/log-key/v1\n" + name + "\n" + next.key + "\n5\n\n— x AAAA\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if key, _, err := audit.OpenSuccession(data, name, old.key); err == nil && key != next.key {
			t.Errorf("the old key names %s", key)
		}
	})
}
