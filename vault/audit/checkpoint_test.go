package audit_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transparency-dev/formats/log"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"dsvault/vault/audit"
)

const origin = "vault.example.org/log"

// key makes a note key that is the same in every run. Test use only.
func key(t testing.TB, name string, seed byte) (note.Signer, note.Verifier) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{seed}, ed25519.SeedSize)), name)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return signer, verifier
}

func TestCheckpoint(t *testing.T) {
	signer, verifier := key(t, origin, 1)
	root := fill[[32]byte](9)
	data, err := audit.SignCheckpoint(origin, 123, root, signer)
	if err != nil {
		t.Fatal(err)
	}
	cp, err := audit.OpenCheckpoint(data, origin, verifier)
	if err != nil || cp != (audit.Checkpoint{Origin: origin, Size: 123, Root: root}) {
		t.Fatalf("got %+v, %v", cp, err)
	}

	theirs, rest, _, err := log.ParseCheckpoint(data, origin, verifier)
	if err != nil || theirs.Size != 123 || !bytes.Equal(theirs.Hash, root[:]) || theirs.Origin != origin || len(rest) != 0 {
		t.Errorf("transparency-dev reads %+v, %v", theirs, err)
	}
	opened, err := note.Open(data, note.VerifierList(verifier))
	if err != nil {
		t.Fatalf("x/mod note: %v", err)
	}
	if want := origin + "\n123\n" + base64.StdEncoding.EncodeToString(root[:]) + "\n"; opened.Text != want {
		t.Errorf("the text is %q, want %q", opened.Text, want)
	}

	// A witness adds its signature; the log's own still counts.
	witness, witnessKey := key(t, "witness.example.org", 2)
	cosigned, err := note.Sign(opened, witness)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []note.Verifier{verifier, witnessKey} {
		if _, err := audit.OpenCheckpoint(cosigned, origin, v); err != nil {
			t.Errorf("cosigned, key %s: %v", v.Name(), err)
		}
	}
}

func TestOpenCheckpointRefuses(t *testing.T) {
	signer, verifier := key(t, origin, 1)
	sign := func(text string) []byte {
		data, err := note.Sign(&note.Note{Text: text}, signer)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	hash := fill[[32]byte](9)
	root := base64.StdEncoding.EncodeToString(hash[:])
	good := sign(origin + "\n123\n" + root + "\n")
	if _, err := audit.OpenCheckpoint(sign(origin+"\n123\n"+root+"\nextension\n"), origin, verifier); err != nil {
		t.Errorf("an extension line: %v", err)
	}
	_, sameName := key(t, origin, 2)
	_, otherName := key(t, "other.example.org", 1)
	for _, c := range []struct {
		name, check string
		data        []byte
		verifier    note.Verifier
	}{
		{"nothing", audit.CheckCheckpoint, nil, verifier},
		{"no signature", audit.CheckCheckpoint, []byte(origin + "\n123\n" + root + "\n"), verifier},
		{"another key of this name", audit.CheckSignature, good, sameName},
		{"a key of another name", audit.CheckSignature, good, otherName},
		{"changed size", audit.CheckSignature, bytes.Replace(good, []byte("\n123\n"), []byte("\n124\n"), 1), verifier},
		{"too long", audit.CheckCheckpoint, sign(origin + "\n123\n" + root + "\n" + strings.Repeat("x", audit.MaxCheckpoint) + "\n"), verifier},
		{"another origin", audit.CheckOrigin, sign("vault.example.com/log\n123\n" + root + "\n"), verifier},
		{"another case", audit.CheckOrigin, sign("Vault.example.org/log\n123\n" + root + "\n"), verifier},
		{"leading zero", audit.CheckCheckpoint, sign(origin + "\n0123\n" + root + "\n"), verifier},
		{"sign", audit.CheckCheckpoint, sign(origin + "\n+123\n" + root + "\n"), verifier},
		{"negative", audit.CheckCheckpoint, sign(origin + "\n-1\n" + root + "\n"), verifier},
		{"huge", audit.CheckCheckpoint, sign(origin + "\n9223372036854775808\n" + root + "\n"), verifier},
		{"short root", audit.CheckCheckpoint, sign(origin + "\n123\nAAAA\n"), verifier},
		{"loose base64", audit.CheckCheckpoint, sign(origin + "\n123\n" + root[:42] + string(root[42]+1) + "=\n"), verifier},
		{"no root", audit.CheckCheckpoint, sign(origin + "\n123\n"), verifier},
		{"no origin", audit.CheckCheckpoint, sign("\n123\n" + root + "\n"), verifier},
	} {
		cp, err := audit.OpenCheckpoint(c.data, origin, c.verifier)
		if !errors.Is(err, &audit.VerifyError{Check: c.check}) || cp != (audit.Checkpoint{}) {
			t.Errorf("%s: got %v, want %s", c.name, err, c.check)
		}
	}
}

func TestSignCheckpointRefuses(t *testing.T) {
	signer, _ := key(t, origin, 1)
	for _, bad := range []string{"", "a\nb", "a\x00", "a\xff", strings.Repeat("x", 256)} {
		if _, err := audit.SignCheckpoint(bad, 1, audit.Hash{}, signer); err == nil {
			t.Errorf("origin %q was signed", bad)
		}
	}
	if _, err := audit.SignCheckpoint(origin, 1<<63, audit.Hash{}, signer); err == nil {
		t.Error("size 2^63 was signed")
	}
}

func FuzzCheckpoint(f *testing.F) {
	signer, verifier := key(f, origin, 1)
	f.Fuzz(func(t *testing.T, data []byte) {
		// Under the signature too, where only the log's key can put anything.
		inputs := [][]byte{data}
		if signed, err := note.Sign(&note.Note{Text: string(data)}, signer); err == nil {
			inputs = append(inputs, signed)
		}
		for _, in := range inputs {
			cp, err := audit.OpenCheckpoint(in, origin, verifier)
			if err != nil {
				var verr *audit.VerifyError
				if !errors.As(err, &verr) || cp != (audit.Checkpoint{}) {
					t.Fatalf("got %+v, %v", cp, err)
				}
				continue
			}
			again, err := audit.SignCheckpoint(origin, cp.Size, cp.Root, signer)
			if err != nil {
				t.Fatal(err)
			}
			// x/mod reads the same state from both.
			want, errWant := tlog.ParseTree([]byte("go.sum database tree\n" + strings.TrimPrefix(string(again[:bytes.Index(again, []byte("\n\n"))+1]), origin+"\n")))
			if errWant != nil || want.N != int64(cp.Size) || audit.Hash(want.Hash) != cp.Root {
				t.Fatalf("another reading: %+v, %v", want, errWant)
			}
			text := again[:bytes.Index(again, []byte("\n\n"))+1]
			if !bytes.HasPrefix(in, text) {
				t.Fatal("accepted a checkpoint that is not canonical")
			}
		}
	})
}

// The fuzz targets start from committed inputs, good ones among them.
func TestCorpora(t *testing.T) {
	_, verifier := key(t, origin, 1)
	for target, good := range map[string]func([]byte) bool{
		"FuzzLeaf": func(data []byte) bool {
			_, err := audit.ParseLeaf(data)
			return err == nil
		},
		"FuzzCheckpoint": func(data []byte) bool {
			_, err := audit.OpenCheckpoint(data, origin, verifier)
			return err == nil
		},
	} {
		files, err := filepath.Glob("testdata/fuzz/" + target + "/*")
		if err != nil {
			t.Fatal(err)
		}
		accepted, refused := 0, 0
		for _, file := range files {
			if good(corpusBytes(t, file)) {
				accepted++
			} else {
				refused++
			}
		}
		if accepted < 2 || refused < 2 {
			t.Errorf("%s: %d accepted and %d refused inputs, want two of each at least", target, accepted, refused)
		}
	}
}
