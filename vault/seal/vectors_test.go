package seal

import (
	"bytes"
	"compress/zlib"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"

	agetest "c2sp.org/CCTV/age"
	"filippo.io/age"

	"dsvault/vault/fault"
)

// vector is one file of the C2SP CCTV age set.
type vector struct {
	expect     string
	payload    string // hex SHA-256 of the plaintext, also of what flows before a failure
	armored    bool
	identities []string // secret keys
	file       []byte
}

func readVector(t *testing.T, name string) vector {
	t.Helper()
	raw, err := fs.ReadFile(agetest.Vectors, name)
	if err != nil {
		t.Fatal(err)
	}
	head, file, ok := bytes.Cut(raw, []byte("\n\n"))
	if !ok {
		t.Fatal("the vector has no body")
	}
	v := vector{file: file}
	for line := range strings.Lines(string(head)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch key {
		case "expect":
			v.expect = value
		case "payload":
			v.payload = value
		case "armored":
			v.armored = value == "yes"
		case "identity":
			v.identities = append(v.identities, value)
		case "compressed":
			z, err := zlib.NewReader(bytes.NewReader(file))
			if err != nil {
				t.Fatal(err)
			}
			if v.file, err = io.ReadAll(z); err != nil {
				t.Fatal(err)
			}
		}
	}
	return v
}

// stanzaTypes asks age what kinds of key a file is sealed to; ok is false if
// age cannot read the header.
func stanzaTypes(t *testing.T, file []byte) (types []string, ok bool) {
	t.Helper()
	stranger := newIdentity(t)
	_, err := age.Decrypt(bytes.NewReader(file), stranger.hybrid)
	if noMatch := new(age.NoIdentityMatchError); errors.As(err, &noMatch) {
		return noMatch.StanzaTypes, true
	}
	if _, err := age.ExtractHeader(bytes.NewReader(file)); err == nil {
		return []string{hybridStanza}, true // age refused the content of a hybrid stanza
	}
	return nil, false
}

// refusal is the reason that our rules give for stanzas of these types.
func refusal(types []string) string {
	isHybrid := func(s string) bool { return s == hybridStanza }
	notHybrid := slices.IndexFunc(types, func(s string) bool { return !isHybrid(s) })
	switch {
	case notHybrid < 0:
		return ""
	case slices.ContainsFunc(types, isHybrid):
		return msgMixed
	case types[notHybrid] == "scrypt":
		return msgPassphrase
	case types[notHybrid] == "X25519":
		return msgClassic
	default:
		return msgForeign
	}
}

func TestVectors(t *testing.T) {
	entries, err := fs.ReadDir(agetest.Vectors, ".")
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, entry := range entries {
		t.Run(entry.Name(), func(t *testing.T) {
			v := readVector(t, entry.Name())
			id := newIdentity(t)
			for _, secret := range v.identities {
				if strings.HasPrefix(secret, identityPrefix) {
					if id, err = ParseIdentity([]byte(secret)); err != nil {
						t.Fatal(err)
					}
				}
			}
			types, readable := stanzaTypes(t, v.file)
			plain, err := readAll(v.file, id)
			switch reason := refusal(types); {
			case v.armored:
				count["armored"]++
				wantNothing(t, plain, err)
				if bytes.HasPrefix(v.file, []byte(armorBegin)) {
					count["armored, and said so"]++
					wantRefusal(t, err, fault.Invalid, msgArmored)
				}
			case !readable:
				count["unreadable"]++
				wantNothing(t, plain, err)
			case reason != "":
				count["not hybrid only"]++
				wantNothing(t, plain, err)
				wantRefusal(t, err, fault.Invalid, reason)
			default:
				count["hybrid"]++
				asVectorSays(t, v, plain, err)
			}
			if err != nil && fault.CodeOf(err) == fault.Internal {
				t.Errorf("unclassified: %v", err)
			}
		})
	}
	t.Log(count)
	for kind, least := range map[string]int{
		"armored": 35, "armored, and said so": 20, "unreadable": 20, "not hybrid only": 60, "hybrid": 12,
	} {
		if count[kind] < least {
			t.Errorf("%d vectors of kind %q, want at least %d", count[kind], kind, least)
		}
	}
}

func wantNothing(t *testing.T, plain []byte, err error) {
	t.Helper()
	if len(plain) != 0 {
		t.Errorf("%d bytes flowed", len(plain))
	}
	wantCode(t, err, fault.Invalid)
}

func asVectorSays(t *testing.T, v vector, plain []byte, err error) {
	t.Helper()
	switch v.expect {
	case "success":
		if err != nil {
			t.Fatal(err)
		}
	case "no match":
		wantRefusal(t, err, fault.Invalid, msgNoMatch)
	case "header failure", "HMAC failure":
		wantCode(t, err, fault.Invalid)
	case "payload failure":
		wantCode(t, err, fault.Corrupt)
	default:
		t.Fatalf("unknown expectation %q", v.expect)
	}
	if v.payload == "" {
		if len(plain) != 0 {
			t.Errorf("%d bytes flowed", len(plain))
		}
	} else if sum := sha256.Sum256(plain); hex.EncodeToString(sum[:]) != v.payload {
		t.Error("the plaintext differs")
	}
}

// TestStreamVectors puts the payloads of the stream vectors, whose headers are
// X25519, behind a hybrid header with the same file key.
func TestStreamVectors(t *testing.T) {
	entries, err := fs.ReadDir(agetest.Vectors, ".")
	if err != nil {
		t.Fatal(err)
	}
	id, tried := newIdentity(t), 0
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), "stream_") {
			continue
		}
		tried++
		t.Run(entry.Name(), func(t *testing.T) {
			v := readVector(t, entry.Name())
			classic, err := age.ParseX25519Identity(v.identities[0])
			if err != nil {
				t.Fatal(err)
			}
			header, err := age.ExtractHeader(bytes.NewReader(v.file))
			if err != nil {
				t.Fatal(err)
			}
			secret, err := age.DecryptHeader(header, classic)
			if err != nil {
				t.Fatal(err)
			}
			key := newFileKey(secret)
			rewrapped, err := Rewrap(key, id.Recipient())
			if err != nil {
				t.Fatal(err)
			}
			payload := v.file[len(header):]
			plain, err := readAll(slices.Concat(rewrapped, payload), id)
			if v.expect == "header failure" {
				v.expect = "payload failure" // no nonce: ours reads the nonce with the payload
			}
			asVectorSays(t, v, plain, err)

			// The last chunk alone must not pass where the whole does not, unless
			// the fault lies in the middle.
			if tail, err := TailSize(int64(len(payload))); err == nil && v.expect == "success" {
				err := CheckTail(key, [NonceSize]byte(payload), payload[int64(len(payload))-tail:], int64(len(payload)))
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	if tried < 25 {
		t.Errorf("only %d stream vectors", tried)
	}
}
