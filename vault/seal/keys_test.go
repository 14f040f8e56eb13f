package seal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"filippo.io/age"

	"dsvault/vault/fault"
)

func bufioReader(b []byte) io.Reader { return bufio.NewReaderSize(bytes.NewReader(b), 1<<16) }

func TestParseIdentity(t *testing.T) {
	id, other := newIdentity(t), newIdentity(t)
	classic, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	secret := string(id.Expose())
	for name, text := range map[string]string{
		"bare":    secret,
		"file":    "# created: today\n# public key: " + id.Recipient().String() + "\n" + secret + "\n",
		"Windows": "# x\r\n\r\n  " + secret + " \r\n\t\r\n",
	} {
		got, err := ParseIdentity([]byte(text))
		if err != nil || got.Recipient() != id.Recipient() {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, text := range map[string]string{
		"empty":      "",
		"comments":   "# nothing\n\n",
		"two":        secret + "\n" + string(other.Expose()),
		"twice":      secret + "\n" + secret,
		"X25519":     classic.String(),
		"recipient":  id.Recipient().String(),
		"lower case": strings.ToLower(secret),
		"cut":        secret[:len(secret)-1],
		"typo":       strings.Replace(secret, secret[30:31], "b", 1),
		"junk":       secret + " junk",
		"zero byte":  secret + "\x00",
		"huge":       secret + strings.Repeat("\n", maxIdentityFile),
	} {
		_, err := ParseIdentity([]byte(text))
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v", name, err)
		}
		if err != nil && strings.Contains(fmt.Sprintf("%v %+v", err, err), secret[20:40]) {
			t.Errorf("%s: the error repeats the key", name)
		}
	}
}

func TestParseRecipient(t *testing.T) {
	id := newIdentity(t)
	text := id.Recipient().String()
	got, err := ParseRecipient(text)
	if err != nil || got != id.Recipient() || !strings.HasPrefix(text, "age1pq1") {
		t.Fatal(err)
	}
	classic, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ text, hint string }{
		"X25519":     {classic.Recipient().String(), "quantum"},
		"SSH":        {"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP", "SSH"},
		"plugin":     {"age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t", "plugin"},
		"tag":        {"age1tagpq1qqqq", "hardware"},
		"secret":     {string(id.Expose()), "secret"},
		"passphrase": {"correct horse battery staple", "passphrases"},
		"empty":      {"", "passphrases"},
		"cut":        {text[:len(text)-1], "whole line"},
		"padded":     {text + " ", "whole line"},
		"upper case": {strings.ToUpper(text), "lower-case"},
		"huge":       {text + strings.Repeat("q", maxRecipient), "exactly"},
	} {
		_, err := ParseRecipient(c.text)
		wantCode(t, err, fault.Invalid)
		if !strings.Contains(fault.HintOf(err), c.hint) {
			t.Errorf("%s: the hint is %q, want %q in it", name, fault.HintOf(err), c.hint)
		}
		if len(c.text) > 40 && strings.Contains(err.Error(), c.text[20:40]) {
			t.Errorf("%s: the error repeats the input", name)
		}
	}
}

func TestRecipientText(t *testing.T) {
	type record struct{ To Recipient }
	want := record{newIdentity(t).Recipient()}
	raw, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got record
	if err := json.Unmarshal(raw, &got); err != nil || got != want {
		t.Fatalf("got %v (%v)", got, err)
	}
	if err := json.Unmarshal([]byte(`{"To":""}`), &got); err != nil || !got.To.IsZero() {
		t.Fatalf("the empty text is not the zero recipient (%v)", err)
	}
	if err := got.To.UnmarshalText([]byte("age1nonsense")); !fault.Is(err, fault.Invalid) {
		t.Fatal(err)
	}
	_, err = Seal(io.Discard, Recipient{})
	wantCode(t, err, fault.Invalid)
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	id := newIdentity(t)
	_, _, _, key := parts(t, nil)
	raw, err := key.bytes("test")
	if err != nil {
		t.Fatal(err)
	}
	type holder struct {
		ID   *Identity
		Val  Identity
		Key  FileKey
		own  Identity
		ownK FileKey
	}
	h := holder{id, *id, key, *id, key}
	var out bytes.Buffer
	for _, v := range []any{id, *id, key, &key, h, &h, []any{id, key}, map[string]FileKey{"k": key}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		fmt.Fprintln(&out, v)
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(text)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
	}
	printed := strings.ToLower(out.String())
	for _, secret := range []string{
		string(id.Expose()), string(raw), fmt.Sprintf("%x", raw), fmt.Sprintf("% x", raw), fmt.Sprint(raw), fmt.Sprintf("%x", id.Expose()),
		strings.Trim(fmt.Sprintf("%#v", raw), "[]byte{}"),
	} {
		if strings.Contains(printed, strings.ToLower(secret)) {
			t.Errorf("a secret was printed: %q", secret)
		}
	}
	for _, v := range []any{id, *id, key, &key} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			if got := fmt.Sprintf(verb, v); got != redactedText {
				t.Errorf("%s of %T gives %q", verb, v, got)
			}
		}
	}
}

func TestDestroyReachesCopies(t *testing.T) {
	header, payload, nonce, key := parts(t, sample(100))
	cp := key
	raw, err := key.bytes("test")
	if err != nil {
		t.Fatal(err)
	}
	cp.Destroy()
	cp.Destroy()
	FileKey{}.Destroy()
	if !bytes.Equal(raw, make([]byte, fileKeySize)) {
		t.Error("the key is not zeroed")
	}
	for _, dead := range []FileKey{key, {}} {
		_, err := Rewrap(dead, newIdentity(t).Recipient())
		wantCode(t, err, fault.Internal)
		_, err = OpenPayload(dead, bytes.NewReader(payload))
		wantCode(t, err, fault.Internal)
		_, err = OpenRange(dead, nonce, int64(len(payload)), 0, 1, nil)
		wantCode(t, err, fault.Internal)
		wantCode(t, CheckTail(dead, nonce, payload[NonceSize:], int64(len(payload))), fault.Internal)
	}
	for _, id := range []*Identity{nil, {}} {
		_, err := OpenHeader(header, id)
		wantCode(t, err, fault.Internal)
	}
}
