package audit_test

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"dsvault/vault/audit"
)

const listedFile = "index,time\n1,2026-11-26\n"

func listingOf(origin string) audit.Listing {
	return audit.Listing{Origin: origin, Time: time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC), Query: "kind=read&under=acme", Format: "csv",
		Before: 40, Records: 1, Bytes: int64(len(listedFile)), SHA256: sha256.Sum256([]byte(listedFile)), Size: 41, Root: audit.Hash{1, 2, 3}}
}

func newLogKey(t testing.TB, name string) (note.Signer, note.Verifier) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	s, err1 := note.NewSigner(skey)
	v, err2 := note.NewVerifier(vkey)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return s, v
}

func TestListing(t *testing.T) {
	signer, key := newLogKey(t, "a-log")
	l := listingOf("a-log")
	data, err := audit.SignListing(l, signer)
	if err != nil {
		t.Fatal(err)
	}
	const golden = `dsvault/listing/v1
log a-log
time 2026-11-26T12:00:00Z
query kind=read&under=acme
format csv
before 40
records 1
bytes 24
sha256 `
	if !strings.HasPrefix(string(data), golden) || !audit.IsListing(data) {
		t.Errorf("the note reads\n%s", data)
	}
	got, err := audit.OpenListing(data, key)
	if err != nil || got != l {
		t.Fatalf("%+v, %v", got, err)
	}
	if origin, err := audit.ListingOrigin(data); err != nil || origin != "a-log" {
		t.Errorf("%s, %v", origin, err)
	}
	if err := got.Check(strings.NewReader(listedFile)); err != nil {
		t.Error(err)
	}
	broken := errors.New("a disk")
	if err := got.Check(errReader{broken}); err != broken {
		t.Errorf("an outage: %v", err)
	}

	listing := &audit.VerifyError{Check: audit.CheckListing}
	for name, file := range map[string]string{"changed": strings.Replace(listedFile, "1,", "2,", 1), "longer": listedFile + "x", "shorter": listedFile[:5], "empty": ""} {
		if err := got.Check(strings.NewReader(file)); !errors.Is(err, listing) {
			t.Errorf("a %s file: %v", name, err)
		}
	}
	mallory, malloryKey := newLogKey(t, "a-log")
	other, otherKey := newLogKey(t, "another-log")
	sign := func(l audit.Listing, s note.Signer) string {
		data, err := audit.SignListing(l, s)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	checkpoint, err := audit.SignCheckpoint("a-log", 41, audit.Hash{1}, signer)
	if err != nil {
		t.Fatal(err)
	}
	promise, err := audit.SignPromise("a-log", 3, audit.Hash{1}, signer)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"another's key":       sign(l, mallory),
		"another log":         sign(l, other),
		"a checkpoint":        string(checkpoint),
		"a promise":           promise,
		"changed":             strings.Replace(string(data), "records 1", "records 2", 1),
		"no signature":        strings.SplitAfter(string(data), "\n\n")[0],
		"nothing":             "",
		"too long":            string(data) + strings.Repeat("— x y\n", 100_000),
		"another label":       strings.Replace(string(data), "listing/v1", "listing/v2", 1),
		"signed, not in form": signed(t, signer, strings.Replace(golden, "bytes 24", "bytes 024", 1)+strings.Repeat("00", 32)+"\ncheckpoint 41 "+strings.Repeat("A", 43)+"=\n"),
		"signed, line more":   signed(t, signer, strings.SplitN(string(data), "\n\n", 2)[0]+"\nmore x\n"),
	} {
		if l, err := audit.OpenListing([]byte(text), key); !errors.Is(err, listing) {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
	}
	if _, err := audit.OpenListing([]byte(sign(l, other)), otherKey); !errors.Is(err, listing) {
		t.Errorf("signed by another log than it says: %v", err)
	}
	if _, err := audit.OpenListing(data, malloryKey); !errors.Is(err, listing) {
		t.Errorf("checked with a false key: %v", err)
	}
	for name, change := range map[string]func(*audit.Listing){
		"a line in the query": func(l *audit.Listing) { l.Query = "a\nb" }, "a space": func(l *audit.Listing) { l.Query = "a b" },
		"no format": func(l *audit.Listing) { l.Format = "" }, "a false log": func(l *audit.Listing) { l.Origin = "a\nb" },
		"an old checkpoint": func(l *audit.Listing) { l.Size = 39 },
	} {
		bad := l
		change(&bad)
		if _, err := audit.SignListing(bad, signer); err == nil {
			t.Errorf("%s was signed", name)
		}
	}
}

func signed(t *testing.T, s note.Signer, text string) string {
	t.Helper()
	data, err := note.Sign(&note.Note{Text: strings.TrimRight(text, "\n") + "\n"}, s)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func FuzzOpenListing(f *testing.F) {
	signer, key := newLogKey(f, "a-log")
	data, err := audit.SignListing(listingOf("a-log"), signer)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	text, _, _ := strings.Cut(string(data), "\n\n")
	f.Add([]byte(text + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if l, err := audit.OpenListing(data, key); err == nil {
			if again, err := audit.SignListing(l, signer); err != nil || !strings.HasPrefix(string(data), strings.SplitAfter(string(again), "\n\n")[0]) {
				t.Errorf("%q is not what %+v is signed as", data, l)
			}
		}
		_, _ = audit.ListingOrigin(data)
	})
}
