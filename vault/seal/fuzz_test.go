package seal

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"dsvault/vault/fault"
)

var update = flag.Bool("update", false, "write the fuzz corpora anew")

// fuzzIdentity is the key of the corpora. It protects nothing.
func fuzzIdentity(t testing.TB) *Identity {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "fuzz-identity.txt"))
	if err != nil {
		t.Fatal(err)
	}
	id, err := ParseIdentity(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func FuzzReadHeader(f *testing.F) {
	f.Fuzz(func(t *testing.T, file []byte) {
		counter := &countingReader{r: bytes.NewReader(file)}
		header, rest, err := ReadHeader(counter)
		if counter.n > maxHeader+4096 {
			t.Fatalf("%d bytes were read", counter.n)
		}
		if err != nil {
			if !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.TooLarge) {
				t.Fatalf("unclassified: %v", err)
			}
			return
		}
		tail, err := io.ReadAll(rest)
		if err != nil || !bytes.Equal(append(bytes.Clone(header), tail...), file) {
			t.Fatalf("header and rest are not the file (%v)", err)
		}
		// What we take for a canonical header, age does too.
		if canonical, err := age.ExtractHeader(bytes.NewReader(file)); err != nil || !bytes.Equal(canonical, header) {
			t.Fatalf("age reads another header (%v)", err)
		}
		if again, _, err := ReadHeader(bytes.NewReader(header)); err != nil || !bytes.Equal(again, header) {
			t.Fatalf("the header alone is refused (%v)", err)
		}
	})
}

func FuzzOpenHeaderRewrap(f *testing.F) {
	id := fuzzIdentity(f)
	reader := newIdentity(f)
	f.Fuzz(func(t *testing.T, header []byte) {
		key, err := OpenHeader(header, id)
		if err != nil {
			if !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.TooLarge) {
				t.Fatalf("unclassified: %v", err)
			}
			return
		}
		fresh, err := Rewrap(key, reader.Recipient())
		if err != nil || len(fresh) != HeaderSize() {
			t.Fatalf("a header of %d bytes (%v)", len(fresh), err)
		}
		want, err := key.bytes("test")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := age.DecryptHeader(fresh, reader.hybrid); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("age finds another file key (%v)", err)
		}
	})
}

// seeds makes the inputs of both corpora.
func seeds(t *testing.T, id *Identity) map[string][]byte {
	sealed := mustSeal(t, []byte("hello"), id.Recipient())
	header := sealed[:HeaderSize()]
	two := new(bytes.Buffer)
	w, err := age.Encrypt(two, newIdentity(t).hybrid.Recipient(), id.hybrid.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	twoHeader, err := age.ExtractHeader(two)
	if err != nil {
		t.Fatal(err)
	}
	text := string(header)
	return map[string][]byte{
		"one":     header,
		"two":     twoHeader,
		"payload": sealed,
		"foreign": mustSeal(t, nil, newIdentity(t).Recipient())[:HeaderSize()],
		"cut":     header[:len(header)/2],
		"mac":     []byte(text[:len(text)-10] + "AAAAAAAAA\n"),
		"mixed":   []byte(strings.Replace(text, intro, intro+"-> X25519 AAAA\nAAAA\n", 1)),
		"crlf":    []byte(strings.ReplaceAll(text, "\n", "\r\n")),
		"cr":      []byte(text[:300] + "\r" + text[300:]),
		"wrapped": []byte(strings.Replace(text, "\n---", "\n\n---", 1)),
		"armor":   []byte("-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END AGE ENCRYPTED FILE-----\n"),
		"scrypt":  []byte(intro + "-> scrypt rF0/NwblUHHTpgQgRpe5CQ 10\ngUjEymFKMVXQEKdMMHL24oYexjE3TIC0O0zGSqJ2aUY\n--- AA\n"),
	}
}

// TestCorpora checks that the committed corpora are there and worth something:
// at least one seed of each is accepted.
func TestCorpora(t *testing.T) {
	if *update {
		writeCorpora(t)
	}
	id := fuzzIdentity(t)
	for target, accepts := range map[string]func([]byte) error{
		"FuzzReadHeader":       func(b []byte) error { _, _, err := ReadHeader(bytes.NewReader(b)); return err },
		"FuzzOpenHeaderRewrap": func(b []byte) error { _, err := OpenHeader(b, id); return err },
	} {
		files, err := filepath.Glob(filepath.Join("testdata", "fuzz", target, "*"))
		if err != nil {
			t.Fatal(err)
		}
		accepted := 0
		for _, path := range files {
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var input []byte
			if _, err := fmt.Sscanf(string(raw), "go test fuzz v1\n[]byte(%q)\n", &input); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			if accepts(input) == nil {
				accepted++
			}
		}
		if len(files) < 10 || accepted < 2 || accepted == len(files) {
			t.Errorf("%s: %d seeds, %d accepted; write them with -update", target, len(files), accepted)
		}
	}
}

func writeCorpora(t *testing.T) {
	id := newIdentity(t)
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	text := append([]byte("# the key of the fuzz corpora; it protects nothing\n"), id.Expose()...)
	if err := os.WriteFile(filepath.Join("testdata", "fuzz-identity.txt"), append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	inputs := seeds(t, id)
	for _, target := range []string{"FuzzReadHeader", "FuzzOpenHeaderRewrap"} {
		dir := filepath.Join("testdata", "fuzz", target)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, input := range inputs {
			seed := fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n", input)
			if err := os.WriteFile(filepath.Join(dir, name), []byte(seed), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
